"""Where a tensor's data lies when it is stored outside the model file.

https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

from ..errors import ExternalDataError
from ..graph.graph import Graph, Initializer, Location


def locate(entries: dict[str, str], length: int, where: str) -> Location:
    """The Location that external-data `entries` (location, offset, length) describe.

    length   bytes that the tensor's dtype and shape need
    where    the tensor in words, for messages
    Raises ExternalDataError when an entry is missing or wrong, or the location leaves the model's folder.
    """
    if not entries.get("location"):
        raise ExternalDataError(f"{where}: external data without a location")
    offset = _number(entries, "offset", 0, where)
    stated = _number(entries, "length", length, where)
    if stated != length:
        raise ExternalDataError(
            f"{where}: the shape needs {length} bytes of external data but its length is given as {stated}"
        )
    return Location(safe_path(entries["location"], where), offset, length)


def check_files(graph: Graph, sizes: dict[str, int]) -> None:
    """Check that every external file the model needs is there and long enough.

    sizes   path, as `Graph.external_files` lists it -> bytes
    Raises ExternalDataError that names the tensor and the file.
    """
    for part in graph.all_graphs():
        for tensor in part.tensors():
            at = tensor.data
            if isinstance(at, Location) and at.file is not None:
                if at.file not in sizes:
                    raise ExternalDataError(
                        f"tensor '{tensor.name}': its external data file '{at.file}' is missing; it belongs beside the model"
                    )
                if at.offset + at.length > sizes[at.file]:
                    raise too_short(tensor, at, sizes[at.file])


def too_short(tensor: Initializer, at: Location, size: int) -> ExternalDataError:
    """The error for data that reaches past the end of its file."""
    return ExternalDataError(
        f"tensor '{tensor.name}': needs bytes {at.offset} to {at.offset + at.length} of '{at.file}', "
        f"which has only {size}: the file is truncated or belongs to another model"
    )


def safe_path(location: str, where: str) -> str:
    """`location` as a normal path of names joined by "/".

    Raises ExternalDataError if it is absolute, a URL, or leaves the folder, be it written with backslashes or
    percent-encoded.
    """
    return [_normalise(form, location, where) for form in _decodings(location)][0]


def _normalise(form: str, location: str, where: str) -> str:
    path = form.replace("\\", "/")
    if path.startswith("/") or ":" in path.split("/", 1)[0] or any(ord(c) < 32 for c in path):
        raise _outside(location, where)
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            if not names:
                raise _outside(location, where)
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    if not names:
        raise ExternalDataError(f"{where}: the external data's location {location!r} names no file")
    return "/".join(names)


def _decodings(text: str) -> list[str]:
    """`text`, then what it becomes each time its percent-encoding is taken off."""
    forms = [text]
    while "%" in forms[-1] and len(forms) < 8:
        decoded = _percent_decode(forms[-1])
        if decoded == forms[-1]:
            break
        forms.append(decoded)
    return forms


def _percent_decode(text: str) -> str:
    """Like urllib.parse.unquote, without the import."""
    head, *parts = text.split("%")
    data = head.encode("utf-8", "surrogateescape")
    for part in parts:
        try:
            data += bytes([int(part[:2], 16)]) if part[1:2] else b"%" + part.encode()
            data += part[2:].encode() if part[1:2] else b""
        except ValueError:
            data += b"%" + part.encode()
    return data.decode("utf-8", "replace")


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ExternalDataError(f"{where}: the external data's {key} is {text!r}, not a number of bytes")
    return int(text)


def _outside(location: str, where: str) -> ExternalDataError:
    return ExternalDataError(
        f"{where}: the external data's location {location!r} leaves the model's folder; "
        "put the file beside the model and name it by a relative path"
    )
