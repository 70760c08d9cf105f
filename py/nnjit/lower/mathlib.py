"""Elementary functions from IR arithmetic, for targets that lack them: formulas in `math_f32` and `math_f64`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UnsupportedError
from ..ir import (
    INTRINSICS,
    Assign,
    Declare,
    Expr,
    For,
    If,
    Stmt,
    Store,
    add,
    binary,
    cast,
    const,
    expr,
    extract,
    pack,
    value_index,
)
from ..symbolic import IntExpr, substitute, values_of
from ..target import Target
from . import math_f32, math_f64

_SINGLE: dict[str, Callable[[Expr], Expr]] = {
    "tanh": math_f32.tanh, "erf": math_f32.erf, "log": math_f32.log, "asinh": math_f32.asinh, "acosh": math_f32.acosh, "atanh": math_f32.atanh,
    "asin": math_f32.asin, "acos": math_f32.acos, "atan": math_f32.atan,
}  # fmt: skip


def expand(e: Expr, target: Target, native: frozenset[str] = frozenset()) -> Expr:
    """`e` with every intrinsic replaced by arithmetic, those named in `native` excepted.

    On Wasm, sin, cos, tan and pow of f32 go through f64 lane by lane: sin, cos and tan are accurate for |x| < 3·10⁹ and
    pow to 0.6 ulp. A GPU has no f64: there they are accurate for |x| < 25000, and pow is as `math_f32.power` says.
    Raises UnsupportedError for an f64 intrinsic that this library does not have.
    """
    return expander(target, native)(e)


def expander(target: Target, native: frozenset[str] = frozenset()) -> Callable[[Expr], Expr]:
    """`expand` for many expressions that share parts: each part is rewritten once."""
    return _Expander(target, native).rewrite


def expand_body(body: list[Stmt], target: Target) -> None:
    """`expand` for all values of a kernel's statements, in place."""
    _expand_body(body, expander(target))


def _expand_body(body: list[Stmt], rewrite: Callable[[Expr], Expr]) -> None:
    for s in body:
        if isinstance(s, Declare):
            s.init = rewrite(s.init)
        elif isinstance(s, (Assign, Store)):
            s.value = rewrite(s.value)
        elif isinstance(s, For):
            _expand_body(s.body, rewrite)
        elif isinstance(s, If):
            s.condition = rewrite(s.condition)
            _expand_body(s.then, rewrite)
            _expand_body(s.orelse, rewrite)


def _dot(a: Expr, b: Expr) -> Expr:
    """Both products of two pairs of i16, by 32-bit arithmetic."""
    half = const(16, "i32")
    low, high = [
        binary("mul", *(binary("shr", binary("shl", x, half) if is_low else x, half) for x in (a, b)))
        for is_low in (True, False)
    ]
    return add(low, high)


def _byte_dot(a: Expr, b: Expr) -> Expr:
    """The products of four bytes, two by two, by 32-bit arithmetic."""
    products = []
    for n in range(4):
        x, y = (binary("shr", binary("shl", e, const(24 - 8 * n, "i32")), const(24, "i32")) for e in (a, b))
        products.append(binary("mul", x, y))
    return _pair(add(products[0], products[1]), add(products[2], products[3]))


def _add_pairs(a: Expr, b: Expr) -> Expr:
    half = const(16, "i32")
    return _pair(add(a, b), add(binary("shr", a, half), binary("shr", b, half)))


def _pair(low: Expr, high: Expr) -> Expr:
    """The low halves of both."""
    return binary("or", binary("and", low, const(0xFFFF, "i32")), binary("shl", high, const(16, "i32")))


class _Expander:
    def __init__(self, target: Target, native: frozenset[str]) -> None:
        self.native = native
        self.wasm = target.device == "wasm"
        self.byte_dots = self.wasm and target.relaxed_simd and target.passes.relaxed_simd
        self.exponentials = math_f32.Exponentials(keeps_order=self.wasm)
        self.done: dict[Expr, Expr] = {}

    def rewrite(self, e: Expr) -> Expr:
        known = self.done.get(e)
        if known is not None:
            return known
        args = tuple(map(self.rewrite, e.args))
        attr: Any = e.attr
        if e.op == "load":
            buffer, index = attr
            rewritten = self._index(index)
            if rewritten is not index:
                attr = (buffer, rewritten)
        elif e.op == "index":
            attr = self._index(attr)
        if e.op == "dot" and not (self.wasm and e.lanes == 4):
            result = _dot(*args)
        elif e.op == "byte_dot" and not (self.byte_dots and e.lanes == 4):
            result = _byte_dot(*args)
        elif e.op == "add_pairs" and not (self.wasm and e.lanes == 4):
            result = _add_pairs(*args)
        elif e.op in INTRINSICS and e.op not in self.native:
            result = self._formula(e, args)
        elif args == e.args and attr is e.attr:
            result = e
        else:
            result = expr(e.op, e.dtype, e.lanes, args, attr)
        self.done[e] = result
        return result

    def _index(self, index: int | IntExpr) -> int | IntExpr:
        if not values_of(index):
            return index
        return substitute(index, {}, on_value=lambda atom: value_index(self.rewrite(atom.args[0])))

    def _formula(self, e: Expr, args: tuple[Expr, ...]) -> Expr:
        op = e.op
        if e.dtype == "f64":
            if op not in math_f64.FUNCTIONS:
                raise UnsupportedError(f"{op} is not available in double precision; use float inputs")
            return math_f64.FUNCTIONS[op](*args)
        if op in _SINGLE:
            return _SINGLE[op](*args)
        if op in ("sin", "cos", "tan"):
            turns, angle = self._reduced(args[0])
            if op == "tan":
                return math_f32.tan_turned(turns, angle)
            return math_f32.sin_turned(turns if op == "sin" else add(turns, const(1, "i32")), angle)
        if op == "pow":
            return math_f32.constant_power(*args) or self._power(*args)
        return getattr(self.exponentials, op)(*args)

    def _reduced(self, x: Expr) -> tuple[Expr, Expr]:
        """(quarter turns, rest of the angle)."""
        if not self.wasm:
            return math_f32.reduce_half_pi(x)
        parts = [math_f64.reduce_half_pi(cast(lane, "f64")) for lane in _lanes(x)]
        return _joined([n for n, _ in parts]), _joined([cast(r, "f32") for _, r in parts])

    def _power(self, x: Expr, y: Expr) -> Expr:
        if not self.wasm:
            return math_f32.power(x, y)
        pairs = zip(_lanes(x), _lanes(y), strict=True)
        return _joined([cast(math_f64.power(cast(a, "f64"), cast(b, "f64")), "f32") for a, b in pairs])


def _lanes(x: Expr) -> list[Expr]:
    return [x] if x.lanes == 1 else [extract(x, lane) for lane in range(4)]


def _joined(lanes: list[Expr]) -> Expr:
    return lanes[0] if len(lanes) == 1 else pack(tuple(lanes))  # type: ignore[arg-type]
