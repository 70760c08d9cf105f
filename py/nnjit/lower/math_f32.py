"""Elementary functions of single precision, on scalars and vectors.

No branches: both sides of a `select` are computed, exponents are built in the integer representation. All polynomials
are minimax fits made for this module (Remez exchange at 50 digits on the interval named beside them, weighted for the
relative error of the result), accurate with fused and with separate multiply and add. Errors are in units in the last
place (ulp) of the exact result, found by dense sampling. Subnormal results of exp are flushed to zero.
"""

from __future__ import annotations

import math

from ..ir import Expr, add, binary, bitcast, cast, const, div, fma, mul, select, sub, unary

_LOG2E = 1.0 / math.log(2.0)


def _c(x: float) -> Expr:
    return const(x, "f32")


def _i(n: int) -> Expr:
    return const(n, "i32")


def horner(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """Σ coefficients[k] · x^k, of the dtype of x."""
    result = const(coefficients[-1], x.dtype)
    for c in coefficients[-2::-1]:
        result = fma(result, x, const(c, x.dtype))
    return result


def odd(n: Expr) -> Expr:
    """Whether an i32 is odd."""
    return binary("ne", binary("and", n, _i(1)), _i(0))


def _odd_series(x: Expr, u: Expr, coefficients: tuple[float, ...]) -> Expr:
    """x + x·u·P(u) for u = x²."""
    return fma(mul(x, u), horner(u, coefficients), x)


def _signed_like(magnitude: Expr, sign: Expr) -> Expr:
    """`magnitude` (not negative) with the sign of `sign`."""
    bit = binary("and", bitcast(sign, "i32"), _i(-(2**31)))
    return bitcast(binary("or", bitcast(magnitude, "i32"), bit), "f32")


# Exponentials

_EXP = (
    0.4999999325353424,
    0.16666517762065433,
    0.041668421844857494,
    0.008369063489788695,
    0.001381387952286571,
)
"""(eʳ − 1 − r) / r² on |r| ≤ ln 2 / 2; error of eʳ 2⁻²⁸."""

_EXP2 = (
    1.0, 0.6931472041819603, 0.24022647742422398, 0.05550329349609718, 0.00961844995882043, 0.0013400170146711055,
    0.00015352317662385711,
)  # fmt: skip
"""2ʳ on |r| ≤ 1/2; 2⁻²⁸."""

_ROUND = 12582912.0  # 1.5 · 2²³: adding it leaves the nearest integer in the low bits
_LN2_HI, _LN2_LO = 0.693359375, -2.1219444005469057e-4  # the first has 9 significant bits

_ERF = (
    (1.128379225730896, 0.19059506058692932, 0.05276942253112793, 0.003772592404857278, 0.0002848421281669289,
     2.0459876850509318e-06),
    (1.0, 0.5022432208061218, 0.1141832247376442, 0.014983284287154675, 0.0011638636933639646,
     3.8047295674914494e-05),
    3.87237548828125,
)  # fmt: skip
"""erf(√u) / √u as P(u) / Q(u) on √u ≤ the third item, where the quotient is 1 in single precision; 2⁻²⁵·⁶."""

_TANH = (
    (1.0, 0.13382691144943237, 0.0034974601585417986, 2.0635861801565625e-05, 1.3384330976862202e-08),
    (1.0, 0.46716010570526123, 0.025884373113512993, 0.0003288521838840097, 7.790269478391565e-07),
    8.952532768249512,
)
"""The same for tanh; 2⁻²⁵·⁴."""

_SINH = (0.1666671824670546, 0.008330211425683947, 0.00020377404318703356)
"""(sinh √u − √u) / √u³ on u ≤ 1; 2⁻²⁵."""


def _power_of_two(n: Expr, bias: int) -> Expr:
    """2^(n + bias − 127) from the low 9 bits of `n`; 0 where n + bias = 0."""
    return bitcast(add(binary("shl", n, _i(23)), _i(bias << 23)), "f32")


class Exponentials:
    """Functions of eˣ.

    `keeps_order`: the target computes (x + c) − c as written, so that adding a large constant rounds to an integer:
    cheaper than rounding and converting. WGSL may simplify it away.
    """

    def __init__(self, keeps_order: bool) -> None:
        self.keeps_order = keeps_order

    def _reduce(self, x: Expr, bias: int) -> tuple[Expr, Expr]:
        """x = n · ln 2 + r: (2^(n + bias − 127), r); the power is 0 where n + bias = 0."""
        if self.keeps_order:
            # The low 9 bits of the sum are those of n + bias, and shifting leaves no others.
            magic = _c(_ROUND + bias)
            shifted = fma(x, _c(_LOG2E), magic)
            n, power = sub(shifted, magic), bitcast(binary("shl", bitcast(shifted, "i32"), _i(23)), "f32")
        else:
            n = unary("round", mul(x, _c(_LOG2E)))
            power = _power_of_two(cast(n, "i32"), bias)
        return power, fma(n, _c(-_LN2_LO), fma(n, _c(-_LN2_HI), x))

    def exp(self, x: Expr) -> Expr:
        """eˣ; ≤ 1.1 ulp (0.8 fused); results below 1.7·10⁻³⁸ are 0."""
        # The largest results have n = 128.
        return self.exp_nonpositive(binary("min", x, _c(89.0)))

    def exp_nonpositive(self, x: Expr) -> Expr:
        """eˣ for x ≤ 0 and NaN, to the same accuracy; for x > 88 any number: the sign is known where a maximum was subtracted."""
        # 2·eʳ · 2^(n−1). The clamp is where n = −126, whose power becomes 0.
        power, r = self._reduce(binary("max", x, _c(-87.33)), 126)
        return mul(horner(r, (2.0, 2.0, *(2.0 * c for c in _EXP))), power)

    def _half_exp(self, x: Expr) -> Expr:
        """eˣ / 2 for x ≥ 0, finite where that is."""
        power, r = self._reduce(binary("min", x, _c(90.0)), 125)
        return mul(horner(r, (2.0, 2.0, *(2.0 * c for c in _EXP))), power)

    def sigmoid(self, x: Expr) -> Expr:
        """1 / (1 + e⁻ˣ); ≤ 2.5 ulp."""
        return div(_c(1.0), add(self.exp(unary("neg", x)), _c(1.0)))

    def sinh(self, x: Expr) -> Expr:
        """≤ 1.5 ulp."""
        size = unary("abs", x)
        half = self._half_exp(size)
        large = _signed_like(sub(half, div(_c(0.25), half)), x)
        return select(binary("lt", size, _c(1.0)), _odd_series(x, mul(x, x), _SINH), large)

    def cosh(self, x: Expr) -> Expr:
        """≤ 1.5 ulp."""
        half = self._half_exp(unary("abs", x))
        return add(half, div(_c(0.25), half))


# Odd functions that level off


def _odd_quotient(x: Expr, fit: tuple[tuple[float, ...], tuple[float, ...], float]) -> Expr:
    """x · P(x²) / Q(x²) for (P, Q, limit), constant beyond ± limit: one division, and no other function.

    All coefficients are positive, so that nothing cancels.
    """
    p, q, limit = fit
    x = binary("min", binary("max", x, _c(-limit)), _c(limit))
    u = mul(x, x)
    return div(mul(x, horner(u, p)), horner(u, q))


def tanh(x: Expr) -> Expr:
    """≤ 6 ulp, tiny and subnormal x included."""
    return _odd_quotient(x, _TANH)


def erf(x: Expr) -> Expr:
    """≤ 6 ulp; of a quotient by a constant, as GELU has it, ≤ 7: it is taken by multiplication."""
    if x.op == "div":
        divisor = x.args[1].args[0] if x.args[1].op == "splat" else x.args[1]
        if divisor.op == "const" and 1e-30 < abs(divisor.attr) < 1e30:
            x = mul(x.args[0], _c(1.0 / divisor.attr))
    return _odd_quotient(x, _ERF)


# Logarithms

_LOG = (
    0.3333331044539437, -0.2499998657661048, 0.2000222631704429, -0.16669251804268723, 0.14218663840687976,
    -0.12384335293447317, 0.11872926011686327, -0.11789864277712386, 0.06915539459444105,
)  # fmt: skip
"""(ln(1 + f) − f + f²/2) / f³ on √½ ≤ 1 + f ≤ √2; 2⁻³⁰."""

_ASINH = (
    -0.16666630874894098, 0.07498744443013909, -0.04449054224572976, 0.029467696676584037, -0.019207821404883713,
    0.010462522322071762, -0.003858525608275522, 0.000679124822930343,
)  # fmt: skip
"""(asinh √u − √u) / √u³ on u ≤ 1; 2⁻²⁸."""

_ATANH = (
    0.3333329884443373, 0.2000258766078757, 0.1422148712786235, 0.11833960125298147, 0.05098551796157632,
    0.17719646942156272,
)  # fmt: skip
"""(atanh √u − √u) / √u³ on u ≤ 1/4; 2⁻²⁹."""

_ACOSH = (
    -0.08333321933743852,
    0.018746658259738713,
    -0.005548233446540213,
    0.001760972735146448,
    -0.00041400334034992996,
)
"""(acosh(1 + t) / √(2t) − 1) / t on t ≤ 1/2; 2⁻²⁹."""


def _split(x: Expr) -> tuple[Expr, Expr]:
    """(e, f) with x = 2ᵉ · (1 + f) and √½ ≤ 1 + f < √2, for 0 < x < ∞, subnormal x included."""
    tiny = binary("lt", x, _c(2.0**-126))
    bits = bitcast(select(tiny, mul(x, _c(2.0**23)), x), "i32")
    exponent = binary("shr", sub(bits, _i(0x3F3504F3)), _i(23))
    f = sub(bitcast(sub(bits, binary("shl", exponent, _i(23))), "f32"), _c(1.0))
    return sub(cast(exponent, "f32"), select(tiny, _c(23.0), _c(0.0))), f


def log(x: Expr) -> Expr:
    """≤ 1 ulp, subnormal x included; −∞ at 0, NaN below."""
    e, f = _split(x)
    u = mul(f, f)
    y = fma(e, _c(_LN2_LO), mul(mul(f, u), horner(f, _LOG)))
    result = fma(e, _c(_LN2_HI), add(f, fma(u, _c(-0.5), y)))
    outside = select(binary("eq", x, _c(0.0)), _c(-math.inf), _c(math.nan))
    finite = select(binary("lt", x, _c(math.inf)), result, x)
    return select(binary("gt", x, _c(0.0)), finite, outside)


def asinh(x: Expr) -> Expr:
    """A series up to 1, ln(|x| + √(x² + 1)) above, ln |x| + ln 2 far above; ≤ 2.5 ulp."""
    size, u = unary("abs", x), mul(x, x)
    far = binary("gt", size, _c(1e9))
    inner = select(far, size, add(size, unary("sqrt", add(u, _c(1.0)))))
    large = add(log(inner), select(far, _c(math.log(2.0)), _c(0.0)))
    return select(binary("lt", size, _c(1.0)), _odd_series(x, u, _ASINH), _signed_like(large, x))


def acosh(x: Expr) -> Expr:
    """A series in x − 1 up to 1.5, ln(x + √(x² − 1)) above, ln x + ln 2 far above; ≤ 2.5 ulp; NaN below 1."""
    t = sub(x, _c(1.0))
    near = mul(unary("sqrt", add(t, t)), fma(t, horner(t, _ACOSH), _c(1.0)))
    far = binary("gt", x, _c(1e9))
    inner = select(far, x, add(x, unary("sqrt", mul(t, add(x, _c(1.0))))))
    large = add(log(inner), select(far, _c(math.log(2.0)), _c(0.0)))
    return select(binary("gt", t, _c(0.5)), large, near)


def atanh(x: Expr) -> Expr:
    """A series up to 1/2, ln((1 + |x|) / (1 − |x|)) / 2 above; ≤ 2.5 ulp; ±∞ at ±1, NaN beyond."""
    size = unary("abs", x)
    large = mul(log(div(add(_c(1.0), size), sub(_c(1.0), size))), _c(0.5))
    return select(binary("lt", size, _c(0.5)), _odd_series(x, mul(x, x), _ATANH), _signed_like(large, x))


def power(x: Expr, y: Expr) -> Expr:
    """xʸ without double precision, with C's special cases; ≤ 2 + |y · log₂ m| ulp, where 2ᵉ·m = |x|, ½ < m² < 2.

    y · e is split so that its larger part is exact.
    """
    e, f = _split(unary("abs", x))
    fraction = mul(log(add(f, _c(1.0))), _c(_LOG2E))
    bounded = binary("min", binary("max", y, _c(-1e30)), _c(1e30))
    high = bitcast(binary("and", bitcast(bounded, "i32"), _i(-4096)), "f32")
    whole = mul(high, e)
    part = fma(bounded, fraction, mul(sub(bounded, high), e))
    total = add(whole, part)
    n = unary("round", binary("min", binary("max", total, _c(-200.0)), _c(200.0)))
    inside = binary("lt", unary("abs", total), _c(200.0))
    r = select(inside, add(sub(whole, n), part), _c(0.0))
    first = unary("floor", mul(n, _c(0.5)))
    second = sub(n, first)
    scaled = mul(horner(r, _EXP2), _power_of_two(cast(first, "i32"), 127))
    size = mul(scaled, _power_of_two(cast(second, "i32"), 127))
    size = select(binary("eq", x, _c(0.0)), select(binary("lt", y, _c(0.0)), _c(math.inf), _c(0.0)), size)
    beyond = binary("eq", unary("abs", x), _c(math.inf))
    size = select(beyond, select(binary("lt", y, _c(0.0)), _c(0.0), _c(math.inf)), size)
    return _power_cases(x, y, size)


def _power_cases(x: Expr, y: Expr, size: Expr) -> Expr:
    """The sign of xʸ, and its value where |x|ʸ = size does not say it."""
    endless = binary("eq", unary("abs", y), _c(math.inf))
    whole = binary("or", binary("eq", unary("floor", y), y), endless)
    half = mul(y, _c(0.5))
    uneven = binary("and", whole, binary("ne", unary("floor", half), half))
    negative = binary("lt", bitcast(x, "i32"), _i(0))
    signed = select(binary("and", negative, uneven), unary("neg", size), size)
    defined = binary("or", whole, binary("ge", x, _c(0.0)))
    defined = binary("or", defined, binary("eq", x, _c(-math.inf)))
    one = binary("or", binary("eq", y, _c(0.0)), binary("eq", x, _c(1.0)))
    one = binary("or", one, binary("and", endless, binary("eq", x, _c(-1.0))))
    known = binary("and", binary("eq", x, x), binary("eq", y, y))
    return select(one, _c(1.0), select(binary("and", defined, known), signed, _c(math.nan)))


def constant_power(x: Expr, y: Expr) -> Expr | None:
    """xʸ by multiplication or square root for the exponents that models use, ≤ 2 ulp; None for others."""
    exponent = y.args[0] if y.op == "splat" else y
    if exponent.op != "const":
        return None
    square = mul(x, x)
    simple = {
        0.5: unary("sqrt", x),
        1.0: x,
        2.0: square,
        3.0: mul(square, x),
        4.0: mul(square, square),
        -1.0: div(_c(1.0), x),
        -0.5: div(_c(1.0), unary("sqrt", x)),
    }
    return simple.get(float(exponent.attr))


# Trigonometry

_SIN = (-0.16666654767701516, 0.008332166627188643, -0.00019515691851851118)
"""(sin √u − √u) / √u³ on u ≤ (π/4)²; 2⁻²⁸."""

_COS = (0.04166664656905741, -0.0013887352337782564, 2.4436648865652497e-05)
"""(cos √u − 1 + u/2) / u² on u ≤ (π/4)²; 2⁻³³."""

_HALF_PI = (1.5703125, 0.00048351287841796875, 3.1385570764541626e-07, 6.077100506506192e-11)
"""π/2 in parts of 10, 10, 10 and 24 significant bits: n · part is exact for n < 2¹⁴."""

_ASIN = (
    0.16666753928030173,
    0.07495241762579614,
    0.045477099995820246,
    0.02414759510050249,
    0.042218576916063774,
)
"""(asin √u − √u) / √u³ on u ≤ 1/4; 2⁻²⁷."""

_ATAN = (
    -0.3333330186846716, 0.1999863866061435, -0.14265245692839051, 0.10957577393824704, -0.08419461786359812,
    0.058234585890653355, -0.031455729589663445, 0.01106445267415321, -0.0018272149467884757,
)  # fmt: skip
"""(atan √u − √u) / √u³ on u ≤ 1; 2⁻²⁸."""


def reduce_half_pi(x: Expr) -> tuple[Expr, Expr]:
    """x = n · π/2 + r: (n as i32, r); r is accurate to 2⁻²⁴ absolute for |x| < 25000, and less and less beyond."""
    n = unary("round", mul(x, _c(2.0 / math.pi)))
    r = x
    for part in _HALF_PI:
        r = fma(n, _c(-part), r)
    return cast(n, "i32"), r


def _circle(r: Expr) -> tuple[Expr, Expr]:
    """(sine, cosine) of |r| ≤ π/4."""
    u = mul(r, r)
    return _odd_series(r, u, _SIN), fma(mul(u, u), horner(u, _COS), fma(u, _c(-0.5), _c(1.0)))


def sin_turned(n: Expr, r: Expr) -> Expr:
    """sin(n · π/2 + r); ≤ 1.5 ulp."""
    sine, cosine = _circle(r)
    flip = binary("shl", binary("and", n, _i(2)), _i(30))
    return bitcast(binary("xor", bitcast(select(odd(n), cosine, sine), "i32"), flip), "f32")


def tan_turned(n: Expr, r: Expr) -> Expr:
    """tan(n · π/2 + r); ≤ 3.5 ulp."""
    sine, cosine = _circle(r)
    uneven = odd(n)
    quotient = div(select(uneven, cosine, sine), select(uneven, sine, cosine))
    return select(uneven, unary("neg", quotient), quotient)


def _asin_reduced(x: Expr) -> tuple[Expr, Expr]:
    """(|x| > 1/2, asin of |x|, or of √((1 − |x|) / 2) where that is so)."""
    size = unary("abs", x)
    large = binary("gt", size, _c(0.5))
    u = select(large, mul(sub(_c(1.0), size), _c(0.5)), mul(x, x))
    return large, _odd_series(select(large, unary("sqrt", u), size), u, _ASIN)


def asin(x: Expr) -> Expr:
    """≤ 2.5 ulp; NaN beyond ±1."""
    large, a = _asin_reduced(x)
    return _signed_like(select(large, fma(a, _c(-2.0), _c(math.pi / 2)), a), x)


def acos(x: Expr) -> Expr:
    """≤ 1.5 ulp; NaN beyond ±1."""
    large, a = _asin_reduced(x)
    negative = binary("lt", x, _c(0.0))
    wide = select(negative, fma(a, _c(-2.0), _c(math.pi)), add(a, a))
    return select(large, wide, sub(_c(math.pi / 2), select(negative, unary("neg", a), a)))


def atan(x: Expr) -> Expr:
    """≤ 2 ulp."""
    size = unary("abs", x)
    large = binary("gt", size, _c(1.0))
    t = select(large, div(_c(1.0), size), size)
    a = _odd_series(t, mul(t, t), _ATAN)
    return _signed_like(select(large, sub(_c(math.pi / 2), a), a), x)
