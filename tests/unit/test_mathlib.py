"""Elementary functions on dense samples against double precision, with the errors that their docstrings promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from unit.wasm_engine import PLAIN, RELAXED, run_map

from nnjit import ir
from nnjit.errors import UnsupportedError
from nnjit.lower.mathlib import expand
from nnjit.target import Target

RNG = np.random.default_rng(3)
_erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def samples(low: float, high: float) -> np.ndarray:
    """Dense points of an interval, its ends, and points of every magnitude within it."""
    even = np.linspace(low, high, 40001)
    sizes = 10.0 ** RNG.uniform(-44, 38, 20000) * RNG.choice([-1, 1], 20000)
    edges = [low, high, 0.0, -0.0, 0.5, 1.0, -1.0, 0.93, np.nextafter(np.float32(1), 0)]
    x = np.concatenate([even, sizes, edges]).astype(np.float32)
    return x[(x >= np.float32(low)) & (x <= np.float32(high))]


# name: (float64 reference, interval, promised error in ulp)
FUNCTIONS = {
    "exp": (np.exp, (-110.0, 95.0), 1.1),
    "exp_nonpositive": (np.exp, (-110.0, 0.0), 1.1),
    "log": (np.log, (0.0, 3.4e38), 1.0),
    "tanh": (np.tanh, (-20.0, 20.0), 6.0),
    "erf": (_erf, (-6.0, 6.0), 6.0),
    "sigmoid": (sigmoid, (-86.0, 100.0), 2.5),
    "sin": (np.sin, (-1e6, 1e6), 1.5),
    "cos": (np.cos, (-1e6, 1e6), 1.5),
    "tan": (np.tan, (-1e6, 1e6), 3.5),
    "asin": (np.arcsin, (-1.0, 1.0), 2.5),
    "acos": (np.arccos, (-1.0, 1.0), 1.5),
    "atan": (np.arctan, (-3.4e38, 3.4e38), 2.0),
    "sinh": (np.sinh, (-95.0, 95.0), 1.5),
    "cosh": (np.cosh, (-95.0, 95.0), 1.5),
    "asinh": (np.arcsinh, (-3.4e38, 3.4e38), 2.5),
    "acosh": (np.arccosh, (1.0, 3.4e38), 2.5),
    "atanh": (np.arctanh, (-1.0, 1.0), 2.5),
}
SMALLEST = 1.7e-38
GPU = Target(device="webgpu")


def apply(
    name: str, *xs: np.ndarray, lanes: int = 4, target: Target = RELAXED, formulas: Target = RELAXED
) -> np.ndarray:
    """The function `name`, with the formulas for one target, run on Wasm."""

    def call(*args: ir.Expr) -> ir.Expr:
        call = ir.binary(name, *args) if len(args) == 2 else ir.unary(name, *args)
        return expand(call, formulas)

    dtype = "f64" if xs[0].dtype == np.float64 else "f32"
    return run_map(call, *xs, dtype=dtype, lanes=lanes, target=target)


def worst_ulp(y: np.ndarray, exact: np.ndarray) -> float:
    """Largest error in units of the last place; results too small for a normal number may be 0."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    overflowed = np.isinf(rounded)
    np.testing.assert_array_equal(y[overflowed], rounded[overflowed])
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    plain = np.isfinite(rounded)
    flushed = plain & (np.abs(exact) < SMALLEST) & (y == 0)
    plain &= ~flushed
    error = np.abs(y[plain].astype(np.float64) - exact[plain]) / np.spacing(np.abs(rounded[plain]))
    return float(error.max())


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("target", [RELAXED, PLAIN], ids=["relaxed", "plain"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_what_the_docstring_promises(name: str, target: Target, lanes: int) -> None:
    reference, interval, promised = FUNCTIONS[name]
    x = samples(*interval)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.float64))
    assert worst_ulp(apply(name, x, lanes=lanes, target=target), exact) <= promised


