"""Files that are no models, and models that ask for what cannot be; with the error that each must give."""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from . import small_models

HUGE = 40_000
"""`outer` of two vectors of this length takes 6 GiB, more than a 32-bit memory has."""


class Refusal(NamedTuple):
    """A model that is refused: `code` of its error, and what the message names."""

    content: bytes
    code: str
    says: tuple[str, ...]


def _info(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: list[onnx.NodeProto], opset: int = 17, inputs: tuple[str, ...] = ("x",), domain: str = ""
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", [_info(name, 4) for name in inputs], [_info("y", 4)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=9)


def outer(rows: int | str = "rows", columns: int | str = "columns") -> onnx.ModelProto:
    """a f32 [rows, 1], b f32 [1, columns] → y = a · b f32 [rows, columns]."""
    node = helper.make_node("Mul", ["a", "b"], ["y"], "product")
    graph = helper.make_graph(
        [node], "outer", [_info("a", rows, 1), _info("b", 1, columns)], [_info("y", rows, columns)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def agreeing() -> onnx.ModelProto:
    """a f32 [n, 2], b f32 [n, 2] → y = a + b."""
    node = helper.make_node("Add", ["a", "b"], ["y"], "sum")
    graph = helper.make_graph(
        [node], "agreeing", [_info("a", "n", 2), _info("b", "n", 2)], [_info("y", "n", 2)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def cyclic() -> onnx.ModelProto:
    """Two nodes that wait for each other."""
    first = helper.make_node("Add", ["x", "b"], ["a"], "chicken")
    second = helper.make_node("Neg", ["a"], ["b"], "egg")
    return _model([first, second, helper.make_node("Relu", ["a"], ["y"], "last")])


def leaving() -> onnx.ModelProto:
    """Weights in a file that is not in the model's folder."""
    return onnx.load_from_string(small_models.external(small_models.perceptron(), "../../secret.data")[0])


def _zip() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", b"model")
    return buffer.getvalue()


def _tensor_alone() -> bytes:
    return small_models.perceptron().graph.initializer[0].SerializeToString()


_GOOD = small_models.perceptron().SerializeToString()
_FROBNICATE = helper.make_node("Frobnicate", ["x"], ["y"], "odd_one")
_RELU = helper.make_node("Relu", ["x"], ["y"], "relu")

REFUSALS = {
    "a web page": Refusal(b"<!doctype html><title>Sign in</title>", "model-format", ("web page",)),
    "an empty file": Refusal(b"", "model-format", ("empty",)),
    "random bytes": Refusal(np.random.default_rng(1).bytes(5000), "model-format", ("is not ONNX",)),
    "a zip archive": Refusal(_zip(), "model-format", ("zip archive", "unpack")),
    "another format": Refusal(b"GGUF\3\0\0\0" + bytes(200), "model-format", ("GGUF",)),
    "a tensor alone": Refusal(_tensor_alone(), "model-format", ()),
    "a model cut short": Refusal(_GOOD[:3000], "model-format", ("truncated", "load all of it")),
    "a model cut short within a node": Refusal(_GOOD[:40], "model-format", ("truncated", "load all of it")),
    "a cycle": Refusal(cyclic().SerializeToString(), "model-format", ("cycle", "chicken", "egg")),
    "an operator of nobody's": Refusal(
        small_models.unsupported().SerializeToString(),
        "unsupported",
        ("com.example", "Frobnicate", "odd_one"),
    ),
    "an operator that ONNX does not have": Refusal(
        _model([_FROBNICATE]).SerializeToString(), "unsupported", ("Frobnicate", "odd_one")
    ),
    "an opset of the future": Refusal(
        _model([_RELU], opset=99).SerializeToString(), "unsupported", ("opset 99",)
    ),
    "an opset before the first": Refusal(
        _model([_RELU], opset=0).SerializeToString(), "unsupported", ("opset 0",)
    ),
    "a domain without an opset": Refusal(
        _model([_RELU], domain="com.example").SerializeToString(), "model-format", ("opset",)
    ),
    "weights outside the folder": Refusal(
        leaving().SerializeToString(),
        "external-data",
        ("w1", "../../secret.data", "leaves the model's folder"),
    ),
    "weights that are not there": Refusal(
        small_models.external(small_models.perceptron(), "lost.data")[0],
        "external-data",
        ("lost.data", "404"),
    ),
}
