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

The reader copies less than 1 MB of each file. The times of the library on the large files are those of copying memory.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct

import numpy as np

from nnjit.errors import ModelFormatError, UnsupportedError
from nnjit.graph import dtype as dtypes
from nnjit.graph.graph import Graph, Initializer, Node, ValueInfo
from nnjit.graph.verify import sort_and_verify
from nnjit.onnx.functions import Function, Reference, inline
from nnjit.onnx.protobuf import BYTES, FIXED32, VARINT, BytesSource, Reader, Source, Truncated, signed
from nnjit.onnx.tensors import DTYPES, integers, read_tensor, string

_MAX_DEPTH = 32  # of subgraphs within subgraphs; published models reach 4

_UNBOUNDED = 1 << 62

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
_OTHER_TYPES = (4, 5, 7, 8, 9)  # sequence, map, opaque, sparse tensor, optional
_CONSTANT_DTYPES = {
    "value_float": "f32", "value_floats": "f32", "value_int": "i64", "value_ints": "i64", "value_string": "str",
    "value_strings": "str",
}  # fmt: skip
# ModelProto's fields below 16 as one-byte tags, field number << 3 | wire type; writers start with the lowest they have.
_FIRST_TAGS = (0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72)
_NOT_MODELS = {
    b"<": "a web page (an error page, or the page that shows the file: use the link that downloads it)",
    b"{": "JSON",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b": "gzip-compressed: unpack it",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file that it points to",
    b"\x89HDF": "HDF5",
    b"GGUF": "GGUF",
    b"ORTM": "a model in onnxruntime's own format",
}

_Extent = tuple[int, int]


def read_model(source: Source | bytes) -> Graph:
    """The main graph of the model that `source` holds.

    Raises ModelFormatError (not a model, truncated, or inconsistent), UnsupportedError (a construct that nnjit does not
    take) or ExternalDataError (a location outside the model's folder); the message names the node or tensor.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = BytesSource(source)
    reader = Reader(source)
    _check_magic(reader)
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
            domain, version = _opset_import(reader, value, size)
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
        _settle_attributes(part)
    sort_and_verify(graph)
    return graph


def peek_operators(source: Source | bytes) -> tuple[set[tuple[str, str]], bool]:
    """((domain, operator) of the nodes that are there, whether those are all) of the first part of a model's file.

    Writers put nodes before weights, so that an operator nobody supports can be told before the rest has arrived. One of
    another domain than "" may still turn out to be a local function: those come last in the file.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = BytesSource(source)
    reader = Reader(source)
    found: set[tuple[str, str]] = set()
    complete = False
    try:
        _check_magic(reader)
        for number, wire, value, _ in reader.fields(0, _UNBOUNDED):
            if number == 7 and wire == BYTES:
                _peek_graph(reader, value, _UNBOUNDED, found, 0)
                complete = True
                break
    except Truncated:
        pass
    return found, complete


def _peek_graph(reader: Reader, offset: int, length: int, found: set[tuple[str, str]], depth: int) -> None:
    """Add the operators of a GraphProto to `found`. Raises Truncated where the bytes at hand end before its weights."""
    _check_depth(depth)
    for number, _, value, size in reader.fields(offset, length):
        if number == 1:
            if value + size > reader.size:
                raise Truncated(f"the node at byte {value} has not arrived")
            op = domain = ""
            for field, _, start, count in reader.fields(value, size):
                if field == 4:
                    op = reader.text(start, count)
                elif field == 7:
                    domain = reader.text(start, count)
                elif field == 5:
                    for part, wire, at, extent in reader.fields(start, count):
                        if part in (6, 11) and wire == BYTES:
                            _peek_graph(reader, at, extent, found, depth + 1)
            found.add(("" if domain == "ai.onnx" else domain, op))
        elif number > 2 and depth == 0:
            return


def _check_magic(reader: Reader) -> None:
    """Tell what the file is when it is plainly no model; protobuf has no magic number of its own."""
    start = reader.bytes(0, 64)
    if not start:
        raise ModelFormatError("the file is empty")
    for magic, what in _NOT_MODELS.items():
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(magic):
            raise ModelFormatError(f"the file is not an ONNX model: it is {what}")
    if start[0] < 128 and start[0] not in _FIRST_TAGS:
        raise ModelFormatError(
            "the file is not an ONNX model: it does not start with a field that models have"
        )


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ModelFormatError(f"subgraphs within subgraphs more than {_MAX_DEPTH} deep: the file is damaged")


