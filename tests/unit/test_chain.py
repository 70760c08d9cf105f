"""Contraction, reductions over its rows, contraction: when they become one kernel, and that it runs on Wasm."""

from __future__ import annotations

import numpy as np
import pytest
from unit.plan_interpreter import RELAXED, WEBGPU, Machine, Model
from unit.tensor_programs import attention, matmul, softmax
from unit.wasm_engine import run_kernel

from nnjit import ir
from nnjit.compiler import CompiledPlan
from nnjit.lower.chain import Chain
from nnjit.schedule.schedule import Schedule
from nnjit.target import Target
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Tensor


def operands(m: Model, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    return m.input(2, queries, 8), m.input(2, keys, 8), m.input(2, keys, 8)


def chained(compiled: CompiledPlan) -> bool:
    return any(isinstance(item.spec, Chain) for item in compiled.items)


def test_scores_and_weights_have_no_buffer() -> None:
    m = Model()
    compiled = m.compile([attention(m, 2, 24, 40, 8)], RELAXED)
    assert chained(compiled)
    scores = 2 * 24 * 40
    assert all(spec["elements"] < scores for spec in Machine(compiled).plan["buffers"])


def test_scores_that_the_caller_wants_are_stored() -> None:
    m = Model()
    q, k, v = operands(m, 9, 12)
    scores = matmul(m, q, k, transposed=True)
    outputs = [matmul(m, softmax(m, scores)[0], v), scores]
    compiled = m.compile(outputs, RELAXED)
    assert not chained(compiled)
    for got, expected in zip(Machine(compiled).run(m.arrays), interpret(outputs, m.arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_rows_are_scaled_after_the_second_product() -> None:
    m = Model()
    (item,) = m.compile([attention(m, 2, 24, 40, 8)], RELAXED).items
    assert isinstance(item.spec, Chain)
    passes = [stage for stage in item.spec.parts[1].stages if stage.axes]
    assert len(passes) == 2  # the maxima, and the exponentials with their sums


def test_tiles_that_only_an_engine_with_more_registers_keeps_in_them_are_in_the_space() -> None:
    m = Model()
    compiled = m.compile([attention(m, 2, 128, 128, 64)], RELAXED)
    (item,) = compiled.items
    tiles = [tuple(size for _, size in s.tiles[:2]) for s in compiled.scheduler.candidates(item)]
    assert tiles[0] == (6, 8) and {(6, 16), (4, 16), (2, 32)} <= set(tiles)


def test_a_bias_that_the_next_layer_uses_again_is_stored_by_the_first_chain() -> None:
    m = Model()
    q, k, v = operands(m, 9, 12)
    scores = matmul(m, q, k, transposed=True)
    table, distance = m.input(5, 2), m.input(9, 12, dtype="i32")
    m.arrays["x4"] %= 5
    bias = m.b.compute(
        (2, 9, 12), "f32", lambda h, i, j: table.at(ir.value_index(distance.at(i, j)), h), "bias"
    )
    first = matmul(m, softmax(m, m.b.elementwise(ir.add, scores, bias))[0], v)
    scores = m.b.elementwise(ir.add, matmul(m, first, k, transposed=True), bias)
    output = matmul(m, softmax(m, scores)[0], v)
    compiled = m.compile([output], RELAXED)
    assert [isinstance(item.spec, Chain) for item in compiled.items] == [True, True]
    (expected,) = interpret([output], m.arrays)
    np.testing.assert_allclose(Machine(compiled).run(m.arrays)[0], expected, rtol=1e-5, atol=1e-5)


def test_weights_that_are_used_twice_are_stored() -> None:
    m = Model()
    q, k, v = operands(m, 9, 12)
    weights, _ = softmax(m, matmul(m, q, k, transposed=True))
    assert not chained(m.compile([matmul(m, weights, v), matmul(m, weights, k)], RELAXED))


def test_values_narrower_than_a_vector_are_left_alone() -> None:
    m = Model()
    q, k, v = m.input(2, 24, 8), m.input(2, 40, 8), m.input(2, 40, 2)
    output = matmul(m, softmax(m, matmul(m, q, k, transposed=True))[0], v)
    compiled = m.compile([output], RELAXED)
    assert not chained(compiled)
    (expected,) = interpret([output], m.arrays)
    np.testing.assert_allclose(Machine(compiled).run(m.arrays)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("queries, keys", [(1, 40), (24, 7), (24, 30000)])
def test_few_rows_few_keys_and_more_keys_than_scratch_memory_holds_are_left_alone(
    queries: int, keys: int
) -> None:
    m = Model()
    q, k, v = operands(m, queries, keys)
    weights, _ = softmax(m, matmul(m, q, k, transposed=True))
    assert not chained(m.compile([matmul(m, weights, v)], RELAXED))


def test_two_large_layers_with_a_normalisation_between_them_are_left_alone() -> None:
    m = Model()
    hidden, _ = softmax(m, matmul(m, m.input(24, 600), m.weight(600, 400)))
    assert not chained(m.compile([matmul(m, hidden, m.weight(400, 200))], RELAXED))


def test_a_gpu_keeps_three_kernels() -> None:
    m = Model()
    assert not chained(m.compile([attention(m, 2, 24, 40, 8)], WEBGPU))


def test_a_plan_is_for_no_more_keys_than_scratch_memory_holds() -> None:
    m = Model()
    q, k, v = (m.input(2, n, 8, symbolic=(1,)) for n in (24, 40, 40))
    assert m.env.eq(k.shape[1], v.shape[1])
    compiled = m.compile([matmul(m, softmax(m, matmul(m, q, k, transposed=True))[0], v)], RELAXED)
    assert chained(compiled)
    machine = Machine(compiled)
    for keys, fits in ((100, True), (30000, False)):
        arrays = {
            name: np.zeros((2, n, 8), np.float32) for name, n in zip(m.arrays, (24, keys, keys), strict=True)
        }
        assert (machine.fits(arrays) is not None) == fits


def test_a_schedule_from_elsewhere_is_one_of_the_space() -> None:
    m = Model()
    compiled = m.compile([attention(m, 2, 128, 128, 64)], RELAXED)
    (item,) = compiled.items
    for known in compiled.scheduler.candidates(item):
        assert compiled.scheduler.admit(item, str(known)) == known
    with pytest.raises(ValueError, match="its own space"):
        compiled.scheduler.admit(item, str(Schedule(unroll=4)))


def test_schedules_that_differ_in_their_blocks_alone_share_a_kernel() -> None:
    m = Model()
    compiled = m.compile([attention(m, 2, 200, 64, 32)], RELAXED)
    (item,) = compiled.items
    schedules = compiled.scheduler.candidates(item)
    kernels = {s: compiled.scheduler.unit(item, s).steps[-1].kernel for s in schedules}
    assert len(set(kernels.values())) == len({s.tiles for s in schedules}) < len(schedules)


@pytest.mark.parametrize("target", [RELAXED, Target()], ids=["relaxed", "plain"])
def test_kernels_run_on_wasm_with_scratch_memory(target: Target) -> None:
    m = Model(3)
    out = attention(m, 3, 31, 19, 8, mask=True)
    compiled = m.compile([out], target)
    machine = Machine(compiled)
    machine.run(m.arrays)
    expected = interpret([out], m.arrays)[0].reshape(-1)
    assert np.isnan(expected).any() and np.isfinite(expected).any()
    (item,) = compiled.items
    for schedule in compiled.scheduler.candidates(item)[::4]:
        unit = compiled.scheduler.unit(item, schedule)
        machine.run_unit(unit, 0)
        arrays = {name: a.view(bool) if a.dtype == np.uint8 else a for name, a in machine.memory.items()}
        for step in unit.steps:
            named = zip(step.kernel.buffers, step.buffers, strict=True)
            names = {b.name: n for b, n in named}
            extra = {spec["id"]: np.zeros(spec["elements"], np.float32) for spec in unit.buffers}
            given = {b: arrays.get(n, extra.get(n)) for b, n in names.items()}
            got = run_kernel(step.kernel, given, dict(step.arguments), target)  # type: ignore[arg-type]
            arrays |= {names[b.name]: got[b.name] for b in step.kernel.buffers if b.access != "r"}
        np.testing.assert_allclose(
            arrays[unit.steps[-1].buffers[_output(unit.steps[-1].kernel)]], expected, 1e-5, 1e-5
        )


@pytest.mark.parametrize("keys", [19, 32])
def test_weighted_means_of_the_largest_numbers_are_finite(keys: int) -> None:
    m = Model(5)
    out = attention(m, 2, 12, keys, 8)
    _, _, values, _ = m.arrays
    m.arrays[values][:] = 3.3e38
    compiled = m.compile([out], RELAXED)
    assert chained(compiled)
    (got,) = Machine(compiled).run(m.arrays)
    np.testing.assert_allclose(got, np.float32(3.3e38), rtol=2e-6)


def _output(kernel) -> int:  # type: ignore[no-untyped-def]
    return next(n for n, b in enumerate(kernel.buffers) if b.access != "r")
