"""The tuner: measures schedules on this device, in the page, and swaps winners into the running plan.

A *task* is one kernel specification; several units of a plan (the layers of a transformer) usually share it. Tasks are
visited by what they may still gain: the time that their units take, less the longer they have been searched in vain.
Every candidate's output is compared with the incumbent's on the activations of the latest inference before its time
counts at all, and it replaces the incumbent only when it is faster by more than the noise of the samples.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from ..compiler import CompiledPlan
from ..errors import DeviceError
from ..ir import Kernel
from ..plan import Item, UnitCode, candidate
from ..schedule.schedule import Schedule

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
"""Fraction of pairs of neighbouring samples that a challenger must win: on a noisy machine the best time may be luck."""
MIN_SHARE = 0.005
"""Tasks below this fraction of an inference are not worth a measurement."""
PATIENCE = 16
"""Candidates in a row without a new best after which a task is left alone."""


class Executor(Protocol):
    """What the tuner asks of the executor (web/runtime/executor.worker.js)."""

    def measure(
        self, plan: int, unit: int, candidates: list[dict], samples: int, tolerance: float
    ) -> Awaitable[dict]:
        """{"incumbentMs", "results": [{"status", "ms", "incumbent", "incumbentMs", "maxError", "message"}]}"""

    def swap(self, plan: int, replacements: list[tuple[int, dict]]) -> Awaitable[Any]:
        """Replace units between two inferences."""

    def profile(self, plan: int, repeat: int) -> Awaitable[list[dict]]:
        """[{"unit", "ms"}]: median time of each unit."""


class Trial:
    """One measured candidate."""

    __slots__ = ("schedule", "status", "ms", "error", "message")

    def __init__(
        self, schedule: Schedule, status: str, ms: float | None, error: float | None, message: str
    ) -> None:
        self.schedule = schedule
        self.status = status
        self.ms = ms
        self.error = error
        self.message = message


class Task:
    """A kernel specification with its schedules, the units that use it, and what was measured."""

    __slots__ = (
        "key", "label", "op", "units", "waiting", "hints", "tried", "trials", "default", "current", "ms", "first_ms",
        "since_gain",
    )  # fmt: skip

    def __init__(self, key: str, label: str, op: str, waiting: list[Schedule], current: Schedule) -> None:
        self.key = key
        self.label = label
        self.op = op
        self.units: list[int] = []
        self.waiting = waiting
        self.hints = 0
        """How many of the first ones that wait were good elsewhere."""
        self.tried: set[str] = set()
        """Texts of what earlier visits measured."""
        self.trials: list[Trial] = []
        self.default = current
        """What ran before anything was measured in this visit."""
        self.current = current
        self.ms: float | None = None
        """Time of one unit with the current schedule."""
        self.first_ms: float | None = None
        self.since_gain = 0

    def recall(self, record: Mapping) -> None:
        """Do not measure again what an earlier visit has: `record` is that of `records`."""
        if record.get("schedule") != str(self.current):
            return
        self.tried = set(record.get("tried", ()))
        self.waiting = [] if record.get("done") else [s for s in self.waiting if str(s) not in self.tried]

    def suggest(self, hints: Iterable[Schedule]) -> None:
        """Try `hints` before all others, but for those that an earlier visit has tried."""
        new = [s for s in dict.fromkeys(hints) if s != self.current and str(s) not in self.tried]
        self.waiting = [*new, *(s for s in self.waiting if s not in new)]
        self.hints = len(new)

    def take(self, count: int) -> list[Schedule]:
        """The next schedules to measure; hints among themselves."""
        count = min(count, self.hints or count)
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.hints = max(0, self.hints - count)
        return taken

    def record(self) -> dict:
        """What a later visit needs to know."""
        return {
            "schedule": str(self.current),
            "ms": self.ms,
            "default": self.first_ms,
            "done": self.done,
            "tried": sorted(self.tried | {str(t.schedule) for t in self.trials if t.status != "error"}),
        }

    @property
    def done(self) -> bool:
        return not self.waiting or self.since_gain >= PATIENCE

    def promise(self) -> float:
        """Milliseconds of an inference that are still worth searching."""
        return (self.ms or 0.0) * len(self.units) / (1 + 0.25 * self.since_gain)


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
    ) -> None:
        self.compiled = compiled
        self.plan = plan
        self.executor = executor
        self.on_event = on_event
        self.tasks: dict[str, Task] = {}
        self.candidates = 0
        self.stopped = False
        self.generation_ms = 0.0
        """Python's time for schedules, lowering and emission, all candidates together."""
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

    async def run(self, seconds: float) -> None:
        """Measure for at most `seconds`; returns early when nothing promising is left, or `stopped` is set."""
        deadline = time.monotonic() + seconds
        if not self._profiled:
            await self._profile()
        while not self.stopped and time.monotonic() < deadline:
            task = self._next()
            if task is None:
                break
            await self._try_batch(task, deadline)
        self._emit({"event": "idle", "secondsLeft": 0.0})

    async def _profile(self) -> None:
        for entry in await self.executor.profile(self.plan, 5):
            key = self._units[int(entry["unit"])].task
            if key is not None:
                task = self.tasks[key]
                ms = float(entry["ms"])
                task.ms = ms if task.ms is None else min(task.ms, ms)
        for task in self.tasks.values():
            task.first_ms = task.ms
        self._profiled = True

    def _next(self) -> Task | None:
        total = sum((t.ms or 0.0) * len(t.units) for t in self.tasks.values())
        open_tasks = [t for t in self.tasks.values() if not t.done and t.promise() > MIN_SHARE * total]
        return max(open_tasks, key=lambda t: (t.hints > 0, t.promise()), default=None)

    async def _try_batch(self, task: Task, deadline: float) -> None:
        schedules = task.take(BATCH)
        item = self.compiled.items[task.units[0]]
        begin = time.perf_counter()
        made: list[tuple[Schedule, dict]] = []
        for schedule in schedules:
            try:
                unit = self.compiled.scheduler.unit(item, schedule)
                made.append((schedule, candidate(unit, self.compiled.target)))
            except ValueError as error:
                self._record(task, Trial(schedule, "refused", None, None, str(error)), deadline)
        self.generation_ms += (time.perf_counter() - begin) * 1e3
        if not made:
            return
        answer = await self.executor.measure(
            self.plan, task.units[0], [c for _, c in made], SAMPLES, TOLERANCE
        )
        best: tuple[Trial, dict] | None = None
        for (schedule, code), result in zip(made, answer["results"], strict=True):
            if task.ms is None and answer.get("incumbentMs"):
                task.ms = task.first_ms = float(answer["incumbentMs"])
            trial = _trial(schedule, result, task.ms)
            self._record(task, trial, deadline)
            if trial.ms is not None and (best is None or trial.ms < (best[0].ms or 0.0)):
                best = trial, code
        if best is not None and await self._confirmed(task, *best):
            await self._adopt(task, best[0])
        else:
            task.since_gain += len(made)

    async def _confirmed(self, task: Task, trial: Trial, code: dict) -> bool:
        """Whether the trial is faster than the incumbent by more than the noise, in a second and longer match."""
        if trial.ms is None or not task.ms or trial.ms >= task.ms * (1 - MIN_GAIN):
            return False
        answer = await self.executor.measure(self.plan, task.units[0], [code], CONFIRM_SAMPLES, TOLERANCE)
        result = answer["results"][0]
        again = _trial(trial.schedule, result, task.ms)
        pairs = list(zip(result.get("ms") or [], result.get("incumbent") or [], strict=False))
        wins = sum(own < other for own, other in pairs)
        trial.status, trial.message = again.status, again.message
        if again.ms is None:
            trial.ms = None
            return False
        trial.ms = again.ms
        return again.ms < task.ms * (1 - MIN_GAIN) and wins >= MIN_WINS * len(pairs)

    async def _adopt(self, task: Task, winner: Trial) -> None:
        begin = time.perf_counter()
        replacements = []
        units: list[tuple[int, UnitCode]] = []
        for index in task.units:
            unit = self.compiled.scheduler.unit(self.compiled.items[index], winner.schedule)
            units.append((index, unit))
            replacements.append((index, candidate(unit, self.compiled.target)))
        self.generation_ms += (time.perf_counter() - begin) * 1e3
        try:
            await self.executor.swap(self.plan, replacements)
        except DeviceError as error:
            winner.status, winner.message, winner.ms = "refused", str(error), None
            return
        for index, unit in units:
            self._units[index] = unit
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
                "secondsLeft": max(0.0, deadline - time.monotonic()),
            }
        )

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
        return {t.key: t.record() for t in self.tasks.values() if t.trials or t.done}

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
                        "error": x.error, "message": x.message,
                    }
                    for x in t.trials
                ],
            }
            for t in self.tasks.values()
        ]  # fmt: skip


def _trial(schedule: Schedule, result: dict, incumbent_ms: float | None) -> Trial:
    """The trial that a measurement is, its time on the scale of `incumbent_ms`.

    The two were sampled in turns, and noise only ever adds time, so the least samples are what is compared.
    """
    status = str(result["status"])
    samples, others = result.get("ms") or [], result.get("incumbent") or []
    ms = None
    if status == "ok" and samples:
        ms = float(min(samples))
        if others and min(others) > 0 and incumbent_ms:
            ms *= incumbent_ms / float(min(others))
    error = result.get("maxError")
    return Trial(
        schedule, status, ms, None if error is None else float(error), str(result.get("message") or "")
    )
