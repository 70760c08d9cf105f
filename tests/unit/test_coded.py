"""Products with coded weights: unpacked in registers or in scratch memory, they are what the tensor expression says."""

from __future__ import annotations

import numpy as np
import pytest
from unit.plan_interpreter import RELAXED, WASM, WEBGPU, Machine, Model
from unit.tensor_programs import number, silu
from unit.test_fuse import close
from unit.test_lower import check_schedules

from nnjit import ir
from nnjit.lower.coded import coded
from nnjit.schedule.legal import check
from nnjit.schedule.schedule import parse
from nnjit.target import Target
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Index, Source, Tensor

TARGETS = pytest.mark.parametrize("target", [WASM, RELAXED, WEBGPU], ids=["wasm", "relaxed", "webgpu"])


def product(
    m: Model,
    x: Tensor,
    columns: int,
    blocks: int,
    block: int,
    bits: int = 4,
    zeros: str = "middle",
    dtype: str = "f32",
) -> Tensor:
    """x [..., blocks · block] times a random weight of `bits` bits, then SiLU; scales of `dtype`."""
    each = 32 // bits
    full = m.rng.integers(-(1 << 31), 1 << 31, (columns, blocks, block // each))
    words = Source("const", full.shape, "i32", full.astype(np.int32))
    scales = m.weight(columns, blocks, dtype=dtype)
    points = m.weight(columns, blocks)

    def zero(n: Index, k: Index) -> ir.Expr:
        return points.at(n, k) if zeros == "own" else number(1 << (bits - 1) if zeros == "middle" else 0)

    def body(*at: Index) -> ir.Expr:
        *rows, n, k, w, j = at
        shifted = ir.binary("shr", words.at(n, k, w), ir.index(j * bits))
        code = ir.cast(ir.binary("and", shifted, ir.const((1 << bits) - 1, "i32")), "f32")
        weight = ir.mul(ir.sub(code, zero(n, k)), scales.at(n, k))
        return ir.mul(x.at(*rows, k * block + w * each + j), weight)

    y = m.b.reduce("sum", (*x.shape[:-1], columns), (blocks, block // each, each), body, "f32", "coded")
    return m.b.elementwise(silu, y)


@pytest.mark.parametrize(("rows", "zeros"), [(1, "own"), (1, "none"), (2, "middle"), (7, "own")])
@TARGETS
def test_every_schedule_unpacks_alike(rows: int, zeros: str, target: Target) -> None:
    check_schedules(lambda m: product(m, m.input(rows, 64), 10, 2, 32, zeros=zeros), target, most=6)


@pytest.mark.parametrize(
    ("rows", "bits", "columns", "blocks", "block", "dtype"),
    [
        (1, 8, 9, 3, 16, "f32"),
        (5, 8, 9, 3, 16, "f32"),
        (1, 2, 8, 2, 64, "f32"),
        (5, 4, 8, 1, 32, "f32"),
        (1, 4, 8, 1, 256, "f32"),
        (1, 4, 5, 2, 128, "f16"),
        (5, 4, 5, 2, 32, "f16"),
        (1, 4, 8, 4, 16, "f32"),
        (1, 4, 3, 2, 32, "f32"),
    ],
)
def test_bits_blocks_and_columns_of_any_size(
    rows: int, bits: int, columns: int, blocks: int, block: int, dtype: str
) -> None:
    check_schedules(
        lambda m: product(m, m.input(rows, blocks * block), columns, blocks, block, bits, dtype=dtype),
        RELAXED,
        most=4,
    )


def bytes_of(m: Model, out: Tensor) -> list[np.ndarray]:
    """What each schedule that multiplies bytes makes of the model's inputs."""
    compiled = m.compile([out], RELAXED)
    (item,) = compiled.items
    schedules = [s for s in compiled.scheduler.candidates(item) if s.unpack == "bytes"]
    assert schedules
    found = []
    machine = Machine(compiled)
    machine.run(m.arrays)
    for schedule in schedules[:2]:
        (made,) = machine.run_unit(compiled.scheduler.unit(item, schedule), 0).values()
        found.append(made)
    return found


@pytest.mark.parametrize(
    ("rows", "bits", "columns", "blocks", "block", "zeros", "dtype"),
    [
        (1, 4, 10, 2, 32, "own", "f32"),
        (2, 4, 9, 2, 32, "middle", "f32"),
        (1, 4, 8, 1, 256, "none", "f32"),
        (1, 4, 5, 1, 128, "own", "f16"),
        (3, 2, 9, 2, 64, "own", "f32"),
    ],
)
def test_products_of_bytes_are_as_exact_as_those_of_floats(
    rows: int, bits: int, columns: int, blocks: int, block: int, zeros: str, dtype: str
) -> None:
    m = Model(5)
    x = m.input(rows, blocks * block)
    # The elements of a block are of very different sizes, and so are the blocks.
    m.arrays["x0"][...] *= 10.0 ** m.rng.integers(-4, 5, m.arrays["x0"].shape)
    m.arrays["x0"][:, :block] *= 1e-20 if blocks > 1 else 1.0
    out = product(m, x, columns, blocks, block, bits, zeros, dtype)
    wanted = interpret([out], m.arrays, m.env.hints)[0]
    # Weights are below 3 · 2^bits in size; without the last of three digits the error would be a hundred times larger.
    size = 3.0 * 2**bits * np.abs(m.arrays["x0"]).sum()
    for made in bytes_of(m, out):
        assert np.abs(made.reshape(wanted.shape) - wanted).max() <= 1e-7 * size


def test_products_of_bytes_of_zeros_are_zero_and_those_of_nan_are_nan() -> None:
    m = Model(5)
    x = m.input(2, 64)
    m.arrays["x0"][0] = 0
    m.arrays["x0"][1, 40] = np.nan
    for made in bytes_of(m, product(m, x, 8, 2, 32)):
        first, second = made.reshape(2, 8)
        assert not first.any()
        assert np.isnan(second).all()


def test_a_product_of_f16_is_computed_in_f32() -> None:
    check_schedules(lambda m: product(m, m.input(3, 64, dtype="f16"), 8, 2, 32), RELAXED, 6)


def test_a_panel_chosen_for_some_rows_is_right_for_others() -> None:
    m = Model(3)
    x = m.input(9, 64, symbolic=(0,))
    out = product(m, x, 12, 2, 32)
    compiled = m.compile([out], RELAXED)
    machine = Machine(compiled)
    for rows in (8, 13):
        arrays = {"x0": m.data((rows, 64))}
        symbols = machine.fits(arrays)
        assert symbols is not None
        close(machine.run(arrays)[0], interpret([out], arrays, symbols)[0])


def test_few_rows_unpack_in_registers_and_many_in_panels() -> None:
    for rows, how in ((1, "lanes"), (16, "panel")):
        m = Model()
        compiled = m.compile([product(m, m.input(rows, 64), 16, 2, 32)], RELAXED)
        assert [unit.schedule.unpack for unit in compiled.units] == [how]


def test_codes_stay_packed_in_memory() -> None:
    m = Model()
    compiled = m.compile([product(m, m.input(1, 64), 16, 2, 32)], RELAXED)
    kept = [b for b in Machine(compiled).plan["buffers"] if b["kind"] in ("const", "persistent")]
    assert sum(b["elements"] for b in kept) == 16 * 2 * 4 + 16 * 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tile o0=4; vector o0; unpack lanes", None),
        ("tile o0=6; vector o0; unpack lanes", "fours"),
        ("tile o0=8; vector o0; unroll 4; unpack bytes", None),
        ("tile o0=16; vector o0; unpack panel", None),
        ("vector inner; unpack panel", "fours"),
        ("tile o0=64; vector o0; unpack panel", "scratch"),
    ],
)
def test_a_schedule_from_elsewhere_is_admitted_only_if_it_fits(text: str, reason: str | None) -> None:
    m = Model()
    compiled = m.compile([product(m, m.input(1, 2048), 64, 64, 32)], RELAXED)
    spec = compiled.items[0].spec
    assert coded(spec) is not None
    if reason is None:
        check(parse(text), spec, RELAXED)
    else:
        with pytest.raises(ValueError, match=reason):
            check(parse(text), spec, RELAXED)


def test_codes_of_8_bits_are_no_bytes_to_multiply() -> None:
    m = Model()
    compiled = m.compile([product(m, m.input(1, 64), 8, 2, 32, bits=8)], RELAXED)
    assert all(s.unpack != "bytes" for s in compiled.scheduler.candidates(compiled.items[0]))
    with pytest.raises(ValueError, match="less than 8 bits"):
        check(parse("tile o0=4; vector o0; unpack bytes"), compiled.items[0].spec, RELAXED)
