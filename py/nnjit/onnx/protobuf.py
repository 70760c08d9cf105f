"""A lazy reader of the protobuf wire format over a source of bytes that need not be in Python's memory.

Messages are walked field by field through a small window on the source. A field of bytes comes as (offset, length), so
that what nobody asks for, a weight of 100 MB say, is stepped over and never read.

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ..errors import ModelFormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_SEQUENTIAL_WINDOW = 1 << 16
_FIRST_WINDOW = 1 << 10
_MAX_FIELDS = 1 << 24
_MAX_DEPTH = 32  # of graphs within graphs; published models reach 4
_MAX_FIELD_HEADER = 20  # a tag and a length or value, each a varint of at most 10 bytes


class Source(Protocol):
    """Where bytes come from: `size` bytes, of which `read` copies a part into Python."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Bytes offset .. offset + length - 1, all of which exist."""
        ...


class BytesSource:
    """Bytes in memory: bytes, a memoryview, an mmap."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])


class Reader:
    """Walks messages of one source. Raises ModelFormatError, naming the byte, for anything that is not protobuf."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.size = source.size
        self._window = b""
        self._base = 0
        self._budget = _MAX_FIELDS

    def _view(self, offset: int, length: int) -> tuple[bytes, int]:
        """(window, its offset in the source) with the `length` bytes from `offset`, or as many as there are."""
        stop = min(offset + length, self.size)
        if offset < self._base or stop > self._base + len(self._window):
            # A walk that goes on where the last window ended, or within it, will want the next bytes too; one that
            # jumped over a weight may want only the next field.
            onward = self._base <= offset <= self._base + len(self._window)
            ahead = _SEQUENTIAL_WINDOW if onward else _FIRST_WINDOW
            stop = min(max(stop, offset + ahead), self.size)
            self._window = self.source.read(offset, stop - offset)
            self._base = offset
        return self._window, self._base

    def bytes(self, offset: int, length: int) -> bytes:
        """A copy of `length` bytes."""
        if length > _SEQUENTIAL_WINDOW:
            return self.source.read(offset, length)
        window, base = self._view(offset, length)
        return window[offset - base : offset - base + length]

    def text(self, offset: int, length: int) -> str:
        """A UTF-8 string."""
        try:
            return self.bytes(offset, length).decode()
        except UnicodeDecodeError:
            raise ModelFormatError(
                f"the {length} bytes at byte {offset} should be a name but are not UTF-8: the file is damaged or is not ONNX"
            ) from None

    def fields(self, offset: int, length: int) -> Iterator[tuple[int, int, int, int]]:
        """The fields of the message at `offset`: (field number, wire type, value, length).

        The value is an unsigned integer for VARINT, FIXED32 and FIXED64 (length 0); for BYTES it is the offset of the
        payload in the source, and `length` counts its bytes.
        """
        position, end = offset, offset + length
        buffer, base = self._view(position, min(length, _MAX_FIELD_HEADER))
        stop = base + len(buffer)
        count = 0
        while position < end:
            if position + _MAX_FIELD_HEADER > stop and stop < end:
                buffer, base = self._view(position, min(end - position, _MAX_FIELD_HEADER))
                stop = base + len(buffer)
            count += 1
            try:
                at = position - base
                tag = buffer[at]
                at += 1
                if tag > 127:
                    tag, at = _varint(buffer, at - 1, base)
                wire = tag & 7
                size = 0
                if wire == VARINT or wire == BYTES:
                    value = buffer[at]
                    at += 1
                    if value > 127:
                        value, at = _varint(buffer, at - 1, base)
                    if wire == BYTES:
                        size, value = value, base + at
                elif wire == FIXED32 or wire == FIXED64:
                    width = 4 if wire == FIXED32 else 8
                    value = int.from_bytes(buffer[at : at + width], "little")
                    at += width
                else:
                    raise _not_protobuf(position, f"wire type {wire}")
            except IndexError:
                raise _truncated(position, end, self.size) from None
            number = tag >> 3
            if number == 0:
                raise _not_protobuf(position, "field number 0")
            start = position
            position = base + at + size
            if position > end:
                raise _truncated(start, end, self.size)
            yield number, wire, value, size
        self._budget -= count
        if self._budget < 0:
            raise ModelFormatError(
                f"more than {_MAX_FIELDS} fields before byte {end}: no model has so many; the file is damaged"
            )

    def packed_varints(self, offset: int, length: int) -> np.ndarray:
        """The unsigned 64-bit values (uint64, one dimension) of a packed field."""
        parts = []
        rest = b""
        for start in range(offset, offset + length, _SEQUENTIAL_WINDOW):
            data = rest + self.bytes(start, min(_SEQUENTIAL_WINDOW, offset + length - start))
            codes = np.frombuffer(data, np.uint8)
            ends = np.flatnonzero(codes < 128)
            used = int(ends[-1]) + 1 if len(ends) else 0
            rest = data[used:]
            if len(rest) >= 10:
                break
            parts.append(_decode_varints(codes[:used], ends, start))
        if rest:
            raise _not_protobuf(offset + length - len(rest), "a packed number without an end")
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def check_depth(depth: int) -> None:
    """Raise ModelFormatError where graphs nest so deep that only a damaged file can mean it."""
    if depth > _MAX_DEPTH:
        raise ModelFormatError(f"subgraphs within subgraphs more than {_MAX_DEPTH} deep: the file is damaged")


def signed(value: int) -> int:
    """The int64 that a varint stands for."""
    return value - (1 << 64) if value >> 63 else value


def _varint(buffer: bytes, at: int, base: int) -> tuple[int, int]:
    """(value, position after it) of the varint at `at`; IndexError where the buffer ends within it."""
    value = shift = 0
    first = at
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise _not_protobuf(base + first, "a number of more than 10 bytes")


def _decode_varints(codes: np.ndarray, ends: np.ndarray, offset: int) -> np.ndarray:
    """Values of whole varints laid end to end; `ends` are the indices of their last bytes."""
    if not len(ends):
        return np.zeros(0, np.uint64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise _not_protobuf(offset, "a packed number of more than 10 bytes")
    shifts = 7 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    return np.bitwise_or.reduceat((codes & 127).astype(np.uint64) << shifts.astype(np.uint64), starts)


def _not_protobuf(position: int, what: str) -> ModelFormatError:
    return ModelFormatError(f"{what} at byte {position}: the file is damaged or is not ONNX")


def _truncated(position: int, end: int, size: int) -> ModelFormatError:
    if end >= size:
        return ModelFormatError(
            f"the file ends after {size} bytes, within the field at byte {position}: it is truncated, load all of it"
        )
    return ModelFormatError(
        f"the field at byte {position} goes past the end of its message at byte {end}: the file is damaged"
    )