def _opset_import(reader: Reader, offset: int, length: int) -> tuple[str, int]:
    """An OperatorSetIdProto: (domain, version)."""
    domain, version = "", 0
    for number, wire, value, size in reader.fields(offset, length):
        if number == 1 and wire == BYTES:
            domain = _domain(reader, value, size)
        elif number == 2 and wire == VARINT:
            version = value
    return domain, version


def _domain(reader: Reader, offset: int, length: int) -> str:
    domain = reader.text(offset, length)
    return "" if domain == "ai.onnx" else domain


def _graph(reader: Reader, offset: int, length: int, depth: int) -> Graph:
    """A GraphProto as it is written: nodes in file order, `Constant` nodes among them."""
    _check_depth(depth)
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
            info = _value_info(reader, value, size)
            if info is not None:
                graph.value_infos[info.name] = info
        elif number == 11:
            graph.inputs.append(_tensor_info(reader, value, size, "input"))
        elif number == 12:
            graph.outputs.append(_tensor_info(reader, value, size, "output"))
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
            node.domain = _domain(reader, value, size)
        elif number == 8:
            overload = reader.text(value, size)
    node.inputs = tuple(inputs)
    node.outputs = tuple(outputs)
    if overload:
        node.op += f":{overload}"
    for at in attributes:
        _attribute(reader, *at, node, depth)
    return node


