"""The numpy interpreter of tensor expressions: the semantics that kernels are held to."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit import ir
from nnjit.errors import VerificationError
from nnjit.tensor.build import Builder
from nnjit.tensor.env import Env
from nnjit.tensor.interpret import convert, interpret
from nnjit.tensor.tensor import Source


@pytest.fixture
def b() -> Builder:
    return Builder(Env())


def source(name: str, *shape: int, dtype: str = "f32") -> Source:
    return Source("input", shape, dtype, name)


def test_a_sum_of_products_is_a_matrix_product(b: Builder) -> None:
    x, y = source("x", 3, 4), source("y", 4, 5)
    product = b.reduce("sum", (3, 5), (4,), lambda i, j, k: ir.mul(x.at(i, k), y.at(k, j)), "f32")
    arrays = {"x": np.random.rand(3, 4).astype("f4"), "y": np.random.rand(4, 5).astype("f4")}
    np.testing.assert_allclose(interpret([product], arrays)[0], arrays["x"] @ arrays["y"], rtol=1e-6)


def test_a_factor_without_the_reduce_axis_counts_once_for_each_step(b: Builder) -> None:
    x = source("x", 3)
    total = b.reduce("sum", (3,), (7,), lambda i, k: ir.mul(x.at(i), x.at(i)), "f32")
    (value,) = interpret([total], {"x": np.array([1, 2, 3], "f4")})
    assert value.tolist() == [7, 28, 63]


def test_a_reshape_of_permuted_memory_is_read_in_the_order_of_the_result(b: Builder) -> None:
    x = source("x", 2, 3)
    doubled = b.elementwise(lambda v: ir.add(v, v), x)
    flat = b.reshape(b.permute(doubled, [1, 0]), (6,))
    array = np.arange(6, dtype="f4").reshape(2, 3)
    assert interpret([flat], {"x": array})[0].tolist() == (2 * array.T).reshape(-1).tolist()


def test_parts_fill_their_boxes(b: Builder) -> None:
    joined = b.concat([source("x", 2, 1), source("y", 2, 2)], 1)
    (value,) = interpret([joined], {"x": np.ones((2, 1), "f4"), "y": np.zeros((2, 2), "f4")})
    assert value.tolist() == [[1, 0, 0], [1, 0, 0]]


def test_reading_before_a_tensor_raises_on_a_side_not_taken_too(b: Builder) -> None:
    x = source("x", 4)
    never = ir.const(False, "bool")
    bad = b.compute((4,), "f32", lambda i: ir.select(never, x.at(i - 1), x.at(i)))
    with pytest.raises(VerificationError, match="axis 0 of extent 4"):
        interpret([bad], {"x": np.zeros(4, "f4")})


def test_an_expression_that_reads_past_the_end_of_a_tensor_is_not_built(b: Builder) -> None:
    x = source("x", 4)
    with pytest.raises(ValueError, match=r"5 elements are taken of an axis of a tensor of shape \[4\]"):
        b.compute((4,), "f32", lambda i: x.at(i + 1))


def test_symbols_size_the_result(b: Builder) -> None:
    n = b.env.dimension("n", ("dim", "x", 0), 5)
    places = b.compute((n,), "i64", lambda i: ir.cast(ir.index(i), "i64"))
    assert interpret([places], {}, {"s0": 3})[0].tolist() == [0, 1, 2]


def test_the_extremes_of_nothing_are_the_neutral_elements(b: Builder) -> None:
    x = source("x", 0)
    top, bottom = (b.reduce(op, (), (0,), lambda i: x.at(i), "f32") for op in ("max", "min"))
    assert [float(v) for v in interpret([top, bottom], {"x": np.zeros(0, "f4")})] == [-np.inf, np.inf]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (2.9, "i32", 2),
        (-2.9, "i32", -2),
        (1e20, "i32", 2**31 - 1),
        (-np.inf, "i32", -(2**31)),
        (np.nan, "i32", 0),
        (-1.0, "u32", 0),
        (1e30, "i64", 2**63 - 1),
        (0.5, "bool", True),
    ],
)
def test_floats_become_integers_towards_zero_and_saturating(value: float, dtype: str, expected: int) -> None:
    assert convert(np.asarray(value), dtype) == expected


def test_integers_become_narrower_ones_by_wrapping() -> None:
    assert convert(np.asarray(2**32 + 5, np.int64), "i32") == 5


@pytest.mark.parametrize(
    ("a", "b_", "quotient", "remainder"), [(7, 2, 3, 1), (-7, 2, -3, -1), (7, -2, -3, 1)]
)
def test_integer_division_truncates(b: Builder, a: int, b_: int, quotient: int, remainder: int) -> None:
    x, y = (b.constant(np.array([v], np.int32), "i32") for v in (a, b_))
    results = [
        b.compute((1,), "i32", lambda i, op=op: ir.binary(op, x._read((i,)), y._read((i,))))
        for op in ("div", "rem")
    ]
    assert [int(v[0]) for v in interpret(results, {})] == [quotient, remainder]
