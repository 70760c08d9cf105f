"""Reads an ONNX model into a Graph, without reading its weights.

`read_model(source)` walks the protobuf of a ModelProto lazily (protobuf.py). What differs between opsets or exporters in
the form of a model ends here: `Constant` nodes become initializers, local functions are inlined, inputs that only repeat
an initializer are dropped, nodes are put in topological order.

Why not the protobuf library: it needs the whole file in Python's memory, and then as much again for the parsed message.
Measured in CPython 3.11 on a 2-core x86-64 machine, peak memory beyond numpy and (for the library) beyond the file's bytes:

    model                      this reader       protobuf 7 (C)      protobuf 7 (pure Python, as in Pyodide)
    MiniLM, 90 MB              16 ms  + 1 MB       53 ms  + 86 MB      93 ms  + 88 MB
    RoBERTa-base, 496 MB       25 ms  + 1 MB      493 ms + 474 MB    1376 ms + 476 MB
    GPT-2, 654 MB, 2891 nodes  54 ms  + 5 MB     1496 ms + 625 MB     601 ms + 629 MB

The reader copies less than 1 MB of each file. In Pyodide 314 (Node 20, same machine) it takes 19, 27 and 79 ms for these three,
over a Uint8Array that stays outside Python, whose heap is 45 MB after all of them.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ..errors import ModelFormatError, UnsupportedError
from ..graph.graph import Graph, Initializer, Node
from ..graph.verify import sort_and_verify
from .constants import settle_attributes
from .functions import Function, Reference, inline
from .protobuf import BYTES, FIXED32, VARINT, BytesSource, Reader, Source, check_depth, signed
from .sniff import check_magic
from .tensors import integers, read_tensor, string
from .values import domain_name, opset_import, tensor_info, value_info

_GRAPH_FIELDS = {
    1: "a node",
    2: "the name",
    5: "an initializer",
    11: "an input",
    12: "an output",
    13: "a value",
}
_NODE_FIELDS = {
    1: "an input",
    2: "an output",
    3: "the name",
    4: "the operator",
    5: "an attribute",
    7: "the domain",
}
# field -> (wire type, AttributeProto.AttributeType that it implies when the type is not written)
_ATTRIBUTE_FIELDS = {
    1: (BYTES, 0), 2: (FIXED32, 1), 3: (VARINT, 2), 4: (BYTES, 3), 5: (BYTES, 4), 6: (BYTES, 5), 7: (FIXED32, 6),
    8: (VARINT, 7), 9: (BYTES, 8), 10: (BYTES, 9), 11: (BYTES, 10), 14: (BYTES, 13), 15: (BYTES, 14), 20: (VARINT, 0),
    21: (BYTES, 0), 22: (BYTES, 11), 23: (BYTES, 12),
}  # fmt: skip
_UNSUPPORTED_KINDS = {11: "a sparse tensor", 12: "sparse tensors", 13: "a type", 14: "types"}
_Extent = tuple[int, int]


def read_model(source: Source | bytes) -> Graph:
    """The main graph of the model that `source` holds.

    Raises ModelFormatError (not a model, truncated, or inconsistent), UnsupportedError (a construct that nnjit does not
    take) or ExternalDataError (a location outside the model's folder); the message names the node or tensor.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = BytesSource(source)
    reader = Reader(source)
    check_magic(reader)
    graph_at: _Extent | None = None
    opset: dict[str, int] = {}
    functions: dict[tuple[str, str], Function] = {}
    for number, wire, value, size in reader.fields(0, reader.size):
        if wire != BYTES:
            continue
        if number == 7:
            if graph_at is not None:
                raise ModelFormatError(f"a second graph at byte {value}: the file is not one ONNX model")
            graph_at = (value, size)
        elif number == 8:
            domain, version = opset_import(reader, value, size)
            opset[domain] = version
        elif number == 25:
            function = _function(reader, value, size)
            functions[function.key] = function
    if graph_at is None:
        raise ModelFormatError("the file holds no graph: it is not an ONNX model, or only a part of one")
    if not opset:
        raise ModelFormatError("the model does not say which opset it uses (opset_import is missing)")
    graph = _graph(reader, *graph_at, 0)
    if functions:
        inline(graph, functions, opset)
    for part in graph.all_graphs():
        part.opset = opset
        settle_attributes(part)
    sort_and_verify(graph)
    return graph


def _graph(reader: Reader, offset: int, length: int, depth: int) -> Graph:
    """A GraphProto as it is written: nodes in file order, `Constant` nodes among them."""
    check_depth(depth)
    graph = Graph("", [], [], [])
    for number, wire, value, size in reader.fields(offset, length):
        if wire != BYTES:
            if number in _GRAPH_FIELDS:
                raise _wrong_wire(wire, _GRAPH_FIELDS[number], "graph", value)
        elif number == 1:
            graph.nodes.append(_node(reader, value, size, depth))
        elif number == 5:
            tensor = read_tensor(reader, value, size, f"initializer {len(graph.initializers)}")
            if tensor.name in graph.initializers:
                raise ModelFormatError(f"two initializers are named '{tensor.name}'")
            graph.initializers[tensor.name] = tensor
        elif number == 13:
            info = value_info(reader, value, size)
            if info is not None:
                graph.value_infos[info.name] = info
        elif number == 11:
            graph.inputs.append(tensor_info(reader, value, size, "input"))
        elif number == 12:
            graph.outputs.append(tensor_info(reader, value, size, "output"))
        elif number == 2:
            graph.name = reader.text(value, size)
        elif number == 15:
            raise UnsupportedError(
                f"graph '{graph.name}' has sparse initializers: store them as dense tensors"
            )
    if graph.initializers:
        # Before IR version 4 every initializer was repeated as an input; since then it means a default value.
        graph.inputs = [info for info in graph.inputs if info.name not in graph.initializers]
    return graph


def _node(reader: Reader, offset: int, length: int, depth: int) -> Node:
    """A NodeProto."""
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: list[_Extent] = []
    node = Node("", "", "", (), ())
    overload = ""
    for number, wire, value, size in reader.fields(offset, length):
        if wire != BYTES:
            if number in _NODE_FIELDS:
                raise _wrong_wire(wire, _NODE_FIELDS[number], "node", value)
        elif number == 1:
            inputs.append(reader.text(value, size))
        elif number == 2:
            outputs.append(reader.text(value, size))
        elif number == 3:
            node.name = reader.text(value, size)
        elif number == 4:
            node.op = reader.text(value, size)
        elif number == 5:
            attributes.append((value, size))
        elif number == 7:
            node.domain = domain_name(reader, value, size)
        elif number == 8:
            overload = reader.text(value, size)
    node.inputs = tuple(inputs)
    node.outputs = tuple(outputs)
    if overload:
        node.op += f":{overload}"
    for at in attributes:
        _attribute(reader, *at, node, depth)
    return node


class _Attribute:
    """What an AttributeProto says: its kind, and the values of all kinds that it holds, one of which is meant."""

    __slots__ = ("name", "reference", "kind", "scalar", "text", "numbers", "strings", "parts")

    def __init__(self) -> None:
        self.name = self.reference = ""
        self.kind = 0
        self.scalar = 0
        self.text: str | bytes = ""
        self.numbers: list[float] = []
        self.strings: list[str | bytes] = []
        self.parts: list[Graph | Initializer] = []


def _attribute(reader: Reader, offset: int, length: int, node: Node, depth: int) -> None:
    """Read an AttributeProto into `node.attrs`; one that refers to a function's attribute becomes a Reference."""
    made = _Attribute()
    inferred = 0
    for number, wire, value, size in reader.fields(offset, length):
        if number in _ATTRIBUTE_FIELDS:
            expected, inferred_kind = _ATTRIBUTE_FIELDS[number]
            if wire != expected and not (wire == BYTES and number in (7, 8)):
                raise _wrong_wire(wire, f"attribute '{made.name}'", node.describe(), value)
            inferred = inferred_kind or inferred
        if number == 1:
            made.name = reader.text(value, size)
        elif number == 20:
            made.kind = value
        elif number == 2 or number == 3:
            made.scalar = value
        elif number == 8:
            made.numbers += integers(reader, wire, value, size)
        elif number == 4:
            made.text = string(reader, value, size)
        elif number == 5 or number == 10:
            where = f"attribute '{made.name}' of {node.describe()}"
            made.parts.append(read_tensor(reader, value, size, where))
        elif number == 6 or number == 11:
            made.parts.append(_graph(reader, value, size, depth + 1))
        elif number == 7:
            data = reader.bytes(value, size) if wire == BYTES else value.to_bytes(4, "little")
            made.numbers += np.frombuffer(data[: len(data) // 4 * 4], "<f4").tolist()
        elif number == 9:
            made.strings.append(string(reader, value, size))
        elif number == 21:
            made.reference = reader.text(value, size)
    # Files of early versions leave the kind out.
    made.kind = made.kind or inferred
    node.attrs[made.name] = _value_of(made, node)


def _value_of(attribute: _Attribute, node: Node) -> Any:
    """The value that an attribute of `node` has: see `Node.attrs`, or a Reference."""
    kind = attribute.kind
    if attribute.reference:
        return Reference(attribute.reference)
    if kind == 1:
        return struct.unpack("<f", attribute.scalar.to_bytes(8, "little")[:4])[0]
    if kind == 2:
        return signed(attribute.scalar)
    if kind == 3:
        return attribute.text
    if kind in (4, 5):
        parts = attribute.parts
        if len(parts) != 1 or not isinstance(parts[0], Initializer if kind == 4 else Graph):
            raise ModelFormatError(
                f"{node.describe()}: attribute '{attribute.name}' does not hold the value that its type says"
            )
        return parts[0]
    if kind in (6, 7):
        return tuple(attribute.numbers)
    if kind == 8:
        return tuple(attribute.strings)
    if kind in (9, 10):
        return tuple(attribute.parts)
    where = f"{node.describe()}: attribute '{attribute.name}'"
    if kind in _UNSUPPORTED_KINDS:
        raise UnsupportedError(f"{where} holds {_UNSUPPORTED_KINDS[kind]}")
    raise ModelFormatError(f"{where} has the unknown type {kind}")


def _function(reader: Reader, offset: int, length: int) -> Function:
    """A FunctionProto."""
    function = Function()
    holder = Node("", "", "", (), ())  # takes the default attributes
    overload = ""
    for number, wire, value, size in reader.fields(offset, length):
        if wire != BYTES:
            continue
        if number == 1:
            function.name = holder.name = reader.text(value, size)
        elif number == 4:
            function.inputs.append(reader.text(value, size))
        elif number == 5:
            function.outputs.append(reader.text(value, size))
        elif number == 7:
            function.nodes.append(_node(reader, value, size, 0))
        elif number == 9:
            domain, version = opset_import(reader, value, size)
            function.opset[domain] = version
        elif number == 10:
            function.domain = domain_name(reader, value, size)
        elif number == 11:
            _attribute(reader, value, size, holder, 0)
        elif number == 13:
            overload = f":{reader.text(value, size)}"
    function.name += overload
    function.defaults = holder.attrs
    return function


def _wrong_wire(wire: int, what: str, where: str, position: int) -> ModelFormatError:
    return ModelFormatError(
        f"{what} of {where} has wire type {wire} before byte {position}: the file is damaged or is not ONNX"
    )
