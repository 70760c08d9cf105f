"""Microbenchmarks do the work that they are counted for, and their times are read rightly."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from unit.ir_interpreter import run as run_ir
from unit.wasm_engine import run_kernel

from nnjit.ir_verify import verify
from nnjit.target import Hardware, Target
from nnjit.tune import microbench
from nnjit.tune.microbench import CHASE_KB, COPY_KB, TILES, WIDEST, cache_sizes, interpret, registers

TWO = Target(relaxed_simd=True, threads=2)


def times(rates: list[float], threads: int = 1, latency: list[float] | None = None) -> list[float]:
    """What a device would answer: GFLOP/s of the tiles, ns of a load; 50 GB/s; perfect threads; a barrier of 1 µs."""
    work = [microbench.tile_flops(*tile) * microbench.TILE_TASKS / 1e6 for tile in TILES]
    tiles = [w / rate for w, rate in zip(work, rates, strict=True)]
    together = [8 * tiles[TILES.index(tile)] for tile in WIDEST] if threads > 1 else []
    chase = [ns * microbench.CHASE_STEPS / 1e6 for ns in latency or [1.0] * len(CHASE_KB)]
    copy = [2 * kb * 1024 / 50e6 for kb in COPY_KB]
    barriers = [microbench.BARRIERS * 1e-3] if threads > 1 else []
    return [*(tiles + together) * microbench.ROUNDS, *chase, *copy, *barriers]


def cliff(count: int) -> list[float]:
    """60 GFLOP/s for tiles whose values fit `count` registers, else half of it."""
    return [60.0 if m * n + n + 1 <= count else 30.0 for m, n in TILES]


@pytest.mark.parametrize("tile", TILES)
def test_a_tile_does_the_counted_work(tile: tuple[int, int]) -> None:
    kernel = microbench.tile_kernel(*tile)
    verify(kernel)
    a = np.full(8192, 0.5, np.float32)
    arrays = {"in": a, "out": np.empty(4 * tile[0] * tile[1], np.float32)}
    out = run_kernel(kernel, arrays, slices=[(0, 1)])
    assert (out["out"] == 0.25 * microbench.TILE_DEPTH).all()
    assert microbench.tile_flops(*tile) == 2 * microbench.TILE_DEPTH * out["out"].size


def test_a_chase_visits_every_line_once() -> None:
    lines = 64
    at, seen = 0, set()
    for _ in range(lines):
        at = (13 * at + 7) & (lines - 1)
        seen.add(at)
    assert len(seen) == lines
    memory = np.zeros(lines * 16, np.int32)
    buffers = {"in": memory, "out": np.zeros(1, np.int32)}
    run_ir(microbench.chase_kernel(), buffers, {"mask": lines - 1})
    at = 0
    for _ in range(microbench.CHASE_STEPS):
        at = (13 * at + 7) & (lines - 1)
    assert buffers["out"][0] == at


def test_a_chase_stays_within_its_lines_whatever_the_memory_holds() -> None:
    lines = 16
    memory = np.random.default_rng(0).integers(-(2**31), 2**31, lines * 16, np.int32)
    run_ir(microbench.chase_kernel(), {"in": memory, "out": np.zeros(1, np.int32)}, {"mask": lines - 1})


@pytest.mark.parametrize("count", [15, 17, 29])
def test_the_registers_are_where_the_rate_breaks_down(count: int) -> None:
    assert registers(cliff(count)) == count


def test_a_single_tile_far_beyond_the_cliff_is_luck() -> None:
    rates = cliff(15)
    rates[TILES.index((9, 3))] = 60.0
    assert registers(rates) == 15


def test_a_cache_ends_where_loads_get_slower() -> None:
    sizes = [8, 16, 32, 64, 128, 256, 512, 1024, 2048]
    assert cache_sizes(sizes, [1, 1, 1.05, 1.9, 2.8, 2.9, 2.8, 9, 9.1]) == [32, 512]
    assert cache_sizes(sizes, [1, 1.1, 1.05, 1, 1, 1.2, 1, 1, 1]) == []


def test_all_threads_count_in_the_peak_and_one_in_the_registers() -> None:
    one = interpret(Target(), times(cliff(15)))
    assert one.gflops == pytest.approx(60, rel=0.01) and one.cores == 1 and one.barrier_us == 0
    two = interpret(TWO, times(cliff(15), threads=2))
    assert two.gflops == pytest.approx(120, rel=0.01) and two.cores == 2
    assert two.vector_registers == 15 and two.barrier_us == pytest.approx(1)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_times_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        interpret(Target(), [bad, *times(cliff(15))[1:]])


def test_hardware_survives_json() -> None:
    hardware = interpret(TWO, times(cliff(15), 2, [1, 1, 1, 2, 2, 2, 2, 9, 9, 9, 9, 9]))
    assert Hardware.of(json.loads(json.dumps(asdict(hardware)))) == hardware
    assert hardware.cache_bytes == (32 << 10, 512 << 10)


def test_a_target_takes_over_what_was_measured() -> None:
    target = TWO.measured(interpret(TWO, times(cliff(29), 2)))
    assert target.vector_registers == 29 and target.cache == (32 << 10, 512 << 10)


def test_the_roofline_is_the_slower_of_arithmetic_and_traffic() -> None:
    hardware = Hardware(gflops=100.0, bandwidth=((1 << 10, 80.0), (1 << 20, 20.0)))
    assert hardware.least_ms(1e9, 1e3) == pytest.approx(10)
    assert hardware.least_ms(1e3, 2e7) == pytest.approx(1)
    assert hardware.bandwidth_of(1 << 15) == pytest.approx(40)


def test_every_gpu_kernel_is_sound() -> None:
    for kernel in (
        microbench.chains_kernel(), microbench.gpu_copy_kernel(), microbench.shared_kernel(), microbench.barrier_kernel(),
    ):  # fmt: skip
        verify(kernel)
    body, blobs = microbench.request(Target(device="webgpu"))
    assert blobs == [] and all(k["wgsl"] for k in json.loads(body)["kernels"])
