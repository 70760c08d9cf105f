"""ONNX models of a few nodes for the runtime's tests, built with the onnx package; references from onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    values = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[0])
    return numpy_helper.from_array(values.astype(np.float32), name)


def perceptron(batch: int | str = "batch", width: int = 64) -> onnx.ModelProto:
    """x f32 [batch, width] → Gemm, Relu, Gemm → y f32 [batch, 8]."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], "second"),
    ]
    weights = [
        _weight("w1", width, 48, seed=1),
        _weight("b1", 48, seed=2),
        _weight("w2", 48, 8, seed=3),
        _weight("b2", 8, seed=4),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 8])
    return _model(helper.make_graph(nodes, "perceptron", [x], [y], weights))


def lookup(rows: int = 6) -> onnx.ModelProto:
    """ids int64 [n] → rows of a table f32 [rows, 2]."""
    node = helper.make_node("Gather", ["table", "ids"], ["y"], "lookup")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    return _model(helper.make_graph([node], "lookup", [ids], [y], [_weight("table", rows, 2)]))


def next_row() -> onnx.ModelProto:
    """ids int64 [n] → rows ids + 1 of a table f32 [6, 2]."""
    nodes = [
        helper.make_node("Add", ["ids", "one"], ["next"], "add"),
        helper.make_node("Gather", ["table", "next"], ["y"], "lookup"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    one = helper.make_tensor("one", TensorProto.INT64, [], [1])
    return _model(helper.make_graph(nodes, "next_row", [ids], [y], [_weight("table", 6, 2), one]))


def unsupported() -> onnx.ModelProto:
    """A node that nothing implements."""
    node = helper.make_node("Frobnicate", ["x"], ["y"], "odd_one", domain="com.example")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    model = _model(helper.make_graph([node], "unsupported", [x], [y]))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model


def integers() -> onnx.ModelProto:
    """i int64 [n] → i + 1 int64, i < 2 bool."""
    nodes = [
        helper.make_node("Add", ["i", "one"], ["next"], "add"),
        helper.make_node("Less", ["i", "two"], ["small"], "less"),
    ]
    constants = [numpy_helper.from_array(np.array(v, np.int64), n) for v, n in ((1, "one"), (2, "two"))]
    i = helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])
    outputs = [
        helper.make_tensor_value_info("next", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("small", TensorProto.BOOL, ["n"]),
    ]
    return _model(helper.make_graph(nodes, "integers", [i], outputs, constants))


def external(model: onnx.ModelProto, name: str) -> tuple[bytes, bytes]:
    """The model with its weights in the file `name`: (model, data)."""
    data = bytearray()
    for tensor in model.graph.initializer:
        raw = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", str(len(data))), ("length", str(len(raw)))):
            tensor.external_data.add(key=key, value=value)
        data += raw + b"\0" * (-len(raw) % 64)
    return model.SerializeToString(), bytes(data)


def reference(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
