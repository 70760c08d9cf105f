"""`python build.py run` says what is wrong on standard error and exits with 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from . import bad_models, small_models
from .test_run import run

if TYPE_CHECKING:
    from pathlib import Path

    from nnjit_build.server import SiteServer

pytestmark = pytest.mark.slow


def check(code: str, says: tuple[str, ...], *arguments: object) -> None:
    """The command exits with 2; its last line is the code, and a message that names all of `says`."""
    result = run(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"{code}: "), result.stderr
    assert all(words in last for words in says), last


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad input") / "perceptron.onnx"
    path.write_bytes(small_models.perceptron().SerializeToString())
    return path


def test_a_bad_model_is_refused(tmp_path: Path) -> None:
    content, code, says = bad_models.REFUSALS["an operator of nobody's"]
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    check(code, ("bad.onnx", *says), path, "--device", "wasm")


def test_a_server_that_refuses_other_sites(site: SiteServer) -> None:
    url = site.publish("model.onnx", small_models.perceptron().SerializeToString())
    check("fetch", (url, "CORS"), url)


def test_more_than_a_memory_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "outer.onnx"
    path.write_bytes(bad_models.outer().SerializeToString())
    dims = [f"--dim={name}={bad_models.HUGE}" for name in ("rows", "columns")]
    check(
        "out-of-memory",
        ("MiB of WebAssembly memory", "4096.0 MiB", "smaller batch"),
        path,
        "--device=wasm",
        *dims,
    )


def test_an_input_that_the_model_does_not_have(perceptron: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((2, 64), np.float32))
    check(
        "input",
        ('no input "z"', "its inputs are x"),
        perceptron,
        "--device=wasm",
        f"--input=z={tmp_path / 'z.npy'}",
    )


@pytest.mark.parametrize(
    ("array", "says"),
    [(np.zeros((2, 64), np.complex64), "complex64"), (np.array(["a"]), "<U1"), (None, "must be a .npy file")],
    ids=["complex numbers", "text", "no array"],
)
def test_a_file_that_is_no_input(
    perceptron: Path, tmp_path: Path, array: np.ndarray | None, says: str
) -> None:
    file = tmp_path / "x.npy"
    if array is None:
        file.write_bytes(b"not an array")
    else:
        np.save(file, array)
    check("input", ("x", str(file), says), perceptron, f"--input=x={file}")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--input=x", "must be NAME=VALUE"),
        ("--input=x=nowhere.npy", "nowhere.npy"),
        ("--dim=batch=many", "whole number"),
    ],
)
def test_options_that_make_no_sense(perceptron: Path, option: str, says: str) -> None:
    check("input", (says,), perceptron, option)
