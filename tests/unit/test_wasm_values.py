"""Every operation of the IR, for every dtype and width that Wasm has it in, against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from unit.wasm_engine import PLAIN, RELAXED, STORAGE, map_kernel, run_kernel, run_map

from nnjit import ir
from nnjit.emit.half import float_to_half, half_to_float
from nnjit.emit.wasm import emit_module
from nnjit.errors import VerificationError
from nnjit.lower.mathlib import expand
from nnjit.target import Target

RNG = np.random.default_rng(11)
FLOATS = np.array(
    [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e-3, -7.25, 3.9999, 123456.7, -1e20, 1e20, np.inf, -np.inf],
    np.float32,
)
OTHERS = np.array(
    [1.0, 2.0, -0.5, 1.5, 3.0, 0.25, -1.5, 2.0, 1e-2, 7.25, -4.0, 3.0, 1e10, 2e10, -8.5, 3.0], np.float32
)
VALUES = {
    "f32": (FLOATS, OTHERS),
    "f64": (FLOATS.astype(np.float64), OTHERS.astype(np.float64)),
    "i32": (RNG.integers(-(2**31), 2**31, 64, np.int32), RNG.integers(-9, 9, 64).astype(np.int32)),
    "u32": (RNG.integers(0, 2**32, 64, np.uint32), RNG.integers(0, 9, 64).astype(np.uint32)),
    "i64": (RNG.integers(-(2**63), 2**63, 64, np.int64), RNG.integers(-9, 9, 64)),
}
LANES = {"f32": (1, 4), "f64": (1,), "i32": (1, 4), "u32": (1, 4), "i64": (1,)}
KINDS = [(dtype, lanes) for dtype, widths in LANES.items() for lanes in widths]
FLOAT_KINDS = [k for k in KINDS if k[0] in ("f32", "f64")]
INTEGER_KINDS = [k for k in KINDS if k[0] not in ("f32", "f64")]


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Truncating, by one where the divisor is zero."""
    b = np.where(b == 0, 1, b).astype(a.dtype)
    if a.dtype.kind == "f":
        return a / b
    q = np.abs(a.astype(object)) // np.abs(b.astype(object))
    return wrap(np.where((a < 0) != (b < 0), -q, q), a.dtype)


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    b = np.where(b == 0, 1, b).astype(object)
    r = np.abs(a.astype(object)) % np.abs(b)
    return wrap(np.where(a < 0, -r, r), a.dtype)


