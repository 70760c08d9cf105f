"""Elementary functions of double precision, on scalars; relative error below 10⁻¹² unless a docstring says otherwise.

Polynomials are minimax fits as in `math_f32`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..ir import Expr, add, binary, bitcast, cast, const, div, fma, mul, select, sub, unary
from .math_f32 import horner, odd

_EXP = (
    0.5000000000000011, 0.1666666666666641, 0.04166666666652919, 0.008333333333495634, 0.0013888888943922786,
    0.00019841269504748457, 2.4801492762596405e-05, 2.7557587354331424e-06, 2.7630378702284223e-07,
    2.4999962283157523e-08,
)  # fmt: skip
_LOG = (
    0.6666666666666735, 0.3999999999941109, 0.2857142874326251, 0.22222198476009952, 0.18183569738561328,
    0.1531390327564232, 0.147975074591232,
)  # fmt: skip
_SIN = (
    -0.16666666666666632, 0.00833333333332237, -0.0001984126982977119, 2.755731367867063e-06,
    -2.505075596182924e-08, 1.5896666518024214e-10,
)  # fmt: skip
_COS = (
    0.0416666666666666, -0.0013888888888874064, 2.4801587289443553e-05, -2.755731434068073e-07,
    2.08757216266574e-09, -1.1359559483896893e-11,
)  # fmt: skip


def _d(x: float) -> Expr:
    return const(x, "f64")


def _i(n: int) -> Expr:
    return const(n, "i32")


_HALF_PI = (1.570796012878418, 3.139164164167596e-07, 6.223372171896613e-14)
"""π/2 in parts of 22, 22 and 53 significant bits: n · part is exact in f64 for |n| < 2³¹."""


def reduce_half_pi(x: Expr) -> tuple[Expr, Expr]:
    """f64 x = n · π/2 + r: (n as i32, r); accurate for |x| < 3·10⁹."""
    n = unary("round", mul(x, _d(2.0 / math.pi)))
    r = x
    for part in _HALF_PI:
        r = sub(r, mul(n, _d(part)))
    return cast(n, "i32"), r


def _l(n: int) -> Expr:
    return const(n, "i64")


def _exp(x: Expr) -> Expr:
    """eˣ; relative error 3·10⁻¹⁶; results below 3·10⁻³⁰⁸ are 0."""
    magic = _d(6755399441055744.0)  # 1.5 · 2⁵²
    clamped = binary("min", binary("max", x, _d(-708.39)), _d(710.0))
    shifted = fma(clamped, _d(1.0 / math.log(2.0)), magic)
    n = sub(shifted, magic)
    r = fma(n, _d(-1.90821492927058770002e-10), fma(n, _d(-6.93147180369123816490e-01), clamped))
    twice = horner(r, (2.0, 2.0, *(2.0 * c for c in _EXP)))
    scale = bitcast(add(binary("shl", bitcast(shifted, "i64"), _l(52)), _l(1022 << 52)), "f64")
    return mul(twice, scale)


def _log(x: Expr) -> Expr:
    """ln x; relative error 3·10⁻¹⁶; −∞ at 0, NaN below."""
    tiny = binary("lt", x, _d(2.0**-1022))
    bits = bitcast(select(tiny, mul(x, _d(2.0**54)), x), "i64")
    exponent = binary("shr", sub(bits, _l(0x3FE6A09E667F3BCD)), _l(52))
    f = sub(bitcast(sub(bits, binary("shl", exponent, _l(52))), "f64"), _d(1.0))
    e = sub(cast(exponent, "f64"), select(tiny, _d(54.0), _d(0.0)))
    s = div(f, add(f, _d(2.0)))
    v = mul(s, s)
    y = fma(e, _d(1.90821492927058770002e-10), mul(mul(s, v), horner(v, _LOG)))
    result = fma(e, _d(6.93147180369123816490e-01), add(add(s, s), y))
    outside = select(binary("eq", x, _d(0.0)), _d(-math.inf), _d(math.nan))
    finite = select(binary("lt", x, _d(math.inf)), result, x)
    return select(binary("gt", x, _d(0.0)), finite, outside)


def _log1p(y: Expr) -> Expr:
    """ln(1 + y), the rounding of 1 + y made good (W. Kahan's formula)."""
    u = add(y, _d(1.0))
    d = sub(u, _d(1.0))
    correction = select(binary("eq", u, _d(math.inf)), _d(1.0), div(y, d))
    return select(binary("eq", d, _d(0.0)), y, mul(_log(u), correction))


def _expm1(x: Expr) -> Expr:
    """eˣ − 1 for finite x (W. Kahan's formula)."""
    u = _exp(x)
    d = sub(u, _d(1.0))
    inner = div(mul(d, x), _log(u))
    usual = select(binary("lt", unary("abs", x), _d(1.0)), inner, d)
    return select(binary("eq", d, _d(0.0)), x, usual)


def _sign(magnitude: Expr, sign: Expr) -> Expr:
    bit = binary("and", bitcast(sign, "i64"), _l(-(2**63)))
    return bitcast(binary("or", bitcast(magnitude, "i64"), bit), "f64")


def _sigmoid(x: Expr) -> Expr:
    return div(_d(1.0), add(_exp(unary("neg", x)), _d(1.0)))


def _tanh(x: Expr) -> Expr:
    z = _expm1(mul(binary("min", unary("abs", x), _d(30.0)), _d(-2.0)))
    return _sign(unary("abs", div(z, add(z, _d(2.0)))), x)


def _sinh(x: Expr) -> Expr:
    z = _expm1(unary("abs", x))
    other = select(binary("gt", z, _d(1e18)), _d(1.0), div(z, add(z, _d(1.0))))
    return _sign(mul(add(z, other), _d(0.5)), x)


def _cosh(x: Expr) -> Expr:
    e = _exp(unary("abs", x))
    return add(mul(e, _d(0.5)), div(_d(0.5), e))


def _asinh(x: Expr) -> Expr:
    """Accurate for |x| < 10¹⁵⁴."""
    size = unary("abs", x)
    square = mul(size, size)
    y = add(size, div(square, add(unary("sqrt", add(square, _d(1.0))), _d(1.0))))
    return _sign(_log1p(select(binary("eq", size, _d(math.inf)), size, y)), x)


def _acosh(x: Expr) -> Expr:
    """Accurate for x < 10¹⁵⁴; NaN below 1."""
    t = sub(x, _d(1.0))
    result = _log1p(add(t, unary("sqrt", add(add(t, t), mul(t, t)))))
    return select(binary("lt", x, _d(1.0)), _d(math.nan), result)


def _atanh(x: Expr) -> Expr:
    """±∞ at ±1, NaN beyond."""
    size = unary("abs", x)
    return _sign(mul(_log1p(div(add(size, size), sub(_d(1.0), size))), _d(0.5)), x)


def _circle(x: Expr) -> tuple[Expr, Expr, Expr]:
    n, r = reduce_half_pi(x)
    u = mul(r, r)
    sine = fma(mul(r, u), horner(u, _SIN), r)
    cosine = fma(mul(u, u), horner(u, _COS), fma(u, _d(-0.5), _d(1.0)))
    return n, sine, cosine


def _turned(n: Expr, sine: Expr, cosine: Expr) -> Expr:
    value = select(odd(n), cosine, sine)
    return select(binary("ne", binary("and", n, _i(2)), _i(0)), unary("neg", value), value)


def _sin(x: Expr) -> Expr:
    return _turned(*_circle(x))


def _cos(x: Expr) -> Expr:
    n, sine, cosine = _circle(x)
    return _turned(add(n, _i(1)), sine, cosine)


def _tan(x: Expr) -> Expr:
    n, sine, cosine = _circle(x)
    uneven = odd(n)
    quotient = div(select(uneven, cosine, sine), select(uneven, sine, cosine))
    return select(uneven, unary("neg", quotient), quotient)


def power(x: Expr, y: Expr) -> Expr:
    """xʸ with C's special cases; relative error |y·ln x| · 2·10⁻¹⁶."""
    size = _exp(mul(y, _log(unary("abs", x))))
    whole = binary("eq", unary("trunc", y), y)
    half = mul(y, _d(0.5))
    uneven = binary("and", whole, binary("ne", unary("trunc", half), half))
    negative = binary("lt", bitcast(x, "i64"), _l(0))
    signed = select(binary("and", negative, uneven), unary("neg", size), size)
    infinite = binary("eq", unary("abs", y), _d(math.inf))
    real = binary("or", binary("or", whole, infinite), binary("ge", x, _d(0.0)))
    defined = binary("or", real, binary("eq", x, _d(-math.inf)))
    one = binary("or", binary("eq", y, _d(0.0)), binary("eq", x, _d(1.0)))
    one = binary("or", one, binary("and", infinite, binary("eq", x, _d(-1.0))))
    return select(one, _d(1.0), select(defined, signed, _d(math.nan)))


FUNCTIONS: dict[str, Callable[..., Expr]] = {
    "exp": _exp, "exp_nonpositive": _exp, "log": _log, "tanh": _tanh, "sigmoid": _sigmoid, "sinh": _sinh, "cosh": _cosh,
    "asinh": _asinh, "acosh": _acosh, "atanh": _atanh, "sin": _sin, "cos": _cos, "tan": _tan,
    "pow": power,
}  # fmt: skip
