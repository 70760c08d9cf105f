"""Chain: contraction → reductions over its rows → contraction, as one kernel that never stores what lies between.

Attention is softmax(q kᵀ) v. A task takes a block of rows (queries), computes their scores for all keys into scratch
memory of its own thread, the softmax there, then the product with v:

    task = (batch axes …, block of rows)
        part 0   scratch[r, key] = epilogue(Σ q · k)        tiles of rows × keys
        part 1   scratch[r, key] = weights of row r          vectors along the keys
        part 2   out[row, column] = epilogue(Σ scratch · v)  tiles of rows × columns

A factor of whole rows, such as the 1 / Σ of a softmax, stays beside the row in scratch memory, for the epilogue of part 2.

Nothing here knows attention: the parts are KernelSpecs of three groups in which axes of the same meaning have the same
name, and in which what one part leaves for the next is in the buffer `SCRATCH`, at r · stride + key.
"""

from __future__ import annotations

from dataclasses import replace

from .. import ir
from ..schedule.schedule import Schedule
from ..symbolic import ceildiv, minimum, product, var
from ..target import Target
from .loops import bind, decode
from .lower import Lowered, lower_inside
from .mathlib import expand_body
from .packing import Packed
from .spec import (
    Index,
    KernelSpec,
    Reduce,
    Stage,
    StoreTo,
    depends,
    index_substitution,
    substitute_expr,
    symbols_of,
    touched_buffers,
)

SCRATCH = "scratch"
ROW = "r"
"""The row within its block."""
KEY = "key"
BASE = "row_b"
"""The first row of the block, a local of the kernel."""
RUN = "run"
"""How many tiles of rows make a block, where a kernel leaves that open: a symbol of its own."""
_LONG_RUN = 8
"""A number of tiles that have at least as many rows as a plan may require: see `least_extent`."""
LEAST_BLOCK = 12
"""Rows whose scratch memory must fit for a chain to be worth it."""
STRIDE_PAD = 16
"""Elements between the rows in scratch memory: rows of 2ⁿ elements would fall on the same lines of a cache."""


class Chain(KernelSpec):
    """`outer`: the batch axes, the row axis, the keys, the columns. `parts`: see the module's docstring."""

    __slots__ = ("parts", "row", "column")

    def __init__(self, parts: list[KernelSpec], row: str, column: str, keys: Index) -> None:
        last = parts[-1]
        outer = (
            *(a for a in last.outer if a[0] not in (row, column)),
            (row, last.extent(row)),
            (KEY, keys),
            (column, last.extent(column)),
        )
        buffers: dict[str, ir.Buffer] = {}
        for part in parts:
            for b in part.buffers:
                if b.name != SCRATCH:
                    before = buffers.setdefault(b.name, b)
                    access = b.access if b.access == before.access else "rw"
                    buffers[b.name] = ir.Buffer(b.name, b.storage, access)
        super().__init__(outer, [], list(buffers.values()), last.hints, last.bounds)
        self.parts = parts
        self.row = row
        self.column = column
        self.symbols = sorted({s for p in parts for s in symbols_of(p)} - {ROW})

    @property
    def batch(self) -> tuple[tuple[str, Index], ...]:
        return self.outer[:-3]

    @property
    def contraction(self) -> None:
        return None

    @property
    def stride(self) -> Index:
        """Elements from one row of scratch memory to the next."""
        return self.extent(KEY) + STRIDE_PAD

    @property
    def work(self) -> Index:
        """Arithmetic operations of one run."""
        first, _, last = self.parts
        points = product([d for _, d in self.outer[:-1]])
        depth = product([d for _, d in first.stages[0].axes])
        return points * (2 * depth + 2 * last.extent(self.column) + 3)

    def __str__(self) -> str:
        if not self._text:
            self._text = "\n".join([f"chain rows {self.row}", *map(str, self.parts)])
        return self._text


def block_rows(schedule: Schedule, row: str) -> int:
    """Rows of a task's block."""
    return schedule.tile(row) * max(1, dict(schedule.serial).get(row, 1))


