"""Microbenchmarks do the work that they are counted for, and their times are read rightly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from unit.ir_interpreter import run as run_ir
from unit.wasm_engine import STORAGE, run_kernel

from nnjit import ir
from nnjit.emit.wat import disassemble
from nnjit.ir_verify import verify
from nnjit.target import Hardware, Target
from nnjit.tune import memory_kernels, microbench
from nnjit.tune.microbench import CHASE_KB, MEMORY_KB, TILES, WIDEST, cache_sizes, interpret, registers

TWO = Target(relaxed_simd=True, threads=2)


def times(
    rates: list[float], threads: int = 1, latency: list[float] | None = None, split: float = 1.0
) -> list[float]:
    """What a device would answer: GFLOP/s of the tiles, ns of a load; 70 GB/s read, 50 copied; perfect threads; a barrier of 1 µs.

    split: time of the tile whose splats are two instructions, of that where they are one."""
    work = [microbench.tile_flops(*tile) * microbench.TILE_TASKS / 1e6 for tile in TILES]
    tiles = [w / rate for w, rate in zip(work, rates, strict=True)]
    together = [8 * tiles[TILES.index(tile)] for tile in WIDEST] if threads > 1 else []
    chase = [ns * microbench.CHASE_STEPS / 1e6 for ns in latency or [1.0] * len(CHASE_KB)]
    memory = [kb * 1024 / rate / 1e6 for rate in (70, 50) for kb in MEMORY_KB]
    barriers = [microbench.BARRIERS * 1e-3] if threads > 1 else []
    apart = [tiles[TILES.index(microbench.SPLIT)] * split]
    return [*(tiles + apart + together + memory) * microbench.ROUNDS, *chase, *barriers]


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


@pytest.mark.parametrize(("split", "one"), [(0.8, False), (0.97, True), (1.2, True)])
def test_splats_are_one_instruction_unless_two_are_clearly_faster(split: float, one: bool) -> None:
    measured = Target().measured(interpret(Target(), times(cliff(15), split=split)))
    assert measured.splat_loads == one


def test_the_same_tile_is_timed_with_both_kinds_of_splats() -> None:
    _, blobs = microbench.request(Target())
    functions = disassemble(blobs[0]).split("(func (export ")
    (one,) = (f for f in functions if f.startswith('"tile4x2"'))
    (two,) = (f for f in functions if f.startswith('"tile_split"'))
    assert one.count("v128.load32_splat") == two.count("f32x4.splat") == microbench.SPLIT[0]
    assert one.count("f32x4.splat") == two.count("v128.load32_splat") == 0


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
    hardware = Hardware(gflops=100.0, bandwidth=((1 << 10, 120.0, 80.0), (1 << 20, 30.0, 20.0)))
    assert hardware.least_ms(1e9, 1e3, 1e3) == pytest.approx(10)
    assert hardware.least_ms(1e3, 3e7, 0) == pytest.approx(1)
    assert hardware.bandwidth_of(1 << 15) == pytest.approx((60, 40))
    assert hardware.bandwidth_of(1) == (120, 80) and hardware.bandwidth_of(1 << 30) == pytest.approx((30, 20))


def test_the_least_time_is_right_for_reading_and_for_copying_and_between_them_in_proportion() -> None:
    hardware = Hardware(gflops=100.0, bandwidth=((1 << 20, 30.0, 20.0),))
    reading, copying = 6e7 / 30e6, 6e7 / 20e6
    assert hardware.least_ms(0, 6e7, 0) == pytest.approx(reading)
    assert hardware.least_ms(0, 3e7, 3e7) == pytest.approx(copying)
    assert hardware.least_ms(0, 4.5e7, 1.5e7) == pytest.approx((reading + copying) / 2)
    assert hardware.least_ms(0, 0, 6e7) > copying


def test_no_mixture_is_quicker_than_the_faster_of_reading_and_copying() -> None:
    hardware = Hardware(gflops=100.0, bandwidth=((1 << 20, 10.0, 25.0),))
    assert hardware.least_ms(0, 3e7, 3e7) == pytest.approx(6e7 / 25e6)
    assert hardware.least_ms(0, 0, 6e7) == pytest.approx(6e7 / 25e6)
    assert hardware.least_ms(0, 6e7, 0) == pytest.approx(6e7 / 10e6)


def test_what_another_version_kept_of_the_device_is_not_taken_for_what_this_one_measures() -> None:
    kept = json.loads(json.dumps(asdict(Hardware(gflops=50.0, bandwidth=((1 << 16, 60.0, 50.0),)))))
    assert Hardware.of(kept) is not None
    assert Hardware.of({**kept, "bandwidth": [[1 << 16, 50.0]]}) is None
    assert Hardware.of({**kept, "another": 1}) is None
    assert Hardware.of({name: fact for name, fact in kept.items() if name != "cores"}) is None


@pytest.mark.parametrize("kernel", [memory_kernels.copy_kernel, memory_kernels.read_kernel])
def test_memory_kernels_touch_all_of_both_buffers(kernel: Callable[[], ir.Kernel]) -> None:
    made = kernel()
    verify(made)
    tasks, size = 3, 3 * memory_kernels.CHUNK
    dtype = STORAGE[made.buffers[0].storage]
    data = np.random.default_rng(0).integers(-(2**31), 2**31, (2, size), np.int32).view(dtype)
    got = run_kernel(made, {"in": data[0], "out": data[1].copy()}, slices=[(0, tasks)])["out"]
    if made.name == "copy":
        np.testing.assert_array_equal(got.view(np.int32), data[0].view(np.int32))
        return
    sums = data.reshape(2, tasks, -1, 4).sum((0, 2), dtype=np.int32)
    np.testing.assert_array_equal(got.reshape(tasks, -1)[:, :4], sums)
    np.testing.assert_array_equal(got.reshape(tasks, -1)[:, 4:], data[1].reshape(tasks, -1)[:, 4:])


def test_the_reading_kernel_of_the_gpu_reads_every_element() -> None:
    tasks = 128
    kernel = memory_kernels.gpu_read_kernel()
    kernel = ir.Kernel(kernel.name, kernel.buffers, [], tasks, kernel.body)
    size = 4 * memory_kernels.GPU_LOADS * tasks
    for place in np.random.default_rng(0).integers(0, size, 30):
        data, out = np.zeros(size, np.int32), np.zeros(tasks, np.int32)
        data[place] = memory_kernels.SIGNAL
        run_ir(kernel, {"in": data, "out": out}, {})
        assert (out == memory_kernels.SIGNAL).sum() == 1


@pytest.mark.parametrize("target", [Target(), TWO, Target(device="webgpu")], ids=["one", "two", "gpu"])
def test_a_kernel_of_many_experiments_is_emitted_once(target: Target) -> None:
    body, _ = microbench.request(target)
    names = [kernel["name"] for kernel in json.loads(body)["kernels"]]
    assert len(set(names)) == len(names)


def test_every_gpu_kernel_is_sound() -> None:
    for kernel in (
        microbench.chains_kernel(), microbench.shared_kernel(), microbench.barrier_kernel(),
        memory_kernels.gpu_copy_kernel(), memory_kernels.gpu_read_kernel(),
    ):  # fmt: skip
        verify(kernel)
    body, blobs = microbench.request(Target(device="webgpu"))
    assert blobs == [] and all(k["wgsl"] for k in json.loads(body)["kernels"])
