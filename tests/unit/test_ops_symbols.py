"""Operators under symbolic dimensions: shape arithmetic vanishes, decisions are guarded, one trace serves many shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from conformance import DTYPES
from onnx import TensorProto, helper

from nnjit.errors import InputError, ModelFormatError, UnsupportedError
from nnjit.graph.graph import Initializer
from nnjit.onnx.reader import read_model
from nnjit.ops.trace import InputSpec, check_operators, trace
from nnjit.passes.group import reachable
from nnjit.symbolic import IntExpr, variables
from nnjit.tensor.build import Builder
from nnjit.tensor.env import Env
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Alias, Compute, Tensor, View

ELEMENT_TYPES = {
    "f32": TensorProto.FLOAT,
    "i64": TensorProto.INT64,
    "i32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[str, list]],
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    **constants: np.ndarray,
) -> bytes:
    """A model's bytes; inputs as name: (dtype, shape), constants by name."""
    infos = [helper.make_tensor_value_info(n, ELEMENT_TYPES[d], s) for n, (d, s) in inputs.items()]
    results = [helper.make_empty_tensor_value_info(n) for n in outputs]
    stored = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(list(nodes), "test", infos, results, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return made.SerializeToString()


@dataclass
class Traced:
    """A model traced for the inputs at hand."""

    outputs: list[Tensor]
    env: Env

    def guards(self) -> list[list]:
        """Guards beyond those that tell a dimension from 0 and 1."""
        return [g for g in self.env.guards() if not (isinstance(g[1], str) and g[0] == "ge" and g[2] == 2)]

    def run(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs for any inputs that the trace fits."""
        symbols = {}
        for s in self.env.symbols:
            kind, name, *axis = s["from"]
            symbols[s["name"]] = int(inputs[name]) if kind == "value" else inputs[name].shape[axis[0]]
        return interpret(self.outputs, inputs, symbols)


def traced(data: bytes, **inputs: np.ndarray) -> Traced:
    """The model traced with these inputs at hand; integer scalars are given with their value."""
    graph = read_model(data)
    check_operators(graph)
    env = Env()
    specs = {
        name: InputSpec(
            DTYPES[a.dtype], a.shape, int(a.reshape(-1)[0]) if a.size == 1 and a.dtype.kind in "iub" else None
        )
        for name, a in inputs.items()
    }
    return Traced(trace(graph, specs, Builder(env)), env)


def reference(data: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime makes of it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    return session.run(None, inputs)


def check(
    data: bytes, at_hand: dict[str, np.ndarray], others: Sequence[dict[str, np.ndarray]] = ()
) -> Traced:
    """Trace for the inputs at hand; the trace must give onnxruntime's numbers for them and for the others."""
    result = traced(data, **at_hand)
    for inputs in (at_hand, *others):
        for value, expected in zip(result.run(**inputs), reference(data, **inputs), strict=True):
            assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    return result


def base_of(t: Tensor) -> Tensor:
    """The tensor that views and reshapes of it lead to."""
    return base_of(t.base) if isinstance(t, (View, Alias)) else t


def kernels(result: Traced) -> set[Compute]:
    """What has to be computed for the outputs."""
    return reachable([base_of(t) for t in result.outputs])


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def split_heads() -> bytes:
    """[batch, sequence, 12] → [batch, sequence, 4, 3] → [batch, 4, sequence, 3], as exporters write it."""
    nodes = [helper.make_node("Shape", ["x"], ["shape"])]
    for n, name in enumerate(("batch", "sequence")):
        nodes += [
            helper.make_node("Gather", ["shape", f"index{n}"], [name], axis=0),
            helper.make_node("Unsqueeze", [name, "zero"], [f"{name}1"]),
        ]
    nodes += [
        helper.make_node("Concat", ["batch1", "sequence1", "heads"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["split"]),
        helper.make_node("Transpose", ["split"], ["y"], perm=[0, 2, 1, 3]),
    ]
    return model(
        nodes,
        {"x": ("f32", ["batch", "sequence", 12])},
        index0=np.int64(0),
        index1=np.int64(1),
        zero=ints(0),
        heads=ints(4, 3),
    )


# -- shape arithmetic -------------------------------------------------------------------------------------------


def test_the_shape_arithmetic_of_attention_leaves_no_kernel() -> None:
    result = traced(split_heads(), x=floats(2, 5, 12))
    assert kernels(result) == set()


def test_the_shape_arithmetic_of_attention_needs_no_guard() -> None:
    assert traced(split_heads(), x=floats(2, 5, 12)).guards() == []


def test_one_trace_serves_other_batches_and_sequences() -> None:
    check(split_heads(), {"x": floats(2, 5, 12)}, [{"x": floats(3, 8, 12)}, {"x": floats(7, 2, 12)}])


def test_an_inferred_dimension_is_symbolic() -> None:
    data = model(
        [helper.make_node("Reshape", ["x", "target"], ["y"])], {"x": ("f32", ["n", 6])}, target=ints(-1, 3)
    )
    result = check(data, {"x": floats(4, 6)}, [{"x": floats(5, 6)}])
    (symbol,) = result.env.symbols
    assert variables(result.outputs[0].shape[0]) == {symbol["name"]}


def test_a_shape_that_is_an_output_follows_the_symbols() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Mul", ["s", "two"], ["y"])]
    data = model(nodes, {"x": ("f32", ["n", "m"])}, two=ints(2))
    check(data, {"x": floats(4, 6)}, [{"x": floats(9, 2)}])


def test_dividing_a_dimension_evenly_stays_symbolic() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Div", ["s", "two"], ["half"]),
        helper.make_node("Expand", ["one", "half"], ["y"]),
    ]
    data = model(nodes, {"x": ("f32", ["n"])}, two=ints(2), one=floats(1))
    result = check(data, {"x": floats(8)}, [{"x": floats(10)}, {"x": floats(7)}])
    assert isinstance(result.outputs[0].shape[0], IntExpr)


def test_a_root_of_a_dimension_fixes_it_only_where_a_shape_needs_it() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["f"], ["y"]),
    ]
    data = model(nodes, {"x": ("f32", ["n"])})
    result = check(data, {"x": floats(9)}, [{"x": floats(16)}])
    assert result.guards() == []
    nodes += [
        helper.make_node("Cast", ["y"], ["root"], to=TensorProto.INT64),
        helper.make_node("Expand", ["one", "root"], ["z"]),
    ]
    fixed = traced(model(nodes, {"x": ("f32", ["n"])}, ("z",), one=floats(1)), x=floats(9))
    assert fixed.outputs[0].shape == (3,)
    assert fixed.guards() == [["eq", "s0", 9]]


