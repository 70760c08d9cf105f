"""Schedules from elsewhere: what a kernel's space holds is admitted, what does not fit the kernel is refused, and what
is admitted beyond the space lowers to a kernel that computes the same."""

from __future__ import annotations

import random

import pytest
from unit.plan_interpreter import RELAXED, WASM, WEBGPU, Machine, Model
from unit.tensor_programs import matmul
from unit.test_fuse import close
from unit.test_lower import FAMILIES, symbolic_product

from nnjit.ir_verify import verify
from nnjit.schedule import legal
from nnjit.schedule.schedule import Schedule
from nnjit.target import Target
from nnjit.units import Item

TARGETS = pytest.mark.parametrize("target", [WASM, RELAXED, WEBGPU], ids=["wasm", "relaxed", "webgpu"])


@TARGETS
@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_space_holds_is_admitted(family: str, target: Target) -> None:
    m = Model()
    compiled = m.compile([FAMILIES[family](m)], target)
    for item in compiled.items:
        for schedule in compiled.scheduler.candidates(item):
            assert compiled.scheduler.admit(item, str(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tile o0=4; tile", "not how a schedule is written"),
        ("tile o7=4", "no outer axis o7; it has o0, o1"),
        ("serial r0=4", "no outer axis r0"),
        ("vector o7", "no axis o7"),
        ("order o0", "names 1 of 2 outer axes"),
        ("pack 1", "vector axis"),
        ("vector inner; pack 1", "vector axis"),
        ("group 4", "for a GPU"),
        ("block 8 8 4 4 8", "for a GPU"),
        ("tile o1=8; vector o1; serial o1=2; sweep", "not longer"),
        ("tile o1=8; vector o1; pack 1; sweep", "alone"),
        ("tile o0=4 o1=8; vector o1; winograd 6", "needs a convolution"),
    ],
)
def test_what_does_not_fit_the_kernel_is_refused(text: str, message: str) -> None:
    m = Model()
    compiled = m.compile([matmul(m, m.input(7, 5), m.weight(5, 10))])
    with pytest.raises(ValueError, match=message):
        compiled.scheduler.admit(compiled.items[0], text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group 512", "does not fit this GPU"),
        ("block 32 32 1 4 4", "does not fit this GPU"),
        ("block 16 16 8 8 64", "does not fit this GPU"),
    ],
)
def test_what_does_not_fit_the_gpu_is_refused(text: str, message: str) -> None:
    m = Model()
    compiled = m.compile([matmul(m, m.input(7, 5), m.weight(5, 10))], WEBGPU)
    with pytest.raises(ValueError, match=message):
        compiled.scheduler.admit(compiled.items[0], text)


def test_a_workgroup_without_anything_to_share_is_refused() -> None:
    m = Model()
    compiled = m.compile([FAMILIES["elementwise with broadcasts"](m)], WEBGPU)
    with pytest.raises(ValueError, match="a reduction to share"):
        compiled.scheduler.admit(compiled.items[0], "group 4")


def test_packing_more_than_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legal, "MAX_PACKED", 100)
    m = Model()
    compiled = m.compile([matmul(m, m.input(7, 11), m.weight(11, 10))])
    with pytest.raises(ValueError, match="110 elements, more than 100"):
        compiled.scheduler.admit(compiled.items[0], "tile o1=8; vector o1; pack 1")


def test_a_tile_of_a_symbol_that_the_plan_does_not_bound_is_refused() -> None:
    m = Model()
    compiled = m.compile([symbolic_product(m)])
    item = compiled.items[0]
    bounded = compiled.scheduler.requirements(item)
    free = [axis for axis, d in item.spec.outer if not isinstance(d, int) and d not in bounded]
    for axis, extent in item.spec.outer:
        if not isinstance(extent, int):
            compiled.scheduler.admit(item, f"tile {axis}=2")
    m = Model()
    x = m.input(3, 1, symbolic=(0,))
    compiled = m.compile([m.b.elementwise(lambda e: e, x)])
    item = compiled.items[0]
    free = [axis for axis, d in item.spec.outer if not isinstance(d, int)]
    assert free and not compiled.scheduler.requirements(item)
    with pytest.raises(ValueError, match="the plan does not bound it"):
        compiled.scheduler.admit(item, f"tile {free[0]}=2")


def random_schedule(rng: random.Random, item: Item, target: Target) -> Schedule:
    """One that need not be in any space, and need not fit either."""
    if target.device == "webgpu" and rng.random() < 0.4:
        if rng.random() < 0.5:
            return Schedule(group=rng.choice([2, 4, 32]))
        return Schedule(
            block=tuple(rng.choice(sizes) for sizes in ((1, 2, 8), (1, 4, 8), (1, 3, 4), (4, 8), (4, 12)))
        )
    axes = [axis for axis, _ in item.spec.outer]
    if target.device == "wasm" and len(axes) == 3 and rng.random() < 0.4:
        sizes = (rng.choice([2, 4]), rng.choice([2, 4]), rng.choice([4, 8]))
        return Schedule(
            tiles=tuple(zip(axes, sizes, strict=True)), vector=axes[-1], winograd=rng.choice([1, 3, 6])
        )
    vector = rng.choice(["", "inner", *axes])
    tiles = [(a, rng.choice([1, 2, 3, 5, 6, 8, 12])) for a in axes if rng.random() < 0.6]
    return Schedule(
        tiles=tuple(tiles),
        vector=vector,
        order=tuple(rng.sample(axes, len(axes))) if rng.random() < 0.4 else (),
        serial=tuple((a, rng.choice([0, 1, 2, 7])) for a in axes if rng.random() < 0.3),
        pack=tuple(n for n in (0, 1) if rng.random() < 0.25),
        unroll=rng.choice([1, 1, 2, 3, 5]),
    )


@pytest.mark.parametrize("target", [RELAXED, WEBGPU], ids=["wasm", "webgpu"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_admitted_beyond_the_space_computes_the_same(family: str, target: Target) -> None:
    rng = random.Random(family)
    m = Model(3)
    out = FAMILIES[family](m)
    compiled = m.compile([out], target)
    machine = Machine(compiled)
    machine.run(m.arrays)
    for n, item in enumerate(compiled.items):
        for _ in range(6):
            schedule = random_schedule(rng, item, target)
            try:
                unit = compiled.scheduler.unit(item, compiled.scheduler.admit(item, str(schedule)))
            except ValueError:
                continue
            for step in (*unit.init, *unit.steps):
                verify(step.kernel)
            for name, array in machine.run_unit(unit, n).items():
                try:
                    close(array, machine.memory[name])
                except AssertionError as error:
                    raise AssertionError(f"{schedule}\n{item.spec}\n{error}") from error
