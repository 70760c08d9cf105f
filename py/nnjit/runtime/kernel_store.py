"""What this browser remembers of tuning, over kernel-store.js: records of this device, and hints from elsewhere.

["tuned", device, task]    what tuning found here: see Task.record; `device` is `device_key`'s text
["device", device]         generator and class of that device, for whoever exports
["hardware", device, browser]  what microbenchmarks found: target.Hardware
["model", device]          the cost model, as far as it has learned: tune/cost_model.py
["hints", group]           a group of an imported kernel file (tune/kernel_file.py)
["fatal", device, unit]    a GPU kernel that was being tried, or was running when the device was lost (webgpu-measure.js)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..tune import kernel_file
from ..tune.device_class import alike, describe, device_class
from ..tune.kernel_file import Findings

MAX_HINTS = kernel_file.MAX_FINDINGS
_SHOWN = 5


def device_key(facts: Mapping[str, Any]) -> str:
    """Kernels tuned on one device, by one version of the generator, are found again under this key."""
    names = ("device", "threads", "relaxedSimd", "hardwareConcurrency", "adapter", "features")
    return f"{__version__} {json.dumps({name: facts[name] for name in names}, sort_keys=True)}"


class Imported(dict):
    """What came of importing a kernel file; prints as sentences.

    schedules, kernels   how many were taken
    devices              what they were tuned on, in words
    kept                 whether this browser remembers them; if not, they are lost with the page
    refused              a sentence for each record that was left out
    """

    def __str__(self) -> str:
        if not self["schedules"]:
            text = "Nothing was imported."
        else:
            text = (
                f"{_count(self['schedules'], 'schedule')} for {_count(self['kernels'], 'kernel')} imported, tuned on "
                f"{'; '.join(self['devices'])}. They are tried first when a model with these kernels is loaded."
            )
            if not self["kept"]:
                text += " This browser keeps no data for the page: they are forgotten with it."
        if self["refused"]:
            text += (
                f" {_count(len(self['refused']), 'record')} left out: {'; '.join(self['refused'][:_SHOWN])}"
            )
            text += "; …" if len(self["refused"]) > _SHOWN else "."
        return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


class KernelStore:
    """The store of a browser; `js` is the module kernel-store.js."""

    def __init__(self, js: Any) -> None:
        self._js = js

    async def tuned(self, device: str) -> dict[str, dict]:
        """Task → record, of what was tuned on this device."""
        return {key[2]: record for key, record in await self._read("tuned", device)}

    async def remember(self, facts: Mapping[str, Any], records: Mapping[str, dict]) -> None:
        """Keep records of this device, beside those of other tasks."""
        device = device_key(facts)
        about = {"generator": __version__, "device": device_class(facts)}
        entries = [(["device", device], about)]
        entries += [(["tuned", device, task], record) for task, record in records.items()]
        await self._write(entries)

    async def hardware(self, facts: Mapping[str, Any]) -> dict | None:
        """What microbenchmarks found with this browser, in its present version."""
        found = await self._read("hardware", device_key(facts), facts["browser"])
        return found[0][1] if found else None

    async def keep_hardware(self, facts: Mapping[str, Any], hardware: dict) -> None:
        """Keep what microbenchmarks found."""
        await self._write([(["hardware", device_key(facts), facts["browser"]], hardware)])

    async def cost_model(self, device: str) -> dict:
        """The record of the cost model of this device; empty when there is none."""
        found = await self._read("model", device)
        return found[0][1] if found else {}

    async def keep_cost_model(self, device: str, record: dict) -> None:
        """Keep the cost model's record."""
        await self._write([(["model", device], record)])

    async def hints(self, facts: Mapping[str, Any]) -> Findings:
        """Task → findings from devices like this one."""
        groups = [group for _, group in await self._read("hints")]
        return hints_for(groups, facts)

    async def fatal(self, device: str) -> set[str]:
        """Units, as `task schedule`, that must not be tried on this device: one was tried and not survived."""
        return {key[2] for key, _ in await self._read("fatal", device)}

    async def export(self) -> str:
        """All that was tuned in this browser, as a kernel file."""
        devices = {key[1]: about for key, about in await self._read("device")}
        groups: dict[str, dict] = {}
        for (_, device, task), record in await self._read("tuned"):
            if device in devices:
                group = groups.setdefault(device, {**devices[device], "tasks": {}})
                group["tasks"] |= findings_of({task: record})
        return kernel_file.dump(g for g in groups.values() if g["tasks"])

    async def add(self, content: str | bytes) -> Imported:
        """Take the findings of a kernel file as hints. Raises KernelFileError."""
        parsed = kernel_file.parse(content)
        refused = parsed.refused
        known = {key[1]: group for key, group in await self._read("hints")}
        entries, devices, tasks, schedules = [], [], set(), 0
        for group in parsed.groups:
            if group["generator"] != __version__:
                count = sum(map(len, group["tasks"].values()))
                refused.append(
                    f"{_count(count, 'schedule')} made by nnjit {group['generator']}, whose kernels {__version__} does not have"
                )
                continue
            key = kernel_file.group_key(group)
            known[key] = _union(group, known.get(key))
            entries.append((["hints", key], known[key]))
            devices.append(describe(group["device"]))
            tasks |= group["tasks"].keys()
            schedules += sum(map(len, group["tasks"].values()))
        kept = await self._write(entries)
        return Imported(
            schedules=schedules,
            kernels=len(tasks),
            devices=list(dict.fromkeys(devices)),
            kept=kept,
            refused=refused,
        )

    async def _read(self, *prefix: str) -> list[tuple[list[str], dict]]:
        return [(key, json.loads(text)) for key, text in json.loads(await self._js.read(*prefix))]

    async def _write(self, entries: list[tuple[list[str], dict]]) -> bool:
        return await self._js.write(json.dumps([(key, json.dumps(value)) for key, value in entries]))


def findings_of(records: Mapping[str, dict]) -> Findings:
    """What a tuner's records are in a kernel file: those that were measured."""
    found: Findings = {}
    for task, record in records.items():
        if record.get("ms"):
            finding = {"schedule": record["schedule"], "ms": record["ms"]}
            if record.get("default"):
                finding["default"] = record["default"]
            found[task] = [finding]
    return found


def hints_for(groups: list[dict], facts: Mapping[str, Any]) -> Findings:
    """Task → findings of the groups that are of this generator and of a device like this one."""
    here = device_class(facts)
    found: Findings = {}
    for group in groups:
        if group["generator"] == __version__ and alike(here, group["device"]):
            for task, findings in group["tasks"].items():
                found[task] = [*found.get(task, ()), *findings]
    return found


def _union(group: dict, older: dict | None) -> dict:
    """The group with an older one's findings for other schedules behind its own."""
    if older is None:
        return group
    tasks: Findings = dict(older["tasks"])
    for task, findings in group["tasks"].items():
        new = {f["schedule"] for f in findings}
        rest = [f for f in tasks.get(task, ()) if f["schedule"] not in new]
        tasks[task] = [*findings, *rest][:MAX_HINTS]
    return {**group, "tasks": tasks}
