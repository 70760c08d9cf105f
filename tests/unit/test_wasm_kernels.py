"""Emitted Wasm computes what numpy computes: loops, addresses, tails, symbols, slices."""

from __future__ import annotations

import numpy as np
import pytest
from unit.kernels import buffers, gemm
from unit.wasm_engine import PLAIN, RELAXED, run_kernel

from nnjit import ir
from nnjit.symbolic import ceildiv, floordiv, maximum, minimum, mod, opaque, var

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("target", [RELAXED, PLAIN], ids=["relaxed", "plain"])
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("rows, columns, depth", [(6, 8, 1), (12, 24, 7), (18, 8, 64)])
def test_gemm_matches_numpy(rows: int, columns: int, depth: int, symbolic: bool, target) -> None:  # type: ignore[no-untyped-def]
    a, b = normal(rows, depth), normal(depth, columns)
    packed = b.reshape(depth, columns // 8, 8).transpose(1, 0, 2).copy()
    kernel = gemm(rows, columns, var("depth") if symbolic else depth)
    out = run_kernel(
        kernel, {"A": a, "B": packed, "C": np.empty((rows, columns), np.float32)}, {"depth": depth}, target
    )
    np.testing.assert_allclose(out["C"], a @ b, rtol=1e-5, atol=1e-5)


def test_a_zero_symbolic_extent_runs_the_loop_not_at_all() -> None:
    kernel = gemm(6, 8, var("depth"))
    arrays = {"A": normal(1), "B": normal(1), "C": np.empty((6, 8), np.float32)}
    assert (run_kernel(kernel, arrays, {"depth": 0})["C"] == 0).all()


def test_tasks_run_in_slices_in_any_order() -> None:
    a, b = normal(24, 5), normal(5, 16)
    packed = b.reshape(5, 2, 8).transpose(1, 0, 2).copy()
    arrays = {"A": a, "B": packed, "C": np.empty((24, 16), np.float32)}
    out = run_kernel(gemm(24, 16, 5), arrays, slices=[(5, 8), (2, 2), (0, 5)])
    np.testing.assert_allclose(out["C"], a @ b, rtol=1e-5, atol=1e-5)


def test_tasks_outside_the_slice_are_not_run() -> None:
    kernel = ir.Kernel(
        "f", buffers(y="f32 w"), [], 10, [ir.Store("y", ir.TASK, ir.cast(ir.index(ir.TASK), "f32"))]
    )
    y = run_kernel(kernel, {"y": np.empty(10, np.float32)}, slices=[(3, 6)])["y"]
    assert np.isnan(y[:3]).all() and np.isnan(y[6:]).all() and list(y[3:6]) == [3, 4, 5]


@pytest.mark.parametrize("length", [1, 3, 4, 17, 64])
def test_vectors_then_a_scalar_tail(length: int) -> None:
    n, i = var("n"), var("i")
    whole = floordiv(n, 4)
    x = ir.load("x", ir.TASK * n + 4 * i, "f32", 4)
    tail = ir.load("x", ir.TASK * n + 4 * whole + var("t"), "f32")
    double = ir.const(2.0, "f32")
    body = [
        ir.For("i", whole, [ir.Store("y", ir.TASK * n + 4 * i, ir.mul(x, double))]),
        ir.For("t", mod(n, 4), [ir.Store("y", ir.TASK * n + 4 * whole + var("t"), ir.mul(tail, double))]),
    ]
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), ["n"], 3, body)
    data = normal(3, length)
    out = run_kernel(kernel, {"x": data, "y": np.empty_like(data)}, {"n": length}, misalign=4)
    np.testing.assert_array_equal(out["y"], data * 2)


def test_transpose_with_symbolic_strides() -> None:
    r, c, i = var("r"), var("c"), var("i")
    body = [ir.For("i", c, [ir.Store("y", i * r + ir.TASK, ir.load("x", ir.TASK * c + i, "f32"))])]
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), ["r", "c"], r, body)
    data = normal(5, 9)
    out = run_kernel(kernel, {"x": data, "y": np.empty((9, 5), np.float32)}, {"r": 5, "c": 9})
    np.testing.assert_array_equal(out["y"], data.T)


