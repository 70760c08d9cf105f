"""Pools: MaxPool, AveragePool, LpPool, and those over the whole of the spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv, maximum, minimum, product
from ..tensor.tensor import Compute, Tensor
from .content import FLOATS
from .elementwise import no_number
from .reduction import mean_over, reduced, wide
from .registry import Context, operator
from .window import Window, all_of, follow_order

Index = int | IntExpr
Map = Callable[[ir.Expr], ir.Expr]


def _window(ctx: Context, x: Tensor) -> Window:
    kernel = ctx.attr_ints("kernel_shape")
    if not kernel:
        raise ctx.malformed("the attribute 'kernel_shape' is missing")
    return Window(ctx, kernel, x.shape[2:])


def lowest(dtype: str) -> float | int:
    """What every element of `dtype` is at least."""
    if dtype in ("f16", "f32", "f64"):
        return float("-inf")
    return int(np.iinfo({"u": "uint", "i": "int"}[dtype[0]] + dtype[1:]).min)


# -- MaxPool ----------------------------------------------------------------------------------------------------------


@operator("MaxPool")
def max_pool(ctx: Context, node: Node, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    window = _window(ctx, x)
    y = _largest(ctx, x, window)
    if len(node.outputs) < 2 or not node.outputs[1]:
        return y
    return y, _place_of_largest(ctx, x, y, window, ctx.attr_int("storage_order", 0) == 1)


def _taps(window: Window, at: Sequence[Index], taps: Sequence[Index]) -> tuple[list[Index], ir.Expr | None]:
    """Input coordinates of a tap, folded onto the border, and whether it was inside (None: always)."""
    coords: list[Index] = []
    conditions: list[ir.Expr] = []
    for axis, (c, k) in enumerate(zip(at, taps, strict=True)):
        index, tests = window.clamped(axis, c, k)
        coords.append(index)
        conditions += tests
    return coords, all_of(conditions)


def _folding_is_harmless(window: Window) -> bool:
    """Whether a tap outside, folded onto the border, falls on another tap of the same window."""
    return all(
        d == 1 and isinstance(b, int) and isinstance(e, int) and b < k and e < k
        for d, b, e, k in zip(window.dilations, window.begin, window.end, window.kernel, strict=True)
    )


def _largest(ctx: Context, x: Tensor, window: Window) -> Compute:
    rank = len(window.kernel)
    fold = _folding_is_harmless(window)

    def element(*at: Index) -> ir.Expr:
        coords, inside = _taps(window, at[2 : 2 + rank], at[2 + rank :])
        value = x.at(*at[:2], *coords)
        if inside is None or fold:
            return value
        return ir.select(inside, value, ir.const(lowest(x.dtype), value.dtype))

    shape = (*x.shape[:2], *window.outputs)
    y = ctx.b.reduce("max", shape, window.kernel, element, x.dtype, "max_pool")
    follow_order(y, x)
    return y


def _place_of_largest(ctx: Context, x: Tensor, y: Tensor, window: Window, column_major: bool) -> Tensor:
    """The place of the (first) maximum in x, flattened; the spatial axes in reverse order when `column_major`.

    Where there is a NaN, the maximum is the first one.
    """
    rank = len(window.kernel)
    spatial = x.shape[2:]

    def element(*at: Index) -> ir.Expr:
        outer = at[: 2 + rank]
        coords, inside = _taps(window, at[2 : 2 + rank], at[2 + rank :])
        value = x.at(*at[:2], *coords)
        found = ir.binary("eq", value, y.at(*outer))
        if x.dtype in FLOATS:
            found = ir.binary("or", found, no_number(value))
        if inside is not None:
            found = ir.binary("and", found, inside)
        place: Index = 0
        for c, d in zip(coords, spatial, strict=True):
            place = place * d + c
        plane = (at[0] * x.shape[1] + at[1]) * product(spatial)
        return ir.select(found, ir.index(plane + place), ir.const((1 << 31) - 1, "i32"))

    place = ctx.b.reduce("min", y.shape, window.kernel, element, "i32", "max_pool")
    follow_order(place, x)

    def stored(i: ir.Expr) -> ir.Expr:
        if column_major and rank > 1:
            total, size, step = i, product(spatial), product(spatial[1:])
            i = ir.mul(ir.binary("div", total, ir.index(size)), ir.index(size))
            rest, weight = ir.binary("rem", total, ir.index(size)), ir.index(1)
            for n, d in enumerate(spatial):
                i = ir.add(i, ir.mul(ir.binary("div", rest, ir.index(step)), weight))
                rest, weight = ir.binary("rem", rest, ir.index(step)), ir.mul(weight, ir.index(d))
                step = product(spatial[n + 2 :])
        return ir.cast(i, "i64")

    return ctx.b.elementwise(stored, place, dtype="i64", label="max_pool")


# -- AveragePool, LpPool ----------------------------------------------------------------------------------------------


def _window_sum(ctx: Context, x: Tensor, window: Window, f: Map | None = None) -> Compute:
    """The sum of f(x), or of x, over each window; the padding counts as 0."""
    rank = len(window.kernel)

    def element(*at: Index) -> ir.Expr:
        coords, inside = _taps(window, at[2 : 2 + rank], at[2 + rank :])
        value = x.at(*at[:2], *coords)
        value = f(value) if f else value
        return value if inside is None else ir.select(inside, value, ir.const(0, value.dtype))

    shape = (*x.shape[:2], *window.outputs)
    y = ctx.b.reduce("sum", shape, window.kernel, element, wide(x.dtype), "pool")
    follow_order(y, x)
    return y


def _taps_within(window: Window, axis: int, at: Index, low: Index, high: Index) -> Index:
    """How many taps of window `at` lie at positions low … high − 1, counted from the input's first element."""
    kernel, step = window.kernel[axis], window.dilations[axis]
    before = maximum(low - window.position(axis, at, 0) + (step - 1), 0)
    until = maximum(high - window.position(axis, at, 0) + (step - 1), 0)
    return minimum(floordiv(until, step), kernel) - minimum(floordiv(before, step), kernel)


