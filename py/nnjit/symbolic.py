"""Integer expressions over named variables: dimensions, buffer sizes, element indices, guards.

A dimension is a Python `int` or an `IntExpr`. An `IntExpr` is a polynomial with integer coefficients, kept in one
canonical form, so that equal polynomials compare equal and a term's coefficient is a dictionary look-up:

    IntExpr({("s0",): 12, ("k", "s1"): 1, (): 3})      means  12·s0 + k·s1 + 3

An atom of a monomial is the name of a variable (a symbol of the model such as a sequence length, or a loop variable)
or an `Opaque`: a floor division, remainder, minimum, maximum, or a value that a kernel loads at run time.
Arithmetic on two ints gives an int, and an `IntExpr` that turns out constant is returned as an int as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping


class Opaque:
    """An atom that is not a variable: `op` in floordiv, mod, min, max, or `value` (args[0] is a scalar IR Expr)."""

    __slots__ = ("op", "args", "_hash", "_text", "_names", "_values", "_range")

    def __init__(self, op: str, args: tuple) -> None:
        self.op = op
        self.args = args
        self._hash = hash((op, args))
        self._text = ""
        self._names: frozenset[str] | None = None
        self._values: tuple | None = None
        self._range: tuple[int | None, int | None] | None = None
        """What `bounds_of` says of it when nothing is known of the variables."""

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Opaque)
            and self._hash == other._hash
            and self.op == other.op
            and self.args == other.args
        )

    @property
    def names(self) -> frozenset[str]:
        """Names of all variables that it depends on, through loaded values too."""
        if self._names is None:
            self._names = _NO_NAMES.union(*[a.names for a in self.args if not isinstance(a, int)])
        return self._names

    @property
    def values(self) -> tuple:
        """The run-time values (scalar IR Exprs) in it, each once; what they in turn depend on is theirs to say."""
        if self._values is None:
            if self.op == "value":
                self._values = self.args
            else:
                self._values = tuple(dict.fromkeys([x for a in self.args for x in values_of(a)]))
        return self._values

    def __str__(self) -> str:
        if not self._text:
            self._text = f"{self.op}({', '.join(map(str, self.args))})"
        return self._text

    __repr__ = __str__


_NO_NAMES: frozenset[str] = frozenset()


class IntExpr:
    """A canonical polynomial; see the module's docstring. Never constant, never mutated."""

    __slots__ = ("terms", "_hash", "_text", "_names", "_values")

    def __init__(self, terms: dict[tuple, int]) -> None:
        self.terms = terms
        self._hash = 0
        self._text = ""
        self._names: frozenset[str] | None = None
        self._values: tuple | None = None

    def __hash__(self) -> int:
        if not self._hash:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, IntExpr) and self.terms == other.terms)

    def __add__(self, other: int | IntExpr) -> int | IntExpr:
        if not isinstance(other, IntExpr):
            return self._plus_constant(other) if other else self
        terms = self.terms.copy()
        for mono, coef in other.terms.items():
            total = terms.get(mono, 0) + coef
            if total:
                terms[mono] = total
            else:
                del terms[mono]
        return _make(terms)

    __radd__ = __add__

    def _plus_constant(self, constant: int) -> IntExpr:
        terms = self.terms.copy()
        total = terms.get((), 0) + constant
        if total:
            terms[()] = total
        else:
            del terms[()]
        return IntExpr(terms)

    def __neg__(self) -> int | IntExpr:
        return IntExpr({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: int | IntExpr) -> int | IntExpr:
        return self + -other

    def __rsub__(self, other: int) -> int | IntExpr:
        return -self + other

    def __mul__(self, other: int | IntExpr) -> int | IntExpr:
        if not isinstance(other, IntExpr):
            if other == 1:
                return self
            return IntExpr({m: c * other for m, c in self.terms.items()}) if other else 0
        terms: dict[tuple, int] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in other.terms.items():
                mono = _join(m1, m2) if m1 and m2 else m1 or m2
                total = terms.get(mono, 0) + c1 * c2
                if total:
                    terms[mono] = total
                else:
                    terms.pop(mono, None)
        return _make(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: int | IntExpr) -> int | IntExpr:
        return floordiv(self, other)

    def __mod__(self, other: int | IntExpr) -> int | IntExpr:
        return mod(self, other)

    @property
    def names(self) -> frozenset[str]:
        """Names of all variables that it depends on, through loaded values too."""
        if self._names is None:
            found: set[str] = set()
            for mono in self.terms:
                for atom in mono:
                    if isinstance(atom, str):
                        found.add(atom)
                    else:
                        found |= atom.names
            self._names = frozenset(found)
        return self._names

    @property
    def values(self) -> tuple:
        """The run-time values (scalar IR Exprs) in it, each once; what they in turn depend on is theirs to say."""
        if self._values is None:
            opaques = [atom for mono in self.terms for atom in mono if not isinstance(atom, str)]
            self._values = (
                tuple(dict.fromkeys([x for atom in opaques for x in atom.values])) if opaques else ()
            )
        return self._values

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of {self} is not known at compile time; use Env.guard")

    def __str__(self) -> str:
        if not self._text:
            parts = []
            for mono, coef in sorted(self.terms.items(), key=_print_order):
                factors = [str(a) for a in mono]
                if coef != 1 or not factors:
                    factors.insert(0, str(coef))
                parts.append("*".join(factors))
            self._text = " + ".join(parts)
        return self._text

    __repr__ = __str__


def _print_order(term: tuple[tuple, int]) -> tuple[int, str]:
    return -len(term[0]), str(term[0])


def _join(a: tuple, b: tuple) -> tuple:
    """The product of two monomials: atoms sorted by their text."""
    x, y = a[0], b[0]
    if len(a) == 1 and len(b) == 1 and isinstance(x, str) and isinstance(y, str):
        return (x, y) if x <= y else (y, x)
    return tuple(sorted(a + b, key=str))


def _make(terms: dict[tuple, int]) -> int | IntExpr:
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return IntExpr(terms)


def var(name: str) -> IntExpr:
    """The expression that is the variable `name`."""
    known = _variables.get(name)
    if known is None:
        known = _variables[name] = IntExpr({(name,): 1})
    return known


_variables: dict[str, IntExpr] = {}


def opaque(op: str, *args: object) -> IntExpr:
    """The expression that is one opaque atom. Equal atoms are one object, so that comparing expressions is quick."""
    known = _opaques.get((op, args))
    if known is None:
        known = _opaques[op, args] = IntExpr({(Opaque(op, args),): 1})
    return known


_opaques: dict[tuple[str, tuple], IntExpr] = {}


def forget_opaques() -> None:
    """Drop the table of atoms; call between two compilations."""
    _opaques.clear()


def terms_of(e: int | IntExpr) -> dict[tuple, int]:
    """Monomial → coefficient, for ints too."""
    return e.terms if isinstance(e, IntExpr) else ({(): e} if e else {})


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
    if bounds:
        return _opaque_bounds(atom, bounds)
    if atom._range is None:
        atom._range = _opaque_bounds(atom, bounds)
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


_NO_BOUNDS: Bounds = {}


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
        return _make(q), _make(r)
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
    return _make(q), _make(r)


def floordiv(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = _NO_BOUNDS) -> int | IntExpr:
    """⌊a / b⌋ for b > 0, simplified as far as `bounds` allows."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(b, int) and b == 1:
        return a
    q, r = _split(a, b)
    if _is_remainder(r, b, bounds) or (isinstance(r, int) and r == 0):
        return q
    return q + opaque("floordiv", r, b)


def mod(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = _NO_BOUNDS) -> int | IntExpr:
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
                factor = _make({mono[:n] + mono[n + 1 :]: coef})
                quotient = factor * b * opaque("floordiv", a, b)
                rest = e - factor * IntExpr({(atom,): 1}) - quotient
                if all(m in e.terms and e.terms[m] == c for m, c in terms_of(quotient).items()):
                    return rest + factor * a
    return None


def ceildiv(a: int | IntExpr, b: int | IntExpr) -> int | IntExpr:
    """⌈a / b⌉ for b > 0."""
    return floordiv(a + (b - 1), b)


def minimum(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = _NO_BOUNDS) -> int | IntExpr:
    """min(a, b); the smaller one itself where `bounds` decide it."""
    return _extremum("min", a, b, bounds)


def maximum(a: int | IntExpr, b: int | IntExpr, bounds: Bounds = _NO_BOUNDS) -> int | IntExpr:
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


def names_of(e: int | IntExpr) -> frozenset[str]:
    """Names of all variables that `e` depends on, through loaded values too."""
    return e.names if isinstance(e, IntExpr) else _NO_NAMES


def values_of(e: int | IntExpr) -> tuple:
    """The run-time values (scalar IR Exprs) in `e`."""
    return e.values if isinstance(e, IntExpr) else ()


def atoms(e: int | IntExpr) -> Iterator[str | Opaque]:
    """Every atom of `e`, those inside opaque atoms' integer arguments included."""
    for mono in terms_of(e):
        for atom in mono:
            yield atom
            if isinstance(atom, Opaque) and atom.op != "value":
                for arg in atom.args:
                    yield from atoms(arg)


def variables(e: int | IntExpr) -> set[str]:
    """Names of all variables in `e` (not those inside run-time values, see `names`)."""
    return {a for a in atoms(e) if isinstance(a, str)}


class Substitution:
    """Replaces variables, in any number of expressions: what becomes of an opaque atom is worked out once.

    `on_value` rewrites run-time value atoms. The mapping must not change after the first use.
    """

    __slots__ = ("mapping", "bounds", "on_value", "_opaque")

    def __init__(
        self,
        mapping: Mapping[str, int | IntExpr],
        bounds: Bounds = _NO_BOUNDS,
        on_value: Callable[[Opaque], int | IntExpr] | None = None,
    ) -> None:
        self.mapping = mapping
        self.bounds = bounds
        self.on_value = on_value
        self._opaque: dict[Opaque, int | IntExpr] = {}

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
        return _make(terms)

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
                done = _OPERATIONS[atom.op](self(atom.args[0]), self(atom.args[1]), self.bounds)
            self._opaque[atom] = done
        return done


def substitute(
    e: int | IntExpr,
    mapping: Mapping[str, int | IntExpr],
    bounds: Bounds = _NO_BOUNDS,
    on_value: Callable[[Opaque], int | IntExpr] | None = None,
) -> int | IntExpr:
    """`e` with variables replaced: one use of a Substitution."""
    return e if isinstance(e, int) else Substitution(mapping, bounds, on_value)(e)


_OPERATIONS: dict[str, Callable] = {"floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum}


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
                coef *= _OPERATIONS[atom.op](a, b)
        total += coef
    return total


def to_json(e: int | IntExpr) -> int | list | str:
    """Ints stay ints, a variable is its name, the rest prefix lists: ["add", …], ["mul", …], ["floordiv", a, b]."""
    if isinstance(e, int):
        return e
    terms: list = []
    for mono, coef in e.terms.items():
        factors: list = [a if isinstance(a, str) else [a.op, *map(to_json, a.args)] for a in mono]
        if coef != 1 or not factors:
            factors.append(coef)
        terms.append(factors[0] if len(factors) == 1 else ["mul", *factors])
    return terms[0] if len(terms) == 1 else ["add", *terms]
