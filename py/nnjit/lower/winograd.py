"""Convolutions of stride 1 with filters of 3 taps an axis, by Winograd's minimal filtering.

    A. Lavin, S. Gray: Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308

For m results along an axis the m + 2 elements that they need are transformed, multiplied with as many transformed taps,
and transformed back (`winograd_transforms`): m + 2 multiplications in the place of 3 · m. Four kernels compute it; with two
spatial axes, T tiles of m · m results, and q < (m + 2)² :

    u[q, o, c]        the filters, transformed; made once where they never change
    v[q, t, c]        the elements that tile t needs, transformed
    m[q, t, o]        Σ over c of v[q, t, c] · u[q, o, c]: products of matrices
    the kernel itself the results of a tile from its m[q, t, o], and whatever else the specification stores

A result is a combination of products of the whole tile, in which what lies outside of its own window cancels out. NaN and
infinities do not: one such element can make any result of its tiles NaN, and what a plain sum gives as infinity becomes NaN
(∞ − ∞). Transformed elements are up to 26 times as large as the elements (two axes, m = 4), and overflow that much earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as cartesian

from .. import ir
from ..ir import LANES
from ..schedule.schedule import Schedule
from ..symbolic import ceildiv, floordiv, minimum, product, substitute, var
from ..target import Target
from .loops import row_major
from .lower import Lowered, lower
from .packing import Packed
from .spec import (
    Index,
    KernelSpec,
    Stage,
    StoreTo,
    coefficient,
    depends,
    map_expr,
    substitute_expr,
    symbols_of,
    touched_buffers,
)
from .winograd_transforms import POINTS, TAPS, matrices, transformed

APART = 16
"""Elements between the planes of v and of m, one a q. A tile is written to all of them at once, and planes whose distance
is a multiple of a memory page would share a few lines of the cache."""


class Convolution:
    """What the axes of a specification are to a convolution that Winograd's method fits.

    windows       (spatial axis, tap axis) pairs
    batch         other axes of the input that are also of the result
    depth         the axis that is summed up besides the taps
    columns       the axis of the result that belongs to the filters
    source, taps  numbers of the operands
    """

    __slots__ = ("windows", "batch", "depth", "columns", "source", "taps")

    def __init__(
        self, windows: list[tuple[str, str]], batch: list[str], depth: str, columns: str, source: int
    ) -> None:
        self.windows = windows
        self.batch = batch
        self.depth = depth
        self.columns = columns
        self.source = source
        self.taps = 1 - source


def convolution_of(spec: KernelSpec) -> Convolution | None:
    """The roles of the axes where `spec` is such a convolution with whatever follows it, else None."""
    operands = spec.contraction
    if operands is None or any(s.axes or s.reduces for s in spec.stages[1:]) or len(spec.stages) < 2:
        return None
    if any(e.dtype != "f32" or e.op != "load" for e in operands):
        return None
    names = [*(v for v, _ in spec.outer), *(v for v, _ in spec.stages[0].axes)]
    indices = [e.attr[1] for e in operands]
    if any(coefficient(i, v) is None for i in indices for v in names):
        return None
    for source in (0, 1):
        found = _roles(spec, source, indices[source], indices[1 - source])
        if found is not None:
            return found
    return None


def _roles(spec: KernelSpec, source: int, x: Index, w: Index) -> Convolution | None:
    columns = [v for v, _ in spec.outer if depends(w, v)]
    spatial = [v for v, _ in spec.outer if depends(x, v)]
    taps = [v for v, d in spec.stages[0].axes if d == TAPS]
    depth = [v for v, d in spec.stages[0].axes if d != TAPS]
    if len(columns) != 1 or len(depth) != 1 or not taps or depends(x, columns[0]):
        return None
    windows = []
    for tap in taps:
        along = [v for v in spatial if coefficient(x, v) == coefficient(x, tap)]
        if len(along) != 1:
            return None
        windows.append((along[0], tap))
    batch = [v for v in spatial if all(v != along for along, _ in windows)]
    if len({along for along, _ in windows}) != len(windows) or len(spec.outer) != len(spatial) + 1:
        return None
    return Convolution(windows, batch, depth[0], columns[0], source)


def tile_count(spec: KernelSpec, schedule: Schedule) -> Index:
    """Tiles of the results over all axes of a convolution. Raises ValueError where `convolution_of` gives None."""
    form = _form(spec)
    counts = [ceildiv(spec.extent(v), schedule.tile(v)) for v, _ in form.windows]
    return product([*(spec.extent(v) for v in form.batch), *counts])


def lower_winograd(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernels of `spec` under `schedule`. Raises ValueError where Winograd's method does not fit."""
    return _Winograd(spec, schedule, _form(spec)).run(target, name)