@pytest.mark.parametrize("lanes", [1, 4])
def test_erf_of_a_quotient_by_a_constant(lanes: int) -> None:
    x = samples(-8.0, 8.0)
    root = np.float32(math.sqrt(2))
    y = run_map(
        lambda v: expand(ir.unary("erf", ir.div(v, ir.const(float(root), "f32"))), RELAXED),
        x, dtype="f32", lanes=lanes, target=RELAXED,
    )  # fmt: skip
    assert worst_ulp(y, _erf(x.astype(np.float64) / np.float64(root))) <= 7


@pytest.mark.parametrize("name", ["tanh", "erf"])
@pytest.mark.parametrize("target", [RELAXED, PLAIN], ids=["relaxed", "plain"])
def test_saturated_functions_are_exactly_one(name: str, target: Target) -> None:
    x = np.array([9.1, 20.0, 3e38, math.inf], np.float32)
    np.testing.assert_array_equal(apply(name, np.concatenate([x, -x]), target=target), np.repeat([1, -1], 4))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_formulas_without_double_precision_keep_the_promise(name: str) -> None:
    reference, (low, high), promised = FUNCTIONS[name]
    if name in ("sin", "cos", "tan"):
        low, high = -30.0, 30.0
    x = samples(low, high)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.float64))
    assert worst_ulp(apply(name, x, target=PLAIN, formulas=GPU), exact) <= promised


def test_angles_to_25000_without_double_precision() -> None:
    x = samples(-25000, 25000)
    for name, reference in (("sin", np.sin), ("cos", np.cos)):
        y = apply(name, x, target=PLAIN, formulas=GPU)
        np.testing.assert_allclose(y, reference(x.astype(np.float64)), rtol=0, atol=2e-7)


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-45, -1e-45, 3e38, -3e38], np.float32
)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("exp_nonpositive", "sin", "cos", "tan")])
def test_special_values(name: str, lanes: int) -> None:
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name][0](SPECIAL.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(apply(name, SPECIAL, lanes=lanes), exact, rtol=1e-6, atol=1e-44)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_trigonometry_of_what_is_not_finite(name: str) -> None:
    assert np.isnan(apply(name, np.array([np.nan, np.inf, -np.inf], np.float32))).all()


@pytest.mark.parametrize("name", ["tanh", "erf", "sinh", "asin", "atan", "asinh", "atanh", "tan", "sin"])
def test_odd_functions_keep_tiny_arguments(name: str) -> None:
    tiny = np.array([1e-45, -1e-40, 1e-38, -1e-30, 1e-10], np.float32)
    scale = 2 / math.sqrt(math.pi) if name == "erf" else 1.0
    np.testing.assert_allclose(apply(name, tiny), tiny * np.float32(scale), rtol=2e-7, atol=2e-45)


@pytest.mark.parametrize("name", ["exp", "exp_nonpositive"])
@pytest.mark.parametrize("formulas", [RELAXED, PLAIN, GPU], ids=["relaxed", "plain", "gpu"])
def test_exp_of_minus_infinity_is_exactly_zero(formulas: Target, name: str) -> None:
    low = np.array([-np.inf, -3.4e38, -1e30, -104.0, -89.0], np.float32)
    assert (apply(name, low, target=PLAIN, formulas=formulas) == 0).all()


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("formulas", [RELAXED, PLAIN, GPU], ids=["relaxed", "plain", "gpu"])
def test_exp_of_what_is_not_positive_keeps_nan_and_is_one_at_zero(formulas: Target, lanes: int) -> None:
    x = np.array([np.nan, -np.nan, 0.0, -0.0, -1e-45, -1.0, -np.inf, -88.0], np.float32)
    y = apply("exp_nonpositive", x, lanes=lanes, target=PLAIN, formulas=formulas)
    np.testing.assert_allclose(y, [np.nan, np.nan, 1, 1, 1, math.exp(-1), 0, 0], rtol=1e-7, atol=SMALLEST)


@pytest.mark.parametrize("lanes", [1, 4])
def test_pow_on_random_pairs(lanes: int) -> None:
    x = (10.0 ** RNG.uniform(-10, 10, 20000)).astype(np.float32)
    y = RNG.uniform(-4, 4, 20000).astype(np.float32)
    exact = x.astype(np.float64) ** y.astype(np.float64)
    keep = np.abs(exact) > 1e-37
    assert worst_ulp(apply("pow", x, y, lanes=lanes)[keep], exact[keep]) <= 0.6


@pytest.mark.parametrize("formulas", [RELAXED, GPU], ids=["wasm", "gpu"])
def test_pow_of_special_pairs(formulas: Target) -> None:
    values = np.array([-np.inf, -3, -2, -1, -0.5, 0.0, 0.5, 1, 2, 3, np.inf, np.nan], np.float32)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(apply("pow", x, y, formulas=formulas), exact, rtol=1e-6)


def test_pow_without_double_precision() -> None:
    x = (10.0 ** RNG.uniform(-37, 38, 40000)).astype(np.float32)
    y = (RNG.choice([-1, 1], 40000) * 10.0 ** RNG.uniform(-2, 2, 40000)).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = x.astype(np.float64) ** y.astype(np.float64)
    keep = (np.abs(exact) > 1e-37) & (np.abs(exact) < 3.4e38)
    result = apply("pow", x[keep], y[keep], target=PLAIN, formulas=GPU)
    bound = 2 + np.abs(y[keep]) / 2
    ulps = np.abs(result - exact[keep]) / np.spacing(np.abs(exact[keep].astype(np.float32)))
    assert (ulps <= bound).all()


@pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0])
def test_pow_with_a_constant_exponent(exponent: float) -> None:
    x = np.abs(samples(-100, 100))
    x = x[x > 1e-6]
    y = run_map(lambda v: expand(ir.binary("pow", v, ir.const(exponent, "f32")), RELAXED), x)
    assert worst_ulp(y, x.astype(np.float64) ** exponent) <= 2