def wrap(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.array([int(v) & (2 ** (8 * dtype.itemsize) - 1) for v in values], np.uint64).astype(dtype)


BINARY: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
INTEGER: dict[str, Callable] = {
    "div": divide, "rem": remainder, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip
COMPARE: dict[str, Callable] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def check(op: str, dtype: str, lanes: int, reference: Callable, b: np.ndarray | None = None) -> None:
    first, second = VALUES[dtype]
    second = second if b is None else b
    with np.errstate(all="ignore"):
        expected = reference(first, second)
    y = run_map(lambda p, q: ir.binary(op, p, q), first, second, dtype=dtype, lanes=lanes)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtype, lanes", KINDS)
@pytest.mark.parametrize("op", BINARY)
def test_arithmetic(op: str, dtype: str, lanes: int) -> None:
    check(op, dtype, lanes, BINARY[op])


@pytest.mark.parametrize("dtype, lanes", FLOAT_KINDS)
def test_float_division(dtype: str, lanes: int) -> None:
    check("div", dtype, lanes, np.divide)


@pytest.mark.parametrize("dtype, lanes", INTEGER_KINDS)
@pytest.mark.parametrize("op", INTEGER)
def test_integer_operations_never_trap(op: str, dtype: str, lanes: int) -> None:
    check(op, dtype, lanes, INTEGER[op])


def test_the_least_integer_divided_by_minus_one_wraps() -> None:
    for dtype, least in (("i32", -(2**31)), ("i64", -(2**63))):
        x = np.full(4, least, STORAGE[dtype])
        minus = np.full(4, -1, STORAGE[dtype])
        y = run_map(lambda a, b: ir.div(a, b), x, minus, dtype=dtype, lanes=1)
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("divisor", [3, 8, -1, 0])
@pytest.mark.parametrize("dtype, lanes", [k for k in INTEGER_KINDS if k[0] != "u32"])
def test_division_by_a_constant(dtype: str, lanes: int, divisor: int) -> None:
    x = VALUES[dtype][0]
    y = run_map(lambda a: ir.div(a, ir.const(divisor, dtype)), x, dtype=dtype, lanes=lanes)
    np.testing.assert_array_equal(y, divide(x, np.full_like(x, divisor)))


@pytest.mark.parametrize("dtype, lanes", INTEGER_KINDS)
def test_shifts(dtype: str, lanes: int) -> None:
    x = VALUES[dtype][0]
    counts = np.arange(x.size).astype(x.dtype) % (8 * x.itemsize)
    check("shl", dtype, lanes, np.left_shift, counts)
    check("shr", dtype, lanes, np.right_shift, counts)
    y = run_map(lambda a: ir.binary("shr", a, ir.const(3, dtype)), x, dtype=dtype, lanes=lanes)
    np.testing.assert_array_equal(y, x >> 3)


@pytest.mark.parametrize("dtype, lanes", KINDS)
@pytest.mark.parametrize("op", COMPARE)
def test_comparisons(op: str, dtype: str, lanes: int) -> None:
    a, b = VALUES[dtype]
    a = np.where(np.arange(a.size) % 3 == 0, b, a)
    if a.dtype.kind == "f":
        a[1] = np.nan
    y = run_map(lambda p, q: ir.binary(op, p, q), a, b, dtype="bool", lanes=lanes)
    np.testing.assert_array_equal(y, COMPARE[op](a, b))


@pytest.mark.parametrize("dtype, lanes", KINDS)
def test_select(dtype: str, lanes: int) -> None:
    a, b = VALUES[dtype]
    for target in (PLAIN, RELAXED):
        y = run_map(
            lambda p, q: ir.select(ir.binary("lt", p, q), p, q), a, b, dtype=dtype, lanes=lanes, target=target
        )
        np.testing.assert_array_equal(y, np.where(a < b, a, b))


UNARY: dict[str, Callable] = {
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.round, "neg": np.negative, "abs": np.abs,
    "sqrt": lambda x: np.sqrt(np.abs(x)),
}  # fmt: skip


@pytest.mark.parametrize("dtype, lanes", FLOAT_KINDS)
@pytest.mark.parametrize("op", UNARY)
def test_unary_floats(op: str, dtype: str, lanes: int) -> None:
    x = VALUES[dtype][0]
    y = run_map(
        lambda v: ir.unary(op, ir.unary("abs", v) if op == "sqrt" else v), x, dtype=dtype, lanes=lanes
    )
    expected = UNARY[op](x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(expected))


@pytest.mark.parametrize("dtype, lanes", [k for k in INTEGER_KINDS if k[0] != "u32"])
def test_unary_integers(dtype: str, lanes: int) -> None:
    x = VALUES[dtype][0]
    for op, reference in (("neg", np.negative), ("abs", np.abs), ("not", np.invert)):
        y = run_map(lambda v, op=op: ir.unary(op, v), x, dtype=dtype, lanes=lanes)
        np.testing.assert_array_equal(y, reference(x))


@pytest.mark.parametrize("lanes", [1, 4])
def test_boolean_algebra(lanes: int) -> None:
    a, b = RNG.integers(0, 2, (2, 32)).astype(np.bool_)
    for op, reference in (("and", a & b), ("or", a | b), ("xor", a ^ b), ("eq", a == b), ("ne", a != b)):
        y = run_map(lambda p, q, op=op: ir.binary(op, p, q), a, b, dtype="bool", lanes=lanes)
        np.testing.assert_array_equal(y, reference)
    np.testing.assert_array_equal(run_map(lambda p: ir.unary("not", p), a, dtype="bool", lanes=lanes), ~a)


@pytest.mark.parametrize("lanes", [1, 4])
def test_nan_passes_through_min_and_max_of_two_values(lanes: int) -> None:
    a = np.array([np.nan, 1, np.nan, 2], np.float32)
    b = np.array([1, np.nan, np.nan, 3], np.float32)
    for op in ("min", "max"):
        y = run_map(lambda p, q, op=op: ir.binary(op, p, q), a, b, lanes=lanes)
        assert np.isnan(y[:3]).all() and y[3] == (2 if op == "min" else 3)


@pytest.mark.parametrize("dtype, lanes", FLOAT_KINDS)
def test_pmin_and_pmax_answer_the_first_operand_where_one_is_nan(dtype: str, lanes: int) -> None:
    nan = np.nan
    a = np.array([nan, 1, nan, 2, 5, -0.0, 7, np.inf], STORAGE[dtype])
    b = np.array([1, nan, nan, 3, 4, 0.0, 7, 1], STORAGE[dtype])
    for op, expected in (("pmin", [nan, 1, nan, 2, 4, 0, 7, 1]), ("pmax", [nan, 1, nan, 3, 5, 0, 7, np.inf])):
        y = run_map(lambda p, q, op=op: ir.binary(op, p, q), a, b, dtype=dtype, lanes=lanes)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("lanes", [1, 4])
def test_relu_keeps_nan_whichever_side_the_constant_is(lanes: int) -> None:
    x, zero = np.array([np.nan, -1, 2, -np.inf], np.float32), ir.const(0.0, "f32")
    for f in (lambda v: ir.binary("max", v, zero), lambda v: ir.binary("max", zero, v)):
        np.testing.assert_array_equal(run_map(f, x, lanes=lanes), np.array([np.nan, 0, 2, 0], np.float32))


@pytest.mark.parametrize("target", [PLAIN, RELAXED], ids=["plain", "relaxed"])
@pytest.mark.parametrize("dtype, lanes", FLOAT_KINDS)
def test_fma(dtype: str, lanes: int, target) -> None:  # type: ignore[no-untyped-def]
    a, b, c = RNG.standard_normal((3, 32)).astype(STORAGE[dtype])
    y = run_map(ir.fma, a, b, c, dtype=dtype, lanes=lanes, target=target)
    np.testing.assert_allclose(y, a * b + c, rtol=1e-6, atol=1e-6)


CASTS = [(f, t, lanes) for f in VALUES for t in (*VALUES, "bool") for lanes in LANES[f] if f != t]


@pytest.mark.parametrize("source, dtype, lanes", [c for c in CASTS if c[2] in LANES.get(c[1], (1, 4))])
def test_casts(source: str, dtype: str, lanes: int) -> None:
    x = VALUES[source][0]
    if x.dtype.kind == "f" and dtype != "bool":
        x = np.array([0, 1, 2.5, 2.9, 100.7, 65000.3, 7, 2.0**30], x.dtype)
        if dtype != "u32":
            x = np.concatenate([x, -x])
    y = run_map(lambda v: ir.cast(v, dtype), x, dtype=dtype, lanes=lanes)
    np.testing.assert_array_equal(y, x.astype(STORAGE[dtype]))


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("dtype", ["f32", "i32", "u32"])
def test_casts_from_bool(dtype: str, lanes: int) -> None:
    x = RNG.integers(0, 2, 32).astype(np.bool_)
    y = run_map(lambda v: ir.cast(v, dtype), x, dtype=dtype, lanes=lanes)
    np.testing.assert_array_equal(y, x.astype(STORAGE[dtype]))


def test_floats_out_of_range_saturate_to_integers() -> None:
    x = np.array([1e20, -1e20, np.nan, np.inf], np.float32)
    for lanes in (1, 4):
        y = run_map(lambda v: ir.cast(v, "i32"), x, dtype="i32", lanes=lanes)
        assert list(y) == [2**31 - 1, -(2**31), 0, 2**31 - 1]


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("storage", ["u8", "i8", "u16", "i16", "bool", "f32", "i32", "u32"])
def test_storage_widens_on_load_and_wraps_on_store(storage: str, lanes: int) -> None:
    x = RNG.integers(0, 2**16, 40).astype(STORAGE[storage])
    if storage == "bool":
        np.testing.assert_array_equal(run_map(lambda v: v, x, dtype=storage, lanes=lanes), x)
        return
    twice = run_map(lambda v: ir.add(v, v), x, dtype=storage, lanes=lanes)
    np.testing.assert_array_equal(twice, x + x)


def test_any_nonzero_byte_is_true() -> None:
    x = np.array([0, 1, 2, 255, 128, 0, 7, 0], np.uint8).view(np.bool_)
    for lanes in (1, 4):
        y = run_map(lambda v: ir.cast(v, "f32"), x, lanes=lanes)
        assert list(y) == [0, 1, 1, 1, 1, 0, 1, 0]


@pytest.mark.parametrize("lanes", [1, 4])
def test_half_precision_survives_a_round_trip(lanes: int) -> None:
    """Every one of the 65536 halves."""
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(run_map(lambda v: v, x, lanes=lanes), x.astype(np.float32))
    np.testing.assert_array_equal(run_map(lambda v: v, x, dtype="f16", lanes=lanes), x)


@pytest.mark.parametrize("lanes", [1, 4])
def test_floats_round_to_half_precision_as_numpy_rounds(lanes: int) -> None:
    x = (10.0 ** RNG.uniform(-9, 6, 20000) * RNG.choice([-1, 1], 20000)).astype(np.float32)
    halves = np.arange(0, 2**15 - 1024, 7, dtype=np.uint16).view(np.float16).astype(np.float32)
    nexts = np.nextafter(halves.astype(np.float16), np.float16(np.inf)).astype(np.float32)
    x = np.concatenate([x, (halves + nexts) / 2, [65519.9, 65520.0, np.inf, np.nan]]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(run_map(lambda v: v, x, dtype="f16", lanes=lanes), expected)


def test_half_precision_formulas_are_plain_ir() -> None:
    bits = ir.local("bits", "i32")
    assert half_to_float(bits).dtype == "f32" and float_to_half(ir.local("x", "f32", 4)).lanes == 4


def test_products_of_bytes_are_added_two_by_two_and_so_are_pairs() -> None:
    rng = np.random.default_rng(5)
    left, right = rng.integers(-128, 128, (64, 4), np.int8), rng.integers(0, 128, (64, 4), np.int8)
    left[0], right[0] = -128, 127
    products = left.astype(np.int32) * right
    expected = np.clip(products[:, ::2] + products[:, 1::2], -32768, 32767).astype(np.int16)
    a, b = left.view(np.int32)[:, 0], right.view(np.int32)[:, 0]
    wanted = expected.view(np.int32)[:, 0]
    np.testing.assert_array_equal(run_map(ir.byte_dot, a, b, dtype="i32", target=RELAXED), wanted)
    more = rng.integers(-15000, 15000, (2, 64, 2), np.int16)
    c, d = more.view(np.int32)[:, :, 0]
    both = (more[0] + more[1]).view(np.int32)[:, 0]
    np.testing.assert_array_equal(run_map(ir.add_pairs, c, d, dtype="i32"), both)
    for formulas in (Target(), Target(device="webgpu")):
        scalar = run_map(lambda x, y, t=formulas: expand(ir.byte_dot(x, y), t), a, b, dtype="i32", lanes=1)
        np.testing.assert_array_equal(scalar, wanted)
        scalar = run_map(lambda x, y, t=formulas: expand(ir.add_pairs(x, y), t), c, d, dtype="i32", lanes=1)
        np.testing.assert_array_equal(scalar, both)


def test_a_dot_product_of_pairs_of_halves() -> None:
    halves = RNG.integers(-(2**15), 2**15, (2, 64, 2)).astype(np.int16)
    halves[:, :4] = [[-32768, -32768], [32767, 32767], [-32768, 32767], [0, -1]]
    a, b = (np.ascontiguousarray(x).view(np.int32).ravel() for x in halves)
    expected = (halves[0].astype(np.int64) * halves[1]).sum(1).astype(np.int32)
    np.testing.assert_array_equal(run_map(ir.dot, a, b, dtype="i32"), expected)
    for formulas in (RELAXED, Target(device="webgpu")):
        scalar = run_map(lambda x, y, t=formulas: expand(ir.dot(x, y), t), a, b, dtype="i32", lanes=1)
        np.testing.assert_array_equal(scalar, expected)


def test_lanes_are_packed_and_extracted_in_order() -> None:
    x = RNG.standard_normal(16).astype(np.float32)
    y = run_map(lambda v: ir.pack(tuple(ir.extract(v, lane) for lane in (3, 2, 0, 1))), x)  # type: ignore[arg-type]
    np.testing.assert_array_equal(y, x.reshape(4, 4)[:, [3, 2, 0, 1]].ravel())


def test_a_shuffle_takes_lanes_of_both_operands() -> None:
    a, b = RNG.standard_normal((2, 16)).astype(np.float32)
    y = run_map(lambda p, q: ir.shuffle(p, q, (3, 4, 0, 6)), a, b)
    both = np.concatenate([a.reshape(4, 4), b.reshape(4, 4)], axis=1)
    np.testing.assert_array_equal(y, both[:, [3, 4, 0, 6]].ravel())


def test_a_mask_lane_is_extracted_as_zero_or_one() -> None:
    x = np.array([-1, 1, -1, 2], np.float32)
    positive = lambda v: ir.binary("gt", v, ir.const(0.0, "f32"))  # noqa: E731
    bits = lambda v: [ir.cast(ir.extract(positive(v), lane), "f32") for lane in range(4)]  # noqa: E731
    assert list(run_map(lambda v: ir.pack(tuple(bits(v))), x)) == [0, 1, 0, 1]  # type: ignore[arg-type]


def test_a_scalar_condition_is_splat_to_a_mask() -> None:
    x = np.arange(8, dtype=np.float32)
    condition = ir.binary("eq", ir.index(ir.TASK), ir.const(1, "i32"))
    y = run_map(lambda v: ir.select(ir.splat(condition), v, ir.unary("neg", v)), x)
    np.testing.assert_array_equal(y, [0, -1, -2, -3, 4, 5, 6, 7])


@pytest.mark.parametrize("dtype, other", [("f32", "i32"), ("f32", "u32"), ("f64", "i64")])
def test_bitcast_keeps_the_bits(dtype: str, other: str) -> None:
    x = VALUES[dtype][0]
    for lanes in LANES[other] if dtype == "f32" else (1,):
        y = run_map(lambda v: ir.bitcast(v, other), x, dtype=other, lanes=lanes)
        np.testing.assert_array_equal(y, x.view(STORAGE[other]))
        back = run_map(lambda v: ir.bitcast(v, dtype), y, dtype=dtype, lanes=lanes)
        np.testing.assert_array_equal(back, x)


def test_constants_of_every_dtype() -> None:
    values = {"f32": -1.5, "f64": 1e300, "i32": -(2**31), "u32": 2**32 - 1, "i64": -(2**63), "bool": True}
    body: list[ir.Stmt] = [ir.Store(d, 0, ir.const(v, d)) for d, v in values.items()]
    kernel = ir.Kernel("f", [ir.Buffer(d, d, "w") for d in values], [], 1, body)
    out = run_kernel(kernel, {d: np.empty(1, STORAGE[d]) for d in values})
    assert {d: out[d][0] for d in values} == values


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, -0.0, 1e40])
def test_special_float_constants(special: float) -> None:
    for lanes in (1, 4):
        y = run_map(
            lambda v: ir.add(ir.mul(v, ir.const(0.0, "f32")), ir.const(special, "f32")), OTHERS, lanes=lanes
        )
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(y, np.full(16, special).astype(np.float32))


@pytest.mark.parametrize("dtype", ["i64", "f64"])
def test_vectors_of_wide_elements_are_refused(dtype: str) -> None:
    kernel = map_kernel(lambda v: ir.add(v, v), {"x": np.zeros(8, STORAGE[dtype])}, dtype, 4)
    with pytest.raises(VerificationError, match=f"{dtype}x4"):
        emit_module([kernel], RELAXED)


def test_an_intrinsic_left_by_lowering_is_refused() -> None:
    kernel = map_kernel(lambda v: ir.unary("exp", v), {"x": np.zeros(8, np.float32)}, "f32")
    with pytest.raises(VerificationError, match="exp"):
        emit_module([kernel], RELAXED)
