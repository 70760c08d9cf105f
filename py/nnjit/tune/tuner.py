"""The tuner: measures schedules on this device, in the page, and swaps winners into the running plan.

A *task* is one kernel specification; several units of a plan (the layers of a transformer) usually share it. Tasks are
visited by what they may still gain: the time that their units take, less the longer they have been searched in vain.
Every candidate's output is compared with the incumbent's on the activations of the latest inference before its time
counts at all, and it replaces the incumbent only when it is faster by more than the noise of the samples.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from ..compiler import CompiledPlan
from ..errors import DeviceError
from ..ir import Kernel
from ..lower.chain import Chain
from ..plan import UnitCode
from ..schedule.schedule import Schedule
from ..target import Target
from ..units import Item
from .cost_model import CostModel
from .task import PATIENCE, UNKNOWN_GAIN, Space, Task, Trial, trial_of

BATCH = 4
"""Candidates measured at a time: the language border is crossed once for all of them."""
SAMPLES = 5
TOLERANCE = 1e-4
"""Largest |candidate − incumbent| as a fraction of the largest |incumbent|: sums in another order differ by less than
1e-5 of it even over thousands of terms (error of a float32 sum grows with the square root of its length)."""
CONFIRM_SAMPLES = 11
MIN_GAIN = 0.02
"""A challenger must be faster by this fraction: the spread of repeated samples on a quiet machine."""
MIN_WINS = 0.7
"""Fraction of pairs of neighbouring samples that a challenger must win: on a noisy machine the best time may be luck. It is
given up where it cannot any more (web/runtime/timing.js)."""
MIN_SHARE = 0.01
"""Tasks below this fraction of an inference are not worth a measurement."""
MIN_EXPECTED = 0.002
"""Nor is a task of which a measurement is expected to save less than this fraction of an inference, nor is a swap that
does: packing weights anew keeps an inference waiting."""
GUESSES = 6
"""Tasks that weigh as much as the first guess of what a task gains: where that many gained nothing, half of it is expected."""


class Executor(Protocol):
    """What the tuner asks of the executor (web/runtime/executor.worker.js)."""

    def measure(
        self, plan: int, unit: int, candidates: list[dict], samples: int, tolerance: float, background: bool
    ) -> Awaitable[dict]:
        """{"incumbentMs", "results": [{"status", "ms", "incumbent", "maxError", "compileMs", "message"}]}; `background`:
        give way to inferences."""

    def swap(self, plan: int, replacements: list[tuple[int, dict]]) -> Awaitable[Any]:
        """Replace units between two inferences."""

    def profile(self, plan: int, repeat: int, background: bool) -> Awaitable[list[dict]]:
        """[{"unit", "ms"}]: median time of each unit."""


class Tuner:
    """Tunes one plan. `on_event` hears of every candidate; `run` may be called again, and goes on where it stopped."""

    def __init__(
        self,
        compiled: CompiledPlan,
        plan: int,
        executor: Executor,
        on_event: Callable[[dict], None] | None = None,
        remembered: Mapping[str, dict] | None = None,
        hints: Mapping[str, list[dict]] | None = None,
        model: CostModel | None = None,
        fatal: Collection[str] = (),
    ) -> None:
        self.compiled = compiled
        self.plan = plan
        self.executor = executor
        self.on_event = on_event
        self.model = model or CostModel()
        """What was learned on this device, by other plans too."""
        self.fatal = fatal
        """`task schedule` of what must never be tried."""
        self.tasks: dict[str, Task] = {}
        self.candidates = 0
        self.stopped = False
        self.generation_ms = 0.0
        """Python's time for schedules, lowering and emission, all candidates together."""
        self._spent = 0.0
        """Seconds of `run`, for an estimate of what is left."""
        self._units = list(compiled.units)
        self._profiled = False
        for index, (item, unit) in enumerate(zip(compiled.items, compiled.units, strict=True)):
            if unit.task is None:
                continue
            task = self.tasks.get(unit.task)
            if task is None:
                waiting = [s for s in compiled.scheduler.candidates(item) if s != unit.schedule]
                task = self.tasks[unit.task] = Task(unit.task, unit.label, unit.op, waiting, unit.schedule)
                task.recall((remembered or {}).get(unit.task, {}))
                task.suggest(self._admitted(item, (hints or {}).get(unit.task, ())))
            task.units.append(index)

    def _admitted(self, item: Item, findings: Iterable[dict]) -> list[Schedule]:
        """Those of others' findings that fit the kernel."""
        found = []
        for finding in findings:
            try:
                found.append(self.compiled.scheduler.admit(item, finding["schedule"]))
            except ValueError:
                continue  # Of no use here; the space is searched as ever.
        return found

    @property
    def finished(self) -> bool:
        """Whether nothing is left that is worth measuring."""
        return self._profiled and self._next() is None

    def retarget(self, target: Target) -> None:
        """Search on for a device of which more is known now; what was measured stays."""
        emitted_anew = target.splat_loads != self.compiled.target.splat_loads
        self.compiled.target = target
        self.compiled.scheduler.retarget(target)
        for task in self.tasks.values():
            item = self.compiled.items[task.units[0]]
            tried = {str(t.schedule) for t in task.trials} | task.tried | {str(task.current)}
            first = task.waiting[: task.hints]
            if task.waiting:
                fresh = [s for s in self.compiled.scheduler.candidates(item) if str(s) not in tried]
                task.waiting = list(dict.fromkeys([*first, *fresh]))
            if emitted_anew and (isinstance(item.spec, Chain) or item.spec.contraction is not None):
                # What runs was emitted when less was known: the same schedule is other code now.
                task.waiting.insert(0, task.current)
                task.hints += 1
            task.space = None

    async def run(self, seconds: float, background: bool = False) -> None:
        """Measure for at most `seconds`; returns early when nothing promising is left, or `stopped` is set.

        background   give way to inferences
        """
        begin = time.monotonic()
        deadline = begin + seconds
        if not self._profiled:
            await self._profile(background)
        while not self.stopped and time.monotonic() < deadline:
            task = self._next()
            if task is None:
                break
            before = time.monotonic()
            await self._try_batch(task, deadline, background)
            self._spent += time.monotonic() - before
        self._emit({"event": "paused" if self.stopped else "idle", "secondsLeft": 0.0})

    async def _profile(self, background: bool) -> None:
        for entry in await self.executor.profile(self.plan, 5, background):
            key = self._units[int(entry["unit"])].task
            if key is not None:
                task = self.tasks[key]
                ms = float(entry["ms"])
                task.ms = ms if task.ms is None else min(task.ms, ms)
        for task in self.tasks.values():
            task.first_ms = task.ms
        self._profiled = True

    @property
    def _inference(self) -> float:
        """Milliseconds of all units."""
        return sum((t.ms or 0.0) * len(t.units) for t in self.tasks.values())

    def _next(self) -> Task | None:
        total = self._inference
        least = MIN_EXPECTED * total
        undone = [t for t in self.tasks.values() if not t.done]
        undone = [t for t in undone if (t.ms or 0.0) * len(t.units) > MIN_SHARE * total]
        # Promises change with all that is measured, but little: only the largest are looked at again.
        unknown = self._expected_of_others()
        promises = {t: t.promise(self.model, False, unknown) for t in undone}
        while best := self._most_promising(promises, least):
            promise = best.promise(self.model, True, unknown)
            if promise == promises[best]:
                return best
            promises[best] = promise
        return self._most_promising({t: t.promise(self.model, True, unknown) for t in undone}, least)

    def _expected_of_others(self) -> float:
        """Part of its time that a task of which nothing was measured is expected to gain: what the others have gained."""
        gains = [1 - t.ms / t.first_ms for t in self.tasks.values() if t.trials and t.ms and t.first_ms]
        return (GUESSES * UNKNOWN_GAIN + sum(gains)) / (GUESSES + len(gains))

    @staticmethod
    def _most_promising(promises: Mapping[Task, float], least: float) -> Task | None:
        worth = [t for t, promise in promises.items() if t.hints or promise > least]
        return max(worth, key=lambda t: (t.hints > 0, promises[t]), default=None)

    def _order(self, task: Task) -> None:
        """Those first of which most is expected; hints stay in front."""
        item = self.compiled.items[task.units[0]]
        if task.space is None:
            schedules = self.compiled.scheduler.candidates(item)
            task.space = Space(item.spec, self.compiled.target, schedules, task.default)
        rest = task.waiting[task.hints :]
        if rest:
            gains = dict(zip(rest, task.space.gains(self.model, rest, task.ratio), strict=True))
            task.waiting[task.hints :] = sorted(rest, key=lambda s: -gains[s])

    def _make(self, task: Task, deadline: float) -> list[tuple[Schedule, dict, float]]:
        """The next candidates: (schedule, code, Python's ms). None whose code was measured already."""
        item = self.compiled.items[task.units[0]]
        made: list[tuple[Schedule, dict, float]] = []
        keys: set[str] = set()
        left = task.hints or len(task.waiting)
        while left and len(made) < BATCH and time.monotonic() < deadline:
            left -= 1
            (schedule,) = task.take(1)
            if f"{task.key} {schedule}" in self.fatal:
                continue
            begin = time.perf_counter()
            try:
                unit = self.compiled.scheduler.unit(item, schedule)
                code = self.compiled.scheduler.candidate(unit)
            except ValueError as error:
                self._record(task, Trial(schedule, "refused", message=str(error)), deadline)
                continue
            finally:
                spent = (time.perf_counter() - begin) * 1e3
                self.generation_ms += spent
            key = code_key(code)
            twin = task.codes.get(key)
            if twin is not None or key in keys:
                same = twin.schedule if twin else next(s for s, c, _ in made if code_key(c) == key)
                trial = Trial(schedule, "same", twin.ms if twin else None, None, f"the code of {same}")
                self._record(task, trial, deadline)
                continue
            keys.add(key)
            made.append((schedule, code, spent))
        return made

    async def _try_batch(self, task: Task, deadline: float, background: bool) -> None:
        self._order(task)
        made = self._make(task, deadline)
        if not made:
            return
        answer = await self.executor.measure(
            self.plan, task.units[0], [code for _, code, _ in made], SAMPLES, TOLERANCE, background
        )
        best: tuple[Trial, dict] | None = None
        for (schedule, code, spent), result in zip(made, answer["results"], strict=True):
            if task.ms is None and answer.get("incumbentMs"):
                task.ms = task.first_ms = float(answer["incumbentMs"])
            trial = trial_of(schedule, result, task.ms)
            trial.generation_ms, trial.compile_ms = spent, result.get("compileMs")
            task.codes[code_key(code)] = trial
            self._learn(task, trial)
            self._record(task, trial, deadline)
            better = best is None or (trial.ms or 0.0) < (best[0].ms or 0.0)
            if trial.ms is not None and _wins(result) and better:
                best = trial, code
        if best is not None and await self._confirmed(task, *best, background):
            await self._adopt(task, best[0])
        else:
            task.since_gain += len(made)

    def _learn(self, task: Task, trial: Trial) -> None:
        """Let the cost model know, on the scale of the task's default."""
        if trial.ms and task.ms and task.space is not None:
            ratio = task.ratio + math.log(trial.ms / task.ms)
            self.model.learn(task.space.difference(trial.schedule), ratio)

    async def _confirmed(self, task: Task, trial: Trial, code: dict, background: bool) -> bool:
        """Whether the trial is faster than the incumbent by more than the noise, in a second and longer match."""
        if trial.ms is None or not task.ms or trial.ms >= task.ms * (1 - MIN_GAIN):
            return False
        if (task.ms - trial.ms) * len(task.units) < MIN_EXPECTED * self._inference:
            return False
        answer = await self.executor.measure(
            self.plan, task.units[0], [code], CONFIRM_SAMPLES, TOLERANCE, background
        )
        result = answer["results"][0]
        again = trial_of(trial.schedule, result, task.ms)
        pairs = _pairs(result)
        trial.status, trial.message = again.status, again.message
        if again.ms is None:
            trial.ms = None
            return False
        trial.ms = again.ms
        usual = float(np.median([own / other for own, other in pairs])) if pairs else 1.0
        return max(again.ms / task.ms, usual) < 1 - MIN_GAIN and _wins(result)

    async def _adopt(self, task: Task, winner: Trial) -> None:
        begin = time.perf_counter()
        replacements = []
        units: list[tuple[int, UnitCode]] = []
        for index in task.units:
            unit = self.compiled.scheduler.unit(self.compiled.items[index], winner.schedule)
            units.append((index, unit))
            replacements.append((index, self.compiled.scheduler.candidate(unit)))
        self.generation_ms += (time.perf_counter() - begin) * 1e3
        try:
            await self.executor.swap(self.plan, replacements)
        except DeviceError as error:
            winner.status, winner.message, winner.ms = "refused", str(error), None
            return
        for index, unit in units:
            self._units[index] = unit
        if winner.ms and task.ms:
            task.ratio += math.log(winner.ms / task.ms)
        task.current, task.ms, task.since_gain = winner.schedule, winner.ms, 0
        self._emit({"event": "swap", "task": task.key, "label": task.label, "schedule": str(winner.schedule)})

    def _record(self, task: Task, trial: Trial, deadline: float) -> None:
        task.trials.append(trial)
        self.candidates += 1
        self._emit(
            {
                "event": "candidate",
                "task": task.key,
                "label": task.label,
                "candidate": len(task.trials),
                "of": len(task.trials) + len(task.waiting),
                "schedule": str(trial.schedule),
                "ms": trial.ms,
                "best": task.ms,
                "status": trial.status,
                "message": trial.message,
                "secondsLeft": self._seconds_left(deadline),
            }
        )

    def _seconds_left(self, deadline: float) -> float:
        """Until the deadline, or until all that waits is measured, at the speed so far."""
        left = max(0.0, deadline - time.monotonic())
        if self.candidates < BATCH or not self._spent:
            return left
        waiting = sum(min(len(t.waiting), PATIENCE - t.since_gain) for t in self.tasks.values() if not t.done)
        return min(left, waiting * self._spent / self.candidates)

    def _emit(self, event: dict) -> None:
        if self.on_event is not None:
            self.on_event(event)

    # -- reports ------------------------------------------------------------------------------------------------

    def unit(self, index: int) -> UnitCode:
        """The code that unit `index` of the plan runs now."""
        return self._units[index]

    def kernel(self, name: str) -> Kernel | None:
        """The kernel of that name that the plan runs now, at load or at each inference."""
        steps = (step for unit in self._units for step in (*unit.init, *unit.steps))
        return next((step.kernel for step in steps if step.kernel.name == name), None)

    def schedules(self) -> dict[str, str]:
        """Task → text of the schedule in use: what another plan of the model starts from."""
        return {t.key: str(t.current) for t in self.tasks.values()}

    def records(self) -> dict[str, dict]:
        """Task → what a later visit starts from: schedule, tried ones, whether the search is over."""
        over = self.finished
        return {
            t.key: {**t.record(), "done": over or t.done}
            for t in self.tasks.values()
            if t.trials or t.done or over
        }

    def report(self) -> list[dict]:
        """For each task: what was tried, what runs now, and the gain over the default."""
        return [
            {
                "key": t.key,
                "label": t.label,
                "op": t.op,
                "units": t.units,
                "schedule": str(t.current),
                "default": str(t.default),
                "ms": t.ms,
                "gain": t.first_ms / t.ms if t.first_ms and t.ms else 1.0,
                "waiting": len(t.waiting),
                "candidates": [
                    {
                        "schedule": str(x.schedule), "ms": x.ms, "status": x.status,
                        "error": x.error, "message": x.message, "generationMs": x.generation_ms,
                        "compileMs": x.compile_ms,
                    }
                    for x in t.trials
                ],
            }
            for t in self.tasks.values()
        ]  # fmt: skip


def _pairs(result: Mapping) -> list[tuple[float, float]]:
    """Samples of a candidate and of the incumbent, each two taken in turns."""
    return list(zip(result.get("ms") or [], result.get("incumbent") or [], strict=False))


def _wins(result: Mapping) -> bool:
    """Whether a candidate was faster than the incumbent in enough of their pairs."""
    pairs = _pairs(result)
    return sum(own < other for own, other in pairs) >= MIN_WINS * len(pairs)


def code_key(code: dict) -> str:
    """A digest of a candidate's code, whatever its kernels and its schedule are called."""
    body = json.loads(code["json"])
    names = [kernel["name"] for kernel in body["kernels"]]
    body["unit"]["schedule"] = ""
    content = [json.dumps(body).encode(), *code["blobs"]]
    for number, name in enumerate(names):
        content = [part.replace(name.encode(), b"%d" % number) for part in content]
    return hashlib.sha256(b"\0".join(content)).hexdigest()
