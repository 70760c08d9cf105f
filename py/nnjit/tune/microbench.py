"""Microbenchmarks: kernels of our own loop IR that show what the device can do, and what their times mean.

On the CPU:

    tile MxN    the inner loop of a matrix product: M rows × N vectors in registers, operands in the nearest cache. The
                best rate is the peak; the largest tile that keeps near it tells how many registers the engine has
    tile split  one of them again, its scalars loaded and spread over the lanes by two instructions instead of one
    chase       loads that each wait for the one before, over growing memory: where it gets slower, a cache ends
    read, copy  vectors of two places, or from one place to another, on all threads: memory_kernels.py
    barrier     threads of the pool wait for each other

On the GPU: chains of multiply-adds, reads, copies, and a workgroup that exchanges elements through its memory, with and
without a barrier after each.

A request is plain data, which web/runtime/*-microbench.js runs: buffers, kernels, and experiments of one step each.
The answer is the milliseconds of one execution of each experiment, or null where it was left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from .. import ir
from ..plan import Emitter
from ..symbolic import mod, var
from ..target import Hardware, Target
from . import memory_kernels as memory

TILES = ((4, 2), (5, 2), (6, 2), (4, 3), (7, 2), (3, 4), (4, 4), (5, 4), (6, 4), (9, 3), (7, 4), (8, 4))
"""Rows × vectors. Where the engine pairs neighbouring vectors, the tiles of 4 reach the peak."""
WIDEST = ((6, 2), (5, 4))
"""Those that all threads run at the same time: near the peak with single vectors, and with pairs."""
SPLIT = (4, 2)
"""The tile whose splats are also tried as two instructions: it fits the registers of every engine."""
SPLIT_GAIN = 1.08
"""So much faster it has to be for two instructions."""
ROUNDS = 2
TILE_DEPTH = 256
TILE_TASKS = 64
AT_PEAK = 0.85
"""Of the best rate: a tile that loses more keeps some of its values in memory."""
NEIGHBOUR = 8
"""Most values between two tiles in a row that both fit: what lies between the tiles of 2 and of 4 vectors, and some."""
LEAST_REGISTERS = 8
LINE = 64
"""Bytes of a cache line: a step of `chase` moves by whole ones."""
CHASE_STEPS = 4096
CHASE_KB = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
STEP_UP = 1.35
"""A load that takes so much longer than on the plateau before comes from farther away."""
FLAT = 1.12
"""Neighbouring sizes this close belong to one plateau."""
MEMORY_KB = (64, 512, 2048, 8192, 32768)
"""Kilobytes that are read, or of which one half is copied to the other; in halves that lie in two buffers."""
BARRIERS = 64
GPU_DEPTH = 256
GPU_CHAINS = 16
GPU_TASKS = (1 << 13, 1 << 16, 1 << 20)
GPU_MEMORY_KB = (1024, 16384, 65536)
"""Kilobytes that are read, or of which one half is copied to the other."""
GPU_EXCHANGES = 512
GPU_GROUPS = 256
QUICK_MS = 0.5
"""A GPU experiment that takes longer shows the rate already: the larger ones are left out."""

Request = dict[str, Any]
Times = Sequence[float | None]


class _Experiments:
    """Collects kernels and experiments; an experiment is a step on buffers "in" and "out"."""

    def __init__(self, target: Target) -> None:
        self.emitter = Emitter(target)
        self.target = target
        self.list: list[dict] = []
        self.bytes = 0

    def add(
        self,
        kernel: ir.Kernel,
        tasks: int,
        touched: int,
        *,
        symbols: Sequence[int] = (),
        everywhere: bool = False,
        after: int | None = None,
    ) -> int:
        """Its number. touched: bytes of each buffer that it may touch; everywhere: on all threads; after: only when
        experiment number `after` took less than QUICK_MS."""
        number = self.emitter.kernels.setdefault(kernel, len(self.emitter.kernels))
        step = {
            "kernel": number,
            "buffers": [[b.name, 0] for b in kernel.buffers],
            "symbols": list(symbols),
            "tasks": tasks,
            "flops": 1 << 40 if everywhere else 0,
            "read": 0,
            "written": 0,
        }
        self.list.append({"step": step, "after": after})
        self.bytes = max(self.bytes, touched)
        return len(self.list) - 1

    def barriers(self, count: int) -> None:
        """Threads that meet `count` times."""
        self.list.append({"barriers": count, "after": None})

    def request(self) -> tuple[Request, list[bytes]]:
        blobs: list[bytes] = []
        modules, kernels = self.emitter.finish(blobs)
        body = {
            "bytes": self.bytes,
            "modules": modules,
            "kernels": kernels,
            "experiments": self.list,
            "quickMs": QUICK_MS,
        }
        return body, blobs


def request(target: Target) -> tuple[str, list[bytes]]:
    """(JSON, blobs) of the experiments for this target."""
    experiments = _Experiments(target)
    (_gpu_experiments if target.device == "webgpu" else _cpu_experiments)(experiments)
    body, blobs = experiments.request()
    return json.dumps(body), blobs


def interpret(target: Target, times: Times, subgroup: int | None = None) -> Hardware:
    """What the times of `request(target)`'s experiments mean. Raises ValueError where they make no sense."""
    if not times or any(t is not None and not (math.isfinite(t) and t > 0) for t in times):
        raise ValueError(f"times of microbenchmarks must be positive numbers, not {list(times)}")
    return _gpu(times, subgroup) if target.device == "webgpu" else _cpu(target, times)


