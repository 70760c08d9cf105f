"""`build.py bench --space`: is the lite space good enough, and does the cost model find its best schedules early?

For every kernel of the cases, all schedules of the lite space are measured in the page, and a sample of a far larger
space: other tiles, orders, runs and unrollings that the compiler accepts. The best few of both then meet in longer
matches, because the best of many noisy numbers is mostly lucky. Candidates are made in CPython, by the compiler's own
code, and measured by the page's own executor.
"""

from __future__ import annotations

import base64
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from nnjit.compiler import CompiledPlan, InputSpec, compile_model
from nnjit.lower.spec import KernelSpec
from nnjit.onnx.reader import read_model
from nnjit.runtime.describe import SHORT_NAMES, model_signature, target_of
from nnjit.schedule.legal import check
from nnjit.schedule.schedule import Schedule
from nnjit.target import Target
from nnjit.tune import microbench
from nnjit.tune.cost_model import Analysis, CostModel, spearman
from nnjit.units import Item

from .cases import Case, whole_model
from .kernels import kernel_cases, kernel_titles
from .match import PAGE
from .remote import Failed, RemotePage
from .rows import Row
from .session import BenchSession
from .verify import error

KERNELS = (
    "matmul-384x768x768", "matmul-197x197x197", "matmul-7x768x3072", "gemv-768x3072", "batched-matmul-12x128x64x128",
    "conv-1x1-64-256-56", "conv-3x3-64-64-56", "depthwise-3x3-144-56", "softmax-12x128x128", "layernorm-384x768",
    "gelu-384x3072", "reduce-columns-1024x1024",
)  # fmt: skip
SAMPLED = 160
"""Schedules drawn from the large space for each kernel."""
BATCH = 8
SAMPLES = 4
FINALISTS = 3
FINAL_SAMPLES = 15
TOLERANCE = 1e-4
CLOSE = 1.02
SMALL_SHARE = 0.05
"""Kernels with a smaller share of the case's time (packing, copies) are left out."""
SEED = 20

TILES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
COLUMNS = (4, 8, 12, 16, 20, 24, 32)


@dataclass
class Measured:
    """One kernel: relative times (of the default schedule) of what was measured, None for a candidate that failed."""

    title: str
    spec: KernelSpec
    target: Target
    lite: list[Schedule]
    sampled: list[Schedule]
    times: dict[Schedule, float] = field(default_factory=dict)
    failed: dict[Schedule, str] = field(default_factory=dict)
    python_ms: list[float] = field(default_factory=list)
    compile_ms: list[float] = field(default_factory=list)
    default_ms: float = 0.0

    def ranked(self, schedules: Sequence[Schedule]) -> list[Schedule]:
        """Those that were measured, the fastest first."""
        return sorted((s for s in schedules if s in self.times), key=lambda s: self.times[s])


def spaces(session: BenchSession) -> None:
    """Measure the spaces of the kernels of the cases, and print a line for each."""
    names = session.options.models
    cases = _cases(names)
    html = f'<!doctype html><title>space</title><script type="module" src="{session.server.publish_folder(PAGE)}page.js"></script>'
    page = RemotePage(session.engine, session.server, session.server.publish("space.html", html.encode()))
    try:
        explorer = _Explorer(page, session)
        _print(_HEADING)
        model = CostModel()
        for case in cases:
            for measured in explorer.kernels(case):
                row = session.keep(summarise(measured, model))
                _print(_line(row))
    finally:
        page.close()
    _totals(session.rows)


def _cases(names: Sequence[str]) -> list[Case]:
    operators = set(kernel_titles())
    return [kernel_cases([n])[0] if n in operators else whole_model(n) for n in names or KERNELS]


