"""The reader against the `onnx` package: the same graph, read by both."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from models import registry
from onnx import TensorProto, helper, numpy_helper

from nnjit.graph.graph import Graph, Initializer, Location, Node
from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from nnjit.onnx.tensors import DTYPES, load

OPSET = [helper.make_opsetid("", 18)]


def model_bytes(
    nodes: list, inputs: list, outputs: list, initializers: tuple = (), **options: object
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=options.pop("opset", OPSET), **options).SerializeToString()


def floats(name: str, *dims: object) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def read_one_node(node: onnx.NodeProto) -> Node:
    """The node after a round trip through the reader; it reads x and makes y."""
    graph = read_model(model_bytes([node], [floats("x", 1)], [floats("y", 1)]))
    return graph.nodes[0]


def read_initializer(tensor: onnx.TensorProto) -> tuple[Initializer, np.ndarray]:
    """The initializer that the reader makes of `tensor`, and its contents."""
    data = model_bytes([helper.make_node("Shape", [tensor.name], ["y"])], [], [floats("y", 1)], (tensor,))
    found = read_model(data).initializers[tensor.name]
    return found, load(found, lambda file: BytesSource(data))


def assert_same_graph(ours: Graph, theirs: onnx.GraphProto, source: BytesSource) -> None:
    """Nodes, attributes, initializers, constants and subgraphs agree."""
    ordinary = [node for node in theirs.node if node.op_type != "Constant"]
    assert [node.name for node in ours.nodes] == [node.name for node in ordinary]
    for mine, other in zip(ours.nodes, ordinary, strict=True):
        assert (mine.op, mine.inputs, mine.outputs) == (
            other.op_type,
            tuple(other.input),
            tuple(other.output),
        )
        assert_same_attributes(mine, other, source)

    expected = {tensor.name: tensor for tensor in theirs.initializer}
    expected |= {node.output[0]: node.attribute[0].t for node in theirs.node if node.op_type == "Constant"}
    assert set(ours.initializers) == set(expected)
    for name, tensor in expected.items():
        assert_same_tensor(ours.initializers[name], tensor, source)


def assert_same_attributes(mine: Node, other: onnx.NodeProto, source: BytesSource) -> None:
    assert set(mine.attrs) == {attribute.name for attribute in other.attribute}
    for attribute in other.attribute:
        value = mine.attrs[attribute.name]
        expected = helper.get_attribute_value(attribute)
        if isinstance(value, Graph):
            assert_same_graph(value, expected, source)
        elif isinstance(expected, onnx.TensorProto):
            np.testing.assert_array_equal(value, numpy_helper.to_array(expected))
        elif isinstance(expected, bytes):
            assert value == expected.decode()
        elif isinstance(expected, list):
            assert value == tuple(expected)
        else:
            assert value == expected


def assert_same_tensor(mine: Initializer, other: onnx.TensorProto, source: BytesSource) -> None:
    assert (mine.dtype, mine.shape) == (DTYPES[other.data_type], tuple(other.dims))
    np.testing.assert_array_equal(load(mine, lambda file: source), numpy_helper.to_array(other))


@pytest.mark.parametrize("name", registry.names(marked=False))
def test_reads_what_the_onnx_package_reads(name: str) -> None:
    data = registry.path(name).read_bytes()
    theirs = onnx.load_from_string(data)
    ours = read_model(data)
    assert_same_graph(ours, theirs.graph, BytesSource(data))
    assert ours.opset == {entry.domain: entry.version for entry in theirs.opset_import}
    assert [info.name for info in ours.outputs] == [info.name for info in theirs.graph.output]


@pytest.mark.models
@pytest.mark.parametrize("name", registry.names(marked=True))
def test_reads_what_the_onnx_package_reads_from_large_models(name: str) -> None:
    test_reads_what_the_onnx_package_reads(name)


@pytest.mark.parametrize("name", ["minilm-l6", "rapidocr-rec"])
def test_weights_stay_in_the_file(name: str) -> None:
    data = registry.path(name).read_bytes()
    source = _CountingSource(data)
    read_model(source)
    assert source.copied < 0.12 * len(data)


class _CountingSource(BytesSource):
    copied = 0

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset and offset + length <= self.size
        self.copied += length
        return super().read(offset, length)


def test_declared_dimensions_are_sizes_symbols_or_unknown() -> None:
    data = model_bytes(
        [helper.make_node("Relu", ["x"], ["y"])], [floats("x", 2, "batch", None, "?", -1)], [floats("y")]
    )
    assert read_model(data).inputs[0].shape == (2, "batch", None, None, None)


def test_a_scalar_has_an_empty_shape_and_an_unknown_rank_none() -> None:
    unknown = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = read_model(model_bytes([helper.make_node("Relu", ["x"], ["y"])], [floats("x")], [unknown]))
    assert graph.inputs[0].shape == ()
    assert graph.outputs[0].shape is None


def test_an_absent_optional_input_is_an_empty_name() -> None:
    assert read_one_node(helper.make_node("Clip", ["x", "", "x"], ["y"])).inputs == ("x", "", "x")


@pytest.mark.parametrize("value", [3, -7, 0, 2**62, 0.5, "linear", [1, -2], [0.5, -1.5], ["a", "b"]])
def test_attribute_values(value: object) -> None:
    read = read_one_node(helper.make_node("Any", ["x"], ["y"], a=value)).attrs["a"]
    assert read == (tuple(value) if isinstance(value, list) else value)


def test_bytes_that_are_not_utf8_stay_bytes() -> None:
    assert read_one_node(helper.make_node("Any", ["x"], ["y"], a=b"\xff\x00")).attrs["a"] == b"\xff\x00"


def test_a_tensor_attribute_is_an_array() -> None:
    value = numpy_helper.from_array(np.array([1.5], np.float32))
    np.testing.assert_array_equal(
        read_one_node(helper.make_node("Any", ["x"], ["y"], a=value)).attrs["a"], [1.5]
    )


def test_a_large_tensor_attribute_stays_in_the_file() -> None:
    value = numpy_helper.from_array(np.zeros(1000, np.float32))
    read = read_one_node(helper.make_node("Any", ["x"], ["y"], a=value)).attrs["a"]
    assert isinstance(read, Initializer) and isinstance(read.data, Location)


def test_an_attribute_without_a_type_takes_it_from_its_value() -> None:
    node = helper.make_node("Any", ["x"], ["y"], a=5, b=[1, 2])
    for attribute in node.attribute:
        attribute.ClearField("type")
    assert read_one_node(node).attrs == {"a": 5, "b": (1, 2)}


@pytest.mark.parametrize(
    ("attribute", "value", "dtype"),
    [
        ("value_int", 3, "i64"),
        ("value_ints", [1, 2], "i64"),
        ("value_float", 0.5, "f32"),
        ("value_floats", [0.5, 1.5], "f32"),
        ("value_string", "a", "str"),
        ("value_strings", ["a", "b"], "str"),
        ("value", numpy_helper.from_array(np.array([1, 2], np.uint8)), "u8"),
    ],
)
def test_constant_nodes_become_initializers(attribute: str, value: object, dtype: str) -> None:
    data = model_bytes([helper.make_node("Constant", [], ["y"], **{attribute: value})], [], [floats("y")])
    graph = read_model(data)
    expected = numpy_helper.to_array(value) if attribute == "value" else np.array(value)
    assert graph.nodes == []
    assert graph.initializers["y"].dtype == dtype
    assert graph.initializers["y"].shape == expected.shape
    assert graph.initializers["y"].data.tolist() == expected.tolist()


_NUMPY_TYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("code", _NUMPY_TYPES)
@pytest.mark.parametrize("count", [0, 6, 5000])
def test_initializers_of_every_numpy_type(code: str, count: int, raw: bool) -> None:
    array = np.random.default_rng(0).integers(-100, 100, (2, count // 2)).astype(code)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    values = array.tobytes() if raw else array.flatten().tolist()
    read, contents = read_initializer(helper.make_tensor("t", kind, array.shape, values, raw=raw))
    assert read.shape == array.shape
    assert contents.dtype == array.dtype
    np.testing.assert_array_equal(contents, array)


def test_small_tensors_are_arrays_and_large_ones_locations() -> None:
    for array, where in [
        (np.zeros(256, np.float32), np.ndarray),
        (np.zeros(257, np.float32), Location),
        (np.zeros(512, np.int64), np.ndarray),
        (np.zeros(513, np.int64), Location),
    ]:
        assert isinstance(read_initializer(numpy_helper.from_array(array, "t"))[0].data, where)


def test_packed_float_data_stays_in_the_file() -> None:
    values = np.arange(5000, dtype=np.float32)
    read, contents = read_initializer(helper.make_tensor("t", TensorProto.FLOAT, [5000], values))
    assert isinstance(read.data, Location)
    np.testing.assert_array_equal(contents, values)


def test_bfloat16_is_held_as_its_bits() -> None:
    read, contents = read_initializer(helper.make_tensor("t", TensorProto.BFLOAT16, [2], [1.0, -2.0]))
    assert read.dtype == "bf16"
    assert contents.tolist() == [0x3F80, 0xC000]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_four_bit_integers_are_held_packed(raw: bool) -> None:
    tensor = helper.make_tensor("t", TensorProto.INT4, [3], b"\x21\x0f" if raw else [1, 2, -1], raw=raw)
    read, contents = read_initializer(tensor)
    assert (read.dtype, read.shape) == ("i4", (3,))
    assert contents.tolist() == [0x21, 0x0F]


def test_strings_are_read() -> None:
    _, contents = read_initializer(helper.make_tensor("t", TensorProto.STRING, [2], [b"a", "ü".encode()]))
    assert contents.tolist() == ["a", "ü"]


def test_an_input_that_repeats_an_initializer_is_dropped() -> None:
    weight = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    data = model_bytes([node], [floats("x", 1), floats("w", 1)], [floats("y", 1)], (weight,), ir_version=3)
    assert [info.name for info in read_model(data).inputs] == ["x"]


def test_the_default_domain_has_one_name() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")
    graph = read_model(
        model_bytes([node], [floats("x", 1)], [floats("y", 1)], opset=[helper.make_opsetid("ai.onnx", 18)])
    )
    assert (graph.nodes[0].domain, graph.opset) == ("", {"": 18})
