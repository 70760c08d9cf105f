"""Fusion: random programs give the results of their tensor expressions, and what must be one kernel is."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from unit.plan_interpreter import RELAXED, WASM, WEBGPU, Machine, Model
from unit.tensor_programs import (
    RandomProgram,
    layer_norm,
    matmul,
    number,
    reduce_axes,
    relu,
    silu,
    softmax,
)

from nnjit import ir
from nnjit.passes.fuse import Fuser
from nnjit.passes.group import Group, storage_of, writers
from nnjit.target import Target
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Compute, Source, Storage, Tensor, reads

FIXED = (*range(24), 123287, 5001210, 8000295)
"""The last ones found bugs once: a group read through another view, an operand that cannot be packed, a function inside
a branch."""
FRESH_SECONDS = 4.0


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-4 of the largest element: sums are taken in another order."""
    assert actual.shape == expected.shape
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected)
        return
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


def written_by_others(machine: Machine, number: int) -> set[str]:
    return {
        name
        for n, unit in enumerate(machine.compiled.units)
        if n != number
        for step in (*unit.init, *unit.steps)
        for name, b in zip(step.buffers, step.kernel.buffers, strict=True)
        if b.access != "r"
    }


def check_program(seed: int, target: Target) -> None:
    """The plan's outputs are those of the expressions; two other schedules of every kernel agree with the default."""
    program = RandomProgram(seed)
    model, outputs = program.model, program.outputs
    expected = interpret(outputs, model.arrays, model.env.hints)
    compiled = model.compile(outputs, target)
    machine = Machine(compiled)
    for actual, wanted in zip(machine.run(model.arrays), expected, strict=True):
        close(actual, wanted)
    for n, item in enumerate(compiled.items):
        schedules = compiled.scheduler.candidates(item)
        shared = written_by_others(machine, n)
        for schedule in program.random.sample(schedules, min(2, len(schedules))):
            made = machine.run_unit(compiled.scheduler.unit(item, schedule), n)
            for name, array in made.items():
                if name not in shared:
                    close(array, machine.memory[name])


@pytest.mark.parametrize("target", [WASM, RELAXED, WEBGPU], ids=["wasm", "relaxed", "webgpu"])
def test_random_programs_compute_what_their_expressions_say(target: Target) -> None:
    for seed in FIXED:
        try:
            check_program(seed, target)
        except Exception as error:
            raise AssertionError(f"seed {seed} on {target.device}: {error}") from error


def test_fresh_random_programs_compute_what_their_expressions_say() -> None:
    seed = int(os.environ.get("NNJIT_SEED", "0")) or time.time_ns() % 10**9
    end = time.monotonic() + FRESH_SECONDS
    while time.monotonic() < end:
        target = (WASM, RELAXED, WEBGPU)[seed % 3]
        try:
            check_program(seed, target)
        except Exception as error:
            raise AssertionError(f"NNJIT_SEED={seed} on {target.device}: {error}") from error
        seed += 1


# What is one kernel


def groups_of(model: Model, *outputs: Tensor) -> list[Group]:
    stored: list[Tensor] = [model.b.materialize(t) for t in outputs]
    return Fuser(model.env).run(model.b.computes, stored)


def test_a_chain_of_elementwise_is_one_kernel() -> None:
    m = Model()
    x = m.input(4, 5)
    for _ in range(5):
        x = m.b.elementwise(silu, x)
    assert len(groups_of(m, x)) == 1


def test_a_matmul_takes_bias_activation_and_residual_into_its_kernel() -> None:
    m = Model()
    x, r = m.input(6, 8), m.input(6, 4)
    y = m.b.elementwise(ir.add, matmul(m, x, m.weight(8, 4)), m.weight(4))
    assert len(groups_of(m, m.b.elementwise(ir.add, m.b.elementwise(relu, y), r))) == 1


def test_softmax_is_one_kernel() -> None:
    m = Model()
    assert len(groups_of(m, softmax(m, m.input(6, 9))[0])) == 1


