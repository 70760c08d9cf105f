"""A small decoder of Llama's architecture with seeded random weights, in fp32 and with weights of 4 bits.

The graph is what model hubs serve for such models: RMS norms, rotary embeddings and grouped attention with a cache of keys
and values as operators of com.microsoft, SwiGLU, and an output for each new position. In 4 bits all products are
MatMulNBits in blocks of 32 (zero points of their own in the second product of each MLP, 8 in the others), and the
embeddings are GatherBlockQuantized.

    input_ids int64 [batch, sequence], attention_mask int64 [batch, past + sequence],
    past_key_values.N.key and .value float32 [batch, 4, past, 64]
        ->  logits float32 [batch, sequence, 8192], present.N.key and .value float32 [batch, 4, past + sequence, 64]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nnjit_build.fetch import write_atomically

LAYERS, HIDDEN, HEADS, GROUPS, WIDTH, INNER, VOCABULARY = 8, 512, 8, 4, 64, 1408, 8192
POSITIONS, BLOCK, EPSILON = 2048, 32, 1e-5
MICROSOFT = "com.microsoft"


def inputs(rng: np.random.Generator, batch: int, sequence: int, past: int) -> dict[str, np.ndarray]:
    """A step of `sequence` new positions after `past` others."""
    arrays = {
        "input_ids": rng.integers(3, VOCABULARY, (batch, sequence), np.int64),
        "attention_mask": np.ones((batch, past + sequence), np.int64),
    }
    for layer in range(LAYERS):
        for part in ("key", "value"):
            cache = rng.normal(0, 1, (batch, GROUPS, past, WIDTH)).astype(np.float32)
            arrays[f"past_key_values.{layer}.{part}"] = cache
    return arrays


def quantised(weight: np.ndarray, own_zeros: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes [rows, blocks, 16], scales [rows, blocks] and packed zero points of a weight [rows, depth], depth in 32s."""
    blocks = weight.reshape(weight.shape[0], -1, BLOCK)
    low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
    if own_zeros:
        scale = (high - low) / 15
        zero = np.clip(np.round(-low / scale), 0, 15)
    else:
        scale = np.maximum(high, -low) / 7
        zero = np.full_like(scale, 8)
    codes = np.clip(np.round(blocks / scale + zero), 0, 15).astype(np.uint8)
    points = zero[..., 0].astype(np.uint8)
    points = np.pad(points, ((0, 0), (0, points.shape[1] % 2)))
    return (
        codes[..., ::2] | codes[..., 1::2] << 4,
        scale[..., 0].astype(np.float32),
        points[:, ::2] | points[:, 1::2] << 4,
    )


