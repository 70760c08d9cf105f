"""Arithmetic on the elements of two or more tensors: sums, products, quotients, remainders, powers, extrema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ir
from ..graph.graph import Node
from ..tensor.tensor import Tensor
from . import content as known
from .content import FLOATS, Element
from .elementwise import SIGNED, legacy_broadcast, like, pointwise, same_dtype
from .registry import Context, operator


@operator("Add")
def add(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    y, exact = legacy_broadcast(ctx, x, y), x.dtype not in FLOATS
    return pointwise(ctx, ir.add, lambda a, b: known.add(ctx.env, a, b), x, y, exact=exact)


@operator("Sub")
def sub(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    y, exact = legacy_broadcast(ctx, x, y), x.dtype not in FLOATS
    return pointwise(ctx, ir.sub, lambda a, b: known.sub(ctx.env, a, b), x, y, exact=exact)


@operator("Mul")
def mul(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    y, exact = legacy_broadcast(ctx, x, y), x.dtype not in FLOATS
    return pointwise(ctx, ir.mul, lambda a, b: known.mul(ctx.env, a, b), x, y, exact=exact)


@operator("Div")
def div(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """Quotients; of integers towards zero."""
    same_dtype(ctx, x, y)
    y = legacy_broadcast(ctx, x, y)
    if x.dtype in FLOATS:
        return pointwise(ctx, ir.div, lambda a, b: known.div_float(ctx.env, a, b), x, y, exact=False)
    signed = x.dtype in SIGNED

    def f(a: ir.Expr, b: ir.Expr) -> ir.Expr:
        return safe_division("div", a, b, signed)

    return pointwise(ctx, f, lambda a, b: known.div_int(ctx.env, a, b), x, y, exact=False)


def safe_division(op: str, a: ir.Expr, b: ir.Expr, signed: bool) -> ir.Expr:
    """a div b or a rem b of integers that cannot trap: dividing by 0, or the least integer by −1, gives some number."""
    if b.op == "const" and b.attr not in (0, -1):
        return ir.binary(op, a, b)
    one = like(b, 1)
    divisor = ir.select(ir.binary("eq", b, like(b, 0)), one, b)
    if not signed:
        return ir.binary(op, a, divisor)
    minus = ir.binary("eq", b, like(b, -1))
    quotient = ir.binary(op, a, ir.select(minus, one, divisor))
    return ir.select(minus, ir.unary("neg", a) if op == "div" else like(a, 0), quotient)


@operator("Mod")
def mod(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """Remainders with the sign of the divisor, or of the dividend when fmod = 1."""
    same_dtype(ctx, x, y)
    truncating = bool(ctx.attr_int("fmod", 0))

    def f(a: ir.Expr, b: ir.Expr) -> ir.Expr:
        if x.dtype in FLOATS:
            remainder = _float_remainder(a, b)
        else:
            remainder = safe_division("rem", a, b, x.dtype in SIGNED)
        if truncating or x.dtype[0] == "u":
            return remainder
        zero = like(a, 0)
        opposite = ir.binary("xor", ir.binary("lt", remainder, zero), ir.binary("lt", b, zero))
        wrong = ir.binary("and", ir.binary("ne", remainder, zero), opposite)
        return ir.select(wrong, ir.add(remainder, b), remainder)

    fold = known.mod_trunc if truncating else known.mod_floor
    return pointwise(ctx, f, lambda a, b: fold(ctx.env, a, b), x, y, exact=False)


def _float_remainder(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    """a − b · trunc(a / b), exact while the quotient has at most as many bits as a mantissa."""
    size, step = ir.unary("abs", a), ir.unary("abs", b)
    quotient = ir.unary("trunc", ir.div(size, step))
    rest = _minus_product(size, step, quotient)
    # A quotient just below a whole number was rounded up to it.
    rest = ir.select(ir.binary("lt", rest, like(a, 0)), ir.add(rest, step), rest)
    # With an infinite divisor 0 · ∞ would be no number.
    rest = ir.select(ir.binary("lt", size, step), size, rest)
    return ir.select(ir.binary("lt", a, like(a, 0)), ir.unary("neg", rest), rest)


def _minus_product(a: ir.Expr, b: ir.Expr, c: ir.Expr) -> ir.Expr:
    """a − b · c for a product near a: the product without rounding as a sum of two (T. J. Dekker, 1971)."""
    splitter = like(a, (1 << (27 if a.dtype == "f64" else 12)) + 1)

    def halves(v: ir.Expr) -> tuple[ir.Expr, ir.Expr]:
        scaled = ir.mul(v, splitter)
        high = ir.sub(scaled, ir.sub(scaled, v))
        return high, ir.sub(v, high)

    product = ir.mul(b, c)
    (b1, b2), (c1, c2) = halves(b), halves(c)
    error = ir.sub(ir.mul(b1, c1), product)
    for p, q in ((b1, c2), (b2, c1), (b2, c2)):
        error = ir.add(error, ir.mul(p, q))
    return ir.sub(ir.sub(a, product), error)


@operator("Pow")
def pow_(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """x to the power of y, in the dtype of x; y may be of another dtype."""
    y = legacy_broadcast(ctx, x, y)
    if x.dtype in FLOATS:

        def f(a: ir.Expr, b: ir.Expr) -> ir.Expr:
            return _float_power(a, ir.cast(b, a.dtype))

    elif y.dtype in FLOATS:

        def f(a: ir.Expr, b: ir.Expr) -> ir.Expr:
            return ir.cast(_float_power(ir.cast(a, b.dtype), b), a.dtype)

    else:

        def f(a: ir.Expr, b: ir.Expr) -> ir.Expr:
            return _integer_power(a, ir.cast(b, a.dtype), x.dtype in SIGNED)

    return pointwise(ctx, f, lambda a, b: known.power(ctx.env, a, b), x, y, exact=False)


def _float_power(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    exponent: Any = b.attr if b.op == "const" else None
    if exponent == 0.5:
        return ir.unary("sqrt", a)
    if exponent in (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0):
        power = like(a, 1)
        for n in range(int(abs(exponent))):
            power = ir.mul(power, a) if n else a
        return ir.div(like(a, 1), power) if exponent < 0 else power
    return ir.expr("pow", a.dtype, 1, (a, b))


def _integer_power(a: ir.Expr, b: ir.Expr, signed: bool) -> ir.Expr:
    """By squaring, for exponents below 64: larger ones overflow every base but −1, 0 and 1."""
    result, square = like(a, 1), a
    bits = range(6)
    if b.op == "const":
        exponent = int(b.attr)
        bits = range(exponent.bit_length() if exponent >= 0 else 1)
    for bit in bits:
        odd = ir.binary("ne", ir.binary("and", b, like(b, 1 << bit)), like(b, 0))
        result = ir.select(odd, ir.mul(result, square), result)
        square = ir.mul(square, square)
    if not signed:
        return result
    unit = ir.binary("or", ir.binary("eq", a, like(a, 1)), ir.binary("eq", a, like(a, -1)))
    parity = ir.select(ir.binary("eq", ir.binary("and", b, like(b, 1)), like(b, 0)), like(a, 1), a)
    negative = ir.select(unit, parity, like(a, 0))
    return ir.select(ir.binary("lt", b, like(b, 0)), negative, result)


def _variadic(name: str, f: Callable[[ir.Expr, ir.Expr], ir.Expr], fold: Callable) -> None:
    def definition(ctx: Context, node: Node, *xs: Tensor) -> Tensor:
        same_dtype(ctx, *xs)
        if len(xs) == 1:
            return xs[0]

        def chain(*vs: Any, f: Callable = f) -> Any:
            total = vs[0]
            for v in vs[1:]:
                total = f(total, v)
            if name != "Mean":
                return total
            return ir.mul(total, like(total, 1 / len(vs)))

        def chain_known(*vs: Element) -> Element:
            total = vs[0]
            for v in vs[1:]:
                total = fold(ctx.env, total, v)
            return total

        return pointwise(ctx, chain, None if name == "Mean" else chain_known, *xs, exact=False)

    operator(name)(definition)


_variadic("Sum", ir.add, known.add)
_variadic("Mean", ir.add, known.add)
_variadic("Min", lambda a, b: ir.binary("min", a, b), known.minimum)
_variadic("Max", lambda a, b: ir.binary("max", a, b), known.maximum)
