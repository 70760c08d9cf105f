"""Sequences of tensors. They exist at compile time only: every operator on one is resolved while tracing."""

from __future__ import annotations

import numpy as np

from ..graph.graph import Node
from ..symbolic import ceildiv
from ..tensor.tensor import Index, Tensor
from .movement import cut, joined
from .registry import Context, TensorList, operator
from .shape import with_axes, without_axes


@operator("SequenceEmpty", since=11)
def sequence_empty(ctx: Context, node: Node) -> TensorList:
    return TensorList()


@operator("SequenceConstruct", since=11)
def sequence_construct(ctx: Context, node: Node, *items: Tensor) -> TensorList:
    return TensorList(items)


@operator("SequenceLength", since=11)
def sequence_length(ctx: Context, node: Node, items: TensorList) -> Tensor:
    return ctx.b.known(np.asarray(len(items), dtype=object), "i64")


@operator("SequenceAt", since=11)
def sequence_at(ctx: Context, node: Node, items: TensorList, position: Tensor) -> Tensor:
    return items[ctx.axis(_position(ctx, position), len(items))]


@operator("SequenceInsert", since=11)
def sequence_insert(
    ctx: Context, node: Node, items: TensorList, item: Tensor, position: Tensor | None = None
) -> TensorList:
    at = len(items) if position is None else _position(ctx, position)
    if not -len(items) <= at <= len(items):
        raise ctx.malformed(f"position {at} is out of range for a sequence of {len(items)}")
    at = at + len(items) if at < 0 else at
    return TensorList((*items[:at], item, *items[at:]))


@operator("SequenceErase", since=11)
def sequence_erase(ctx: Context, node: Node, items: TensorList, position: Tensor | None = None) -> TensorList:
    at = ctx.axis(-1 if position is None else _position(ctx, position), len(items))
    return TensorList((*items[:at], *items[at + 1 :]))


@operator("SplitToSequence", since=11)
def split_to_sequence(ctx: Context, node: Node, x: Tensor, sizes: Tensor | None = None) -> TensorList:
    """x cut along an axis: into slices of 1, parts of one size (the last may be smaller), or parts of the sizes given."""
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    if sizes is not None and sizes.rank == 1:
        return TensorList(cut(ctx, x, axis, ctx.ints(sizes, "sizes")))
    size = 1 if sizes is None else ctx.fixed_ints(sizes, "size")[0]
    if size <= 0:
        raise ctx.malformed(f"parts of {size} elements")
    extent = x.shape[axis]
    count = ctx.env.fix(ceildiv(extent, size))
    parts: list[Index] = [size] * (count - 1)
    parts.append(extent - size * (count - 1))
    items = cut(ctx, x, axis, parts)
    if sizes is None and not ctx.attr_int("keepdims", 1):
        items = [without_axes(ctx, item, [axis]) for item in items]
    return TensorList(items)


@operator("ConcatFromSequence", since=11)
def concat_from_sequence(ctx: Context, node: Node, items: TensorList) -> Tensor:
    """The items joined along an axis, or stacked along a new one."""
    if not items:
        raise ctx.malformed("the sequence is empty")
    new = ctx.attr_int("new_axis", 0)
    axis = ctx.axis(ctx.attr_int("axis", 0), items[0].rank + new)
    return joined(ctx, [with_axes(ctx, item, [axis]) for item in items] if new else list(items), axis)


def _position(ctx: Context, position: Tensor) -> int:
    return ctx.fixed_ints(position, "position")[0]
