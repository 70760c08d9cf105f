"""What onnxruntime (CPU) makes of a test model's inputs, and how far from it is still right. Cached under .cache/references.

    expected = reference("minilm-l6")            # or reference("minilm-l6", seed=1, batch=3, sequence=7)
    expected.inputs, expected.outputs["last_hidden_state"], expected.tolerance["last_hidden_state"]

The tolerance of an output is the largest absolute error allowed: 1e-4 of its root mean square, or three times what
onnxruntime's optimised and unoptimised runs differ by where that is more. It is 0 for integers and booleans.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnjit_build.fetch import sha256
from nnjit_build.paths import CACHE

from . import registry

FOLDER = CACHE / "references"


@dataclass(frozen=True)
class Reference:
    """Inputs of a run, its outputs by name, and the largest allowed absolute error by output name."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    tolerance: dict[str, float]


def reference(name: str, seed: int = 0, **dims: int) -> Reference:
    """The reference run of a registry model on `registry.inputs(name, seed, **dims)`."""
    inputs = registry.inputs(name, seed, **dims)
    return run(registry.path(name), inputs)


def run(model: Path, inputs: dict[str, np.ndarray]) -> Reference:
    """The reference run of any model file."""
    import onnxruntime

    digest = hashlib.sha256(f"{_digest(model)} onnxruntime {onnxruntime.__version__}".encode())
    for key, array in sorted(inputs.items()):
        digest.update(f"{key} {array.dtype} {array.shape}".encode() + array.tobytes())
    file = FOLDER / f"{model.stem}-{digest.hexdigest()[:16]}.npz"
    if not file.exists():
        _make(model, inputs, file)
    with np.load(file) as stored:
        outputs = {key[2:]: stored[key] for key in stored.files if key.startswith("o:")}
        tolerance = {key[2:]: float(stored[key]) for key in stored.files if key.startswith("t:")}
    return Reference(inputs, outputs, tolerance)


def tolerance(optimised: np.ndarray, unoptimised: np.ndarray) -> float:
    """The largest absolute error allowed against `optimised`."""
    if optimised.dtype.kind != "f":
        return 0.0
    wide, plain = optimised.astype(np.float64), unoptimised.astype(np.float64)
    finite = np.isfinite(wide) & np.isfinite(plain)
    if not finite.any():
        return 0.0
    rms = np.sqrt(np.mean(wide[finite] ** 2))
    return float(max(1e-4 * rms, 3 * np.abs(wide - plain)[finite].max()))


def _make(model: Path, inputs: dict[str, np.ndarray], file: Path) -> None:
    optimised = _infer(model, inputs, optimise=True)
    unoptimised = _infer(model, inputs, optimise=False)
    arrays = {f"o:{key}": array for key, array in optimised.items()}
    arrays |= {f"t:{key}": np.array(tolerance(optimised[key], unoptimised[key])) for key in optimised}
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.stem}.{os.getpid()}.part.npz")
    np.savez(partial, **arrays)
    partial.replace(file)


def _infer(model: Path, inputs: dict[str, np.ndarray], optimise: bool) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Without it, products of uint8 and int8 saturate at 16 bits on x86 processors that lack VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _digest(model: Path) -> str:
    """sha256 of the model, kept beside it: hashing half a gigabyte anew takes seconds."""
    state = model.stat()
    stamp = f"{state.st_size} {state.st_mtime_ns}"
    note = FOLDER / f"{model.stem}.sha256"
    if note.exists():
        known, digest = note.read_text().rsplit(" ", 1)
        if known == stamp:
            return digest
    digest = sha256(model)
    FOLDER.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{stamp} {digest}")
    return digest