# -- CPU ----------------------------------------------------------------------------------------------------------


def _cpu_experiments(experiments: _Experiments) -> None:
    tiles = [tile_kernel(rows, vectors) for rows, vectors in TILES]
    moves = [memory.read_kernel(), memory.copy_kernel()]
    threads = experiments.target.threads
    split = tile_kernel(*SPLIT, name="tile_split")
    apart = replace(experiments.target, splat_loads=False)
    experiments.emitter.emit_for(apart, split)
    # At the beginning and at the end: something else may have run meanwhile.
    for _ in range(ROUNDS):
        for kernel in (*tiles, split):
            experiments.add(kernel, TILE_TASKS, 1 << 16)
        for tile, kernel in zip(TILES, tiles, strict=True) if threads > 1 else ():
            if tile in WIDEST:
                experiments.add(kernel, TILE_TASKS * 8 * threads, 1 << 16, everywhere=True)
        for kernel in moves:
            for kb in MEMORY_KB:
                experiments.add(kernel, kb * 512 // (4 * memory.CHUNK), kb * 512, everywhere=True)
    chase = chase_kernel()
    for kb in CHASE_KB:
        experiments.add(chase, 1, kb * 1024, symbols=[kb * 1024 // LINE - 1])
    if experiments.target.threads > 1:
        experiments.barriers(BARRIERS)


def _cpu(target: Target, times: Times) -> Hardware:
    left = iter(times)

    def take(count: int) -> list[float]:
        return [t for t in islice(left, count) if t is not None]

    parallel = WIDEST if target.threads > 1 else ()
    counts = (len(TILES), 1, len(parallel), len(MEMORY_KB), len(MEMORY_KB))
    rounds = [take(sum(counts)) for _ in range(ROUNDS)]
    least = map(min, zip(*rounds, strict=True))
    one_thread, (split,), all_threads, read, copied = (list(islice(least, count)) for count in counts)
    rates = [tile_flops(*tile) * TILE_TASKS / ms / 1e6 for tile, ms in zip(TILES, one_thread, strict=True)]
    best = max(rates)
    gflops, cores = best, 1
    if parallel:
        together = [
            tile_flops(*tile) * TILE_TASKS * 8 * target.threads / ms / 1e6
            for tile, ms in zip(parallel, all_threads, strict=True)
        ]
        alone = [rates[TILES.index(tile)] for tile in parallel]
        speedup = max(every / one for every, one in zip(together, alone, strict=True))
        cores = min(target.threads, max(1, round(speedup)))
        gflops = max(best, *together)
    caches = cache_sizes(CHASE_KB, take(len(CHASE_KB)))
    bandwidth = bandwidths(MEMORY_KB, read, copied)
    barrier = take(1)[0] * 1e3 / BARRIERS if target.threads > 1 else 0.0
    return Hardware(
        gflops=round(gflops, 1),
        bandwidth=bandwidth,
        vector_registers=registers(rates),
        splat_loads=one_thread[TILES.index(SPLIT)] < SPLIT_GAIN * split,
        cache_bytes=tuple(1024 * kb for kb in caches),
        cores=cores,
        barrier_us=round(barrier, 3),
    )


def registers(rates: Sequence[float]) -> int:
    """128-bit values that the engine keeps in registers, by the rates of TILES.

    The column vectors, a splat of the row, and the accumulators of a tile are alive together. A tile far larger than
    all others that run well was lucky, or they were disturbed.
    """
    best = max(rates)
    fitting = sorted(
        m * n + n + 1 for (m, n), rate in zip(TILES, rates, strict=True) if rate >= AT_PEAK * best
    )
    found = fitting[0]
    for count in fitting:
        if count <= found + NEIGHBOUR:
            found = count
    return max(found, LEAST_REGISTERS)


def tile_flops(rows: int, vectors: int) -> int:
    """Operations of one task of `tile_kernel`."""
    return rows * vectors * 4 * 2 * TILE_DEPTH


def tile_kernel(rows: int, vectors: int, name: str = "") -> ir.Kernel:
    """accumulator[i, j] += splat(a[i, k]) · b[k, j], as in a matrix product; operands within 32 KB."""
    k = var("k")
    names = [[f"acc{i}_{j}" for j in range(vectors)] for i in range(rows)]
    zero = ir.splat(ir.const(0.0, "f32"))
    body: list[ir.Stmt] = [ir.Declare(name, zero) for row in names for name in row]
    # Rows of `a` first, in columns of `rows` elements, then `b`: as a packed operand lies.
    inner: list[ir.Stmt] = [
        ir.Declare(f"b{j}", ir.load("in", 4096 + k * (4 * vectors) + 4 * j, "f32", 4)) for j in range(vectors)
    ]
    for i in range(rows):
        inner.append(ir.Declare(f"a{i}", ir.splat(ir.load("in", k * rows + i, "f32"))))
        for j in range(vectors):
            old = ir.local(names[i][j], "f32", 4)
            product = ir.fma(ir.local(f"a{i}", "f32", 4), ir.local(f"b{j}", "f32", 4), old)
            inner.append(ir.Assign(names[i][j], product))
    body.append(ir.For("k", TILE_DEPTH, inner))
    for i in range(rows):
        for j in range(vectors):
            body.append(ir.Store("out", 4 * (i * vectors + j), ir.local(names[i][j], "f32", 4)))
    return ir.Kernel(name or f"tile{rows}x{vectors}", _buffers(), [], TILE_TASKS, body)


def chase_kernel() -> ir.Kernel:
    """Visits 2ⁿ cache lines in an order that no prefetcher foresees; the next one is known when the load is there.

    x ← 13·x + 7 modulo 2ⁿ has the full period (Hull and Dobell, Random number generators, 1962). Whatever the memory
    holds, the position stays within the lines: a loaded bit moves it by one more. `mask` is 2ⁿ − 1.
    """
    at = ir.local("at", "i32")
    loaded = ir.binary("and", ir.load("in", ir.value_index(at) * (LINE // 4), "i32"), ir.const(1, "i32"))
    moved = ir.add(ir.add(ir.binary("mul", at, ir.const(13, "i32")), ir.const(7, "i32")), loaded)
    body: list[ir.Stmt] = [
        ir.Declare("at", ir.const(0, "i32")),
        ir.Declare("last", ir.index(var("mask"))),
        ir.For("i", CHASE_STEPS, [ir.Assign("at", ir.binary("and", moved, ir.local("last", "i32")))]),
        ir.Store("out", 0, at),
    ]
    buffers = [ir.Buffer("in", "i32", "r"), ir.Buffer("out", "i32", "w")]
    return ir.Kernel("chase", buffers, ["mask"], 1, body)


def cache_sizes(sizes: Sequence[int], times: Sequence[float]) -> list[int]:
    """The sizes with which plateaus of the access time end: 16 KB, 32 KB fast, 64 KB slower → 32 KB."""
    found: list[int] = []
    level = times[0]
    climbing = False
    for n in range(1, len(sizes)):
        if climbing:
            if times[n] <= FLAT * times[n - 1]:
                level, climbing = times[n], False
        elif times[n] > STEP_UP * level:
            found.append(sizes[n - 1])
            climbing = True
        else:
            # Noise only adds time.
            level = min(level, times[n])
    return found


def bandwidths(sizes: Sequence[int], read: Times, copied: Times) -> tuple[tuple[int, float, float], ...]:
    """`Hardware.bandwidth`, by the milliseconds that reading and copying took of so many KB."""
    return tuple(
        (touched, round(touched / reading / 1e6, 2), round(touched / copying / 1e6, 2))
        for touched, reading, copying in zip([1024 * kb for kb in sizes], read, copied, strict=True)
        if reading and copying
    )


def _buffers() -> list[ir.Buffer]:
    return [ir.Buffer("in", "f32", "r"), ir.Buffer("out", "f32", "w")]


# -- GPU ----------------------------------------------------------------------------------------------------------


def _gpu_experiments(experiments: _Experiments) -> None:
    idle = ir.Kernel("idle", _buffers(), [], 1, [ir.Store("out", 0, ir.load("in", 0, "f32"))])
    experiments.add(idle, 1, 1024)
    # Kernels, bytes of a buffer that a task of them touches, numbers of tasks.
    for kernel, each, counts in (
        (chains_kernel(), 4, GPU_TASKS),
        (
            memory.gpu_read_kernel(),
            16 * memory.GPU_LOADS,
            [kb * 64 // memory.GPU_LOADS for kb in GPU_MEMORY_KB],
        ),
        (memory.gpu_copy_kernel(), 16, [kb * 32 for kb in GPU_MEMORY_KB]),
    ):
        before: int | None = None
        for tasks in counts:
            before = experiments.add(kernel, tasks, each * tasks, after=before)
    experiments.add(shared_kernel(), GPU_GROUPS, 4 * 64 * GPU_GROUPS)
    experiments.add(barrier_kernel(), 1, 4 * 64)


def _gpu(times: Times, subgroup: int | None) -> Hardware:
    idle, *rest = times
    left, counts = iter(rest), (len(GPU_TASKS), len(GPU_MEMORY_KB), len(GPU_MEMORY_KB), 2)
    chains, read, copied, (shared, barrier) = (list(islice(left, count)) for count in counts)
    assert idle and shared and barrier
    work = GPU_DEPTH * GPU_CHAINS * 2
    gflops = max(work * tasks / ms / 1e6 for tasks, ms in zip(GPU_TASKS, chains, strict=True) if ms)
    return Hardware(
        gflops=round(gflops, 1),
        bandwidth=bandwidths(GPU_MEMORY_KB, read, copied),
        barrier_us=round(max(barrier - idle, 0.0) * 1e3 / (2 * GPU_EXCHANGES), 4),
        shared_bandwidth=round(GPU_GROUPS * 64 * GPU_EXCHANGES * 4 / shared / 1e6, 1),
        dispatch_us=round(idle * 1e3, 3),
        subgroup=subgroup,
    )


def chains_kernel() -> ir.Kernel:
    """accumulator[i] = accumulator[i] · x + y for GPU_CHAINS accumulators, GPU_DEPTH times."""
    x, y = ir.local("x", "f32"), ir.local("y", "f32")
    accumulators = [ir.local(f"acc{i}", "f32") for i in range(GPU_CHAINS)]
    start = ir.cast(ir.index(ir.TASK), "f32")
    body: list[ir.Stmt] = [ir.Declare("x", ir.load("in", 0, "f32")), ir.Declare("y", ir.load("in", 1, "f32"))]
    body += [ir.Declare(f"acc{i}", ir.add(start, ir.const(i, "f32"))) for i in range(GPU_CHAINS)]
    step: list[ir.Stmt] = [ir.Assign(f"acc{i}", ir.fma(acc, x, y)) for i, acc in enumerate(accumulators)]
    body.append(ir.For("i", GPU_DEPTH, step))
    total = accumulators[0]
    for acc in accumulators[1:]:
        total = ir.add(total, acc)
    body.append(ir.Store("out", ir.TASK, total))
    return ir.Kernel("chains", _buffers(), [], 1, body)


def shared_kernel() -> ir.Kernel:
    """64 invocations read each other's elements from workgroup memory, GPU_EXCHANGES times."""
    other = mod(ir.LANE + var("i"), 64)
    value = ir.local("value", "f32")
    body: list[ir.Stmt] = [
        ir.Store("exchange", ir.LANE, ir.load("in", ir.TASK * 64 + ir.LANE, "f32")),
        ir.Barrier(),
        ir.Declare("value", ir.const(0.0, "f32")),
        ir.For("i", GPU_EXCHANGES, [ir.Assign("value", ir.add(value, ir.load("exchange", other, "f32")))]),
        ir.Store("out", ir.TASK * 64 + ir.LANE, value),
    ]
    return ir.Kernel("shared", _buffers(), [], 1, body, 64, [("exchange", "f32", 64)])


def barrier_kernel() -> ir.Kernel:
    """64 invocations hand an element on to their neighbour, GPU_EXCHANGES times, with a barrier after storing and loading."""
    other = mod(ir.LANE + 1, 64)
    value = ir.local("value", "f32")
    turn: list[ir.Stmt] = [
        ir.Store("exchange", ir.LANE, value),
        ir.Barrier(),
        ir.Assign("value", ir.load("exchange", other, "f32")),
        ir.Barrier(),
    ]
    body: list[ir.Stmt] = [
        ir.Declare("value", ir.load("in", ir.TASK * 64 + ir.LANE, "f32")),
        ir.For("i", GPU_EXCHANGES, turn),
        ir.Store("out", ir.TASK * 64 + ir.LANE, value),
    ]
    return ir.Kernel("barrier", _buffers(), [], 1, body, 64, [("exchange", "f32", 64)])
