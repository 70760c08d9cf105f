"""Small builders of loop IR that the lowerings share."""

from __future__ import annotations

from collections.abc import Iterable

from .. import ir
from ..symbolic import var, variables
from .spec import Index


def bind(block: list[ir.Stmt], name: str, e: Index) -> Index:
    """`e` under a name, so that it is computed once; constants and plain variables need none."""
    if isinstance(e, int) or str(e) in variables(e):
        return e
    block.append(ir.Declare(name, ir.index(e)))
    return var(name)


def nest(block: list[ir.Stmt], axes: Iterable[tuple[str, Index]]) -> list[ir.Stmt]:
    """Append loops over (variable, extent) pairs, the first outermost; gives the body of the innermost."""
    for v, extent in axes:
        loop = ir.For(v, extent, [])
        block.append(loop)
        block = loop.body
    return block
