"""Small builders of loop IR that the lowerings share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import ir
from ..symbolic import floordiv, mod, var, variables
from .spec import Axes, Index


def bind(block: list[ir.Stmt], name: str, e: Index) -> Index:
    """`e` under a name, so that it is computed once; constants and plain variables need none."""
    if isinstance(e, int) or str(e) in variables(e):
        return e
    block.append(ir.Declare(name, ir.index(e)))
    return var(name)


def row_major(axes: Sequence[tuple[str, Index]]) -> Index:
    """The number of a point of `axes`, (variable, extent) pairs, the last of which counts fastest."""
    number: Index = 0
    for v, extent in axes:
        number = number * extent + var(v)
    return number


def decode(block: list[ir.Stmt], number: Index, axes: Axes, suffix: str = "_t") -> dict[str, Index]:
    """The point of `axes` whose `row_major` number this is: axis → position, bound to the axis's name with `suffix`."""
    found: dict[str, Index] = {}
    for left, (axis, extent) in zip(reversed(range(len(axes))), reversed(axes), strict=True):
        if extent in (0, 1):
            # Where an axis has no elements, nothing asks for the position.
            found[axis] = 0
            continue
        found[axis] = bind(block, f"{axis}{suffix}", mod(number, extent) if left else number)
        if left:
            number = floordiv(number, extent)
            # What two more axes are taken from is computed once.
            number = bind(block, f"{axis}{suffix}_q", number) if left > 1 else number
    return found


def nest(block: list[ir.Stmt], axes: Iterable[tuple[str, Index]]) -> list[ir.Stmt]:
    """Append loops over (variable, extent) pairs, the first outermost; gives the body of the innermost."""
    for v, extent in axes:
        loop = ir.For(v, extent, [])
        block.append(loop)
        block = loop.body
    return block
