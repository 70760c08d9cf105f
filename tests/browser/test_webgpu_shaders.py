"""Emitted WGSL against numpy, on a real WebGPU device (the software adapter where there is no GPU)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nnjit import ir
from nnjit.ir import TASK, Assign, Barrier, Buffer, Declare, For, If, Kernel, Store
from nnjit.lower.blocked import lower_blocked
from nnjit.lower.mathlib import expand
from nnjit.lower.spec import KernelSpec, Reduce, Stage, StoreTo
from nnjit.schedule.schedule import Schedule
from nnjit.symbolic import floordiv, maximum, minimum, mod, var
from nnjit_build.server import SiteServer

from .shaders import PAGE, STORED, TARGET, ShaderRunner

if TYPE_CHECKING:
    from playwright.sync_api import Page

FLOATS = np.array(
    [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e-3, -7.25, 3.9999, 123456.7, -1e20, 1e20, 8.5, -3.0],
    np.float32,
)
OTHERS = np.array(
    [1.0, 2.0, -0.5, 1.5, 3.0, 0.25, -1.5, 2.0, 1e-2, 7.25, -4.0, 3.0, 1e10, 2e10, -8.5, 3.0], np.float32
)
INTS = np.array([0, 1, -1, 7, -7, 100, -100, 2**31 - 1, -(2**31), 12345, -12345, 6, 5, 4, 3, 2], np.int32)
DIVISORS = np.array([1, 2, 3, 2, 2, -7, 7, 10, 3, -100, 100, 1, 2, 3, 4, 5], np.int32)
UNSIGNED = np.array([0, 1, 2**32 - 1, 7, 9, 100, 2**31, 2**31 - 1, 3, 12, 45, 6, 5, 4, 3, 2], np.uint32)
BOOLS = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1], np.uint32)
BOOLS2 = np.array([0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0], np.uint32)


@pytest.fixture(scope="module")
def gpu(module_page: Page, site: SiteServer) -> ShaderRunner:
    return ShaderRunner(module_page, site.publish("shaders.html", PAGE))


def elementwise(
    gpu: ShaderRunner,
    compute: Callable[..., ir.Expr],
    inputs: list[tuple[str, np.ndarray]],
    dtype: str,
    lanes: int,
    unaligned: bool = False,
) -> np.ndarray:
    """compute(x0, x1, …) over all elements, `lanes` a task; `inputs` are (compute dtype, array in storage)."""
    count = inputs[0][1].size
    shift = 1 if unaligned else 0
    at = TASK * lanes + shift
    names = [f"x{i}" for i in range(len(inputs))]
    loads = [ir.load(n, at, d, lanes) for n, (d, _) in zip(names, inputs, strict=True)]
    stored = {"bool": "u32", "i64": "i32"}.get(dtype, dtype)
    kinds = {np.dtype(v): k for k, v in STORED.items()}
    buffers = [Buffer(n, kinds[a.dtype], "r") for n, (_, a) in zip(names, inputs, strict=True)]
    kernel = Kernel(
        "elementwise",
        [*buffers, Buffer("out", stored, "w")],
        [],
        count // lanes,
        [Store("out", at, compute(*loads))],
    )
    arrays = {n: np.concatenate([a[:1]] * shift + [a]) for n, (_, a) in zip(names, inputs, strict=True)}
    arrays["out"] = np.zeros(count + shift, STORED[stored])
    return gpu.run(kernel, arrays)["out"][shift:]


def unary(op: str) -> Callable[[ir.Expr], ir.Expr]:
    return lambda x: ir.unary(op, x)


def binary(op: str) -> Callable[[ir.Expr, ir.Expr], ir.Expr]:
    return lambda a, b: ir.binary(op, a, b)


both_widths = pytest.mark.parametrize("lanes", [1, 4])

FLOAT_UNARY = {
    "neg": np.negative, "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc,
}  # fmt: skip


@both_widths
@pytest.mark.parametrize("op", FLOAT_UNARY)
def test_a_unary_float_operation_is_exact(gpu: ShaderRunner, op: str, lanes: int) -> None:
    got = elementwise(gpu, unary(op), [("f32", FLOATS)], "f32", lanes)
    np.testing.assert_array_equal(got, FLOAT_UNARY[op](FLOATS))


@both_widths
def test_a_square_root_is_accurate(gpu: ShaderRunner, lanes: int) -> None:
    x = np.linspace(0.0, 40, 64, dtype=np.float32)
    got = elementwise(gpu, unary("sqrt"), [("f32", x)], "f32", lanes)
    np.testing.assert_allclose(got, np.sqrt(x.astype(np.float64)), rtol=2e-7)


ON_A_GPU = {
    "exp": (np.linspace(-80, 80, 256), 3e-7),
    "log": (np.linspace(0.01, 3, 256), 3e-7),
    "tanh": (np.linspace(-30, 30, 256), 5e-7),
    "sigmoid": (np.linspace(-30, 30, 256), 5e-7),
    "erf": (np.linspace(-5, 5, 256), 5e-7),
    "sin": (np.linspace(-100, 100, 256), 2e-5),
    "cos": (np.linspace(-100, 100, 256), 2e-5),
}
EXACT = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": np.vectorize(math.erf),
}


@both_widths
@pytest.mark.parametrize("op", ON_A_GPU)
def test_an_expanded_function_is_accurate_on_the_gpu(gpu: ShaderRunner, op: str, lanes: int) -> None:
    values, tolerance = ON_A_GPU[op]
    x = values.astype(np.float32)
    got = elementwise(gpu, lambda e: expand(ir.unary(op, e), TARGET), [("f32", x)], "f32", lanes)
    exact = EXACT.get(op) or getattr(np, op)
    np.testing.assert_allclose(got, exact(x.astype(np.float64)), rtol=tolerance, atol=1e-7)


def test_exp_of_large_numbers_is_infinite_and_of_small_ones_zero(gpu: ShaderRunner) -> None:
    x = np.array([100, 1000, -200, -np.inf], np.float32)
    got = elementwise(gpu, lambda e: expand(ir.unary("exp", e), TARGET), [("f32", x)], "f32", 1)
    np.testing.assert_array_equal(got, [np.inf, np.inf, 0.0, 0.0])


FLOAT_BINARY: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "pmin": np.minimum, "pmax": np.maximum,
}  # fmt: skip


@both_widths
@pytest.mark.parametrize("op", FLOAT_BINARY)
def test_a_binary_float_operation_is_exact(gpu: ShaderRunner, op: str, lanes: int) -> None:
    dtype = "bool" if op in ir.COMPARISONS else "f32"
    got = elementwise(gpu, binary(op), [("f32", FLOATS), ("f32", OTHERS)], dtype, lanes)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, FLOAT_BINARY[op](FLOATS, OTHERS))


def test_a_shuffle_takes_lanes_of_both_operands(gpu: ShaderRunner) -> None:
    got = elementwise(
        gpu, lambda a, b: ir.shuffle(a, b, (3, 4, 0, 6)), [("f32", FLOATS), ("f32", OTHERS)], "f32", 4
    )
    both = np.concatenate([FLOATS.reshape(-1, 4), OTHERS.reshape(-1, 4)], axis=1)
    np.testing.assert_array_equal(got, both[:, [3, 4, 0, 6]].ravel())


@both_widths
def test_float_division_is_accurate(gpu: ShaderRunner, lanes: int) -> None:
    got = elementwise(gpu, binary("div"), [("f32", FLOATS), ("f32", OTHERS)], "f32", lanes)
    np.testing.assert_allclose(got, FLOATS / OTHERS, rtol=3e-7)


@both_widths
def test_fma_is_a_product_plus_a_term(gpu: ShaderRunner, lanes: int) -> None:
    got = elementwise(gpu, lambda a, b: ir.fma(a, b, a), [("f32", OTHERS), ("f32", OTHERS)], "f32", lanes)
    exact = OTHERS.astype(np.float64)
    np.testing.assert_allclose(got, exact * exact + exact, rtol=1e-6)


INT_BINARY: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
    "div": lambda a, b: np.trunc(a.astype(np.float64) / b).astype(a.dtype),
    "rem": lambda a, b: np.fmod(a, b),
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


@both_widths
@pytest.mark.parametrize("dtype", ["i32", "u32", "i64"])
@pytest.mark.parametrize("op", INT_BINARY)
def test_an_integer_operation_wraps_and_truncates(gpu: ShaderRunner, op: str, dtype: str, lanes: int) -> None:
    a, b = (UNSIGNED, np.abs(DIVISORS).astype(np.uint32)) if dtype == "u32" else (INTS, DIVISORS)
    result = "bool" if op in ir.COMPARISONS else dtype
    got = elementwise(gpu, binary(op), [(dtype, a), (dtype, b)], result, lanes)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, INT_BINARY[op](a, b))


@both_widths
@pytest.mark.parametrize("dtype", ["i32", "u32"])
@pytest.mark.parametrize("op", ["shl", "shr"])
def test_shifts_take_the_count_from_data_or_from_a_constant(
    gpu: ShaderRunner, op: str, dtype: str, lanes: int
) -> None:
    a = UNSIGNED if dtype == "u32" else INTS
    counts = (np.arange(16) * 2).astype(a.dtype)
    shift = np.left_shift if op == "shl" else np.right_shift
    got = elementwise(gpu, binary(op), [(dtype, a), (dtype, counts)], dtype, lanes)
    np.testing.assert_array_equal(got, shift(a, counts))
    got = elementwise(gpu, lambda x: ir.binary(op, x, ir.const(5, dtype)), [(dtype, a)], dtype, lanes)
    np.testing.assert_array_equal(got, shift(a, a.dtype.type(5)))


@both_widths
@pytest.mark.parametrize("dtype", ["i32", "u32"])
def test_unary_integer_operations(gpu: ShaderRunner, dtype: str, lanes: int) -> None:
    a = UNSIGNED if dtype == "u32" else INTS
    np.testing.assert_array_equal(elementwise(gpu, unary("not"), [(dtype, a)], dtype, lanes), ~a)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(
            elementwise(gpu, unary("neg"), [(dtype, a)], dtype, lanes),
            a * a.dtype.type(-1 % 2**32 if dtype == "u32" else -1),
        )
        np.testing.assert_array_equal(elementwise(gpu, unary("abs"), [(dtype, a)], dtype, lanes), np.abs(a))


@both_widths
def test_bools_are_stored_as_zero_or_one(gpu: ShaderRunner, lanes: int) -> None:
    pair = [("bool", BOOLS), ("bool", BOOLS2)]
    a, b = BOOLS.astype(bool), BOOLS2.astype(bool)
    for op, expected in {"and": a & b, "or": a | b, "xor": a ^ b, "eq": a == b, "ne": a != b}.items():
        np.testing.assert_array_equal(elementwise(gpu, binary(op), pair, "bool", lanes), expected, op)
    np.testing.assert_array_equal(elementwise(gpu, unary("not"), pair[:1], "bool", lanes), ~a)


@both_widths
def test_select_takes_the_first_value_where_the_condition_holds(gpu: ShaderRunner, lanes: int) -> None:
    got = elementwise(
        gpu,
        lambda c, a, b: ir.select(c, a, b),
        [("bool", BOOLS), ("f32", FLOATS), ("f32", OTHERS)],
        "f32",
        lanes,
    )
    np.testing.assert_array_equal(got, np.where(BOOLS, FLOATS, OTHERS))


# A float too large becomes the largest integer that is a float as well.
CASTS = [
    ("f32", "i32", np.array([0.9, -0.9, 2.5, -2.5, 1e6, -1e6, 3e9, -3e9], np.float32), [0, 0, 2, -2, 10**6, -(10**6), 2147483520, -(2**31)]),
    ("f32", "u32", np.array([0.9, 2.5, 3e9, 7.0], np.float32), [0, 2, 3 * 10**9, 7]),
    ("f32", "bool", np.array([0.0, -0.0, 0.5, -1.0], np.float32), [0, 0, 1, 1]),
    ("i32", "f32", np.array([0, 1, -1, 2**24], np.int32), [0.0, 1.0, -1.0, 2.0**24]),
    ("u32", "f32", np.array([0, 1, 2**31, 7], np.uint32), [0.0, 1.0, 2.0**31, 7.0]),
    ("i32", "bool", np.array([0, 1, -1, 256], np.int32), [0, 1, 1, 1]),
    ("i32", "u32", np.array([0, 1, -1, 256], np.int32), [0, 1, 2**32 - 1, 256]),
    ("u32", "i64", np.array([0, 1, 5, 256], np.uint32), [0, 1, 5, 256]),
    ("bool", "f32", np.array([0, 1, 1, 0], np.uint32), [0.0, 1.0, 1.0, 0.0]),
    ("bool", "i64", np.array([0, 1, 1, 0], np.uint32), [0, 1, 1, 0]),
    ("i64", "i32", np.array([0, 1, -1, 256], np.int32), [0, 1, -1, 256]),
]  # fmt: skip


@both_widths
@pytest.mark.parametrize(("source", "to", "values", "expected"), CASTS, ids=[f"{c[0]}-{c[1]}" for c in CASTS])
def test_a_cast_converts_the_value(
    gpu: ShaderRunner, source: str, to: str, values: np.ndarray, expected: list, lanes: int
) -> None:
    got = elementwise(gpu, lambda x: ir.cast(x, to), [(source, values)], to, lanes)
    np.testing.assert_array_equal(got, np.array(expected, got.dtype))


@both_widths
def test_a_bitcast_keeps_the_bits(gpu: ShaderRunner, lanes: int) -> None:
    got = elementwise(gpu, lambda x: ir.bitcast(x, "i32"), [("f32", FLOATS)], "i32", lanes)
    np.testing.assert_array_equal(got, FLOATS.view(np.int32))
    got = elementwise(gpu, lambda x: ir.bitcast(x, "f32"), [("i32", FLOATS.view(np.int32))], "f32", lanes)
    np.testing.assert_array_equal(got.view(np.int32), FLOATS.view(np.int32))


@both_widths
def test_vector_access_need_not_be_aligned(gpu: ShaderRunner, lanes: int) -> None:
    got = elementwise(gpu, unary("neg"), [("f32", FLOATS)], "f32", lanes, unaligned=True)
    np.testing.assert_array_equal(got, -FLOATS)


def test_lanes_can_be_packed_and_extracted(gpu: ShaderRunner) -> None:
    def reverse(x: ir.Expr) -> ir.Expr:
        return ir.pack(tuple(ir.extract(x, lane) for lane in (3, 2, 1, 0)))  # type: ignore[arg-type]

    got = elementwise(gpu, reverse, [("f32", FLOATS)], "f32", 4)
    np.testing.assert_array_equal(got.reshape(4, 4), FLOATS.reshape(4, 4)[:, ::-1])


@both_widths
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e-38, 3.4028235e38, 0.1, -2.0, 1e39])
def test_a_float_constant_arrives_as_written(gpu: ShaderRunner, value: float, lanes: int) -> None:
    def compute(x: ir.Expr) -> ir.Expr:
        return ir.select(ir.binary("eq", x, x), ir.const(value, "f32"), x)

    got = elementwise(gpu, compute, [("f32", FLOATS)], "f32", lanes)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, np.full(16, value, np.float32))


@both_widths
def test_nan_is_found_by_comparing_a_value_with_itself(gpu: ShaderRunner, lanes: int) -> None:
    x = np.array([1.0, np.nan, np.inf, -np.inf, -np.nan, 0.0, -1.0, np.nan], np.float32)
    got = elementwise(gpu, lambda x: ir.binary("ne", x, x), [("f32", x)], "bool", lanes)
    np.testing.assert_array_equal(got, np.isnan(x))
    got = elementwise(gpu, lambda x: ir.binary("eq", x, x), [("f32", x)], "bool", lanes)
    np.testing.assert_array_equal(got, ~np.isnan(x))


def test_a_nan_constant_is_nan(gpu: ShaderRunner) -> None:
    got = elementwise(gpu, lambda x: ir.add(x, ir.const(float("nan"), "f32")), [("f32", FLOATS)], "f32", 1)
    assert np.isnan(got).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ir.div(ir.const(1.0, "f32"), ir.const(0.0, "f32")),
        lambda: ir.mul(ir.const(1e30, "f32"), ir.const(1e30, "f32")),
        lambda: ir.unary("neg", ir.div(ir.const(-1.0, "f32"), ir.const(0.0, "f32"))),
    ],
)
def test_constants_that_overflow_are_computed_at_run_time(
    gpu: ShaderRunner, make: Callable[[], ir.Expr]
) -> None:
    got = elementwise(gpu, lambda x: ir.binary("max", x, make()), [("f32", FLOATS)], "f32", 1)
    np.testing.assert_array_equal(got, np.full(16, np.inf, np.float32))


def test_dividing_by_a_constant_zero_compiles(gpu: ShaderRunner) -> None:
    def compute(x: ir.Expr) -> ir.Expr:
        quotient = ir.binary("div", x, ir.const(0, "i32"))
        return ir.select(ir.binary("ge", quotient, quotient), x, quotient)

    np.testing.assert_array_equal(elementwise(gpu, compute, [("i32", INTS)], "i32", 1), INTS)


def test_integers_that_stand_for_no_limit_saturate(gpu: ShaderRunner) -> None:
    got = elementwise(
        gpu, lambda x: ir.binary("min", x, ir.const(2**63 - 1, "i64")), [("i64", INTS)], "i64", 1
    )
    np.testing.assert_array_equal(got, INTS)


@pytest.mark.parametrize(
    ("storage", "dtype"), [("u8", np.uint8), ("i8", np.int8), ("u16", np.uint16), ("i16", np.int16)]
)
@both_widths
def test_a_store_to_a_narrow_integer_wraps(gpu: ShaderRunner, storage: str, dtype: type, lanes: int) -> None:
    x = np.array([0, 1, -1, 127, 128, 255, 256, 300, -300, 32768, 65535, 70000, 5, 6, 7, 8], np.int32)
    kernel = Kernel(
        "narrow",
        [Buffer("x", "i32", "r"), Buffer("out", storage, "w")],
        [],
        16 // lanes,
        [Store("out", TASK * lanes, ir.load("x", TASK * lanes, "i32", lanes))],
    )
    got = gpu.run(kernel, {"x": x, "out": np.zeros(16, np.int32)})["out"]
    np.testing.assert_array_equal(got, x.astype(dtype).astype(np.int32))


# Indices, loops and control flow


def index_kernel(at: ir.Index, symbols: list[str], count: ir.Index) -> Kernel:
    return Kernel("indices", [Buffer("out", "i32", "w")], symbols, count, [Store("out", TASK, ir.index(at))])


@pytest.mark.parametrize("divisor", [3, 4, "s0"])
def test_index_division_and_remainder_round_down(gpu: ShaderRunner, divisor: int | str) -> None:
    d = var(divisor) if isinstance(divisor, str) else divisor
    value = 5 if isinstance(divisor, str) else divisor
    i = np.arange(40)
    cases = {
        "positive": (floordiv(TASK, d) * 100 + mod(TASK, d), i // value * 100 + i % value),
        "negative": (
            floordiv(TASK - 20, d) * 100 + mod(TASK - 20, d),
            (i - 20) // value * 100 + (i - 20) % value,
        ),
    }
    for name, (at, expected) in cases.items():
        got = gpu.run(index_kernel(at, ["s0"], 40), {"out": np.zeros(40, np.int32)}, {"s0": 5})["out"]
        np.testing.assert_array_equal(got, expected, name)


def test_indices_are_polynomials_of_tasks_and_symbols(gpu: ShaderRunner) -> None:
    s0, s1 = var("s0"), var("s1")
    at = s0 * s1 * 3 - TASK * 2 + TASK * s1 - 7 + minimum(TASK, s0) - maximum(TASK * 2, s1)
    got = gpu.run(index_kernel(at, ["s0", "s1"], s0 * 4), {"out": np.zeros(20, np.int32)}, {"s0": 5, "s1": 9})
    i = np.arange(20)
    np.testing.assert_array_equal(
        got["out"], 5 * 9 * 3 - 2 * i + 9 * i - 7 + np.minimum(i, 5) - np.maximum(2 * i, 9)
    )


def test_an_index_may_be_a_value_that_was_loaded(gpu: ShaderRunner) -> None:
    ids = np.array([3, 0, 2, 2, 1], np.int32)
    table = np.arange(32, dtype=np.float32).reshape(4, 8)
    row = ir.value_index(ir.load("ids", TASK, "i64"))
    j = var("j")
    body = [For("j", 2, [Store("out", TASK * 8 + j * 4, ir.load("table", row * 8 + j * 4, "f32", 4))])]
    kernel = Kernel(
        "gather",
        [Buffer("ids", "i64", "r"), Buffer("table", "f32", "r"), Buffer("out", "f32", "w")],
        [],
        5,
        body,
    )
    got = gpu.run(kernel, {"ids": ids, "table": table, "out": np.zeros((5, 8), np.float32)})["out"]
    np.testing.assert_array_equal(got, table[ids])


def matmul_kernel(m: ir.Index, n: ir.Index, k: ir.Index, symbols: list[str]) -> Kernel:
    row, column = floordiv(TASK, n), mod(TASK, n)
    body = [
        Declare("sum", ir.const(0.0, "f32")),
        For(
            "p",
            k,
            [
                Assign(
                    "sum",
                    ir.fma(
                        ir.load("a", row * k + var("p"), "f32"),
                        ir.load("b", var("p") * n + column, "f32"),
                        ir.local("sum", "f32"),
                    ),
                )
            ],
        ),
        Store("c", TASK, ir.local("sum", "f32")),
    ]
    buffers = [Buffer("a", "f32", "r"), Buffer("b", "f32", "r"), Buffer("c", "f32", "w")]
    return Kernel("matmul", buffers, symbols, m * n, body)


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_matrix_product(gpu: ShaderRunner, symbolic: bool) -> None:
    rng = np.random.default_rng(0)
    m, n, k = 7, 13, 21
    a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((m, k), (k, n)))
    symbols = {"m": m, "n": n, "k": k}
    kernel = matmul_kernel(*map(var, "mnk"), list("mnk")) if symbolic else matmul_kernel(m, n, k, [])
    got = gpu.run(kernel, {"a": a, "b": b, "c": np.zeros((m, n), np.float32)}, symbols)["c"]
    np.testing.assert_allclose(got, a @ b, rtol=1e-5, atol=1e-5)


def test_a_register_tiled_matrix_product_with_aligned_vectors(gpu: ShaderRunner) -> None:
    rng = np.random.default_rng(1)
    m, n, k = 8, 16, 12
    a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((m, k), (k, n)))
    row, column = floordiv(TASK, n // 4) * 4, mod(TASK, n // 4) * 4
    p = var("p")
    accumulators = [ir.local(f"c{i}", "f32", 4) for i in range(4)]
    loop: list[ir.Stmt] = [Declare("bv", ir.load("b", p * n + column, "f32", 4))]
    for i in range(4):
        x = ir.load("a", (row + i) * k + p, "f32")
        loop.append(Assign(f"c{i}", ir.fma(ir.splat(x), ir.local("bv", "f32", 4), accumulators[i])))
    body: list[ir.Stmt] = [Declare(f"c{i}", ir.splat(ir.const(0.0, "f32"))) for i in range(4)]
    body.append(For("p", k, loop))
    body += [Store("c", (row + i) * n + column, ir.unary("neg", accumulators[i])) for i in range(4)]
    buffers = [Buffer("a", "f32", "r"), Buffer("b", "f32", "r"), Buffer("c", "f32", "w")]
    kernel = Kernel("tiled", buffers, [], m * n // 16, body)
    got = gpu.run(kernel, {"a": a, "b": b, "c": np.zeros((m, n), np.float32)})["c"]
    np.testing.assert_allclose(got, -(a @ b), rtol=1e-5, atol=1e-5)


def test_only_the_taken_branch_stores(gpu: ShaderRunner) -> None:
    condition = ir.binary("lt", ir.index(mod(TASK, 3)), ir.const(1, "i32"))
    body = [
        If(
            condition,
            [Store("out", TASK, ir.const(1.0, "f32"))],
            [
                If(
                    ir.binary("gt", ir.index(TASK), ir.const(5, "i32")),
                    [Store("out", TASK, ir.const(2.0, "f32"))],
                    [],
                )
            ],
        )
    ]
    kernel = Kernel("branches", [Buffer("out", "f32", "w")], [], 10, body)
    i = np.arange(10)
    got = gpu.run(kernel, {"out": np.zeros(10, np.float32)})["out"]
    np.testing.assert_array_equal(got, np.where(i % 3 < 1, 1, np.where(i > 5, 2, 0)))


def test_a_load_after_a_store_sees_the_new_value(gpu: ShaderRunner) -> None:
    x = ir.load("x", TASK, "f32")
    body = [Store("x", TASK, ir.add(x, x)), Store("x", TASK, ir.add(x, ir.const(1.0, "f32")))]
    kernel = Kernel("twice", [Buffer("x", "f32", "rw")], [], 16, body)
    np.testing.assert_array_equal(gpu.run(kernel, {"x": OTHERS})["x"], OTHERS * 2 + 1)


def test_a_kernel_may_have_no_task(gpu: ShaderRunner) -> None:
    kernel = Kernel(
        "none", [Buffer("out", "f32", "w")], ["s0"], var("s0"), [Store("out", TASK, ir.const(1.0, "f32"))]
    )
    got = gpu.run(kernel, {"out": np.zeros(4, np.float32)}, {"s0": 1})["out"]
    np.testing.assert_array_equal(got, [1, 0, 0, 0])


def test_more_workgroups_than_one_dimension_holds(gpu: ShaderRunner) -> None:
    groups, group = 65535 + 16, 64
    number = floordiv(
        TASK, group
    )  # All of a workgroup write one element, so that there is less to read back.
    kernel = Kernel(
        "many", [Buffer("out", "i32", "w")], [], groups * group, [Store("out", number, ir.index(number * 3))]
    )
    got = gpu.run(kernel, {"out": np.zeros(groups, np.int32)})["out"]
    np.testing.assert_array_equal(got, np.arange(groups, dtype=np.int32) * 3)


@pytest.mark.parametrize("workgroup", [16, 64, 256])
def test_a_workgroup_reduces_through_shared_memory(gpu: ShaderRunner, workgroup: int) -> None:
    rows, n = 5, 1000
    x = np.random.default_rng(2).standard_normal((rows, n), dtype=np.float32)
    lane, part = ir.LANE, ir.local("part", "f32")
    body: list[ir.Stmt] = [
        Declare("part", ir.const(-np.inf, "f32")),
        For(
            "i",
            floordiv(n - 1 - lane, workgroup) + 1,
            [
                Assign(
                    "part",
                    ir.binary("max", part, ir.load("x", TASK * n + var("i") * workgroup + lane, "f32")),
                )
            ],
        ),
        Store("partial", lane, part),
        Barrier(),
    ]
    stride = workgroup // 2
    while stride:
        both = ir.binary("max", ir.load("partial", lane, "f32"), ir.load("partial", lane + stride, "f32"))
        condition = ir.binary("lt", ir.index(lane), ir.const(stride, "i32"))
        body += [If(condition, [Store("partial", lane, both)], []), Barrier()]
        stride //= 2
    first = ir.binary("eq", ir.index(lane), ir.const(0, "i32"))
    body.append(If(first, [Store("out", TASK, ir.load("partial", 0, "f32"))], []))
    kernel = Kernel(
        "reduce",
        [Buffer("x", "f32", "r"), Buffer("out", "f32", "w")],
        [],
        rows,
        body,
        workgroup,
        [("partial", "f32", workgroup)],
    )
    got = gpu.run(kernel, {"x": x, "out": np.zeros(rows, np.float32)})["out"]
    np.testing.assert_array_equal(got, x.max(1))


@pytest.mark.parametrize("sizes", [(33, 50, 27), (64, 48, 64), (5, 17, 6)], ids=str)
@pytest.mark.parametrize("block", [(8, 8, 4, 4, 16), (16, 16, 2, 4, 8), (2, 32, 2, 8, 12)], ids=str)
def test_a_workgroup_computes_a_block_of_a_product(
    gpu: ShaderRunner, sizes: tuple[int, int, int], block: tuple[int, ...]
) -> None:
    m, k, n = sizes
    rng = np.random.default_rng(k)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    product = ir.mul(
        ir.load("a", var("i") * k + var("t"), "f32"), ir.load("b", var("t") * n + var("j"), "f32")
    )
    result = StoreTo("y", var("i") * n + var("j"), ir.unary("neg", ir.local("sum", "f32")))
    stages = [Stage((("t", k),), [Reduce("sum", "sum", product)], []), Stage((), [], [result])]
    buffers = [Buffer("a", "f32", "r"), Buffer("b", "f32", "r"), Buffer("y", "f32", "w")]
    spec = KernelSpec((("i", m), ("j", n)), stages, buffers, {}, {})
    kernel = lower_blocked(spec, Schedule(block=block), TARGET).kernel
    got = gpu.run(kernel, {"a": a, "b": b, "y": np.full((m, n), np.nan, np.float32)})["y"]
    np.testing.assert_allclose(got, -(a.astype(np.float64) @ b), rtol=1e-4, atol=1e-4)


def test_names_that_wgsl_reserves_can_be_used(gpu: ShaderRunner) -> None:
    body = [
        Declare("target", ir.load("in", TASK, "f32")),
        For("loop", 2, [Assign("target", ir.add(ir.local("target", "f32"), ir.cast(ir.index(var("loop") + var("fn")), "f32")))]),
        Store("max", TASK, ir.binary("max", ir.local("target", "f32"), ir.const(0.0, "f32"))),
    ]  # fmt: skip
    kernel = Kernel("names", [Buffer("in", "f32", "r"), Buffer("max", "f32", "w")], ["fn"], 16, body)
    got = gpu.run(kernel, {"in": OTHERS, "max": np.zeros(16, np.float32)}, {"fn": 2})["max"]
    np.testing.assert_array_equal(got, np.maximum(OTHERS + 5, 0))


def test_a_long_chain_of_operations_compiles(gpu: ShaderRunner) -> None:
    def chain(x: ir.Expr) -> ir.Expr:
        for i in range(300):
            x = ir.binary("max", ir.add(x, ir.const(1.0, "f32")), ir.const(float(i), "f32"))
        return x

    x = np.zeros(16, np.float32)
    np.testing.assert_array_equal(elementwise(gpu, chain, [("f32", x)], "f32", 1), np.full(16, 300.0))
