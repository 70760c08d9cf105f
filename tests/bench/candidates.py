"""`build.py bench --candidates`: what one candidate costs before it is measured, by kind of kernel.

The models are loaded and tuned, one after the other, as on any page: Python's part (lowering and emission) under Pyodide, the browser's part
(compiling and instantiating on every thread), each the median over the candidates of a kind.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .cases import Case, whole_model
from .kernels import kernel_cases, kernel_titles
from .match import OURS, Match
from .rows import Row
from .session import BenchSession

_HEADING = f"{'kind':20}{'candidates':>12}{'python':>9}{'90 %':>9}{'browser':>9}{'90 %':>9}"


SECONDS = 6.0
"""Of tuning, for each model."""
SAMPLE = (
    "minilm-l6@batch=1,sequence=128",
    "mobilenet-v2",
    "rapidocr-det",
    "rapidocr-cls-q8",
    "silero-vad",
    "llama-mini-q4",
)
"""Small models that have every kind of kernel between them."""


def candidates(session: BenchSession) -> None:
    """Tune each case for --tune seconds, and print a line for each kind of kernel."""
    generation: dict[str, list[float]] = defaultdict(list)
    compilation: dict[str, list[float]] = defaultdict(list)
    with session.arena() as arena:
        for case in _cases(session.options.models or SAMPLE):
            match = Match(arena, case)
            match.load(OURS)
            match.tune(OURS, session.options.tune)
            problem = match.results[OURS].problem
            if problem:
                session.keep({"status": "failed", "model": case.title, "rival": "", "reason": problem})
                print(f"{case.title}: {problem}", flush=True)
                continue
            for task in arena.call("facts", OURS)["tasks"]:
                collect(task, generation, compilation)
    print(_HEADING)
    for op in sorted(generation):
        print(_line(session.keep(summary(op, generation[op], compilation[op]))), flush=True)
    every = [ms for times in generation.values() for ms in times]
    if every:
        rest = [ms for times in compilation.values() for ms in times]
        print(_line(session.keep(summary("all", every, rest))), flush=True)


def _cases(names: Sequence[str]) -> list[Case]:
    operators = set(kernel_titles())
    return [kernel_cases([name])[0] if name in operators else whole_model(name) for name in names]


def collect(
    task: dict[str, Any], generation: dict[str, list[float]], compilation: dict[str, list[float]]
) -> None:
    """Add the times of a task's candidates to those of its kind."""
    for candidate in task["candidates"]:
        if candidate["generationMs"] is not None and candidate["compileMs"] is not None:
            generation[task["op"]].append(candidate["generationMs"])
            compilation[task["op"]].append(candidate["compileMs"])


def summary(op: str, generation: Sequence[float], compilation: Sequence[float]) -> Row:
    """A row for the candidates of one kind of kernel."""
    return {
        "status": "ok",
        "model": op,
        "rival": "",
        "candidates": len(generation),
        "python_ms": statistics.median(generation),
        "python_ms_90": _high(generation),
        "browser_ms": statistics.median(compilation),
        "browser_ms_90": _high(compilation),
    }


def _high(times: Sequence[float]) -> float:
    """What nine of ten stay below."""
    return sorted(times)[int(0.9 * (len(times) - 1))]


def _line(row: Row) -> str:
    return (
        f"{row['model']:20}{row['candidates']:12d}{row['python_ms']:9.2f}{row['python_ms_90']:9.2f}"
        f"{row['browser_ms']:9.2f}{row['browser_ms_90']:9.2f}"
    )
