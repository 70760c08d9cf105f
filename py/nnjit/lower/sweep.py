"""Reductions over the rows of a matrix, in the order in which the matrix lies in memory.

Tiles of columns alone leave a row after a few cache lines, and nothing reads the next row ahead of time. Here a task takes a
run of tiles, a few rows of all of them at a time, and keeps what it has summed up so far in scratch memory, in the nearest
cache:

    task = (batch axes …, run of columns)
        scratch[column] = identity
        rows, `unroll` at a time
            tiles of columns    scratch[column] = scratch[column] + Σ of these rows, in registers
        tiles of columns        out[column] = epilogue(scratch[column])
"""

from __future__ import annotations

from .. import ir
from ..schedule.schedule import Schedule
from ..symbolic import ceildiv, floordiv, mod, product, var
from ..target import Target
from .accumulators import COMBINE, identity
from .loops import bind, decode, nest
from .lower import Lowered, lower_inside
from .mathlib import expand_body
from .spec import (
    Index,
    KernelSpec,
    Reduce,
    Stage,
    StoreTo,
    index_substitution,
    map_expr,
    substitute_expr,
    touched_buffers,
)
from .tiling import tile_start

SCRATCH = "sums"
COLUMN = "column"
"""The column within its run."""


def sweeps(spec: KernelSpec) -> bool:
    """Whether `lower_sweep` knows the kernel: sums (or maxima, …) of float32 first, then stages without loops, over columns
    whose number is known. Not where a buffer is read and written: runs that overlap would read there what others have
    replaced."""
    first, *rest = spec.stages
    floats = all(r.value.dtype == "f32" for r in first.reduces)
    alone = bool(first.axes) and not first.stores and not any(s.axes for s in rest)
    apart = all(b.access != "rw" for b in spec.buffers)
    return alone and floats and apart and bool(spec.outer) and isinstance(spec.outer[-1][1], int)


def run_of(spec: KernelSpec, schedule: Schedule) -> int:
    """Columns of a task. Raises ValueError where the schedule does not fit the spec."""
    if not sweeps(spec):
        raise ValueError("sweep is for reductions of float32 over rows")
    axis, extent = spec.outer[-1]
    run = schedule.tile(axis) * dict(schedule.serial).get(axis, 1)
    if schedule.vector != axis or schedule.tile(axis) % ir.LANES or not 0 < run <= spec.hint(extent):
        raise ValueError(f"sweep needs vectors along {axis}, and runs of tiles in it that are not longer")
    return run


def scratch_bytes(spec: KernelSpec, schedule: Schedule) -> int:
    """Scratch memory of a task."""
    return run_of(spec, schedule) * len(spec.stages[0].reduces) * ir.STORAGE_BYTES["f32"]


def lower_sweep(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel of `spec`; see the module's docstring. Raises ValueError where the schedule does not fit the spec."""
    run = run_of(spec, schedule)
    axis, extent = spec.outer[-1]
    runs = ceildiv(extent, run)
    body: list[ir.Stmt] = []
    fixed = decode(body, ir.TASK, (*spec.outer[:-1], (axis, runs)))
    # The last run is moved back to end with the columns: it computes some of them twice, to equal values.
    first = bind(body, "first", tile_start(fixed.pop(axis), run, extent))
    parts = _Parts(spec, axis, first, run)
    how = Schedule(tiles=((COLUMN, schedule.tile(axis)),), vector=COLUMN, unroll=schedule.unroll)
    used: set[str] = set()

    def add(block: list[ir.Stmt], stages: list[Stage]) -> None:
        local = parts.spec(stages)
        statements, _, _ = lower_inside(local, how, target, fixed, "")
        used.update(touched_buffers(stages))
        block += statements

    add(nest(body, [("clear", 1)]), parts.clear())
    stage = spec.stages[0]
    axis, count = stage.axes[-1]
    rows = nest(body, stage.axes[:-1])
    together = schedule.unroll
    whole, left = floordiv(count, together), mod(count, together)
    add(nest(rows, [("block", whole)]), parts.take(var("block") * together, together))
    if left != 0:
        add(nest(rows, [("rest", left)]), parts.take(count - left + var("rest"), 1))
    add(nest(body, [("finish", 1)]), parts.finish())
    expand_body(body, target)
    buffers = [b for b in spec.buffers if b.name in used]
    tasks = product([d for _, d in spec.outer[:-1]]) * runs
    scratch = [(SCRATCH, "f32", run * len(stage.reduces))]
    return Lowered(ir.Kernel(name, buffers, spec.symbols, tasks, body, 1, scratch), [], [])


class _Parts:
    """What a task does, as stages over the columns of its run, which start with `first`."""

    def __init__(self, whole: KernelSpec, axis: str, first: Index, run: int) -> None:
        self.whole = whole
        self.run = run
        self.place: dict[str, Index] = {axis: first + var(COLUMN)}

    def spec(self, stages: list[Stage]) -> KernelSpec:
        """A spec of these stages."""
        whole = self.whole
        buffers = [*whole.buffers, ir.Buffer(SCRATCH, "f32", "r")]
        return KernelSpec((*whole.outer[:-1], (COLUMN, self.run)), stages, buffers, whole.hints, whole.bounds)

    def clear(self) -> list[Stage]:
        """Every sum starts from what adds nothing."""
        return [self._stored([identity(r) for r in self._reduces])]

    def take(self, start: Index, rows: int) -> list[Stage]:
        """Rows of the last axis, from `start` on."""
        axis = self.whole.stages[0].axes[-1][0]
        mapping = {**self.place, axis: start + var(axis)}
        memo: dict[ir.Expr, ir.Expr] = {}
        terms = [Reduce(r.name, r.combine, substitute_expr(r.value, mapping, memo)) for r in self._reduces]
        totals = [
            ir.binary(COMBINE[r.combine], self._sum(n), ir.local(r.name, "f32"))
            for n, r in enumerate(self._reduces)
        ]
        return [Stage(((axis, rows),), terms, []), self._stored(totals)]

    def finish(self) -> list[Stage]:
        """What follows the sums, of the sums in scratch memory."""
        number = {r.name: n for n, r in enumerate(self._reduces)}
        at = index_substitution(self.place)
        placed: dict[ir.Expr, ir.Expr] = {}
        memo: dict[ir.Expr, ir.Expr] = {}

        def sums(e: ir.Expr) -> ir.Expr | None:
            return self._sum(number[e.attr]) if e.op == "local" and e.attr in number else None

        def value(e: ir.Expr) -> ir.Expr:
            return map_expr(substitute_expr(e, self.place, placed), sums, memo)

        return [
            Stage(
                (),
                [],
                [
                    StoreTo(w.buffer, at(w.index), value(w.value), w.condition and value(w.condition))
                    for w in stage.stores
                ],
            )
            for stage in self.whole.stages[1:]
        ]

    @property
    def _reduces(self) -> list[Reduce]:
        return self.whole.stages[0].reduces

    def _at(self, number: int) -> Index:
        return number * self.run + var(COLUMN)

    def _sum(self, number: int) -> ir.Expr:
        return ir.load(SCRATCH, self._at(number), "f32")

    def _stored(self, values: list[ir.Expr]) -> Stage:
        return Stage((), [], [StoreTo(SCRATCH, self._at(n), value) for n, value in enumerate(values)])


__all__ = ["SCRATCH", "lower_sweep", "run_of", "scratch_bytes", "sweeps"]