def test_reversal_with_a_negative_coefficient() -> None:
    n, i = var("n"), var("i")
    body = [ir.For("i", n, [ir.Store("y", i, ir.load("x", n - 1 - i, "f32"))])]
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), ["n"], 1, body)
    data = normal(13)
    out = run_kernel(kernel, {"x": data, "y": np.empty_like(data)}, {"n": 13})
    np.testing.assert_array_equal(out["y"], data[::-1])


def test_negative_constants_under_a_condition() -> None:
    """A padded one-dimensional convolution: x[i − 2] … x[i + 2], each under its own test."""
    n, i = 9, var("i")
    loop: list[ir.Stmt] = [ir.Declare("sum", ir.const(0.0, "f32"))]
    for tap in range(-2, 3):
        at = ir.index(i + tap)
        inside = ir.binary(
            "and",
            ir.binary("ge", at, ir.const(0, "i32")),
            ir.binary("lt", at, ir.const(n, "i32")),
        )
        total = ir.add(ir.local("sum", "f32"), ir.load("x", i + tap, "f32"))
        loop.append(ir.If(inside, [ir.Assign("sum", total)], []))
    loop.append(ir.Store("y", i, ir.local("sum", "f32")))
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), [], 1, [ir.For("i", n, loop)])
    data = normal(n)
    out = run_kernel(kernel, {"x": data, "y": np.empty_like(data)})
    np.testing.assert_allclose(out["y"], np.convolve(data, np.ones(5, np.float32), "same"), rtol=1e-5)


def test_index_operations() -> None:
    """y[i] = x[min(i // 3, 4) · 7 + max(i % 3, 1)]"""
    i = var("i")
    at = minimum(floordiv(i, 3), 4) * 7 + maximum(mod(i, 3), 1)
    kernel = ir.Kernel(
        "f", buffers(x="f32 r", y="f32 w"), [], 1,
        [ir.For("i", 23, [ir.Store("y", i, ir.load("x", at, "f32"))])],
    )  # fmt: skip
    data, n = normal(64), np.arange(23)
    out = run_kernel(kernel, {"x": data, "y": np.empty(23, np.float32)})
    np.testing.assert_array_equal(out["y"], data[np.minimum(n // 3, 4) * 7 + np.maximum(n % 3, 1)])


@pytest.mark.parametrize("divisor", [1, 2, 5, 8, var("n")])
def test_division_rounds_down_whatever_the_sign(divisor) -> None:  # type: ignore[no-untyped-def]
    i = var("i")
    quotient, rest = floordiv(7 - i, divisor), mod(7 - i, divisor)
    body: list[ir.Stmt] = [
        ir.For("i", 23, [ir.Store("q", i, ir.index(quotient)), ir.Store("r", i, ir.index(rest))])
    ]
    kernel = ir.Kernel("f", buffers(q="i32 w", r="i32 w"), ["n"], 1, body)
    arrays = {"q": np.empty(23, np.int32), "r": np.empty(23, np.int32)}
    out = run_kernel(kernel, arrays, {"n": 6})
    by, n = 6 if not isinstance(divisor, int) else divisor, 7 - np.arange(23)
    np.testing.assert_array_equal(out["q"], n // by)
    np.testing.assert_array_equal(out["r"], n % by)


@pytest.mark.parametrize("storage", ["i32", "i64"])
def test_gather_by_a_loaded_index(storage: str) -> None:
    width, j = 6, var("j")
    row = ir.value_index(ir.load("ids", ir.TASK, storage))
    body = [
        ir.For("j", width, [ir.Store("y", ir.TASK * width + j, ir.load("table", row * width + j, "f32"))])
    ]
    kernel = ir.Kernel("f", buffers(ids=f"{storage} r", table="f32 r", y="f32 w"), [], 8, body)
    table = normal(11, width)
    ids = RNG.integers(0, 11, 8).astype(np.int32 if storage == "i32" else np.int64)
    out = run_kernel(kernel, {"ids": ids, "table": table, "y": np.empty((8, width), np.float32)})
    np.testing.assert_array_equal(out["y"], table[ids])


def test_an_index_from_a_local_that_changes() -> None:
    """y[i] = x[p]; p = (p · 5 + 1) % 16"""
    i, p = var("i"), ir.local("p", "i32")
    advance = ir.binary("rem", ir.add(ir.mul(p, ir.const(5, "i32")), ir.const(1, "i32")), ir.const(16, "i32"))
    body: list[ir.Stmt] = [
        ir.Declare("p", ir.const(3, "i32")),
        ir.For("i", 20, [
            ir.Store("y", i, ir.load("x", ir.value_index(p), "f32")),
            ir.Assign("p", advance),
        ]),
    ]  # fmt: skip
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), [], 1, body)
    data, expected, q = normal(16), [], 3
    for _ in range(20):
        expected.append(data[q])
        q = (q * 5 + 1) % 16
    out = run_kernel(kernel, {"x": data, "y": np.empty(20, np.float32)})
    np.testing.assert_array_equal(out["y"], np.array(expected, np.float32))


def test_a_loop_extent_that_is_loaded_at_run_time() -> None:
    i = var("i")
    extent = ir.value_index(ir.load("lengths", ir.TASK, "i32"))
    total = ir.Assign("s", ir.add(ir.local("s", "f32"), ir.load("x", ir.TASK * 8 + i, "f32")))
    body = [
        ir.Declare("s", ir.const(0.0, "f32")),
        ir.For("i", extent, [total]),
        ir.Store("y", ir.TASK, ir.local("s", "f32")),
    ]
    kernel = ir.Kernel("f", buffers(lengths="i32 r", x="f32 r", y="f32 w"), [], 4, body)
    data, lengths = normal(4, 8), np.array([0, 8, 3, 1], np.int32)
    out = run_kernel(kernel, {"lengths": lengths, "x": data, "y": np.empty(4, np.float32)})
    expected = [row[:n].sum(dtype=np.float64) for row, n in zip(data, lengths, strict=True)]
    np.testing.assert_allclose(out["y"], expected, rtol=1e-5, atol=1e-6)


def test_a_loop_extent_in_a_local_that_changes() -> None:
    i, n = var("i"), ir.local("n", "i32")
    grow = ir.Assign("n", ir.add(n, ir.const(1, "i32")))
    body: list[ir.Stmt] = [
        ir.Declare("n", ir.const(2, "i32")),
        ir.For("o", 3, [
            ir.For("i", ir.value_index(n), [grow]),
        ]),
        ir.Store("y", 0, n),
    ]  # fmt: skip
    kernel = ir.Kernel("f", buffers(y="i32 w"), [], 1, body)
    assert run_kernel(kernel, {"y": np.empty(1, np.int32)})["y"][0] == 16, i


def test_division_by_a_zero_symbol_in_a_loop_that_does_not_run() -> None:
    i, n = var("i"), var("n")
    body = [ir.For("i", n, [ir.Store("y", 0, ir.load("x", opaque("mod", i + 5, n), "f32"))])]
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), ["n"], 1, body)
    out = run_kernel(kernel, {"x": normal(4), "y": np.empty(1, np.float32)}, {"n": 0})
    assert np.isnan(out["y"]).all()


