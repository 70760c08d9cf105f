"""The tuner against an executor whose times are made up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from unit.plan_interpreter import RELAXED, Model
from unit.tensor_programs import attention, matmul, relu

from nnjit.compiler import CompiledPlan
from nnjit.errors import DeviceError
from nnjit.schedule.schedule import parse
from nnjit.target import Hardware
from nnjit.tune.tuner import MIN_GAIN, SAMPLES, Tuner, code_key


def finish(work: Coroutine) -> None:
    """Run a coroutine to its end, in a thread of its own: a browser's event loop may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def layers(count: int = 3, width: int = 16) -> CompiledPlan:
    """A plan of equal matmuls, one after the other."""
    m = Model()
    x = m.input(12, width)
    for _ in range(count):
        x = m.b.elementwise(relu, matmul(m, x, m.weight(width, width)))
    return m.compile([x])


class FakeExecutor:
    """`time_of` gives the milliseconds of a schedule's text, or the status of a candidate that fails."""

    def __init__(self, compiled: CompiledPlan, time_of: Callable[[str], float | str]) -> None:
        self.compiled = compiled
        self.time_of = time_of
        self.running = [str(u.schedule) for u in compiled.units]
        self.measured: list[str] = []
        self.confirmed: list[str] = []
        self.refuses_swaps = False
        self.time_again = time_of
        self.on_measure: Callable[[], None] = lambda: None

    async def profile(self, plan: int, repeat: int, background: bool = False) -> list[dict]:
        return [{"unit": n, "ms": self.ms(n)} for n in range(len(self.running))]

    def ms(self, unit: int) -> float:
        ms = self.time_of(self.running[unit])
        assert isinstance(ms, float)
        return ms

    async def measure(
        self,
        plan: int,
        unit: int,
        candidates: list[dict],
        samples: int,
        tolerance: float,
        background: bool = False,
    ) -> dict[str, Any]:
        self.on_measure()
        results = []
        incumbent = [self.ms(unit)] * samples
        for candidate in candidates:
            text = json.loads(candidate["json"])["unit"]["schedule"]
            (self.measured if samples == SAMPLES else self.confirmed).append(text)
            ms = self.time_of(text) if samples == SAMPLES else self.time_again(text)
            if isinstance(ms, str):
                # A candidate's time says nothing once its result is wrong.
                results.append({"status": ms, "ms": [1e-6] * samples, "maxError": 1.0, "message": ms})
            else:
                results.append(
                    {
                        "status": "ok",
                        "ms": [ms] * samples,
                        "incumbent": incumbent,
                        "maxError": 0.0,
                        "message": "",
                    }
                )
        return {"incumbentMs": self.ms(unit), "results": results}

    async def swap(self, plan: int, replacements: list[tuple[int, dict]]) -> None:
        if self.refuses_swaps:
            raise DeviceError("no memory left")
        for unit, candidate in replacements:
            self.running[unit] = json.loads(candidate["json"])["unit"]["schedule"]


def tune(compiled: CompiledPlan, executor: FakeExecutor, **events: Any) -> Tuner:
    tuner = Tuner(compiled, 0, executor, **events)
    finish(tuner.run(60.0))
    return tuner


def choices(compiled: CompiledPlan) -> list[str]:
    return [str(s) for s in compiled.scheduler.candidates(compiled.items[0])]


def test_attention_is_tuned_like_any_kernel() -> None:
    m = Model()
    compiled = m.compile([attention(m, 2, 24, 40, 8)], RELAXED)
    executor = FakeExecutor(compiled, lambda s: 1.0)
    assert tune(compiled, executor).finished
    assert any("key=" in text for text in executor.measured)


def test_equal_layers_are_one_task() -> None:
    compiled = layers()
    tuner = Tuner(compiled, 0, FakeExecutor(compiled, lambda s: 1.0))
    assert [t.units for t in tuner.tasks.values()] == [[0, 1, 2]]


def test_the_fastest_schedule_is_adopted_by_every_unit_of_its_task() -> None:
    compiled = layers()
    best = choices(compiled)[5]
    executor = FakeExecutor(compiled, lambda s: 1.0 if s == best else 2.0)
    tuner = tune(compiled, executor)
    assert executor.running == [best] * 3
    assert list(tuner.schedules().values()) == [best]
    assert tuner.report()[0]["gain"] == pytest.approx(2.0)
    assert str(tuner.unit(2).schedule) == best


