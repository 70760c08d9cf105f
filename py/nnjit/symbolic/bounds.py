"""What is known of the values of expressions: inclusive ranges."""

from __future__ import annotations

from collections.abc import Mapping

from .expression import IntExpr, Opaque

SIGNED = "_signed"
"""Ending of the name of a variable that may be negative."""

Bounds = Mapping[str, "tuple[int, int | None]"]
"""Inclusive range of each variable; None as upper end: unbounded."""


def bounds_of(e: int | IntExpr, bounds: Bounds) -> tuple[int | None, int | None]:
    """Inclusive (low, high) of `e`; None where unknown. Variables without an entry are taken as ≥ 0 unless `SIGNED`."""
    if isinstance(e, int):
        return e, e
    low: int | None = 0
    high: int | None = 0
    for mono, coef in e.terms.items():
        mlow: int | None = 1
        mhigh: int | None = 1
        if len(mono) == 1:
            mlow, mhigh = _atom_bounds(mono[0], bounds)
        else:
            for atom in mono:
                alow, ahigh = _atom_bounds(atom, bounds)
                if alow is None or alow < 0:
                    return None, None
                mlow = None if mlow is None else mlow * alow
                mhigh = None if mhigh is None or ahigh is None else mhigh * ahigh
        if coef < 0:
            mlow, mhigh = mhigh, mlow
        low = None if low is None or mlow is None else low + coef * mlow
        high = None if high is None or mhigh is None else high + coef * mhigh
        if low is None and high is None:
            break
    return low, high


def _atom_bounds(atom: str | Opaque, bounds: Bounds) -> tuple[int | None, int | None]:
    if isinstance(atom, str):
        return bounds.get(atom) or ((None, None) if atom.endswith(SIGNED) else (0, None))
    if bounds and not bounds.keys().isdisjoint(atom.names):
        return _opaque_bounds(atom, bounds)
    if atom._range is None:
        atom._range = _opaque_bounds(atom, NO_BOUNDS)
    return atom._range


def _opaque_bounds(atom: Opaque, bounds: Bounds) -> tuple[int | None, int | None]:
    if atom.op == "value":
        return None, None
    (alow, ahigh), (blow, bhigh) = bounds_of(atom.args[0], bounds), bounds_of(atom.args[1], bounds)
    if atom.op == "mod":
        return 0, None if bhigh is None else bhigh - 1
    if atom.op == "floordiv":
        if blow is None or blow <= 0:
            return None, None
        # The quotient is furthest from zero for the least divisor, nearest to it (0 or −1) for an unbounded one.
        low = None if alow is None else alow // blow if alow < 0 else 0 if bhigh is None else alow // bhigh
        high = (
            None
            if ahigh is None
            else ahigh // blow
            if ahigh >= 0
            else -1
            if bhigh is None
            else ahigh // bhigh
        )
        return low, high
    if atom.op == "min":
        low = None if alow is None or blow is None else min(alow, blow)
        highs = [h for h in (ahigh, bhigh) if h is not None]
        return low, min(highs) if highs else None
    low = max([x for x in (alow, blow) if x is not None], default=None)
    return low, None if ahigh is None or bhigh is None else max(ahigh, bhigh)


NO_BOUNDS: Bounds = {}
"""Nothing is known."""