@operator("AveragePool")
def average_pool(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """The mean over each window: of the elements inside the input, or inside input and padding."""
    window = _window(ctx, x)
    rank = len(window.kernel)
    total = _window_sum(ctx, x, window)
    count_padding = ctx.attr_int("count_include_pad", 0) == 1
    ranges: list[tuple[Index, Index] | None] = []
    for a in range(rank):
        before, after = window.overhangs(a)
        if count_padding:
            end = window.inputs[a] + window.end[a]
            last = window.position(a, window.outputs[a] - 1, window.kernel[a] - 1)
            fits = last - end
            full = fits < 0 if isinstance(fits, int) else ctx.attr_int("ceil_mode", 0) == 0
            ranges.append(None if full else (-1 * window.begin[a], end))
        else:
            ranges.append((0, window.inputs[a]) if before or after else None)
    if not any(ranges):
        taps = math.prod(window.kernel)
        return ctx.b.elementwise(
            lambda t: ir.div(t, ir.const(taps, t.dtype)), total, dtype=x.dtype, label="average_pool"
        )

    def element(*at: Index) -> ir.Expr:
        count: Index = 1
        for a, within in enumerate(ranges):
            count = count * (_taps_within(window, a, at[2 + a], *within) if within else window.kernel[a])
        t = total.at(*at)
        return ir.div(t, ir.cast(ir.index(count), t.dtype))

    y = ctx.b.compute(total.shape, x.dtype, element, "average_pool")
    y.order = total.order
    return y


def _power(p: float) -> Map:
    """v ↦ |v| to the power p."""

    def f(v: ir.Expr) -> ir.Expr:
        if p == 1:
            return ir.unary("abs", v)
        if p == 2:
            return ir.mul(v, v)
        return ir.binary("pow", ir.unary("abs", v), ir.const(p, v.dtype))

    return f


def _root(p: float) -> Map:
    """v ↦ v to the power 1 / p, for v ≥ 0."""

    def f(v: ir.Expr) -> ir.Expr:
        if p == 1:
            return v
        if p == 2:
            return ir.unary("sqrt", v)
        return ir.binary("pow", v, ir.const(1.0 / p, v.dtype))

    return f


@operator("LpPool")
def lp_pool(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """(Σ |x|^p)^(1/p) over each window."""
    p = float(ctx.attr_float("p", 2.0))
    total = _window_sum(ctx, x, _window(ctx, x), _power(p))
    return ctx.b.elementwise(_root(p), total, dtype=x.dtype, label="lp_pool")


# -- over everything --------------------------------------------------------------------------------------------------


@operator("GlobalAveragePool")
def global_average_pool(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return mean_over(ctx, x, range(2, x.rank))


@operator("GlobalMaxPool")
def global_max_pool(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return reduced(ctx, "max", x, range(2, x.rank), label="global_max_pool")


@operator("GlobalLpPool")
def global_lp_pool(ctx: Context, node: Node, x: Tensor) -> Tensor:
    p = float(ctx.attr_float("p", 2.0))
    total = reduced(ctx, "sum", x, range(2, x.rank), _power(p), label="global_lp_pool")
    return ctx.b.elementwise(_root(p), total, dtype=x.dtype, label="global_lp_pool")