def _attribute(reader: Reader, offset: int, length: int, node: Node, depth: int) -> None:
    """Read an AttributeProto into `node.attrs`; one that refers to a function's attribute becomes a Reference."""
    name = reference = ""
    kind = 0
    scalar = 0
    text: str | bytes = ""
    numbers: list[float] = []
    strings: list[str | bytes] = []
    parts: list[Graph | Initializer] = []
    inferred = 0
    for number, wire, value, size in reader.fields(offset, length):
        if number in _ATTRIBUTE_FIELDS:
            expected, inferred_kind = _ATTRIBUTE_FIELDS[number]
            if wire != expected and not (wire == BYTES and number in (7, 8)):
                raise _wrong_wire(wire, f"attribute '{name}'", node.describe(), value)
            inferred = inferred_kind or inferred
        if number == 1:
            name = reader.text(value, size)
        elif number == 20:
            kind = value
        elif number == 2 or number == 3:
            scalar = value
        elif number == 8:
            numbers += integers(reader, wire, value, size)
        elif number == 4:
            text = string(reader, value, size)
        elif number == 5 or number == 10:
            parts.append(read_tensor(reader, value, size, f"attribute '{name}' of {node.describe()}"))
        elif number == 6 or number == 11:
            parts.append(_graph(reader, value, size, depth + 1))
        elif number == 7:
            data = reader.bytes(value, size) if wire == BYTES else value.to_bytes(4, "little")
            numbers += np.frombuffer(data[: len(data) // 4 * 4], "<f4").tolist()
        elif number == 9:
            strings.append(string(reader, value, size))
        elif number == 21:
            reference = reader.text(value, size)

    kind = kind or inferred
    if reference:
        node.attrs[name] = Reference(reference)  # type: ignore[assignment]
    elif kind == 1:
        node.attrs[name] = struct.unpack("<f", scalar.to_bytes(8, "little")[:4])[0]
    elif kind == 2:
        node.attrs[name] = signed(scalar)
    elif kind == 3:
        node.attrs[name] = text
    elif kind in (4, 5):
        if len(parts) != 1 or not isinstance(parts[0], Initializer if kind == 4 else Graph):
            raise ModelFormatError(
                f"{node.describe()}: attribute '{name}' does not hold the value that its type says"
            )
        node.attrs[name] = parts[0]
    elif kind in (6, 7):
        node.attrs[name] = tuple(numbers)
    elif kind == 8:
        node.attrs[name] = tuple(strings)
    elif kind in (9, 10):
        node.attrs[name] = tuple(parts)
    elif kind in _UNSUPPORTED_KINDS:
        raise UnsupportedError(f"{node.describe()}: attribute '{name}' holds {_UNSUPPORTED_KINDS[kind]}")
    else:
        raise ModelFormatError(f"{node.describe()}: attribute '{name}' has the unknown type {kind}")


def _tensor_info(reader: Reader, offset: int, length: int, role: str) -> ValueInfo:
    info = _value_info(reader, offset, length)
    if info is None:
        raise UnsupportedError(
            f"the {role} declared at byte {offset} is not a tensor (sequence, map or optional)"
        )
    return info


def _value_info(reader: Reader, offset: int, length: int) -> ValueInfo | None:
    """A ValueInfoProto, or None when the value is not a tensor."""
    name, dtype = "", ""
    shape: tuple[int | str | None, ...] | None = None
    for number, wire, value, size in reader.fields(offset, length):
        if wire != BYTES:
            continue
        if number == 1:
            name = reader.text(value, size)
        elif number == 2:
            for kind, kind_wire, at, extent in reader.fields(value, size):
                if kind == 1 and kind_wire == BYTES:
                    dtype, shape = _tensor_type(reader, at, extent, name)
                elif kind in _OTHER_TYPES:
                    return None
    return ValueInfo(name, dtype, shape)


def _tensor_type(
    reader: Reader, offset: int, length: int, name: str
) -> tuple[str, tuple[int | str | None, ...] | None]:
    """A TypeProto.Tensor: (dtype, shape)."""
    dtype = ""
    shape: list[int | str | None] | None = None
    for number, wire, value, size in reader.fields(offset, length):
        if number == 1 and wire == VARINT:
            if value not in DTYPES and value != 0:
                raise UnsupportedError(f"value '{name}': element type {value} is not one that nnjit knows")
            dtype = DTYPES.get(value, "")
        elif number == 2 and wire == BYTES:
            shape = []
            for part, part_wire, at, extent in reader.fields(value, size):
                if part == 1 and part_wire == BYTES:
                    shape.append(_dimension(reader, at, extent))
    return dtype, None if shape is None else tuple(shape)


def _dimension(reader: Reader, offset: int, length: int) -> int | str | None:
    """A size, the name of a symbol, or None: "?" and a negative size are how some exporters write unknown."""
    for number, wire, value, size in reader.fields(offset, length):
        if number == 1 and wire == VARINT:
            return signed(value) if signed(value) >= 0 else None
        if number == 2 and wire == BYTES:
            symbol = reader.text(value, size)
            return symbol if any(c.isalpha() for c in symbol) else None
    return None


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
            domain, version = _opset_import(reader, value, size)
            function.opset[domain] = version
        elif number == 10:
            function.domain = _domain(reader, value, size)
        elif number == 11:
            _attribute(reader, value, size, holder, 0)
        elif number == 13:
            overload = f":{reader.text(value, size)}"
    function.name += overload
    function.defaults = holder.attrs
    return function


def _settle_attributes(graph: Graph) -> None:
    """Turn `Constant` nodes into initializers, and small tensors among the other nodes' attributes into arrays."""
    kept = []
    for node in graph.nodes:
        if node.op == "Constant" and node.domain == "":
            if len(node.outputs) != 1:
                raise ModelFormatError(f"{node.describe()} has {len(node.outputs)} outputs instead of one")
            name = node.outputs[0]
            if name in graph.initializers:
                raise ModelFormatError(f"{node.describe()}: an initializer is named '{name}' too")
            graph.initializers[name] = _constant(node, name)
            continue
        kept.append(node)
        for key, value in node.attrs.items():
            if isinstance(value, Initializer):
                node.attrs[key] = _array_if_small(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Initializer):
                node.attrs[key] = tuple(map(_array_if_small, value))
            elif isinstance(value, Reference):
                raise ModelFormatError(
                    f"{node.describe()}: attribute '{key}' refers to a function's but is in none"
                )
    graph.nodes = kept


def _array_if_small(tensor: Initializer) -> Initializer | np.ndarray:
    native = tensor.dtype in dtypes.NUMPY or tensor.dtype == "str"
    return tensor.data if native and isinstance(tensor.data, np.ndarray) else tensor


def _constant(node: Node, name: str) -> Initializer:
    """The tensor that a `Constant` node makes."""
    if len(node.attrs) != 1:
        raise ModelFormatError(f"{node.describe()} needs exactly one attribute that gives its value")
    key, value = next(iter(node.attrs.items()))
    if key == "value" and isinstance(value, Initializer):
        return Initializer(name, value.dtype, value.shape, value.data)
    if key not in _CONSTANT_DTYPES or isinstance(value, (Initializer, Graph, Reference)):
        raise ModelFormatError(f"{node.describe()}: attribute '{key}' gives no value")
    dtype = _CONSTANT_DTYPES[key]
    array = np.array(value, object if dtype == "str" else dtypes.NUMPY[dtype])
    return Initializer(name, dtype, array.shape, array)


def _wrong_wire(wire: int, what: str, where: str, position: int) -> ModelFormatError:
    return ModelFormatError(
        f"{what} of {where} has wire type {wire} before byte {position}: the file is damaged or is not ONNX"
    )
