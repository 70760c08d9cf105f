"""Reductions over axes: the Reduce family, ArgMax and ArgMin, Softmax and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, product
from ..tensor.tensor import Compute, Tensor
from .registry import Context, operator

Index = int | IntExpr
FLOATS = ("f16", "f32", "f64")


def wide(dtype: str) -> str:
    """The dtype for intermediate results about elements of `dtype`."""
    return "f32" if dtype == "f16" else dtype


def reduced(
    ctx: Context,
    combine: str,
    x: Tensor,
    axes: Sequence[int],
    f: Callable[..., ir.Expr] | None = None,
    *others: Tensor,
    keepdims: bool = True,
    dtype: str | None = None,
    label: str = "",
) -> Compute:
    """f(x, others…) combined over `axes` of x; the others have extent 1 along these axes, the rest like x.

    The result keeps the reduced axes with extent 1, unless `keepdims` is false. Its dtype is `dtype`, by default that
    of x, but f32 for sums of f16, which leave the range of f16 soon.
    """
    axes = list(axes)
    kept = [a for a in range(x.rank) if a not in axes]
    if keepdims:
        shape = [1 if a in axes else d for a, d in enumerate(x.shape)]
    else:
        shape = [x.shape[a] for a in kept]
    dtype = dtype or (wide(x.dtype) if combine == "sum" else x.dtype)

    def element(*at: Index) -> ir.Expr:
        coords: list[Index] = list(at[: len(shape)]) if keepdims else [0] * x.rank
        if not keepdims:
            for a, c in zip(kept, at, strict=False):
                coords[a] = c
        outer = tuple(0 if a in axes else c for a, c in enumerate(coords))
        for a, c in zip(axes, at[len(shape) :], strict=True):
            coords[a] = c
        value = x.at(*coords)
        return f(value, *(o.at(*outer) for o in others)) if f else value

    return ctx.b.reduce(combine, shape, [x.shape[a] for a in axes], element, dtype, label or combine)


LEAST_ROW = 64
"""Elements that a row is to have, where a tensor is reduced row by row first: a few vectors."""


def reduced_to_one(ctx: Context, combine: str, x: Tensor) -> Tensor:
    """All elements of x combined to one value, of rank 0.

    Rows come first, and then what they came to: several threads share the rows, and they may be reduced where they are
    made. A row is as many of the last axes as it takes for LEAST_ROW elements; with fewer than four rows it is one step.
    """
    env = ctx.b.env
    cut = x.rank
    while cut > 0 and env.hint(product(x.shape[cut:])) < LEAST_ROW:
        cut -= 1
    if env.hint(product(x.shape[:cut])) < 4:
        cut = 0
    if cut:
        x = reduced(ctx, combine, x, range(cut, x.rank), keepdims=False)
    return reduced(ctx, combine, x, range(x.rank), keepdims=False)


def count_of(x: Tensor, axes: Sequence[int], dtype: str) -> ir.Expr:
    """How many elements one result over `axes` comes from, as a value of compute dtype `dtype`."""
    return ir.cast(ir.index(product([x.shape[a] for a in axes])), dtype)


def mean_over(
    ctx: Context, x: Tensor, axes: Sequence[int], keepdims: bool = True, dtype: str | None = None
) -> Tensor:
    """The mean of x over `axes`, of the dtype of x by default; integers are divided with truncation."""
    total = reduced(ctx, "sum", x, axes, keepdims=keepdims)
    return ctx.b.elementwise(
        lambda t: ir.div(t, count_of(x, axes, t.dtype)), total, dtype=dtype or x.dtype, label="mean"
    )


# -- the Reduce family ------------------------------------------------------------------------------------------------

Map = Callable[[ir.Expr], ir.Expr]


def _absolute(v: ir.Expr) -> ir.Expr:
    return ir.unary("abs", v)


def _square(v: ir.Expr) -> ir.Expr:
    return ir.mul(v, v)


def _root(v: ir.Expr) -> ir.Expr:
    if v.dtype in ("f32", "f64"):
        return ir.unary("sqrt", v)
    return ir.cast(ir.unary("sqrt", ir.cast(v, "f64")), v.dtype)


def _log(v: ir.Expr) -> ir.Expr:
    if v.dtype in ("f32", "f64"):
        return ir.unary("log", v)
    return ir.cast(ir.unary("log", ir.cast(v, "f64")), v.dtype)


_FAMILY: dict[str, tuple[str, Map | None, Map | None]] = {
    "ReduceSum": ("sum", None, None),
    "ReduceProd": ("prod", None, None),
    "ReduceMax": ("max", None, None),
    "ReduceMin": ("min", None, None),
    "ReduceL1": ("sum", _absolute, None),
    "ReduceL2": ("sum", _square, _root),
    "ReduceSumSquare": ("sum", _square, None),
    "ReduceLogSum": ("sum", None, _log),
}
"""Operator → (how elements combine, what is done to each before, what to the result)."""

_FOLDS: dict[str, np.ufunc] = {"ReduceSum": np.add, "ReduceProd": np.multiply}
_EXTREMA: dict[str, np.ufunc] = {"ReduceMax": np.maximum, "ReduceMin": np.minimum}


def _axes_of(ctx: Context, x: Tensor, axes: Tensor | None) -> list[int] | None:
    """The axes to reduce over, from the input or the attribute; None where the node is to reduce nothing."""
    given = ctx.attr_ints("axes") if axes is None else ctx.fixed_ints(axes, "input 'axes'")
    if not given:
        return None if ctx.attr_int("noop_with_empty_axes", 0) else list(range(x.rank))
    return sorted(ctx.axes(given, x.rank))


@operator(*_FAMILY)
def reduce(ctx: Context, node: Node, x: Tensor, axes_input: Tensor | None = None) -> Tensor:
    combine, before, after = _FAMILY[node.op]
    axes = _axes_of(ctx, x, axes_input)
    keepdims = ctx.attr_int("keepdims", 1) == 1
    if axes is not None:
        folded = _fold(ctx, node.op, x, tuple(axes), keepdims)
        if folded is not None:
            return folded
    if not axes:
        steps = [f for f in (before, after) if f]
        for f in steps:
            x = ctx.b.elementwise(f, x, label=combine)
        return x
    if x.dtype == "bool":
        total = reduced(
            ctx, combine, x, axes, lambda v: ir.cast(v, "i32"), keepdims=keepdims, dtype="i32", label=node.op
        )
        # Not "ne": over nothing, the maximum is the lowest integer, and must be false.
        test = "gt" if combine == "max" else "ne"
        return ctx.b.elementwise(lambda v: ir.binary(test, v, ir.const(0, "i32")), total, dtype="bool")
    dtype = wide(x.dtype) if after else x.dtype
    total = reduced(ctx, combine, x, axes, before, keepdims=keepdims, dtype=dtype, label=node.op)
    return ctx.b.elementwise(after, total, dtype=x.dtype, label=node.op) if after else total


@operator("ReduceMean")
def reduce_mean(ctx: Context, node: Node, x: Tensor, axes_input: Tensor | None = None) -> Tensor:
    axes = _axes_of(ctx, x, axes_input)
    return x if not axes else mean_over(ctx, x, axes, ctx.attr_int("keepdims", 1) == 1)


@operator("ReduceLogSumExp")
def reduce_log_sum_exp(ctx: Context, node: Node, x: Tensor, axes_input: Tensor | None = None) -> Tensor:
    """log Σ exp x, computed as m + log Σ exp(x − m) with m the maximum where that is finite, so that exp stays in range."""
    axes = _axes_of(ctx, x, axes_input)
    if not axes:
        return x
    if x.dtype not in FLOATS:
        raise ctx.unsupported(f"elements of type {x.dtype}")
    keepdims = ctx.attr_int("keepdims", 1) == 1
    largest = reduced(ctx, "pmax", x, axes)
    shift = ctx.b.elementwise(_finite_or_zero, largest, label="shift")
    total = reduced(ctx, "sum", x, axes, lambda v, m: ir.unary("exp", ir.sub(v, m)), shift)
    result = ctx.b.elementwise(
        lambda m, s: ir.add(m, ir.unary("log", s)), shift, total, dtype=x.dtype, label=node.op
    )
    return result if keepdims else _squeeze(ctx, result, axes)


def _finite_or_zero(v: ir.Expr) -> ir.Expr:
    """v where it is finite, else 0: the difference of two equal infinities would be NaN."""
    finite = ir.binary("lt", ir.unary("abs", v), ir.const(float("inf"), v.dtype))
    return ir.select(finite, v, ir.const(0.0, v.dtype))


def _squeeze(ctx: Context, x: Tensor, axes: Sequence[int]) -> Tensor:
    return ctx.b.reshape(x, [d for a, d in enumerate(x.shape) if a not in axes])


def _fold(ctx: Context, op: str, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor | None:
    """The reduction of known elements, for the operators that shape arithmetic uses."""
    if op in _FOLDS:
        ufunc = _FOLDS[op]
        return ctx.fold(lambda c: np.asarray(ufunc.reduce(c, axis=axes, keepdims=keepdims), object), x)
    if op in _EXTREMA and x.content is not None and x.content.size:
        if not any(isinstance(v, IntExpr) for v in x.content.reshape(-1)):
            extremum = _EXTREMA[op]
            return ctx.fold(lambda c: np.asarray(extremum.reduce(c, axis=axes, keepdims=keepdims), object), x)
        return ctx.fold(lambda c: _symbolic_extremum(ctx, op, c, axes, keepdims), x)
    return None


def _symbolic_extremum(
    ctx: Context, op: str, content: np.ndarray, axes: tuple[int, ...], keepdims: bool
) -> np.ndarray:
    """Maximum or minimum of symbols: the comparisons are guarded."""
    better = ctx.env.gt if op == "ReduceMax" else ctx.env.lt
    moved = np.moveaxis(content, axes, range(len(axes)))
    rest = moved.shape[len(axes) :]
    rows = moved.reshape((-1, *rest))
    result = rows[0].copy() if rest else np.asarray(rows[0], object)
    for row in rows[1:]:
        for at in np.ndindex(*rest):
            candidate: Index = row[at] if rest else row
            best: Index = result[at]  # type: ignore[assignment]
            if better(candidate, best):
                result[at] = candidate
    if keepdims:
        result = np.expand_dims(result, axes)
    return result


# -- ArgMax, ArgMin ---------------------------------------------------------------------------------------------------


@operator("ArgMax", "ArgMin")
def arg_extremum(ctx: Context, node: Node, x: Tensor) -> Tensor:
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    last = ctx.attr_int("select_last_index", 0) == 1
    index = index_of_extremum(ctx, x, axis, "max" if node.op == "ArgMax" else "min", last)
    result = ctx.b.elementwise(lambda i: ir.cast(i, "i64"), index, dtype="i64", label=node.op)
    return result if ctx.attr_int("keepdims", 1) else _squeeze(ctx, result, [axis])


def index_of_extremum(ctx: Context, x: Tensor, axis: int, combine: str, last: bool = False) -> Tensor:
    """Where along `axis` x is largest ("max") or smallest ("min"), as i32 with the axis kept: the first or last place.

    Two reductions: the extremum, then the smallest (largest) index at which x is equal to it.
    """
    extremum = reduced(ctx, combine, x, [axis])
    shape = [1 if a == axis else d for a, d in enumerate(x.shape)]
    extent = x.shape[axis]
    none = ir.const(-1, "i32") if last else ir.index(extent - 1)

    def place(*at: Index) -> ir.Expr:
        outer, i = at[: x.rank], at[-1]
        coords = (*outer[:axis], i, *outer[axis + 1 :])
        found = ir.binary("eq", x.at(*coords), extremum.at(*outer[:axis], 0, *outer[axis + 1 :]))
        return ir.select(found, ir.index(i), none)

    return ctx.b.reduce("max" if last else "min", shape, [extent], place, "i32", "index")


# -- Softmax ----------------------------------------------------------------------------------------------------------


def _softmax_axes(ctx: Context, x: Tensor) -> list[int]:
    """Before opset 13, softmax is over all axes from `axis` on together."""
    if ctx.opset >= 13:
        return [ctx.axis(ctx.attr_int("axis", -1), x.rank)]
    axis = ctx.attr_int("axis", 1)
    return list(range(ctx.axis(axis, x.rank) if axis != x.rank else x.rank, x.rank))


def softmax_over(ctx: Context, x: Tensor, axes: Sequence[int]) -> Tensor:
    """exp(x − max) / Σ exp(x − max) over `axes`. A NaN makes its exponential, and so the sum, NaN: the maximum need not."""
    b = ctx.b
    largest = reduced(ctx, "pmax", x, axes, label="softmax")
    e = b.elementwise(
        lambda v, m: ir.unary("exp_nonpositive", ir.sub(v, m)),
        x,
        largest,
        dtype=wide(x.dtype),
        label="softmax",
    )
    total = reduced(ctx, "sum", e, axes, label="softmax")
    scale = b.elementwise(lambda s: ir.div(ir.const(1.0, s.dtype), s), total, label="softmax")
    return b.elementwise(ir.mul, e, scale, dtype=x.dtype, label="softmax")


@operator("Softmax")
def softmax(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return softmax_over(ctx, x, _softmax_axes(ctx, x))


@operator("LogSoftmax")
def log_softmax(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """(x − max) − log Σ exp(x − max)."""
    axes = _softmax_axes(ctx, x)
    largest = reduced(ctx, "pmax", x, axes, label="log_softmax")
    total = reduced(
        ctx,
        "sum",
        x,
        axes,
        lambda v, m: ir.unary("exp_nonpositive", ir.sub(v, m)),
        largest,
        label="log_softmax",
    )
    return ctx.b.elementwise(
        lambda v, m, s: ir.sub(ir.sub(v, m), ir.unary("log", s)), x, largest, total, label="log_softmax"
    )


@operator("Hardmax")
def hardmax(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """1 at the first maximum along the axis, 0 elsewhere."""
    axes = _softmax_axes(ctx, x)
    shape = x.shape
    if len(axes) != 1:
        x = ctx.b.reshape(x, (*x.shape[: axes[0]], product([x.shape[a] for a in axes])))
    axis = axes[0]
    place = index_of_extremum(ctx, x, axis, "max")
    cd = ir.COMPUTE_OF[x.dtype]

    def element(*at: Index) -> ir.Expr:
        here = ir.binary("eq", ir.index(at[axis]), place.at(*at[:axis], 0, *at[axis + 1 :]))
        return ir.select(here, ir.const(1, cd), ir.const(0, cd))

    return ctx.b.reshape(ctx.b.compute(x.shape, x.dtype, element, "hardmax"), shape)
