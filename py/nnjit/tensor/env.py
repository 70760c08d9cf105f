"""What a compilation assumes of its symbols: hints, bounds, and the guards that make a plan fit some inputs only.

A model is compiled for the inputs at hand. Their dimensions stay symbols, so that one plan serves every sequence
length, except that 0 and 1 are baked in (broadcasting depends on them). Wherever the compiler must decide something
about symbols (are these two dimensions equal? which branch does this If take?) it looks at the hint, that is the value
at hand, and records the answer as a guard. The executor checks a plan's guards before each inference with new shapes,
and asks for another plan when one fails.
"""

from __future__ import annotations

from ..symbolic import SIGNED, IntExpr, bounds_of, evaluate, to_json, var

Index = int | IntExpr


class Env:
    """Symbols, their values at hand, and the guards recorded so far."""

    def __init__(self) -> None:
        self.hints: dict[str, int] = {}
        self.bounds: dict[str, tuple[int, int | None]] = {}
        self.symbols: list[dict] = []
        self._guards: dict[tuple[str, Index, Index], None] = {}
        self._origins: dict[tuple, Index] = {}
        self._extents: dict[IntExpr, Index] = {}

    def dimension(self, label: str, origin: tuple, hint: int) -> Index:
        """The dimension at `origin` = ("dim", input name, axis); 0 and 1 become constants, guarded."""
        return self._symbol(label, origin, hint, 2 if hint >= 2 else None)

    def value(self, label: str, hint: int) -> Index:
        """The value of the scalar integer or bool input `label`, as a symbol that may be negative."""
        return self._symbol(label, ("value", label), hint, -(1 << 31))

    def _symbol(self, label: str, origin: tuple, hint: int, low: int | None) -> Index:
        known = self._origins.get(origin)
        if known is not None:
            return known
        name = f"s{len(self.symbols)}" + (SIGNED if low is not None and low < 0 else "")
        self.symbols.append({"name": name, "label": label, "from": list(origin)})
        self.hints[name] = hint
        symbol: Index = var(name)
        if low is None:
            self._guards[("eq", symbol, hint)] = None
            symbol = hint
        else:
            self.bounds[name] = (low, None)
            if low >= 0:
                self._guards[("ge", symbol, low)] = None
        self._origins[origin] = symbol
        return symbol

    def hint(self, e: Index) -> int:
        """The value of `e` for the inputs at hand."""
        return evaluate(e, self.hints)

    def eq(self, a: Index, b: Index) -> bool:
        """Whether a == b; guarded unless it holds for every value of the symbols."""
        difference = a - b
        if isinstance(difference, int):
            return difference == 0
        low, high = bounds_of(difference, self.bounds)
        if (low is not None and low > 0) or (high is not None and high < 0):
            return False
        result = self.hint(difference) == 0
        self._guards[("eq" if result else "ne", a, b)] = None
        return result

    def ge(self, a: Index, b: Index) -> bool:
        """Whether a >= b; guarded unless it holds, or fails, for every value of the symbols."""
        difference = a - b
        if isinstance(difference, int):
            return difference >= 0
        if ("eq", a, b) in self._guards or ("eq", b, a) in self._guards:
            return True
        low, high = bounds_of(difference, self.bounds)
        if low is not None and low >= 0:
            return True
        if high is not None and high < 0:
            return False
        if self.hint(difference) >= 0:
            self._guards[("ge", a, b)] = None
            return True
        self._guards[("ge", b - 1, a)] = None
        return False

    def gt(self, a: Index, b: Index) -> bool:
        return self.ge(a, b + 1)

    def le(self, a: Index, b: Index) -> bool:
        return self.ge(b, a)

    def lt(self, a: Index, b: Index) -> bool:
        return self.ge(b, a + 1)

    def fix(self, e: Index) -> int:
        """`e` as a constant: the plan then fits only inputs for which it has this value."""
        if isinstance(e, int):
            return e
        value = self.hint(e)
        self._guards[("eq", e, value)] = None
        return value

    def extent(self, e: IntExpr) -> Index:
        """`e` as a dimension: as of an input's, 0 and 1 become constants, guarded."""
        known = self._extents.get(e)
        if known is None:
            known = self._extents[e] = e if self.hint(e) > 1 else self.fix(e)
        return known

    def require(self, a: Index, at_least: int) -> None:
        """Guard a >= at_least, which must hold for the inputs at hand."""
        if not self.ge(a, at_least):
            raise ValueError(f"{a} = {self.hint(a)} is less than {at_least}")

    def guards(self) -> list[list]:
        """Plan form: [op, a, b] with expressions as JSON."""
        return [[op, to_json(a), to_json(b)] for op, a, b in self._guards]