def test_half_of_a_dimension_as_data_fixes_nothing() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "half"], ["h"]),
        helper.make_node("Add", ["x", "h"], ["y"]),
    ]
    data = model(nodes, {"x": ("f32", ["n"])}, half=np.float32(0.5))
    assert check(data, {"x": floats(9)}, [{"x": floats(4)}]).guards() == []


def test_a_range_over_a_dimension_is_computed_in_place() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Squeeze", ["s"], ["n"]),
        helper.make_node("Range", ["zero", "n", "two"], ["y"]),
    ]
    data = model(nodes, {"x": ("f32", ["n"])}, zero=np.int64(0), two=np.int64(2))
    check(data, {"x": floats(9)}, [{"x": floats(4)}])


def test_a_shape_that_depends_on_data_is_refused_with_node_operator_opset_and_reason() -> None:
    node = helper.make_node("Reshape", ["x", "target"], ["y"], name="reshape_7")
    data = model([node], {"x": ("f32", [4]), "target": ("i64", [2])})
    with pytest.raises(UnsupportedError, match=r"'reshape_7' \(Reshape\), opset 17.*shape.*depends on data"):
        traced(data, x=floats(4), target=ints(2, 2))


# -- guards -----------------------------------------------------------------------------------------------------


def test_broadcasting_two_symbols_is_guarded() -> None:
    data = model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ("f32", ["n"]), "b": ("f32", ["m"])})
    result = check(data, {"a": floats(4), "b": floats(4)}, [{"a": floats(6), "b": floats(6)}])
    assert result.guards() == [["eq", "s0", "s1"]]


