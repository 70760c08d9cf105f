"""Where the time of a compilation goes."""

from __future__ import annotations

import time


class Stopwatch:
    """Milliseconds by stage: each `lap` books the time since the one before."""

    __slots__ = ("stages", "_last")

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What ran since the last call was `stage`; a stage may come again and again."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now


def ms_since(started: float) -> float:
    """Milliseconds since `time.perf_counter()` was `started`."""
    return (time.perf_counter() - started) * 1000
