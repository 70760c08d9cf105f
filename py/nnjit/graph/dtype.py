"""Names of element types, and what numpy holds them in."""

from __future__ import annotations

import numpy as np

NUMPY: dict[str, str] = {
    "f16": "<f2", "f32": "<f4", "f64": "<f8", "c64": "<c8", "c128": "<c16", "bool": "?",
    "i8": "i1", "i16": "<i2", "i32": "<i4", "i64": "<i8", "u8": "u1", "u16": "<u2", "u32": "<u4", "u64": "<u8",
}  # fmt: skip
"""dtype -> numpy's code, for the types that numpy has."""

_STORED_AS: dict[str, str] = {
    "bf16": "<u2", "f8e4m3fn": "u1", "f8e4m3fnuz": "u1", "f8e5m2": "u1", "f8e5m2fnuz": "u1", "f8e8m0": "u1",
}  # fmt: skip
"""dtype -> numpy's code of an unsigned integer with the same bits, for the types that numpy lacks."""

_PACKED_BITS: dict[str, int] = {"i4": 4, "u4": 4, "f4e2m1": 4, "i2": 2, "u2": 2}
"""Types of less than a byte: elements are packed from the low bits of each byte upwards."""


def storage(dtype: str) -> np.dtype:
    """What numpy holds one element in; for types of less than a byte, the byte that some share."""
    return np.dtype("u1" if dtype in _PACKED_BITS else NUMPY.get(dtype) or _STORED_AS[dtype])


def byte_size(dtype: str, count: int) -> int:
    """Bytes that `count` elements take in a model file; strings have no fixed size and raise KeyError."""
    if dtype in _PACKED_BITS:
        return (count * _PACKED_BITS[dtype] + 7) // 8
    return count * storage(dtype).itemsize


def from_bytes(data: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array that raw little-endian `data` holds.

    Types that numpy lacks come as unsigned integers with the same bits; those of less than a byte stay packed, as uint8
    of one dimension.
    """
    if dtype in _PACKED_BITS:
        return np.frombuffer(data, np.uint8)
    return np.frombuffer(data, storage(dtype)).reshape(shape)
