"""Convolutions. They are written with axes in the order N, spatial axes, C: channels are innermost in memory."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv, maximum, minimum, mod, product
from ..tensor.tensor import Compute, Tensor
from .contraction import contraction
from .registry import Context, operator
from .window import Window, all_of, channels_last, padded

Index = int | IntExpr


def convolution(ctx: Context, x: Tensor, w: Tensor, groups: int, window: Window, dtype: str) -> Tensor:
    """The convolution of x [N, C, …] with w [O, C / groups, …], channels last: [N, …, O], or [N, …, groups, O / groups].

    `window` has the geometry; x is padded with zeros.
    """
    channels, depth = w.shape[0], w.shape[1]
    if not ctx.env.eq(x.shape[1], depth * groups) or not _divides(groups, channels):
        raise ctx.malformed(
            f"an input of {ctx.extents(x)[1]} channels in {groups} groups does not fit weights of shape {ctx.extents(w)}"
        )
    x = padded(ctx, x, window.begin, window.end)
    rank = len(window.kernel)
    per_group = floordiv(channels, groups)
    depthwise = groups > 1 and depth == 1
    split = groups > 1 and not (depthwise and per_group == 1)

    def spatial(at: Sequence[Index], k: Sequence[Index]) -> list[Index]:
        return [at[1 + a] * window.strides[a] + k[a] * window.dilations[a] for a in range(rank)]

    def channel(at: Sequence[Index], k: Sequence[Index]) -> Index:
        if groups == 1:
            return k[-1]
        return at[1 + rank] if depthwise else at[1 + rank] * depth + k[-1]

    def output(at: Sequence[Index]) -> Index:
        return at[1 + rank] * per_group + at[2 + rank] if split else at[1 + rank]

    def left(at: Sequence[Index], k: Sequence[Index]) -> ir.Expr:
        return x.at(at[0], channel(at, k), *spatial(at, k))

    def right(at: Sequence[Index], k: Sequence[Index]) -> ir.Expr:
        return w.at(output(at), 0 if depthwise else k[-1], *k[:rank])

    out = (groups, per_group) if split else (channels,)
    reduced = window.kernel if depthwise else (*window.kernel, depth)
    return contraction(ctx.b, (x.shape[0], *window.outputs, *out), reduced, left, right, dtype, "conv")


def _divides(groups: int, channels: Index) -> bool:
    return groups > 0 and (not isinstance(channels, int) or channels % groups == 0)


def channels_second(ctx: Context, y: Tensor, rank: int) -> Tensor:
    """[N, …, O] or [N, …, groups, O / groups] as [N, O, …], with `rank` spatial axes."""
    if y.rank == rank + 3:
        y = ctx.b.reshape(y, (*y.shape[: rank + 1], y.shape[-2] * y.shape[-1]))
    return ctx.b.permute(y, (0, rank + 1, *range(1, rank + 1)))


def with_bias(ctx: Context, y: Tensor, bias: Tensor | None, split: bool = False) -> Tensor:
    """y [N, …, O], or [N, …, groups, O / groups] when `split`, plus bias [O]."""
    if bias is None:
        return y
    channels = y.shape[-2:] if split else y.shape[-1:]
    if bias.rank != 1 or not ctx.env.eq(bias.size, product(channels)):
        raise ctx.malformed(f"a bias {ctx.extents(bias)} does not fit {ctx.extents(y)}")
    return ctx.b.elementwise(ir.add, y, ctx.b.reshape(bias, channels), label="bias")


def kernel_of(ctx: Context, w: Tensor) -> list[int]:
    """The spatial extents of weights w. Raises ModelFormatError when kernel_shape says something else."""
    kernel = [ctx.env.fix(d) for d in w.shape[2:]]
    declared = ctx.attr_ints("kernel_shape")
    if declared is not None and declared != kernel:
        raise ctx.malformed(f"kernel_shape {declared} does not fit weights of shape {ctx.extents(w)}")
    return kernel


def conv_window(ctx: Context, x: Tensor, w: Tensor) -> Window:
    """The geometry of a convolution of x with w."""
    if x.rank < 3 or x.rank != w.rank:
        raise ctx.malformed(f"input and weights must have one rank, 3 or more, not {x.rank} and {w.rank}")
    return Window(ctx, kernel_of(ctx, w), x.shape[2:])


@operator("Conv")
def conv(ctx: Context, node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    window = conv_window(ctx, x, w)
    y = convolution(ctx, x, w, ctx.attr_int("group", 1), window, x.dtype)
    return channels_second(ctx, with_bias(ctx, y, bias, y.rank == x.rank + 1), len(window.kernel))


# -- transposed -------------------------------------------------------------------------------------------------------


@operator("ConvTranspose")
def conv_transpose(ctx: Context, node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """The transposed convolution of x [N, C, …] with w [C, O / groups, …].

    When the windows of the output neither overlap nor leave gaps, each output element has one tap: a matrix product.
    Otherwise, an ordinary convolution of the input, spread by the strides, with the flipped kernel.
    """
    groups = ctx.attr_int("group", 1)
    if x.rank < 3 or x.rank != w.rank or not ctx.env.eq(x.shape[1], w.shape[0]):
        raise ctx.malformed(f"input {ctx.extents(x)} does not fit weights {ctx.extents(w)}")
    kernel = kernel_of(ctx, w)
    rank = len(kernel)
    strides = ctx.attr_ints("strides") or [1] * rank
    dilations = ctx.attr_ints("dilations") or [1] * rank
    begin, outputs = _transposed_extents(ctx, x.shape[2:], kernel, strides, dilations)
    tiles = (
        strides == kernel
        and all(isinstance(p, int) and p == 0 for p in begin)
        and all(o == d * s for o, d, s in zip(outputs, x.shape[2:], strides, strict=True))
    )
    if tiles and groups == 1:
        y = with_bias(ctx, _tiled(ctx, x, w, kernel), bias)
        return ctx.b.permute(
            ctx.b.reshape(y, (x.shape[0], *outputs, w.shape[1])), (0, rank + 1, *range(1, rank + 1))
        )
    spans = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    spread = _spread(
        ctx,
        x,
        strides,
        [s - p for s, p in zip(spans, begin, strict=True)],
        [o + s for o, s in zip(outputs, spans, strict=True)],
    )
    y = _flipped(ctx, spread, w, groups, kernel, dilations, outputs)
    return channels_second(ctx, with_bias(ctx, y, bias, y.rank == rank + 3), rank)


def _transposed_extents(
    ctx: Context, inputs: Sequence[Index], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[Index], list[Index]]:
    """Padding cut off before the output, and the output's extents, for each spatial axis."""
    rank = len(kernel)
    extra = ctx.attr_ints("output_padding") or [0] * rank
    pads = ctx.attr_ints("pads") or [0] * (2 * rank)
    shape = ctx.attr_ints("output_shape")
    auto_pad = ctx.attr_str("auto_pad", "NOTSET")
    begin: list[Index] = []
    outputs: list[Index] = []
    for a, d in enumerate(inputs):
        whole = (d - 1) * strides[a] + extra[a] + (kernel[a] - 1) * dilations[a] + 1
        if shape is None and auto_pad in ("NOTSET", "VALID"):
            before, after = (pads[a], pads[rank + a]) if auto_pad == "NOTSET" else (0, 0)
            begin.append(before)
            outputs.append(whole - before - after)
            continue
        out: Index = d * strides[a] if shape is None else shape[-rank:][a]
        total = whole - out
        total = total if ctx.env.ge(total, 0) else 0
        half = floordiv(total, 2, ctx.env.bounds)
        begin.append(half if auto_pad == "SAME_UPPER" else total - half)
        outputs.append(out)
    return begin, outputs


