"""Lowering: the schedules of every family's space compute what the tensor expressions say, wherever they may be run."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from unit.plan_interpreter import RELAXED, WASM, WEBGPU, Machine, Model
from unit.tensor_programs import (
    attention,
    convolution,
    gather,
    layer_norm,
    matmul,
    number,
    reduce_axes,
    relu,
    silu,
    softmax,
)
from unit.test_fuse import close

from nnjit import ir
from nnjit.lower.accumulators import Product, by_operand
from nnjit.lower.lower import lower
from nnjit.lower.scheduled import lower_scheduled
from nnjit.schedule.schedule import Schedule, parse
from nnjit.schedule.space import space
from nnjit.symbolic import maximum, minimum
from nnjit.target import Hardware, Target
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Index, Tensor

TARGETS = pytest.mark.parametrize("target", [WASM, RELAXED, WEBGPU], ids=["wasm", "relaxed", "webgpu"])


SMALL = Hardware(gflops=50, bandwidth=((1 << 10, 10.0),), cache_bytes=(512, 6000))
"""A core whose second cache holds 1500 floats: 37 rows of 40, or two tiles of 8 columns of 93 terms in half of it."""


def product_of(
    *a: int, b: tuple[int, ...], transposed: bool = False, dtype: str = "f32", symbolic: tuple = ()
):  # type: ignore[no-untyped-def]
    def build(m: Model) -> Tensor:
        x = m.input(*a, dtype=dtype, symbolic=symbolic)
        w = m.weight(*b, dtype=dtype) if len(b) == 2 else m.input(*b, dtype=dtype)
        return matmul(m, x, w, transposed)

    return build


def broadcast_chain(m: Model) -> Tensor:
    x, row, column = m.input(3, 5, 6), m.input(6), m.weight(5, 1)
    return m.b.elementwise(silu, m.b.elementwise(ir.add, m.b.elementwise(ir.mul, x, row), column))


def transposed_sum(m: Model) -> Tensor:
    return m.b.elementwise(ir.add, m.input(6, 7), m.b.permute(m.input(7, 6), (1, 0)))


def transpose_of(*shape: int, dtype: str = "f32") -> Callable[[Model], Tensor]:
    def build(m: Model) -> Tensor:
        x = m.input(*shape, dtype=dtype)
        turned = m.b.permute(x, tuple(range(x.rank))[::-1])
        return m.b.compute(turned.shape, dtype, lambda *c: turned.at(*c))

    return build


def steps_of(step: int) -> Callable[[Model], Tensor]:
    """Every |step|-th element of a row, from its end where step is negative, plus one."""

    def build(m: Model) -> Tensor:
        x = m.input(3, 10 * abs(step) + 1)
        first = 0 if step > 0 else 10 * -step
        taken = m.b.slice_(x, (0, first), (1, step), (3, 11))
        return m.b.elementwise(lambda e: ir.add(e, number(1)), taken)

    return build


def planes(filters: int, depth: int, kernel: int, stride: int) -> Callable[[Model], Tensor]:
    """A convolution, without padding, of channels that are planes of memory, into planes; depthwise where `depth` is 0."""

    def build(m: Model) -> Tensor:
        x, bias = m.input(depth or filters, 15, 27), m.input(filters)
        w = m.weight(filters, max(1, depth), kernel, kernel)
        shape = (filters, (15 - kernel) // stride + 1, (27 - kernel) // stride + 1)

        def product(o: Index, i: Index, j: Index, u: Index, v: Index, c: Index = 0) -> ir.Expr:
            return ir.mul(x.at(c if depth else o, i * stride + u, j * stride + v), w.at(o, c, u, v))

        taps = (kernel, kernel, depth) if depth else (kernel, kernel)
        y = m.b.reduce("sum", shape, taps, product, "f32", "conv")
        return m.b.compute(shape, "f32", lambda o, i, j: ir.add(y.at(o, i, j), bias.at(o)))

    return build


def padding(
    *shape: int, before: int = 2, after: int = 3, dtype: str = "f32", symbolic: tuple[int, ...] = ()
) -> Callable[[Model], Tensor]:
    """Ones around the two last axes; `before` = −1 takes one element away."""

    def build(m: Model) -> Tensor:
        x = m.input(*shape, dtype=dtype, symbolic=symbolic)
        inputs = x.shape[-2:]

        def element(*at: Index) -> ir.Expr:
            inside: ir.Expr | None = None
            source = []
            for c, d in zip(at[-2:], inputs, strict=True):
                position = c - before
                for test in (
                    ir.binary("ge", ir.index(position), ir.const(0, "i32")),
                    ir.binary("lt", ir.index(position), ir.index(d)),
                ):
                    inside = test if inside is None else ir.binary("and", inside, test)
                source.append(minimum(maximum(position, 0), d - 1))
            assert inside is not None
            return ir.select(inside, x.at(*at[:-2], *source), ir.const(1, x.at(*at[:-2], *source).dtype))

        return m.b.compute((*x.shape[:-2], *(d + before + after for d in inputs)), dtype, element, "pad")

    return build


def integers(dtype: str) -> Callable[[Model], Tensor]:
    def build(m: Model) -> Tensor:
        x, y = m.input(5, 9, dtype=dtype), m.input(9, dtype=dtype)
        if dtype == "bool":
            return m.b.elementwise(lambda a, b: ir.binary("xor", a, ir.unary("not", b)), x, y)
        return m.b.elementwise(lambda a, b: ir.add(ir.mul(a, b), a), x, y)

    return build


def matmul_with_epilogue(m: Model) -> Tensor:
    y = m.b.elementwise(ir.add, matmul(m, m.input(7, 6), m.weight(6, 9)), m.weight(9))
    return m.b.elementwise(ir.add, m.b.elementwise(relu, y), m.input(7, 9))


def over(axes: list[int], combine: str, *shape: int, dtype: str = "f32") -> Callable[[Model], Tensor]:
    return lambda m: reduce_axes(m, m.input(*shape, dtype=dtype), axes, combine)


def long_chain(m: Model) -> Tensor:
    """Each link uses the one before twice: without sharing, its text would double forty times."""
    x = m.input(8, 4)
    y: Tensor = x
    for _ in range(40):
        y = m.b.elementwise(silu, y)
    return y


FAMILIES: dict[str, Callable[[Model], Tensor]] = {
    "matmul 7×5×10": product_of(7, 5, b=(5, 10)),
    "matmul of one row": product_of(1, 6, b=(6, 9)),
    "matmul of one column": product_of(9, 4, b=(4, 1)),
    "dot product": product_of(1, 21, b=(21, 1)),
    "matmul, columns not in fours": product_of(5, 3, b=(3, 3)),
    "matmul, second operand transposed": product_of(6, 9, b=(5, 9), transposed=True),
    "batched matmul": product_of(2, 3, 5, 6, b=(2, 3, 6, 7)),
    "batched matmul, transposed": product_of(2, 5, 8, b=(2, 6, 8), transposed=True),
    "matmul of i32": product_of(5, 3, b=(3, 6), dtype="i32"),
    "matmul of i64": product_of(5, 3, b=(3, 6), dtype="i64"),
    "matmul without depth": product_of(3, 0, b=(0, 5)),
    "matmul without rows": product_of(0, 4, b=(4, 5)),
    "matmul, bias, ReLU, residual": matmul_with_epilogue,
    "convolution 3×3": lambda m: convolution(m, 3, 5, 3, (6, 5)),
    "convolution 3×3 of many channels": lambda m: convolution(m, 9, 16, 3, (7, 6)),
    "convolution 3×3 of a small picture": lambda m: convolution(m, 8, 12, 3, (3, 2)),
    "convolution 1×1": lambda m: convolution(m, 4, 8, 1, (5, 4)),
    "strided convolution": lambda m: convolution(m, 4, 8, 3, (6, 7), stride=2),
    "depthwise convolution": lambda m: convolution(m, 6, 6, 3, (5, 5), groups=6),
    "depthwise convolution of planes": planes(5, 0, 3, 1),
    "depthwise convolution of planes, strided": planes(3, 0, 3, 2),
    "depthwise convolution of planes, every third": planes(3, 0, 5, 3),
    "strided convolution of planes": planes(9, 3, 3, 2),
    "strided convolution 7×7 of planes": planes(12, 3, 7, 2),
    "depthwise convolution 5×5": lambda m: convolution(m, 8, 8, 5, (9, 11), groups=8),
    "padding": padding(2, 5, 29),
    "padding of little": padding(3, 2, before=9, after=1),
    "padding before, less after": padding(4, 21, before=1, after=-2),
    "padding of i32": padding(3, 18, dtype="i32"),
    "padding of u8": padding(3, 18, dtype="u8"),
    "grouped convolution": lambda m: convolution(m, 4, 6, 3, (4, 5), groups=2),
    "softmax": lambda m: softmax(m, m.input(6, 7))[0],
    "softmax of one row": lambda m: softmax(m, m.input(37))[0],
    "attention with a mask": lambda m: attention(m, 3, 30, 11, 8, mask=True),
    "attention of few rows": lambda m: attention(m, 2, 4, 21, 6, mask=True),
    "attention of shared keys": lambda m: attention(m, 2, 7, 9, 8, group=3),
    "layer norm": lambda m: layer_norm(m, m.input(2, 3, 18)),
    "sum of rows": over([1], "sum", 6, 19),
    "sum of many rows": over([0], "sum", 70, 75),
    "sum of many rows, swept": over([0], "sum", 71, 120),
    "maximum of many rows of each batch, swept": over([1], "max", 2, 67, 64),
    "sum of rows along two axes, swept": over([0, 1], "sum", 5, 21, 96),
    "maximum of columns": over([0], "max", 6, 19),
    "minimum of two axes": over([0, 2], "min", 3, 4, 5),
    "sum of everything": over([0, 1], "sum", 5, 7),
    "sum of nothing": over([1], "sum", 4, 0),
    "product of i64": over([1], "prod", 3, 5, dtype="i64"),
    "elementwise with broadcasts": broadcast_chain,
    "elementwise with a transposed operand": transposed_sum,
    "transpose 21×19": transpose_of(21, 19),
    "transpose 18×257": transpose_of(18, 257),
    "transpose 5×3×17 of i32": transpose_of(5, 3, 17, dtype="i32"),
    "transpose 9×10 of u8": transpose_of(9, 10, dtype="u8"),
    "every second element": steps_of(2),
    "every third element": steps_of(3),
    "reversed": steps_of(-1),
    "every second element, reversed": steps_of(-2),
    "gather": lambda m: gather(m, m.input(4, 6), m.input(5, dtype="i64")),
    "elementwise of i64": integers("i64"),
    "elementwise of u8": integers("u8"),
    "elementwise of i8": integers("i8"),
    "elementwise of bool": integers("bool"),
    "elementwise of nothing": lambda m: m.b.elementwise(relu, m.input(3, 0)),
    "a chain that shares": long_chain,
}


SURE = 4
"""Schedules at the front of a space, those that run first, that every run of the tests checks."""


def drawn(space: list[Schedule], sure: int, most: int) -> list[Schedule]:
    """The first schedules of a space, and others drawn afresh."""
    first, rest = space[:sure], space[sure:]
    return [*first, *random.sample(rest, min(len(rest), most - sure))]


def check_schedules(build: Callable[[Model], Tensor], target: Target, most: int) -> None:
    """Compare what the schedules of a space compute, up to `most` an item: the first ones, and others drawn afresh."""
    m = Model(11)
    out = build(m)
    expected = interpret([out], m.arrays, m.env.hints)[0]
    compiled = m.compile([out], target)
    machine = Machine(compiled)
    close(machine.run(m.arrays)[0], expected)
    for n, item in enumerate(compiled.items):
        space = compiled.scheduler.candidates(item)
        for schedule in drawn(space, SURE, most):
            try:
                made = machine.run_unit(compiled.scheduler.unit(item, schedule), n)
                for name, array in made.items():
                    close(array, machine.memory[name])
            except Exception as error:
                raise AssertionError(f"{schedule}\n{item.spec}\n{error}") from error


@pytest.mark.parametrize("family", FAMILIES)
@TARGETS
def test_the_schedules_of_a_family_compute_its_expression(family: str, target: Target) -> None:
    check_schedules(FAMILIES[family], target, most=48 if family == "matmul 7×5×10" else 14)


@pytest.mark.parametrize(("columns", "dtype"), [(36, "f32"), (34, "f32"), (27, "i32")])
def test_blocks_of_columns_that_stay_in_a_cache_compute_the_product(columns: int, dtype: str) -> None:
    m = Model(7)
    out = product_of(43, 40, b=(40, columns), dtype=dtype)(m)
    compiled = m.compile([out], RELAXED.measured(SMALL))
    machine = Machine(compiled)
    close(machine.run(m.arrays)[0], interpret([out], m.arrays, m.env.hints)[0])
    blocks = [s for s in compiled.scheduler.candidates(compiled.items[0]) if s.serial]
    assert blocks
    for schedule in blocks[:2]:
        for name, array in machine.run_unit(compiled.scheduler.unit(compiled.items[0], schedule), 0).items():
            close(array, machine.memory[name])


@pytest.mark.parametrize(("rows", "terms", "columns"), [(37, 40, 36), (43, 100, 36), (43, 40, 12)])
def test_there_are_no_blocks_where_rows_or_all_columns_fit_the_cache_or_two_tiles_do_not(
    rows: int, terms: int, columns: int
) -> None:
    m = Model()
    compiled = m.compile([product_of(rows, terms, b=(terms, columns))(m)], RELAXED.measured(SMALL))
    wide = [s for s in compiled.scheduler.candidates(compiled.items[0]) if s.tile("o1") >= 8]
    assert wide and not any(s.serial for s in wide)


@pytest.mark.parametrize("target", [WASM, RELAXED], ids=["wasm", "relaxed"])
@pytest.mark.parametrize(("rows", "dtype"), [(7, "f32"), (8, "f32"), (7, "i8")])
def test_few_rows_are_the_columns_where_the_weight_comes_from_memory(
    rows: int, dtype: str, target: Target
) -> None:
    m = Model(5)
    out = product_of(rows, 40, b=(40, 45), dtype=dtype)(m)
    compiled = m.compile([out], target.measured(SMALL))
    machine = Machine(compiled)
    close(machine.run(m.arrays)[0], interpret([out], m.arrays, m.env.hints)[0])
    across = [s for s in compiled.scheduler.candidates(compiled.items[0]) if s.vector == "o0"]
    assert across
    for schedule in drawn(across, 2, 6):
        for name, array in machine.run_unit(compiled.scheduler.unit(compiled.items[0], schedule), 0).items():
            close(array, machine.memory[name])


@pytest.mark.parametrize(
    "build",
    [
        product_of(6, 40, b=(40, 45)),
        product_of(9, 40, b=(40, 45)),
        product_of(7, 10, b=(10, 45)),
        product_of(1, 7, 40, b=(1, 40, 45)),
        product_of(7, 40, b=(40, 45), symbolic=(0,)),
    ],
    ids=["too few", "too many", "in the cache", "no weight", "of a size that may be less"],
)
def test_rows_are_no_columns_elsewhere(build: Callable[[Model], Tensor]) -> None:
    m = Model()
    compiled = m.compile([build(m)], RELAXED.measured(SMALL))
    item = compiled.items[0]
    assert all(s.vector in (item.spec.outer[-1][0], "inner") for s in compiled.scheduler.candidates(item))


@pytest.mark.parametrize("size", [5, 7, 11])
def test_the_last_vector_of_a_tile_is_moved_back(size: int) -> None:
    m = Model(3)
    out = m.b.elementwise(ir.add, product_of(5, 6, b=(6, 13))(m), m.input(13))
    compiled = m.compile([out])
    machine = Machine(compiled)
    close(machine.run(m.arrays)[0], interpret([out], m.arrays, m.env.hints)[0])
    for how in ("", "; pack 1", "; serial o0=2", "; unroll 3"):
        schedule = compiled.scheduler.admit(compiled.items[0], f"tile o0=2 o1={size}; vector o1{how}")
        for name, array in machine.run_unit(compiled.scheduler.unit(compiled.items[0], schedule), 0).items():
            close(array, machine.memory[name])


@TARGETS
def test_f64_computes_on_the_cpu_and_is_refused_by_the_gpu(target: Target) -> None:
    from nnjit.errors import UnsupportedError

    build = product_of(5, 3, b=(3, 6), dtype="f64")
    if target.device == "wasm":
        check_schedules(build, target, most=48)
    else:
        with pytest.raises(UnsupportedError, match="f64"):
            m = Model()
            m.compile([build(m)], target)


# Symbolic extents


def symbolic_product(m: Model) -> Tensor:
    x, w = m.input(9, 6, symbolic=(0, 1)), m.input(6, 5, symbolic=(0, 1))
    assert m.env.eq(x.shape[1], w.shape[0])
    return m.b.elementwise(relu, matmul(m, x, w))


def symbolic_softmax(m: Model) -> Tensor:
    return softmax(m, m.input(5, 9, symbolic=(0, 1)))[0]


def symbolic_attention(m: Model) -> Tensor:
    q = m.input(3, 21, 8, symbolic=(1,))
    k, v = (m.input(3, 17, 8, symbolic=(1,)) for _ in range(2))
    assert m.env.eq(k.shape[1], v.shape[1])
    weights, _ = softmax(m, matmul(m, q, k, transposed=True))
    return matmul(m, weights, v)


def symbolic_convolution(m: Model) -> Tensor:
    """3×3, without padding, of a picture [height, width, 8]."""
    x, w = m.input(13, 12, 8, symbolic=(0, 1)), m.weight(8, 3, 3, 8)
    shape = (x.shape[0] - 2, x.shape[1] - 2, 8)

    def product(i: Index, j: Index, o: Index, u: Index, v: Index, c: Index) -> ir.Expr:
        return ir.mul(x.at(i + u, j + v, c), w.at(o, u, v, c))

    return m.b.elementwise(relu, m.b.reduce("sum", shape, (3, 3, 8), product, "f32", "conv"))


SYMBOLIC: dict[str, tuple[Callable[[Model], Tensor], list[list[tuple[int, ...]]]]] = {
    "matmul": (symbolic_product, [[(8, 4), (4, 4)], [(13, 7), (7, 11)], [(30, 2), (2, 8)]]),
    "convolution": (symbolic_convolution, [[(10, 11, 8)], [(17, 10, 8)], [(19, 34, 8)]]),
    "attention": (
        symbolic_attention,
        [
            [(3, 21, 8), (3, 17, 8), (3, 17, 8)],
            [(3, 70, 8), (3, 9, 8), (3, 9, 8)],
            [(3, 8, 8), (3, 40, 8), (3, 40, 8)],
        ],
    ),
    "padding": (padding(4, 21, symbolic=(0, 1)), [[(3, 16)], [(5, 8)], [(9, 40)]]),
    "softmax": (symbolic_softmax, [[(4, 8)], [(2, 3)], [(17, 33)]]),
}


@pytest.mark.parametrize("family", SYMBOLIC)
@TARGETS
def test_a_schedule_chosen_at_one_size_is_right_at_every_size_that_fits(family: str, target: Target) -> None:
    build, sizes = SYMBOLIC[family]
    m = Model(5)
    out = build(m)
    compiled = m.compile([out], target)
    machine = Machine(compiled)
    fitting = 0
    for shapes in sizes:
        arrays = {name: m.data(s) for name, s in zip(m.arrays, shapes, strict=True)}
        symbols = machine.fits(arrays)
        if symbols is None:
            continue
        fitting += 1
        close(machine.run(arrays)[0], interpret([out], arrays, symbols)[0])
        for schedule in drawn(compiled.scheduler.candidates(compiled.items[0]), 2, 5):
            for name, array in machine.run_unit(
                compiled.scheduler.unit(compiled.items[0], schedule), 0
            ).items():
                close(array, machine.memory[name])
    assert fitting >= 2


@TARGETS
def test_no_candidate_needs_larger_sizes_than_the_plan_guards(target: Target) -> None:
    m = Model()
    compiled = m.compile([symbolic_product(m)], target)
    guards = {str(a): b for op, a, b in Machine(compiled).plan["guards"] if op == "ge"}
    for item in compiled.items:
        for schedule in compiled.scheduler.candidates(item):
            for extent, least in compiled.scheduler.unit(item, schedule).requires:
                assert guards[str(extent)] >= least


# What is refused, what is shared


def test_an_order_that_leaves_out_an_axis_is_refused() -> None:
    m = Model()
    compiled = m.compile([FAMILIES["matmul 7×5×10"](m)])
    with pytest.raises(ValueError, match="order"):
        compiled.scheduler.unit(compiled.items[0], parse("order o0"))


def test_packing_without_a_vector_axis_is_refused() -> None:
    m = Model()
    compiled = m.compile([FAMILIES["matmul 7×5×10"](m)])
    with pytest.raises(ValueError, match="pack"):
        compiled.scheduler.unit(compiled.items[0], parse("tile o0=2; pack 1"))


def test_a_weight_is_packed_once_and_an_activation_at_each_inference() -> None:
    m = Model()
    compiled = m.compile([matmul(m, m.input(8, 6), m.weight(6, 8)), matmul(m, m.input(8, 6), m.input(6, 8))])
    packed = parse("tile o0=4 o1=8; vector o1; pack 1")
    first, second = (compiled.scheduler.unit(item, packed) for item in compiled.items)
    assert (len(first.init), len(first.steps)) == (1, 1)
    assert (len(second.init), len(second.steps)) == (0, 2)


def test_rows_that_indices_choose_are_read_several_at_a_time() -> None:
    m = Model(2)
    compiled = m.compile([gather(m, m.weight(9, 21), m.input(7, dtype="i64"))])
    assert compiled.units[0].schedule.tile("o0") > 1
    check_schedules(lambda m: gather(m, m.weight(9, 21), m.input(7, dtype="i64")), RELAXED, most=6)


def test_an_operand_of_gathered_rows_is_packed_with_its_indices() -> None:
    m = Model(2)
    rows = gather(m, m.input(8, 9), m.input(6, dtype="i64"))
    out = m.b.reduce(
        "sum", (6, 6), (9,), lambda i, j, k: ir.mul(m.b.inputs[0].at(i, k), rows.at(j, k)), "f32"
    )
    expected = interpret([out], m.arrays)[0]
    np.testing.assert_allclose(Machine(m.compile([out])).run(m.arrays)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(1, 5), (4, 1), (3, 3)])
def test_an_accumulator_takes_its_terms_in_one_order_wherever_its_window_lies(
    rows: int, columns: int
) -> None:
    def load(buffer: str, *at: int) -> ir.Expr:
        return ir.load(buffer, 100 * at[0] + at[1], "f32", 4)

    products = [
        Product(load("x", i + u, j + v), load("w", u, v), "mul", f"{i} {j}")
        for u in range(3) for v in range(3) for i in range(rows) for j in range(columns)
    ]  # fmt: skip
    groups = by_operand(products)
    for register in {one.register for one in products}:
        taken = [one for group in groups for one in group if one.register == register]
        assert taken == [one for one in products if one.register == register]
    assert len(groups) == (rows + 2) * (columns + 2), "an element of x is loaded more than once"


def test_products_that_wait_for_each_other_are_all_taken() -> None:
    a, b, w = (ir.load(name, 0, "f32", 4) for name in "abw")
    products = [Product(x, w, "mul", r) for r, pair in (("m", (a, b)), ("n", (b, a))) for x in pair]
    taken = [one for group in by_operand(products) for one in group]
    assert sorted(map(id, taken)) == sorted(map(id, products))
    for register in "mn":
        assert [one for one in taken if one.register == register] == [
            one for one in products if one.register == register
        ]


def test_no_vector_is_loaded_between_the_stores_of_a_tile() -> None:
    """A store there would keep an engine from pairing the loads beside it into wider ones."""
    m = Model()
    product = matmul(m, m.input(6, 7), m.weight(7, 16))
    biased = m.b.elementwise(relu, m.b.elementwise(ir.add, product, m.input(16)))
    compiled = m.compile([m.b.elementwise(ir.add, biased, m.input(6, 16))])
    schedule = parse("tile o0=2 o1=8; vector o1; pack 1")
    kernel = lower(compiled.items[0].spec, schedule, RELAXED).kernel
    stores = [s for s in kernel.body if isinstance(s, ir.Store)]
    assert len(stores) == 4 and kernel.body[-4:] == stores
    assert {s.value.op for s in stores} == {"local"}


def test_rows_are_swept_where_no_buffer_is_read_and_written() -> None:
    m = Model()
    (item,) = m.compile([FAMILIES["sum of many rows, swept"](m)], WASM).items
    assert space(item.spec, WASM)[0].sweep
    item.spec.buffers = [ir.Buffer(b.name, b.storage, "rw") for b in item.spec.buffers]
    assert not any(schedule.sweep for schedule in space(item.spec, WASM))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_sweep_gives_each_thread_a_task(threads: int) -> None:
    m = Model()
    target = Target(threads=threads)
    (item,) = m.compile([over([0], "sum", 100, 1024)(m)], target).items
    first = space(item.spec, target)[0]
    assert first.sweep and lower_scheduled(item.spec, first, target, "k").kernel.tasks >= threads


def test_constants_of_another_width_wrap() -> None:
    assert ir.cast(ir.const((1 << 40) + 5, "i64"), "i32").attr == 5
    assert ir.cast(ir.const(-1, "i32"), "u32").attr == (1 << 32) - 1
    assert ir.cast(number(0.5), "bool").attr is True
