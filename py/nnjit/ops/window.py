"""Sliding windows: the geometry that convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ir
from ..symbolic import IntExpr, floordiv, maximum, minimum
from ..tensor.tensor import Compute, Storage, Tensor, physical_order
from .registry import Context

Index = int | IntExpr


class Window:
    """How a window slides over the spatial axes of a tensor; each field has one entry for each of these axes.

    kernel            taps                              begin, end   padding before and after
    strides           elements between windows          inputs       extents of the input
    dilations         elements between taps             outputs      number of windows
    """

    __slots__ = ("kernel", "strides", "dilations", "begin", "end", "inputs", "outputs")

    def __init__(self, ctx: Context, kernel: Sequence[int], inputs: Sequence[Index]) -> None:
        """Read strides, dilations, pads, auto_pad and ceil_mode of the node.

        Raises ModelFormatError when they do not fit the input.
        """
        rank = len(kernel)
        if len(inputs) != rank:
            raise ctx.malformed(f"a kernel of {rank} axes cannot slide over {len(inputs)} axes")
        self.kernel = list(kernel)
        self.inputs = list(inputs)
        self.strides = ctx.attr_ints("strides") or [1] * rank
        self.dilations = ctx.attr_ints("dilations") or [1] * rank
        pads = ctx.attr_ints("pads") or [0] * (2 * rank)
        if len(self.strides) != rank or len(self.dilations) != rank or len(pads) != 2 * rank:
            raise ctx.malformed(f"strides, dilations and pads must be for {rank} spatial axes")
        self.begin: list[Index] = list(pads[:rank])
        self.end: list[Index] = list(pads[rank:])
        auto_pad = ctx.attr_str("auto_pad", "NOTSET")
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            self._pad_to_same(ctx, auto_pad == "SAME_LOWER")
        elif auto_pad == "VALID":
            self.begin, self.end = [0] * rank, [0] * rank
        elif auto_pad != "NOTSET":
            raise ctx.malformed(f"auto_pad '{auto_pad}' is unknown")
        ceil_mode = ctx.attr_int("ceil_mode", 0) == 1 and auto_pad == "NOTSET"
        self.outputs = [self._count(ctx, a, ceil_mode) for a in range(rank)]

    def span(self, axis: int) -> int:
        """Elements from the first tap to the last one."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1

    def _pad_to_same(self, ctx: Context, lower: bool) -> None:
        """Pads with which there are ⌈input / stride⌉ windows; the odd element goes to the end, or the beginning."""
        for a, d in enumerate(self.inputs):
            stride = self.strides[a]
            total = (floordiv(d + (stride - 1), stride) - 1) * stride + self.span(a) - d
            total = total if ctx.env.ge(total, 0) else 0
            half = floordiv(total, 2, ctx.env.bounds)
            self.begin[a], self.end[a] = (total - half, half) if lower else (half, total - half)

    def _count(self, ctx: Context, a: int, ceil_mode: bool) -> Index:
        stride = self.strides[a]
        room = self.inputs[a] + self.begin[a] + self.end[a] - self.span(a)
        if not ctx.env.ge(room, 0):
            extent, before, after = map(ctx.env.hint, (self.inputs[a], self.begin[a], self.end[a]))
            raise ctx.malformed(
                f"a window of {self.span(a)} elements does not fit an input of {extent} with padding {before} + {after}"
            )
        if not ceil_mode:
            return floordiv(room, stride, ctx.env.bounds) + 1
        count = floordiv(room + (stride - 1), stride, ctx.env.bounds) + 1
        # A window that would begin in the padding after the input is left out.
        return count - 1 if ctx.env.ge((count - 1) * stride, self.inputs[a] + self.begin[a]) else count

    def position(self, axis: int, at: Index, tap: Index) -> Index:
        """Where, in input elements, tap `tap` of window `at` lies; outside of the input it is in the padding."""
        return at * self.strides[axis] + tap * self.dilations[axis] - self.begin[axis]

    def overhangs(self, axis: int) -> tuple[bool, bool]:
        """Whether some window reaches before the input, and whether one may reach past its end."""
        last = self.position(axis, self.outputs[axis] - 1, self.kernel[axis] - 1)
        beyond = last - self.inputs[axis]
        end = self.end[axis]
        padded = not isinstance(end, int) or end > 0
        if isinstance(beyond, int):
            return self.begin[axis] != 0, beyond >= 0
        # Without padding, rounding down keeps the last window inside.
        rounded_up = (
            self.outputs[axis]
            != floordiv(
                self.inputs[axis] + self.begin[axis] + self.end[axis] - self.span(axis), self.strides[axis]
            )
            + 1
        )
        return self.begin[axis] != 0, padded or rounded_up

    def clamped(self, axis: int, at: Index, tap: Index) -> tuple[Index, list[ir.Expr]]:
        """The position with the padding folded onto the border, and the conditions under which it was inside."""
        position = self.position(axis, at, tap)
        before, after = self.overhangs(axis)
        conditions = []
        index = position
        if before:
            conditions.append(ir.binary("ge", ir.index(position), ir.const(0, "i32")))
            index = maximum(index, 0)
        if after:
            conditions.append(ir.binary("lt", ir.index(position), ir.index(self.inputs[axis])))
            index = minimum(index, self.inputs[axis] - 1)
        return index, conditions