def _tiled(ctx: Context, x: Tensor, w: Tensor, kernel: list[int]) -> Compute:
    """The case of kernel = stride: axes N, then input position and tap for each spatial axis, then O."""
    rank = len(kernel)
    shape: list[Index] = [x.shape[0]]
    for a in range(rank):
        shape += [x.shape[2 + a], kernel[a]]
    return contraction(
        ctx.b,
        (*shape, w.shape[1]),
        (w.shape[0],),
        lambda at, k: x.at(at[0], k[0], *(at[1 + 2 * a] for a in range(rank))),
        lambda at, k: w.at(k[0], at[-1], *(at[2 + 2 * a] for a in range(rank))),
        x.dtype,
        "conv_transpose",
    )


def _spread(
    ctx: Context, x: Tensor, strides: list[int], begin: Sequence[Index], extents: Sequence[Index]
) -> Tensor:
    """x with stride − 1 zeros between its elements, `begin` zeros before them, cut to `extents`."""

    def element(*at: Index) -> ir.Expr:
        conditions = []
        source = list(at[:2])
        for c, d, s, p in zip(at[2:], x.shape[2:], strides, begin, strict=True):
            position = c - p
            low = position if isinstance(p, int) and p <= 0 else maximum(position, 0)
            quotient = floordiv(low, s, ctx.env.bounds)
            if low is not position:
                conditions.append(ir.binary("ge", ir.index(position), ir.const(0, "i32")))
            if s > 1:
                rest = mod(low, s, ctx.env.bounds)
                conditions.append(ir.binary("eq", ir.index(rest), ir.const(0, "i32")))
            conditions.append(ir.binary("lt", ir.index(quotient), ir.index(d)))
            source.append(minimum(quotient, d - 1))
        inside = all_of(conditions)
        read = x.at(*source)
        return read if inside is None else ir.select(inside, read, ir.const(0, read.dtype))

    t = ctx.b.compute((*x.shape[:2], *extents), x.dtype, element, "spread")
    t.order = channels_last(x.rank)
    return t


def _flipped(
    ctx: Context,
    x: Tensor,
    w: Tensor,
    groups: int,
    kernel: list[int],
    dilations: list[int],
    outputs: Sequence[Index],
) -> Tensor:
    """The stride-1 convolution of x, already padded, with w [C, O / groups, …] flipped along its spatial axes."""
    rank = len(kernel)
    depth, per_group = floordiv(w.shape[0], groups), w.shape[1]

    def left(at: Sequence[Index], k: Sequence[Index]) -> ir.Expr:
        c = k[-1] if groups == 1 else at[1 + rank] * depth + k[-1]
        return x.at(at[0], c, *(at[1 + a] + k[a] * dilations[a] for a in range(rank)))

    def right(at: Sequence[Index], k: Sequence[Index]) -> ir.Expr:
        c = k[-1] if groups == 1 else at[1 + rank] * depth + k[-1]
        return w.at(c, at[-1], *(kernel[a] - 1 - k[a] for a in range(rank)))

    out = (per_group,) if groups == 1 else (groups, per_group)
    shape = (x.shape[0], *outputs, *out)
    return contraction(ctx.b, shape, (*kernel, depth), left, right, x.dtype, "conv_transpose")
