"""What a model declares of its values and opsets: ValueInfoProto, TypeProto, OperatorSetIdProto."""

from __future__ import annotations

from ..errors import UnsupportedError
from ..graph.graph import ValueInfo
from .protobuf import BYTES, VARINT, Reader, signed
from .tensors import DTYPES

_OTHER_TYPES = (4, 5, 7, 8, 9)  # sequence, map, opaque, sparse tensor, optional


def tensor_info(reader: Reader, offset: int, length: int, role: str) -> ValueInfo:
    info = value_info(reader, offset, length)
    if info is None:
        raise UnsupportedError(
            f"the {role} declared at byte {offset} is not a tensor (sequence, map or optional)"
        )
    return info


def value_info(reader: Reader, offset: int, length: int) -> ValueInfo | None:
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


def opset_import(reader: Reader, offset: int, length: int) -> tuple[str, int]:
    """An OperatorSetIdProto: (domain, version)."""
    domain, version = "", 0
    for number, wire, value, size in reader.fields(offset, length):
        if number == 1 and wire == BYTES:
            domain = domain_name(reader, value, size)
        elif number == 2 and wire == VARINT:
            version = value
    return domain, version


def domain_name(reader: Reader, offset: int, length: int) -> str:
    domain = reader.text(offset, length)
    return "" if domain == "ai.onnx" else domain
