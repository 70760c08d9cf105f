"""Sums of products with coded weights: x · (code − zero point) · scale, where words hold several codes each.

Unpacking a weight in memory would undo what its few bits are for, so a kernel unpacks as it goes, in one of these ways:

    lanes   for few rows, where reading the weights is what takes the time. Vectors run along the sum: a vector of four
            words holds codes of four lanes, each further code a shift away. The elements of x are laid out in the same order
            first, together with the sums of each block: Σ x·(c − z)·s = s·(Σ x·c − z·Σ x), so that zero points cost one
            multiplication for each block.
    bytes   for few rows, without making floats of codes: see coded_bytes.py.
    panel   for many rows: a task unpacks the weights of a tile of columns into scratch memory of its thread, and
            multiplies all rows by them as a contraction of floats does, in register tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import ir
from ..ir import LANES
from ..schedule.schedule import Schedule
from ..symbolic import product, substitute, var
from ..target import Target
from .loops import bind, nest, row_major
from .lower import Lowered, Tiles, lower_inside
from .mathlib import expand_body
from .normalize import normalize
from .packing import Packed
from .shuffles import transposed
from .spec import (
    Axes,
    Index,
    KernelSpec,
    Reduce,
    Stage,
    StoreTo,
    coefficient,
    expr_depends,
    substitute_expr,
    symbols_of,
    touched_buffers,
)
from .tiling import tile_start
from .values import Point

PANEL = "panel"
BASE = "column"
"""The first column of a task's tile, a local of the kernel."""
MOST_UNROLLED = 4
"""Vectors of words of a block up to which they are no loop."""


@dataclass(frozen=True)
class Coded:
    """A sum over (blocks, words of a block, codes of a word) of x · (code − zero) · scale.

    x, word     loads; `word` of i32, neighbours along `words`
    zero, scale values of (column, block) alone
    bits        of a code; a code's place in its word is that of the axis `codes`
    """

    x: ir.Expr
    word: ir.Expr
    zero: ir.Expr
    scale: ir.Expr
    bits: int
    column: str
    rows: Axes
    blocks: tuple[str, int]
    words: tuple[str, int]
    codes: tuple[str, int]

    @property
    def depth(self) -> int:
        """Terms of the sum."""
        return self.blocks[1] * self.words[1] * self.codes[1]


def coded(spec: KernelSpec) -> Coded | None:
    """What the first stage of `spec` is as a sum of products with coded weights; None where it is none."""
    stage = spec.stages[0]
    if len(stage.reduces) != 1 or stage.stores or len(stage.axes) != 3:
        return None
    total = stage.reduces[0]
    axes = [(v, d) for v, d in stage.axes if isinstance(d, int)]
    if total.combine != "sum" or total.value.op != "mul" or total.value.dtype != "f32" or len(axes) != 3:
        return None
    x, weight = total.value.args
    if x.op != "load" or weight.op != "mul" or weight.args[0].op != "sub":
        return None
    (number, zero), scale = weight.args[0].args, weight.args[1]
    if number.op != "cast" or number.args[0].op != "and" or number.args[0].args[0].op != "shr":
        return None
    (word, shift), mask = number.args[0].args[0].args, number.args[0].args[1]
    blocks, words, codes = axes
    bits = 32 // codes[1]
    if (
        word.op != "load"
        or not _is_words(spec, word)
        or shift != ir.index(var(codes[0]) * bits)
        or mask != ir.const((1 << bits) - 1, "i32")
        or words[1] % LANES
        or coefficient(word.attr[1], words[0]) != 1
    ):
        return None
    columns = [v for v, d in spec.outer if expr_depends(word, {v}, {})]
    inner = {words[0], codes[0], *(v for v, _ in spec.outer if v not in columns)}
    if len(columns) != 1 or expr_depends(x, set(columns), {}):
        return None
    extent = spec.extent(columns[0])
    if (
        not isinstance(extent, int)
        or extent < LANES
        or any(expr_depends(e, inner, {}) for e in (zero, scale))
    ):
        return None
    if any(s.axes for s in spec.stages[1:]) or any(b.access == "rw" for b in spec.buffers):
        return None
    rows = tuple(a for a in spec.outer if a[0] != columns[0])
    return Coded(x, word, zero, scale, bits, columns[0], rows, blocks, words, codes)


def _is_words(spec: KernelSpec, load: ir.Expr) -> bool:
    return any(b.name == load.attr[0] and b.storage == "i32" for b in spec.buffers)


