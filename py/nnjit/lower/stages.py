"""Stages of a spec as loops: what a task does for all points of its tile, one stage after the other.

A stage without axes stores. Another one declares its accumulators and runs its loops, the last axis unrolled:

    vector axis among the outer ones    every iteration computes all points, each of four lanes
    vector == "inner"                   four iterations at a time: vector accumulators, then the vectors that unrolling
                                        left over, the lanes combined, then a scalar tail
    axes whose iterations together are  no loop at all: every operand that several of them use is loaded once
    no more than `unroll`
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as cartesian

from .. import ir
from ..ir import LANES, VECTOR_DTYPES, nodes
from ..schedule.schedule import Schedule
from ..symbolic import floordiv, mod, var
from ..target import Target
from .accumulators import (
    COMBINE,
    PRODUCTS,
    Product,
    by_operand,
    combine_copies,
    combine_lanes,
    identity,
)
from .loops import nest
from .shuffles import transposed
from .spec import Axes, Index, KernelSpec, Reduce, Stage, StoreTo, coefficient, depends, every_value
from .tiling import Tiling
from .values import Point, PointValues, Shift

MOST_COPIES = 16
"""Accumulators of one reduction in all points together up to which unrolled iterations get copies of their own."""


class StageLoops:
    """Emits the stages of `spec` for the points of a tile. `values` says what its expressions are there."""

    __slots__ = ("schedule", "target", "outer_vector", "values", "_lets", "_counter")

    def __init__(self, spec: KernelSpec, schedule: Schedule, target: Target, tiling: Tiling) -> None:
        self.schedule = schedule
        self.target = target
        self.outer_vector = tiling.vector
        self.values = PointValues(spec, tiling, target)
        self._lets: dict[ir.Expr, ir.Expr] = {}
        """Operands of the iteration at hand that are in locals."""
        self._counter = 0

    def lower(self, block: list[ir.Stmt], stage: Stage, points: list[Point]) -> None:
        """Append what `stage` does at all `points`."""
        if not stage.axes:
            self.values.enter_stage(self.outer_vector, points)
            self._lets = {}
            self._store_points(block, stage.stores, points)
        elif not self.outer_vector and self._vectorizes(stage):
            self._along_vectors(block, stage, points)
        else:
            self._across_points(block, stage, points)

    def _across_points(self, block: list[ir.Stmt], stage: Stage, points: list[Point]) -> None:
        """One iteration of the last axis at a time, or `unroll` of them; points may be vectors."""
        self.values.enter_stage(self.outer_vector, points)
        copies = self._copies(points)
        self._declare(block, stage, points, copies)
        unroll = self.schedule.unroll
        whole = _whole(stage.axes, unroll)
        body = nest(block, stage.axes[: -max(1, len(whole))])
        if whole:
            self._iterations(body, stage, points, [dict(at) for at in cartesian(*whole)], 1)
        else:
            v, d = stage.axes[-1]
            self._main_loop(body, stage, points, unroll, 1, copies)
            if unroll > 1 and not (isinstance(d, int) and d % unroll == 0):
                self._scalar_loop(body, stage, points, d - mod(d, unroll), mod(d, unroll))
        combine_copies(block, stage.reduces, points, copies)

    def _along_vectors(self, block: list[ir.Stmt], stage: Stage, points: list[Point]) -> None:
        """Four iterations of the last axis at a time, or `unroll` times four; points are scalar."""
        v, d = stage.axes[-1]
        self.values.enter_stage(v, points)
        copies = self._copies(points)
        self._declare(block, stage, points, copies)
        step = LANES * self.schedule.unroll
        body = nest(block, stage.axes[:-1])
        self._main_loop(body, stage, points, step, LANES, copies)
        if step > LANES:
            done = d - mod(d, step)
            left = floordiv(d - done, LANES)
            if not (isinstance(left, int) and left == 0):
                loop = nest(body, [(f"{v}_w", left)])
                self._iterations(loop, stage, points, [{v: done + var(f"{v}_w") * LANES}], 1)
        combine_lanes(block, stage.reduces, points, copies, self.values.lanes_of)
        self.values.enter_stage("", points)
        done = d - mod(d, LANES)
        left = d - done
        if not (isinstance(left, int) and left == 0):
            self._scalar_loop(nest(block, stage.axes[:-1]), stage, points, done, left)

    def _copies(self, points: list[Point]) -> int:
        """How many accumulators a reduction gets at each point."""
        unroll = self.schedule.unroll
        return unroll if not self.outer_vector and len(points) * unroll <= MOST_COPIES else 1

    def _declare(self, block: list[ir.Stmt], stage: Stage, points: list[Point], copies: int) -> None:
        """Declare the accumulators."""
        axis = self.values.vector_axis
        for r in stage.reduces:
            for p in points:
                for copy in range(copies):
                    init = identity(r)
                    wide = bool(axis) and (axis != self.outer_vector or self.values.varies(r.value, p))
                    register = p.register(r.name, copy)
                    self.values.lanes_of[register] = LANES if wide else 1
                    block.append(ir.Declare(register, ir.splat(init) if wide else init))

    def _main_loop(
        self, body: list[ir.Stmt], stage: Stage, points: list[Point], step: int, lanes: int, copies: int
    ) -> None:
        """The last axis in steps of `step` iterations, `lanes` of them at once."""
        v, d = stage.axes[-1]
        count = floordiv(d, step)
        if isinstance(count, int) and count == 0:
            return
        unrolled = f"{v}_u"
        shifts: list[Shift] = [{v: var(unrolled) * step + n * lanes} for n in range(step // lanes)]
        if step == 1:
            unrolled, shifts = v, [{}]
        loop = nest(body, [(unrolled, count)])
        self._iterations(loop, stage, points, shifts, copies)

    def _scalar_loop(
        self, body: list[ir.Stmt], stage: Stage, points: list[Point], done: Index, left: Index
    ) -> None:
        """The `left` last iterations of the last axis, from `done` on, one by one."""
        v = stage.axes[-1][0]
        loop = nest(body, [(f"{v}_s", left)])
        self._iterations(loop, stage, points, [{v: done + var(f"{v}_s")}], 1)

    # -- iterations ---------------------------------------------------------------------------------------------

    def _iterations(
        self, body: list[ir.Stmt], stage: Stage, points: list[Point], shifts: Sequence[Shift], copies: int
    ) -> None:
        """One or several iterations of the innermost loop, for every point; equal loads are done once. Nothing is stored
        before all is known, as in `_store_points`, but where a store reads what another one of the stage has written."""
        self._lets = {}
        products: list[Product] = []
        stores: list[ir.Stmt] = []
        in_order = _stores_in_order(stage)
        for n, shift in enumerate(shifts):
            self.values.forget(points)
            for p in points:
                ready = [None if in_order else self._ready(body, w, p, shift) for w in stage.stores]
                for r in stage.reduces:
                    self._accumulate(body, r, p, shift, n % copies, products)
                for w, value in zip(stage.stores, ready, strict=True):
                    self._store(body if in_order else stores, w, p, shift, value)
        self._multiply_add(body, products)
        body += stores

    def _accumulate(
        self, body: list[ir.Stmt], r: Reduce, p: Point, shift: Shift, copy: int, products: list[Product]
    ) -> None:
        """Take one more term in; a product waits in `products` to be put in order with the others."""
        register = p.register(r.name, copy)
        if r.combine == "sum" and r.value.op in PRODUCTS.get(r.value.dtype, ()):
            x, y = r.value.args
            a, b = self.values.value(x, p, shift), self.values.value(y, p, shift)
            if max(a.lanes, b.lanes) == LANES:
                a, b = ir.splat(a), ir.splat(b)
            products.append(Product(a, b, r.value.op, register))
            return
        value = self.values.value(r.value, p, shift)
        value = self._lets.get(value, value)
        old = ir.local(register, r.value.dtype, self.values.lanes_of[register])
        body.append(ir.Assign(register, ir.binary(COMBINE[r.combine], old, value)))

    def _multiply_add(self, body: list[ir.Stmt], products: list[Product]) -> None:
        """Add the products up, in an order that needs few registers."""
        for group in by_operand(products) if self.target.passes.streaming else [products]:
            for one in group:
                a, b = self._shared(body, one.a), self._shared(body, one.b)
                old = ir.local(one.register, one.a.dtype, self.values.lanes_of[one.register])
                body.append(ir.Assign(one.register, one.added_to(old, a, b)))

    def _shared(self, body: list[ir.Stmt], e: ir.Expr) -> ir.Expr:
        """A load (splatted or not) that several points use goes into a local of its own."""
        core = e.args[0] if e.op == "splat" else e
        if core.op != "load" and core.op != "cast":
            return e
        known = self._lets.get(e)
        if known is None:
            known = self._lets[e] = self._held(body, e)
        return known

    def _held(self, body: list[ir.Stmt], e: ir.Expr) -> ir.Expr:
        """`e` in a fresh local."""
        name = f"x{self._counter}"
        self._counter += 1
        body.append(ir.Declare(name, e))
        return ir.local(name, e.dtype, e.lanes)

    # -- stores -------------------------------------------------------------------------------------------------

    def _store_points(self, block: list[ir.Stmt], stores: list[StoreTo], points: list[Point]) -> None:
        """The stores of a stage without axes, those under one condition together. Vectors are all known before the first
        one is stored: an engine that pairs neighbours into wider ones can only do so where no store lies between their
        loads."""
        conditional = any(w.condition is not None for w in stores)
        early = conditional or bool(self.outer_vector)
        ready = {(w, p): self._ready(block, w, p, {}) for p in points for w in stores} if early else {}
        for p in points:
            groups: dict[ir.Expr | None, list[ir.Stmt]] = {None: block}
            for w in stores:
                across = "" if conditional else self._stored_along(w, p)
                if not across:
                    self._store(groups.setdefault(w.condition, []), w, p, {}, ready.get((w, p)))
                elif p.offsets[across] % LANES == 0:
                    rows = [ready[w, q] for q in _neighbours(p, across, points)]
                    self._store_transposed(block, w, p, rows)
            for condition, body in groups.items():
                if condition is not None:
                    block.append(ir.If(self.values.scalar(condition, p, {}), body, []))

    def _ready(self, block: list[ir.Stmt], w: StoreTo, p: Point, shift: Shift) -> ir.Expr:
        """What is to be stored, in a local."""
        value = self.values.value(w.value, p, shift)
        if value.op in ("local", "const"):
            return value
        if value not in self._lets:
            self._lets[value] = self._held(block, value)
        return self._lets[value]

    def _store(
        self, body: list[ir.Stmt], w: StoreTo, p: Point, shift: Shift, value: ir.Expr | None = None
    ) -> None:
        """Store at a point: one element, one vector, or lane by lane where the elements are no neighbours."""
        if value is None:
            value = self.values.value(w.value, p, shift)
        at = self.values.place(p, shift)
        v = self.values.vector_axis
        if not v or not (depends(w.index, v) or value.lanes == LANES):
            body.append(ir.Store(w.buffer, at(w.index), value))
            return
        if coefficient(w.index, v) == 1 and value.dtype in VECTOR_DTYPES:
            body.append(ir.Store(w.buffer, at(w.index), ir.splat(value)))
            return
        if value.op != "local" and value.lanes == LANES:
            value = self._held(body, value)
        for lane in range(LANES):
            element = ir.extract(value, lane) if value.lanes == LANES else value
            body.append(ir.Store(w.buffer, self.values.place(p, shift, lane)(w.index), element))

    def _stored_along(self, w: StoreTo, p: Point) -> str:
        """The axis of the tile along which the results of `p` and of three points beside it are neighbours in memory,
        where those of the vector axis are none; else ""."""
        v = self.values.vector_axis
        if not v or coefficient(w.index, v) in (0, 1, None) or w.value.dtype not in VECTOR_DTYPES:
            return ""
        if self.target.device == "wasm" and self.values.varies(w.value, p):
            for axis, n in p.offsets.items():
                whole = n - n % LANES + LANES <= self.values.tiling.sizes[axis]
                if axis != v and whole and coefficient(w.index, axis) == 1:
                    return axis
        return ""

    def _store_transposed(self, body: list[ir.Stmt], w: StoreTo, p: Point, rows: list[ir.Expr]) -> None:
        """Store the values of four points, `p` the first of them, in vectors along the axis on which they are neighbours."""
        rows = [ir.splat(row) for row in rows]
        for lane in range(LANES):
            at = self.values.place(p, {}, lane)(w.index)
            body.append(ir.Store(w.buffer, at, transposed(rows, lane)))

    def _vectorizes(self, stage: Stage) -> bool:
        """Whether running four iterations of the last axis at once pays: most loads touch neighbours along it."""
        if self.schedule.vector != "inner" or self.target.device != "wasm":
            return False
        axis = stage.axes[-1][0]
        good = bad = 0
        for r in stage.reduces:
            if r.value.dtype not in ("f32", "i32"):
                return False
        for e in nodes(*stage.values()):
            if e.op == "load":
                step = coefficient(e.attr[1], axis)
                if step is None or not (isinstance(step, int) and step in (0, 1)):
                    bad += 1
                else:
                    good += step == 1
        for w in stage.stores:
            if coefficient(w.index, axis) != 1 or w.value.dtype not in VECTOR_DTYPES:
                return False
        return good > bad


def _stores_in_order(stage: Stage) -> bool:
    """Whether what is stored by one of the stores is read by a later one."""
    written: set[str] = set()
    for w in stage.stores:
        values = every_value([Stage((), [], [w])])
        if any(e.op == "load" and e.attr[0] in written for e in values):
            return True
        written.add(w.buffer)
    return False


def _neighbours(p: Point, axis: str, points: list[Point]) -> list[Point]:
    """`p` and the three points after it along an axis."""
    wanted = [{**p.offsets, axis: p.offsets[axis] + n} for n in range(LANES)]
    return [next(q for q in points if q.offsets == offsets) for offsets in wanted]


def _whole(axes: Axes, unroll: int) -> list[list[tuple[str, Index]]]:
    """The last axes whose iterations together are no more than `unroll`, each as its (axis, index) pairs."""
    found: list[list[tuple[str, Index]]] = []
    count = 1
    for v, d in reversed(axes):
        if not isinstance(d, int) or count * d > unroll:
            break
        count *= d
        found.insert(0, [(v, n) for n in range(d)])
    return found
