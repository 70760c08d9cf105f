"""Sizes as arguments: what runs once, when the model is loaded, is one kernel where it differs in sizes alone.

Constants are baked into a kernel because it runs again and again. One that runs once, when the model is loaded, takes longer
to compile than to run: its sizes, and what follows from them, become symbols, and each use passes its own values.
"""

from __future__ import annotations

from .. import ir
from ..schedule.schedule import Schedule
from ..symbolic import IntExpr, Opaque, opaque, var
from .chain import Chain
from .spec import Axes, Index, KernelSpec, Stage, StoreTo, indices_of, map_expr, symbols_of
from .specify import Specified

BAKED = 16
"""The largest number that stays a constant, for those that a tile's shape, a vector or an unrolled loop may depend on."""


class Generic:
    """A spec whose sizes are symbols, and the values of these that give the original."""

    __slots__ = ("spec", "values")

    def __init__(self, spec: KernelSpec, values: dict[str, int]) -> None:
        self.spec = spec
        self.values = values


def with_sizes(specified: Specified) -> None:
    """Let the sizes of a kernel that runs once be symbols of its own, and `arguments` say what they are."""
    if not isinstance(specified.spec, Chain):
        made = generic(specified.spec)
        specified.spec = made.spec
        specified.arguments = dict(made.values)


def generic(spec: KernelSpec, schedule: Schedule | None = None) -> Generic:
    """`spec` with its sizes as symbols, as far as `schedule` makes the same of it; only for kernels that read and store.
    Where that is chosen later, for symbolic extents, there is no schedule.

    Equal texts of the result, under one schedule, are equal kernels. A kernel with symbols, reductions or indices that are
    loaded stays as it is.
    """
    plain = all(not s.axes and not s.reduces for s in spec.stages) and not spec.symbols
    if not plain or any(isinstance(i, IntExpr) and i.values for i in indices_of(spec)):
        return Generic(spec, {})
    sizes = _Sizes()
    outer: Axes = tuple(
        (
            v,
            sizes.number(d, "", BAKED if schedule and schedule.tile(v) > 1 else 1)
            if isinstance(d, int)
            else d,
        )
        for v, d in spec.outer
    )
    memo: dict[ir.Expr, ir.Expr] = {}
    stages = []
    for s in spec.stages:
        stores = [
            StoreTo(w.buffer, sizes.index(w.index, w.buffer), map_expr(w.value, sizes.leaf, memo))
            for w in s.stores
        ]
        stages.append(Stage((), [], stores))
    values = {name: number for (_, number), name in sizes.names.items()}
    bounds = {**spec.bounds, **{name: (1, None) for name in values}}
    result = KernelSpec(outer, stages, spec.buffers, {**spec.hints, **values}, bounds)
    result.symbols = symbols_of(result)
    return Generic(result, values)


class _Sizes:
    """Names numbers in the order in which they are met. Equal numbers in the indices of one buffer get one name; that a size
    of another buffer is equal, too, is chance, and not so where the operand has another size."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, int], str] = {}

    def number(self, n: int, where: str, baked: int = BAKED) -> Index:
        """`where`: the buffer, or an empty text for what belongs to none."""
        return n if n <= baked else var(self.names.setdefault((where, n), f"size{len(self.names)}"))

    def index(self, e: Index, where: str) -> Index:
        if isinstance(e, int):
            return self.number(e, where)
        total: Index = 0
        for mono, coef in e.terms.items():
            term = self.number(coef, where)
            for atom in mono:
                term = term * (self._opaque(atom, where) if isinstance(atom, Opaque) else var(atom))
            total = total + term
        return total

    def _opaque(self, atom: Opaque, where: str) -> IntExpr:
        return opaque(atom.op, *[self.index(a, where) for a in atom.args])

    def leaf(self, e: ir.Expr) -> ir.Expr | None:
        if e.op == "index":
            return ir.index(self.index(e.attr, ""))
        if e.op == "load":
            buffer, at = e.attr
            return ir.load(buffer, self.index(at, buffer), e.dtype, e.lanes)
        return None
