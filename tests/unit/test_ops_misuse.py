"""Nodes that use an operator as ONNX does not allow are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.compiler import check_operators, compile_model, static_inputs
from nnjit.errors import ModelFormatError, UnsupportedError
from nnjit.onnx.reader import read_model
from nnjit.ops.registry import NEWEST_OPSET
from nnjit.target import Target


def build(
    op: str, inputs: list[str], opset: int = 17, shape: tuple[int, ...] = (2, 3), **attributes: object
) -> None:
    """Compile a graph of one node; `a` is an input of `shape`, `k` the constant [1, 2, 3]."""
    node = helper.make_node(op, inputs, ["y"], "the_node", **attributes)
    a = helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "misuse", [a], [y], [numpy_helper.from_array(np.arange(1, 4), "k")])
    opsets = [helper.make_opsetid("", opset)]
    model = read_model(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    check_operators(model)
    inputs_at_hand = static_inputs(model)
    assert inputs_at_hand is not None
    compile_model(model, inputs_at_hand, Target())


@pytest.mark.parametrize(
    ("op", "inputs", "says"),
    [
        ("MatMul", ["a"], "another number of inputs than 1"),
        ("Relu", ["a", "a"], "another number of inputs than 2"),
        ("Relu", [""], "another number of inputs than 0"),
        ("MatMul", ["", "a"], "is left out"),
        ("Concat", ["", "a"], "is left out"),
        ("Concat", [], "is left out"),
        ("MatMul", ["a", "a"], r"cannot multiply \[2, 3\] by \[2, 3\]"),
        ("Add", ["a", "nothing"], "'nothing', which nothing in the model makes"),
        ("Tile", ["a", "k"], "3 repeats for rank 2"),
    ],
)
def test_wrong_inputs_of_a_node_are_named(op: str, inputs: list[str], says: str) -> None:
    attributes = {"axis": 0} if op == "Concat" else {}
    with pytest.raises(ModelFormatError, match=rf"'the_node' \({op}\).*{says}"):
        build(op, inputs, **attributes)


@pytest.mark.parametrize(
    ("op", "attributes", "says"),
    [
        ("Softmax", {"axis": 7}, "axis 7 is out of range"),
        ("Softmax", {"axis": "last"}, "last"),
        ("Transpose", {"perm": [0, 0]}, "no permutation"),
        ("MaxPool", {}, "'kernel_shape' is missing"),
        ("DepthToSpace", {"blocksize": 0}, "zero"),
    ],
)
def test_wrong_attributes_of_a_node_are_named(op: str, attributes: dict[str, object], says: str) -> None:
    with pytest.raises(ModelFormatError, match=rf"'the_node' \({op}\).*{says}"):
        build(op, ["a"], shape=(2, 3) if op in ("Softmax", "Transpose") else (1, 4, 2, 2), **attributes)


def test_an_opset_that_is_newer_than_nnjit_is_refused() -> None:
    build("Relu", ["a"], opset=NEWEST_OPSET)
    with pytest.raises(UnsupportedError, match=rf"'the_node' \(Relu\), opset {NEWEST_OPSET + 1}"):
        build("Relu", ["a"], opset=NEWEST_OPSET + 1)
