"""Which operators a model uses, told from the first part of its file."""

from __future__ import annotations

from nnjit.onnx.protobuf import BYTES, BytesSource, Reader, Source, Truncated, check_depth
from nnjit.onnx.sniff import check_magic

_UNBOUNDED = 1 << 62


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
        check_magic(reader)
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
    check_depth(depth)
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
