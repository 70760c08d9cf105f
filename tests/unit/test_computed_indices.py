"""Indices that are computed from inputs: an inference in which one leaves its axis is refused, others are right."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as h
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException
from unit.one_operator import model
from unit.plan_interpreter import RELAXED, WEBGPU, Machine

from nnjit.compiler import InputSpec, compile_model
from nnjit.errors import InputError
from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from nnjit.target import Target

TARGETS = pytest.mark.parametrize("target", [RELAXED, WEBGPU], ids=["wasm", "webgpu"])
MICROSOFT = {"domain": "com.microsoft"}
X = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)

CASES = {
    "Gather": ([[0, -4, 3]], [[0, -5, 3]], {}),
    "Gather of columns": ([[0, -3, 2]], [[0, 3, 2]], {"axis": 1}),
    "GatherElements": ([[3, -4, 1]], [[3, -4, 4]], {}),
    "GatherND": ([[3, -3], [-4, 2]], [[2, 3], [-4, 2]], {}),
    "ScatterElements": ([[-4, 3, 0]], [[-5, 3, 0]], {}),
    "ScatterND": ([[3], [-4]], [[1], [4]], {}),
}


def shifted_model(op: str, indices: np.ndarray, **attributes: int) -> onnx.ModelProto:
    """The operator `op` with what the input `at` holds plus one as its indices."""
    names = ["x", "indices"]
    inputs = [h.make_tensor_value_info("x", 1, ["rows", 3]), h.make_tensor_value_info("at", 7, indices.shape)]
    if op.startswith("Scatter"):
        names.append("updates")
        shape = indices.shape if op == "ScatterElements" else (len(indices), 3)
        inputs.append(h.make_tensor_value_info("updates", 1, shape))
    nodes = [
        h.make_node("Add", ["at", "one"], ["indices"]),
        h.make_node(op, names, ["y"], "taker", **attributes),
    ]
    one = h.make_tensor("one", 7, [], [1])
    graph = h.make_graph(nodes, "shifted", inputs, [onnx.ValueInfoProto(name="y")], [one])
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("case", CASES)
@TARGETS
def test_an_index_that_leaves_its_axis_is_refused_with_the_node_and_its_input(
    case: str, target: Target
) -> None:
    right, wrong, attributes = CASES[case]
    right, wrong = np.array(right), np.array(wrong)
    proto = shifted_model(case.split()[0], right, **attributes)
    inputs = {"x": X, "at": right - 1}
    if case.startswith("Scatter"):
        inputs["updates"] = np.ones(right.shape if case == "ScatterElements" else (2, 3), np.float32)
    dtypes = {"x": "f32", "at": "i64", "updates": "f32"}
    specs = {name: InputSpec(dtypes[name], a.shape) for name, a in inputs.items()}
    machine = Machine(compile_model(read_model(BytesSource(proto.SerializeToString())), specs, target))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_array_equal(machine.run(inputs)[0], session.run(None, inputs)[0])
    with pytest.raises(InputError, match=r"node 'taker' .*input 'indices' are out of range"):
        machine.run(inputs | {"at": wrong - 1})


def refused(proto: onnx.ModelProto, inputs: dict[str, np.ndarray], says: str) -> None:
    """Compile `proto` for inputs, and check that they are refused at the inference, by onnxruntime too."""
    dtypes = {"float32": "f32", "int32": "i32", "int64": "i64"}
    specs = {name: InputSpec(dtypes[a.dtype.name], a.shape) for name, a in inputs.items()}
    machine = Machine(compile_model(read_model(BytesSource(proto.SerializeToString())), specs, RELAXED))
    with pytest.raises(InputError, match=says):
        machine.run(inputs)
    with pytest.raises((Fail, InvalidArgument, RuntimeException)):
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, inputs)


@pytest.mark.parametrize(
    ("words", "segments"), [([[4, 0]], [[0, 1]]), ([[-1, 0]], [[0, 1]]), ([[3, 0]], [[0, 2]])]
)
def test_ids_beyond_the_tables_of_an_embedding_are_refused(words: list, segments: list) -> None:
    ids = [np.array(a, np.int32) for a in (words, segments)]
    rows = [np.ones(shape, np.float32) for shape in ((4, 8), (5, 8), (2, 8), (8,), (8,))]
    proto = model("EmbedLayerNormalization", [*ids, *rows], range(2, 7), outputs=2, **MICROSOFT)
    refused(proto, {"x0": ids[0], "x1": ids[1]}, "EmbedLayerNormalization.* are out of range")


@pytest.mark.parametrize("positions", [[[4, 5, 6]], [[0, -1, 2]], [4]])
def test_positions_beyond_the_angles_of_a_rotation_are_refused(positions: list) -> None:
    x, at = np.ones((1, 2, 3, 8), np.float32), np.array(positions)
    angles = np.ones((6, 4), np.float32)
    proto = model("RotaryEmbedding", [x, at, angles, angles], [2, 3], **MICROSOFT)
    refused(proto, {"x0": x, "x1": at}, "RotaryEmbedding.* are out of range")


def test_no_index_is_out_of_range_where_there_is_none() -> None:
    proto = shifted_model("Gather", np.zeros((0,), np.int64))
    inputs = {"x": X, "at": np.zeros((0,), np.int64)}
    specs = {"x": InputSpec("f32", X.shape), "at": InputSpec("i64", (0,))}
    machine = Machine(compile_model(read_model(BytesSource(proto.SerializeToString())), specs, RELAXED))
    assert machine.run(inputs)[0].shape == (0, 3)


def test_the_first_of_known_positions_need_no_check() -> None:
    nodes = [
        h.make_node("Shape", ["x"], ["count"], start=0, end=1),
        h.make_node("Slice", ["positions", "zero", "count"], ["first"]),
        h.make_node("Gather", ["table", "first"], ["y"]),
    ]
    stored = [
        h.make_tensor("positions", 7, [8], list(range(8))),
        h.make_tensor("zero", 7, [1], [0]),
        h.make_tensor("table", 1, [8, 2], list(range(16))),
    ]
    x = h.make_tensor_value_info("x", 1, ["rows", 3])
    graph = h.make_graph(nodes, "first", [x], [onnx.ValueInfoProto(name="y")], stored)
    proto = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9)
    specs = {"x": InputSpec("f32", X.shape)}
    machine = Machine(compile_model(read_model(BytesSource(proto.SerializeToString())), specs, RELAXED))
    assert [port["name"] for port in machine.plan["outputs"]] == ["y"]
    np.testing.assert_array_equal(machine.run({"x": X})[0], np.arange(8).reshape(4, 2))