def all_of(conditions: Sequence[ir.Expr]) -> ir.Expr | None:
    """Their conjunction; None for none."""
    result = None
    for c in conditions:
        result = c if result is None else ir.binary("and", result, c)
    return result


def padded(ctx: Context, x: Tensor, begin: Sequence[Index], end: Sequence[Index]) -> Tensor:
    """x, channels second, with zeros around its spatial axes; x itself when there is no padding.

    The result is a tensor of its own, so that what reads it needs no bounds checks. Negative padding crops.
    """
    if all(isinstance(p, int) and p == 0 for p in (*begin, *end)):
        return x
    inputs = x.shape[2:]
    shape = (*x.shape[:2], *(d + p + q for d, p, q in zip(inputs, begin, end, strict=True)))

    def element(*at: Index) -> ir.Expr:
        if 0 in inputs:
            return ir.const(0, ir.COMPUTE_OF[x.dtype])
        conditions = []
        source = list(at[:2])
        for c, d, p, q in zip(at[2:], inputs, begin, end, strict=True):
            position = c - p
            if not isinstance(p, int) or p > 0:
                conditions.append(ir.binary("ge", ir.index(position), ir.const(0, "i32")))
            if not isinstance(q, int) or q > 0:
                conditions.append(ir.binary("lt", ir.index(position), ir.index(d)))
            if not isinstance(p, int) or p > 0:
                position = maximum(position, 0)
            if not isinstance(q, int) or q > 0:
                position = minimum(position, d - 1)
            source.append(position)
        inside = all_of(conditions)
        read = x.at(*source)
        return read if inside is None else ir.select(inside, read, ir.const(0, read.dtype))

    t = ctx.b.compute(shape, x.dtype, element, "pad")
    t.order = channels_last(x.rank) if is_open(x) else physical_order(x) or channels_last(x.rank)
    return t


def is_open(x: Tensor) -> bool:
    """Whether nothing has settled the memory order of x yet."""
    return isinstance(x, Compute) and not x.frozen


def channels_last(rank: int) -> tuple[int, ...]:
    """Memory order N, spatial axes, C of a tensor whose axes are N, C, spatial axes."""
    return (0, *range(2, rank), 1)


def follow_order(t: Storage, x: Tensor) -> Storage:
    """Give t, whose axes mean the same as those of x, the memory order of x."""
    order = physical_order(x)
    if order is not None and not t.frozen:
        t.order = order
    return t
