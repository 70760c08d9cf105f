"""Normalizations: Batch, Layer, Instance, Group, RMS, Lp, local response, and their fused relatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import ir
from ..graph.graph import Node
from ..onnx.tensors import DTYPES
from ..symbolic import IntExpr, floordiv, maximum, minimum, product
from ..tensor.tensor import Tensor
from .cast import cast_to
from .indexing import count_outside
from .reduction import count_of, mean_over, reduced, wide
from .registry import Context, operator
from .window import all_of, follow_order

Index = int | IntExpr
MICROSOFT = "com.microsoft"


def per_channel(ctx: Context, x: Tensor, v: Tensor | None) -> Tensor | None:
    """A vector over the channels of x [N, C, …], in a shape that broadcasts against x."""
    if v is None:
        return None
    if v.rank != 1 or not ctx.env.eq(v.shape[0], x.shape[1] if x.rank > 1 else 1):
        raise ctx.malformed(
            f"a vector of shape {ctx.extents(v)} does not fit the channels of {ctx.extents(x)}"
        )
    return ctx.b.reshape(v, (v.shape[0], *(1 for _ in range(x.rank - 2))))


def reciprocal_root(ctx: Context, variance: Tensor, epsilon: float) -> Tensor:
    """1 / √(variance + epsilon)."""

    def f(v: ir.Expr) -> ir.Expr:
        root = ir.unary("sqrt", ir.add(v, ir.const(epsilon, v.dtype)))
        return ir.div(ir.const(1.0, v.dtype), root)

    return ctx.b.elementwise(f, variance, dtype=wide(variance.dtype), label="inverse_deviation")


def moments(ctx: Context, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and variance of x over `axes`, these kept with extent 1. Two passes: the variance is that around the mean."""

    def squared_distance(v: ir.Expr, m: ir.Expr) -> ir.Expr:
        d = ir.sub(v, m)
        return ir.mul(d, d)

    mean = mean_over(ctx, x, axes, dtype=wide(x.dtype))
    total = reduced(ctx, "sum", x, axes, squared_distance, mean, label="variance")
    variance = ctx.b.elementwise(lambda t: ir.div(t, count_of(x, axes, t.dtype)), total, label="variance")
    return mean, variance


def normalized(
    ctx: Context,
    x: Tensor,
    mean: Tensor | None,
    factor: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    label: str,
) -> Tensor:
    """(x − mean) · factor · scale + bias, leaving out what is None."""
    given = [t for t in (mean, scale, bias) if t is not None]

    def f(v: ir.Expr, by: ir.Expr, *rest: ir.Expr) -> ir.Expr:
        values = iter(rest)
        if mean is not None:
            v = ir.sub(v, next(values))
        v = ir.mul(v, by)
        if scale is not None:
            v = ir.mul(v, ir.cast(next(values), v.dtype))
        if bias is not None:
            v = ir.add(v, ir.cast(next(values), v.dtype))
        return v

    return ctx.b.elementwise(f, x, factor, *given, label=label)


# -- BatchNormalization -----------------------------------------------------------------------------------------------


