"""A task of the tuner: one kernel specification, its schedules, and what was measured of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..lower.spec import KernelSpec
from ..schedule.schedule import Schedule
from ..target import Target
from .cost_model import Analysis, CostModel, expected_gain

PATIENCE = 16
"""Candidates in a row without a new best after which a task is left alone."""
UNKNOWN_GAIN = 0.1
"""Expected of a task's first candidates, as a part of its time, before anything is known of them."""


class Trial:
    """One measured candidate."""

    __slots__ = ("schedule", "status", "ms", "error", "message", "generation_ms", "compile_ms")

    def __init__(
        self,
        schedule: Schedule,
        status: str,
        ms: float | None = None,
        error: float | None = None,
        message: str = "",
    ) -> None:
        self.schedule = schedule
        self.status = status
        self.ms = ms
        self.error = error
        self.message = message
        self.generation_ms: float | None = None
        """Python's time for lowering and emission."""
        self.compile_ms: float | None = None
        """The browser's time for compiling and instantiating."""


class Task:
    """A kernel specification with its schedules, the units that use it, and what was measured."""

    __slots__ = (
        "key", "label", "op", "units", "waiting", "hints", "tried", "trials", "default", "current", "ms", "first_ms",
        "since_gain", "space", "ratio", "codes", "_gain", "_gain_of",
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
        self.space: Space | None = None
        """Features of the schedules; None until the task is visited."""
        self.ratio = 0.0
        """log(time of the current schedule / the default's)."""
        self.codes: dict[str, Trial] = {}
        """What was measured, by a digest of its code."""
        self._gain = UNKNOWN_GAIN
        """Expected of the best of those that wait, in the state `_gain_of`."""
        self._gain_of: tuple | None = None

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
        """The next schedules to measure; hints among themselves, before the others."""
        count = min(count, self.hints or count)
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.hints = max(0, self.hints - count)
        return taken

    def record(self) -> dict:
        """What was found, for a later visit."""
        tried = self.tried | {str(t.schedule) for t in self.trials if t.status != "error"}
        return {
            "schedule": str(self.current),
            # Of one that was not worth a trial nothing was found.
            "ms": self.ms if tried else None,
            "default": self.first_ms if tried else None,
            "tried": sorted(tried),
        }

    @property
    def done(self) -> bool:
        return not self.waiting or self.since_gain >= PATIENCE

    def promise(self, model: CostModel, anew: bool = True, unknown: float = UNKNOWN_GAIN) -> float:
        """Milliseconds of an inference that the next candidate is expected to save.

        anew      by what the model knows now; False: by what it knew when it was asked the last time, which costs nothing
        unknown   expected of a task before anything is known of its candidates, as a part of its time
        """
        gain = unknown
        if self.space is not None and self.waiting and not self.hints:
            state = (model.count, len(self.waiting), self.ratio)
            if self._gain_of is None or (anew and self._gain_of != state):
                self._gain = max(self.space.gains(model, self.waiting, self.ratio))
                self._gain_of = state
            gain = self._gain
        return (self.ms or 0.0) * len(self.units) * gain / (1 + 0.1 * self.since_gain)


class Space:
    """A task's schedules as the cost model sees them: relative to the default."""

    def __init__(
        self, spec: KernelSpec, target: Target, schedules: list[Schedule], default: Schedule
    ) -> None:
        self._analysis = Analysis(spec, target)
        self._position = {schedule: n for n, schedule in enumerate(schedules)}
        self._default = self._vector(default)
        self._differences: dict[Schedule, np.ndarray] = {}

    def _vector(self, schedule: Schedule) -> np.ndarray:
        # One from elsewhere is as good a guess as the first one.
        return self._analysis.features(schedule, self._position.get(schedule, 0), len(self._position))

    def difference(self, schedule: Schedule) -> np.ndarray:
        """Features of the schedule less those of the default."""
        found = self._differences.get(schedule)
        if found is None:
            found = self._differences[schedule] = self._vector(schedule) - self._default
        return found

    def gains(self, model: CostModel, schedules: list[Schedule], best: float) -> list[float]:
        """What each schedule is expected to save over the best so far, as a part of the default's time."""
        means, spreads = model.predict(np.array([self.difference(s) for s in schedules]))
        return [
            expected_gain(float(mean), float(spread), best)
            for mean, spread in zip(means, spreads, strict=True)
        ]


def trial_of(schedule: Schedule, result: dict, incumbent_ms: float | None) -> Trial:
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