def test_one_name_on_two_inputs_is_one_symbol() -> None:
    data = model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ("f32", ["n"]), "b": ("f32", ["n"])})
    result = traced(data, a=floats(4), b=floats(4))
    assert result.guards() == [["eq", "s0", "s1"]]
    assert variables(result.outputs[0].shape[0]) == {"s0"}


def test_a_dimension_of_one_broadcasts_and_is_guarded_to_stay_one() -> None:
    data = model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ("f32", ["n"]), "b": ("f32", ["m"])})
    result = check(data, {"a": floats(1), "b": floats(4)}, [{"a": floats(1), "b": floats(9)}])
    assert result.guards() == [["eq", "s0", 1]]


def test_a_slice_up_to_a_limit_is_guarded() -> None:
    data = model(
        [helper.make_node("Slice", ["x", "start", "end"], ["y"])],
        {"x": ("f32", ["n", 2])},
        start=ints(0),
        end=ints(8),
    )
    result = check(data, {"x": floats(5, 2)}, [{"x": floats(8, 2)}])
    assert result.guards() == [["ge", 8, "s0"]]


def test_a_slice_from_the_end_follows_the_dimension() -> None:
    data = model(
        [helper.make_node("Slice", ["x", "start", "end", "axes", "steps"], ["y"])],
        {"x": ("f32", ["n", 3])},
        start=ints(-2, -1),
        end=ints(2**63 - 1, -(2**63)),
        axes=ints(0, 1),
        steps=ints(1, -1),
    )
    check(data, {"x": floats(5, 3)}, [{"x": floats(9, 3)}])


# -- branches and loops -----------------------------------------------------------------------------------------


def branch(op: str) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node(op, ["x"], [f"{op}_y"])], op, [], [helper.make_empty_tensor_value_info(f"{op}_y")]
    )


def by_rate() -> bytes:
    """y = −x when rate is 16000, |x| otherwise."""
    nodes = [
        helper.make_node("Equal", ["rate", "sixteen"], ["fast"]),
        helper.make_node("If", ["fast"], ["y"], then_branch=branch("Neg"), else_branch=branch("Abs")),
    ]
    return model(nodes, {"x": ("f32", ["n"]), "rate": ("i64", [])}, sixteen=np.int64(16000))


@pytest.mark.parametrize(("rate", "guard"), [(16000, "eq"), (8000, "ne")])
def test_a_branch_on_an_integer_input_is_chosen_and_guarded(rate: int, guard: str) -> None:
    result = check(by_rate(), {"x": floats(4), "rate": np.array(rate, np.int64)})
    assert result.guards() == [[guard, result.env.symbols[-1]["name"], 16000]]


def test_a_branch_on_data_computes_both_and_chooses() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Less", ["top", "zero"], ["below"]),
        helper.make_node("If", ["below"], ["y"], then_branch=branch("Neg"), else_branch=branch("Relu")),
    ]
    data = model(nodes, {"x": ("f32", ["n"])}, zero=np.float32(0))
    check(data, {"x": floats(4)}, [{"x": -abs(floats(5))}])


def test_a_branch_on_data_of_one_element_chooses_between_tensors_of_higher_rank() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["chance"]),
        helper.make_node("Less", ["chance", "half"], ["below"]),
        helper.make_node("If", ["below"], ["y"], then_branch=branch("Neg"), else_branch=branch("Relu")),
    ]
    data = model(nodes, {"x": ("f32", [1, 1])}, half=np.float32(0.5))
    check(data, {"x": floats(1, 1)}, [{"x": -abs(floats(1, 1))}, {"x": abs(floats(1, 1))}])