def test_statements_see_stores_and_assignments_before_them() -> None:
    """A value that is used twice is not kept across a write to what it depends on."""
    x, t = ir.load("x", 0, "f32"), ir.local("t", "f32")
    one = ir.const(1.0, "f32")
    more, further = ir.add(x, one), ir.mul(t, t)
    body: list[ir.Stmt] = [
        ir.Declare("t", ir.const(3.0, "f32")),
        ir.Store("y", 0, more),
        ir.Store("y", 1, further),
        ir.Store("x", 0, ir.const(10.0, "f32")),
        ir.Assign("t", ir.const(5.0, "f32")),
        ir.Store("y", 2, more),
        ir.Store("y", 3, further),
    ]
    kernel = ir.Kernel("f", buffers(x="f32 rw", y="f32 w"), [], 1, body)
    out = run_kernel(kernel, {"x": np.array([1], np.float32), "y": np.empty(4, np.float32)})
    assert list(out["y"]) == [2, 9, 11, 25]


def test_a_let_is_seen_by_loops_below_it() -> None:
    i, base = var("i"), ir.local("base", "i32")
    at = ir.value_index(base) + i
    body: list[ir.Stmt] = [
        ir.Declare("base", ir.mul(ir.load("start", ir.TASK, "i32"), ir.const(2, "i32"))),
        ir.For("i", 3, [ir.Store("y", ir.TASK * 3 + i, ir.load("x", at, "f32"))]),
    ]
    kernel = ir.Kernel("f", buffers(start="i32 r", x="f32 r", y="f32 w"), [], 4, body)
    data, start = normal(16), np.array([5, 0, 6, 2], np.int32)
    out = run_kernel(kernel, {"start": start, "x": data, "y": np.empty((4, 3), np.float32)})
    np.testing.assert_array_equal(out["y"], data[start[:, None] * 2 + np.arange(3)])


