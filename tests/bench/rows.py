"""Results as rows: plain data for --json, and a table for people. Only what was verified becomes a number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from .browser import OURS, Result
from .cases import Case
from .rivals import Rival

Row = dict[str, Any]


def make_row(case: Case, rival: Rival, results: dict[str, Result]) -> Row:
    """One rival against us on one case. Raises KeyError if the rival did not take part.

    status  "ok", or "failed" with `reason`, and then no measurement at all
    ratio   rival's median over ours, of the same match, ours tuned if it was: above 1 we are faster
    """
    row: Row = {
        "model": case.title,
        "rival": rival.name,
        "rival_version": rival.version,
        "rival_import": rival.entry,
    }
    ours, theirs = results[OURS], results[rival.name]
    problems = [f"{name}: {one.problem}" for name, one in ((OURS, ours), (rival.name, theirs)) if one.problem]
    if problems:
        return row | {"status": "failed", "reason": "; ".join(problems)}
    return row | {
        "status": "ok",
        "our_start_ms": ours.start,
        "our_load_ms": ours.create,
        "our_first_ms": ours.first,
        "our_untuned_ms": statistics.median(ours.untuned),
        "our_tuned_ms": statistics.median(ours.tuned) if ours.tuned else None,
        "our_device_ms": statistics.median(ours.device),
        "our_max_error": ours.error,
        "our_peak_bytes": ours.facts["peakBytes"],
        "our_samples_ms": ours.last,
        "tune_seconds": ours.tune_seconds,
        "candidates": sum(len(task["candidates"]) for task in ours.facts["tasks"]),
        "rival_start_ms": theirs.start,
        "rival_create_ms": theirs.create,
        "rival_first_ms": theirs.first,
        "rival_median_ms": theirs.median(),
        "rival_max_error": theirs.error,
        "rival_peak_bytes": theirs.facts["peakBytes"],
        "rival_samples_ms": theirs.last,
        "ratio": theirs.median() / ours.median(),
    }


def skipped_row(title: str, rival: str, reason: str) -> Row:
    """A row that says why there is nothing to say."""
    return {"model": title, "rival": rival, "status": "skipped", "reason": reason}


def geometric_mean(rows: Sequence[Row]) -> float | None:
    """Of the ratios of the rows that have one."""
    ratios = [row["ratio"] for row in rows if row["status"] == "ok"]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


COLUMNS = {
    "load": "our_load_ms",
    "first": "our_first_ms",
    "untuned": "our_untuned_ms",
    "tuned": "our_tuned_ms",
    "create": "rival_create_ms",
    "first ": "rival_first_ms",
    "median": "rival_median_ms",
    "ratio": "ratio",
    "err/tol": "our_max_error",
    "tune s": "tune_seconds",
    "cand.": "candidates",
    "MB": "our_peak_bytes",
    "MB ": "rival_peak_bytes",
}
_WIDTH = 9


def heading(title_width: int) -> str:
    """The table's two head lines: whose columns, and what they hold; milliseconds unless the head says otherwise."""
    names = "".join(f"{name.strip():>{_WIDTH}}" for name in COLUMNS)
    owners = ["ours", "", "", "", "rival", "", "", "", "ours", "", "", "ours", "rival"]
    groups = "".join(f"{owner:>{_WIDTH}}" for owner in owners)
    return f"{'':{title_width}} {'':8}{groups}\n{'model':{title_width}} {'rival':8}{names}"


def line(row: Row, title_width: int) -> str:
    """A row of the table."""
    start = f"{row['model']:{title_width}} {row['rival']:8}"
    if row["status"] != "ok":
        return f"{start} {row['status'].upper()}  {row['reason']}"
    return start + "".join(_cell(key, row[key]) for key in COLUMNS.values())


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return f"{'–':>{_WIDTH}}"
    if key.endswith("_bytes"):
        return f"{value / 1e6:{_WIDTH}.0f}"
    if key == "candidates":
        return f"{value:{_WIDTH}d}"
    if key in ("ratio", "our_max_error"):
        return f"{value:{_WIDTH}.2f}"
    return f"{value:{_WIDTH}.0f}" if value >= 1000 else f"{value:{_WIDTH}.3g}"