def test_an_integer_input_that_no_shape_needs_has_no_symbol() -> None:
    data = model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ("i64", [2]), "b": ("i64", [])})
    result = check(
        data, {"a": ints(1, 2), "b": np.array(5, np.int64)}, [{"a": ints(3, 4), "b": np.array(7, np.int64)}]
    )
    assert result.env.symbols == []


def test_a_loop_with_a_known_trip_count_is_unrolled() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["v", "x"], ["v_next"]),
            helper.make_node("Mul", ["v", "v"], ["square"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n"]),
        ],
        [helper.make_empty_tensor_value_info(n) for n in ("go_on", "v_next", "square")],
    )
    node = helper.make_node("Loop", ["trips", "", "x"], ["y", "squares"], body=body)
    data = model([node], {"x": ("f32", ["n"])}, ("y", "squares"), trips=np.int64(3))
    check(data, {"x": floats(4)}, [{"x": floats(7)}])


def test_sequences_are_resolved_while_tracing() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x", "sizes"], ["parts"], axis=1),
        helper.make_node("SequenceAt", ["parts", "last"], ["tail"]),
        helper.make_node("SequenceErase", ["parts", "last"], ["rest"]),
        helper.make_node("SequenceInsert", ["rest", "tail", "first"], ["turned"]),
        helper.make_node("ConcatFromSequence", ["turned"], ["y"], axis=1),
        helper.make_node("SequenceLength", ["turned"], ["count"]),
    ]
    constants = {"sizes": ints(1, 3, 2), "last": np.int64(-1), "first": np.int64(0)}
    data = model(nodes, {"x": ("f32", ["n", 6])}, ("y", "count"), **constants)
    check(data, {"x": floats(4, 6)}, [{"x": floats(7, 6)}])


def test_an_operator_that_takes_no_sequence_refuses_one() -> None:
    nodes = [helper.make_node("SequenceConstruct", ["x", "x"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    with pytest.raises(UnsupportedError, match="Relu.*'s' is a sequence of tensors"):
        traced(model(nodes, {"x": ("f32", [2])}), x=floats(2))


# -- inputs -----------------------------------------------------------------------------------------------------

DOUBLED = model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": ("f32", ["n", 3])})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing"),
        ({"x": floats(2, 3), "z": floats(1)}, "no input 'z'"),
        ({"x": floats(2, 3).astype(np.float64)}, "must be f32, not f64"),
        ({"x": floats(3)}, "rank"),
        ({"x": floats(2, 4)}, "axis 1 must be 3"),
    ],
)
def test_inputs_that_do_not_fit_are_told(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        traced(DOUBLED, **inputs)


def test_shapes_that_do_not_broadcast_name_the_node() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"], name="sum")
    data = model([node], {"a": ("f32", [2]), "b": ("f32", [3])})
    with pytest.raises(ModelFormatError, match="'sum' .Add.*do not broadcast"):
        traced(data, a=floats(2), b=floats(3))


def test_an_unknown_operator_in_a_branch_is_refused_before_anything_is_traced() -> None:
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Frobnicate"))
    ]
    graph = read_model(model(nodes, {"x": ("f32", [2]), "c": ("bool", [])}))
    with pytest.raises(UnsupportedError, match="Frobnicate.*opset 17.*not implemented"):
        check_operators(graph)


# -- memory that is not moved -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Transpose", ["v"], ["y"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["v", "axes"], ["y"]),
        helper.make_node("Flatten", ["v"], ["y"], axis=0),
        helper.make_node("Identity", ["v"], ["y"]),
        helper.make_node("Gather", ["v", "place"], ["y"], axis=1),
    ],
    ids=lambda n: n.op_type,
)
def test_moving_operators_cost_no_kernel(node: onnx.NodeProto) -> None:
    data = model(
        [helper.make_node("Neg", ["x"], ["v"]), node],
        {"x": ("f32", ["n", 4])},
        axes=ints(1),
        place=np.int64(2),
    )
    result = check(data, {"x": floats(3, 4)}, [{"x": floats(5, 4)}])
    assert kernels(result) == {base_of(result.outputs[0])}