@pytest.mark.parametrize("status", ["wrong", "trap", "invalid", "failed"])
def test_a_candidate_that_is_not_ok_is_never_adopted(status: str) -> None:
    compiled = layers()
    default = choices(compiled)[0]
    executor = FakeExecutor(compiled, lambda s: 2.0 if s == default else status)
    tuner = tune(compiled, executor)
    assert executor.measured and executor.running == [default] * 3
    assert {c["status"] for c in tuner.report()[0]["candidates"]} == {status}


def test_a_gain_within_the_noise_changes_nothing() -> None:
    compiled = layers()
    default = choices(compiled)[0]
    executor = FakeExecutor(compiled, lambda s: 2.0 if s == default else 2.0 * (1 - MIN_GAIN / 2))
    tune(compiled, executor)
    assert executor.running == [default] * 3


def test_a_gain_that_no_inference_would_notice_is_not_worth_a_swap() -> None:
    m = Model()
    small = matmul(m, m.input(12, 16), m.weight(16, 16))
    large = matmul(m, m.input(12, 24), m.weight(24, 24))
    compiled = m.compile([small, large])
    hint = choices(compiled)[3]
    key = compiled.units[0].task
    executor = FakeExecutor(compiled, lambda s: 0.95 if s == hint else 1.0)
    executor.ms = lambda unit: 50.0 if unit else executor.time_of(executor.running[0])  # type: ignore[method-assign, assign, return-value]
    tuner = Tuner(compiled, 0, executor, hints={key: [{"schedule": hint}]})
    executor.on_measure = lambda: setattr(tuner, "stopped", True)
    finish(tuner.run(60.0))
    assert executor.measured == [hint] and executor.running[0] != hint


def test_a_gain_that_a_second_match_does_not_show_changes_nothing() -> None:
    compiled = layers()
    default = choices(compiled)[0]
    executor = FakeExecutor(compiled, lambda s: 2.0 if s == default else 1.0)
    executor.time_again = lambda s: 2.0
    tuner = tune(compiled, executor)
    assert executor.confirmed and executor.running == [default] * 3
    assert list(tuner.schedules().values()) == [default]


def test_a_candidate_that_fails_in_the_second_match_is_not_adopted() -> None:
    compiled = layers()
    default = choices(compiled)[0]
    executor = FakeExecutor(compiled, lambda s: 2.0 if s == default else 1.0)
    executor.time_again = lambda s: "wrong"
    tune(compiled, executor)
    assert executor.confirmed and executor.running == [default] * 3


def test_no_candidate_is_searched_twice_and_tuning_ends_by_itself() -> None:
    compiled = layers()
    executor = FakeExecutor(compiled, lambda s: 1.0)
    tuner = tune(compiled, executor)
    assert tuner.finished
    assert len(executor.measured) == len(set(executor.measured)) == tuner.candidates
    assert set(executor.measured) <= set(choices(compiled)[1:])


def test_a_tuner_that_is_stopped_goes_on_where_it_was() -> None:
    compiled = layers()
    undisturbed = FakeExecutor(compiled, lambda s: 2.0)
    tune(compiled, undisturbed)
    best = undisturbed.measured[9]
    executor = FakeExecutor(compiled, lambda s: 1.0 if s == best else 2.0)
    events: list[dict] = []
    tuner = Tuner(compiled, 0, executor, events.append)

    def stop() -> None:
        tuner.stopped = True

    executor.on_measure = stop
    finish(tuner.run(60.0))
    first = list(executor.measured)
    assert first and best not in first and not tuner.finished and events[-1]["event"] == "paused"
    executor.on_measure = lambda: None
    tuner.stopped = False
    finish(tuner.run(60.0))
    assert executor.running == [best] * 3 and events[-1]["event"] == "idle"
    assert len(executor.measured) == len(set(executor.measured))


def test_no_time_means_no_measurement() -> None:
    compiled = layers()
    executor = FakeExecutor(compiled, lambda s: 1.0)
    finish(Tuner(compiled, 0, executor).run(0.0))
    assert not executor.measured


def test_a_swap_that_the_device_refuses_leaves_the_plan_as_it_was() -> None:
    compiled = layers()
    default, best = choices(compiled)[:2]
    executor = FakeExecutor(compiled, lambda s: 1.0 if s == best else 2.0)
    executor.refuses_swaps = True
    tuner = tune(compiled, executor)
    assert executor.running == [default] * 3
    assert list(tuner.schedules().values()) == [default]
    assert "refused" in {c["status"] for c in tuner.report()[0]["candidates"]}