def winograd_buffers(spec: KernelSpec, schedule: Schedule) -> list[Index]:
    """Elements of u, v and m. Raises ValueError where Winograd's method does not fit."""
    return list(_Winograd(spec, schedule, _form(spec)).elements.values())


def _form(spec: KernelSpec) -> Convolution:
    form = convolution_of(spec)
    if form is None:
        raise ValueError("Winograd's method needs a convolution of stride 1 with three taps an axis")
    return form


class _Winograd:
    def __init__(self, spec: KernelSpec, schedule: Schedule, form: Convolution) -> None:
        self.spec = spec
        self.form = form
        self.rows = schedule.winograd
        self.block = schedule.tile(form.columns)
        self.sizes = [schedule.tile(v) for v, _ in form.windows]
        depth, columns = spec.extent(form.depth), spec.extent(form.columns)
        if any(m not in POINTS for m in self.sizes) or any(
            spec.hint(spec.extent(v)) < m for (v, _), m in zip(form.windows, self.sizes, strict=True)
        ):
            raise ValueError(f"Winograd's method has no tiles of {self.sizes} results here")
        if schedule.vector != form.columns or len(schedule.tiles) != len(form.windows) + 1:
            raise ValueError(
                "Winograd's method tiles the spatial axes and the columns, with vectors along these"
            )
        if not isinstance(columns, int) or columns % self.block or self.block % LANES:
            raise ValueError(f"{columns} columns do not fall into blocks of {self.block} in vectors")
        self.depth = depth
        self.columns = columns
        self.transforms = [matrices(m) for m in self.sizes]
        self.points = [m + TAPS - 1 for m in self.sizes]
        self.count = 1
        for n in self.points:
            self.count *= n
        # The tiles, an axis for each spatial one, and where the results of a tile begin.
        self.tiles: list[tuple[str, Index]] = [(v, spec.extent(v)) for v in form.batch]
        self.origin: dict[str, Index] = {}
        self.requires: list[tuple[Index, int]] = []
        for (v, _), m in zip(form.windows, self.sizes, strict=True):
            extent = spec.extent(v)
            axis = f"{v}_w"
            self.tiles.append((axis, ceildiv(extent, m)))
            start: Index = var(axis) * m
            if not (isinstance(extent, int) and extent % m == 0):
                start = minimum(start, extent - m)
            if not isinstance(extent, int):
                self.requires.append((extent, m))
            self.origin[v] = start
        self.total = product([d for _, d in self.tiles])
        self.planes = {n: self.total * d + APART for n, d in (("v", self.depth), ("m", self.columns))}
        """Elements from a plane to the next."""
        self.elements = {
            "u": self.count * self.columns * self.depth,
            "v": self.count * self.planes["v"],
            "m": self.count * self.planes["m"],
        }
        self.tile = row_major(self.tiles)

    def run(self, target: Target, name: str) -> Lowered:
        operands = self.spec.contraction
        assert operands is not None
        source, taps = operands[self.form.source], operands[self.form.taps]
        parts = [self._filters(taps), self._elements(source), self._products()]
        made = lower(self._results(), self._across(self.form.columns), target, name)
        return Lowered(made.kernel, parts, [*self.requires, *made.requires])

    def _across(self, axis: str) -> Schedule:
        """The schedule of a transform: vectors along `axis`, all of them within a task."""
        return Schedule(tiles=((axis, LANES),), vector=axis, serial=((axis, 0),))

    def _made(self, name: str, spec: KernelSpec, source: str, schedule: Schedule) -> Packed:
        spec.symbols = symbols_of(spec)
        return Packed(name, "f32", self.elements[name], spec, source, schedule)

    def _spec(
        self, outer: Sequence[tuple[str, Index]], stages: list[Stage], reads: set[str], writes: str
    ) -> KernelSpec:
        buffers = [ir.Buffer(b.name, b.storage, "r") for b in self.spec.buffers if b.name in reads]
        buffers += [ir.Buffer(n, "f32", "r") for n in ("u", "v") if n in reads]
        buffers.append(ir.Buffer(writes, "f32", "w"))
        return KernelSpec(tuple(outer), stages, buffers, self.spec.hints, self.spec.bounds)

    def _filters(self, taps: ir.Expr) -> Packed:
        """u, its columns in blocks as the products read them: [q, block, c, column within the block]."""
        form = self.form
        column = var("block") * self.block + var(form.columns)
        blocks = floordiv(self.columns, self.block)
        values = transformed(
            [g for _, g, _ in self.transforms],
            lambda at: self._at(taps, at, {form.columns: column}),
            [TAPS] * len(self.points),
        )
        stores = []
        for q, value in enumerate(values):
            at = ((q * blocks + var("block")) * self.depth + var(form.depth)) * self.block + var(form.columns)
            stores.append(StoreTo("u", at, value))
        outer = [("block", blocks), (form.depth, self.depth), (form.columns, self.block)]
        spec = self._spec(outer, [Stage((), [], stores)], {taps.attr[0]}, "u")
        return self._made("u", spec, taps.attr[0], self._across(form.columns))

    def _elements(self, source: ir.Expr) -> Packed:
        form = self.form
        values = transformed(
            [b for _, _, b in self.transforms], lambda at: self._at(source, at, self.origin), self.points
        )
        stores = [
            StoreTo("v", self.tile * self.depth + var(form.depth) + q * self.planes["v"], value)
            for q, value in enumerate(values)
        ]
        outer = [*self.tiles, (form.depth, self.depth)]
        spec = self._spec(outer, [Stage((), [], stores)], {source.attr[0]}, "v")
        return self._made("v", spec, source.attr[0], self._across(form.depth))

    def _at(self, operand: ir.Expr, taps: Sequence[int], mapping: dict[str, Index]) -> ir.Expr:
        """The element of an operand at some taps."""
        places: dict[str, Index] = {tap: n for (_, tap), n in zip(self.form.windows, taps, strict=True)}
        return substitute_expr(operand, {**mapping, **places})

    def _products(self) -> Packed:
        form, depth = self.form, var(self.form.depth)
        blocks = floordiv(self.columns, self.block)
        q, block, tile, column = var("q"), var("block"), var("t"), var(form.columns)
        element = ir.load("v", q * self.planes["v"] + tile * self.depth + depth, "f32")
        weight = ir.load("u", ((q * blocks + block) * self.depth + depth) * self.block + column, "f32")
        reduction = self.spec.stages[0].reduces[0]
        sums = Stage(((form.depth, self.depth),), [type(reduction)("m0", "sum", ir.mul(element, weight))], [])
        place = q * self.planes["m"] + tile * self.columns + block * self.block + column
        stage = Stage((), [], [StoreTo("m", place, ir.local("m0", "f32"))])
        outer = [("q", self.count), ("block", blocks), ("t", self.total), (form.columns, self.block)]
        spec = self._spec(outer, [sums, stage], {"u", "v"}, "m")
        schedule = Schedule(tiles=(("t", self.rows), (form.columns, self.block)), vector=form.columns)
        return self._made("m", spec, "", schedule)

    def _fresh(self, offsets: Sequence[int]) -> ir.Expr | None:
        """Where the result at these offsets in a tile is not the neighbour's, computed there in another way; None: always.

        The last tile of an axis is moved back to end with the axis.
        """
        result: ir.Expr | None = None
        for (v, _), m, n in zip(self.form.windows, self.sizes, offsets, strict=True):
            extent, axis = self.spec.extent(v), var(f"{v}_w")
            if isinstance(extent, int):
                if n >= -extent % m:
                    continue
                here = ir.binary("lt", ir.index(axis), ir.const(extent // m, "i32"))
            elif n < m - 1:
                here = ir.binary("ge", ir.index(self.origin[v] + n), ir.index(axis * m))
            else:
                continue
            result = here if result is None else ir.binary("and", result, here)
        return result

    def _results(self) -> KernelSpec:
        spec, form = self.spec, self.form

        def product_at(at: Sequence[int]) -> ir.Expr:
            q = 0
            for n, points in zip(at, self.points, strict=True):
                q = q * points + n
            return ir.load("m", self.tile * self.columns + var(form.columns) + q * self.planes["m"], "f32")

        values = transformed([a for a, _, _ in self.transforms], product_at, self.points)
        reduction = spec.stages[0].reduces[0].name
        stores = []
        for offsets, value in zip(cartesian(*map(range, self.sizes)), values, strict=True):
            mapping = {v: self.origin[v] + n for (v, _), n in zip(form.windows, offsets, strict=True)}

            def result(e: ir.Expr, value: ir.Expr = value) -> ir.Expr | None:
                return value if e.op == "local" and e.attr == reduction else None

            memo: dict[ir.Expr, ir.Expr] = {}
            fresh = self._fresh(offsets)
            for stage in spec.stages[1:]:
                for w in stage.stores:
                    place = substitute(w.index, mapping)
                    whole = map_expr(substitute_expr(w.value, mapping), result, memo)
                    stores.append(StoreTo(w.buffer, place, whole, fresh))
        outer = [*self.tiles, (form.columns, self.columns)]
        stages = [Stage((), [], stores)]
        touched = touched_buffers(stages)
        buffers = [*(b for b in spec.buffers if b.name in touched), ir.Buffer("m", "f32", "r")]
        made = KernelSpec(tuple(outer), stages, buffers, spec.hints, spec.bounds)
        made.symbols = symbols_of(made)
        return made
