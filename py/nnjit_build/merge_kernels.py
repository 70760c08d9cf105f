"""`kernels merge`: kernel files that people contributed become the one that a site ships (nnjit/tune/kernel_file.py).

Findings are taken together by generator, device class and task. Figures measured on the devices are rounded to powers of
two, so that devices of about the same speed fall together. Then, for each task:

1. A time that is off is dropped: where at least QUORUM contributors timed the task, one whose logarithm is further from
   the median than SPREADS robust standard deviations (1.4826 × the median absolute deviation), and more than a factor of
   SLACK.
2. A schedule that only one contributor has is dropped where at least QUORUM agree on another one.
3. The KEPT schedules with most contributors remain, the faster first among equals, with the median of their times and the
   number of contributors.

A contributor is a file: the same content twice is one, and what a file says of counts is not believed. Only the base, the
file that was merged earlier, counts as often as it says. The result does not depend on the order of the files.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from statistics import median

from nnjit.errors import KernelFileError
from nnjit.tune.kernel_file import MAX_COUNT, dump, group_key, parse

from .paths import WEB
from .site import KERNELS

QUORUM = 3
SPREADS = 4.0
SLACK = 2.0
KEPT = 3

Vote = tuple[str, float, float | None, int]
"""Schedule, milliseconds, milliseconds of the default, contributors."""


def run(options: argparse.Namespace) -> int:
    """The command: merge options.files, and options.base where given, into options.out."""
    out: Path = options.out or WEB / "runtime" / KERNELS
    votes: dict[str, tuple[dict, dict[str, list[Vote]]]] = {}
    contents = {path.read_bytes(): path for path in sorted(options.files, reverse=True)}
    sources = [(path, content, False) for content, path in contents.items()]
    if options.base:
        sources.append((options.base, options.base.read_bytes(), True))
    for path, content, counted in sources:
        try:
            refused = collect(content, votes, counted)
        except KernelFileError as error:
            print(f"build.py: {path}: {error}", file=sys.stderr)
            return 1
        for line in refused:
            print(f"{path}: left out: {line}")
    groups, dropped = merge(votes)
    out.write_text(dump(groups), encoding="utf-8")
    for line in dropped:
        print(f"dropped: {line}")
    tasks = sum(len(group["tasks"]) for group in groups)
    print(f"{out}: {tasks} tasks on {len(groups)} kinds of device, from {len(contents)} contributions")
    return 0


def collect(
    content: bytes, votes: dict[str, tuple[dict, dict[str, list[Vote]]]], counted: bool = False
) -> list[str]:
    """Add a file's findings to `votes` (group key → group, task → votes); what was refused.

    Raises KernelFileError. `counted`: believe what the file says of counts.
    """
    parsed = parse(content)
    mine: dict[tuple[str, str], dict[str, Vote]] = {}
    for group in parsed.groups:
        rounded = {"generator": group["generator"], "device": rounded_class(group["device"])}
        key = group_key(rounded)
        votes.setdefault(key, (rounded, {}))
        for task, findings in group["tasks"].items():
            for f in findings:
                count = f.get("count", 1) if counted else 1
                # A file has one vote for a schedule: its best time.
                vote = (f["schedule"], float(f["ms"]), f.get("default"), count)
                known = mine.setdefault((key, task), {}).setdefault(f["schedule"], vote)
                if vote[1] < known[1]:
                    mine[key, task][f["schedule"]] = vote
    for (key, task), chosen in mine.items():
        votes[key][1].setdefault(task, []).extend(chosen.values())
    return parsed.refused


def rounded_class(device: dict) -> dict:
    """The device class with its measured figures rounded to powers of two; exact counts stay."""
    if "measured" not in device:
        return device
    measured = {
        name: value if isinstance(value, int) else 2.0 ** round(math.log2(value))
        for name, value in device["measured"].items()
    }
    return {**device, "measured": measured}


def merge(votes: dict[str, tuple[dict, dict[str, list[Vote]]]]) -> tuple[list[dict], list[str]]:
    """The groups of the merged file, and a line for everything that was dropped."""
    dropped: list[str] = []
    groups = []
    for key in sorted(votes):
        group, tasks = votes[key]
        kept = {task: merge_task(tasks[task], f"{task} on {key}", dropped) for task in sorted(tasks)}
        groups.append({**group, "tasks": {task: findings for task, findings in kept.items() if findings}})
    return [group for group in groups if group["tasks"]], dropped


def merge_task(votes: list[Vote], where: str, dropped: list[str]) -> list[dict]:
    """The findings of one task that remain, best first."""
    votes = sorted(votes, key=lambda v: (v[0], v[1], v[2] or 0.0, v[3]))
    sane = _without_outliers(votes, where, dropped)
    by_schedule: dict[str, list[Vote]] = {}
    for vote in sane:
        by_schedule.setdefault(vote[0], []).append(vote)
    counts = {schedule: sum(v[3] for v in own) for schedule, own in by_schedule.items()}
    agreed = max(counts.values(), default=0)
    merged = []
    for schedule, own in by_schedule.items():
        count = counts[schedule]
        if count == 1 and agreed >= QUORUM:
            dropped.append(f"{where}: {schedule}: one contributor, where {agreed} agree on another")
            continue
        finding: dict = {"schedule": schedule, "ms": _weighted([(v[1], v[3]) for v in own])}
        defaults = [(v[2], v[3]) for v in own if v[2] is not None]
        if defaults:
            finding["default"] = _weighted(defaults)
        merged.append({**finding, "count": min(count, MAX_COUNT)})
    merged.sort(key=lambda f: (-f["count"], f["ms"], f["schedule"]))
    return merged[:KEPT]


def _without_outliers(votes: list[Vote], where: str, dropped: list[str]) -> list[Vote]:
    if sum(v[3] for v in votes) < QUORUM:
        return votes
    logs = [(math.log(v[1]), v[3]) for v in votes]
    middle = _weighted(logs)
    deviation = 1.4826 * _weighted([(abs(x - middle), n) for x, n in logs])
    limit = max(math.log(SLACK), SPREADS * deviation)
    kept = []
    for vote, (x, _) in zip(votes, logs, strict=True):
        if abs(x - middle) <= limit:
            kept.append(vote)
        else:
            dropped.append(f"{where}: {vote[0]}: {vote[1]:g} ms, where the median is {math.exp(middle):.3g}")
    return kept


def _weighted(values: list[tuple[float, int]]) -> float:
    """The median of values that count several times."""
    values = sorted(values)
    total = sum(n for _, n in values)
    if total == len(values):
        return median(x for x, _ in values)
    passed = 0
    for n, (x, count) in enumerate(values):
        passed += count
        if 2 * passed > total:
            return x
        if 2 * passed == total:
            return (x + values[n + 1][0]) / 2
    return values[-1][0]


__all__ = ["collect", "merge", "merge_task", "run"]
