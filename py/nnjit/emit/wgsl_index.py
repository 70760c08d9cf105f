"""WGSL blocks, names, and index arithmetic.

An index is a polynomial over loop variables. Its partial sums are bound by a `let` in the outermost block where all that
they depend on is known, and found again by every index that shares them: a loop body adds what the loop changes.
"""

from __future__ import annotations

from ..errors import VerificationError
from ..ir import Expr
from ..symbolic import IntExpr, Opaque, bounds_of, terms_of
from .wgsl_names import RESERVED

PRIMARY, UNARY, MULTIPLY, ADD, SHIFT, COMPARE, BITS, LOGIC = range(8)
"""Precedence, tightest first. Operators from SHIFT on take only operands that are tighter than any other operator."""

Text = tuple[str, int]
"""Source text of an expression and its precedence."""

Texts = dict[Expr, Text]


def tight(text: Text, loosest: int) -> str:
    """`text`, in parentheses if its precedence is looser than `loosest`."""
    return text[0] if text[1] <= loosest else f"({text[0]})"


def is_name(text: str) -> bool:
    return text.isidentifier()


class _Scope:
    """One open block: its lines, the names it owns, and what its locals and index terms are called."""

    __slots__ = ("lines", "indent", "owned", "variables", "locals", "indices")

    def __init__(self, indent: str) -> None:
        self.lines: list[str] = []
        self.indent = indent
        self.owned: list[str] = []
        self.variables: list[str] = []
        self.locals: dict[str, str] = {}
        self.indices: dict[object, str] = {}


