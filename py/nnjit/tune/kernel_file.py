"""The kernel file: what tuning found, as JSON that people exchange and that a site ships. Schedules, never code.

    file      {"format": "nnjit-kernels", "version": 1, "groups": [group, ...]}
    group     {"generator": "0.1.0", "device": class, "tasks": {key: [finding, ...], ...}}
    class     {"device": "wasm", "threads": 2, "relaxedSimd": true} or {"device": "webgpu", "vendor": ..., ...}, either with
              "measured": {"flops": 58.0, "bandwidth": 20.1, "registers": 15} where that is known (device_class.py)
    key       20 hexadecimal digits: the digest of a kernel specification and its sizes (Item.task)
    finding   {"schedule": "tile o0=6 o1=8; vector o1", "ms": 0.52, "default": 0.61, "count": 1}; ms: of one run of the kernel
              with it; default: the same with the schedule that is generated first; count: devices on which it won, in a
              file that was merged from several; the last two may be left out

A generator is a version of nnjit: keys and schedules of another one mean other kernels. What is read from a file is
checked to the letter; a record that is wrong is left out, with the reason, and the others are kept. Whether a schedule
fits the kernel of its key shows when a model brings that kernel (schedule/legal.py), and whether it is right and fast
when it has been measured: everything from a file is a hint.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import KernelFileError
from ..schedule.legal import read
from .device_class import check_class

FORMAT = "nnjit-kernels"
VERSION = 1
MAX_CHARACTERS = 16 << 20
MAX_GROUPS = 1000
MAX_TASKS = 20000
MAX_FINDINGS = 16
"""Schedules of one task in one group."""
MAX_MS = 1e6
MAX_COUNT = 10**6

_KEY = re.compile("[0-9a-f]{20}")
_GENERATOR = re.compile(r"[0-9A-Za-z.+-]{1,40}")

Findings = dict[str, list[dict]]
"""Task key → findings."""


class Parsed:
    """What was good in a file, and what was not.

    groups    as in the file, without the records that were refused
    refused   one sentence each: where, and why
    """

    __slots__ = ("groups", "refused")

    def __init__(self, groups: list[dict], refused: list[str]) -> None:
        self.groups = groups
        self.refused = refused

    @property
    def count(self) -> int:
        """Findings in all groups."""
        return sum(len(found) for g in self.groups for found in g["tasks"].values())


def parse(content: str | bytes) -> Parsed:
    """Read a kernel file. Raises KernelFileError where it is none, or of another version, or too large."""
    if len(content) > MAX_CHARACTERS:
        raise KernelFileError(
            f"The kernel file has {len(content) / 2**20:.1f} MiB; at most {MAX_CHARACTERS >> 20} are read."
        )
    try:
        body = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise KernelFileError(f"The kernel file is not JSON: {error}. Export it again.") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise KernelFileError(f'This is no kernel file: it has no "format": "{FORMAT}" at its top.')
    if body.get("version") != VERSION or type(body["version"]) is not int:
        raise KernelFileError(
            f"The kernel file is of version {body.get('version')!r}; this nnjit reads version {VERSION}."
        )
    groups = body.get("groups")
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
        raise KernelFileError(f'"groups" of the kernel file is not a list of at most {MAX_GROUPS} groups.')
    refused: list[str] = []
    good = [_group(group, f"groups[{n}]", refused) for n, group in enumerate(groups)]
    return Parsed([g for g in good if g is not None and g["tasks"]], refused)


def dump(groups: Iterable[dict]) -> str:
    """The kernel file of groups, the same text for the same content."""
    ordered = [
        {
            "generator": g["generator"],
            "device": g["device"],
            "tasks": {key: g["tasks"][key] for key in sorted(g["tasks"])},
        }
        for g in sorted(groups, key=group_key)
    ]
    return json.dumps({"format": FORMAT, "version": VERSION, "groups": ordered}, indent=1) + "\n"


def group_key(group: Mapping) -> str:
    """The same for groups of one generator and one device class."""
    return f"{group['generator']} {json.dumps(group['device'], sort_keys=True)}"


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _group(group: Any, where: str, refused: list[str]) -> dict | None:
    try:
        _fields(group, ("generator", "device", "tasks"), ())
        if not (isinstance(group["generator"], str) and _GENERATOR.fullmatch(group["generator"])):
            raise ValueError("generator is not a version")
        check_class(group["device"])
        if not isinstance(group["tasks"], dict) or len(group["tasks"]) > MAX_TASKS:
            raise ValueError(f"tasks is not an object of at most {MAX_TASKS} tasks")
    except ValueError as error:
        refused.append(f"{where}: {error}")
        return None
    tasks: Findings = {}
    for key, findings in group["tasks"].items():
        at = f"{where}.tasks[{json.dumps(key[:40])}]"
        if not _KEY.fullmatch(key):
            refused.append(f"{at}: a task's key is 20 hexadecimal digits")
        elif not isinstance(findings, list) or len(findings) > MAX_FINDINGS:
            refused.append(f"{at}: not a list of at most {MAX_FINDINGS} findings")
        else:
            good = [f for n, f in enumerate(findings) if _is_good(f, f"{at}[{n}]", refused)]
            if good:
                tasks[key] = good
    return {**group, "tasks": tasks}


def _is_good(finding: Any, where: str, refused: list[str]) -> bool:
    try:
        _fields(finding, ("schedule", "ms"), ("default", "count"))
        if not isinstance(finding["schedule"], str):
            raise ValueError("schedule is not a string")
        read(finding["schedule"])
        for name in ("ms", "default"):
            value = finding.get(name, 1.0)
            if type(value) not in (int, float) or not 0 < value <= MAX_MS or not math.isfinite(value):
                raise ValueError(f"{name} is not a number of milliseconds between 0 and {MAX_MS:g}")
        count = finding.get("count", 1)
        if type(count) is not int or not 1 <= count <= MAX_COUNT:
            raise ValueError(f"count is not an integer from 1 to {MAX_COUNT}")
    except ValueError as error:
        refused.append(f"{where}: {error}")
        return False
    return True


def _fields(value: Any, needed: Sequence[str], allowed: Sequence[str]) -> None:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    missing = [name for name in needed if name not in value]
    unknown = [name for name in value if name not in needed and name not in allowed]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    if unknown:
        raise ValueError(f"{unknown[0][:40]!r} is not a field")