def test_the_task_that_costs_most_is_tried_first() -> None:
    m = Model()
    small = matmul(m, m.input(12, 16), m.weight(16, 16))
    large = matmul(m, m.input(12, 24), m.weight(24, 24))
    compiled = m.compile([small, large])
    costs = {0: 1.0, 1: 9.0}
    executor = FakeExecutor(compiled, lambda s: 1.0)
    seen: list[int] = []

    async def profile(plan: int, repeat: int, background: bool) -> list[dict]:
        return [{"unit": n, "ms": ms} for n, ms in costs.items()]

    async def measure(
        plan: int, unit: int, candidates: list[dict], samples: int, tolerance: float, background: bool
    ) -> dict:
        seen.append(unit)
        ok = {"status": "ok", "ms": [costs[unit]], "maxError": 0.0, "message": ""}
        return {"incumbentMs": costs[unit], "results": [ok] * len(candidates)}

    executor.profile, executor.measure = profile, measure  # type: ignore[method-assign]
    tune(compiled, executor)
    assert seen[0] == 1


def test_small_tasks_are_tried_only_while_tasks_gain_something() -> None:
    m = Model()
    x = m.input(12, 16)
    for width in range(16, 64, 2):
        x = m.b.elementwise(relu, matmul(m, x, m.weight(x.shape[1], width)))
    compiled = m.compile([x])

    def visited(gain: float) -> int:
        defaults = {str(u.schedule) for u in compiled.units}
        executor = FakeExecutor(compiled, lambda s: 1.0 if s in defaults else 1 / gain)
        tuner = tune(compiled, executor)
        assert tuner.finished
        return sum(bool(t["candidates"]) for t in tuner.report())

    assert visited(0.5) < visited(2.0) == len(compiled.units) == 24


def test_every_candidate_and_swap_is_told() -> None:
    compiled = layers()
    best = choices(compiled)[2]
    executor = FakeExecutor(compiled, lambda s: 1.0 if s == best else 2.0)
    events: list[dict] = []
    tuner = tune(compiled, executor, on_event=events.append)
    kinds = [e["event"] for e in events]
    assert kinds.count("candidate") == tuner.candidates
    assert [e["schedule"] for e in events if e["event"] == "swap"] == [best]
    assert kinds[-1] == "idle"


def test_schedules_found_earlier_are_where_a_later_plan_starts() -> None:
    compiled = layers()
    best = choices(compiled)[4]
    tuner = tune(compiled, FakeExecutor(compiled, lambda s: 1.0 if s == best else 2.0))
    m = Model()
    x = m.input(12, 16)
    again = m.compile([m.b.elementwise(relu, matmul(m, x, m.weight(16, 16)))], schedules=tuner.schedules())
    assert str(again.units[0].schedule) == best


# What others found


OUTSIDE = "tile o0=2 o1=4; vector o1; unroll 2"


def hints(compiled: CompiledPlan, *texts: str) -> dict[str, list[dict]]:
    key = compiled.units[0].task
    assert key is not None
    return {key: [{"schedule": text, "ms": 0.1} for text in texts]}


def test_hints_are_tried_first_and_adopted_once_they_have_won() -> None:
    compiled = layers()
    assert OUTSIDE not in choices(compiled)
    last = choices(compiled)[-1]
    executor = FakeExecutor(compiled, lambda s: 1.0 if s == OUTSIDE else 2.0)
    tuner = Tuner(compiled, 0, executor, hints=hints(compiled, last, OUTSIDE))
    assert executor.running == [choices(compiled)[0]] * 3
    finish(tuner.run(60.0))
    assert executor.measured[:2] == [last, OUTSIDE]
    assert executor.running == [OUTSIDE] * 3


@pytest.mark.parametrize("status", ["wrong", "trap", "endless"])
def test_a_hint_that_is_not_ok_here_is_not_adopted(status: str) -> None:
    compiled = layers()
    default = choices(compiled)[0]
    executor = FakeExecutor(compiled, lambda s: status if s == OUTSIDE else 2.0)
    tune(compiled, executor, hints=hints(compiled, OUTSIDE))
    assert executor.measured[0] == OUTSIDE
    assert executor.running == [default] * 3


def test_hints_that_do_not_fit_the_kernel_are_passed_over() -> None:
    compiled = layers()
    executor = FakeExecutor(compiled, lambda s: 2.0)
    tune(compiled, executor, hints=hints(compiled, "tile q9=4", "order o0", "group 8", OUTSIDE))
    assert executor.measured[0] == OUTSIDE