def with_open_run(spec: Chain, schedule: Schedule) -> tuple[Schedule, dict[str, int]]:
    """The schedule for blocks of any size, and the value of `RUN` that makes it what it was: schedules that differ in their
    blocks alone share a kernel. One whose block has all rows stays as it is."""
    whole, block = spec.extent(spec.row), block_rows(schedule, spec.row)
    if isinstance(whole, int) and block >= whole:
        return schedule, {}
    return replace(schedule, serial=()), {RUN: block // schedule.tile(spec.row)}


def lower_chain(spec: Chain, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel of `spec`: tiles of rows × keys, and as large ones of rows × columns; `serial` says how many tiles of rows
    make a block, the symbol `RUN` where it does not."""
    whole = spec.extent(spec.row)
    is_open = not schedule.serial
    block: Index = schedule.tile(spec.row) * var(RUN) if is_open else block_rows(schedule, spec.row)
    # An open one is smaller than the whole where that is fixed: see `with_open_run`.
    rows = block if is_open and isinstance(whole, int) else minimum(block, whole)
    blocks = ceildiv(whole, block)
    body: list[ir.Stmt] = []
    starts = decode(body, ir.TASK, (*spec.batch, ("row", blocks)))
    # The last block is moved back to end with the rows: it writes some of them twice, with equal values.
    start: Index = 0 if blocks == 1 else minimum(starts.pop("row") * block, whole - rows)
    base = bind(body, BASE, start)
    packed: list[Packed] = []
    used: set[str] = set()
    for n, part in enumerate(spec.parts):
        local = _local(part, spec.row, base, rows)
        if n == 1:
            how = Schedule(vector="inner", unroll=schedule.unroll)
        else:
            column = KEY if n == 0 else spec.column
            how = Schedule(
                tiles=((ROW, schedule.tile(spec.row)), (column, schedule.tile(KEY))),
                vector=column,
                order=(*(a for a, _ in spec.batch), column, ROW),
                pack=(column_operand(part, column),),
            )
        statements, laid_out, loads = lower_inside(local, how, target, starts, f"part{n}_p")
        packed += laid_out
        used |= touched_buffers(local.stages, loads)
        body.append(ir.For(f"part{n}", 1, statements))
    buffers = [b for b in spec.buffers if b.name in used]
    buffers += [ir.Buffer(p.buffer, p.storage, "r") for p in packed]
    expand_body(body, target)
    tasks = product([d for _, d in spec.batch]) * blocks
    scratch = [(SCRATCH, "f32", rows * spec.stride)]
    symbols = [*spec.symbols, RUN] if is_open else spec.symbols
    return Lowered(ir.Kernel(name, buffers, symbols, tasks, body, 1, scratch), packed, [])


def column_operand(part: KernelSpec, column: str) -> int:
    """The operand of a contraction that depends on its columns."""
    operands = part.contraction
    assert operands is not None
    return next(
        n
        for n, e in enumerate(operands)
        if any(x.op == "load" and depends(x.attr[1], column) for x in ir.nodes(e))
    )


def _local(part: KernelSpec, row: str, base: Index, rows: Index) -> KernelSpec:
    """A part with its rows counted from the start of the block."""
    mapping: dict[str, Index] = {row: base + var(ROW)}
    memo: dict[ir.Expr, ir.Expr] = {}
    at = index_substitution(mapping)

    def value(e: ir.Expr) -> ir.Expr:
        return substitute_expr(e, mapping, memo)

    stages = [
        Stage(
            s.axes,
            [Reduce(r.name, r.combine, value(r.value)) for r in s.reduces],
            [StoreTo(w.buffer, at(w.index), value(w.value)) for w in s.stores],
        )
        for s in part.stages
    ]
    outer = tuple((ROW, rows) if v == row else (v, d) for v, d in part.outer)
    return KernelSpec(
        outer, stages, part.buffers, {**part.hints, RUN: _LONG_RUN}, {**part.bounds, RUN: (1, None)}
    )
