"""Polynomials with integer coefficients over named variables and opaque atoms, in one canonical form.

    IntExpr({("s0",): 12, ("k", "s1"): 1, (): 3})      means  12·s0 + k·s1 + 3

Equal polynomials compare equal, and a term's coefficient is a dictionary look-up. A monomial is a tuple of atoms, sorted by
their text: the name of a variable (a symbol of the model such as a sequence length, or a loop variable) or an `Opaque`.
"""

from __future__ import annotations

from collections.abc import Iterator


class Opaque:
    """An atom that is not a variable: `op` in floordiv, mod, min, max, or `value` (args[0] is a scalar IR Expr)."""

    __slots__ = ("op", "args", "_hash", "_text", "_names", "_values", "_range", "_json")

    def __init__(self, op: str, args: tuple) -> None:
        self.op = op
        self.args = args
        self._hash = hash((op, args))
        self._text = ""
        self._names: frozenset[str] | None = None
        self._values: tuple | None = None
        self._range: tuple[int | None, int | None] | None = None
        """What `bounds_of` says of it when nothing is known of the variables."""
        self._json: list | None = None

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
    """A polynomial; see the module's docstring. Never constant, never mutated.

    Operators take ints and polynomials; a result that is constant is an int.
    """

    __slots__ = ("terms", "_hash", "_text", "_names", "_values", "_coefficients")

    def __init__(self, terms: dict[tuple, int]) -> None:
        self.terms = terms
        self._hash = 0
        self._text = ""
        self._names: frozenset[str] | None = None
        self._values: tuple | None = None
        self._coefficients: dict[str, int | IntExpr | None] | None = None

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
        return polynomial(terms)

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
        return polynomial(terms)

    __rmul__ = __mul__

    # Divisions stand in a module that needs this one; lowering calls them by name, operators take none of their bounds.

    def __floordiv__(self, other: int | IntExpr) -> int | IntExpr:
        from .division import floordiv

        return floordiv(self, other)

    def __mod__(self, other: int | IntExpr) -> int | IntExpr:
        from .division import mod

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

    def coefficient(self, name: str) -> int | IntExpr | None:
        """c where this is c·name + rest with neither depending on `name`; None when it is not linear in it."""
        if name not in self.names:
            return 0
        if self._coefficients is None:
            self._coefficients = {}
        if name not in self._coefficients:
            self._coefficients[name] = self._coefficient(name)
        return self._coefficients[name]

    def _coefficient(self, name: str) -> int | IntExpr | None:
        result: int | IntExpr = 0
        for mono, coef in self.terms.items():
            count = 0
            for atom in mono:
                if isinstance(atom, str):
                    count += atom == name
                elif name in atom.names:
                    return None
            if count > 1:
                return None
            if count:
                rest = list(mono)
                rest.remove(name)
                result = result + (IntExpr({tuple(rest): coef}) if rest else coef)
        return result

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


def polynomial(terms: dict[tuple, int]) -> int | IntExpr:
    """The polynomial of these terms, none of them zero; an int where it is constant."""
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


def to_json(e: int | IntExpr) -> int | list | str:
    """`e` as a plan holds it.

    Ints stay ints, a variable is its name, the rest prefix lists: ["add", …], ["mul", …], ["floordiv", a, b].
    """
    if isinstance(e, int):
        return e
    terms: list = []
    for mono, coef in e.terms.items():
        factors: list = [a if isinstance(a, str) else _atom_to_json(a) for a in mono]
        if coef != 1 or not factors:
            factors.append(coef)
        terms.append(factors[0] if len(factors) == 1 else ["mul", *factors])
    return terms[0] if len(terms) == 1 else ["add", *terms]


def _atom_to_json(atom: Opaque) -> list:
    if atom._json is None:
        atom._json = [atom.op, *map(to_json, atom.args)]
    return atom._json