DOUBLE = {
    "exp": (np.exp, -700, 709), "log": (np.log, 0, 1e300), "tanh": (np.tanh, -25, 25),
    "sigmoid": (sigmoid, -700, 700), "sinh": (np.sinh, -700, 700), "cosh": (np.cosh, -700, 700),
    "asinh": (np.arcsinh, -1e150, 1e150), "acosh": (np.arccosh, 1, 1e150), "atanh": (np.arctanh, -1, 1),
    "sin": (np.sin, -1e5, 1e5), "cos": (np.cos, -1e5, 1e5), "tan": (np.tan, -1e5, 1e5),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBLE)
def test_double_precision_to_twelve_digits(name: str) -> None:
    reference, low, high = DOUBLE[name]
    sizes = 10.0 ** RNG.uniform(-12, 4, 4000) * RNG.choice([-1, 1], 4000)
    x = np.concatenate([np.linspace(low, high, 4001), sizes, RNG.uniform(-3, 3, 2000)])
    x = x[(x >= low) & (x <= high)]
    with np.errstate(all="ignore"):
        exact = reference(x)
    np.testing.assert_allclose(apply(name, x, lanes=1), exact, rtol=1e-12, atol=1e-307)


def test_double_precision_error_function_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="double precision"):
        expand(ir.unary("erf", ir.const(1.0, "f64")), PLAIN)


def test_native_intrinsics_are_left_alone() -> None:
    x = ir.local("x", "f32")
    e = ir.add(ir.unary("exp", x), ir.unary("erf", x))
    expanded = expand(e, GPU, frozenset(("exp",)))
    assert expanded.args[0] is e.args[0] and expanded.args[1].op != "erf"


def test_intrinsics_inside_an_index_are_expanded() -> None:
    position = ir.cast(ir.unary("exp", ir.local("x", "f32")), "i32")
    at = ir.value_index(position) + 1
    (atom,) = (a for mono in expand(ir.load("b", at, "f32"), PLAIN).attr[1].terms for a in mono)  # type: ignore[index]
    assert "exp(" not in str(atom.args[0])