@operator("BatchNormalization", since=7)
def batch_normalization(
    ctx: Context, node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """x · s + (bias − mean · s) with s = scale / √(variance + epsilon): both vectors are made once, of weights only."""
    if ctx.attr_int("training_mode", 0) or any(node.outputs[1:]):
        raise ctx.unsupported("training mode")
    b = ctx.b
    epsilon = ctx.attr_float("epsilon", 1e-5)
    inverse = reciprocal_root(ctx, variance, epsilon)
    slope = b.elementwise(lambda s, i: ir.mul(ir.cast(s, i.dtype), i), scale, inverse, dtype=wide(mean.dtype))
    shift = b.elementwise(
        lambda c, m, s: ir.sub(ir.cast(c, s.dtype), ir.mul(m, s)), bias, mean, slope, dtype=wide(mean.dtype)
    )
    slope_c, shift_c = per_channel(ctx, x, slope), per_channel(ctx, x, shift)
    return normalized(ctx, x, None, slope_c, None, shift_c, "batch_norm")  # type: ignore[arg-type]


# -- over the last axes -----------------------------------------------------------------------------------------------


@operator("LayerNormalization", since=1)
def layer_normalization(
    ctx: Context, node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Outputs: the normalized tensor, the mean and 1 / standard deviation, both in the dtype `stash_type`."""
    axis = ctx.axis(ctx.attr_int("axis", -1), x.rank)
    y, *stashed = _layer_norm(ctx, x, scale, bias, range(axis, x.rank), ctx.attr_float("epsilon", 1e-5))
    dtype = DTYPES.get(ctx.attr_int("stash_type", 1), "?")
    return y, *(cast_to(ctx, t, dtype) for t in stashed)


def _layer_norm(
    ctx: Context, x: Tensor, scale: Tensor | None, bias: Tensor | None, axes: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean, variance = moments(ctx, x, axes)
    inverse = reciprocal_root(ctx, variance, epsilon)
    return normalized(ctx, x, mean, inverse, scale, bias, "layer_norm"), mean, inverse


def _rms_norm(
    ctx: Context, x: Tensor, scale: Tensor | None, axes: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor]:
    """x / √(mean of x² + epsilon) · scale, and the factor."""
    total = reduced(ctx, "sum", x, axes, lambda v: ir.mul(v, v), label="rms")
    mean = ctx.b.elementwise(lambda t: ir.div(t, count_of(x, axes, t.dtype)), total, label="rms")
    inverse = reciprocal_root(ctx, mean, epsilon)
    return normalized(ctx, x, None, inverse, scale, None, "rms_norm"), inverse


@operator("RMSNormalization", since=23)
def rms_normalization(ctx: Context, node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axis = ctx.axis(ctx.attr_int("axis", -1), x.rank)
    return _rms_norm(ctx, x, scale, range(axis, x.rank), ctx.attr_float("epsilon", 1e-5))[0]


@operator("SimplifiedLayerNormalization")
@operator("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_normalization(
    ctx: Context, node: Node, x: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    axis = ctx.axis(ctx.attr_int("axis", -1), x.rank)
    return _rms_norm(ctx, x, scale, range(axis, x.rank), ctx.attr_float("epsilon", 1e-5))


def _sum_of(ctx: Context, *xs: Tensor | None) -> Tensor:
    given = [x for x in xs if x is not None]

    def f(first: ir.Expr, *rest: ir.Expr) -> ir.Expr:
        for v in rest:
            first = ir.add(first, v)
        return first

    return ctx.b.elementwise(f, *given, label="add")


@operator("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(
    ctx: Context,
    node: Node,
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Layer norm of x + skip + bias; the fourth output is that sum."""
    total = _sum_of(ctx, x, skip, bias)
    y, mean, inverse = _layer_norm(
        ctx, total, gamma, beta, [total.rank - 1], ctx.attr_float("epsilon", 1e-12)
    )
    return y, mean, inverse, total


@operator("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(
    ctx: Context, node: Node, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """RMS norm of x + skip + bias; the fourth output is that sum."""
    total = _sum_of(ctx, x, skip, bias)
    y, inverse = _rms_norm(ctx, total, gamma, [total.rank - 1], ctx.attr_float("epsilon", 1e-12))
    return y, None, inverse, total


@operator("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(
    ctx: Context,
    node: Node,
    input_ids: Tensor,
    segment_ids: Tensor | None,
    words: Tensor,
    positions: Tensor,
    segments: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Layer norm of word + position + segment embeddings; outputs: result, mask index (sum of the mask), the sum."""
    batch, length = input_ids.shape
    width = words.shape[1]
    rows = [(0, input_ids, words), (1, segment_ids, segments), (8, position_ids, positions)]
    for operand, ids, table in rows:
        if ids is not None and table is not None:
            count_outside(ctx, ids, [table.shape[0]], operand, negative=False)

    def row(table: Tensor, ids: Tensor, b: Index, s: Index, h: Index) -> ir.Expr:
        index = ir.value_index(ids.at(0 if ids.shape[0] == 1 else b, s))
        return table.at(maximum(minimum(index, table.shape[0] - 1), 0), h)

    def element(b: Index, s: Index, h: Index) -> ir.Expr:
        value = row(words, input_ids, b, s, h)
        where = positions.at(s, h) if position_ids is None else row(positions, position_ids, b, s, h)
        value = ir.add(value, where)
        if segment_ids is not None and segments is not None:
            value = ir.add(value, row(segments, segment_ids, b, s, h))
        return value

    total = ctx.b.compute((batch, length, width), words.dtype, element, "embedding")
    y = _layer_norm(ctx, total, gamma, beta, [2], ctx.attr_float("epsilon", 1e-12))[0]
    index: Tensor | None = None
    if mask is not None:
        index = reduced(ctx, "sum", mask, [1], keepdims=False)
    elif len(node.outputs) > 1 and node.outputs[1]:
        index = ctx.b.compute((batch,), "i32", lambda b: ir.const(0, "i32"), "mask")
    return y, index, total


# -- over the spatial axes --------------------------------------------------------------------------------------------


def _group_norm(
    ctx: Context,
    x: Tensor,
    groups: int,
    scale: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    label: str,
) -> Tensor:
    """Each of the groups of channels normalized together over its channels and the spatial axes."""
    b = ctx.b
    size = floordiv(x.shape[1], groups)
    if not ctx.env.eq(size * groups, x.shape[1]):
        raise ctx.malformed(f"{ctx.extents(x)[1]} channels do not fall into {groups} groups")
    spatial = x.shape[2:]
    ones = (1,) * len(spatial)
    shape = (x.shape[0], groups, *ones)
    count = ir.index(product((size, *spatial)))

    def total_of(f: Callable[[ir.Expr, Index, Index], ir.Expr]) -> Tensor:
        def element(*at: Index) -> ir.Expr:
            taps = at[len(shape) :]
            return f(x.at(at[0], at[1] * size + taps[0], *taps[1:]), at[0], at[1])

        total = b.reduce("sum", shape, (size, *spatial), element, wide(x.dtype), label)
        return b.elementwise(lambda t: ir.div(t, ir.cast(count, t.dtype)), total, label=label)

    mean = total_of(lambda v, n, g: v)

    origin = (0,) * len(spatial)

    def squared_distance(v: ir.Expr, n: Index, g: Index) -> ir.Expr:
        d = ir.sub(v, mean.at(n, g, *origin))
        return ir.mul(d, d)

    inverse = reciprocal_root(ctx, total_of(squared_distance), epsilon)
    if not isinstance(size, int) or size > 1:
        per_group = (x.shape[0], x.shape[1], *ones)
        mean, inverse = (
            b.view(t, per_group, lambda n, c, *_: (n, floordiv(c, size), *origin)) for t in (mean, inverse)
        )
    return normalized(ctx, x, mean, inverse, scale, bias, label)


@operator("InstanceNormalization")
def instance_normalization(ctx: Context, node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    mean, variance = moments(ctx, x, range(2, x.rank))
    inverse = reciprocal_root(ctx, variance, ctx.attr_float("epsilon", 1e-5))
    return normalized(
        ctx, x, mean, inverse, per_channel(ctx, x, scale), per_channel(ctx, x, bias), "instance_norm"
    )


@operator("GroupNormalization", since=18)
def group_normalization(ctx: Context, node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias are given per group up to opset 20, per channel from 21 on."""
    groups = ctx.attr_int("num_groups", 0)
    if groups < 1:
        raise ctx.malformed("the attribute 'num_groups' is missing")
    if ctx.opset < 21 and groups != x.shape[1]:
        size = floordiv(x.shape[1], groups)
        scale, bias = (ctx.b.view(v, x.shape[1:2], lambda c: (floordiv(c, size),)) for v in (scale, bias))
    scale_c, bias_c = per_channel(ctx, x, scale), per_channel(ctx, x, bias)
    return _group_norm(ctx, x, groups, scale_c, bias_c, ctx.attr_float("epsilon", 1e-5), "group_norm")


@operator("MeanVarianceNormalization", since=9)
def mean_variance_normalization(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """(x − mean) / (standard deviation + 1e-9)."""
    axes = ctx.axes(ctx.attr_ints("axes", (0, 2, 3)) or (), x.rank)
    mean, variance = moments(ctx, x, axes)

    def f(v: ir.Expr) -> ir.Expr:
        return ir.div(ir.const(1.0, v.dtype), ir.add(ir.unary("sqrt", v), ir.const(1e-9, v.dtype)))

    inverse = ctx.b.elementwise(f, variance, label="inverse_deviation")
    return normalized(ctx, x, mean, inverse, None, None, "mean_variance_norm")


@operator("LpNormalization")
def lp_normalization(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """x / ‖x‖ₚ along one axis, 0 where the norm is 0."""
    axis = ctx.axis(ctx.attr_int("axis", -1), x.rank)
    p = ctx.attr_int("p", 2)
    if p not in (1, 2):
        raise ctx.malformed(f"p must be 1 or 2, not {p}")
    total = reduced(
        ctx, "sum", x, [axis], lambda v: ir.unary("abs", v) if p == 1 else ir.mul(v, v), label="norm"
    )

    def factor(t: ir.Expr) -> ir.Expr:
        norm = t if p == 1 else ir.unary("sqrt", t)
        zero, one = ir.const(0.0, t.dtype), ir.const(1.0, t.dtype)
        return ir.select(ir.binary("eq", norm, zero), zero, ir.div(one, norm))

    scale = ctx.b.elementwise(factor, total, label="norm")
    return ctx.b.elementwise(ir.mul, x, scale, dtype=x.dtype, label="lp_norm")


@operator("LRN")
def lrn(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """x / (bias + alpha / size · Σ x²)^beta, the sum over `size` channels around each."""
    size = ctx.attr_int("size", 0)
    if size < 1:
        raise ctx.malformed("the attribute 'size' is missing")
    alpha, beta = ctx.attr_float("alpha", 1e-4), ctx.attr_float("beta", 0.75)
    bias = ctx.attr_float("bias", 1.0)
    channels, before = x.shape[1], (size - 1) // 2

    def element(*at: Index) -> ir.Expr:
        channel = at[1] + at[-1] - before
        value = x.at(at[0], minimum(maximum(channel, 0), channels - 1), *at[2:-1])
        inside = all_of(
            [
                ir.binary("ge", ir.index(channel), ir.const(0, "i32")),
                ir.binary("lt", ir.index(channel), ir.index(channels)),
            ]
        )
        return ir.select(inside, ir.mul(value, value), ir.const(0.0, value.dtype))  # type: ignore[arg-type]

    total = ctx.b.reduce("sum", x.shape, (size,), element, wide(x.dtype), "lrn")
    follow_order(total, x)

    def divide(v: ir.Expr, t: ir.Expr) -> ir.Expr:
        base = ir.add(ir.const(bias, v.dtype), ir.mul(ir.const(alpha / size, v.dtype), t))
        return ir.mul(v, ir.binary("pow", base, ir.const(-beta, v.dtype)))

    return ctx.b.elementwise(divide, x, total, label="lrn")
