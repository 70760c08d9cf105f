"""Fourier transforms, as products with tables of cosines and sines, and the matrix of mel filters that follows them.

A transform of N points takes N² terms. A long one whose length is a product n₁·n₂ is made of n₂ transforms of n₁ points, a
rotation of each result, and n₁ transforms of n₂ points (Cooley and Tukey, 1965): with w = exp(∓2πi / N), n = n₂·a + b and
k = c + n₁·d

    X[k] = Σ_b w^(n₁·b·d) · w^(b·c) · Σ_a w^(n₂·a·c) · x[n]

Tensors are [rows …, points, parts]; parts: 1 of a real number, 2 of a complex one. The tables depend on no input, so that
they are made once, when a model is loaded.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ir
from ..graph.dtype import NUMPY
from ..graph.graph import Node
from ..onnx.tensors import DTYPES
from ..symbolic import IntExpr, floordiv
from ..tensor.tensor import Tensor
from . import content as known
from .contraction import contraction
from .registry import Context, operator

Index = int | IntExpr

MOST_DIRECT = 1024
"""Longer transforms are split where their length has a divisor."""

LONGEST_PART = 2048
"""The longest part that cannot be split: a table of 64 MiB."""


def transformed(
    ctx: Context, x: Tensor, length: int, bins: int, inverse: bool = False, window: Tensor | None = None
) -> Tensor:
    """The first `bins` of the transform of `length` points of x [R …, N, 1 or 2], N <= length: [R …, bins, 2].

    x is followed by zeros, and multiplied by `window` [N] first. The inverse is not divided by the length.
    """
    first = _divisor(length) if length > MOST_DIRECT else 1
    if first == 1:
        if length > LONGEST_PART:
            raise ctx.unsupported(
                f"a Fourier transform of {length} points, which has no divisor to split it by"
            )
        return _product(ctx, x, length, bins, inverse, window)
    b, rows, second = ctx.b, x.shape[:-2], length // first
    if window is not None:
        x = b.elementwise(ir.mul, x, b.reshape(window, (window.shape[0], 1)), label="window")
    if x.shape[-2] != length:
        rest = (*rows, length - x.shape[-2], x.shape[-1])
        x = b.concat([x, b.compute(rest, x.dtype, lambda *_: _number(0, x.dtype), "zeros")], len(rows))
    swap = (*range(len(rows)), len(rows) + 1, len(rows), len(rows) + 2)
    columns = b.permute(b.reshape(x, (*rows, first, second, x.shape[-1])), swap)
    inner = _rotated(ctx, transformed(ctx, columns, first, first, inverse), length, inverse)
    outer = transformed(ctx, b.permute(inner, swap), second, second, inverse)
    whole = b.reshape(b.permute(outer, swap), (*rows, length, 2))
    return b.slice_(whole, (0,) * whole.rank, (1,) * whole.rank, (*rows, bins, 2))


def _divisor(n: int) -> int:
    """The largest divisor of n up to its root."""
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)


def _number(value: float, dtype: str) -> ir.Expr:
    return ir.const(value, ir.COMPUTE_OF[dtype])


def _turn(step: ir.Expr, length: int, dtype: str) -> ir.Expr:
    """The angle 2π · step / length; the step, an i32, is taken within one turn, where the angle is exact enough."""
    within = ir.cast(ir.binary("rem", step, ir.const(length, "i32")), ir.COMPUTE_OF[dtype])
    return ir.mul(within, _number(2 * math.pi / length, dtype))


def _product(ctx: Context, x: Tensor, length: int, bins: int, inverse: bool, window: Tensor | None) -> Tensor:
    """One product of x with a table [N, parts, 2·bins]: to the real part cos and ±sin, to the imaginary one ∓sin and cos."""
    b, dtype, rows = ctx.b, x.dtype, x.shape[:-2]

    def entry(n: Index, part: Index, column: Index) -> ir.Expr:
        k, of = (ir.binary(op, ir.index(column), ir.const(1, "i32")) for op in ("shr", "and"))
        angle = _turn(ir.mul(ir.index(n), k), length, dtype)
        same = ir.binary("eq", ir.index(part), of)
        negative = ir.binary("gt" if inverse else "lt", ir.index(part), of)
        sine = ir.unary("sin", angle)
        value = ir.select(same, ir.unary("cos", angle), ir.select(negative, ir.unary("neg", sine), sine))
        return value if window is None else ir.mul(value, window.at(n))

    table = b.compute((*x.shape[-2:], 2 * bins), dtype, entry, "twiddles")
    y = contraction(
        b,
        (*rows, 2 * bins),
        x.shape[-2:],
        lambda at, k: x.at(*at[:-1], *k),
        lambda at, k: table.at(*k, at[-1]),
        dtype,
        "dft",
    )
    return b.reshape(y, (*rows, bins, 2))


def _rotated(ctx: Context, x: Tensor, length: int, inverse: bool) -> Tensor:
    """x [R …, B, C, 2] times w^(b·c)."""
    b, dtype = ctx.b, x.dtype

    def real(part: Index) -> ir.Expr:
        return ir.binary("eq", ir.index(part), ir.const(0, "i32"))

    def twiddle(i: Index, j: Index, part: Index) -> ir.Expr:
        angle = _turn(ir.mul(ir.index(i), ir.index(j)), length, dtype)
        sine = ir.unary("sin", angle)
        return ir.select(real(part), ir.unary("cos", angle), sine if inverse else ir.unary("neg", sine))

    table = b.compute(x.shape[-3:], dtype, twiddle, "twiddles")

    def element(*at: Index) -> ir.Expr:
        i, j, part = at[-3:]
        u, v = (x.at(*at[:-1], n) for n in (0, 1))
        c, s = table.at(i, j, 0), table.at(i, j, 1)
        return ir.select(real(part), ir.sub(ir.mul(u, c), ir.mul(v, s)), ir.add(ir.mul(u, s), ir.mul(v, c)))

    return b.compute(x.shape, dtype, element, "rotate")


def _check(ctx: Context, x: Tensor) -> int:
    """The parts of x's elements."""
    parts = ctx.env.fix(x.shape[-1]) if x.rank > 1 else 0
    if parts not in (1, 2):
        raise ctx.malformed(f"the input {ctx.extents(x)} must end in an axis of 1 (real) or 2 (complex)")
    if x.dtype not in ("f32", "f64"):
        raise ctx.unsupported(f"elements of type {x.dtype}")
    return parts


