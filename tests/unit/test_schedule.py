"""Schedules print and parse; spaces are small, distinct and fit what they are for."""

from __future__ import annotations

import pytest
from unit.plan_interpreter import WASM, WEBGPU, Model
from unit.tensor_programs import matmul, softmax
from unit.test_lower import FAMILIES

from nnjit.schedule.schedule import Schedule, parse
from nnjit.schedule.space import MAX_CANDIDATES
from nnjit.target import Target

TEXTS = [
    "plain",
    "tile o0=6 o1=8; vector o1; order o1 o0; pack 1",
    "tile o1=16; vector o1; serial o0=64 o1=0",
    "vector inner; unroll 4",
    "pack 0 1",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_schedule_prints_as_it_was_parsed(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "tiles o0=4", "tile o0", "vector", "vector a b", "unroll x", "plain; plain"]
)
def test_anything_else_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize("target", [WASM, WEBGPU], ids=["wasm", "webgpu"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_space_is_small_and_distinct_and_its_texts_parse_back(family: str, target: Target) -> None:
    m = Model()
    compiled = m.compile([FAMILIES[family](m)], target)
    for item in compiled.items:
        schedules = compiled.scheduler.candidates(item)
        assert 1 <= len(schedules) <= MAX_CANDIDATES
        assert len(set(map(str, schedules))) == len(schedules)
        assert [parse(str(s)) for s in schedules] == schedules


def test_the_default_of_a_matmul_fills_the_registers_without_spilling() -> None:
    for relaxed in (False, True):
        m = Model()
        compiled = m.compile([matmul(m, m.input(64, 64), m.weight(64, 64))], Target(relaxed_simd=relaxed))
        tiles = dict(compiled.units[0].schedule.tiles)
        accumulators = tiles["o0"] * tiles["o1"] // 4
        assert 8 <= accumulators and accumulators + tiles["o1"] // 4 + 1 <= 15


def test_no_tile_is_larger_than_its_axis() -> None:
    m = Model()
    compiled = m.compile([matmul(m, m.input(3, 8), m.weight(8, 5))])
    extents = dict(compiled.items[0].spec.outer)
    for schedule in compiled.scheduler.candidates(compiled.items[0]):
        assert all(t <= extents[a] for a, t in schedule.tiles)


def test_rows_are_searched_along_their_own_axis() -> None:
    m = Model()
    compiled = m.compile([softmax(m, m.input(64, 64))[0]])
    assert compiled.units[0].schedule.vector == "inner"
    assert Schedule() in compiled.scheduler.candidates(compiled.items[0])
