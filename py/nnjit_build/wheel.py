"""The `nnjit` wheel: py/nnjit and the JavaScript runtime, zipped by the standard library alone.

The same tree gives the same bytes: members are sorted and carry a fixed date. The module is also the project's
PEP 517 build backend, so `pip install .` works without any build tool.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .paths import ROOT, WEB

PACKAGE = ROOT / "py" / "nnjit"
RUNTIME = WEB / "runtime"
RUNTIME_IN_WHEEL = "nnjit/runtime/js"
_SUFFIXES = {".py", ".js", ".mjs", ".json", ".wgsl", ".typed"}
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold


@cache
def metadata() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def file_name() -> str:
    """The wheel's name, which tells its version."""
    return f"nnjit-{metadata()['version']}-py3-none-any.whl"


def sources() -> Iterator[tuple[str, Path]]:
    """Every file of the wheel, except its metadata, as (name inside, path in the tree), sorted by name."""
    members = {f"nnjit/{path.relative_to(PACKAGE).as_posix()}": path for path in _files(PACKAGE)}
    members |= {
        f"{RUNTIME_IN_WHEEL}/{path.relative_to(RUNTIME).as_posix()}": path for path in _files(RUNTIME)
    }
    yield from sorted(members.items())


def signature() -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a source file does: what a server looks at before it builds the wheel anew."""
    states = ((name, path.stat()) for name, path in sources())
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


def build() -> bytes:
    """The bytes of the wheel."""
    project = metadata()
    info = f"nnjit-{project['version']}.dist-info"
    members = {name: path.read_bytes() for name, path in sources()}
    members[f"{info}/METADATA"] = _metadata_text(project).encode()
    members[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: nnjit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    members[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in members.items())
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3  # Unix, also when built on Windows
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """PEP 517: write the wheel into `wheel_directory` and return its name."""
    Path(wheel_directory, file_name()).write_bytes(build())
    return file_name()


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        # Kernels that a site ships are fetched by the page, not by whoever installs the wheel.
        if path.suffix in _SUFFIXES and path.is_file() and path.name != "kernels.json":
            yield path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _metadata_text(project: dict[str, Any]) -> str:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"Author: {', '.join(author['name'] for author in project['authors'])}",
        f"License-Expression: {project['license']}",
        "License-File: LICENSE",
        f"Requires-Python: {project['requires-python']}",
        *(f"Requires-Dist: {requirement}" for requirement in project["dependencies"]),
    ]
    return "\n".join(lines) + "\n"
