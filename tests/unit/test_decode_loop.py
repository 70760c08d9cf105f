"""A decoder that generates token by token is compiled for the prompt and for the step, not for every length."""

from __future__ import annotations

import json

import numpy as np
from unit.plan_interpreter import RELAXED, Machine

from nnjit.compiler import InputSpec, compile_model
from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from tests.models import registry

DTYPES = {"int64": "i64", "float32": "f32"}


class Guards(Machine):
    """The part of a machine that says which inputs a plan fits: nothing is run."""

    def __init__(self, plan: dict) -> None:
        self.plan = plan


def spec_of(array: np.ndarray) -> InputSpec:
    value = int(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind == "i" else None
    return InputSpec(DTYPES[array.dtype.name], array.shape, value)


def test_a_prompt_and_thirty_tokens_take_two_plans() -> None:

    graph = read_model(BytesSource(registry.path("llama-mini-q4").read_bytes()))
    plans: list[Guards] = []
    past, new = 0, 6
    for _ in range(31):
        inputs = registry.inputs("llama-mini-q4", sequence=new, past=past)
        if not any(plan.fits(inputs) is not None for plan in plans):
            compiled = compile_model(graph, {n: spec_of(a) for n, a in inputs.items()}, RELAXED)
            plans.append(Guards(json.loads(compiled.json)))
        past, new = past + new, 1
    assert len(plans) == 2