class IndexWriter:
    """Keeps the open blocks of a shader and writes index expressions into them."""

    def __init__(self, kernel: str) -> None:
        self.kernel_name = kernel
        self.taken: set[str] = set(RESERVED)
        self.scopes: list[_Scope] = [_Scope("  ")]
        self.names: dict[str, str] = {"task": "task", "lane": "lane"}
        self.var_scope: dict[str, int] = {"task": 0, "lane": 0}
        self.bounds: dict[str, tuple[int, int | None]] = {}
        self.counter = 0
        self.uses_floordiv = False

    def line(self, text: str, scope: int = -1) -> None:
        at = self.scopes[scope]
        at.lines.append(at.indent + text)

    def fresh(self, name: str, scope: int = -1) -> str:
        """A valid name, like `name`, that nothing in sight has; the block gives it back when it closes."""
        text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
        if not text or text[0].isdigit() or text[0] == "_":
            text = "v" + text
        unique, n = text, 1
        while unique in self.taken:
            n += 1
            unique = f"{text}_{n}"
        self.taken.add(unique)
        self.scopes[scope].owned.append(unique)
        return unique

    def bind(self, text: str, prefix: str, scope: int = -1, dtype: str = "") -> str:
        """A new `let` with the value `text`; returns its name."""
        self.counter += 1
        name = self.fresh(f"{prefix}{self.counter}", scope)
        self.line(f"let {name}{': ' if dtype else ''}{dtype} = {text};", scope)
        return name

    def rename(self, bound: str, name: str) -> bool:
        """Call the `let` that was written last `name` instead of `bound`; False if it is not the last."""
        scope = self.scopes[-1]
        start = f"{scope.indent}let {bound} = "
        if not scope.lines or not scope.lines[-1].startswith(start):
            return False
        scope.lines[-1] = f"{scope.indent}let {name} = {scope.lines[-1][len(start) :]}"
        scope.indices.update((key, name) for key, text in scope.indices.items() if text == bound)
        return True

    def open(self) -> None:
        self.scopes.append(_Scope(self.scopes[-1].indent + "  "))

    def close(self) -> list[str]:
        """End the innermost block; returns its lines."""
        scope = self.scopes.pop()
        self.taken.difference_update(scope.owned)
        for variable in scope.variables:
            del self.names[variable], self.var_scope[variable], self.bounds[variable]
        return scope.lines

    def variable(self, name: str, text: str, bounds: tuple[int | None, int | None]) -> None:
        """Let indices of the innermost block use the variable `name`, written `text`, with values in `bounds`."""
        if name in self.var_scope:
            raise VerificationError(
                f"kernel {self.kernel_name} has two variables {name}, one hiding the other"
            )
        self.names[name] = text
        self.var_scope[name] = len(self.scopes) - 1
        self.bounds[name] = bounds  # type: ignore[assignment]
        self.scopes[-1].variables.append(name)

    def index(self, e: int | IntExpr, texts: Texts) -> Text:
        """`e` as i32 arithmetic; `texts` has the run-time values in it."""
        if isinstance(e, int):
            return str(e), PRIMARY if e >= 0 else UNARY
        levels: dict[int, dict[tuple, int]] = {}
        constant = 0
        for mono, coef in e.terms.items():
            if mono:
                levels.setdefault(max(map(self._level, mono)), {})[mono] = coef
            else:
                constant = coef
        base: Text | None = None
        known: dict[tuple, int] = {}
        for level in sorted(levels):
            known.update(levels[level])
            base = self._partial_sum(base, known, levels[level], level, texts)
        assert base is not None
        if not constant:
            return base
        return f"{tight(base, ADD)} {'+' if constant > 0 else '-'} {abs(constant)}", ADD

    def _partial_sum(
        self, base: Text | None, known: dict[tuple, int], terms: dict[tuple, int], level: int, texts: Texts
    ) -> Text:
        """`base` + `terms`, together `known`, bound in the block `level` unless a run-time value is in it."""
        if level == len(self.scopes):
            return self._sum(base, terms, texts)
        indices = self.scopes[level].indices
        key = frozenset(known.items())
        name = indices.get(key)
        if name is None:
            total = self._sum(base, terms, texts)
            name = indices[key] = total[0] if is_name(total[0]) else self.bind(total[0], "i", level)
        return name, PRIMARY

    def _level(self, atom: str | Opaque) -> int:
        """The innermost block that the atom depends on; the number of blocks for a run-time value."""
        if isinstance(atom, str):
            level = self.var_scope.get(atom)
            if level is None:
                raise VerificationError(
                    f"kernel {self.kernel_name} uses the index {atom} outside of its loop"
                )
            return level
        if atom.op == "value":
            return len(self.scopes)
        return max((self._level(a) for arg in atom.args for mono in terms_of(arg) for a in mono), default=0)

    def _sum(self, base: Text | None, terms: dict[tuple, int], texts: Texts) -> Text:
        text, precedence = base or ("", PRIMARY)
        # Positive terms first: a leading minus is harder to read.
        for mono, coef in sorted(terms.items(), key=lambda term: term[1] < 0):
            factors = [tight(self._atom(a, texts), UNARY) for a in mono]
            if abs(coef) != 1:
                factors.append(str(abs(coef)))
            product = " * ".join(factors)
            if text:
                text, precedence = f"{text} {'+' if coef > 0 else '-'} {product}", ADD
            else:
                text = product if coef > 0 else f"-{product}"
                precedence = MULTIPLY if len(factors) > 1 else PRIMARY if coef > 0 else UNARY
        return text, precedence

    def _atom(self, atom: str | Opaque, texts: Texts) -> Text:
        if isinstance(atom, str):
            return self.names[atom], PRIMARY
        if atom.op == "value":
            e = atom.args[0]
            return texts[e] if e.dtype in ("i32", "i64") else (f"i32({texts[e][0]})", PRIMARY)
        level = self._level(atom)
        if level == len(self.scopes):
            return self._opaque(atom, texts)
        indices = self.scopes[level].indices
        name = indices.get(atom)
        if name is None:
            name = indices[atom] = self.bind(self._opaque(atom, texts)[0], "i", level)
        return name, PRIMARY

    def _opaque(self, atom: Opaque, texts: Texts) -> Text:
        a, b = (self.index(arg, texts) for arg in atom.args)
        if atom.op in ("min", "max"):
            return f"{atom.op}({a[0]}, {b[0]})", PRIMARY
        remainder = atom.op == "mod"
        divisor = atom.args[1]
        if isinstance(divisor, int) and divisor > 0 and divisor & (divisor - 1) == 0:
            # An arithmetic shift and a mask round down for negative numbers too.
            if remainder:
                return f"{tight(a, UNARY)} & {divisor - 1}", BITS
            return f"{tight(a, UNARY)} >> {divisor.bit_length() - 1}u", SHIFT
        low = bounds_of(atom.args[0], self.bounds)[0]
        if low is not None and low >= 0:
            return f"{tight(a, MULTIPLY)} {'%' if remainder else '/'} {tight(b, UNARY)}", MULTIPLY
        self.uses_floordiv = True
        quotient = f"floordiv({a[0]}, {b[0]})"
        if not remainder:
            return quotient, PRIMARY
        return f"{tight(a, ADD)} - {quotient} * {tight(b, UNARY)}", ADD
