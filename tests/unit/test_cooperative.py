"""Kernels whose loops a workgroup shares: what they look like, and when the space prefers them."""

from __future__ import annotations

import numpy as np
import pytest
from unit.ir_interpreter import KernelFault, poison, run

from nnjit import ir
from nnjit.ir import Barrier, If
from nnjit.lower.cooperative import lower_cooperative
from nnjit.lower.spec import KernelSpec, Reduce, Stage, StoreTo
from nnjit.schedule.schedule import Schedule
from nnjit.schedule.space import space
from nnjit.symbolic import IntExpr, var
from nnjit.target import Target

GPU = Target(device="webgpu")


def softmax(rows: int | IntExpr, width: int | IntExpr, hints: dict[str, int] | None = None) -> KernelSpec:
    """y[r, :] = softmax(x[r, :]), the exponentials kept in y between the stages."""
    at = var("r") * width + var("c")
    shifted = ir.sub(ir.load("x", at, "f32"), ir.local("m", "f32"))
    exponential = ir.unary("exp", shifted)
    axes = (("c", width),)
    stages = [
        Stage(axes, [Reduce("m", "max", ir.load("x", at, "f32"))], []),
        Stage(axes, [Reduce("s", "sum", exponential)], [StoreTo("y", at, exponential)]),
        Stage(axes, [], [StoreTo("y", at, ir.div(ir.load("y", at, "f32"), ir.local("s", "f32")))]),
    ]
    buffers = [ir.Buffer("x", "f32", "r"), ir.Buffer("y", "f32", "rw")]
    bounds: dict[str, tuple[int, int | None]] = {name: (1, None) for name in hints or {}}
    return KernelSpec((("r", rows),), stages, buffers, hints or {}, bounds)


def compute(spec: KernelSpec, group: int, x: np.ndarray, symbols: dict[str, int]) -> np.ndarray:
    kernel = lower_cooperative(spec, Schedule(group=group), GPU).kernel
    memory = {"x": x.ravel().copy(), "y": poison("f32", x.size)}
    run(kernel, memory, symbols, target=GPU)
    return memory["y"].reshape(x.shape)


@pytest.mark.parametrize("group", [2, 16, 64])
@pytest.mark.parametrize("width", [1, 15, 16, 100])
def test_a_workgroup_computes_a_row_without_races(group: int, width: int) -> None:
    x = np.random.default_rng(width).standard_normal((3, width), dtype=np.float32)
    exponential = np.exp(x - x.max(1, keepdims=True))
    expected = exponential / exponential.sum(1, keepdims=True)
    np.testing.assert_allclose(compute(softmax(3, width), group, x, {}), expected, rtol=1e-5)


def test_a_row_may_be_as_long_as_a_symbol_says() -> None:
    spec = softmax(var("n"), var("w"), {"n": 4, "w": 32})
    for rows, width in ((4, 32), (1, 5), (2, 40)):
        x = np.random.default_rng(rows).standard_normal((rows, width), dtype=np.float32)
        exponential = np.exp(x - x.max(1, keepdims=True))
        found = compute(spec, 16, x, {"n": rows, "w": width})
        np.testing.assert_allclose(found, exponential / exponential.sum(1, keepdims=True), rtol=1e-5)


def test_a_missing_barrier_would_be_found() -> None:
    kernel = lower_cooperative(softmax(2, 40), Schedule(group=8), GPU).kernel
    kernel.body[:] = [s for s in kernel.body if not isinstance(s, Barrier)]
    x = np.ones(80, np.float32)
    with pytest.raises(KernelFault, match="another task writes"):
        run(kernel, {"x": x, "y": poison("f32", 80)}, target=GPU)


def test_what_a_row_has_one_of_is_stored_once() -> None:
    load = ir.load("x", var("r") * 30 + var("c"), "f32")
    stages = [
        Stage((("c", 30),), [Reduce("s", "sum", load)], []),
        Stage((), [], [StoreTo("y", var("r"), ir.local("s", "f32"))]),
    ]
    buffers = [ir.Buffer("x", "f32", "r"), ir.Buffer("y", "f32", "w")]
    kernel = lower_cooperative(
        KernelSpec((("r", 5),), stages, buffers, {}, {}), Schedule(group=8), GPU
    ).kernel
    assert isinstance(kernel.body[-1], If)
    x = np.random.default_rng(0).standard_normal((5, 30), dtype=np.float32)
    memory = {"x": x.ravel(), "y": poison("f32", 5)}
    run(kernel, memory, target=GPU)
    np.testing.assert_allclose(memory["y"], x.sum(1), rtol=1e-5)


def test_a_gpu_prefers_workgroups_and_a_software_adapter_does_not() -> None:
    spec = softmax(128, 384)
    assert space(spec, GPU)[0].group == 64
    software = space(spec, Target(device="webgpu", software=True))
    assert software[0].group == 1
    assert any(s.group > 1 for s in software)


def test_a_workgroup_is_no_larger_than_the_device_or_the_row_allows() -> None:
    assert max(s.group for s in space(softmax(128, 384), Target(device="webgpu", max_workgroup=64))) == 64
    assert max(s.group for s in space(softmax(128, 20), GPU)) == 16


def test_enough_rows_keep_a_gpu_busy_without_workgroups() -> None:
    assert space(softmax(100_000, 64), GPU)[0].group == 1
