"""`python build.py run`, as a shell calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from nnjit_build import demo_model
from nnjit_build.paths import ROOT

pytestmark = pytest.mark.slow

KEYS = {
    "device",
    "load_ms",
    "compile_ms",
    "first_ms",
    "untuned_ms",
    "median_ms",
    "kernels",
    "candidates",
    "peak_wasm_bytes",
    "outputs",
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nnjit_build", "run", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "py")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "classifier.onnx"
    path.write_bytes(demo_model.build())
    return path


def test_gives_the_answer_of_onnxruntime_and_the_facts_of_the_run(model: Path, tmp_path: Path) -> None:
    features = np.random.default_rng(3).normal(size=(5, 256)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    given = f"features={tmp_path / 'features.npy'}"
    options = [
        "--device",
        "wasm",
        "--threads",
        1,
        "--tune",
        1,
        "--out",
        tmp_path / "out",
        "--json",
        tmp_path / "run.json",
    ]
    result = run(model, "--input", given, *options)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "run.json").read_text())
    assert set(report) >= KEYS
    assert report["untuned_ms"] > 0 and report["median_ms"] > 0
    assert report["candidates"]
    output = report["outputs"]["probabilities"]
    assert (output["dtype"], output["shape"]) == ("float32", [5, 10])
    (expected,) = onnxruntime.InferenceSession(model.read_bytes()).run(None, {"features": features})
    np.testing.assert_allclose(np.load(output["file"]), expected, atol=1e-5)


def test_makes_up_inputs_of_the_dimensions_asked_for(model: Path) -> None:
    result = run(model, "--device", "wasm", "--dim", "batch=4")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["outputs"]["probabilities"] == {
        "dtype": "float32",
        "shape": [4, 10],
        "file": None,
    }


def test_a_path_that_leads_nowhere_is_refused() -> None:
    result = run("nowhere.onnx")
    assert result.returncode == 2
    assert result.stderr.startswith("fetch: there is no file nowhere.onnx")
