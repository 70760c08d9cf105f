"""Vectors whose lanes are not neighbours in memory, from vector loads and shuffles in the place of scalar loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import ir

Lanes = tuple[int, int, int, int]


def strided(load: Callable[[int], ir.Expr], step: int) -> ir.Expr | None:
    """Elements 0, step, 2 · step and 3 · step, from `load(n)`: the vector of elements n … n + 3. None: no gain.

    No element outside of those from the first to the last is touched.
    """
    if step == -1:
        x = load(-3)
        return ir.shuffle(x, x, (3, 2, 1, 0))
    if step == 2:
        return ir.shuffle(load(0), load(3), (0, 2, 5, 7))
    if step == -2:
        return ir.shuffle(load(-3), load(-6), (3, 1, 6, 4))
    return None


def transposed(rows: Sequence[ir.Expr], column: int) -> ir.Expr:
    """Column `column` of a matrix of four rows. The columns of one matrix share half of their shuffles."""
    a, b, c, d = rows
    if column < 2:
        upper, lower = ir.shuffle(a, b, (0, 4, 1, 5)), ir.shuffle(c, d, (0, 4, 1, 5))
    else:
        upper, lower = ir.shuffle(a, b, (2, 6, 3, 7)), ir.shuffle(c, d, (2, 6, 3, 7))
    half: Lanes = (0, 1, 4, 5) if column % 2 == 0 else (2, 3, 6, 7)
    return ir.shuffle(upper, lower, half)
