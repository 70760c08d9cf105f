"""What the bench runs: an ONNX file, inputs, and onnxruntime's answer to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from models import reference, registry
from models.reference import Reference

DEFAULT = (
    "roberta-base@batch=1,sequence=128",
    "gpt2@batch=1,sequence=64",
    "t5-small@batch=1,sequence=128,decoder_sequence=32",
    "bert-mini@batch=1,sequence=128",
    "minilm-l6@batch=1,sequence=16",
    "minilm-l6@batch=1,sequence=128",
    "deit-tiny",
    "vit-base",
    "resnet-50",
    "mobilenet-v2",
    "whisper-tiny-encoder",
    "magika",
    "silero-vad",
    "rapidocr-det@height=384,width=640",
    "rapidocr-rec",
)


class NoCase(Exception):
    """What was asked for cannot be run; says why."""


@dataclass(frozen=True)
class Case:
    """One thing to run.

    title     as it is printed
    model     the ONNX file
    expected  the inputs, and onnxruntime's outputs for them
    operator  for a single operator: its description for rivals that do not read ONNX; see kernels.py
    flops     of one inference, where the case is bound by arithmetic
    read      bytes that one inference of a single operator reads at least
    written   bytes that it writes
    """

    title: str
    model: Path
    expected: Reference
    operator: dict[str, Any] | None = None
    flops: float | None = None
    read: float = 0.0
    written: float = 0.0


def whole_model(text: str, seed: int = 0) -> Case:
    """The case of `NAME`, `PATH`, or either with dimensions: `minilm-l6@batch=1,sequence=128`. Raises NoCase."""
    name, _, settings = text.partition("@")
    dims = dict(_dimension(text, one) for one in settings.split(",") if one)
    if name in registry.MODELS:
        unknown = dims.keys() - registry.MODELS[name].dims.keys()
        if unknown:
            known = ", ".join(registry.MODELS[name].dims) or "none"
            raise NoCase(f"{name} has no dimension {', '.join(sorted(unknown))}; it has {known}")
        return Case(text, registry.path(name), reference.reference(name, seed, **dims))
    path = Path(name)
    if not path.is_file():
        known = ", ".join(registry.MODELS)
        raise NoCase(f"there is no file {name}, and no test model of that name; there are {known}")
    return Case(text, path.resolve(), reference.run(path.resolve(), _made_up(path, dims, seed)))


def _dimension(text: str, setting: str) -> tuple[str, int]:
    name, _, value = setting.partition("=")
    if not name or not value.isdigit():
        raise NoCase(f"{setting!r} in {text!r} must be DIMENSION=NUMBER")
    return name, int(value)


def _made_up(path: Path, dims: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Seeded inputs of the declared types: normal floats, and 0 or 1 for the rest. Named dimensions are 1 unless given."""
    import onnxruntime

    rng = np.random.default_rng(seed)
    arrays = {}
    for port in onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs():
        shape = [size if isinstance(size, int) else dims.get(size or "", 1) for size in port.shape]
        dtype = np.dtype(_DTYPES[port.type])
        if dtype.kind == "f":
            arrays[port.name] = rng.normal(size=shape).astype(dtype)
        else:
            arrays[port.name] = rng.integers(0, 2, size=shape).astype(dtype)
    return arrays


_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(int16)": "int16", "tensor(uint16)": "uint16",
    "tensor(int32)": "int32", "tensor(uint32)": "uint32", "tensor(int64)": "int64", "tensor(uint64)": "uint64",
}  # fmt: skip
