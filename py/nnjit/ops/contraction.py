"""Contractions: sums of products, in the one form that the scheduler recognises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import ir
from ..symbolic import IntExpr
from ..tensor.build import Builder
from ..tensor.tensor import Compute

Index = int | IntExpr
Read = Callable[[Sequence[Index], Sequence[Index]], ir.Expr]
"""(output coordinates, reduce coordinates) → the element of one operand."""


def contraction(
    b: Builder,
    shape: Sequence[Index],
    reduce_shape: Sequence[Index],
    left: Read,
    right: Read,
    dtype: str,
    label: str,
) -> Compute:
    """The sum over `reduce_shape` of left × right, each the plain read of an element.

    Reduce axes of extent 1 are left out, so that a pointwise convolution is the same loop nest as a matmul.
    """
    rank = len(shape)
    kept = [n for n, d in enumerate(reduce_shape) if d != 1]

    def body(*coords: Index) -> ir.Expr:
        at: list[Index] = [0] * len(reduce_shape)
        for n, c in zip(kept, coords[rank:], strict=True):
            at[n] = c
        return ir.mul(left(coords[:rank], at), right(coords[:rank], at))

    if not kept:
        return b.compute(shape, dtype, body, label)
    return b.reduce("sum", shape, [reduce_shape[n] for n in kept], body, dtype, label)
