"""Local functions are inlined: the same outputs as onnxruntime gives for the model with functions."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from nnjit.errors import ModelFormatError, UnsupportedError
from nnjit.graph.graph import Graph
from nnjit.onnx.reader import read_model

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]


def function(
    name: str, inputs: list[str], outputs: list[str], nodes: list, **options: object
) -> onnx.FunctionProto:
    return helper.make_function(
        "local", name, inputs, outputs, nodes, options.pop("opsets", OPSETS), **options
    )


def call(name: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, name=f"call_{outputs[0]}", domain="local", **attributes)


def model(nodes: list, functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions)


def back_to_onnx(graph: Graph) -> onnx.ModelProto:
    """The inlined graph as a model that onnxruntime runs (no subgraphs)."""
    nodes = [helper.make_node(n.op, n.inputs, n.outputs, domain=n.domain, **n.attrs) for n in graph.nodes]
    tensors = [onnx.numpy_helper.from_array(t.data, name) for name, t in graph.initializers.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy"]
    return helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors), opset_imports=OPSETS[:1]
    )


def infer(original: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    (y,) = onnxruntime.InferenceSession(original.SerializeToString()).run(None, inputs)
    return y


def assert_inlined_equally(original: onnx.ModelProto) -> Graph:
    graph = read_model(original.SerializeToString())
    assert all(node.domain == "" for node in graph.nodes)
    x = {"x": np.array([-1.5, 0.25, 2], np.float32)}
    np.testing.assert_array_equal(infer(back_to_onnx(graph), x), infer(original, x))
    return graph


TWICE = function("Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])])


def test_two_calls_do_not_share_names() -> None:
    square = function(
        "SquarePlus",
        ["a"],
        ["b"],
        [
            helper.make_node("Mul", ["a", "a"], ["t"]),
            helper.make_node("Constant", [], ["one"], value_floats=[1.0]),
            helper.make_node("Add", ["t", "one"], ["b"]),
        ],
    )
    nodes = [call("SquarePlus", ["x"], ["h"]), call("SquarePlus", ["h"], ["y"])]
    assert len(assert_inlined_equally(model(nodes, [square])).nodes) == 4


def test_functions_that_call_functions() -> None:
    fourfold = function("Fourfold", ["a"], ["b"], [call("Twice", ["a"], ["t"]), call("Twice", ["t"], ["b"])])
    assert len(assert_inlined_equally(model([call("Fourfold", ["x"], ["y"])], [TWICE, fourfold])).nodes) == 2


def _leaky() -> onnx.FunctionProto:
    node = helper.make_node("LeakyRelu", ["a"], ["b"])
    reference = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    node.attribute.append(reference)
    return function("Leaky", ["a"], ["b"], [node], attributes=["slope"])


def test_attributes_are_passed_on() -> None:
    graph = assert_inlined_equally(model([call("Leaky", ["x"], ["y"], slope=0.5)], [_leaky()]))
    assert graph.nodes[0].attrs == {"alpha": 0.5}


def test_an_attribute_not_given_leaves_the_operators_default() -> None:
    graph = read_model(model([call("Leaky", ["x"], ["y"])], [_leaky()]).SerializeToString())
    assert graph.nodes[0].attrs == {}


def test_an_attribute_not_given_takes_the_functions_default() -> None:
    leaky = _leaky()
    leaky.ClearField("attribute")
    leaky.attribute_proto.append(helper.make_attribute("slope", 0.25))
    graph = read_model(model([call("Leaky", ["x"], ["y"])], [leaky]).SerializeToString())
    assert graph.nodes[0].attrs == {"alpha": 0.25}


def test_an_input_left_out_is_absent_inside() -> None:
    clip = function(
        "Bounded", ["a", "low", "high"], ["b"], [helper.make_node("Clip", ["a", "low", "high"], ["b"])]
    )
    graph = read_model(model([call("Bounded", ["x"], ["y"])], [clip]).SerializeToString())
    assert graph.nodes[0].inputs == ("x", "", "")


def test_subgraphs_within_functions_are_renamed() -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["t"], ["r"])], "branch", [], [helper.make_tensor_value_info("r", 1, None)]
    )
    body = [
        helper.make_node("Neg", ["a"], ["t"]),
        helper.make_node(
            "Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])
        ),
        helper.make_node("If", ["yes"], ["b"], then_branch=branch, else_branch=branch),
    ]
    graph = read_model(
        model([call("F", ["x"], ["y"])], [function("F", ["a"], ["b"], body)]).SerializeToString()
    )
    neg, choice = graph.nodes
    assert choice.captured == neg.outputs
    assert choice.attrs["then_branch"].nodes[0].inputs == neg.outputs


def test_recursion_is_refused() -> None:
    endless = function("Endless", ["a"], ["b"], [call("Endless", ["a"], ["b"])])
    with pytest.raises(ModelFormatError, match="deep"):
        read_model(model([call("Endless", ["x"], ["y"])], [endless]).SerializeToString())


def test_functions_that_multiply_without_bound_are_refused() -> None:
    functions = [TWICE]
    for level in range(24):
        inner = f"Level{level - 1}" if level else "Twice"
        nodes = [call(inner, ["a"], ["t"]), call(inner, ["t"], ["b"])]
        functions.append(function(f"Level{level}", ["a"], ["b"], nodes))
    with pytest.raises(UnsupportedError, match="inlining"):
        read_model(model([call("Level23", ["x"], ["y"])], functions).SerializeToString())


def test_another_opset_in_a_function_is_unsupported() -> None:
    old = function(
        "Old", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets=[helper.make_opsetid("", 12)]
    )
    with pytest.raises(UnsupportedError, match="opset 12"):
        read_model(model([call("Old", ["x"], ["y"])], [old]).SerializeToString())
