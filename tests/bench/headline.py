"""The headline: how many times faster than each peer, and than our own untuned default, after so many seconds of tuning.

Whole models against the peers that read ONNX, single operators against all; the default takes part in every match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .cases import Case
from .kernels import named_cases
from .match import Arena, Match
from .rivals import Rival
from .rows import Column, geometric_mean, heading, make_row, ms
from .session import BenchSession

SECONDS = 30.0
REPEAT = 9
DEFAULT = (
    "roberta-base@batch=1,sequence=128",
    "t5-small@batch=1,sequence=128,decoder_sequence=32",
    "deit-tiny",
    "resnet-50",
    "mobilenet-v2",
    "llama-mini",
    "llama-mini-q4",
    "matmul-384x768x768",
    "batched-matmul-12x128x64x128",
    "conv-3x3-64-64-56",
    "depthwise-3x3-144-56",
    "softmax-12x128x128",
    "layernorm-384x768",
    "gelu-384x3072",
    "attention-12x128x64",
)
"""One model of each kind and the operators that they are made of: all together in less than nine minutes on two cores."""
_GAIN = "our default"

COLUMNS = (
    Column("ours", "tune s", "tune_seconds", "{:.1f}".format),
    Column("", "cand.", "candidates", str),
    Column("", "untuned", "our_untuned_ms", ms),
    Column("", "tuned", "our_tuned_ms", ms),
    Column("rival", "median", "rival_median_ms", ms),
    Column("", "ratio", "ratio", "{:.2f}".format),
    Column("default", "÷ tuned", "gain", "{:.2f}".format),
)


def headline(session: BenchSession) -> None:
    """A row for each case and peer, then the largest and the mean ratio of each peer."""
    models, operators = named_cases(session.options.models or list(DEFAULT))
    width = max(len(case.title) for case in (*models, *operators))
    print(heading(COLUMNS, width), flush=True)
    if models:
        rivals = session.rivals(COLUMNS, width, models=True)
        for case in models:
            with session.arena(rivals) as arena:
                _play(session, arena, rivals, case, width)
    if operators:
        rivals = session.rivals(COLUMNS, width, models=False)
        with session.arena(rivals) as arena:
            for case in operators:
                _play(session, arena, rivals, case, width)
    print()
    for text in summary(session.rows, session.options.tune):
        print(text)


def _play(session: BenchSession, arena: Arena, rivals: Sequence[Rival], case: Case, width: int) -> None:
    results = Match(arena, case).play(session.options.repeat, session.options.tune)
    for rival in rivals:
        row = make_row(case, rival, results)
        session.add(COLUMNS, row | {"operator": case.operator is not None}, width)


def summary(rows: Sequence[dict[str, Any]], seconds: float) -> list[str]:
    """For each peer, and for models and operators apart: up to how many times faster, and the geometric mean."""
    lines = []
    measured = [row for row in rows if row["status"] == "ok"]
    for operator in (False, True):
        own = [row for row in measured if row["operator"] == operator]
        what = "operators" if operator else "models"
        for name in dict.fromkeys(row["rival"] for row in own):
            lines.append(_line(name, what, [row for row in own if row["rival"] == name], "ratio", seconds))
        gains = {row["model"]: row for row in own if row.get("gain")}
        if gains:
            lines.append(_line(_GAIN, what, list(gains.values()), "gain", seconds))
    return lines


def _line(name: str, what: str, rows: Sequence[dict[str, Any]], key: str, seconds: float) -> str:
    best = max(rows, key=lambda row: row[key])
    mean = geometric_mean(rows, key)
    return (
        f"{what}: up to {best[key]:.2f}× faster than {name} within {seconds:.0f} s ({best['model']}), "
        f"geometric mean of {len(rows)}: {mean:.2f}×"
    )