@operator("DFT", since=20)
def dft(
    ctx: Context, node: Node, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    """The transform along one axis; one-sided it goes from real numbers to half of the bins, or inversely back."""
    at = -2 if axis is None else ctx.fixed_ints(axis, "axis")[0]
    return _along(ctx, x, length, at)


@operator("DFT", since=17)
def dft_17(ctx: Context, node: Node, x: Tensor, length: Tensor | None = None) -> Tensor:
    """The axis is an attribute."""
    return _along(ctx, x, length, ctx.attr_int("axis", 1))


def _along(ctx: Context, x: Tensor, given: Tensor | None, axis: int) -> Tensor:
    b, parts = ctx.b, _check(ctx, x)
    axis = ctx.axis(axis, x.rank)
    if axis == x.rank - 1:
        raise ctx.malformed("the last axis has the parts of complex numbers")
    inverse, onesided = bool(ctx.attr_int("inverse", 0)), bool(ctx.attr_int("onesided", 0))
    extent = ctx.env.fix(x.shape[axis])
    back = inverse and onesided
    length = (2 * (extent - 1) if back else extent) if given is None else ctx.fixed_ints(given, "length")[0]
    if length < 1:
        raise ctx.malformed(f"the length of the transform is {length}")
    if onesided and parts == (1 if inverse else 2):
        raise ctx.malformed("one-sided transforms go from real to complex numbers, and back")
    order = [a for a in range(x.rank) if a not in (axis, x.rank - 1)]
    turned = b.permute(x, (*order, axis, x.rank - 1))
    if back:
        turned = _mirrored(ctx, turned, length)
    rows, points = turned.shape[:-2], min(ctx.env.fix(turned.shape[-2]), length)
    turned = b.slice_(turned, (0,) * x.rank, (1,) * x.rank, (*rows, points, parts))
    y = transformed(ctx, turned, length, length // 2 + 1 if onesided and not inverse else length, inverse)
    if inverse:
        y = b.elementwise(lambda v: ir.div(v, _number(length, x.dtype)), y, label="scale")
    if back:
        y = b.slice_(y, (0,) * x.rank, (1,) * x.rank, (*y.shape[:-1], 1))
    return b.permute(y, [*range(axis), x.rank - 2, *range(axis, x.rank - 2), x.rank - 1])


def _mirrored(ctx: Context, x: Tensor, length: int) -> Tensor:
    """All bins of a real signal's transform from its first ones [R …, K, 2]: X[length − k] is the conjugate of X[k]."""
    half = length // 2 + 1
    known = ctx.env.fix(x.shape[-2])

    def element(*at: Index) -> ir.Expr:
        *row, k, part = at
        place = ir.index(k)
        second = ir.binary("ge", place, ir.const(half, "i32"))
        source = ir.select(second, ir.sub(ir.const(length, "i32"), place), place)
        within = ir.binary("lt", source, ir.const(known, "i32"))
        near = ir.value_index(ir.select(within, source, ir.const(0, "i32")))
        value = x.at(*row, near, part)
        conjugate = ir.binary("and", second, ir.binary("eq", ir.index(part), ir.const(1, "i32")))
        value = ir.select(conjugate, ir.unary("neg", value), value)
        return ir.select(within, value, _number(0, x.dtype))

    return ctx.b.compute((*x.shape[:-2], length, 2), x.dtype, element, "mirror")


@operator("STFT", since=17)
def stft(
    ctx: Context,
    node: Node,
    x: Tensor,
    step: Tensor,
    window: Tensor | None = None,
    length: Tensor | None = None,
) -> Tensor:
    """The transforms of the frames of x [B, L, 1 or 2], one every `step` samples: [B, frames, bins, 2].

    A real signal may also be [B, L], as onnxruntime takes it.
    """
    if x.rank == 2:
        x = ctx.b.reshape(x, (*x.shape, 1))
    if x.rank != 3:
        raise ctx.malformed(f"the signal {ctx.extents(x)} must have rank 3, or 2 where it is real")
    parts = _check(ctx, x)
    hop = ctx.fixed_ints(step, "frame step")[0]
    if length is not None:
        size = ctx.fixed_ints(length, "frame length")[0]
    else:
        size = ctx.env.fix(x.shape[1] if window is None else window.shape[0])
    if hop < 1 or size < 1:
        raise ctx.malformed(f"frames of {size} samples every {hop}")
    if window is not None and (window.rank != 1 or not ctx.env.eq(window.shape[0], size)):
        raise ctx.malformed(f"the window {ctx.extents(window)} does not fit frames of {size} samples")
    onesided = bool(ctx.attr_int("onesided", 1))
    if onesided and parts == 2:
        raise ctx.malformed("the transform of a complex signal is not one-sided")
    if not ctx.env.ge(x.shape[1], size):
        raise ctx.malformed(f"the signal {ctx.extents(x)} is shorter than one frame of {size} samples")
    frames = floordiv(x.shape[1] - size, hop) + 1
    framed = ctx.b.view(x, (x.shape[0], frames, size, parts), lambda n, f, t, c: (n, f * hop + t, c))
    return transformed(ctx, framed, size, size // 2 + 1 if onesided else size, window=window)


@operator("MelWeightMatrix", since=17)
def mel_weight_matrix(
    ctx: Context, node: Node, bands: Tensor, length: Tensor, rate: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Triangles [length // 2 + 1 bins, bands], evenly spaced in mel = 2595 · log10(1 + hertz / 700); each has the peak 1.

    As the standard defines it, the band edges are rounded down to bins.
    """
    count, size, samples = (ctx.fixed_ints(t, "size")[0] for t in (bands, length, rate))
    least, most = (float(known.number(ctx.env, ctx.scalar(t, "edge in hertz"))) for t in (low, high))
    dtype = DTYPES.get(ctx.attr_int("output_datatype", 1), "?")
    if dtype not in ir.COMPUTE_OF or dtype == "bool":
        raise ctx.unsupported(f"elements of type {dtype}")
    if min(count, size, samples) < 1 or not -700 < least <= most:
        raise ctx.malformed(
            f"{count} bands of {least} to {most} Hz, {size} points, {samples} samples a second"
        )
    first, last = (2595 * math.log10(1 + hertz / 700) for hertz in (least, most))
    mels = first + np.arange(count + 2) * ((last - first) / (count + 2))
    edges = ((size + 1) * (700 * (10 ** (mels / 2595) - 1)) // samples).astype(int)
    if edges[0] < 0 or edges[-1] > size // 2 + 1:
        raise ctx.malformed(f"the band edges {least} and {most} Hz lie outside of 0 to {samples / 2} Hz")
    start, peak, end = (edges[n : n + count] for n in range(3))
    bins = np.arange(size // 2 + 1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising = np.where(peak > start, (bins - start) / (peak - start), bins == peak)
        falling = np.where(bins == peak, 1.0, (end - bins) / (end - peak))
    weights = np.where(
        (bins >= start) & (bins <= peak), rising, np.where((bins > peak) & (bins < end), falling, 0)
    )
    return ctx.b.constant(weights.astype(NUMPY[dtype]), dtype)
