"""Shapes: asking for them, changing them without touching elements, and tensors that a shape alone defines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ir
from ..graph.dtype import NUMPY
from ..graph.graph import Node
from ..onnx.tensors import DTYPES
from ..symbolic import IntExpr, ceildiv, floordiv, product
from ..tensor.tensor import Compute, Index, Shape, Tensor
from . import content as known
from .content import FLOATS
from .registry import MAX_CONTENT, Context, operator


def objects(values: list) -> np.ndarray:
    """A list as an object array of one dimension."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


# -- asking -----------------------------------------------------------------------------------------------------


@operator("Shape")
def shape(ctx: Context, node: Node, x: Tensor) -> Tensor:
    dims = x.shape[ctx.attr_int("start", 0) :]
    if "end" in node.attrs:
        dims = x.shape[ctx.attr_int("start", 0) : ctx.attr_int("end", 0)]
    return ctx.b.known(objects(list(dims)), "i64")


@operator("Size")
def size(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return ctx.b.known(np.asarray(x.size, dtype=object), "i64")


@operator("Identity")
def identity(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return x


@operator("Dropout")
def dropout(ctx: Context, node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None):  # type: ignore[no-untyped-def]
    """x itself: dropping is for training."""
    if training is not None and known.truth(ctx.env, ctx.scalar(training, "training mode")):
        raise ctx.unsupported("training mode")
    if len(node.outputs) < 2:
        return x
    return x, filled(ctx, x.shape, True, "bool" if ctx.opset >= 10 else x.dtype)


# -- reshaping --------------------------------------------------------------------------------------------------


@operator("Reshape")
def reshape(ctx: Context, node: Node, x: Tensor, target: Tensor | None = None) -> Tensor:
    """x in row-major order under another shape, where 0 keeps a dimension and −1 takes what is left."""
    wanted: list[Index]
    if target is None:
        wanted = list(ctx.attr_ints("shape", ()) or ())
    else:
        wanted = ctx.ints(target, "shape")
    dims: list[Index] = []
    inferred = -1
    for n, d in enumerate(wanted):
        if isinstance(d, int) and d == 0 and not ctx.attr_int("allowzero", 0):
            if n >= x.rank:
                raise ctx.malformed(
                    f"dimension {n} of the new shape is 0, but the old shape has rank {x.rank}"
                )
            d = x.shape[n]
        elif isinstance(d, int) and d == -1:
            if inferred >= 0:
                raise ctx.malformed("the new shape has more than one dimension of -1")
            inferred, d = n, 1
        elif isinstance(d, int) and d < 0:
            raise ctx.malformed(f"the new shape has a dimension of {d}")
        dims.append(d)
    if inferred >= 0:
        dims[inferred] = _quotient(x.shape, dims)
    if not ctx.env.eq(x.size, product(dims)):
        raise ctx.malformed(f"shape {_text(x.shape)} cannot become {_text(tuple(dims))}: the sizes differ")
    return ctx.b.reshape(x, dims)


def _quotient(old: Shape, new: list[Index]) -> Index:
    """product(old) / product(new), with the factors that both have cancelled first."""
    left = list(old)
    right: Index = 1
    for d in new:
        if d in left:
            left.remove(d)
        else:
            right = right * d
    whole = product(left)
    return 0 if isinstance(right, int) and right == 0 else floordiv(whole, right)


@operator("Flatten")
def flatten(ctx: Context, node: Node, x: Tensor) -> Tensor:
    axis = ctx.attr_int("axis", 1)
    if not -x.rank <= axis <= x.rank:
        raise ctx.malformed(f"axis {axis} is out of range for rank {x.rank}")
    axis = axis + x.rank if axis < 0 else axis
    return ctx.b.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


def _axes(ctx: Context, axes: Tensor | None) -> list[int] | None:
    return ctx.attr_ints("axes") if axes is None else ctx.fixed_ints(axes, "axes")


@operator("Squeeze")
def squeeze(ctx: Context, node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = _axes(ctx, axes)
    if given is None:
        dropped = [a for a, d in enumerate(x.shape) if ctx.env.eq(d, 1)]
    else:
        dropped = ctx.axes(given, x.rank)
    for a in dropped:
        if not ctx.env.eq(x.shape[a], 1):
            raise ctx.malformed(f"axis {a} of shape {_text(x.shape)} is not 1")
    return without_axes(ctx, x, dropped)


@operator("Unsqueeze")
def unsqueeze(ctx: Context, node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = _axes(ctx, axes) or []
    added = ctx.axes(given, x.rank + len(given))
    if len(set(added)) != len(added):
        raise ctx.malformed(f"the axes {given} repeat")
    return with_axes(ctx, x, added)


def without_axes(ctx: Context, x: Tensor, axes: list[int]) -> Tensor:
    """x without the given axes, whose extents are 1. A Compute is seen through a view, which leaves its order open."""
    kept = [a for a in range(x.rank) if a not in axes]
    dims = [x.shape[a] for a in kept]
    if not isinstance(x, Compute):
        return ctx.b.reshape(x, dims)

    def old(*c: Index) -> list[Index]:
        at: list[Index] = [0] * x.rank
        for a, i in zip(kept, c, strict=True):
            at[a] = i
        return at

    return ctx.b.view(x, dims, old) if axes else x


def with_axes(ctx: Context, x: Tensor, axes: list[int]) -> Tensor:
    """x with new axes of extent 1 at the given places of the result."""
    rest = iter(x.shape)
    dims = [1 if a in axes else next(rest) for a in range(x.rank + len(axes))]
    if not isinstance(x, Compute):
        return ctx.b.reshape(x, dims)
    return ctx.b.view(x, dims, lambda *c: [i for a, i in enumerate(c) if a not in axes]) if axes else x


@operator("Expand", since=8)
def expand(ctx: Context, node: Node, x: Tensor, target: Tensor) -> Tensor:
    """x broadcast with a shape, by numpy's rule in both directions."""
    wanted = tuple(ctx.ints(target, "shape"))
    dims = ctx.b.broadcast_shapes(x.shape, wanted)
    return x if dims == x.shape else ctx.b.expand(x, dims)


# -- tensors that a shape defines -------------------------------------------------------------------------------


def filled(ctx: Context, dims: Shape, value: object, dtype: str) -> Tensor:
    """A tensor of one value."""
    extents = [d for d in dims if isinstance(d, int)]
    if len(extents) == len(dims) and math.prod(extents) <= MAX_CONTENT:
        return ctx.b.known(np.full(extents, value, dtype=object), dtype)
    constant = ir.const(value, ir.COMPUTE_OF[dtype])  # type: ignore[arg-type]
    return ctx.b.compute(dims, dtype, lambda *c: constant, "fill")


@operator("ConstantOfShape", since=9)
def constant_of_shape(ctx: Context, node: Node, dims: Tensor) -> Tensor:
    value = ctx.attr_array("value")
    if value is None:
        value = np.zeros(1, np.float32)
    dtypes = {np.dtype(t): name for name, t in NUMPY.items()}
    dtype = dtypes.get(value.dtype)
    if dtype is None:
        raise ctx.unsupported(f"elements of type {value.dtype}")
    return filled(ctx, tuple(ctx.ints(dims, "shape")), value.reshape(-1).tolist()[0], dtype)


@operator("Range", since=11)
def range_(ctx: Context, node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """start, start + delta, … up to, not including, limit."""
    first: Any = ctx.scalar(start, "start")
    end: Any = ctx.scalar(limit, "limit")
    step = known.number(ctx.env, ctx.scalar(delta, "delta"))
    if step == 0:
        raise ctx.malformed("delta is 0")
    dtype = start.dtype
    count: Index
    if dtype in FLOATS:
        first, end = known.number(ctx.env, first), known.number(ctx.env, end)
        count = max(math.ceil((end - first) / step), 0)
    else:
        distance = known.sub(ctx.env, end, first) if step > 0 else known.sub(ctx.env, first, end)
        count = ceildiv(distance, abs(step)) if ctx.env.gt(distance, 0) else 0
    if isinstance(count, int) and count <= MAX_CONTENT:
        values = [known.add(ctx.env, first, n * step) for n in range(count)]
        return ctx.b.known(known.settle(objects(values), dtype), dtype)

    def element(i: Index) -> ir.Expr:
        compute = ir.COMPUTE_OF[dtype]
        if dtype in FLOATS:
            offset = ir.mul(ir.cast(ir.index(i), compute), ir.const(step, compute))
            return ir.add(ir.const(first, compute), offset)
        return ir.cast(ir.index(first + i * step), compute)

    return ctx.b.compute((count,), dtype, element, "range")


@operator("EyeLike", since=9)
def eye_like(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """Ones on the k-th diagonal of a matrix of x's shape."""
    if x.rank != 2:
        raise ctx.malformed(f"the input has rank {x.rank} instead of 2")
    k = ctx.attr_int("k", 0)
    dtype = DTYPES.get(ctx.attr_int("dtype", 0), "?") if "dtype" in node.attrs else x.dtype
    if dtype not in ir.COMPUTE_OF:
        raise ctx.unsupported(f"elements of type {dtype}")
    one, zero = ir.const(1, ir.COMPUTE_OF[dtype]), ir.const(0, ir.COMPUTE_OF[dtype])

    def element(i: Index, j: Index) -> ir.Expr:
        return ir.select(ir.binary("eq", ir.index(i + k), ir.index(j)), one, zero)

    return ctx.b.compute(x.shape, dtype, element, "eye")


_WINDOWS = {
    "HannWindow": (0.5, 0.5, 0.0), "HammingWindow": (25 / 46, 21 / 46, 0.0), "BlackmanWindow": (0.42, 0.5, 0.08),
}  # fmt: skip
"""a, b, c of a − b·cos(2πn/N) + c·cos(4πn/N)."""


@operator(*_WINDOWS, since=17)
def window(ctx: Context, node: Node, size: Tensor) -> Tensor:
    """The samples of a window function over `size` points; N is that size, or one less when not periodic."""
    extent = ctx.ints(size, "size")[0]
    dtype = DTYPES.get(ctx.attr_int("output_datatype", 1), "?")
    if dtype not in FLOATS:
        raise ctx.unsupported(f"elements of type {dtype}")
    compute = ir.COMPUTE_OF[dtype]
    a, b, c = _WINDOWS[node.op]
    period = extent if ctx.attr_int("periodic", 1) else extent - 1

    def element(n: Index) -> ir.Expr:
        turn = ir.div(ir.cast(ir.index(n), compute), ir.cast(ir.index(period), compute))

        def cosine(turns: float, factor: float) -> ir.Expr:
            angle = ir.mul(turn, ir.const(2 * math.pi * turns, compute))
            return ir.mul(ir.unary("cos", angle), ir.const(factor, compute))

        value = ir.sub(ir.const(a, compute), cosine(1, b))
        return ir.add(value, cosine(2, c)) if c else value

    return ctx.b.compute((extent,), dtype, element, "window")


@operator("Trilu", since=14)
def trilu(ctx: Context, node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    """The upper (or lower) triangle of the last two axes, from diagonal k; zero elsewhere."""
    upper = bool(ctx.attr_int("upper", 1))
    diagonal: Index = 0 if k is None else ctx.ints(k, "diagonal")[0]
    zero = ir.const(0, ir.COMPUTE_OF[x.dtype])

    def element(*c: Index) -> ir.Expr:
        inside = ir.binary("ge" if upper else "le", ir.index(c[-1]), ir.index(c[-2] + diagonal))
        return ir.select(inside, x.at(*c), zero)

    if not isinstance(diagonal, IntExpr):
        function = np.triu if upper else np.tril
        folded = ctx.fold(lambda a: np.where(function(np.ones(a.shape, bool), diagonal), a, 0), x)
        if folded is not None:
            return folded
    return ctx.b.compute(x.shape, x.dtype, element, "trilu")


def _text(dims: Shape) -> str:
    return f"[{', '.join(map(str, dims))}]"