class _Builder:
    """Collects nodes and weights; every method returns the name of the value it made."""

    def __init__(self, four_bits: bool) -> None:
        self.rng = np.random.default_rng(31)
        self.four_bits = four_bits
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def op(self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **more: object) -> str:
        name = outputs[0].removesuffix("_output")
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **more))
        return outputs[0]

    def store(self, name: str, array: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def random(self, rows: int, depth: int, spread: float) -> np.ndarray:
        return self.rng.normal(0, spread, (rows, depth)).astype(np.float32)

    def norm_weight(self, name: str) -> str:
        return self.store(name, (1 + self.rng.normal(0, 0.1, HIDDEN)).astype(np.float32))

    def linear(self, x: str, name: str, rows: int, depth: int, own_zeros: bool = False) -> str:
        weight = self.random(rows, depth, depth**-0.5)
        if not self.four_bits:
            kept = self.store(f"{name}.weight", np.ascontiguousarray(weight.T))
            return self.op("MatMul", [x, kept], [f"{name}_output"])
        codes, scales, zeros = quantised(weight, own_zeros)
        operands = [x, self.store(f"{name}.codes", codes), self.store(f"{name}.scales", scales)]
        if own_zeros:
            operands.append(self.store(f"{name}.zeros", zeros))
        return self.op(
            "MatMulNBits", operands, [f"{name}_output"], MICROSOFT, N=rows, K=depth, bits=4, block_size=BLOCK
        )

    def embeddings(self) -> str:
        weight = self.random(VOCABULARY, HIDDEN, 1.0)
        output = ["/embed_output"]
        if not self.four_bits:
            return self.op("Gather", [self.store("embed.weight", weight), "input_ids"], output)
        codes, scales, _ = quantised(weight, False)
        operands = [self.store("embed.codes", codes.reshape(VOCABULARY, -1)), "input_ids"]
        operands.append(self.store("embed.scales", scales))
        return self.op(
            "GatherBlockQuantized", operands, output, MICROSOFT,
            bits=4, block_size=BLOCK, gather_axis=0, quantize_axis=1,
        )  # fmt: skip

    def layer(self, x: str, layer: int) -> str:
        """Attention and MLP of the normed x; both add what they make to `sum`, the stream of residuals."""
        name = f"/layers.{layer}"
        q = self.linear(x, f"{name}/q", HEADS * WIDTH, HIDDEN)
        k = self.linear(x, f"{name}/k", GROUPS * WIDTH, HIDDEN)
        v = self.linear(x, f"{name}/v", GROUPS * WIDTH, HIDDEN)
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        attended = self.op(
            "GroupQueryAttention",
            [q, k, v, *past, "lengths", "total", "cos_cache", "sin_cache"],
            [f"{name}/attention_output", *present],
            MICROSOFT,
            num_heads=HEADS,
            kv_num_heads=GROUPS,
            do_rotary=1,
        )
        projected = self.linear(attended, f"{name}/o", HIDDEN, HEADS * WIDTH)
        x = self.norm(projected, f"{name}/post_attention")
        gate = self.linear(x, f"{name}/gate", INNER, HIDDEN)
        gate = self.op(
            "Mul", [gate, self.op("Sigmoid", [gate], [f"{name}/sigmoid_output"])], [f"{name}/silu"]
        )
        both = self.op("Mul", [gate, self.linear(x, f"{name}/up", INNER, HIDDEN)], [f"{name}/gated"])
        return self.norm(self.linear(both, f"{name}/down", HIDDEN, INNER, own_zeros=True), f"{name}/output")

    residual = ""

    def norm(self, x: str, name: str) -> str:
        """RMS norm of the stream of residuals after x has been added to it."""
        weight = self.norm_weight(f"{name}.norm")
        outputs = [f"{name}_normed", "", "", f"{name}_sum"]
        self.op(
            "SkipSimplifiedLayerNormalization",
            [x, self.residual, weight],
            outputs,
            MICROSOFT,
            epsilon=EPSILON,
        )
        self.residual = outputs[3]
        return outputs[0]


def make(to: Path, four_bits: bool) -> None:
    """Write the model to `to`: 128 MB, or 21 MB in 4 bits."""
    b = _Builder(four_bits)
    for name, value in (("axis", [1]), ("one", [1]), ("second", 1)):
        b.store(name, np.array(value, np.int64))
    angles = np.arange(POSITIONS)[:, None] / 10000 ** (np.arange(WIDTH // 2) * 2 / WIDTH)
    b.store("cos_cache", np.cos(angles).astype(np.float32))
    b.store("sin_cache", np.sin(angles).astype(np.float32))
    b.op("ReduceSum", ["attention_mask", "axis"], ["used"], keepdims=0)
    b.op("Sub", ["used", "one"], ["last"])
    b.op("Cast", ["last"], ["lengths"], to=TensorProto.INT32)
    b.op("Shape", ["attention_mask"], ["mask_shape"])
    b.op("Gather", ["mask_shape", "second"], ["extent"])
    b.op("Cast", ["extent"], ["total"], to=TensorProto.INT32)
    b.residual = b.embeddings()
    x = b.op(
        "SimplifiedLayerNormalization",
        [b.residual, b.norm_weight("input.norm")],
        ["/normed"],
        epsilon=EPSILON,
    )
    for layer in range(LAYERS):
        x = b.layer(x, layer)
    b.linear(x, "/head", VOCABULARY, HIDDEN)
    b.nodes[-1].output[0] = "logits"

    def value(name: str, kind: int, *dims: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dims)

    def caches(name: str, length: str) -> list[onnx.ValueInfoProto]:
        return [
            value(f"{name}.{layer}.{part}", TensorProto.FLOAT, "batch", GROUPS, length, WIDTH)
            for layer in range(LAYERS)
            for part in ("key", "value")
        ]

    graph = helper.make_graph(
        b.nodes,
        "llama-mini",
        [
            value("input_ids", TensorProto.INT64, "batch", "sequence"),
            value("attention_mask", TensorProto.INT64, "batch", "total"),
            *caches("past_key_values", "past"),
        ],
        [
            value("logits", TensorProto.FLOAT, "batch", "sequence", VOCABULARY),
            *caches("present", "total"),
        ],
        b.stored,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="nnjit-tests")
    model.ir_version = 8
    write_atomically(to, model.SerializeToString())
