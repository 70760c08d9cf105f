"""Linear quantisation: real = (quantised − zero point) · scale."""

from __future__ import annotations

import numpy as np

from .. import ir
from ..graph.dtype import NUMPY
from ..graph.graph import Node
from ..onnx.tensors import DTYPES
from ..tensor.tensor import Index, Tensor
from .cast import converted
from .elementwise import like
from .narrow import BITS, narrow_dtype
from .reduction import reduced_to_one
from .registry import Context, operator

_QUANTISED = ("u8", "i8", "u16", "i16", "i32")


def _parameter(ctx: Context, x: Tensor, p: Tensor) -> Tensor:
    """A scale or zero point shaped to broadcast with x: one for the tensor, for each place of an axis, or for a block."""
    if all(isinstance(d, int) and d == 1 for d in p.shape):
        return ctx.b.reshape(p, ())
    axis = ctx.axis(ctx.attr_int("axis", 1), x.rank)
    if p.rank == 1:
        return ctx.b.reshape(p, tuple(p.shape[0] if a == axis else 1 for a in range(x.rank)))
    block = ctx.attr_int("block_size", 0)
    if p.rank != x.rank or block <= 0:
        raise ctx.malformed(
            f"parameters of rank {p.rank} for a tensor of rank {x.rank}, with blocks of {block}"
        )

    def place(*c: Index) -> list[Index]:
        return [i // block if a == axis else i for a, i in enumerate(c)]

    return ctx.b.view(p, x.shape, place)


def saturated(v: ir.Expr, zero: ir.Expr | None, dtype: str) -> ir.Expr:
    """round(v) + zero limited to the range of `dtype`, as an integer; NaN becomes the least, as in onnxruntime."""
    low, high = _limits(dtype)
    v = ir.unary("round", v)
    if zero is not None:
        v = ir.add(v, ir.cast(zero, v.dtype))
    v = ir.binary("pmin", ir.binary("pmax", like(v, low), v), like(v, high))
    return ir.cast(v, ir.COMPUTE_OF.get(dtype, "i32"))


def _limits(dtype: str) -> tuple[int, int]:
    """The least and the greatest integer of a dtype, those of less than a byte included."""
    bits = BITS.get(dtype)
    if bits is None:
        info = np.iinfo(NUMPY[dtype])
        return int(info.min), int(info.max)
    return (0, (1 << bits) - 1) if dtype[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


@operator("QuantizeLinear", since=10)
@operator("QuantizeLinear", domain="com.microsoft")
def quantize_linear(ctx: Context, node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    code = ctx.attr_int("output_dtype", 0)
    dtype = zero.dtype if zero is not None else DTYPES.get(code, "?") if code else "u8"
    limits = narrow_dtype(zero) or dtype
    if limits in BITS:
        dtype = "i8" if limits[0] == "i" else "u8"
    if dtype not in _QUANTISED:
        raise ctx.unsupported(f"quantised elements of type {dtype}")
    operands = [x, _parameter(ctx, x, scale)]
    if zero is not None:
        operands.append(_parameter(ctx, x, zero))

    def f(v: ir.Expr, s: ir.Expr, z: ir.Expr | None = None) -> ir.Expr:
        return saturated(ir.div(ir.cast(v, s.dtype), s), z, limits)

    return ctx.b.elementwise(f, *operands, dtype=dtype, label="quantize")


@operator("DequantizeLinear", since=10)
@operator("DequantizeLinear", domain="com.microsoft")
def dequantize_linear(
    ctx: Context, node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None
) -> Tensor:
    operands = [x, _parameter(ctx, x, scale)]
    if zero is not None:
        operands.append(_parameter(ctx, x, zero))

    def f(v: ir.Expr, s: ir.Expr, z: ir.Expr | None = None) -> ir.Expr:
        return ir.mul(converted(v if z is None else ir.sub(v, z), scale.dtype), s)

    return ctx.b.elementwise(f, *operands, dtype=scale.dtype, label="dequantize")


@operator("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(ctx: Context, node: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return dynamically_quantized(ctx, x)


def dynamically_quantized(ctx: Context, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u8 elements with the scale and zero point that the least and greatest element ask for."""
    b = ctx.b
    low, high = (reduced_to_one(ctx, op, x) for op in ("min", "max"))

    def limits(least: ir.Expr, greatest: ir.Expr) -> tuple[ir.Expr, ir.Expr]:
        least = ir.binary("min", least, like(least, 0))
        return least, ir.binary("max", greatest, like(greatest, 0))

    def scale_of(*extremes: ir.Expr) -> ir.Expr:
        least, greatest = limits(*extremes)
        return ir.div(ir.sub(greatest, least), like(least, 255))

    scale = b.elementwise(scale_of, low, high, label="scale")

    def zero_of(s: ir.Expr, *extremes: ir.Expr) -> ir.Expr:
        least, _ = limits(*extremes)
        return saturated(ir.div(ir.unary("neg", least), _nonzero(s)), None, "u8")

    zero = b.elementwise(zero_of, scale, low, high, dtype="u8", label="zero_point")

    def element(v: ir.Expr, s: ir.Expr, z: ir.Expr) -> ir.Expr:
        return saturated(ir.div(v, _nonzero(s)), z, "u8")

    return b.elementwise(element, x, scale, zero, dtype="u8", label="quantize"), scale, zero


def _nonzero(scale: ir.Expr) -> ir.Expr:
    """A tensor of zeros has scale 0."""
    return ir.select(ir.binary("eq", scale, like(scale, 0)), like(scale, 1), scale)