# -- older opsets -----------------------------------------------------------------------------------------------


def older(op: str, opset: int, **attributes: object) -> Callable[[], bytes]:
    return lambda: model(
        [helper.make_node(op, ["x"], ["y"], **attributes)], {"x": ("f32", ["n", 1, 6])}, opset=opset
    )


@pytest.mark.parametrize(
    "make",
    [
        older("Clip", 6, min=-0.5, max=0.25),
        older("Slice", 9, starts=[1, -3], ends=[100, -1], axes=[2, 2][:1] + [0]),
        older("Squeeze", 11, axes=[1]),
        older("Unsqueeze", 11, axes=[0, 4]),
        older("Split", 11, axis=2, split=[6]),
        older("Pad", 2, pads=[0, 1, 2, 0, 0, 1], value=3.0),
        older("Cast", 9, to=TensorProto.INT32),
        older("Dropout", 10),
    ],
    ids=["Clip", "Slice", "Squeeze", "Unsqueeze", "Split", "Pad", "Cast", "Dropout"],
)
def test_attributes_of_older_opsets(make: Callable[[], bytes]) -> None:
    check(make(), {"x": floats(4, 1, 6)}, [{"x": floats(5, 1, 6)}])


# -- indices that are data --------------------------------------------------------------------------------------


def test_gather_counts_negative_indices_from_the_end() -> None:
    data = model(
        [helper.make_node("Gather", ["x", "i"], ["y"], axis=0)], {"x": ("f32", ["n", 2]), "i": ("i64", ["k"])}
    )
    check(data, {"x": floats(4, 2), "i": ints(0, -1, -4)}, [{"x": floats(6, 2), "i": ints(-6, 5)}])


def test_gather_never_reads_outside() -> None:
    data = model(
        [helper.make_node("Gather", ["x", "i"], ["y"], axis=0)], {"x": ("f32", [4]), "i": ("i64", [2])}
    )
    traced(data, x=floats(4), i=ints(0, 1)).run(x=floats(4), i=ints(99, -99))


def test_of_scattered_updates_to_one_place_the_last_wins() -> None:
    node = helper.make_node("ScatterND", ["x", "i", "u"], ["y"])
    data = model([node], {"x": ("f32", ["n"]), "i": ("i64", ["k", 1]), "u": ("f32", ["k"])})
    at_hand = {"x": floats(5), "i": ints(3, 1, 3).reshape(3, 1), "u": floats(3)}
    check(data, at_hand, [{"x": floats(9), "i": ints(8, 8).reshape(2, 1), "u": floats(2)}])


@pytest.mark.parametrize("extent", [5, 100])
def test_running_sums(extent: int) -> None:
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], exclusive=1, reverse=1)
    data = model([node], {"x": ("f32", ["n", extent])}, axis=np.int64(1))
    check(data, {"x": floats(3, extent)}, [{"x": floats(4, extent)}])


def test_the_largest_elements_of_a_symbolic_axis() -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"])
    data = model([node], {"x": ("f32", [2, "n"])}, ("y", "places"), k=ints(3))
    check(data, {"x": floats(2, 7)}, [{"x": floats(2, 12)}])


# -- weights ----------------------------------------------------------------------------------------------------


def test_a_large_initializer_is_a_source_that_tracing_does_not_read() -> None:
    data = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": ("f32", ["n", 1024])}, w=floats(1024))
    graph = read_model(data)
    (output,) = trace(graph, {"x": InputSpec("f32", (4, 1024))}, Builder(Env()))
    read: list[str] = []

    def weights(initializer: Initializer) -> np.ndarray:
        read.append(initializer.name)
        return floats(1024)

    (value,) = interpret([output], {"x": floats(4, 1024)}, {"s0": 4}, weights)
    assert read == ["w"]
    np.testing.assert_allclose(value, floats(4, 1024) + floats(1024))
