"""Padding without its cost: inside of a tensor, where no border is near, loads need neither clamps nor conditions.

A padded tensor reads `select(0 ≤ i − p < d, x[clamp(i − p)], 0)`. Along the vector axis that keeps lanes from being loaded
together. Where a whole tile lies within the border, every such condition holds and every clamp gives what it is given:
there the tile is a plain copy.
"""

from __future__ import annotations

from .. import ir
from ..symbolic import IntExpr, Opaque, substitute
from .spec import Index, Reduce, Stage, StoreTo, coefficient, depends, map_expr

_CONDITIONS = ("lt", "le", "gt", "ge")


def interior(stages: list[Stage], axis: str, first: Index, last: Index) -> tuple[ir.Expr, list[Stage]] | None:
    """(condition, stages): where the condition holds, these stages compute the same for all `axis` = first … last.

    None where no clamp along the axis can be left out, or something would be left that is not linear in it. Stages
    that loop are left alone.
    """
    if any(s.axes for s in stages):
        return None
    inside = _Interior(axis)
    simpler = [
        Stage(
            s.axes,
            [Reduce(r.name, r.combine, inside.value(r.value)) for r in s.reduces],
            [StoreTo(w.buffer, w.index, inside.value(w.value), w.condition) for w in s.stores],
        )
        for s in stages
    ]
    if not inside.unclamped or not inside.linear:
        return None
    condition: ir.Expr | None = None
    for need in inside.needs:
        step = coefficient(need, axis)
        at = substitute(need, {axis: first if isinstance(step, int) and step > 0 else last})
        test = ir.binary("ge", ir.index(at), ir.const(0, "i32"))
        condition = test if condition is None else ir.binary("and", condition, test)
    assert condition is not None
    return condition, simpler


class _Interior:
    """Rewrites values as they are where each of `needs`, linear in the axis, is at least 0."""

    def __init__(self, axis: str) -> None:
        self.axis = axis
        self.needs: dict[IntExpr, None] = {}
        self.linear = True
        self.unclamped = False
        self.memo: dict[ir.Expr, ir.Expr] = {}

    def value(self, e: ir.Expr) -> ir.Expr:
        return map_expr(e, self._leaf, self.memo)

    def _leaf(self, e: ir.Expr) -> ir.Expr | None:
        if e.op == "load":
            return ir.load(e.attr[0], self._index(e.attr[1]), e.dtype, e.lanes)
        if e.op == "index":
            return ir.index(self._index(e.attr))
        if e.op in _CONDITIONS:
            a, b = map(_integer, e.args)
            if a is not None and b is not None:
                more = a - b if e.op in ("ge", "gt") else b - a
                if self._need(more - 1 if e.op in ("lt", "gt") else more):
                    return ir.const(True, "bool")
        if e.op == "and":
            both = [self.value(x) for x in e.args]
            open_ = [x for x in both if not _holds(x)]
            return ir.binary("and", *both) if len(open_) == 2 else (open_ or both)[0]
        if e.op == "select":
            if _holds(self.value(e.args[0])):
                return self.value(e.args[1])
        return None

    def _index(self, e: Index) -> Index:
        """`e` without the clamps that change nothing."""
        if not depends(e, self.axis):
            return e
        assert isinstance(e, IntExpr)
        total: Index = 0
        for mono, factor in e.terms.items():
            term: Index = factor
            for atom in mono:
                term = term * (self._atom(atom) if isinstance(atom, Opaque) else IntExpr({(atom,): 1}))
            total = total + term
        if coefficient(total, self.axis) is None:
            self.linear = False
        return total

    def _atom(self, atom: Opaque) -> Index:
        if atom.op in ("min", "max"):
            a, b = map(self._index, atom.args)
            if depends(b, self.axis):
                a, b = b, a
            if self._need(a - b if atom.op == "max" else b - a):
                self.unclamped = True
                return a
        return IntExpr({(atom,): 1})

    def _need(self, e: Index) -> bool:
        """Whether `e`, from now on taken to be at least 0, moves with the axis, so that an end of the tile decides."""
        step = coefficient(e, self.axis)
        if not isinstance(e, IntExpr) or not isinstance(step, int) or step == 0:
            return False
        self.needs[e] = None
        return True


def _holds(condition: ir.Expr) -> bool:
    return condition.op == "const" and condition.attr is True


def _integer(e: ir.Expr) -> Index | None:
    """The index that a scalar is; None where it is something else."""
    if e.op == "const" and e.dtype == "i32":
        return int(e.attr)
    return e.attr if e.op == "index" else None