def test_layer_norm_of_a_sum_is_one_kernel() -> None:
    m = Model()
    total = m.b.elementwise(ir.add, m.input(6, 9), m.input(6, 9))
    assert len(groups_of(m, layer_norm(m, total))) == 1


def test_reductions_of_the_same_rows_are_one_kernel() -> None:
    m = Model()
    y = matmul(m, m.input(6, 8), m.weight(8, 9))
    low, high = (reduce_axes(m, y, [1], combine) for combine in ("min", "max"))
    assert len(groups_of(m, low, high)) == 2
    last = [reduce_axes(m, rows, [0], combine) for rows, combine in ((low, "min"), (high, "max"))]
    assert len(groups_of(m, *last)) == 3


def test_reductions_of_the_same_tensor_along_different_axes_stay_apart() -> None:
    m = Model()
    y = matmul(m, m.input(6, 8), m.weight(8, 6))
    low, high = reduce_axes(m, y, [1], "min"), reduce_axes(m, y, [0], "max")
    assert len(groups_of(m, low, high)) == 3


def test_a_reduction_that_needs_its_twin_runs_after_it() -> None:
    m = Model()
    y = matmul(m, m.input(6, 8), m.weight(8, 9))
    low = reduce_axes(m, y, [1], "min")
    least = reduce_axes(m, low, [0], "min")
    high = m.b.reduce("max", (6, 1), (9,), lambda i, j, r: ir.sub(y.at(i, r), least.at(0, 0)), "f32")
    groups = groups_of(m, least, high)
    of = {c: n for n, g in enumerate(groups) for c in g.members}
    assert of[low] < of[least] < of[high]


def test_a_matmul_never_joins_another_ones_kernel() -> None:
    m = Model()
    y = matmul(m, matmul(m, m.input(6, 8), m.weight(8, 8)), m.weight(8, 4))
    assert len(groups_of(m, y)) == 2


def test_transposes_and_slices_cost_no_kernel() -> None:
    m = Model()
    x = m.b.slice_(m.b.permute(m.input(4, 6), (1, 0)), (1, 0), (2, 1), (3, 4))
    assert len(groups_of(m, m.b.elementwise(relu, x))) == 1


def test_what_nobody_reads_is_not_computed() -> None:
    m = Model()
    x = m.input(4, 5)
    m.b.elementwise(silu, x)
    assert len(groups_of(m, m.b.elementwise(relu, x))) == 1


def test_expressions_of_weights_alone_run_once() -> None:
    m = Model()
    scale = m.b.elementwise(lambda v: ir.div(number(1), ir.unary("sqrt", v)), m.weight(3))
    y = m.b.elementwise(ir.mul, m.input(2, 3), scale)
    assert [g.static for g in groups_of(m, y)] == [True, False]


def test_an_output_made_of_weights_alone_is_written_at_each_inference() -> None:
    m = Model()
    y = m.b.elementwise(relu, m.weight(3))
    compiled = m.compile([y])
    assert not compiled.units[0].init and len(compiled.units[0].steps) == 1


def test_a_reduction_with_an_axis_of_its_own_stays_apart() -> None:
    """out[i, j] = Σ_r x[i, r] · t[i, j, r]: a row of x holds nothing of j."""
    m = Model()
    x, t = m.b.elementwise(relu, m.input(5, 6)), m.input(5, 3, 6)
    y = m.b.reduce("sum", (5, 3), (6,), lambda i, j, r: ir.mul(x.at(i, r), t.at(i, j, r)), "f32")
    expected = interpret([y], m.arrays)[0]
    close(Machine(m.compile([y])).run(m.arrays)[0], expected)


def test_two_results_of_a_softmax_do_not_share_storage_with_its_numerators() -> None:
    m = Model()
    x = m.input(6, 7)
    e = m.b.elementwise(lambda a, b: ir.unary("exp", ir.sub(a, b)), x, reduce_axes(m, x, [1], "max"))
    total = reduce_axes(m, e, [1])
    outputs = [m.b.elementwise(ir.div, e, total), m.b.elementwise(ir.mul, e, total)]
    expected = interpret(outputs, m.arrays)
    for actual, wanted in zip(Machine(m.compile(outputs)).run(m.arrays), expected, strict=True):
        close(actual, wanted)