def lower_coded(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel of `spec` that unpacks as `schedule.unpack` says.

    Raises ValueError where the spec has no coded weights, or the schedule does not fit them.
    """
    found = fitting(spec, schedule)
    if schedule.unpack == "lanes":
        return Lanes(spec, found, schedule, target).kernel(name)
    return _panel(spec, found, schedule, target, name)


def fitting(spec: KernelSpec, schedule: Schedule) -> Coded:
    """What `spec` is as a sum of products with coded weights. Raises ValueError where it is none, or the tiles do not fit."""
    found = coded(spec)
    if found is None:
        raise ValueError("unpack needs a sum of products with coded weights")
    if schedule.vector != found.column or schedule.tile(found.column) % LANES or not schedule.tiles:
        raise ValueError("unpack needs vectors, and tiles in fours, along the columns of the weights")
    return found


# -- lanes ------------------------------------------------------------------------------------------------------------


class Lanes(Tiles):
    """Tiles of rows × columns; `unroll` columns at a time share the loads of x."""

    def __init__(self, spec: KernelSpec, found: Coded, schedule: Schedule, target: Target) -> None:
        super().__init__(spec, schedule, target, "p")
        self.found = found
        block, (_, count), (codes, each) = found.blocks, found.words, found.codes
        self.quads = count // LANES
        self.lay_out_x()
        self.sums: tuple[Packed, Index] | None = None
        self.zeros: tuple[Packed, Index] | None = None
        self.scales: tuple[Packed, Index] | None = None
        column = (found.column, spec.extent(found.column))
        constant = found.zero.op == "const"
        if not (constant and found.zero.attr == 0):
            factor = found.zero.attr if constant else 1.0
            inner: Axes = (("quad", self.quads), (codes, each))
            self.sums = self._laid_out("sum", (*found.rows, block, ("lane", LANES)), found.x, inner, -factor)
        if not constant:
            self.zeros = self._laid_out("zero", (column, block), found.zero, ())
        if found.scale.op != "load" or self._storage(found.scale) != "f32":
            self.scales = self._laid_out("scale", (column, block), found.scale, ())

    def lay_out_x(self) -> None:
        """Lay x out in the order in which vectors of words take its elements."""
        found = self.found
        axes: Axes = (*found.rows, found.blocks, ("quad", self.quads), found.codes, ("lane", LANES))
        self.operand, self.at = self._laid_out("x", axes, found.x, ())

    def _storage(self, load: ir.Expr) -> str:
        return next(b.storage for b in self.spec.buffers if b.name == load.attr[0])

    def _laid_out(
        self, name: str, axes: Axes, value: ir.Expr, summed: Axes, factor: float = 1.0
    ) -> tuple[Packed, Index]:
        """`value` over `axes`, summed over `summed` and multiplied, as an operand of its own; and the index in it."""
        found = self.found
        buffer = f"{self.pack_name}_{name}"
        self.stages.values.packed_loads.setdefault(value, None)  # type: ignore[arg-type]
        value = substitute_expr(value, {found.words[0]: var("quad") * LANES + var("lane")})
        place = row_major(axes)
        if summed:
            total = ir.local("total", "f32")
            if factor != 1.0:
                total = ir.mul(total, ir.const(factor, "f32"))
            stages = [
                Stage(summed, [Reduce("total", "sum", value)], []),
                Stage((), [], [StoreTo(buffer, place, total)]),
            ]
        else:
            stages = [Stage((), [], [StoreTo(buffer, place, value)])]
        return self.filled(buffer, "f32", product([d for _, d in axes]), axes, stages), place

    def filled(self, buffer: str, storage: str, elements: Index, axes: Axes, stages: list[Stage]) -> Packed:
        """An operand of `elements`, filled by `stages` over `axes` from buffers of the spec and operands made before."""
        touched = touched_buffers(stages)
        made = {p.buffer: p for p in self.packed}
        reads = [ir.Buffer(b.name, b.storage, "r") for b in self.spec.buffers if b.name in touched]
        source = reads[0].name
        reads += [ir.Buffer(name, made[name].storage, "r") for name in made if name in touched]
        filling = KernelSpec(
            axes, stages, [*reads, ir.Buffer(buffer, storage, "w")], self.spec.hints, self.spec.bounds
        )
        filling.symbols = symbols_of(filling)
        packed = Packed(buffer, storage, elements, filling, source)
        self.packed.append(packed)
        return packed

    def _stage(self, block: list[ir.Stmt], stage: Stage, points: list[Point]) -> None:
        if stage is not self.spec.stages[0]:
            super()._stage(block, stage, points)
            return
        zero = ir.splat(ir.const(0, "f32"))
        for p in points:
            for c in range(LANES):
                block.append(ir.Declare(f"total{p.suffix}_{c}", zero))
        loop = nest(block, [self.found.blocks])
        by_column: dict[Index, list[Point]] = {}
        for p in points:
            by_column.setdefault(p.mapping[self.found.column], []).append(p)
        together = max(1, min(self.schedule.unroll, LANES))
        for column, rows in by_column.items():
            for first in range(0, LANES, together):
                self._block(loop, column, rows, range(first, min(first + together, LANES)))
        for p in points:
            totals = [ir.local(f"total{p.suffix}_{c}", "f32", LANES) for c in range(LANES)]
            lanes = [transposed(totals, n) for n in range(LANES)]
            register = p.register(stage.reduces[0].name)
            summed = ir.add(ir.add(lanes[0], lanes[1]), ir.add(lanes[2], lanes[3]))
            block.append(ir.Declare(register, summed))
            self.stages.values.lanes_of[register] = LANES

    def _block(self, body: list[ir.Stmt], column: Index, rows: list[Point], lanes: range) -> None:
        """Add the products of a block of codes, of the columns `column` + lanes, to the totals of all `rows`."""
        found = self.found
        bits = found.bits
        each = found.codes[1]
        places = {c: {found.column: column + c} for c in lanes}
        for p in rows:
            for c in lanes:
                even, odd = _accumulators(p, c)
                body.append(ir.Declare(even.attr, self._correction(p, places[c])))
                body.append(ir.Declare(odd.attr, ir.splat(ir.const(0, "f32"))))
        quads: list[Index] = list(range(self.quads))
        inner = body
        if self.quads > MOST_UNROLLED:
            quads = [var("quad")]
            inner = nest(body, [("quad", self.quads)])
        for quad in quads:
            words: dict[int, ir.Expr] = {}
            name = f"w{rows[0].suffix}_{quad}"
            for c in lanes:
                at = substitute(found.word.attr[1], {**places[c], found.words[0]: quad * LANES})
                inner.append(ir.Declare(f"{name}_{c}_0", ir.load(found.word.attr[0], at, "i32", LANES)))
                words[c] = ir.local(f"{name}_{c}_0", "i32", LANES)
            for pair in range(each // 2):
                # The odd code stays where it is, 2^bits times as much: its sum is divided once, at the end of the block.
                for half in (0, 1):
                    mask = ir.splat(ir.const(((1 << bits) - 1) << (half * bits), "i32"))
                    xs = [self._x(p, quad, 2 * pair + half) for p in rows]
                    for c in lanes:
                        number = ir.cast(ir.binary("and", words[c], mask), "f32")
                        for p, x in zip(rows, xs, strict=True):
                            total = _accumulators(p, c)[half]
                            inner.append(ir.Assign(total.attr, ir.fma(number, x, total)))
                if pair + 1 < each // 2:
                    for c in lanes:
                        local = f"{name}_{c}_{pair + 1}"
                        shifted = ir.binary("shr", words[c], ir.splat(ir.const(2 * bits, "i32")))
                        inner.append(ir.Declare(local, shifted))
                        words[c] = ir.local(local, "i32", LANES)
        for p in rows:
            for c in lanes:
                even, odd = _accumulators(p, c)
                both = ir.fma(odd, ir.const(2.0**-bits, "f32"), even)
                total = ir.local(f"total{p.suffix}_{c}", "f32", LANES)
                body.append(ir.Assign(total.attr, ir.fma(both, ir.splat(self._scale(places[c])), total)))

    def _x(self, p: Point, quad: Index, code: int) -> ir.Expr:
        mapping = {**p.mapping, "quad": quad, self.found.codes[0]: code, "lane": 0}
        return ir.load(self.operand.buffer, substitute(self.at, mapping), "f32", LANES)

    def _correction(self, p: Point, place: dict[str, Index]) -> ir.Expr:
        """−z · Σ x of the block, lane by lane."""
        if self.sums is None:
            return ir.splat(ir.const(0, "f32"))
        packed, at = self.sums
        total = ir.load(packed.buffer, substitute(at, {**p.mapping, "lane": 0}), "f32", LANES)
        if self.zeros is None:
            return total
        packed, at = self.zeros
        return ir.mul(total, ir.splat(ir.load(packed.buffer, substitute(at, place), "f32")))

    def _scale(self, place: dict[str, Index]) -> ir.Expr:
        if self.scales is None:
            return substitute_expr(self.found.scale, place)
        packed, at = self.scales
        return ir.load(packed.buffer, substitute(at, place), "f32")


def _accumulators(p: Point, c: int) -> tuple[ir.Expr, ir.Expr]:
    """Sums of the products with the even and with the odd codes of words."""
    return ir.local(f"even{p.suffix}_{c}", "f32", LANES), ir.local(f"odd{p.suffix}_{c}", "f32", LANES)


# -- panel ------------------------------------------------------------------------------------------------------------


def panel_bytes(found: Coded, tile: int) -> int:
    """Scratch memory for the weights of `tile` columns."""
    return found.depth * tile * ir.STORAGE_BYTES["f32"]


def _panel(spec: KernelSpec, found: Coded, schedule: Schedule, target: Target, name: str) -> Lowered:
    column, extent = found.column, spec.extent(found.column)
    tile = schedule.tile(column)
    if panel_bytes(found, tile) > target.scratch_bytes or not isinstance(extent, int) or tile > extent:
        raise ValueError(f"the weights of {tile} columns do not fit the scratch memory of a thread")
    body: list[ir.Stmt] = []
    base = bind(body, BASE, tile_start(ir.TASK, tile, extent))
    _fill(body, found, tile, base)
    k = row_major((found.blocks, found.words, found.codes))
    weight = ir.load(PANEL, k * tile + var(column) - base, "f32")
    first = spec.stages[0]
    total = Reduce(first.reduces[0].name, "sum", ir.mul(found.x, weight))
    stages = [Stage(first.axes, [total], []), *spec.stages[1:]]
    touched = touched_buffers(stages)
    buffers = [b for b in spec.buffers if b.name in touched]
    floats = KernelSpec(spec.outer, stages, [*buffers, ir.Buffer(PANEL, "f32", "r")], spec.hints, spec.bounds)
    how = Schedule(tiles=schedule.tiles, vector=column)
    statements, _, _ = lower_inside(normalize(floats), how, target, {column: ir.TASK}, "p")
    body.append(ir.For("rows", 1, statements))
    expand_body(body, target)
    used = touched_buffers(spec.stages)
    tasks = -(-extent // tile)
    kernel = ir.Kernel(
        name, [b for b in spec.buffers if b.name in used], spec.symbols, tasks, body, 1,
        [(PANEL, "f32", found.depth * tile)],
    )  # fmt: skip
    return Lowered(kernel, [], [])


def _fill(body: list[ir.Stmt], found: Coded, tile: int, base: Index) -> None:
    """Unpack the weights of `tile` columns from `base` on: neighbours in the panel are columns."""
    each, bits = found.codes[1], found.bits
    block = nest(body, [found.blocks])
    mask = ir.splat(ir.const((1 << bits) - 1, "i32"))
    k = var(found.blocks[0]) * found.words[1]
    loops = []
    for group in range(0, tile, LANES):
        at = [{found.column: base + group + c} for c in range(LANES)]
        held = []
        for what, value in (("scale", found.scale), ("zero", found.zero)):
            if value.op == "const":
                held.append(ir.splat(value))
                continue
            first, second, third, fourth = (substitute_expr(value, place) for place in at)
            block.append(ir.Declare(f"{what}{group}", ir.pack((first, second, third, fourth))))
            held.append(ir.local(f"{what}{group}", "f32", LANES))
        loops.append((group, at, held))
    inner = nest(block, [("quad", found.words[1] // LANES)])
    for group, at, (scale, zero) in loops:
        rows = []
        for c, place in enumerate(at):
            index = substitute(found.word.attr[1], {**place, found.words[0]: var("quad") * LANES})
            inner.append(ir.Declare(f"w{group}_{c}", ir.load(found.word.attr[0], index, "i32", LANES)))
            rows.append(ir.local(f"w{group}_{c}", "i32", LANES))
        for lane in range(LANES):
            word = f"v{group}_{lane}"
            inner.append(ir.Declare(word, transposed(rows, lane)))
            for code in range(each):
                number = ir.local(word, "i32", LANES)
                if code:
                    number = ir.binary("shr", number, ir.splat(ir.const(code * bits, "i32")))
                number = ir.cast(ir.binary("and", number, mask), "f32")
                place_of = ((k + var("quad") * LANES + lane) * each + code) * tile + group
                inner.append(ir.Store(PANEL, place_of, ir.mul(ir.sub(number, zero), scale)))
