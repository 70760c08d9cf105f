"""Schedules for what is no sum of products on the CPU: rows, elementwise kernels, transposes, reductions over columns."""

from __future__ import annotations

from itertools import product as product_of
from math import prod

from .. import ir
from ..lower.interior import interior
from ..lower.spec import KernelSpec, coefficient
from ..lower.sweep import sweeps
from ..symbolic import product, values_of, var
from .roles import small_extent
from .schedule import Schedule

ENOUGH_TASKS = 32
"""Tasks of a kernel that keep all threads busy to the end."""
LONG_SUM = 64
"""Terms from which a reduction is long."""
SWEEPS = (1024, 256)
"""Most columns whose sums a task keeps in scratch memory."""
MOST_TWICE = 1.15
"""Columns that runs compute, over those that there are."""
MAP_CHUNK = 1024
"""Elements that one task of an elementwise kernel should cover, so that decoding the task costs nothing."""


def elementwise(spec: KernelSpec, threads: int) -> list[Schedule]:
    """Vectors along the innermost axis of the result; inner axes loop inside a task until it is worth starting."""
    if not spec.outer:
        return [Schedule()]
    axis, extent = spec.outer[-1]
    width = spec.hint(extent)
    found = _transposing(spec) or _long_sums(spec, threads) or _bordered(spec) or _gathering(spec)
    serial: list[tuple[str, int]] = []
    covered = 1
    for v, d in reversed(spec.outer):
        size = spec.hint(d)
        if covered * size <= 2 * MAP_CHUNK and v != spec.outer[0][0]:
            serial.append((v, 0))
            covered *= max(1, size)
            continue
        break
    reduces = any(s.axes for s in spec.stages)
    unroll = small_extent(spec) if spec.stages[0].axes else 1
    for tile in (8, 4, 16) if reduces else (16, 8, 4):
        if width < tile and tile > 4:
            continue
        runs = list(serial)
        if not serial:
            runs.append((axis, max(1, MAP_CHUNK // min(tile, max(1, width)))))
        elif len(serial) < len(spec.outer):
            v, d = spec.outer[-len(serial) - 1]
            chunk = MAP_CHUNK // max(1, covered)
            if chunk > 1:
                runs.append((v, chunk))
        if width >= 4:
            found.append(Schedule(tiles=((axis, tile),), vector=axis, serial=tuple(runs), unroll=unroll))
        else:
            found.append(Schedule(serial=tuple(runs)))
    return found


def _bordered(spec: KernelSpec) -> list[Schedule]:
    """Tiles for what is clamped along the innermost axis, as padding is: those first that leave the least over at its end.

    Rows of several planes together: where the border is, is found out once for all of them, and the memory is asked for
    several at a time. Or a task takes whole planes where there are enough of them: what does not change along a row is
    found out once.
    """
    axis, extent = spec.outer[-1]
    axes = [v for v, _ in spec.outer]
    if interior(spec.stages, axis, var(axis), var(axis)) is None:
        return []
    width = spec.hint(extent)
    sizes = sorted((n for n in (12, 16, 20, 8) if 2 * n <= width), key=lambda n: -(-width // n) * n)
    if len(axes) < 2:
        return [Schedule(tiles=((axis, n),), vector=axis, serial=((axis, 0),)) for n in sizes]
    rows = axes[-2]
    planes = prod(spec.hint(d) for _, d in spec.outer[:-2])
    run = 0 if planes >= ENOUGH_TASKS else -(-spec.hint(spec.extent(rows)) * planes // ENOUGH_TASKS)
    whole = ((axis, 0), (rows, run)) if run != 1 else ((axis, 0),)
    found = []
    if len(axes) > 2:
        plane, count = axes[-3], spec.hint(spec.extent(axes[-3]))
        together = [(m, n) for m, n in ((8, 8), (12, 8), (4, 16)) if m <= count and 2 * n <= width]
        found = [
            Schedule(tiles=((plane, m), (axis, n)), vector=axis, serial=((axis, 0),)) for m, n in together
        ]
    found += [Schedule(tiles=((axis, n),), vector=axis, serial=whole) for n in sizes]
    if spec.hint(spec.extent(rows)) >= 2:
        found += [Schedule(tiles=((rows, 2), (axis, n)), vector=axis, serial=whole) for n in sizes]
    return found + [Schedule(tiles=((axis, n),), vector=axis, serial=((axis, 0),)) for n in sizes]


def _gathering(spec: KernelSpec) -> list[Schedule]:
    """Tiles of several rows where run-time values say which rows are read: each may lie far off, and so the memory is asked
    for several at a time."""
    if len(spec.outer) < 2 or any(s.axes for s in spec.stages):
        return []
    (rows, count), (axis, extent) = spec.outer[-2:]
    if not isinstance(count, int) or not isinstance(extent, int):
        return []
    values = ir.nodes(*(v for s in spec.stages for v in s.values()))
    indices = [e.attr[1] for e in values if e.op == "load" and coefficient(e.attr[1], axis) == 1]
    if not any(rows in value.names for i in indices for value in values_of(i)):
        return []
    return [
        Schedule(tiles=((rows, m), (axis, n)), vector=axis, serial=((axis, 0),))
        for m, n in ((4, 16), (8, 8), (2, 16))
        if m <= count and n <= extent
    ]


def _long_sums(spec: KernelSpec, threads: int) -> list[Schedule]:
    """Wide tiles for reductions over many rows: each row is fetched from afar, and pays by what is used of it."""
    axis, extent = spec.outer[-1]
    stage = spec.stages[0]
    if not stage.axes or spec.hint(product([d for _, d in stage.axes])) < LONG_SUM:
        return []
    found = [
        Schedule(tiles=((axis, n),), vector=axis, unroll=u)
        for n, u in ((64, 4), (64, 2), (32, 1), (32, 4), (16, 4), (16, 2))
        if 4 * n <= spec.hint(extent)
    ]
    return [*_sweeping(spec, threads), *found]


def _sweeping(spec: KernelSpec, threads: int) -> list[Schedule]:
    """Runs of columns that waste little where the last one is moved back, some rows at a time; first those that give each
    thread a task."""
    axis, extent = spec.outer[-1]
    if not sweeps(spec) or not isinstance(extent, int):
        return []
    others = prod(spec.hint(d) for _, d in spec.outer[:-1])
    found: list[tuple[bool, Schedule]] = []
    for longest, (n, u) in product_of(SWEEPS, ((32, 8), (16, 8), (16, 16), (32, 16))):
        least = -(-extent // longest)
        for runs in (least, least + 1):
            tiles = -(-extent // (runs * n))
            if n * tiles <= extent and runs * n * tiles <= MOST_TWICE * extent:
                serial = ((axis, tiles),)
                how = Schedule(tiles=((axis, n),), vector=axis, serial=serial, unroll=u, sweep=True)
                found.append((others * runs < threads, how))
                break
    return [how for _, how in sorted(found, key=lambda one: one[0])]


def _transposing(spec: KernelSpec) -> list[Schedule]:
    """Tiles of two axes, where what is neighbours in memory along the one is stored as neighbours along the other.

    First those whose tasks run along whole rows of the result, few at a time: 8 took less than half the time of 16 at 1000×1008,
    three quarters of it at 1024×1024, where blocks were no faster; 4 are best for some sizes, half as fast where rows are a power
    of two apart. Then blocks that read and write whole cache lines.
    """
    axis, extent = spec.outer[-1]
    found: list[str] = []
    for e in ir.nodes(*(v for s in spec.stages for v in s.values())):
        if e.op == "load" and coefficient(e.attr[1], axis) not in (0, 1, None):
            found += [v for v, d in spec.outer[:-1] if coefficient(e.attr[1], v) == 1 and spec.hint(d) >= 4]
    if not found or any(s.axes for s in spec.stages) or spec.hint(extent) < 4:
        return []
    across = max(found, key=found.count)
    rows, columns = spec.hint(spec.extent(across)), spec.hint(extent)
    others = prod(spec.hint(d) for v, d in spec.outer[:-1] if v != across)
    shapes = [(m, n, 0) for m, n in ((8, 4), (8, 8), (4, 4)) if others * -(-rows // m) >= ENOUGH_TASKS]
    shapes += [
        (m, n, max(1, MAP_CHUNK // (m * n))) for m, n in ((16, 8), (8, 8), (8, 4), (16, 4), (4, 16), (4, 4))
    ]
    return [
        Schedule(tiles=((across, m), (axis, n)), vector=axis, serial=((axis, run),))
        for m, n, run in shapes
        if m <= rows and n <= columns
    ]


def _loads_of(items: list) -> list[ir.Expr]:
    return [e for e in ir.nodes(*(x.value for x in items)) if e.op == "load"]


def is_rows(spec: KernelSpec) -> bool:
    """Whether vectors should run along the stages' own axes rather than along an outer axis."""
    if not any(s.axes for s in spec.stages):
        return False
    if any(s.axes and s.stores for s in spec.stages) or not spec.outer:
        return True
    last_outer = spec.outer[-1][0]
    inner = along_outer = 0
    for s in spec.stages:
        if s.axes:
            for e in _loads_of(s.reduces):
                inner += coefficient(e.attr[1], s.axes[-1][0]) == 1
                along_outer += coefficient(e.attr[1], last_outer) == 1
    return inner > along_outer