def test_a_softmax_of_a_softmax_does_not_lend_one_storage_twice() -> None:
    m = Model(3)
    x = m.input(6, 5)
    y = softmax(m, m.b.elementwise(ir.add, softmax(m, x)[0], x))[0]
    expected = interpret([y], m.arrays)[0]
    close(Machine(m.compile([y])).run(m.arrays)[0], expected)


@pytest.mark.parametrize("dtype", ["u8", "i8", "bool", "i64", "f16"])
@pytest.mark.parametrize("target", [WASM, WEBGPU], ids=["wasm", "webgpu"])
def test_a_result_within_a_row_kernel_is_stored_whatever_its_dtype(dtype: str, target: Target) -> None:
    def convert(a: ir.Expr) -> ir.Expr:
        if dtype == "bool":
            return ir.binary("gt", a, number(0))
        return ir.cast(ir.mul(a, number(4)), ir.COMPUTE_OF[dtype])

    m = Model()
    q = m.b.elementwise(convert, m.input(6, 7), dtype=dtype)
    z = m.b.elementwise(lambda a: ir.cast(a, "f32"), q, dtype="f32")
    outputs = [q, m.b.elementwise(ir.sub, z, reduce_axes(m, z, [1]))]
    expected = interpret(outputs, m.arrays)
    rounding = 2e-2 if dtype == "f16" else 1e-4
    for actual, wanted in zip(Machine(m.compile(outputs, target)).run(m.arrays), expected, strict=True):
        np.testing.assert_allclose(actual.astype("f8"), wanted.astype("f8"), rtol=rounding, atol=rounding)


def test_a_kernel_for_the_gpu_binds_no_more_buffers_than_allowed() -> None:
    m = Model()
    total = m.input(4, 4)
    for _ in range(11):
        total = m.b.elementwise(ir.add, total, m.input(4, 4))
    expected = interpret([total], m.arrays)[0]
    compiled = m.compile([total], Target(device="webgpu", max_storage_buffers=4))
    assert all(len(i.spec.buffers) <= 4 for i in compiled.items)
    close(Machine(compiled).run(m.arrays)[0], expected)


def test_a_group_that_grew_later_is_no_way_round() -> None:
    """r grows after q has read it, and needs g; then nothing that needs q may join g."""
    m = Model()
    x, y = m.input(4, 5), m.input(6, 5)
    r = m.b.elementwise(relu, x)
    q = m.b.elementwise(relu, m.b.slice_(r, (1, 0), (1, 1), (1, 5)))
    g = m.b.elementwise(relu, y)
    grown = m.b.elementwise(ir.add, r, m.b.slice_(g, (1, 0), (1, 1), (4, 5)))
    late = m.b.elementwise(ir.add, g, q)
    check_order(m, grown, late)


def check_order(m: Model, *outputs: Tensor) -> None:
    """Every group runs after those that make what it reads."""
    done: set[Compute] = set()
    for group in groups_of(m, *outputs):
        for c in group.members:
            for t, _ in reads(c.body):
                assert all(w in done or w in group.members for w in writers(t))
        done |= set(group.members)


@pytest.mark.parametrize("seed", range(40))
def test_every_group_runs_after_what_it_reads_and_every_element_is_made_once(seed: int) -> None:
    program = RandomProgram(seed)
    check_order(program.model, *program.outputs)
    groups = groups_of(program.model, *program.outputs)
    members = [c for g in groups for c in g.members]
    assert len(members) == len(set(members))
    alive = set(members)
    for c in members:
        for t, _ in reads(c.body):
            storage: Storage = storage_of(t)
            assert isinstance(storage, Source) or alive.issuperset(writers(t))
