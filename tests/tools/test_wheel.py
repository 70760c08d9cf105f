from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nnjit_build import wheel


@pytest.fixture(scope="module")
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(wheel.build()))


def test_the_same_tree_gives_the_same_bytes() -> None:
    assert wheel.build() == wheel.build()


def test_holds_every_python_source_of_the_package(archive: zipfile.ZipFile) -> None:
    sources = {path.relative_to(wheel.PACKAGE.parent).as_posix() for path in wheel.PACKAGE.rglob("*.py")}
    assert sources <= set(archive.namelist())


def test_holds_the_javascript_runtime_as_package_data(archive: zipfile.ZipFile) -> None:
    modules = {path.relative_to(wheel.RUNTIME).as_posix() for path in wheel.RUNTIME.rglob("*.js")}
    assert {f"nnjit/runtime/js/{name}" for name in modules} <= set(archive.namelist())


def test_leaves_the_build_tools_out(archive: zipfile.ZipFile) -> None:
    assert not [name for name in archive.namelist() if "nnjit_build" in name]


def test_record_gives_the_digest_of_every_member(archive: zipfile.ZipFile) -> None:
    record = next(name for name in archive.namelist() if name.endswith("/RECORD"))
    rows = [line.split(",") for line in archive.read(record).decode().splitlines()]
    assert {name for name, _, _ in rows} == set(archive.namelist())
    for name, digest, size in rows:
        if name != record:
            data = archive.read(name)
            assert int(size) == len(data)
            assert digest == "sha256=" + wheel._digest(data)
            assert len(hashlib.sha256(data).digest()) == 32


@pytest.mark.slow
def test_pip_installs_it_and_python_imports_it(tmp_path: Path) -> None:
    path = tmp_path / wheel.build_wheel(str(tmp_path))
    target = tmp_path / "installed"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([*pip, str(path)], check=True)
    location = target / "nnjit" / "__init__.py"
    specification = importlib.util.spec_from_file_location("nnjit_installed", location)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.__version__ == wheel.metadata()["version"]
