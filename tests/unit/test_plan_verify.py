"""The verifier of plans: a plan that was made is right, and each rule refuses a plan that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from unit.plan_interpreter import WASM, Model
from unit.tensor_programs import matmul

from nnjit.compiler import CompiledPlan
from nnjit.errors import VerificationError
from nnjit.plan_verify import verify_candidate, verify_plan

Plan = dict[str, Any]


@cache
def compiled() -> CompiledPlan:
    """Two products with packed weights, one after the other, of as many rows as the input has."""
    m = Model()
    x = m.input(9, 24, symbolic=[0])
    return m.compile([matmul(m, matmul(m, x, m.weight(24, 16)), m.weight(16, 32))], WASM)


def entry(plan: Plan, kind: str) -> Plan:
    return next(buffer for buffer in plan["buffers"] if buffer["kind"] == kind)


def write_to(kind: str) -> Callable[[Plan], None]:
    """The last unit writes its result into a buffer of that kind."""

    def change(plan: Plan) -> None:
        step = plan["units"][-1]["steps"][-1]
        accesses = [b["access"] for b in plan["kernels"][step["kernel"]]["buffers"]]
        step["buffers"][accesses.index("w")] = [entry(plan, kind)["id"], 0]

    return change


BROKEN: dict[str, tuple[str, Callable[[Plan], object]]] = {
    "buffers of one id": ("two buffers are called", lambda p: p["buffers"].append(p["buffers"][0])),
    "a kind that nobody knows": ("unknown kind", lambda p: entry(p, "temp").update(kind="heap")),
    "content that is not there": ("blob 99 is not there", lambda p: entry(p, "const").update(blob=99)),
    "a module that is not there": ("module 99 is not there", lambda p: p["modules"].append(99)),
    "a kernel that is not there": (
        "kernel 99 is not there",
        lambda p: p["units"][0]["steps"][0].update(kernel=99),
    ),
    "too few buffers for a kernel": (
        "takes 3 buffers, not 2",
        lambda p: p["units"][0]["steps"][0]["buffers"].pop(),
    ),
    "a buffer that is not there": (
        "uses the buffer nowhere",
        lambda p: p["units"][0]["steps"][0]["buffers"].__setitem__(0, ["nowhere", 0]),
    ),
    "a symbol of no plan": (
        "the symbol n,",
        lambda p: p["units"][0]["steps"][0].update(tasks=["add", "n", 1]),
    ),
    "a guard of no plan": ("the symbol n,", lambda p: p["guards"].append(["ge", "n", 1])),
    "units in the wrong order": ("before anything has written it", lambda p: p["units"].reverse()),
    "packing that is left out": (
        "before anything has written it",
        lambda p: next(u for u in p["units"] if u["init"])["init"].clear(),
    ),
    "packing that waits for an inference": (
        "not its to change",
        lambda p: [u["steps"].insert(0, u["init"].pop()) for u in p["units"] if u["init"]],
    ),
    "a result in place of an input": ("not its to change", write_to("input")),
    "a result in place of a packed weight": ("not its to change", write_to("persistent")),
    "an output that nothing writes": ("nothing writes the output", write_to("temp")),
    "an input without a place": (
        "has no buffer of inputs",
        lambda p: p["inputs"][0].update(buffer="nowhere"),
    ),
}


def test_a_plan_that_was_compiled_passes() -> None:
    verify_plan(json.loads(compiled().json), compiled().blobs)


@pytest.mark.parametrize("what", BROKEN)
def test_a_plan_is_refused_for(what: str) -> None:
    message, change = BROKEN[what]
    plan = json.loads(compiled().json)
    change(plan)
    with pytest.raises(VerificationError, match=message):
        verify_plan(plan, compiled().blobs)


def test_a_candidate_brings_the_buffers_and_kernels_that_it_uses() -> None:
    plan, scheduler = json.loads(compiled().json), compiled().scheduler
    item, known = compiled().items[-1], {buffer["id"] for buffer in plan["buffers"]}
    units = (scheduler.unit(item, schedule) for schedule in scheduler.candidates(item))
    made = scheduler.candidate(next(u for u in units if {b["id"] for b in u.buffers} - known))
    candidate = json.loads(made["json"])
    verify_candidate(candidate, plan, made["blobs"])
    candidate["buffers"].clear()
    with pytest.raises(VerificationError, match="is not there"):
        verify_candidate(candidate, plan, made["blobs"])
