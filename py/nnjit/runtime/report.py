"""What `Model.report` gives: plain data, with a table for people."""

from __future__ import annotations

from .loaded_plan import LoadedPlan


class Report(dict):
    """A dict of plain data that prints as a table.

    device    facts of the device
    timings   milliseconds: see Model
    kernels   one entry a unit: unit, label, node, op, task, schedule, kernels, ms, share (of all units' time), gain (first
              time over latest), gflops, ceiling (least time that the device could take, by the roofline of its
              microbenchmarks, over ms; above 1 where a kernel saves arithmetic, as Winograd's convolutions do);
              None until the plan was profiled, or the device measured
    tasks     one entry a tuning task: see Tuner.report; and its units' share and ceiling
    memory    bytes, by name
    """

    def __str__(self) -> str:
        device = self["device"]
        threads = f", {device['threads']} threads" if device["threads"] > 1 else ""
        lines = [f"{device['device']}{threads}"]
        units = sorted(self["kernels"], key=lambda k: -(k["ms"] or 0))
        for unit in units[:_SHOWN]:
            ms = "" if unit["ms"] is None else f"{unit['ms']:9.3f} ms {unit['share']:6.1%}"
            gain = "" if not unit["gain"] or unit["gain"] < 1.05 else f"  ×{unit['gain']:.1f}"
            speed = "" if unit["gflops"] is None else f"{unit['gflops']:7.1f} GFLOP/s"
            ceiling = "" if unit["ceiling"] is None else f"{unit['ceiling']:5.0%}"
            lines.append(f"{ms:20} {speed:15} {ceiling:6} {unit['label']}  {unit['schedule']}{gain}")
        if len(units) > _SHOWN:
            lines.append(f"… and {len(units) - _SHOWN} more")
        tried = sum(len(task["candidates"]) for task in self["tasks"])
        lines.append(f"{len(units)} units, {len(self['tasks'])} tuning tasks, {tried} candidates tried")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{str(self).replace('&', '&amp;').replace('<', '&lt;')}</pre>"


_SHOWN = 20


def make_report(facts: dict, timings: dict[str, float], plan: LoadedPlan | None, stats: dict) -> Report:
    """The report of a model whose latest plan is `plan`."""
    kernels = []
    if plan is not None:
        total = sum(entry["ms"] for entry in plan.times)
        for number, unit in enumerate(plan.units):
            if unit["steps"]:
                kernels.append(_unit(plan, number, unit, total))
    tasks = plan.tuner.report() if plan is not None else []
    for task in tasks:
        units = [entry for entry in kernels if entry["unit"] in task["units"]]
        shares = [entry["share"] for entry in units if entry["share"] is not None]
        task["share"] = sum(shares) if shares else None
        task["ceiling"] = next((entry["ceiling"] for entry in units), None)
    return Report(device=facts, timings=dict(timings), kernels=kernels, tasks=tasks, memory=dict(stats))


def _unit(plan: LoadedPlan, number: int, unit: dict, total: float) -> dict:
    entry = {
        "unit": number,
        "label": unit["label"],
        "node": unit["node"],
        "op": unit["op"],
        "task": unit["task"],
        "schedule": unit.get("schedule", ""),
        "kernels": unit["kernels"],
        "ms": None,
        "share": None,
        "gain": None,
        "gflops": None,
        "ceiling": None,
    }
    if plan.times:
        timed = plan.times[number]
        ms = timed["ms"]
        entry["ms"] = ms
        entry["share"] = ms / total if total else 0.0
        entry["gain"] = plan.first_ms[number] / ms if ms else 1.0
        entry["gflops"] = timed["flops"] / ms / 1e6 if ms and timed["flops"] else None
        hardware = plan.compiled.target.hardware
        if hardware and ms:
            entry["ceiling"] = hardware.least_ms(timed["flops"], timed["read"], timed["written"]) / ms
    return entry