def test_both_branches_of_an_if() -> None:
    odd = ir.binary("eq", ir.index(mod(ir.TASK, 2)), ir.const(1, "i32"))
    x = ir.load("x", ir.TASK, "f32")
    body: list[ir.Stmt] = [
        ir.If(odd, [ir.Store("y", ir.TASK, ir.unary("neg", x))], [ir.Store("y", ir.TASK, ir.mul(x, x))])
    ]
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), [], 9, body)
    data = normal(9)
    out = run_kernel(kernel, {"x": data, "y": np.empty_like(data)})
    np.testing.assert_array_equal(out["y"], np.where(np.arange(9) % 2, -data, data * data))


@pytest.mark.parametrize("seed", range(20))
def test_random_four_deep_nests(seed: int) -> None:
    """Copies between random strided views, some dimensions symbolic, some strides negative."""
    rng = np.random.default_rng(seed)
    dims = [int(d) for d in rng.integers(1, 6, 4)]
    symbolic = [bool(b) for b in rng.integers(0, 2, 4)]
    names = ["a", "b", "c", "task"]
    extents = [var(f"s{n}") if s else d for n, (d, s) in enumerate(zip(dims, symbolic, strict=True))]
    order = [int(p) for p in rng.permutation(4)]
    flip = [bool(b) for b in rng.integers(0, 2, 4)]
    index = [extents[n] - 1 - var(names[n]) if flip[n] else var(names[n]) for n in range(4)]
    source: object = 0
    target: object = 0
    for n in range(4):
        source = source * extents[n] + index[n]  # type: ignore[operator]
        target = target * extents[order[n]] + var(names[order[n]])  # type: ignore[operator]
    body: list[ir.Stmt] = [ir.Store("y", target, ir.load("x", source, "f32"))]  # type: ignore[arg-type]
    for n in range(3):
        body = [ir.For(names[n], extents[n], body)]
    symbols = {f"s{n}": dims[n] for n in range(4)}
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), list(symbols), extents[3], body)
    data = normal(*dims)
    expected = np.flip(data, [n for n in range(4) if flip[n]]).transpose(order)
    out = run_kernel(kernel, {"x": data, "y": np.empty(expected.shape, np.float32)}, symbols)
    np.testing.assert_array_equal(out["y"], expected)


def test_a_task_count_that_rounds_up_covers_the_tail() -> None:
    n, i = var("n"), var("i")
    width = minimum(n - ir.TASK * 8, 8)
    at = ir.TASK * 8 + i
    kernel = ir.Kernel(
        "f", buffers(x="f32 r", y="f32 w"), ["n"], ceildiv(n, 8),
        [ir.For("i", width, [ir.Store("y", at, ir.load("x", at, "f32"))])],
    )  # fmt: skip
    data = normal(29)
    out = run_kernel(kernel, {"x": data, "y": np.empty_like(data)}, {"n": 29})
    np.testing.assert_array_equal(out["y"], data)


def test_a_declared_integer_may_be_a_variable_of_an_index() -> None:
    """A window that starts before the buffer: y[i] = x[start + i] where start + i is not negative."""
    i, start = var("i"), var("start")
    at = ir.index(start + i)
    body: list[ir.Stmt] = [
        ir.Declare("start", ir.index(ir.TASK * 2 - 3)),
        ir.For("i", 6, [
            ir.If(
                ir.binary("ge", at, ir.const(0, "i32")),
                [ir.Store("y", ir.TASK * 6 + i, ir.load("x", start + i, "f32"))],
                [ir.Store("y", ir.TASK * 6 + i, ir.const(0.0, "f32"))],
            ),
        ]),
    ]  # fmt: skip
    kernel = ir.Kernel("f", buffers(x="f32 r", y="f32 w"), [], 4, body)
    data = normal(12)
    out = run_kernel(kernel, {"x": data, "y": np.empty((4, 6), np.float32)})
    padded = np.concatenate([np.zeros(3, np.float32), data])
    np.testing.assert_array_equal(out["y"], [padded[2 * t : 2 * t + 6] for t in range(4)])