class _Explorer:
    """Measures schedules in a page."""

    def __init__(self, page: RemotePage, session: BenchSession) -> None:
        self.page = page
        self.session = session

    def kernels(self, case: Case) -> Iterator[Measured]:
        """Every kernel of the case that takes a fair share of its time, measured."""
        options = self.session.options
        root = self.session.server.url
        facts = self._call("open", {"root": root, "device": options.device, "threads": options.threads})
        target = target_of(facts)
        text, blobs = microbench.request(target)
        times = self._call("microbench", _made(text, blobs))
        target = target.measured(microbench.interpret(target, times))
        graph = read_model(case.model.read_bytes())
        inputs = {
            name: InputSpec(
                SHORT_NAMES[a.dtype.name], a.shape, int(a.flat[0]) if a.size == 1 and a.dtype.kind in "iub" else None
            )
            for name, a in case.expected.inputs.items()
        }  # fmt: skip
        compiled = compile_model(graph, inputs, target)
        task = {
            "signature": model_signature(graph),
            "model": self.session.server.publish("model.onnx", case.model.read_bytes()),
            "plan": _made(compiled.json, compiled.blobs),
            "inputs": self._published(case),
        }
        placed = self._call("place", task)
        error(placed["outputs"], case.expected)
        plan = placed["plan"]
        shares = self._shares(plan, compiled)
        seen: set[str] = set()
        for index, (item, unit) in enumerate(zip(compiled.items, compiled.units, strict=True)):
            if unit.task is None or unit.task in seen or shares.get(unit.task, 0.0) < SMALL_SHARE:
                continue
            seen.add(unit.task)
            yield self._kernel(case, compiled, plan, index, item)

    def _published(self, case: Case) -> dict[str, Any]:
        publish = self.session.server.publish
        return {
            name: {
                "url": publish("input.bin", np.ascontiguousarray(array).tobytes()),
                "dims": list(array.shape),
                "type": array.dtype.name,
            }
            for name, array in case.expected.inputs.items()
        }

    def _shares(self, plan: int, compiled: CompiledPlan) -> dict[str, float]:
        shares: dict[str, float] = {}
        times = self._call("profile", plan, 3)
        total = sum(entry["ms"] for entry in times) or 1.0
        for entry in times:
            task = compiled.units[entry["unit"]].task
            if task is not None:
                shares[task] = shares.get(task, 0.0) + entry["ms"] / total
        return shares

    def _kernel(self, case: Case, compiled: CompiledPlan, plan: int, index: int, item: Item) -> Measured:
        target = compiled.target
        lite = compiled.scheduler.candidates(item)
        known = set(lite)
        sampled = [s for s in sample(item.spec, target, SAMPLED) if s not in known]
        title = case.title if len(compiled.items) < 4 else f"{case.title} {item.label}"
        measured = Measured(title, item.spec, target, lite, sampled)
        self._measure(measured, compiled, plan, index, item, [*lite, *sampled], SAMPLES)
        finalists = dict.fromkeys(
            [*measured.ranked(lite)[:FINALISTS], *measured.ranked(sampled)[:FINALISTS], lite[0]]
        )
        self._measure(measured, compiled, plan, index, item, list(finalists), FINAL_SAMPLES)
        return measured

    def _measure(
        self,
        measured: Measured,
        compiled: CompiledPlan,
        plan: int,
        index: int,
        item: Item,
        schedules: list[Schedule],
        samples: int,
    ) -> None:
        for first in range(0, len(schedules), BATCH):
            made: list[tuple[Schedule, dict]] = []
            for schedule in schedules[first : first + BATCH]:
                begin = time.perf_counter()
                try:
                    code = compiled.scheduler.candidate(compiled.scheduler.unit(item, schedule))
                except ValueError as problem:
                    measured.failed[schedule] = str(problem)
                    continue
                measured.python_ms.append((time.perf_counter() - begin) * 1e3)
                made.append((schedule, code))
            request = {"plan": plan, "unit": index, "samples": samples, "tolerance": TOLERANCE}
            request["candidates"] = [_made(code["json"], code["blobs"]) for _, code in made]
            answer = self._call("measure", request)
            measured.default_ms = answer["incumbentMs"]
            for (schedule, _), result in zip(made, answer["results"], strict=True):
                if result["status"] == "ok":
                    measured.times[schedule] = min(result["ms"]) / min(result["incumbent"])
                    measured.compile_ms.append(result["compileMs"])
                else:
                    measured.failed[schedule] = f"{result['status']}: {result['message']}"

    def _call(self, what: str, *parameters: object) -> Any:
        return self.page.call("space", what, *parameters)


def _made(text: str, blobs: Sequence[bytes]) -> dict[str, Any]:
    return {"json": text, "blobs": [base64.b64encode(blob).decode() for blob in blobs]}


def sample(spec: KernelSpec, target: Target, count: int) -> list[Schedule]:
    """`count` distinct schedules that the compiler accepts, drawn evenly, seeded, from all tiles of up to three axes,
    orders, runs within a task, packings and unrollings."""
    rng = random.Random(SEED)
    axes = [axis for axis, _ in spec.outer]
    extents = {axis: spec.hint(d) for axis, d in spec.outer}
    orders = list(permutations(axes))[:24]
    found: dict[Schedule, None] = {}
    packs: list[tuple[int, ...]] = [()] if spec.contraction is None else [(), (0,), (1,), (0, 1)]
    for _ in range(count * 60):
        if len(found) >= count:
            break
        vector = rng.choice([*axes, "inner", ""]) if rng.random() < 0.2 else rng.choice([*axes[-2:], "inner"])
        tiled = rng.sample(axes, min(len(axes), rng.randint(1, 3)))
        if vector in axes and vector not in tiled:
            tiled[0] = vector
        tiles = tuple(
            (axis, tile)
            for axis in axes
            if axis in tiled and (tile := rng.choice(COLUMNS if axis == vector else TILES)) > 1
        )
        run = rng.choice(axes)
        serial = rng.choice([(), (), ((run, 0),), ((run, rng.choice([2, 4, 8, 16, 64])),)])
        schedule = Schedule(
            tiles=tiles,
            vector=vector,
            order=rng.choice([(), rng.choice(orders)]),
            serial=serial,
            pack=rng.choice(packs) if vector in axes else (),
            unroll=rng.choice([1, 1, 2, 3, 4, 8]),
        )
        if any(tile > extents[axis] for axis, tile in tiles):
            continue
        try:
            check(schedule, spec, target)
        except ValueError:
            continue
        found[schedule] = None
    return list(found)


