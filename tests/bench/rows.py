"""Results as rows: plain data for --json, and a table for people. Only what was verified becomes a number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .cases import Case
from .ceilings import Ceilings
from .match import OURS, UNTUNED, Result
from .rivals import Rival

Row = dict[str, Any]


def make_row(case: Case, rival: Rival, results: dict[str, Result]) -> Row:
    """One rival against us on one case. Raises KeyError if the rival did not take part.

    status  "ok", or "failed" with `reason`, and then no measurement at all
    ratio   rival's median over ours, of the same match, ours tuned if it was: above 1 we are faster
    gain    median of ours untuned over tuned, of the same match; None without tuning
    our_…   device_ms: of a call, what the executor took; kernel_ms: of that, the kernels, by the profile
    """
    row: Row = {
        "model": case.title,
        "rival": rival.name,
        "rival_version": rival.version,
        "rival_import": rival.entry,
    }
    ours, theirs, untuned = results[OURS], results[rival.name], results.get(UNTUNED)
    taking_part = ((OURS, ours), (UNTUNED, untuned), (rival.name, theirs))
    problems = [f"{name}: {one.problem}" for name, one in taking_part if one and one.problem]
    if problems:
        return row | {"status": "failed", "reason": "; ".join(problems)}
    return row | {
        "status": "ok",
        "our_start_ms": ours.start,
        "our_load_ms": ours.create,
        "our_first_ms": ours.first,
        "our_untuned_ms": (untuned or ours).median(),
        "our_tuned_ms": ours.median() if untuned else None,
        "gain": untuned.median() / ours.median() if untuned else None,
        "our_device_ms": statistics.median(ours.device),
        "our_kernel_ms": _kernel_ms(ours.facts["kernels"]),
        "our_max_error_of_tolerance": ours.error.of_tolerance,
        "our_max_relative_error": ours.error.relative,
        "our_peak_bytes": ours.facts["peakBytes"],
        "our_samples_ms": ours.samples,
        "tune_seconds": ours.tune_seconds,
        "candidates": sum(len(task["candidates"]) for task in ours.facts["tasks"]),
        "rival_start_ms": theirs.start,
        "rival_create_ms": theirs.create,
        "rival_first_ms": theirs.first,
        "rival_median_ms": theirs.median(),
        "rival_max_error_of_tolerance": theirs.error.of_tolerance,
        "rival_max_relative_error": theirs.error.relative,
        "rival_peak_bytes": theirs.facts["peakBytes"],
        "rival_samples_ms": theirs.samples,
        "ratio": theirs.median() / ours.median(),
    }


def _kernel_ms(kernels: list[dict[str, Any]]) -> float | None:
    """What all kernels of one inference take by the profile, without moving inputs and outputs; None if not profiled."""
    times = [kernel["ms"] for kernel in kernels]
    return None if None in times else sum(times)


def add_rates(row: Row, case: Case, ceilings: Ceilings | None) -> Row:
    """The row of a single operator with rates, in GFLOP/s or GB/s, and their share of the ceiling measured in this run.

    Ceilings are the CPU's; on another device they are None, and so are the shares. Our rate is of the kernels' time in
    the profile; the rival's of the whole call, which is all that can be seen of it.
    """
    if row["status"] != "ok":
        return row
    work = case.flops or case.read + case.written
    ceiling = None if ceilings is None else work / ceilings.least_ms(case) / 1e6
    ours = work / (row["our_kernel_ms"] or row["our_device_ms"]) / 1e6
    theirs = work / row["rival_median_ms"] / 1e6
    return row | {
        "unit": "GFLOP/s" if case.flops else "GB/s",
        "ceiling": ceiling,
        "our_rate": ours,
        "our_share": ours / ceiling if ceiling else None,
        "rival_rate": theirs,
        "rival_share": theirs / ceiling if ceiling else None,
    }


def skipped_row(title: str, rival: str, reason: str) -> Row:
    """A row that says why there is nothing to say."""
    return {"model": title, "rival": rival, "status": "skipped", "reason": reason}


def geometric_mean(rows: Sequence[Row], key: str = "ratio") -> float | None:
    """Of the ratios under `key` of the rows that were measured."""
    ratios = [row[key] for row in rows if row["status"] == "ok"]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


@dataclass(frozen=True)
class Column:
    """A column of numbers: whose, called what, the row's key, and how its values are printed."""

    owner: str
    name: str
    key: str
    show: Callable[[Any], str]


def ms(value: float) -> str:
    """Milliseconds in three digits."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.0f}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


MODEL_COLUMNS = (
    Column("ours", "load", "our_load_ms", ms),
    Column("", "first", "our_first_ms", ms),
    Column("", "untuned", "our_untuned_ms", ms),
    Column("", "tuned", "our_tuned_ms", ms),
    Column("", "device", "our_device_ms", ms),
    Column("rival", "create", "rival_create_ms", ms),
    Column("", "first", "rival_first_ms", ms),
    Column("", "median", "rival_median_ms", ms),
    Column("", "ratio", "ratio", "{:.2f}".format),
    Column("ours", "err/tol", "our_max_error_of_tolerance", "{:.2f}".format),
    Column("", "tune s", "tune_seconds", "{:.1f}".format),
    Column("", "cand.", "candidates", str),
    Column("", "MB", "our_peak_bytes", _megabytes),
    Column("rival", "MB", "rival_peak_bytes", _megabytes),
)
KERNEL_COLUMNS = (
    Column("ours", "untuned", "our_untuned_ms", ms),
    Column("", "tuned", "our_tuned_ms", ms),
    Column("", "device", "our_device_ms", ms),
    Column("", "kernel", "our_kernel_ms", ms),
    Column("", "G/s", "our_rate", "{:.1f}".format),
    Column("", "ceiling", "our_share", _percent),
    Column("rival", "median", "rival_median_ms", ms),
    Column("", "G/s", "rival_rate", "{:.1f}".format),
    Column("", "ceiling", "rival_share", _percent),
    Column("", "ratio", "ratio", "{:.2f}".format),
    Column("ours", "err/tol", "our_max_error_of_tolerance", "{:.2f}".format),
    Column("", "cand.", "candidates", str),
)
_WIDTH = 9
_NAME = 8


def heading(columns: Sequence[Column], title_width: int, second: str = "rival", width: int = _NAME) -> str:
    """The table's two head lines: whose the columns are, and what they hold. `second` heads the names after the title."""
    owners = "".join(f"{column.owner:>{_WIDTH}}" for column in columns)
    names = "".join(f"{column.name:>{_WIDTH}}" for column in columns)
    return f"{'':{title_width}} {'':{width}}{owners}\n{'':{title_width}} {second:{width}}{names}"


def line(
    columns: Sequence[Column], row: Row, title_width: int, second: str = "rival", width: int = _NAME
) -> str:
    """A row of the table; `second` is the key of the name that follows the title, in `width` characters."""
    start = f"{row['model']:{title_width}} {row.get(second, ''):{width}}"
    if row["status"] != "ok":
        return f"{start} {row['status'].upper()}: {row['reason']}"
    return start + "".join(f"{_cell(column, row.get(column.key)):>{_WIDTH}}" for column in columns)


def _cell(column: Column, value: Any) -> str:
    return "–" if value is None else column.show(value)
