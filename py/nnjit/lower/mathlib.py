"""Elementary functions from IR arithmetic, for targets that lack them.

`expand` rewrites the intrinsics of an expression. The f32 formulas work on scalars and vectors alike: no branches, both
sides of a `select` computed, exponents built in the integer representation. All polynomials are minimax fits made for
this module (Remez exchange at 50 digits on the interval named beside them, weighted for relative error of the result).
They are accurate with fused and with separate multiply and add. Stated errors are in units in the last place (ulp) of
the exact result, found by dense sampling; subnormal results of `exp` are flushed to zero.

Where single precision would need double-length arithmetic (range reduction of sin and cos, pow, the inverse hyperbolic
functions), each lane goes through f64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import UnsupportedError
from ..ir import (
    INTRINSICS,
    Expr,
    add,
    binary,
    bitcast,
    cast,
    const,
    div,
    expr,
    extract,
    fma,
    mul,
    pack,
    select,
    sub,
    unary,
    value_index,
)
from ..symbolic import IntExpr, atoms, substitute
from ..target import Target

_LOG2E = 1.0 / math.log(2.0)
_INF = math.inf


def expand(e: Expr, target: Target, native: frozenset[str] = frozenset()) -> Expr:
    """`e` with every intrinsic replaced by arithmetic, those named in `native` excepted.

    Raises UnsupportedError for an f64 intrinsic that this library does not have, or one that the target cannot
    compute because it lacks f64.
    """
    return _Expander(target, native).rewrite(e)


class _Expander:
    def __init__(self, target: Target, native: frozenset[str]) -> None:
        self.native = native
        self.has_f64 = target.device == "wasm"
        self.done: dict[Expr, Expr] = {}

    def rewrite(self, e: Expr) -> Expr:
        known = self.done.get(e)
        if known is not None:
            return known
        args = tuple(map(self.rewrite, e.args))
        attr = e.attr
        if e.op == "load":
            buffer, index = e.attr  # type: ignore[misc]
            attr = (buffer, self.index(index))
        elif e.op == "index":
            attr = self.index(e.attr)  # type: ignore[arg-type]
        same = args == e.args and attr is e.attr
        result = e if same else expr(e.op, e.dtype, e.lanes, args, attr)
        if e.op in INTRINSICS and e.op not in self.native:
            result = self.formula(e, args)
        self.done[e] = result
        return result

    def index(self, index: int | IntExpr) -> int | IntExpr:
        if isinstance(index, int) or all(isinstance(a, str) or a.op != "value" for a in atoms(index)):
            return index
        return substitute(index, {}, on_value=lambda atom: value_index(self.rewrite(atom.args[0])))

    def formula(self, e: Expr, args: tuple[Expr, ...]) -> Expr:
        if e.dtype == "f64":
            if e.op not in _F64:
                raise UnsupportedError(f"{e.op} is not available in double precision; use float inputs")
            return _F64[e.op](*args)
        if e.op in _F32:
            return _F32[e.op](*args)
        if e.op == "pow":
            simple = _constant_power(*args)
            if simple is not None:
                return simple
        if not self.has_f64:
            raise UnsupportedError(f"{e.op} needs double precision, which this device does not have")
        if e.op in _F32_BY_F64:
            return _F32_BY_F64[e.op](*args)
        return _by_lane(lambda *xs: cast(_F64[e.op](*(cast(x, "f64") for x in xs)), "f32"), *args)


# Pieces


def _c(x: float) -> Expr:
    return const(x, "f32")


def _d(x: float) -> Expr:
    return const(x, "f64")


def _i(n: int) -> Expr:
    return const(n, "i32")


def _horner(x: Expr, coefficients: tuple[float, ...]) -> Expr:
    """Σ coefficients[k] · x^k."""
    result = const(coefficients[-1], x.dtype)
    for c in coefficients[-2::-1]:
        result = fma(result, x, const(c, x.dtype))
    return result


def _signed_like(magnitude: Expr, sign: Expr) -> Expr:
    """`magnitude` (not negative) with the sign of `sign`."""
    bit = binary("and", bitcast(sign, "i32"), _i(-(2**31)))
    return bitcast(binary("or", bitcast(magnitude, "i32"), bit), "f32")


def _by_lane(f: Callable[..., Expr], *args: Expr) -> Expr:
    """f on scalars, lane by lane for vectors."""
    if args[0].lanes == 1:
        return f(*args)
    return pack(tuple(f(*(extract(x, lane) for x in args)) for lane in range(4)))  # type: ignore[arg-type]


# Exponentials, f32

_EXP = (0.4999999325353424, 0.16666517762065433, 0.041668421844857494, 0.008369063489788695, 0.001381387952286571)
"""(eʳ − 1 − r) / r² on |r| ≤ ln 2 / 2; error of eʳ 2⁻²⁸."""

_EXP_COARSE = (0.49999216934692114, 0.1666712403091379, 0.04189229701933142, 0.008312266665935063)
"""The same to 2⁻²³."""

_EXPM1 = (0.5000000063782322, 0.16666540547297332, 0.04166627441094088, 0.008366911192815487, 0.0013947017486588855)
"""The same, weighted for the relative error of eʳ − 1: 2⁻²⁶."""

_ROUND = 12582912.0  # 1.5 · 2²³: adding it leaves the nearest integer in the low bits
_LN2_HI, _LN2_LO = 0.693359375, -2.1219444005469057e-4  # the first has 9 significant bits


def _reduce_exp(x: Expr) -> tuple[Expr, Expr]:
    """x = n · ln 2 + r: (integer whose low 9 bits are n, r)."""
    shifted = fma(x, _c(_LOG2E), _c(_ROUND))
    n = sub(shifted, _c(_ROUND))
    r = fma(n, _c(-_LN2_LO), fma(n, _c(-_LN2_HI), x))
    return bitcast(shifted, "i32"), r


def _power_of_two(n: Expr, bias: int) -> Expr:
    """2^(n + bias − 127) from the low bits of `n`; 0 where n + bias = 0."""
    return bitcast(add(binary("shl", n, _i(23)), _i(bias << 23)), "f32")


def _clamped(x: Expr, low: float, high: float) -> Expr:
    return binary("min", binary("max", x, _c(low)), _c(high))


def _exp(x: Expr) -> Expr:
    """eˣ; ≤ 1.1 ulp (1.6 unfused); results below 1.7·10⁻³⁸ are 0."""
    # 2·eʳ · 2^(n−1): the largest results have n = 128. The lower clamp is where n = −126, whose power becomes 0.
    n, r = _reduce_exp(_clamped(x, -87.33, 89.0))
    twice = _horner(r, (2.0, 2.0, *(2.0 * c for c in _EXP)))
    return mul(twice, _power_of_two(n, 126))


def _half_exp(x: Expr) -> Expr:
    """eˣ / 2 for x ≥ 0, finite where that is."""
    n, r = _reduce_exp(binary("min", x, _c(90.0)))
    return mul(_horner(r, (2.0, 2.0, *(2.0 * c for c in _EXP))), _power_of_two(n, 125))


def _sigmoid(x: Expr) -> Expr:
    """1 / (1 + e⁻ˣ); ≤ 2.5 ulp."""
    return div(_c(1.0), add(_exp(unary("neg", x)), _c(1.0)))


def _tanh(x: Expr) -> Expr:
    """−z / (z + 2) with z = e^(−2|x|) − 1; ≤ 3 ulp, tiny and subnormal x included."""
    n, r = _reduce_exp(mul(binary("min", unary("abs", x), _c(10.0)), _c(-2.0)))
    scale = _power_of_two(n, 127)
    below = fma(mul(r, r), _horner(r, _EXPM1), r)
    z = fma(scale, below, sub(scale, _c(1.0)))
    return _signed_like(div(unary("abs", z), add(z, _c(2.0))), x)


_ERF_SMALL = (
    0.12837914515071613, -0.3761246429748422, 0.11281507669045154, -0.02675543770108235,
    0.004976833276410605, -0.0005907964378831669,
)  # fmt: skip
"""erf(√u) / √u − 1 on u ≤ 0.94²; 2⁻²⁵·⁶."""

_ERF_LARGE = (
    0.00019567555353570054, 1.1276756266790202, 0.6371822466077495, 0.10393159764736316,
    -0.02222692079494319, 0.0030432175338282437, -0.0001959372549906402,
)  # fmt: skip
"""−ln(1 − erf t) on 0.92 ≤ t ≤ 3.95; 2⁻²⁹ of erf."""


def _erf(x: Expr) -> Expr:
    """x + x·P(x²) below 0.93, 1 − e^(−Q(|x|)) above; ≤ 2 ulp."""
    size = unary("abs", x)
    n, r = _reduce_exp(unary("neg", _horner(binary("min", size, _c(3.95)), _ERF_LARGE)))
    rest = mul(_horner(r, (1.0, 1.0, *_EXP_COARSE)), _power_of_two(n, 127))
    small = fma(x, _horner(mul(x, x), _ERF_SMALL), x)
    return select(binary("lt", size, _c(0.93)), small, _signed_like(sub(_c(1.0), rest), x))


_SINH = (0.1666671824670546, 0.008330211425683947, 0.00020377404318703356)
"""(sinh(√u) − √u) / √u³ on u ≤ 1; 2⁻²⁵."""


def _sinh(x: Expr) -> Expr:
    """≤ 2.5 ulp."""
    size, u = unary("abs", x), mul(x, x)
    half = _half_exp(size)
    large = _signed_like(sub(half, div(_c(0.25), half)), x)
    return select(binary("lt", size, _c(1.0)), fma(mul(x, u), _horner(u, _SINH), x), large)


def _cosh(x: Expr) -> Expr:
    """≤ 2.5 ulp."""
    half = _half_exp(unary("abs", x))
    return add(half, div(_c(0.25), half))


# Logarithm, f32

_LOG = (
    0.3333331044539437, -0.2499998657661048, 0.2000222631704429, -0.16669251804268723, 0.14218663840687976,
    -0.12384335293447317, 0.11872926011686327, -0.11789864277712386, 0.06915539459444105,
)  # fmt: skip
"""(ln(1 + f) − f + f²/2) / f³ on √½ ≤ 1 + f ≤ √2; 2⁻³⁰."""


def _log(x: Expr) -> Expr:
    """≤ 1.5 ulp, subnormal x included; −∞ at 0, NaN below."""
    tiny = binary("lt", x, _c(2.0**-126))
    bits = bitcast(select(tiny, mul(x, _c(2.0**23)), x), "i32")
    exponent = binary("shr", sub(bits, _i(0x3F3504F3)), _i(23))
    f = sub(bitcast(sub(bits, binary("shl", exponent, _i(23))), "f32"), _c(1.0))
    e = sub(cast(exponent, "f32"), select(tiny, _c(23.0), _c(0.0)))
    u = mul(f, f)
    y = fma(e, _c(_LN2_LO), mul(mul(f, u), _horner(f, _LOG)))
    result = fma(e, _c(_LN2_HI), add(f, fma(u, _c(-0.5), y)))
    outside = select(binary("eq", x, _c(0.0)), _c(-_INF), _c(math.nan))
    finite = select(binary("lt", x, _c(_INF)), result, x)
    return select(binary("gt", x, _c(0.0)), finite, outside)


# Trigonometry, f32

_SIN = (-0.16666654767701516, 0.008332166627188643, -0.00019515691851851118)
"""(sin √u − √u) / √u³ on u ≤ (π/4)²; 2⁻²⁸."""
_COS = (0.04166664656905741, -0.0013887352337782564, 2.4436648865652497e-05)
"""(cos √u − 1 + u/2) / u² on u ≤ (π/4)²; 2⁻³³."""

_HALF_PI = (1.570796012878418, 3.139164164167596e-07, 6.223372171896613e-14)
"""π/2 in parts of 22, 22 and 53 significant bits: n · part is exact in f64 for |n| < 2³¹."""


def _reduce_half_pi(x: Expr) -> tuple[Expr, Expr]:
    """f64 x = n · π/2 + r: (n as i32, r); accurate for |x| < 3·10⁹."""
    n = unary("round", mul(x, _d(2.0 / math.pi)))
    r = x
    for part in _HALF_PI:
        r = sub(r, mul(n, _d(part)))
    return cast(n, "i32"), r


def _circle(x: Expr) -> tuple[Expr, Expr, Expr]:
    """(quadrant, sine, cosine) of the reduced angle."""
    if x.lanes == 1:
        n, wide = _reduce_half_pi(cast(x, "f64"))
        r = cast(wide, "f32")
    else:
        parts = [_reduce_half_pi(cast(extract(x, lane), "f64")) for lane in range(4)]
        n = pack(tuple(p[0] for p in parts))  # type: ignore[arg-type]
        r = pack(tuple(cast(p[1], "f32") for p in parts))  # type: ignore[arg-type]
    u = mul(r, r)
    sine = fma(mul(r, u), _horner(u, _SIN), r)
    cosine = fma(mul(u, u), _horner(u, _COS), fma(u, _c(-0.5), _c(1.0)))
    return n, sine, cosine


def _odd(n: Expr) -> Expr:
    return binary("ne", binary("and", n, _i(1)), _i(0))


def _turned(n: Expr, sine: Expr, cosine: Expr) -> Expr:
    """The sine of an angle n quarter turns on."""
    flip = binary("shl", binary("and", n, _i(2)), _i(30))
    return bitcast(binary("xor", bitcast(select(_odd(n), cosine, sine), "i32"), flip), "f32")


def _sin(x: Expr) -> Expr:
    """≤ 1.5 ulp for |x| < 3·10⁹."""
    return _turned(*_circle(x))


def _cos(x: Expr) -> Expr:
    """≤ 1.5 ulp for |x| < 3·10⁹."""
    n, sine, cosine = _circle(x)
    return _turned(add(n, _i(1)), sine, cosine)


def _tan(x: Expr) -> Expr:
    """≤ 3.5 ulp for |x| < 3·10⁹."""
    n, sine, cosine = _circle(x)
    odd = _odd(n)
    quotient = div(select(odd, cosine, sine), select(odd, sine, cosine))
    return select(odd, unary("neg", quotient), quotient)


_ASIN = (0.16666753928030173, 0.07495241762579614, 0.045477099995820246, 0.02414759510050249, 0.042218576916063774)
"""(asin √u − √u) / √u³ on u ≤ 1/4; 2⁻²⁷."""


def _asin_reduced(x: Expr) -> tuple[Expr, Expr]:
    """(|x| > 1/2, asin of |x|, or of √((1 − |x|) / 2) where that is so)."""
    size = unary("abs", x)
    large = binary("gt", size, _c(0.5))
    u = select(large, mul(sub(_c(1.0), size), _c(0.5)), mul(x, x))
    t = select(large, unary("sqrt", u), size)
    return large, fma(mul(t, u), _horner(u, _ASIN), t)


def _asin(x: Expr) -> Expr:
    """≤ 2.5 ulp; NaN beyond ±1."""
    large, a = _asin_reduced(x)
    return _signed_like(select(large, fma(a, _c(-2.0), _c(math.pi / 2)), a), x)


def _acos(x: Expr) -> Expr:
    """≤ 2 ulp; NaN beyond ±1."""
    large, a = _asin_reduced(x)
    negative = binary("lt", x, _c(0.0))
    wide = select(negative, fma(a, _c(-2.0), _c(math.pi)), add(a, a))
    return select(large, wide, sub(_c(math.pi / 2), select(negative, unary("neg", a), a)))


_ATAN = (
    -0.3333330186846716, 0.1999863866061435, -0.14265245692839051, 0.10957577393824704, -0.08419461786359812,
    0.058234585890653355, -0.031455729589663445, 0.01106445267415321, -0.0018272149467884757,
)  # fmt: skip
"""(atan √u − √u) / √u³ on u ≤ 1; 2⁻²⁸."""


def _atan(x: Expr) -> Expr:
    """≤ 2.5 ulp."""
    size = unary("abs", x)
    large = binary("gt", size, _c(1.0))
    t = select(large, div(_c(1.0), size), size)
    u = mul(t, t)
    a = fma(mul(t, u), _horner(u, _ATAN), t)
    return _signed_like(select(large, sub(_c(math.pi / 2), a), a), x)


def _constant_power(x: Expr, y: Expr) -> Expr | None:
    """xʸ by multiplication or square root for the exponents that models use; ≤ 2 ulp."""
    power = y.args[0] if y.op == "splat" else y
    if power.op != "const":
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
    return simple.get(float(power.attr))  # type: ignore[arg-type]


# f64, scalar

_EXP64 = (
    0.5000000000000011, 0.1666666666666641, 0.04166666666652919, 0.008333333333495634, 0.0013888888943922786,
    0.00019841269504748457, 2.4801492762596405e-05, 2.7557587354331424e-06, 2.7630378702284223e-07,
    2.4999962283157523e-08,
)  # fmt: skip
_LOG64 = (
    0.6666666666666735, 0.3999999999941109, 0.2857142874326251, 0.22222198476009952, 0.18183569738561328,
    0.1531390327564232, 0.147975074591232,
)  # fmt: skip
_SIN64 = (
    -0.16666666666666632, 0.00833333333332237, -0.0001984126982977119, 2.755731367867063e-06,
    -2.505075596182924e-08, 1.5896666518024214e-10,
)  # fmt: skip
_COS64 = (
    0.0416666666666666, -0.0013888888888874064, 2.4801587289443553e-05, -2.755731434068073e-07,
    2.08757216266574e-09, -1.1359559483896893e-11,
)  # fmt: skip


def _l(n: int) -> Expr:
    return const(n, "i64")


def _exp64(x: Expr) -> Expr:
    """eˣ; relative error 3·10⁻¹⁶; results below 3·10⁻³⁰⁸ are 0."""
    magic = _d(6755399441055744.0)  # 1.5 · 2⁵²
    clamped = binary("min", binary("max", x, _d(-708.39)), _d(710.0))
    shifted = fma(clamped, _d(_LOG2E), magic)
    n = sub(shifted, magic)
    r = fma(n, _d(-1.90821492927058770002e-10), fma(n, _d(-6.93147180369123816490e-01), clamped))
    twice = _horner(r, (2.0, 2.0, *(2.0 * c for c in _EXP64)))
    scale = bitcast(add(binary("shl", bitcast(shifted, "i64"), _l(52)), _l(1022 << 52)), "f64")
    return mul(twice, scale)


def _log64(x: Expr) -> Expr:
    """ln x; relative error 3·10⁻¹⁶; −∞ at 0, NaN below."""
    tiny = binary("lt", x, _d(2.0**-1022))
    bits = bitcast(select(tiny, mul(x, _d(2.0**54)), x), "i64")
    exponent = binary("shr", sub(bits, _l(0x3FE6A09E667F3BCD)), _l(52))
    f = sub(bitcast(sub(bits, binary("shl", exponent, _l(52))), "f64"), _d(1.0))
    e = sub(cast(exponent, "f64"), select(tiny, _d(54.0), _d(0.0)))
    s = div(f, add(f, _d(2.0)))
    v = mul(s, s)
    y = fma(e, _d(1.90821492927058770002e-10), mul(mul(s, v), _horner(v, _LOG64)))
    result = fma(e, _d(6.93147180369123816490e-01), add(add(s, s), y))
    outside = select(binary("eq", x, _d(0.0)), _d(-_INF), _d(math.nan))
    finite = select(binary("lt", x, _d(_INF)), result, x)
    return select(binary("gt", x, _d(0.0)), finite, outside)


def _log1p64(y: Expr) -> Expr:
    """ln(1 + y), the rounding of 1 + y made good (W. Kahan's formula)."""
    u = add(y, _d(1.0))
    d = sub(u, _d(1.0))
    correction = select(binary("eq", u, _d(_INF)), _d(1.0), div(y, d))
    return select(binary("eq", d, _d(0.0)), y, mul(_log64(u), correction))


def _expm164(x: Expr) -> Expr:
    """eˣ − 1 for finite x (W. Kahan's formula)."""
    u = _exp64(x)
    d = sub(u, _d(1.0))
    inner = div(mul(d, x), _log64(u))
    usual = select(binary("lt", unary("abs", x), _d(1.0)), inner, d)
    return select(binary("eq", d, _d(0.0)), x, usual)


def _sign64(magnitude: Expr, sign: Expr) -> Expr:
    bit = binary("and", bitcast(sign, "i64"), _l(-(2**63)))
    return bitcast(binary("or", bitcast(magnitude, "i64"), bit), "f64")


def _sigmoid64(x: Expr) -> Expr:
    return div(_d(1.0), add(_exp64(unary("neg", x)), _d(1.0)))


def _tanh64(x: Expr) -> Expr:
    z = _expm164(mul(binary("min", unary("abs", x), _d(30.0)), _d(-2.0)))
    return _sign64(unary("abs", div(z, add(z, _d(2.0)))), x)


def _sinh64(x: Expr) -> Expr:
    z = _expm164(unary("abs", x))
    other = select(binary("gt", z, _d(1e18)), _d(1.0), div(z, add(z, _d(1.0))))
    return _sign64(mul(add(z, other), _d(0.5)), x)


def _cosh64(x: Expr) -> Expr:
    e = _exp64(unary("abs", x))
    return add(mul(e, _d(0.5)), div(_d(0.5), e))


def _asinh64(x: Expr) -> Expr:
    """Accurate for |x| < 10¹⁵⁴."""
    size = unary("abs", x)
    square = mul(size, size)
    y = add(size, div(square, add(unary("sqrt", add(square, _d(1.0))), _d(1.0))))
    return _sign64(_log1p64(select(binary("eq", size, _d(_INF)), size, y)), x)


def _acosh64(x: Expr) -> Expr:
    """Accurate for x < 10¹⁵⁴; NaN below 1."""
    t = sub(x, _d(1.0))
    result = _log1p64(add(t, unary("sqrt", add(add(t, t), mul(t, t)))))
    return select(binary("lt", x, _d(1.0)), _d(math.nan), result)


def _atanh64(x: Expr) -> Expr:
    """±∞ at ±1, NaN beyond."""
    size = unary("abs", x)
    return _sign64(mul(_log1p64(div(add(size, size), sub(_d(1.0), size))), _d(0.5)), x)


def _circle64(x: Expr) -> tuple[Expr, Expr, Expr]:
    n, r = _reduce_half_pi(x)
    u = mul(r, r)
    sine = fma(mul(r, u), _horner(u, _SIN64), r)
    cosine = fma(mul(u, u), _horner(u, _COS64), fma(u, _d(-0.5), _d(1.0)))
    return n, sine, cosine


def _turned64(n: Expr, sine: Expr, cosine: Expr) -> Expr:
    value = select(_odd(n), cosine, sine)
    return select(binary("ne", binary("and", n, _i(2)), _i(0)), unary("neg", value), value)


def _sin64(x: Expr) -> Expr:
    return _turned64(*_circle64(x))


def _cos64(x: Expr) -> Expr:
    n, sine, cosine = _circle64(x)
    return _turned64(add(n, _i(1)), sine, cosine)


def _tan64(x: Expr) -> Expr:
    n, sine, cosine = _circle64(x)
    odd = _odd(n)
    quotient = div(select(odd, cosine, sine), select(odd, sine, cosine))
    return select(odd, unary("neg", quotient), quotient)


def _pow64(x: Expr, y: Expr) -> Expr:
    """xʸ with C's special cases; relative error |y·ln x| · 2·10⁻¹⁶."""
    size = _exp64(mul(y, _log64(unary("abs", x))))
    whole = binary("eq", unary("trunc", y), y)
    half = mul(y, _d(0.5))
    odd = binary("and", whole, binary("ne", unary("trunc", half), half))
    negative = binary("lt", bitcast(x, "i64"), _l(0))
    signed = select(binary("and", negative, odd), unary("neg", size), size)
    infinite = binary("eq", unary("abs", y), _d(_INF))
    real = binary("or", binary("or", whole, infinite), binary("ge", x, _d(0.0)))
    defined = binary("or", real, binary("eq", x, _d(-_INF)))
    one = binary("or", binary("eq", y, _d(0.0)), binary("eq", x, _d(1.0)))
    one = binary("or", one, binary("and", infinite, binary("eq", x, _d(-1.0))))
    return select(one, _d(1.0), select(defined, signed, _d(math.nan)))


_F32: dict[str, Callable[..., Expr]] = {
    "exp": _exp, "log": _log, "tanh": _tanh, "erf": _erf, "sigmoid": _sigmoid, "sinh": _sinh, "cosh": _cosh,
    "asin": _asin, "acos": _acos, "atan": _atan,
}  # fmt: skip
_F32_BY_F64: dict[str, Callable[..., Expr]] = {"sin": _sin, "cos": _cos, "tan": _tan}
_F64: dict[str, Callable[..., Expr]] = {
    "exp": _exp64, "log": _log64, "tanh": _tanh64, "sigmoid": _sigmoid64, "sinh": _sinh64, "cosh": _cosh64,
    "asinh": _asinh64, "acosh": _acosh64, "atanh": _atanh64, "sin": _sin64, "cos": _cos64, "tan": _tan64,
    "pow": _pow64,
}  # fmt: skip
