"""Whole models through tracing and the interpreter against onnxruntime, also for shapes other than the traced ones."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from conformance import DTYPES

from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from nnjit.onnx.tensors import load
from nnjit.ops.trace import InputSpec, check_operators, trace
from nnjit.symbolic import evaluate
from nnjit.tensor.build import Builder
from nnjit.tensor.env import Env
from nnjit.tensor.interpret import interpret
from tests.models import registry

Arrays = dict[str, np.ndarray]

DIMENSIONS: dict[str, list[dict[str, int]]] = {
    "llama-mini-q4": [{"past": 9}, {"past": 17}],
    "magika": [{"batch": 2}, {"batch": 3}],
    "minilm-l6": [{"batch": 2, "sequence": 16}, {"batch": 3, "sequence": 7}],
    "minilm-l6-q8": [{"batch": 2, "sequence": 16}],
    "rapidocr-cls": [{}],
    "rapidocr-cls-q8": [{}],
    "rapidocr-det": [{"height": 64, "width": 96}, {"height": 96, "width": 64}],
    "rapidocr-rec": [{"width": 64}, {"width": 100}],
    "silero-vad": [{}],
    "silero-vad-16k-op15": [{"batch": 2}, {"batch": 3}],
    "silero-vad-16k-sequence": [{}],
    "silero-vad-half": [{}],
    "silero-vad-op18-ifless": [{}],
    "silero-vad-openvino-16k": [{}],
}
"""Model → dimensions to run it with: the first ones are those that it is traced for."""

_STEP = {"rapidocr-cls-q8": 1 / 255}
"""Model → the step of its outputs, where they are quantised: rounding may go another way."""

_HOLDS = {"eq": lambda d: d == 0, "ne": lambda d: d != 0, "ge": lambda d: d >= 0}


def _specs(inputs: Arrays) -> dict[str, InputSpec]:
    return {
        name: InputSpec(
            DTYPES[a.dtype], a.shape, int(a.reshape(-1)[0]) if a.size == 1 and a.dtype.kind in "iub" else None
        )
        for name, a in inputs.items()
    }


def _bind(env: Env, inputs: Arrays) -> dict[str, int]:
    """Values of the symbols for these inputs, whose guards must hold."""
    symbols = {}
    for s in env.symbols:
        kind, name, *axis = s["from"]
        symbols[s["name"]] = int(inputs[name]) if kind == "value" else inputs[name].shape[axis[0]]
    for op, a, b in env._guards:
        assert _HOLDS[op](evaluate(a - b, symbols)), f"{a} {op} {b}"
    return symbols


def test_every_model_of_the_default_set_is_here() -> None:
    assert sorted(DIMENSIONS) == sorted(registry.names(marked=False))


@pytest.mark.parametrize("name", DIMENSIONS)
def test_model_agrees_with_onnxruntime(name: str) -> None:
    data = registry.path(name).read_bytes()
    source = BytesSource(data)
    graph = read_model(source)
    check_operators(graph)
    env = Env()
    outputs = trace(graph, _specs(registry.inputs(name, **DIMENSIONS[name][0])), Builder(env))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for dimensions in DIMENSIONS[name]:
        inputs = registry.inputs(name, **dimensions)
        values = interpret(
            outputs, inputs, _bind(env, inputs), lambda tensor: load(tensor, lambda file: source)
        )
        for value, expected in zip(values, session.run(None, inputs), strict=True):
            assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4 + _STEP.get(name, 0))
