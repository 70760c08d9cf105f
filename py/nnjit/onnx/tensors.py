"""From a TensorProto to an Initializer: small tensors become arrays, large ones stay where they lie.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ..errors import ModelFormatError, UnsupportedError
from ..graph import dtype as dtypes
from ..graph.graph import Initializer, Location
from .external import locate, too_short
from .protobuf import BYTES, FIXED32, FIXED64, VARINT, Reader, Source, signed

DTYPES = {
    1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 8: "str", 9: "bool", 10: "f16", 11: "f64",
    12: "u32", 13: "u64", 14: "c64", 15: "c128", 16: "bf16", 17: "f8e4m3fn", 18: "f8e4m3fnuz", 19: "f8e5m2",
    20: "f8e5m2fnuz", 21: "u4", 22: "i4", 23: "f4e2m1", 24: "f8e8m0", 25: "u2", 26: "i2",
}  # fmt: skip
"""TensorProto.DataType -> dtype."""

_SMALL_BYTES = 1 << 10
_SMALL_INTEGER_BYTES = 1 << 12  # i32 and i64: shapes, axes and indices, which constant folding wants to see
_MAX_RANK = 32
_MAX_ELEMENTS = 1 << 48

_DIMS, _DATA_TYPE, _SEGMENT, _FLOATS, _INT32S, _STRINGS, _INT64S, _NAME, _RAW, _DOUBLES, _UINT64S = range(
    1, 12
)
_EXTERNAL, _DATA_LOCATION = 13, 14

# field -> dtypes that it may hold, and the code of one element for those stored as they are
_TYPED_FIELDS = {
    _FLOATS: ("f32", "c64"),
    _DOUBLES: ("f64", "c128"),
    _INT64S: ("i64",),
    _UINT64S: ("u32", "u64"),
}
_FIXED_CODES = {_FLOATS: "<f4", _DOUBLES: "<f8"}


def read_tensor(reader: Reader, offset: int, length: int, owner: str = "") -> Initializer:
    """The TensorProto at `offset`.

    owner   whose tensor it is, in words, for messages about one without a name
    Raises ModelFormatError when its data does not fit its shape, UnsupportedError for an unknown element type,
    ExternalDataError for a bad location.
    """
    dims: list[int] = []
    code = 0
    name = ""
    raw: tuple[int, int] | None = None
    typed: dict[int, list[tuple[int, int, int]]] = {}
    entries: dict[str, str] = {}
    external = False
    for number, wire, value, size in reader.fields(offset, length):
        if number == _RAW and wire == BYTES:
            raw = (value, size)
        elif number == _NAME and wire == BYTES:
            name = reader.text(value, size)
        elif number == _DATA_TYPE and wire == VARINT:
            code = value
        elif number == _DIMS:
            dims += integers(reader, wire, value, size)
        elif number in _FIXED_CODES or number in (_INT32S, _INT64S, _UINT64S, _STRINGS):
            typed.setdefault(number, []).append((wire, value, size))
        elif number == _EXTERNAL and wire == BYTES:
            key, text = _entry(reader, value, size)
            entries[key] = text
        elif number == _DATA_LOCATION and wire == VARINT:
            external = value == 1
        elif number == _SEGMENT:
            raise UnsupportedError(
                f"tensor '{name}' of {owner}: stored in segments, which no exporter writes"
            )

    where = f"tensor '{name}'" if name else f"the tensor of {owner}"
    if code not in DTYPES:
        raise UnsupportedError(f"{where}: element type {code} is not one that nnjit knows")
    dtype = DTYPES[code]
    shape = tuple(dims)
    if any(d < 0 for d in shape) or len(shape) > _MAX_RANK or prod(d for d in shape if d) > _MAX_ELEMENTS:
        raise ModelFormatError(f"{where}: {shape} is not a possible shape; the file is damaged")
    count = prod(shape)

    if external:
        if dtype == "str":
            raise ModelFormatError(f"{where}: strings cannot be stored as external data")
        return Initializer(name, dtype, shape, locate(entries, dtypes.byte_size(dtype, count), where))
    if dtype == "str":
        return Initializer(name, dtype, shape, _strings(reader, typed.get(_STRINGS, []), shape, where))
    if raw is not None:
        needed = dtypes.byte_size(dtype, count)
        if raw[1] != needed:
            raise ModelFormatError(
                f"{where}: {dtype}{list(shape)} needs {needed} bytes of raw data but has {raw[1]}"
            )
        return Initializer(name, dtype, shape, _stay_or_load(reader, raw, dtype, shape))
    return Initializer(name, dtype, shape, _typed_data(reader, typed, dtype, shape, where))


def load(tensor: Initializer, open_file: Callable[[str | None], Source]) -> np.ndarray:
    """The array of any initializer, read from its file if need be.

    open_file   the source of an external file, or of the model itself for None
    Raises ExternalDataError when the file is too short.
    """
    if isinstance(tensor.data, np.ndarray):
        return tensor.data
    at = tensor.data
    source = open_file(at.file)
    if at.offset + at.length > source.size:
        raise too_short(tensor, at, source.size)
    return dtypes.from_bytes(source.read(at.offset, at.length), tensor.dtype, tensor.shape)


def integers(reader: Reader, wire: int, value: int, size: int) -> list[int]:
    """The signed values of one repeated int64 field, be it a single value or a packed run."""
    if wire == VARINT:
        return [signed(value)]
    if wire != BYTES:
        raise ModelFormatError(
            f"wire type {wire} for an integer before byte {value + size}: the file is damaged"
        )
    return reader.packed_varints(value, size).view(np.int64).tolist()


def _stay_or_load(
    reader: Reader, extent: tuple[int, int], dtype: str, shape: tuple[int, ...]
) -> Location | np.ndarray:
    limit = _SMALL_INTEGER_BYTES if dtype in ("i32", "i64") else _SMALL_BYTES
    if extent[1] > limit:
        return Location(None, *extent)
    return dtypes.from_bytes(reader.bytes(*extent), dtype, shape)


def _typed_data(
    reader: Reader,
    typed: dict[int, list[tuple[int, int, int]]],
    dtype: str,
    shape: tuple[int, ...],
    where: str,
) -> Location | np.ndarray:
    """Data in one of the fields float_data, int32_data, int64_data, double_data or uint64_data.

    Packed floats are little-endian bytes in the file and may stay there; integers are varints and must be decoded.
    """
    holder = next((number for number, kinds in _TYPED_FIELDS.items() if dtype in kinds), _INT32S)
    parts = typed.get(holder, [])
    needed = dtypes.byte_size(dtype, prod(shape))
    if holder in _FIXED_CODES:
        if len(parts) == 1 and parts[0][0] == BYTES and parts[0][2] == needed:
            return _stay_or_load(reader, parts[0][1:], dtype, shape)
        array = _fixed(reader, parts, _FIXED_CODES[holder])
    else:
        array = _varints(reader, parts).astype(f"<u{dtypes.storage(dtype).itemsize}")
    if array.nbytes != needed:
        raise ModelFormatError(
            f"{where}: {dtype}{list(shape)} needs {needed} bytes of data but its typed field holds {array.nbytes}"
        )
    return dtypes.from_bytes(array.tobytes(), dtype, shape)


def _fixed(reader: Reader, parts: list[tuple[int, int, int]], code: str) -> np.ndarray:
    width = np.dtype(code).itemsize
    chunks = []
    for wire, value, size in parts:
        if wire == BYTES:
            chunks.append(reader.bytes(value, size - size % width))
        elif wire == (FIXED32 if width == 4 else FIXED64):
            chunks.append(value.to_bytes(width, "little"))
        else:
            raise ModelFormatError(
                f"wire type {wire} for a float before byte {value + size}: the file is damaged"
            )
    return np.frombuffer(b"".join(chunks), code)


def _varints(reader: Reader, parts: list[tuple[int, int, int]]) -> np.ndarray:
    """The int64 values of the parts, packed or single."""
    if len(parts) == 1 and parts[0][0] == BYTES:
        return reader.packed_varints(*parts[0][1:]).view(np.int64)
    return np.array([value for part in parts for value in integers(reader, *part)], np.int64)


def _strings(
    reader: Reader, parts: list[tuple[int, int, int]], shape: tuple[int, ...], where: str
) -> np.ndarray:
    if len(parts) != prod(shape):
        raise ModelFormatError(f"{where}: str{list(shape)} needs {prod(shape)} strings but has {len(parts)}")
    array = np.empty(len(parts), object)
    for index, (_, value, size) in enumerate(parts):
        array[index] = string(reader, value, size)
    return array.reshape(shape)


def string(reader: Reader, offset: int, length: int) -> str | bytes:
    """A byte string: str where it is UTF-8, as nearly all are."""
    data = reader.bytes(offset, length)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _entry(reader: Reader, offset: int, length: int) -> tuple[str, str]:
    """A StringStringEntryProto: (key, value)."""
    found = {1: "", 2: ""}
    for number, wire, value, size in reader.fields(offset, length):
        if wire == BYTES:
            found[number] = reader.text(value, size)
    return found[1], found[2]
