"""Division with remainder, minimum and maximum: opaque atoms, unless what is known decides them."""

from __future__ import annotations

from collections.abc import Callable

from .bounds import NO_BOUNDS, Bounds, bounds_of
from .expression import IntExpr, Opaque, opaque, polynomial, terms_of


def _split(a: int | IntExpr, b: int | IntExpr) -> tuple[int | IntExpr, int | IntExpr]:
    """(q, r) with a = q·b + r, where q takes every term that b divides exactly."""
    if isinstance(b, int):
        q: dict[tuple, int] = {}
        r: dict[tuple, int] = {}
        for mono, coef in terms_of(a).items():
            whole, left = divmod(coef, b)
            if left and mono:
                r[mono] = coef
                continue
            if whole:
                q[mono] = whole
            if left:
                r[mono] = left
        return polynomial(q), polynomial(r)
    if len(b.terms) != 1:
        return (1, 0) if a == b else (0, a)
    ((bmono, bcoef),) = b.terms.items()
    q, r = {}, {}
    for mono, coef in terms_of(a).items():
        rest = list(mono)
        for atom in bmono:
            if atom not in rest:
                break
            rest.remove(atom)
        else:
            if coef % bcoef == 0:
                q[tuple(rest)] = coef // bcoef
                continue
        r[mono] = coef
    return polynomial(q), polynomial(r)


def floordiv(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = NO_BOUNDS) -> int | IntExpr:
    """⌊a / b⌋ for b > 0, simplified as far as `bounds` allows."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(b, int) and b == 1:
        return a
    q, r = _split(a, b)
    if _is_remainder(r, b, bounds) or (isinstance(r, int) and r == 0):
        return q
    return q + opaque("floordiv", r, b)


def mod(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = NO_BOUNDS) -> int | IntExpr:
    """a − b·⌊a / b⌋ for b > 0, simplified as far as `bounds` allows."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    _, r = _split(a, b)
    if isinstance(r, int) and isinstance(b, int):
        return r % b
    if _is_remainder(r, b, bounds):
        return r
    return r if r == 0 else opaque("mod", r, b)


def _is_remainder(r: int | IntExpr, b: int | IntExpr, bounds: Bounds) -> bool:
    """Whether 0 ≤ r < b is certain."""
    low, high = bounds_of(r, bounds)
    if low is None or low < 0:
        return False
    if not isinstance(b, int):
        low, _ = bounds_of(b - r - 1, bounds)
        return low is not None and low >= 0
    return high is not None and high < b


def recombine(e: int | IntExpr) -> int | IntExpr:
    """`e` with every k·b·⌊a/b⌋ + k·(a mod b) put together again as k·a: what merging neighbouring axes leaves."""
    while isinstance(e, IntExpr):
        found = _recombine_once(e)
        if found is None:
            return e
        e = found
    return e


def _recombine_once(e: IntExpr) -> int | IntExpr | None:
    for mono, coef in e.terms.items():
        for n, atom in enumerate(mono):
            if isinstance(atom, Opaque) and atom.op == "mod":
                a, b = atom.args
                factor = polynomial({mono[:n] + mono[n + 1 :]: coef})
                quotient = factor * b * opaque("floordiv", a, b)
                rest = e - factor * IntExpr({(atom,): 1}) - quotient
                if all(m in e.terms and e.terms[m] == c for m, c in terms_of(quotient).items()):
                    return rest + factor * a
    return None


def ceildiv(a: int | IntExpr, b: int | IntExpr) -> int | IntExpr:
    """⌈a / b⌉ for b > 0."""
    return floordiv(a + (b - 1), b)


def minimum(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = NO_BOUNDS) -> int | IntExpr:
    """min(a, b); the smaller one itself where `bounds` decide it."""
    return _extremum("min", a, b, bounds)


def maximum(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = NO_BOUNDS) -> int | IntExpr:
    """max(a, b); the larger one itself where `bounds` decide it."""
    return _extremum("max", a, b, bounds)


def _extremum(op: str, a: int | IntExpr, b: int | IntExpr, bounds: Bounds) -> int | IntExpr:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b) if op == "min" else max(a, b)
    low, high = bounds_of(b - a, bounds)
    if low is not None and low >= 0:
        return a if op == "min" else b
    if high is not None and high <= 0:
        return b if op == "min" else a
    return opaque(op, a, b)


def product(dims: tuple[int | IntExpr, ...] | list[int | IntExpr]) -> int | IntExpr:
    """The product of all dims; 1 for none."""
    total: int | IntExpr = 1
    for d in dims:
        total = total * d
    return total


OPERATIONS: dict[str, Callable] = {"floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum}
"""What computes the opaque atoms of each name, for expressions or ints."""
