"""Bad input to the reader: every kind raises a typed error that says what is wrong and where."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from models import registry
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import ModelFormatError, NnjitError, UnsupportedError
from nnjit.onnx.reader import read_model

RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")


def floats(name: str, *dims: object) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def make(
    nodes: list, initializers: tuple = (), inputs: tuple = ("x",), outputs: tuple = ("y",)
) -> onnx.ModelProto:
    """An unchecked model whose inputs and outputs are float32 [1]."""
    declared = [floats(name, 1) for name in inputs], [floats(name, 1) for name in outputs]
    graph = helper.make_graph(nodes, "g", *declared, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def refusal(model: onnx.ModelProto | bytes, error: type[NnjitError] = ModelFormatError) -> str:
    """The message of the error that reading `model` raises."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(error) as caught:
        read_model(data)
    assert type(caught.value) is error or issubclass(type(caught.value), error)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n  <html>", "web page"),
        (b'{"error": "not found"}', "JSON"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"Just some text, no model at all.", "not an ONNX model"),
        (b"\x00" * 100, "not an ONNX model"),
        (b"(" * 100, "no graph"),
        (bytes(range(255, 0, -1)), "byte"),
    ],
)
def test_what_is_not_a_model_is_named(data: bytes, said: str) -> None:
    assert said in refusal(data)


def test_a_model_without_a_graph() -> None:
    model = make([RELU])
    model.ClearField("graph")
    assert "no graph" in refusal(model)


def test_a_truncated_model_says_so() -> None:
    data = registry.path("magika").read_bytes()
    assert "truncated" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("kept", [1, 5, 30, 100, 1000, 5000])
def test_every_early_truncation_is_refused(kept: int) -> None:
    refusal(registry.path("magika").read_bytes()[:kept])


def test_a_missing_opset() -> None:
    model = make([RELU])
    model.ClearField("opset_import")
    assert "opset" in refusal(model)


def test_a_domain_without_an_opset() -> None:
    message = refusal(make([helper.make_node("Relu", ["x"], ["y"], name="relu", domain="com.example")]))
    assert "relu" in message and "com.example" in message


def test_a_graph_without_outputs() -> None:
    assert "no outputs" in refusal(make([RELU], outputs=()))


def test_a_wrong_wire_type() -> None:
    # ModelProto.graph (field 7, bytes) with a node (field 1) as a varint.
    assert "wire type" in refusal(b"\x3a\x02\x08\x01" + b"\x42\x04\x0a\x00\x10\x12")


@pytest.mark.parametrize("count", [0, 3, 5])
def test_raw_data_that_does_not_fit_its_shape(count: int) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=bytes(4 * count))
    message = refusal(make([helper.make_node("Add", ["x", "w"], ["y"])], (tensor,)))
    assert "'w'" in message and "16 bytes" in message and str(4 * count) in message


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT8, TensorProto.STRING])
def test_typed_data_that_does_not_fit_its_shape(kind: int) -> None:
    tensor = helper.make_tensor("w", kind, [2], ["a", "b"] if kind == TensorProto.STRING else [1, 2])
    tensor.dims[0] = 3
    assert "'w'" in refusal(make([helper.make_node("Add", ["x", "w"], ["y"])], (tensor,)))


def test_a_negative_dimension() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-1], raw_data=b"")
    assert "'w'" in refusal(make([helper.make_node("Add", ["x", "w"], ["y"])], (tensor,)))


def test_an_unknown_element_type() -> None:
    tensor = TensorProto(name="w", data_type=99, dims=[1], raw_data=b"\0")
    message = refusal(make([helper.make_node("Add", ["x", "w"], ["y"])], (tensor,)), UnsupportedError)
    assert "'w'" in message and "99" in message


def test_two_nodes_that_make_one_value() -> None:
    message = refusal(make([RELU, helper.make_node("Abs", ["x"], ["y"], name="abs")]))
    assert "'y'" in message and "'relu'" in message and "'abs'" in message


def test_a_node_that_makes_an_input() -> None:
    assert "'x'" in refusal(make([helper.make_node("Relu", ["x"], ["x"]), RELU]))


def test_two_initializers_of_one_name() -> None:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    assert "'w'" in refusal(make([RELU], (tensor, tensor)))


def test_a_value_that_nothing_makes() -> None:
    message = refusal(make([helper.make_node("Add", ["x", "ghost"], ["y"], name="sum")]))
    assert "'ghost'" in message and "'sum'" in message


def test_an_output_that_nothing_makes() -> None:
    assert "'z'" in refusal(make([RELU], outputs=("z",)))


def test_a_cycle_names_its_nodes() -> None:
    nodes = [
        helper.make_node("Add", ["x", "c"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Abs", ["b"], ["c"], name="third"),
        helper.make_node("Neg", ["c"], ["y"], name="behind"),
    ]
    message = refusal(make(nodes))
    assert "cycle" in message and "behind" not in message
    assert all(f"'{name}'" in message for name in ("first", "second", "third"))


def test_a_node_that_reads_itself_is_a_cycle() -> None:
    assert "cycle" in refusal(make([helper.make_node("Add", ["x", "y"], ["y"], name="self")]))


def test_a_node_without_an_operator() -> None:
    assert "'nameless'" in refusal(make([onnx.NodeProto(input=["x"], output=["y"], name="nameless")]))


def test_sparse_initializers_are_unsupported() -> None:
    model = make([RELU])
    model.graph.sparse_initializer.add()
    assert "sparse" in refusal(model, UnsupportedError)


def test_a_sequence_input_is_unsupported() -> None:
    model = make([RELU])
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    assert "sequence" in refusal(model, UnsupportedError)


def test_an_attribute_of_an_unknown_type() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu", a=1)
    data = make([node]).SerializeToString()
    marked = helper.make_attribute("a", 1).SerializeToString()
    assert data.count(marked) == 1
    message = refusal(data.replace(marked, marked[:-1] + b"\x63"))
    assert "relu" in message and "99" in message


def test_subgraphs_nested_without_end() -> None:
    graph = b""
    for _ in range(200):
        attribute = b"\x0a\x01b\xa0\x01\x05\x32" + _length(graph) + graph
        node = b"\x22\x02If\x2a" + _length(attribute) + attribute
        graph = b"\x0a" + _length(node) + node
    assert "deep" in refusal(b"\x3a" + _length(graph) + graph + b"\x42\x02\x10\x12")


def _length(data: bytes) -> bytes:
    count, out = len(data), b""
    while count > 127:
        out += bytes([count & 127 | 128])
        count >>= 7
    return out + bytes([count])


@pytest.mark.parametrize("name", ["silero-vad-16k-op15", "rapidocr-cls"])
def test_damaged_files_raise_typed_errors_or_read(name: str) -> None:
    """Bytes flipped where the structure is, not in the weights; a crash of any other kind fails the test."""
    whole = registry.path(name).read_bytes()
    rng = random.Random(1)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.choice(
                [rng.randrange(len(data)), rng.randrange(4000), len(data) - 1 - rng.randrange(30000)]
            )
            data[at] = rng.choice([0, 0xFF, 0x80, data[at] ^ (1 << rng.randrange(8)), rng.randrange(256)])
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        try:
            read_model(bytes(data))
        except NnjitError:
            refused += 1
    assert refused > 30


def test_random_bytes_are_refused() -> None:
    rng = random.Random(2)
    for _ in range(300):
        refusal(rng.randbytes(rng.randrange(1, 400)), NnjitError)
