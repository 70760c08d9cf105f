"""Latency over time after the first inference, while the model tunes itself in the background.

Two questions: after how many seconds is it as fast as it gets, and how much does tuning slow down the inferences that
go on meanwhile? The second one is answered in windows with tuning on and paused, in turns, so that the kernels that were
swapped in between do not look like the one or the other.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnjit_build import side_environment

from .cases import whole_model
from .match import Match, Result
from .rows import Column, heading, line, ms
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
"""Of the curve, where tuning does not come to its end earlier."""
WITHIN = 1.03
_WINDOWS = 5
_SMOOTH_SECONDS = 1.0
_PLOTTING = ("matplotlib==3.10.8",)

COLUMNS = (
    Column("", "first", "our_first_ms", ms),
    Column("", "start", "start_ms", ms),
    Column("", "final", "final_ms", ms),
    Column("s until", "≤ 1.03×", "seconds_to_final", "{:.1f}".format),
    Column("tuning", "over", "over", lambda over: "yes" if over else "no"),
    Column("", "cand.", "candidates", str),
    Column("median", "tuning", "tuning_ms", ms),
    Column("", "alone", "alone_ms", ms),
    Column("", "ratio", "disturbance", "{:.2f}".format),
)


def curves(session: BenchSession) -> None:
    """A row for each model, and its chart in the folder of --curve."""
    options = session.options
    names = options.models or DEFAULT
    width = max(map(len, names))
    print(heading(COLUMNS, width, ""), flush=True)
    options.curve.mkdir(parents=True, exist_ok=True)
    for name in names:
        row = session.keep(_curve(session, name))
        print(line(COLUMNS, row, width), flush=True)
        if row["status"] == "ok":
            _draw(row, options.curve / f"{name.partition('@')[0]}.svg")


def _curve(session: BenchSession, name: str) -> dict[str, Any]:
    case = whole_model(name)
    with session.arena() as arena:
        match = Match(arena, case)
        ours, taken = match.tuned_in_background(SECONDS)
    row: dict[str, Any] = {"model": name}
    if taken is None:
        return row | {"status": "failed", "reason": ours.problem}
    with session.arena() as arena:  # another page: nothing that the first one tuned is remembered in it
        other, windows = Match(arena, case).disturbed(_WINDOWS)
    if windows is None:
        return row | {"status": "failed", "reason": other.problem}
    final = lower_quartile(taken["final"])
    return row | {
        "status": "ok",
        "our_load_ms": ours.create,
        "our_first_ms": ours.first,
        "start_ms": statistics.median(ms for _, ms in taken["points"][:5]),
        "final_ms": statistics.median(taken["final"]),
        "seconds_to_final": seconds_until(taken["points"], WITHIN * final),
        "over": taken["over"],
        "candidates": _candidates(ours),
        "max_relative_error": ours.error.relative,
        "tuning_ms": statistics.median(ms for pair in windows for ms in pair["tuning"]),
        "alone_ms": statistics.median(ms for pair in windows for ms in pair["alone"]),
        "disturbance": disturbance(windows),
        "points": taken["points"],
        "swaps": [event["at"] for event in taken["events"] if event["status"] == "swapped"],
    }


def _candidates(ours: Result) -> int:
    return sum(len(task["candidates"]) for task in ours.facts["tasks"])


def lower_quartile(times: Sequence[float]) -> float:
    """What inferences take that nothing disturbs: noise and tuning only ever add time."""
    return statistics.quantiles(times, n=4, method="inclusive")[0] if len(times) > 1 else times[0]


def seconds_until(points: Sequence[Sequence[float]], ms: float) -> float | None:
    """When the lower quartile of the last second's inferences (three at least) was first at most `ms`; None: never."""
    for n in range(2, len(points)):
        now = points[n][0]
        recent = [time for at, time in points[: n + 1] if at > now - _SMOOTH_SECONDS]
        if lower_quartile(recent if len(recent) > 2 else [time for _, time in points[n - 2 : n + 1]]) <= ms:
            return now
    return None


def disturbance(windows: Sequence[dict[str, list[float]]]) -> float | None:
    """Median latency while tuning over that right after, the median of all pairs of windows."""
    ratios = [statistics.median(w["tuning"]) / statistics.median(w["alone"]) for w in windows]
    return statistics.median(ratios) if ratios else None


def _draw(row: dict[str, Any], to: Path) -> None:
    """Chart a row as SVG, with matplotlib in an environment of its own."""
    script = Path(__file__).with_name("draw_curve.py")
    python = side_environment.python("plot", _PLOTTING)
    subprocess.run([str(python), str(script), str(to)], input=json.dumps(row), text=True, check=True)
