"""What a schedule will probably cost, before it is measured.

Two parts. `Analysis.features` says analytically what a schedule makes of a kernel: multiply-adds and loads of an iteration, values
that do not fit the registers, working sets beside the caches, elements computed twice at the end of an axis, tasks that
leave threads idle. `CostModel` weighs them: a linear model of the logarithm of the time, relative to the task's default
schedule (what is common to a kernel's schedules cancels), that starts from weights which hold on any device and is
corrected by every measurement made on this one: Bayesian linear regression, i.e. ridge regression towards the first
weights (Bishop, Pattern Recognition and Machine Learning, 3.3), which also says how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import LANES, nodes, uncast
from ..lower.chain import Chain
from ..lower.spec import KernelSpec, coefficient, depends
from ..schedule.schedule import Schedule
from ..target import Target

ELEMENT = 4
"""Bytes of one: most are float32."""

WEIGHTS = {
    "rank": 0.30,  # how far down the space's own order has it: 0 the first, 1 the last
    "work": 0.80,  # log of instructions of an iteration, for each point
    "spill": 0.45,  # whether more values are alive than there are registers
    "spilled": 0.10,  # log of how many more, in registers
    "waste": 1.0,  # log of points computed over points there are
    "few": 0.50,  # 1 / accumulators: additions that wait for each other
    "idle": 1.0,  # log of what the busiest thread does over its fair share
    "overhead": 0.30,  # log of 1 + what a task costs before its first iteration, over its work
    "nearest": 0.05,  # log2 of a task's operands over the nearest cache, if they exceed it
    "second": 0.10,  # the same for what a task reads that the one before has not, over the second cache
    "gather": 0.15,  # part of the loads that collect a vector's lanes one by one
    "scalar": 0.90,  # no vectors at all
    "inner": 0.05,  # vectors along a reduction
    "packs": 0.02,  # operands laid out first
    "group": 0.0,  # log2 of invocations that share a point (GPU)
    "block": 0.0,  # workgroup memory (GPU)
}
"""Features and what they weigh before anything was measured, as changes of the natural logarithm of the time."""
NAMES = tuple(WEIGHTS)
SPREAD = 0.25
"""How far the weights may be off (a standard deviation)."""
NOISE = 0.12
"""Standard deviation of what no feature explains."""
CALL_WORK = 30.0
"""What a task costs before its first iteration, in instructions."""


class Analysis:
    """What all schedules of one kernel have in common; `features` adds what a schedule makes of it."""

    def __init__(self, spec: KernelSpec, target: Target) -> None:
        if isinstance(spec, Chain):
            # Both contractions have one tile: what the first says of a schedule holds for the chain.
            spec = spec.parts[0]
        self.target = target
        self.extents = {axis: max(1, spec.hint(d)) for axis, d in spec.outer}
        sizes = [math.prod(max(1, spec.hint(d)) for _, d in stage.axes) for stage in spec.stages]
        stage = spec.stages[sizes.index(max(sizes))]
        self.terms = max(sizes)
        self.inner = stage.axes[-1][0] if stage.axes else ""
        values = nodes(*stage.values())
        product_of_loads = spec.contraction is not None
        count = sum(bool(e.args) and e.op != "cast" for e in values) + len(stage.reduces)
        self.arithmetic = 1.0 if product_of_loads else float(max(1, count))
        """Operations of an iteration; a product and its sum are one."""
        operands = [uncast(e) for e in spec.contraction or ()]
        self.loads: list[tuple[frozenset[str], frozenset[str], int | None]] = []
        """Of each load: the axes that move it, those that move it to the next element, the number of the operand."""
        axes = (*self.extents, self.inner)
        for load in (e for e in values if e.op == "load"):
            index = load.attr[1]
            moving = frozenset(a for a in axes if a and depends(index, a))
            near = frozenset(a for a in moving if coefficient(index, a) == 1)
            number = next((n for n, operand in enumerate(operands) if operand is load), None)
            self.loads.append((moving, near, number))

    def features(self, schedule: Schedule, position: int = 0, count: int = 1) -> np.ndarray:
        """The values of NAMES; `position` of the schedule among the `count` ones of its space."""
        extents, target = self.extents, self.target
        tiles = {axis: max(1, min(schedule.tile(axis), extent)) for axis, extent in extents.items()}
        vector = schedule.vector if tiles.get(schedule.vector, 0) >= LANES else ""
        inner = schedule.vector == "inner" and bool(self.inner)
        along = vector or (self.inner if inner else "")
        points = math.prod(tiles.values())
        # A last vector that is moved back within its tile computes some points twice.
        accumulators = points / tiles[vector] * -(-tiles[vector] // LANES) if vector else float(points)
        copies = schedule.unroll if not vector and points * schedule.unroll <= 16 else 1
        last = (schedule.order or tuple(extents) or ("",))[-1]
        scalars = vectors = gathered = touched = streamed = 0.0
        for moving, near, number in self.loads:
            each = math.prod(tiles[axis] for axis in moving if axis in tiles)
            if along not in moving or not along:
                scalars += each
            elif along in near or number in schedule.pack:
                vectors += each / LANES if vector else each
            else:
                gathered += each
            touched += each * self.terms * ELEMENT
            streamed += each * self.terms * ELEMENT * (last in moving)
        work = (
            self.arithmetic * accumulators + 0.5 * (vectors + scalars + 1.5 * gathered) + 1 / schedule.unroll
        )
        per_point = work / (points * (LANES if inner else 1))
        alive = accumulators * copies + min(vectors, 4 if vector else points) + 1 + (not target.relaxed_simd)
        over = max(0.0, alive - target.vector_registers) if target.device == "wasm" else 0.0
        computed = math.prod(-(-extents[a] // tiles[a]) * tiles[a] for a in tiles)
        total = math.prod(extents.values())
        tasks = math.prod(-(-extents[a] // tiles[a]) for a in tiles)
        for axis, chunk in schedule.serial:
            steps = -(-extents.get(axis, 1) // tiles.get(axis, 1))
            tasks = max(1, tasks // (steps if chunk == 0 else min(chunk, steps)))
        nearest, second = target.cache
        found = {
            "rank": position / max(1, count - 1),
            "work": math.log(per_point),
            "spill": float(over > 0),
            "spilled": math.log1p(over),
            "waste": math.log(computed / total),
            "few": 1 / max(1.0, accumulators * copies),
            "idle": math.log(-(-tasks // target.threads) * target.threads / tasks),
            "overhead": math.log1p(CALL_WORK * tasks / (per_point * self.terms * total)),
            "nearest": max(0.0, math.log2(touched / nearest)) if touched else 0.0,
            "second": max(0.0, math.log2(streamed / second)) if streamed else 0.0,
            "gather": gathered / max(1.0, gathered + vectors + scalars),
            "scalar": float(not along),
            "inner": float(inner),
            "packs": float(len(schedule.pack)),
            "group": math.log2(schedule.group),
            "block": float(bool(schedule.block)),
        }
        return np.array([found[name] for name in NAMES])


class CostModel:
    """Predicts log(time of a schedule / time of its task's default); `learn` corrects it."""

    def __init__(self) -> None:
        self.first = np.array([WEIGHTS[name] for name in NAMES])
        self.precision = np.eye(len(NAMES)) * (NOISE / SPREAD) ** 2
        """Inverse of the weights' covariance, in units of the noise's variance."""
        self.moment = self.precision @ self.first
        self.count = 0
        self._solved: tuple[np.ndarray, np.ndarray] | None = None

    def learn(self, difference: np.ndarray, log_ratio: float) -> None:
        """A measurement: features of the schedule less those of the default, and log(its time / the default's)."""
        # One that is hopelessly slow says little about those that are not.
        weight = 1.0 / (1.0 + max(0.0, log_ratio))
        self.precision = self.precision + weight * np.outer(difference, difference)
        self.moment = self.moment + weight * log_ratio * difference
        self.count += 1
        self._solved = None

    def weights(self) -> np.ndarray:
        """What the features weigh now, in the order of NAMES."""
        return self._solve()[0]

    def predict(self, differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of log(time / default's time) for the rows of `differences`."""
        weights, covariance = self._solve()
        spread = np.einsum("ij,jk,ik->i", differences, covariance, differences)
        return differences @ weights, NOISE * np.sqrt(1.0 + spread)

    def _solve(self) -> tuple[np.ndarray, np.ndarray]:
        if self._solved is None:
            covariance = np.linalg.inv(self.precision)
            self._solved = covariance @ self.moment, covariance
        return self._solved

    def record(self) -> dict:
        """What a later visit goes on from, as plain data."""
        return {
            "names": list(NAMES),
            "precision": self.precision.tolist(),
            "moment": self.moment.tolist(),
            "count": self.count,
        }

    @staticmethod
    def of(record: Mapping[str, Any]) -> CostModel:
        """The inverse of `record`; a new model where the record is of other features."""
        model = CostModel()
        precision = np.array(record.get("precision", ()), float)
        moment = np.array(record.get("moment", ()), float)
        fits = precision.shape == model.precision.shape and moment.shape == model.moment.shape
        if tuple(record.get("names", ())) == NAMES and fits and np.isfinite(precision).all():
            model.precision, model.moment = precision, moment
            model.count = int(record.get("count", 0))
        return model


def expected_gain(mean: float, spread: float, best: float) -> float:
    """Expected part of the time that a schedule saves, whose log ratio is normal, over one with the log ratio `best`.

    Expected improvement (Jones, Schonlau and Welch, Efficient global optimization, 1998).
    """
    z = (best - mean) / spread
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    return spread * (z * below + density)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation of two lists: 1 for the same order, −1 for the reverse; equal values share their ranks."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else 0.0


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    ordered = np.sort(array)
    return (np.searchsorted(ordered, array, "left") + np.searchsorted(ordered, array, "right") - 1) / 2


__all__ = ["NAMES", "Analysis", "CostModel", "expected_gain", "spearman"]
