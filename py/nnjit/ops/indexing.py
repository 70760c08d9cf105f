"""Elements at indices that are data: gathering, one-hot, ranking, running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import ir
from ..graph.dtype import NUMPY
from ..graph.graph import Node
from ..symbolic import IntExpr
from ..tensor.tensor import Alias, Compute, Index, Shape, Source, Tensor, View
from . import content as known
from .cast import cast_to
from .elementwise import no_number
from .registry import Context, operator


def index_at(element: ir.Expr, extent: Index) -> Index:
    """A loaded integer as an index of an axis: negative ones count from the end, and none leaves the axis."""
    if element.op == "const":
        at = int(element.attr)
        if isinstance(extent, int):
            return min(max(at + extent if at < 0 else at, 0), max(extent - 1, 0))
    i = ir.cast(element, "i32")
    size = ir.index(extent)
    i = ir.select(ir.binary("lt", i, ir.const(0, "i32")), ir.add(i, size), i)
    last = ir.sub(size, ir.const(1, "i32"))
    return ir.value_index(ir.binary("max", ir.binary("min", i, last), ir.const(0, "i32")))


def wrapped(element: ir.Expr, extent: Index) -> ir.Expr:
    """An index as an i32, negative ones counted from the end."""
    i = ir.cast(element, "i32")
    return ir.select(ir.binary("lt", i, ir.const(0, "i32")), ir.add(i, ir.index(extent)), i)


def check_range(ctx: Context, indices: Tensor, extents: Sequence[Index], operand: int = 1) -> None:
    """Raise ModelFormatError for a known index that leaves its axis; the last axis of `indices` goes over `extents`.

    `operand`: the number of the node's input that they are. One extent serves all. Inputs of the model are noted, to be
    checked before each inference; indices that are computed are counted by a kernel where they leave the axis, and
    limited to it where they are used. Large constants are trusted.
    """
    base = indices.base if isinstance(indices, Alias) else indices
    if isinstance(base, Source) and base.kind == "input" and len(extents) == 1:
        ctx.b.indexed.setdefault(str(base.origin), {})[extents[0]] = None
    elif indices.content is None and (not isinstance(base, Source) or base.kind == "input"):
        count_outside(ctx, indices, extents, operand)
    if indices.content is None:
        return
    rows = indices.content.reshape(-1, len(extents))
    for column, extent in zip(rows.T, extents, strict=True):
        numbers = [i for i in column if isinstance(i, int)]
        least_extent = max((i + 1 if i >= 0 else -i for i in numbers), default=0)
        if not ctx.env.ge(extent, least_extent):
            worst = next(i for i in numbers if least_extent in (i + 1, -i))
            raise ctx.malformed(f"index {worst} is out of range for an axis of {ctx.env.hint(extent)}")


def count_outside(
    ctx: Context, indices: Tensor, extents: Sequence[Index], operand: int, negative: bool = True
) -> None:
    """Have each inference count the indices that leave their axis, and fail where there are any.

    `negative`: whether −1 is the last element, rather than out of range; the others are those of `check_range`.
    """
    key = "range", indices, *extents, negative
    if key in ctx.b.checks or _stays_inside(indices, extents):
        return
    outer = indices.shape if len(extents) == 1 else indices.shape[:-1]

    def outside(*c: Index) -> ir.Expr:
        count = ir.const(0, "i32")
        for n, extent in enumerate(extents):
            index = indices.at(*c) if len(extents) == 1 else indices.at(*c, n)
            size = ir.cast(ir.index(extent), index.dtype)
            below = ir.binary("lt", index, ir.unary("neg", size) if negative else ir.const(0, index.dtype))
            leaves = ir.binary("or", below, ir.binary("ge", index, size))
            count = ir.add(count, ir.select(leaves, ir.const(1, "i32"), ir.const(0, "i32")))
        return count

    wrong = f"{ctx.node.describe()}: indices in its input '{ctx.node.inputs[operand]}' are out of range"
    ctx.b.checks[key] = wrong, ctx.b.reduce("sum", (1,), outer, lambda _, *c: outside(*c), "i32", "check")


def _stays_inside(indices: Tensor, extents: Sequence[Index]) -> bool:
    """Whether the indices are some of known ones, such as the first positions of a table, all of which fit every extent."""
    base = indices
    while isinstance(base, Alias | View):
        base = base.base
    known_ones = [] if base.content is None else base.content.reshape(-1).tolist()
    return bool(known_ones) and all(
        isinstance(i, int) and isinstance(extent, int) and 0 <= i < extent
        for i in known_ones
        for extent in extents
    )


def least(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    return ir.binary("min", a, b)


def neutral_element(combine: str, dtype: str) -> ir.Expr:
    compute = ir.COMPUTE_OF[dtype]
    if combine in ("sum", "prod"):
        return ir.const(0 if combine == "sum" else 1, compute)
    if dtype in known.FLOATS:
        return ir.const(float("-inf") if combine == "max" else float("inf"), compute)
    info = np.iinfo(NUMPY[dtype])
    return ir.const(int(info.min) if combine == "max" else int(info.max), compute)


# -- gathering --------------------------------------------------------------------------------------------------


@operator("Gather")
def gather(ctx: Context, node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of x along an axis; the shape of the indices takes that axis's place."""
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    check_range(ctx, indices, [x.shape[axis]])
    dims = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if indices.content is not None:
        picked = _known_gather(ctx, x, indices, axis, dims)
        if picked is not None:
            return picked
    after = axis + indices.rank

    def element(*c: Index) -> ir.Expr:
        at = index_at(indices.at(*c[axis:after]), x.shape[axis])
        return x.at(*c[:axis], at, *c[after:])

    return ctx.b.compute(dims, x.dtype, element, "gather")


