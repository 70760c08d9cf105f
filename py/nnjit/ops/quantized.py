"""Integer matrix products and convolutions, and those between quantized tensors.

An element q of a quantized tensor stands for (q − zero point) · scale. The zero points are subtracted first, which takes
16 bits; the products are then summed in 32 bits.
"""

from __future__ import annotations

from .. import ir
from ..graph.graph import Node
from ..tensor.tensor import Tensor
from .conv import channels_second, conv_window, convolution
from .matmul import matrix_product
from .registry import Context, operator

LIMITS = {"u8": (0, 255), "i8": (-128, 127), "u16": (0, 65535), "i16": (-32768, 32767)}
"""The least and the greatest value of a quantized dtype."""


def centred(ctx: Context, x: Tensor, zero_point: Tensor | None) -> Tensor:
    """x − zero_point as i16; x itself where the zero point is known to be 0."""
    if x.dtype not in ("u8", "i8"):
        raise ctx.unsupported(f"quantized elements of type {x.dtype}")
    if zero_point is None:
        return x
    if zero_point.content is not None and not zero_point.content.any():
        return x
    return ctx.b.elementwise(ir.sub, x, zero_point, dtype="i16", label="centre")


def along(ctx: Context, v: Tensor | None, rank: int, axis: int) -> Tensor | None:
    """A vector laid along `axis` (from the end, negative) of a tensor of `rank`; scalars and other ranks as they are."""
    if v is None or v.rank != 1 or v.shape[0] == 1:
        return v if v is None or v.rank != 1 else ctx.b.reshape(v, ())
    behind = -axis - 1
    return ctx.b.reshape(v, (v.shape[0], *(1,) * behind))


def requantized(
    ctx: Context,
    total: Tensor,
    x_scale: Tensor,
    y_scale: Tensor,
    out_scale: Tensor,
    zero_point: Tensor | None,
    dtype: str,
    bias: Tensor | None = None,
) -> Tensor:
    """round((total + bias) · x_scale · y_scale / out_scale) + zero_point, saturated to `dtype`; half rounds to even."""
    low, high = LIMITS[dtype]
    optional = [t for t in (bias, zero_point) if t is not None]
    factor = ctx.b.elementwise(
        lambda p, q, r: ir.div(ir.mul(p, q), r), x_scale, y_scale, out_scale, dtype="f32", label="scale"
    )

    def f(t: ir.Expr, by: ir.Expr, *rest: ir.Expr) -> ir.Expr:
        values = iter(rest)
        if bias is not None:
            t = ir.add(t, next(values))
        v = ir.unary("round", ir.mul(ir.cast(t, "f32"), by))
        if zero_point is not None:
            v = ir.add(v, ir.cast(next(values), "f32"))
        v = ir.binary("min", ir.binary("max", v, ir.const(low, "f32")), ir.const(high, "f32"))
        return ir.cast(v, "i32")

    return ctx.b.elementwise(f, total, factor, *optional, dtype=dtype, label="requantize")


@operator("MatMulInteger", since=10)
def matmul_integer(
    ctx: Context,
    node: Node,
    x: Tensor,
    y: Tensor,
    x_zero_point: Tensor | None = None,
    y_zero_point: Tensor | None = None,
) -> Tensor:
    """Zero points of x may be one for each row, those of y one for each column."""
    x = centred(ctx, x, along(ctx, x_zero_point, x.rank, -2 if x.rank > 1 else -1))
    y = centred(ctx, y, along(ctx, y_zero_point, y.rank, -1))
    return matrix_product(ctx, x, y, "i32")


@operator("QLinearMatMul", since=10)
def qlinear_matmul(
    ctx: Context,
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    out_scale: Tensor,
    out_zero_point: Tensor,
) -> Tensor:
    row, column = (-2 if x.rank > 1 else -1), -1
    x = centred(ctx, x, along(ctx, x_zero_point, x.rank, row))
    y = centred(ctx, y, along(ctx, y_zero_point, y.rank, column))
    return requantized(
        ctx,
        matrix_product(ctx, x, y, "i32"),
        along(ctx, x_scale, x.rank, row),  # type: ignore[arg-type]
        along(ctx, y_scale, y.rank, column),  # type: ignore[arg-type]
        along(ctx, out_scale, x.rank, row),  # type: ignore[arg-type]
        along(ctx, out_zero_point, x.rank, row),
        out_zero_point.dtype,
    )


@operator("ConvInteger", since=10)
def conv_integer(
    ctx: Context,
    node: Node,
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
) -> Tensor:
    """The padding stands for 0, so that it is added after the zero point is taken away."""
    window = conv_window(ctx, x, w)
    x = centred(ctx, x, along(ctx, x_zero_point, x.rank, -1))
    w = centred(ctx, w, along(ctx, w_zero_point, w.rank, -w.rank))
    y = convolution(ctx, x, w, ctx.attr_int("group", 1), window, "i32")
    return channels_second(ctx, y, len(window.kernel))


@operator("QLinearConv", since=10)
def qlinear_conv(
    ctx: Context,
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Scale and zero point of the weights may be one for each output channel. The bias has scale x_scale · w_scale."""
    window = conv_window(ctx, x, w)
    x = centred(ctx, x, along(ctx, x_zero_point, x.rank, -1))
    w = centred(ctx, w, along(ctx, w_zero_point, w.rank, -w.rank))
    y = convolution(ctx, x, w, ctx.attr_int("group", 1), window, "i32")
    rank = len(window.kernel)
    scales = along(ctx, w_scale, 1, -1)
    if y.rank == rank + 3:  # [N, …, groups, O / groups]
        scales, bias = (
            v if v is None or v.rank != 1 else ctx.b.reshape(v, y.shape[-2:]) for v in (scales, bias)
        )
    result = requantized(
        ctx,
        y,
        along(ctx, x_scale, 1, -1),  # type: ignore[arg-type]
        scales,  # type: ignore[arg-type]
        along(ctx, y_scale, 1, -1),  # type: ignore[arg-type]
        along(ctx, y_zero_point, 1, -1),
        y_zero_point.dtype,
        bias,
    )
    return channels_second(ctx, result, rank)
