"""Scattering: elements written at indices that are data.

A scatter is written as a gather: every element of the result looks through the updates that may hit it. That takes
elements × updates steps, which small update counts can afford.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, product
from ..tensor.tensor import Index, Shape, Tensor
from .indexing import check_range, least, neutral_element, wrapped
from .registry import Context, operator

_REDUCTIONS: dict[str, tuple[str, Callable[[ir.Expr, ir.Expr], ir.Expr]]] = {
    "add": ("sum", ir.add),
    "mul": ("prod", ir.mul),
    "max": ("max", lambda a, b: ir.binary("max", a, b)),
    "min": ("min", lambda a, b: ir.binary("min", a, b)),
}


@operator("Scatter", since=9)
@operator("ScatterElements", since=11)
def scatter_elements(ctx: Context, node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """x with x[indices[i, j], j] set to updates[i, j] for axis 0, and so on; the last update of an element wins."""
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    check_range(ctx, indices, [x.shape[axis]])
    smaller = [a for a in range(x.rank) if a != axis and not ctx.env.eq(updates.shape[a], x.shape[a])]

    def place(c: Shape, k: Index) -> list[Index]:
        at = list(c)
        at[axis] = k
        for a in smaller:
            at[a] = ir.value_index(least(ir.index(c[a]), ir.index(updates.shape[a] - 1)))
        return at

    def hits(c: Shape, k: Index) -> ir.Expr:
        hit = ir.binary("eq", wrapped(indices.at(*place(c, k)), x.shape[axis]), ir.index(c[axis]))
        for a in smaller:
            hit = ir.binary("and", hit, ir.binary("lt", ir.index(c[a]), ir.index(updates.shape[a])))
        return hit

    return _scatter(ctx, x, x.shape, (indices.shape[axis],), hits, lambda c, k: updates.at(*place(c, k)))


@operator("ScatterND", since=11)
def scatter_nd(ctx: Context, node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """x with the slices at tuples of indices set to slices of `updates`; the last update of a slice wins."""
    width = ctx.env.fix(indices.shape[-1])
    outer = indices.shape[:-1]
    check_range(ctx, indices, x.shape[:width])
    folded = _known_scatter_nd(ctx, x, indices, updates, width)
    if folded is not None:
        return folded
    flat_indices = ctx.b.reshape(indices, (product(outer), width))
    flat_updates = ctx.b.reshape(updates, (product(outer), *updates.shape[len(outer) :]))

    def hits(c: Shape, k: Index) -> ir.Expr:
        tests = [
            ir.binary("eq", wrapped(flat_indices.at(k, n), x.shape[n]), ir.index(c[n])) for n in range(width)
        ]
        hit = tests[0] if tests else ir.const(True, "bool")
        for test in tests[1:]:
            hit = ir.binary("and", hit, test)
        return hit

    return _scatter(
        ctx, x, x.shape[:width], (product(outer),), hits, lambda c, k: flat_updates.at(k, *c[width:])
    )


def _known_scatter_nd(ctx: Context, x: Tensor, indices: Tensor, updates: Tensor, width: int) -> Tensor | None:
    if ctx.attr_str("reduction", "none") != "none" or indices.content is None:
        return None
    if any(isinstance(i, IntExpr) for i in indices.content.reshape(-1)):
        return None

    def fold(a: np.ndarray, i: np.ndarray, u: np.ndarray) -> np.ndarray:
        result = a.copy()
        for position in np.ndindex(*i.shape[:-1]):
            result[tuple(int(v) for v in i[position][:width])] = u[position]
        return result

    return ctx.fold(fold, x, indices, updates)


def _scatter(
    ctx: Context,
    x: Tensor,
    hit_shape: Shape,
    count: Shape,
    hits: Callable[[Shape, Index], ir.Expr],
    update: Callable[[Shape, Index], ir.Expr],
) -> Tensor:
    """x with updates: `hits(c, k)` says whether update k hits position c of hit_shape."""
    reduction = ctx.attr_str("reduction", "none")
    rank = len(hit_shape)
    if isinstance(count[0], int) and count[0] == 0:
        return x
    if reduction == "none":
        minus = ir.const(-1, "i32")
        winner = ctx.b.reduce(
            "max", hit_shape, count, lambda *c: ir.select(hits(c[:rank], c[rank]), ir.index(c[rank]), minus), "i32",
            "winner",
        )  # fmt: skip

        def chosen(*c: Index) -> ir.Expr:
            last = winner.at(*c[:rank])
            at = ir.value_index(ir.binary("max", last, ir.const(0, "i32")))
            return ir.select(ir.binary("ge", last, ir.const(0, "i32")), update(c, at), x.at(*c))

        return ctx.b.compute(x.shape, x.dtype, chosen, "scatter")
    if reduction not in _REDUCTIONS:
        raise ctx.unsupported(f"reduction '{reduction}'")
    combine, join = _REDUCTIONS[reduction]

    def contribution(*c: Index) -> ir.Expr:
        value = update(c[: x.rank], c[x.rank])
        return ir.select(hits(c[:rank], c[x.rank]), value, neutral_element(combine, x.dtype))

    total = ctx.b.reduce(combine, x.shape, count, contribution, x.dtype, "scatter")
    return ctx.b.elementwise(join, x, total, label="scatter")


@operator("TensorScatter", since=24)
def tensor_scatter(
    ctx: Context, node: Node, cache: Tensor, update: Tensor, starts: Tensor | None = None
) -> Tensor:
    """The cache with `update` written along an axis from starts[batch] on; circular: past the end it goes on at 0."""
    axis = ctx.axis(ctx.attr_int("axis", -2), cache.rank)
    mode = ctx.attr_str("mode", "linear")
    if mode not in ("linear", "circular"):
        raise ctx.malformed(f"the mode '{mode}' is unknown")
    zero, extent, count = ir.const(0, "i32"), ir.index(cache.shape[axis]), ir.index(update.shape[axis])

    def element(*c: Index) -> ir.Expr:
        start = zero if starts is None else ir.cast(starts.at(c[0]), "i32")
        place = ir.sub(ir.index(c[axis]), start)
        if mode == "circular":
            place = ir.select(ir.binary("lt", place, zero), ir.add(place, extent), place)
        inside = ir.binary("and", ir.binary("ge", place, zero), ir.binary("lt", place, count))
        at = ir.value_index(ir.binary("max", least(place, ir.sub(count, ir.const(1, "i32"))), zero))
        written = update.at(*(at if a == axis else i for a, i in enumerate(c)))
        return ir.select(inside, written, cache.at(*c))

    return ctx.b.compute(cache.shape, cache.dtype, element, "scatter")
