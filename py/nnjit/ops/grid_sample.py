"""GridSample: reading a tensor at places that another tensor gives; AffineGrid: such places."""

from __future__ import annotations

from itertools import product

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr
from ..tensor.tensor import Tensor
from .elementwise import like
from .registry import Context, operator
from .resize import as_float, clamped, interpolation_weight
from .window import all_of

Index = int | IntExpr
_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def _reflected(v: ir.Expr, extent: Index, aligned: bool) -> ir.Expr:
    """v mirrored at both borders until it is within: a triangle wave. Borders: pixel centres if `aligned`, else edges."""
    low = 0.0 if aligned else -0.5
    if aligned and extent == 1:
        return like(v, 0.0)
    span = as_float(extent - 1 if aligned else extent)
    period = ir.add(span, span)
    distance = ir.unary("abs", ir.sub(v, like(v, low)))
    turns = ir.unary("floor", ir.div(distance, period))
    rest = ir.sub(distance, ir.mul(turns, period))
    return ir.add(ir.binary("min", rest, ir.sub(period, rest)), like(v, low))


@operator("GridSample", since=16)
def grid_sample(ctx: Context, node: Node, x: Tensor, grid: Tensor) -> Tensor:
    """y[n, c, o…] = x at grid[n, o…], whose last axis has a coordinate in −1 … 1 for each spatial axis, the last one first."""
    mode = ctx.attr_str("mode", "linear")
    mode = _MODES.get(mode, mode)
    padding = ctx.attr_str("padding_mode", "zeros")
    if mode not in ("nearest", "linear", "cubic") or padding not in ("zeros", "border", "reflection"):
        raise ctx.malformed(f"the mode '{mode}' with padding_mode '{padding}' is unknown")
    if grid.rank != x.rank or not ctx.env.eq(grid.shape[-1], x.rank - 2):
        raise ctx.malformed(f"a grid {ctx.extents(grid)} does not fit an input {ctx.extents(x)}")
    sampler = _Sampler(x, grid, mode, padding, ctx.attr_int("align_corners", 0) == 1)
    return ctx.b.compute((x.shape[0], x.shape[1], *grid.shape[1:-1]), x.dtype, sampler.element, "grid_sample")


class _Sampler:
    """Elements of x [n, c, spatial axes …] at and between its own, at the places that `grid` gives."""

    def __init__(self, x: Tensor, grid: Tensor, mode: str, padding: str, aligned: bool) -> None:
        self.x = x
        self.grid = grid
        self.mode = mode
        self.padding = padding
        self.aligned = aligned
        self.extents = x.shape[2:]

    def element(self, n: Index, c: Index, *at: Index) -> ir.Expr:
        """The result at a point of the grid: one element of x, or the weighted sum of those around the place."""
        coords = self._place(n, *at)
        if self.mode == "nearest":
            return self._pixel(n, c, [ir.cast(v, "i32") for v in coords])
        taps = (0, 1) if self.mode == "linear" else (-1, 0, 1, 2)
        lows = [ir.unary("floor", v) for v in coords]
        total: ir.Expr | None = None
        for offsets in product(taps, repeat=len(self.extents)):
            weight: ir.Expr | None = None
            for v, low, t in zip(coords, lows, offsets, strict=True):
                distance = ir.unary("abs", ir.sub(v, ir.add(low, like(low, t))))
                w = interpolation_weight(self.mode, distance)
                weight = w if weight is None else ir.mul(weight, w)
            where = [ir.cast(ir.add(low, like(low, t)), "i32") for low, t in zip(lows, offsets)]
            value = self._pixel(n, c, where)
            term = ir.mul(value, ir.cast(weight, value.dtype))  # type: ignore[arg-type]
            total = term if total is None else ir.add(total, term)
        return total  # type: ignore[return-value]

    def _place(self, n: Index, *at: Index) -> list[ir.Expr]:
        """Coordinates in elements of x, for the padding mode brought near the input."""
        coords = []
        for axis, extent in enumerate(self.extents):
            v = ir.cast(self.grid.at(n, *at, len(self.extents) - 1 - axis), "f32")
            v = ir.add(v, like(v, 1.0))
            if self.aligned:
                v = ir.mul(ir.mul(v, like(v, 0.5)), as_float(extent - 1))
            else:
                v = ir.mul(ir.sub(ir.mul(v, as_float(extent)), like(v, 1.0)), like(v, 0.5))
            if self.mode == "nearest":
                v = ir.unary("round", v)
            if self.padding == "border" and self.mode != "cubic":  # a cubic's taps are clamped one by one
                v = clamped(v, extent)
            elif self.padding == "reflection":
                v = _reflected(v, extent, self.aligned)
            coords.append(v)
        return coords

    def _pixel(self, n: Index, c: Index, coords: list[ir.Expr]) -> ir.Expr:
        """The element of x at integers given as i32; outside, what the padding mode says."""
        if self.padding == "reflection":
            coords = [
                ir.cast(ir.unary("round", _reflected(ir.cast(v, "f32"), d, self.aligned)), "i32")
                for v, d in zip(coords, self.extents, strict=True)
            ]
        inside = [ir.value_index(clamped(v, d)) for v, d in zip(coords, self.extents, strict=True)]
        value = self.x.at(n, c, *inside)
        if self.padding != "zeros":
            return value
        tests = []
        for v, d in zip(coords, self.extents, strict=True):
            tests += [ir.binary("ge", v, like(v, 0)), ir.binary("lt", v, ir.index(d))]
        return ir.select(all_of(tests), value, like(value, 0))  # type: ignore[arg-type]


@operator("AffineGrid", since=20)
def affine_grid(ctx: Context, node: Node, theta: Tensor, size: Tensor) -> Tensor:
    """Where theta [N, R, R + 1] takes the elements of an image of `size` [N, C, R spatial axes]: a grid [N, …, R].

    Coordinates are −1 … 1, the last axis first; an axis of one element has 0.
    """
    spatial = ctx.ints(size, "size")[2:]
    rank = len(spatial)
    if theta.rank != 3 or [ctx.env.fix(d) for d in theta.shape[1:]] != [rank, rank + 1]:
        raise ctx.malformed(f"matrices {ctx.extents(theta)} do not fit an image of {rank} spatial axes")
    aligned = ctx.attr_int("align_corners", 0) == 1
    dtype = ir.COMPUTE_OF[theta.dtype]

    def coordinate(at: Index, extent: Index) -> ir.Expr:
        if aligned and extent == 1:
            return ir.const(0.0, dtype)
        twice, span = (at * 2, extent - 1) if aligned else (at * 2 + 1, extent)
        place = ir.div(ir.cast(ir.index(twice), dtype), ir.cast(ir.index(span), dtype))
        return ir.sub(place, ir.const(1.0, dtype))

    def element(n: Index, *at: Index) -> ir.Expr:
        *places, i = at
        value = theta.at(n, i, rank)
        for a, (place, extent) in enumerate(zip(places, spatial, strict=True)):
            value = ir.add(value, ir.mul(theta.at(n, i, rank - 1 - a), coordinate(place, extent)))
        return value

    return ctx.b.compute((theta.shape[0], *spatial, rank), theta.dtype, element, "affine_grid")