def test_tasks_with_hints_come_before_those_that_cost_more() -> None:
    m = Model()
    first = matmul(m, m.input(12, 24), m.weight(24, 24))
    second = matmul(m, m.input(12, 16), m.weight(16, 16))
    compiled = m.compile([first, second])
    executor = FakeExecutor(compiled, lambda s: 1.0)
    key = compiled.units[1].task
    assert key is not None
    events: list[dict] = []
    tune(compiled, executor, hints={key: [{"schedule": OUTSIDE, "ms": 0.1}]}, on_event=events.append)
    assert (events[0]["task"], events[0]["schedule"]) == (key, OUTSIDE)


def test_a_later_visit_tries_new_hints_and_nothing_else_again() -> None:
    compiled = layers()
    tuner = tune(compiled, FakeExecutor(compiled, lambda s: 2.0))
    again = FakeExecutor(compiled, lambda s: 2.0)
    known = choices(compiled)[1]
    tune(compiled, again, remembered=tuner.records(), hints=hints(compiled, known, OUTSIDE))
    assert again.measured == [OUTSIDE]
    third = FakeExecutor(compiled, lambda s: 2.0)
    remembered = tune(compiled, again, remembered=tuner.records(), hints=hints(compiled, OUTSIDE)).records()
    tune(compiled, third, remembered=remembered, hints=hints(compiled, known, OUTSIDE))
    assert third.measured == []


def test_a_remembered_schedule_beyond_the_space_is_where_a_later_plan_starts() -> None:
    compiled = layers()
    key = compiled.units[0].task
    assert key is not None
    for remembered, runs in ((OUTSIDE, OUTSIDE), ("tile q9=4", choices(compiled)[0])):
        m = Model()
        x = m.input(12, 16)
        again = m.compile(
            [m.b.elementwise(relu, matmul(m, x, m.weight(16, 16)))], schedules={key: remembered}
        )
        assert str(again.units[0].schedule) == runs


def test_what_took_the_device_with_it_is_never_tried() -> None:
    compiled = layers()
    deadly = choices(compiled)[1:4]
    key = compiled.units[0].task
    executor = FakeExecutor(compiled, lambda s: 2.0)
    tune(compiled, executor, hints=hints(compiled, deadly[0]), fatal={f"{key} {s}" for s in deadly})
    assert len(executor.measured) > 8
    assert not set(executor.measured) & set(deadly)


# The schedule of tuning


class NoisyExecutor(FakeExecutor):
    """Samples are the true time and, on top, noise that is now and then large; seeded."""

    def __init__(self, compiled: CompiledPlan, time_of: Callable[[str], float | str], seed: int) -> None:
        super().__init__(compiled, time_of)
        self.rng = np.random.default_rng(seed)

    async def measure(self, *args: Any, **options: Any) -> dict[str, Any]:
        answer = await super().measure(*args, **options)
        for result in answer["results"]:
            for key in ("ms", "incumbent"):
                result[key] = [ms * self._noise() for ms in result.get(key, ())]
        return answer

    def _noise(self) -> float:
        return 1 + abs(self.rng.normal(0, 0.03)) + (self.rng.random() < 0.1) * self.rng.random()


def time_by_text(text: str) -> float | str:
    """A time for each schedule, the same in every run; every eighth computes something wrong."""
    digest = int(hashlib.sha256(text.encode()).hexdigest(), 16)
    return "wrong" if digest % 8 == 0 else 1.0 + (digest >> 8) % 100 / 50


@pytest.mark.parametrize("seed", range(5))
def test_on_a_noisy_machine_what_is_adopted_is_right_and_faster_by_far(seed: int) -> None:
    compiled = layers()
    times = {text: time_by_text(text) for text in choices(compiled)}
    default = times[choices(compiled)[0]] = 2.5
    executor = NoisyExecutor(compiled, lambda text: times[text], seed)
    tuner = tune(compiled, executor)
    (schedule,) = tuner.schedules().values()
    found = times[schedule]
    assert isinstance(found, float) and isinstance(default, float)
    measured = [times[text] for text in executor.measured]
    assert found <= 1.1 * min(ms for ms in measured if isinstance(ms, float))
    assert found < 0.6 * default
    assert executor.running == [schedule] * 3


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_changes_nothing(seed: int) -> None:
    compiled = layers()
    executor = NoisyExecutor(compiled, lambda text: 1.0, seed)
    tune(compiled, executor)
    assert executor.running == [choices(compiled)[0]] * 3


