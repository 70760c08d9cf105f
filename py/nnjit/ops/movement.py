"""Moving elements: transposing, cutting, joining, repeating, padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import ir
from ..graph.graph import Node
from ..symbolic import ceildiv, maximum, minimum, mod
from ..tensor.tensor import Index, Tensor, physical_order
from .registry import Context, operator

_FAR = (1 << 31) - 1
"""Ends of slices from here on mean "to the end"."""


@operator("Transpose")
def transpose(ctx: Context, node: Node, x: Tensor) -> Tensor:
    axes = ctx.attr_ints("perm", range(x.rank)[::-1])
    if axes is None or sorted(axes) != list(range(x.rank)):
        raise ctx.malformed(f"perm {axes} is no permutation of {x.rank} axes")
    return x if axes == list(range(x.rank)) else ctx.b.permute(x, axes)


@operator("Concat")
def concat(ctx: Context, node: Node, *xs: Tensor) -> Tensor:
    return joined(ctx, xs, ctx.axis(ctx.attr_int("axis", 1), xs[0].rank))


def joined(ctx: Context, xs: Sequence[Tensor], axis: int) -> Tensor:
    """The operands one after the other along an axis. Raises ModelFormatError when they do not go together."""
    for x in xs[1:]:
        if x.rank != xs[0].rank or x.dtype != xs[0].dtype:
            raise ctx.malformed("operands differ in rank or dtype")
        for a in range(x.rank):
            if a != axis and not ctx.env.eq(x.shape[a], xs[0].shape[a]):
                raise ctx.malformed(f"operands have extents {xs[0].shape[a]} and {x.shape[a]} on axis {a}")
    folded = ctx.fold(lambda *contents: np.concatenate(contents, axis), *xs)
    if folded is not None:
        return folded
    filled = [x for x in xs if not (isinstance(x.shape[axis], int) and x.shape[axis] == 0)] or xs[:1]
    return filled[0] if len(filled) == 1 else ctx.b.concat(filled, axis)


# -- cutting ----------------------------------------------------------------------------------------------------


@operator("Split")
def split(ctx: Context, node: Node, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    """x cut along an axis: into the sizes given, or into equal parts of which the last may be smaller."""
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    extent = x.shape[axis]
    given: list[Index] | None
    if sizes is not None:
        given = ctx.ints(sizes, "sizes")
    else:
        given = ctx.attr_ints("split")  # type: ignore[assignment]
    if given is None:
        count = ctx.attr_int("num_outputs", len(node.outputs))
        chunk = ceildiv(extent, count)
        given = [chunk] * (count - 1)
        given.append(extent - chunk * (count - 1))
    return cut(ctx, x, axis, given)


def cut(ctx: Context, x: Tensor, axis: int, sizes: list[Index]) -> list[Tensor]:
    """x in parts of the given sizes along an axis. Raises ModelFormatError when they do not sum to its extent."""
    total: Index = 0
    parts = []
    for length in sizes:
        starts: list[Index] = [0] * x.rank
        starts[axis] = total
        dims = (*x.shape[:axis], length, *x.shape[axis + 1 :])
        parts.append(ctx.b.slice_(x, starts, [1] * x.rank, dims))
        total = total + length
    if not ctx.env.eq(total, x.shape[axis]):
        raise ctx.malformed(f"the sizes sum to {total}, but axis {axis} has {x.shape[axis]} elements")
    return parts


@operator("Slice")
def slice_by_attributes(ctx: Context, node: Node, x: Tensor) -> Tensor:
    starts, ends = ctx.attr_ints("starts", ()), ctx.attr_ints("ends", ())
    axes = ctx.attr_ints("axes", range(len(starts or ())))
    return _slice(ctx, x, list(starts or ()), list(ends or ()), axes or [], [1] * len(starts or ()))


@operator("Slice", since=10)
def slice_(
    ctx: Context,
    node: Node,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = ctx.ints(starts, "starts"), ctx.ints(ends, "ends")
    over = list(range(len(first))) if axes is None else ctx.fixed_ints(axes, "axes")
    by = [1] * len(first) if steps is None else ctx.fixed_ints(steps, "steps")
    return _slice(ctx, x, first, last, over, by)


def _slice(
    ctx: Context, x: Tensor, starts: list[Index], ends: list[Index], axes: list[int], steps: list[int]
) -> Tensor:
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ctx.malformed("starts, ends, axes and steps differ in length")
    origin: list[Index] = [0] * x.rank
    stride = [1] * x.rank
    dims = list(x.shape)
    for start, end, axis, step in zip(starts, ends, ctx.axes(axes, x.rank), steps, strict=True):
        if step == 0:
            raise ctx.malformed("a step is 0")
        origin[axis], dims[axis] = slice_extent(ctx, start, end, step, x.shape[axis])
        stride[axis] = step
    if dims == list(x.shape) and all(s == 1 for s in stride):
        return x
    return ctx.b.slice_(x, origin, stride, dims)


def slice_extent(ctx: Context, start: Index, end: Index, step: int, extent: Index) -> tuple[Index, Index]:
    """(first element, number of elements) of start:end:step on an axis of `extent`.

    ONNX clamps what numpy does not: going backwards, a start in front of the axis is its first element.
    """
    high: Index = extent if step > 0 else extent - 1

    def clamped(at: Index, low: int) -> Index:
        if isinstance(at, int) and abs(at) >= _FAR:
            return high if at > 0 else low
        if ctx.env.lt(at, 0):
            at = at + extent
            return at if ctx.env.ge(at, low) else low
        return high if ctx.env.ge(at, high) else at

    first, last = clamped(start, 0), clamped(end, 0 if step > 0 else -1)
    if extent == 0:
        return 0, 0
    distance = last - first if step > 0 else first - last
    if not ctx.env.gt(distance, 0):
        return 0, 0
    return first, ceildiv(distance, abs(step))


# -- repeating --------------------------------------------------------------------------------------------------


@operator("Tile")
def tile(ctx: Context, node: Node, x: Tensor, repeats: Tensor, axis: Tensor | None = None) -> Tensor:
    """x repeated along every axis; opsets before 6 give a count and one axis."""
    times: list[Index] = ctx.ints(repeats, "repeats")
    if axis is not None:
        every: list[Index] = [1] * x.rank
        every[ctx.axis(ctx.fixed_ints(axis, "axis")[0], x.rank)] = times[0]
        times = every
    if len(times) != x.rank:
        raise ctx.malformed(f"{len(times)} repeats for rank {x.rank}")
    if all(isinstance(t, int) and t == 1 for t in times):
        return x
    dims = [d * t for d, t in zip(x.shape, times, strict=True)]
    if 0 in x.shape:
        return ctx.b.reshape(x, dims)

    def source(*c: Index) -> list[Index]:
        at: list[Index] = []
        for i, d, t in zip(c, x.shape, times, strict=True):
            at.append(
                i if isinstance(t, int) and t == 1 else 0 if isinstance(d, int) and d == 1 else mod(i, d)
            )
        return at

    return ctx.b.view(x, dims, source)


# -- padding ----------------------------------------------------------------------------------------------------


@operator("Pad")
def pad(
    ctx: Context,
    node: Node,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """x with elements added (or, where a pad is negative, taken away) before and after each axis."""
    mode = ctx.attr_str("mode", "constant")
    if mode not in _SOURCES and mode != "constant":
        raise ctx.unsupported(f"mode '{mode}'")
    amounts: list[Index]
    if pads is None:
        amounts = list(ctx.attr_ints("pads") or ctx.attr_ints("paddings") or ())
    else:
        amounts = ctx.ints(pads, "pads")
    over = list(range(x.rank)) if axes is None else ctx.axes(ctx.fixed_ints(axes, "axes"), x.rank)
    if len(amounts) != 2 * len(over):
        raise ctx.malformed(f"{len(amounts)} pads for {len(over)} axes")
    before: list[Index] = [0] * x.rank
    after: list[Index] = [0] * x.rank
    for n, axis in enumerate(over):
        before[axis], after[axis] = amounts[n], amounts[n + len(over)]
    if all(isinstance(p, int) and p == 0 for p in (*before, *after)):
        return x
    if mode != "constant":
        return _pad_from_within(ctx, x, before, after, mode)
    if value is not None:
        fill = ctx.b.reshape(value, ()).at()
    else:
        fill = ir.const(ctx.attr_float("value", 0.0), ir.COMPUTE_OF[x.dtype])
    return pad_with(ctx, x, before, after, fill)


def pad_with(ctx: Context, x: Tensor, before: list[Index], after: list[Index], fill: ir.Expr) -> Tensor:
    """x with `fill` around it."""
    dims = _padded(ctx, x, before, after)
    beyond = [
        (not isinstance(p, int) or p > 0, not isinstance(q, int) or q > 0)
        for p, q in zip(before, after, strict=True)
    ]

    def element(*c: Index) -> ir.Expr:
        inside: list[ir.Expr] = []
        at: list[Index] = []
        for i, d, p, (front, back) in zip(c, x.shape, before, beyond, strict=True):
            s = i - p
            if front:
                inside.append(ir.binary("ge", ir.index(s), ir.const(0, "i32")))
                s = maximum(s, 0)
            if back:
                inside.append(ir.binary("lt", ir.index(i - p), ir.index(d)))
                s = minimum(s, d - 1)
            at.append(s)
        if not inside:
            return x.at(*at)
        if any(isinstance(d, int) and d == 0 for d in x.shape):
            return fill
        condition = inside[0]
        for test in inside[1:]:
            condition = ir.binary("and", condition, test)
        return ir.select(condition, x.at(*at), fill)

    return _in_order_of(ctx, x, dims, element)


def _reflected(s: Index, d: Index, near: bool) -> Index:
    if isinstance(d, int) and d == 1:
        return 0
    if near:  # no further out than the axis is long
        distance = maximum(s, s * -1)
        return minimum(distance, (d - 1) * 2 - distance)
    period = (d - 1) * 2
    phase = mod(s, period)
    return minimum(phase, period - phase)


_SOURCES: dict[str, Callable[[Index, Index, bool], Index]] = {
    "reflect": _reflected,
    "edge": lambda s, d, near: minimum(maximum(s, 0), d - 1),
    "wrap": lambda s, d, near: mod(s, d),
}
"""mode → f(element relative to the first of x, extent, whether pads are at most the extent less 1)."""


def _pad_from_within(ctx: Context, x: Tensor, before: list[Index], after: list[Index], mode: str) -> Tensor:
    dims = _padded(ctx, x, before, after)
    for axis, d in enumerate(x.shape):
        if d == 0 and dims[axis] != 0:
            raise ctx.malformed(f"axis {axis} has no elements to take pads from")
    if 0 in dims:
        return ctx.b.compute(dims, x.dtype, lambda *c: ir.const(0, ir.COMPUTE_OF[x.dtype]), "pad")
    near = [ctx.env.lt(p, d) and ctx.env.lt(q, d) for p, q, d in zip(before, after, x.shape, strict=True)]

    def element(*c: Index) -> ir.Expr:
        at: list[Index] = []
        for i, p, q, d, close in zip(c, before, after, x.shape, near, strict=True):
            untouched = isinstance(p, int) and isinstance(q, int) and p <= 0 and q <= 0
            at.append(i - p if untouched else _SOURCES[mode](i - p, d, close))
        return x.at(*at)

    return _in_order_of(ctx, x, dims, element)


def _padded(ctx: Context, x: Tensor, before: list[Index], after: list[Index]) -> list[Index]:
    dims = [d + p + q for d, p, q in zip(x.shape, before, after, strict=True)]
    for axis, d in enumerate(dims):
        if not ctx.env.ge(d, 0):
            raise ctx.malformed(f"the pads leave axis {axis} with {d} elements")
    return dims


def _in_order_of(ctx: Context, x: Tensor, dims: list[Index], element: Callable[..., ir.Expr]) -> Tensor:
    t = ctx.b.compute(dims, x.dtype, element, "pad")
    order = physical_order(x)
    if order is not None:
        t.order = order
    return t


@operator("CenterCropPad", since=18)
def center_crop_pad(ctx: Context, node: Node, x: Tensor, target: Tensor) -> Tensor:
    """x cut or padded with zeros around its centre to the extents given."""
    given = ctx.attr_ints("axes")
    axes = list(range(x.rank)) if given is None else ctx.axes(given, x.rank)
    before: list[Index] = [0] * x.rank
    after: list[Index] = [0] * x.rank
    for axis, wanted in zip(axes, ctx.fixed_ints(target, "shape"), strict=True):
        extra = wanted - ctx.env.fix(x.shape[axis])
        before[axis] = extra // 2 if extra >= 0 else -(-extra // 2)
        after[axis] = extra - before[axis]
    return pad_with(ctx, x, before, after, ir.const(0, ir.COMPUTE_OF[x.dtype]))


# -- blocks -----------------------------------------------------------------------------------------------------


@operator("DepthToSpace")
def depth_to_space(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """Blocks of channels become blocks of pixels: [N, C, H, W] → [N, C / b², H·b, W·b]."""
    n, c, h, w = x.shape
    size = ctx.attr_int("blocksize", 1)
    channels = ctx.env.fix(c) // (size * size)
    if ctx.attr_str("mode", "DCR") == "DCR":
        split, order = (n, size, size, channels, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (n, channels, size, size, h, w), (0, 1, 4, 2, 5, 3)
    blocks = ctx.b.permute(ctx.b.reshape(x, split), order)
    return ctx.b.reshape(blocks, (n, channels, h * size, w * size))


@operator("SpaceToDepth")
def space_to_depth(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """Blocks of pixels become blocks of channels: [N, C, H, W] → [N, C·b², H / b, W / b]."""
    n, c, h, w = x.shape
    size = ctx.attr_int("blocksize", 1)
    if not (ctx.env.eq(mod(h, size), 0) and ctx.env.eq(mod(w, size), 0)):
        raise ctx.malformed(f"{h} × {w} pixels do not split into blocks of {size}")
    rows, columns = h // size, w // size
    order = (0, 3, 5, 1, 2, 4) if ctx.attr_str("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    blocks = ctx.b.permute(ctx.b.reshape(x, (n, c, rows, size, columns, size)), order)
    return ctx.b.reshape(blocks, (n, c * size * size, rows, columns))


@operator("ReverseSequence", since=10)
def reverse_sequence(ctx: Context, node: Node, x: Tensor, lengths: Tensor) -> Tensor:
    """The first lengths[batch] elements of the time axis in reverse, the rest as they are."""
    time, batch = ctx.attr_int("time_axis", 0), ctx.attr_int("batch_axis", 1)
    extent = x.shape[time]

    def element(*c: Index) -> ir.Expr:
        t = ir.index(c[time])
        length = ir.cast(lengths.at(c[batch]), "i32")
        mirrored = ir.sub(ir.sub(length, ir.const(1, "i32")), t)
        source = ir.select(ir.binary("lt", t, length), mirrored, t)
        source = ir.binary("max", ir.binary("min", source, ir.index(extent - 1)), ir.const(0, "i32"))
        return x.at(*(ir.value_index(source) if a == time else i for a, i in enumerate(c)))

    return ctx.b.compute(x.shape, x.dtype, element, "reverse")
