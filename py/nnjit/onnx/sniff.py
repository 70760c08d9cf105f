"""Tells files that are plainly no ONNX model: protobuf has no magic number of its own."""

from __future__ import annotations

from ..errors import ModelFormatError
from .protobuf import Reader

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


def check_magic(reader: Reader) -> None:
    """Raise ModelFormatError that says what the file is when it is plainly no model."""
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