def test_what_is_hopeless_by_experience_is_not_measured() -> None:
    compiled = layers()
    default = choices(compiled)[0]
    executor = FakeExecutor(compiled, lambda s: 1.0 if s == default else 1.6)
    tuner = tune(compiled, executor)
    assert tuner.finished and 0 < len(executor.measured) <= 16


def test_schedules_that_come_to_the_same_code_are_measured_once() -> None:
    compiled = layers()
    tuner = Tuner(compiled, 0, FakeExecutor(compiled, lambda s: 1.0))
    (task,) = tuner.tasks.values()
    # A tile of one row is what is there without a tile.
    task.waiting = [parse("tile o1=8; vector o1"), parse("tile o0=1 o1=8; vector o1")]
    task.hints = 2
    finish(tuner.run(60.0))
    assert {str(t.schedule): t.status for t in task.trials} == {
        "tile o1=8; vector o1": "ok",
        "tile o0=1 o1=8; vector o1": "same",
    }
    assert tuner.executor.measured == ["tile o1=8; vector o1"]  # type: ignore[attr-defined]


def test_names_do_not_make_other_code() -> None:
    compiled = layers()
    item = compiled.items[0]
    codes = []
    for text in (
        "tile o0=4 o1=8; vector o1",
        "tile o0=4 o1=8; vector o1; order o0 o1",
        "tile o0=2 o1=8; vector o1",
    ):
        codes.append(code_key(compiled.scheduler.candidate(compiled.scheduler.unit(item, parse(text)))))
    assert codes[0] == codes[1] != codes[2]


def test_more_registers_bring_wider_tiles_to_the_front() -> None:
    compiled = layers(width=64)
    executor = FakeExecutor(compiled, lambda s: 1.0)
    tuner = Tuner(compiled, 0, executor)
    tuner.retarget(compiled.target.measured(Hardware(100.0, ((1, 1.0, 1.0),), vector_registers=29)))
    finish(tuner.run(60.0))
    first = [dict(parse(text).tiles) for text in executor.measured[:8]]
    assert any(tiles.get("o0", 1) * tiles["o1"] >= 64 for tiles in first)


def test_what_runs_is_measured_anew_where_it_would_be_other_code_now() -> None:
    compiled = layers(width=64)
    executor = FakeExecutor(compiled, lambda s: 1.0)
    default = str(compiled.units[0].schedule)
    tuner = Tuner(compiled, 0, executor)
    tuner.retarget(compiled.target.measured(Hardware(100.0, ((1, 1.0, 1.0),), splat_loads=False)))
    finish(tuner.run(60.0))
    assert executor.measured[0] == default and executor.measured.count(default) == 1


def test_background_work_says_so() -> None:
    compiled = layers()
    executor = FakeExecutor(compiled, lambda s: 1.0)
    said: list[bool] = []
    measure, profile = executor.measure, executor.profile

    async def told(*args: Any) -> dict:
        said.append(args[-1])
        return await measure(*args)

    async def told_profile(plan: int, repeat: int, background: bool) -> list[dict]:
        said.append(background)
        return await profile(plan, repeat)

    executor.measure, executor.profile = told, told_profile  # type: ignore[method-assign, assignment]
    finish(Tuner(compiled, 0, executor).run(60.0, background=True))
    assert len(said) > 2 and all(said)


class Uneven(FakeExecutor):
    """`times`: milliseconds of each unit; no candidate is faster."""

    def __init__(self, compiled: CompiledPlan, times: list[float]) -> None:
        super().__init__(compiled, lambda s: 100.0)
        self.times = times

    def ms(self, unit: int) -> float:
        return self.times[unit]


def test_once_a_search_has_ended_a_later_visit_measures_nothing_though_shares_differ() -> None:
    m = Model()
    x = m.b.elementwise(relu, matmul(m, m.input(12, 16), m.weight(16, 16)))
    compiled = m.compile([matmul(m, x, m.weight(16, 24))])
    tuner = tune(compiled, Uneven(compiled, [1.0, 1e-6]))
    assert tuner.finished
    assert [bool(t.trials) for t in tuner.tasks.values()] == [True, False]
    second = Uneven(compiled, [1.0, 1.0])
    records = tuner.records()
    assert tune(compiled, second, remembered=records).finished
    assert not second.measured
    # What was not worth a trial is no finding for others.
    assert [record["ms"] is None for record in records.values()] == [False, True]
