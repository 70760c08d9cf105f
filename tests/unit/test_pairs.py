"""Integer contractions two terms at a time: the same bits as one at a time, whatever the sizes, layouts and storage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from unit.plan_interpreter import WASM, Machine, Model
from unit.tensor_programs import matmul

from nnjit import ir
from nnjit.schedule.schedule import parse
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Tensor


def product(
    left: str, right: str, *a: int, b: tuple[int, ...], transposed: bool = False
) -> Callable[[Model], Tensor]:
    """A product in 32 bits of operands of less, full of extreme values."""

    def build(m: Model) -> Tensor:
        x = m.input(*a, dtype=left)
        array = m.arrays["x0"]
        info = np.iinfo(array.dtype)
        array[:] = m.rng.choice([info.min, info.max, 0, 1, 7], array.shape)
        w = m.weight(*b, dtype=right)
        w.origin[:] = m.rng.choice([np.iinfo(w.origin.dtype).min, np.iinfo(w.origin.dtype).max, 3], b)
        k = a[-1]
        if transposed:
            return m.b.reduce(
                "sum", (a[0], b[0]), (k,), lambda i, j, r: ir.mul(x.at(i, r), w.at(j, r)), "i32"
            )
        return m.b.reduce("sum", (a[0], b[1]), (k,), lambda i, j, r: ir.mul(x.at(i, r), w.at(r, j)), "i32")

    return build


def convolution(channels: int) -> Callable[[Model], Tensor]:
    """3×3, channels last."""

    def build(m: Model) -> Tensor:
        x, w = m.input(6, 7, channels, dtype="i16"), m.weight(8, channels, 3, 3, dtype="i8")
        return m.b.reduce(
            "sum",
            (4, 5, 8),
            (3, 3, channels),
            lambda i, j, o, u, v, c: ir.mul(x.at(i + u, j + v, c), w.at(o, c, u, v)),
            "i32",
        )

    return build


PROGRAMS: dict[str, Callable[[Model], Tensor]] = {
    "i16 by i8, even": product("i16", "i8", 7, 10, b=(10, 9)),
    "i16 by i8, odd": product("i16", "i8", 7, 11, b=(11, 9)),
    "u8 by i8": product("u8", "i8", 5, 12, b=(12, 8)),
    "i8 by u8, odd": product("i8", "u8", 6, 5, b=(5, 13)),
    "i16 by i16 transposed": product("i16", "i16", 6, 8, b=(9, 8), transposed=True),
    "one row": product("i16", "i8", 1, 14, b=(14, 10)),
    "convolution, channels in pairs": convolution(4),
    "convolution, odd channels": convolution(3),
    "one term": product("i16", "i8", 4, 1, b=(1, 8)),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_schedule_of_pairs_computes_the_same_bits(program: str) -> None:
    m = Model(5)
    out = PROGRAMS[program](m)
    expected = interpret([out], m.arrays, m.env.hints)[0]
    compiled = m.compile([out])
    machine = Machine(compiled)
    np.testing.assert_array_equal(machine.run(m.arrays)[0], expected)
    schedules = [s for s in compiled.scheduler.candidates(compiled.items[0]) if s.pairs]
    assert schedules
    for schedule in schedules[::3]:
        (made,) = machine.run_unit(compiled.scheduler.unit(compiled.items[0], schedule), 0).values()
        np.testing.assert_array_equal(made, expected.ravel(), err_msg=str(schedule))


def test_a_depth_that_is_a_symbol_may_be_odd() -> None:
    m = Model(3)
    x, w = m.input(6, 8, dtype="i16", symbolic=(0, 1)), m.input(8, 8, dtype="i8", symbolic=(0,))
    assert m.env.eq(x.shape[1], w.shape[0])
    out = matmul_i32(m, x, w)
    compiled = m.compile([out])
    machine = Machine(compiled)
    fitting = 0
    for shapes in ([(6, 8), (8, 8)], [(9, 7), (7, 8)], [(12, 1), (1, 8)]):
        arrays = {
            "x0": m.data(shapes[0], "i16"),
            "x1": m.data(shapes[1], "i8"),
        }
        symbols = machine.fits(arrays)
        if symbols is not None:
            fitting += 1
            np.testing.assert_array_equal(machine.run(arrays)[0], interpret([out], arrays, symbols)[0])
    assert fitting >= 2


def matmul_i32(m: Model, x: Tensor, w: Tensor) -> Tensor:
    shape = (x.shape[0], w.shape[1])
    return m.b.reduce("sum", shape, (x.shape[1],), lambda i, j, k: ir.mul(x.at(i, k), w.at(k, j)), "i32")


def test_pairs_that_lie_side_by_side_are_read_where_they_are() -> None:
    m = Model()
    compiled = m.compile([PROGRAMS["i16 by i8, even"](m)])
    unit = compiled.scheduler.unit(compiled.items[0], parse("tile o0=4 o1=8; vector o1; pack 1; pairs"))
    assert len(unit.steps) == 1
    assert ("b0", "i32") in [(b.name, b.storage) for b in unit.steps[0].kernel.buffers]


@pytest.mark.parametrize(
    ("program", "schedule", "reason"),
    [
        ("i16 by i8, odd", "tile o0=4 o1=8; vector o1; pack 1; pairs", "must be packed"),
        ("u8 by i8", "tile o0=4 o1=8; vector o1; pack 1; pairs", "must be packed"),
    ],
)
def test_an_operand_without_pairs_in_memory_must_be_packed(program: str, schedule: str, reason: str) -> None:
    m = Model()
    compiled = m.compile([PROGRAMS[program](m)])
    with pytest.raises(ValueError, match=reason):
        compiled.scheduler.unit(compiled.items[0], parse(schedule))


def test_floats_and_wide_integers_have_no_pairs() -> None:
    for dtype in ("f32", "i32"):
        m = Model()
        compiled = m.compile([matmul(m, m.input(5, 8, dtype=dtype), m.weight(8, 8, dtype=dtype))], WASM)
        assert not any(s.pairs for s in compiled.scheduler.candidates(compiled.items[0]))
        with pytest.raises(ValueError, match="16 bits"):
            compiled.scheduler.unit(compiled.items[0], parse("tile o1=8; vector o1; pack 0 1; pairs"))