def _known_gather(ctx: Context, x: Tensor, indices: Tensor, axis: int, dims: Shape) -> Tensor | None:
    """Gathering at known places: folded where x is known too, a view where there is one place."""
    content = ctx.content(indices, "indices")
    extent = x.shape[axis]
    if x.content is not None and isinstance(extent, int):
        places = known.apply(lambda i: ctx.env.fix(i), content).astype(np.int64)
        if places.size and (places.min() < -extent or places.max() >= extent):
            raise ctx.malformed(f"an index is out of range for an axis of {extent}")
        return ctx.fold(lambda a, _: np.take(a, places, axis), x, indices)
    if content.size != 1:
        return None
    at: Index = content.reshape(-1)[0]
    if ctx.env.lt(at, 0):
        at = at + extent
    if not (ctx.env.ge(at, 0) and ctx.env.lt(at, extent)):
        raise ctx.malformed(f"index {at} is out of range for an axis of {extent}")
    after = axis + indices.rank
    return ctx.b.view(x, dims, lambda *c: [*c[:axis], at, *c[after:]])


@operator("GatherElements", since=11)
def gather_elements(ctx: Context, node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """result[i, j] = x[indices[i, j], j] for axis 0, and so on."""
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    check_range(ctx, indices, [x.shape[axis]])

    def element(*c: Index) -> ir.Expr:
        return x.at(*c[:axis], index_at(indices.at(*c), x.shape[axis]), *c[axis + 1 :])

    return ctx.b.compute(indices.shape, x.dtype, element, "gather")


@operator("GatherND", since=11)
def gather_nd(ctx: Context, node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of x at tuples of indices: the last axis of `indices` runs over a tuple."""
    batch = ctx.attr_int("batch_dims", 0)
    width = ctx.env.fix(indices.shape[-1])
    outer = indices.rank - 1
    check_range(ctx, indices, x.shape[batch : batch + width])

    def element(*c: Index) -> ir.Expr:
        at = [index_at(indices.at(*c[:outer], n), x.shape[batch + n]) for n in range(width)]
        return x.at(*c[:batch], *at, *c[outer:])

    dims = (*indices.shape[:-1], *x.shape[batch + width :])
    return ctx.b.compute(dims, x.dtype, element, "gather")


# -- one-hot, ranking, running sums -----------------------------------------------------------------------------


@operator("OneHot", since=9)
def one_hot(ctx: Context, node: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """values = [off, on]: on where the coordinate along the new axis is the index, off elsewhere."""
    size = ctx.scalar(depth, "depth")
    extent: Index = size if isinstance(size, IntExpr) else int(size)  # type: ignore[call-overload]
    axis = ctx.axis(ctx.attr_int("axis", -1), indices.rank + 1)
    dims = (*indices.shape[:axis], extent, *indices.shape[axis:])

    def element(*c: Index) -> ir.Expr:
        at = wrapped(indices.at(*c[:axis], *c[axis + 1 :]), extent)
        return ir.select(ir.binary("eq", at, ir.index(c[axis])), values.at(1), values.at(0))

    return ctx.b.compute(dims, values.dtype, element, "onehot")


@operator("TopK")
def top_k(ctx: Context, node: Node, x: Tensor, count: Tensor | None = None) -> list[Tensor]:
    """The k largest (or smallest) elements along an axis, in order, and their indices; of equals the first comes first.

    NaN counts as greater than all numbers, as in PyTorch; ONNX says nothing of it.
    By counting: an element's rank is the number of elements that come before it. That takes extent² steps a row.
    """
    axis = ctx.axis(ctx.attr_int("axis", -1), x.rank)
    k = ctx.attr_int("k", 1) if count is None else ctx.ints(count, "k")[0]
    extent = x.shape[axis]
    before = "gt" if ctx.attr_int("largest", 1) else "lt"
    if not ctx.env.ge(extent, k):
        raise ctx.malformed(f"k is {k}, but axis {axis} has {extent} elements")

    def moved(c: Shape, i: Index) -> list[Index]:
        return [i if a == axis else v for a, v in enumerate(c)]

    def precedes(*c: Index) -> ir.Expr:
        mine, other = x.at(*c[:-1]), x.at(*moved(c[:-1], c[-1]))
        earlier = ir.binary("lt", ir.index(c[-1]), ir.index(c[axis]))
        equal, ahead = ir.binary("eq", other, mine), ir.binary(before, other, mine)
        if x.dtype in known.FLOATS:
            theirs, ours = no_number(other), no_number(mine)
            equal = ir.binary("or", equal, ir.binary("and", theirs, ours))
            winner, loser = (theirs, ours) if before == "gt" else (ours, theirs)
            ahead = ir.binary("or", ahead, ir.binary("and", winner, ir.unary("not", loser)))
        comes_first = ir.binary("or", ahead, ir.binary("and", equal, earlier))
        return ir.select(comes_first, ir.const(1, "i32"), ir.const(0, "i32"))

    rank = ctx.b.reduce("sum", x.shape, (extent,), precedes, "i32", "rank")
    dims = (*x.shape[:axis], k, *x.shape[axis + 1 :])

    def place(*c: Index) -> ir.Expr:
        here = ir.binary("eq", rank.at(*moved(c[:-1], c[-1])), ir.index(c[axis]))
        return ir.select(here, ir.index(c[-1]), ir.const(0, "i32"))

    places = ctx.b.reduce("sum", dims, (extent,), place, "i32", "topk")
    values = ctx.b.compute(
        dims, x.dtype, lambda *c: x.at(*moved(c, ir.value_index(least(places.at(*c), ir.index(extent - 1))))), "topk"
    )  # fmt: skip
    return [values, cast_to(ctx, places, "i64")]


_SCAN_LIMIT = 64
"""Running sums over longer axes take log2(extent) passes instead of extent² steps."""


@operator("CumSum", since=11)
def cum_sum(ctx: Context, node: Node, x: Tensor, along: Tensor) -> Tensor:
    return _accumulated(ctx, x, along, "sum")


@operator("CumProd", since=26)
def cum_prod(ctx: Context, node: Node, x: Tensor, along: Tensor) -> Tensor:
    return _accumulated(ctx, x, along, "prod")


def _accumulated(ctx: Context, x: Tensor, along: Tensor, combine: str) -> Tensor:
    """Running sums or products along an axis, with or without the element itself, from either end."""
    axis = ctx.axis(ctx.fixed_ints(along, "axis")[0], x.rank)
    exclusive, reverse = bool(ctx.attr_int("exclusive", 0)), bool(ctx.attr_int("reverse", 0))
    extent = x.shape[axis]
    if combine == "sum":
        folded = ctx.fold(lambda a: _running_sum(a, axis, exclusive, reverse), x)
        if folded is not None:
            return folded
    neutral = neutral_element(combine, x.dtype)

    if isinstance(extent, int) and extent > _SCAN_LIMIT:
        join = ir.add if combine == "sum" else ir.mul
        total = x
        if exclusive:
            total = _shifted(ctx, total, axis, 1, reverse, neutral, lambda here, there: there)
        shift = 1
        while shift < extent:
            total = _shifted(ctx, total, axis, shift, reverse, neutral, join)
            shift *= 2
        return total
    op = {(False, False): "le", (True, False): "lt", (False, True): "ge", (True, True): "gt"}[
        exclusive, reverse
    ]

    def element(*c: Index) -> ir.Expr:
        inside = ir.binary(op, ir.index(c[-1]), ir.index(c[axis]))
        return ir.select(inside, x.at(*(c[-1] if a == axis else i for a, i in enumerate(c[:-1]))), neutral)

    return ctx.b.reduce(combine, x.shape, (extent,), element, x.dtype, "running")


def _running_sum(a: np.ndarray, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
    a = np.flip(a, axis) if reverse else a
    total = np.cumsum(a, axis, dtype=object)
    total = total - a if exclusive else total
    return np.flip(total, axis) if reverse else total


def _shifted(
    ctx: Context,
    x: Tensor,
    axis: int,
    by: int,
    reverse: bool,
    beyond: ir.Expr,
    f: Callable[[ir.Expr, ir.Expr], ir.Expr],
) -> Compute:
    """f(element, the element `by` places before it, or after it when reverse; `beyond` the end of the axis)."""
    extent = int(x.shape[axis])  # type: ignore[arg-type]

    def element(*c: Index) -> ir.Expr:
        here = ir.index(c[axis])
        if reverse:
            inside = ir.binary("lt", here, ir.const(extent - by, "i32"))
            source = ir.value_index(least(ir.index(c[axis] + by), ir.const(extent - 1, "i32")))
        else:
            inside = ir.binary("ge", here, ir.const(by, "i32"))
            source = ir.value_index(ir.binary("max", ir.index(c[axis] - by), ir.const(0, "i32")))
        value = x.at(*(source if a == axis else v for a, v in enumerate(c)))
        return f(x.at(*c), ir.select(inside, value, beyond))

    return ctx.b.compute(x.shape, x.dtype, element, "running")


# -- results whose shape depends on elements --------------------------------------------------------------------


@operator("NonZero", since=9)
def non_zero(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """Indices of the elements that are not 0, one column each; they must be known at compile time."""
    content = known.apply(lambda v: known.truth(ctx.env, v), ctx.content(x, "input"))
    return ctx.b.known(np.stack(np.nonzero(np.atleast_1d(content.astype(bool)))).astype(object), "i64")


@operator("Compress", since=9)
def compress(ctx: Context, node: Node, x: Tensor, condition: Tensor) -> Tensor:
    """The slices along an axis where the condition, known at compile time, is true; without an axis x is flattened."""
    if "axis" not in node.attrs:
        x = ctx.b.reshape(x, (x.size,))
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    flags = [known.truth(ctx.env, v) for v in ctx.content(condition, "condition").reshape(-1)]
    places = ctx.b.known(np.flatnonzero(flags).astype(object), "i64")
    dims = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    return ctx.b.compute(
        dims, x.dtype, lambda *c: x.at(*c[:axis], index_at(places.at(c[axis]), x.shape[axis]), *c[axis + 1 :])
    )  # fmt: skip


@operator("Unique", since=11)
def unique(ctx: Context, node: Node, x: Tensor) -> list[Tensor]:
    """Distinct elements, known at compile time; also their first places, the inverse mapping and counts."""
    content = known.apply(lambda v: known.number(ctx.env, v), ctx.content(x, "input")).astype(NUMPY[x.dtype])
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank) if "axis" in node.attrs else None
    values, first, inverse, counts = np.unique(
        content, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.reshape(-1)
    if not ctx.attr_int("sorted", 1):
        order = np.argsort(first)
        values = np.take(values, order, 0 if axis is None else axis)
        inverse = np.argsort(order)[inverse]
        first, counts = first[order], counts[order]
    results = [ctx.b.known(values.astype(object), x.dtype)]
    return results + [ctx.b.known(a.astype(object), "i64") for a in (first, inverse, counts)]