# -- what the figures say -----------------------------------------------------------------------------------------


def summarise(measured: Measured, model: CostModel) -> Row:
    """A row for one kernel. The model has learned from the kernels before, and learns from this one."""
    lite = measured.ranked(measured.lite)
    large = measured.ranked([*measured.lite, *measured.sampled])
    if not lite:
        raise Failed(
            f"no schedule of {measured.title} could be measured: {next(iter(measured.failed.values()))}"
        )
    best_lite, best_large = measured.times[lite[0]], measured.times[large[0]]
    order = [s for s in measured.lite if s in measured.times]
    times = [measured.times[s] for s in order]
    analysis = Analysis(measured.spec, measured.target)
    count = len(measured.lite)
    vectors = np.array(
        [analysis.features(s, n, count) for n, s in enumerate(measured.lite) if s in measured.times]
    )
    differences = vectors - vectors[0]
    before = model.predict(differences)[0]
    by_model = search(order, times, differences, model)
    return {
        "status": "ok",
        "model": measured.title,
        "rival": "",
        "schedules": len(measured.lite),
        "sampled": len(measured.sampled),
        "failed": len(measured.failed),
        "best_lite": str(lite[0]),
        "best_large": str(large[0]),
        "gap": best_lite / best_large - 1,
        "gain": 1 / best_lite,
        "default_ms": measured.default_ms,
        "spearman_order": spearman(range(len(times)), times),
        "spearman_model": spearman(list(before), times),
        "tried_order": tried(times),
        "tried_model": tried([times[n] for n in by_model]),
        "python_ms": statistics.median(measured.python_ms),
        "compile_ms": statistics.median(measured.compile_ms),
        "times": {str(s): t for s, t in measured.times.items()},
        "failures": {str(s): why for s, why in measured.failed.items()},
        "features": {str(s): v.tolist() for s, v in zip(order, vectors, strict=True)},
    }


def tried(times: Sequence[float]) -> int:
    """How many of the candidates, in this order, must be measured to have one within 2 % of the best."""
    best = min(times)
    return next(n for n, t in enumerate(times, 1) if t <= CLOSE * best)


def search(
    order: Sequence[Schedule],
    times: Sequence[float],
    differences: np.ndarray,
    model: CostModel,
    batch: int = 4,
) -> list[int]:
    """The order in which a tuner with the model measures: it learns from each batch before it takes the next one."""
    waiting = list(range(1, len(order)))
    done = [0]
    while waiting:
        mean, spread = model.predict(differences[waiting])
        ranked = sorted(range(len(waiting)), key=lambda n: mean[n] - spread[n] * OPTIMISM)
        chosen = [waiting[n] for n in ranked[:batch]]
        for n in chosen:
            model.learn(differences[n], float(np.log(times[n] / times[0])))
        waiting = [n for n in waiting if n not in chosen]
        done += chosen
    return done


OPTIMISM = 0.5

_HEADING = (
    f"{'kernel':32}{'default':>9}{'lite':>6}{'gain':>7}{'large':>7}{'gap':>8}"
    f"{'ρ order':>9}{'ρ model':>9}{'n order':>9}{'n model':>9}{'python':>8}{'browser':>9}"
)


def _line(row: Row) -> str:
    return (
        f"{row['model'][:31]:32}{row['default_ms']:9.3g}{row['schedules']:6d}{row['gain']:7.2f}{row['sampled']:7d}"
        f"{row['gap']:8.1%}{row['spearman_order']:9.2f}{row['spearman_model']:9.2f}{row['tried_order']:9d}"
        f"{row['tried_model']:9d}{row['python_ms']:8.2f}{row['compile_ms']:9.2f}"
    )


def _totals(rows: Sequence[Row]) -> None:
    ok = [row for row in rows if row["status"] == "ok"]
    if not ok:
        return
    _print(
        f"\n{len(ok)} kernels. Best of the lite space behind the best of all: median {_median(ok, 'gap'):.1%}, "
        f"worst {max(row['gap'] for row in ok):.1%}\n"
        f"rank correlation with the measured times: order of the space {_median(ok, 'spearman_order'):.2f}, "
        f"cost model {_median(ok, 'spearman_model'):.2f} (medians)\n"
        f"candidates until within 2 % of the best: order of the space {_mean(ok, 'tried_order'):.1f}, "
        f"cost model {_mean(ok, 'tried_model'):.1f} (means)"
    )


def _median(rows: Sequence[Row], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def _mean(rows: Sequence[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def _print(text: str) -> None:
    print(text, flush=True, file=sys.stdout)


__all__ = ["Measured", "sample", "search", "spaces", "summarise", "tried"]
