"""Latency over time after the first inference, while the model tunes itself in the background.

Two questions: after how many seconds is it as fast as it gets, and how much does tuning slow down the inferences that
go on meanwhile? Both are answered at checkpoints, where tuning pauses and the clock of the curve stops: the model runs in
turns with another one that was loaded beside it and is never tuned, and what counts is the ratio of the two. So a
machine that drifts within the minute makes no model look tuned, or slower.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .cases import whole_model
from .charts import draw
from .match import OURS, Match
from .rows import Column, heading, line, ms, yes_or_no
from .session import BenchSession

DEFAULT = (
    "roberta-base@batch=1,sequence=128",
    "t5-small@batch=1,sequence=128,decoder_sequence=32",
    "gpt2@batch=1,sequence=64",
    "resnet-50",
    "mobilenet-v2",
    "deit-tiny",
    "vit-base",
)
SECONDS = 60.0
"""Of the curve without --tune, where tuning does not come to its end earlier."""
WITHIN = 1.03

Checkpoint = Mapping[str, Any]
"""See background.js."""

COLUMNS = (
    Column("", "first", "our_first_ms", ms),
    Column("in turns", "untuned", "untuned_ms", ms),
    Column("", "tuned", "tuned_ms", ms),
    Column("", "gain", "gain", "{:.2f}".format),
    Column("s until", "≤ 1.03×", "seconds_to_final", "{:.0f}".format),
    Column("tuning", "seconds", "seconds", "{:.0f}".format),
    Column("", "over", "over", yes_or_no),
    Column("", "tasks", "tasks", str),
    Column("", "cand.", "candidates", str),
    Column("", "swaps", "swapped", str),
    Column("while t.", "÷ paused", "disturbance", "{:.2f}".format),
)


def curves(session: BenchSession) -> None:
    """A row for each model, and its chart in the folder of --curve."""
    options = session.options
    names = options.models or DEFAULT
    width = max(map(len, names))
    print(heading(COLUMNS, width, "", 0), flush=True)
    options.curve.mkdir(parents=True, exist_ok=True)
    for name in names:
        row = session.keep(_curve(session, name))
        print(line(COLUMNS, row, width, "", 0), flush=True)
        if row["status"] == "ok":
            draw("curve", row, options.curve / f"{name.partition('@')[0]}.svg")


def _curve(session: BenchSession, name: str) -> dict[str, Any]:
    with session.arena() as arena:
        match = Match(arena, whole_model(name))
        found = match.tuned_in_background(session.options.tune)
    row: dict[str, Any] = {"model": name}
    ours = match.results[OURS]
    if found is None:
        problems = [result.problem for result in match.results.values() if result.problem]
        return row | {"status": "failed", "reason": "; ".join(problems)}
    checkpoints = found["checkpoints"]
    last = checkpoints[-1]
    swaps = [event["at"] for event in found["events"] if event["status"] == "swapped"]
    tried = [task for task in ours.facts["tasks"] if task["candidates"]]
    return row | {
        "status": "ok",
        "our_load_ms": ours.create,
        "our_first_ms": ours.first,
        "untuned_ms": statistics.median(last["untuned"]),
        "tuned_ms": statistics.median(last["own"]),
        "gain": 1 / relative(last),
        "seconds_to_final": seconds_to_final(checkpoints),
        "seconds": last["at"],
        "over": found["over"],
        "tasks": len(tried),
        "candidates": sum(len(task["candidates"]) for task in tried),
        "swapped": len(swaps),
        "max_relative_error": ours.error.relative,
        "disturbance": disturbance(checkpoints),
        "points": found["points"],
        "swaps": swaps,
        "checkpoints": [
            {"at": one["at"], "relative": relative(one), "disturbance": disturbance([one])}
            for one in checkpoints
        ],
    }


def relative(checkpoint: Checkpoint) -> float:
    """Time of an inference over that of the untuned model in the same turn, the median of all turns."""
    pairs = zip(checkpoint["own"], checkpoint["untuned"], strict=True)
    return statistics.median(own / untuned for own, untuned in pairs)


def seconds_to_final(checkpoints: Sequence[Checkpoint]) -> float:
    """Of tuning until the first checkpoint where the model is within 3 % of its speed at the last one; 0: before any."""
    final = WITHIN * relative(checkpoints[-1])
    if final >= 1:
        return 0.0
    return next(one["at"] for one in checkpoints if relative(one) <= final)


def disturbance(checkpoints: Sequence[Checkpoint]) -> float | None:
    """Median latency while tuning over that right after it was paused, the median of all checkpoints."""
    ratios = [statistics.median(one["tuning"]) / statistics.median(one["alone"]) for one in checkpoints]
    return statistics.median(ratios) if ratios else None
