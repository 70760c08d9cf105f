"""Expressions with other expressions, or numbers, in the place of their variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from .bounds import NO_BOUNDS, Bounds
from .division import OPERATIONS
from .expression import IntExpr, Opaque, polynomial, var


class Substitution:
    """Replaces variables, in any number of expressions: what becomes of an opaque atom is worked out once.

    `on_value` rewrites run-time value atoms; `opaques` says what becomes of others as a whole. Mappings must not change after
    the first use.
    """

    __slots__ = ("mapping", "bounds", "on_value", "_opaque")

    def __init__(
        self,
        mapping: Mapping[str, int | IntExpr],
        bounds: Bounds = NO_BOUNDS,
        on_value: Callable[[Opaque], int | IntExpr] | None = None,
        opaques: Mapping[Opaque, int | IntExpr] = MappingProxyType({}),
    ) -> None:
        self.mapping = mapping
        self.bounds = bounds
        self.on_value = on_value
        self._opaque: dict[Opaque, int | IntExpr] = dict(opaques)

    def __call__(self, e: int | IntExpr) -> int | IntExpr:
        """`e` with the variables replaced."""
        if isinstance(e, int):
            return e
        mapping = self.mapping
        terms: dict[tuple, int] = {}
        for mono, coef in e.terms.items():
            if len(mono) == 1:
                atom = mono[0]
                value = mapping.get(atom) if isinstance(atom, str) else self._atom(atom)
                if value is None:  # as it was
                    terms[mono] = terms.get(mono, 0) + coef
                    continue
            else:
                value = self._product(mono)
            if isinstance(value, int):
                terms[()] = terms.get((), 0) + coef * value
            else:
                for m, c in value.terms.items():
                    terms[m] = terms.get(m, 0) + coef * c
        if 0 in terms.values():
            terms = {m: c for m, c in terms.items() if c}
        return polynomial(terms)

    def _product(self, mono: tuple) -> int | IntExpr:
        value: int | IntExpr = 1
        for atom in mono:
            new = self.mapping.get(atom) if isinstance(atom, str) else self._atom(atom)
            if new is None:
                new = var(atom)
            value = new if isinstance(value, int) and value == 1 else new * value
        return value

    def _atom(self, atom: Opaque) -> int | IntExpr:
        done = self._opaque.get(atom)
        if done is None:
            if atom.op == "value":
                done = self.on_value(atom) if self.on_value else IntExpr({(atom,): 1})
            else:
                done = OPERATIONS[atom.op](self(atom.args[0]), self(atom.args[1]), self.bounds)
            self._opaque[atom] = done
        return done


def substitute(
    e: int | IntExpr,
    mapping: Mapping[str, int | IntExpr],
    bounds: Bounds = NO_BOUNDS,
    on_value: Callable[[Opaque], int | IntExpr] | None = None,
) -> int | IntExpr:
    """`e` with variables replaced: one use of a Substitution."""
    return e if isinstance(e, int) else Substitution(mapping, bounds, on_value)(e)


def evaluate(e: int | IntExpr, env: Mapping[str, int]) -> int:
    """The value of `e` with every variable bound. Raises KeyError for an unbound one."""
    if isinstance(e, int):
        return e
    total = 0
    for mono, coef in e.terms.items():
        for atom in mono:
            if isinstance(atom, str):
                coef *= env[atom]
            else:
                a, b = (evaluate(x, env) for x in atom.args)
                coef *= OPERATIONS[atom.op](a, b)
        total += coef
    return total
