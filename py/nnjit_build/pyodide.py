"""The Pyodide distribution that the site serves: core, the few wheels that are needed, a lock file naming only those."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .fetch import gather, npm_package, url_folder, wheel_members, write_atomically
from .paths import CACHE

VERSION = "314.0.3"
FOLDER = CACHE / "pyodide" / VERSION

CORE = {
    "pyodide.mjs": "5cfc46f5dcbaf2a16f26e2363f441873eb424762609cc03db00d6a2ace4d00e5",
    "pyodide.asm.mjs": "1a9775427ef6e8abaa7db88ece0515422d1886915ae5c9093776410c865dfd8d",
    "pyodide.asm.wasm": "e7f8fac36f8bf11085309cbc5c829b3ec3057c18bf1d73b05a6741612d63cdbf",
    "python_stdlib.zip": "444c770dfd75a32097fc0a7d5c1413fd3140601f49c3a1f2e9af0376fcd124b4",
}

# name: (version, file, sha256), as in this Pyodide's own lock file. None of them depends on another.
PACKAGES = {
    "numpy": (
        "2.4.3",
        "numpy-2.4.3-cp314-cp314-pyemscripten_2026_0_wasm32.whl",
        "0cad9c1b91f0082e4f959bc0e0bf5835a2efbba6ab3b1e9d1fe6e7e564cca98e",
    ),
    "micropip": (
        "0.11.1",
        "micropip-0.11.1-py3-none-any.whl",
        "668cd1270f480ac9f93da4a2b4873a252743e4ad3da723d37a7e4c637c4f2314",
    ),
    "packaging": (
        "26.1",
        "packaging-26.1-py3-none-any.whl",
        "2719239437268bcea22845651a242f2c252e2ed984645161dd203546f2a52219",
    ),
}

_INFO = {"abi_version": "2026_0", "arch": "wasm32", "platform": "emscripten_5_0_3", "python": "3.14.0"}

# The core is in all of them; the wheels are not in the npm package. The last is a web application that ships
# Pyodide's own files unchanged, which makes them reachable where only a package index is.
_SOURCES = (
    url_folder(f"https://cdn.jsdelivr.net/pyodide/v{VERSION}/full/"),
    npm_package(f"pyodide@{VERSION}"),
    wheel_members("open-webui==0.12.4", "open_webui/frontend/pyodide/"),
)


def ensure() -> Path:
    """The folder with a complete distribution, fetched and checked when it is not there yet."""
    wheels = {file: digest for _, file, digest in PACKAGES.values()}
    gather(CORE | wheels, FOLDER, _SOURCES)
    lock = lock_text([_lock_entry(name, *pin) for name, pin in PACKAGES.items()])
    path = FOLDER / "pyodide-lock.json"
    if not path.exists() or path.read_text(encoding="utf-8") != lock:
        write_atomically(path, lock.encode())
    return FOLDER


def lock_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """A Pyodide lock file that names only `entries`."""
    return json.dumps({"info": _INFO, "packages": {entry["name"]: entry for entry in entries}}, indent=1)


def _lock_entry(name: str, version: str, file: str, digest: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "file_name": file,
        "sha256": digest,
        "depends": [],
        "imports": [name],
        "install_dir": "site",
        "package_type": "package",
        "unvendored_tests": False,
    }
