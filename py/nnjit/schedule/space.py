"""The lite space: the schedules worth measuring for a KernelSpec on a Target, the most promising first.

The first one is the default: what runs until something better has been measured. A family's constraints come from the
web and the device: register tiles must fill, and not much exceed, the vector registers that the browser leaves; tiles
must waste little of the actual extents; what the tile reads should be contiguous (or gets packed).
"""

from __future__ import annotations

from .. import ir
from ..lower.blocked import roles_of, shared_bytes
from ..lower.chain import KEY, LEAST_BLOCK, Chain
from ..lower.pairs import pairable, ready
from ..lower.spec import Index, KernelSpec, coefficient, depends, nodes
from ..symbolic import product
from ..target import Target
from .schedule import Schedule
from .winograd import winograd_schedules

MAX_CANDIDATES = 48
MAX_CHAINS = 12
MAX_UNROLL = 7
"""Iterations of an innermost reduction that are unrolled whole: the width of a filter, the channels of a picture."""
MAP_CHUNK = 1024
"""Elements that one task of an elementwise kernel should cover, so that decoding the task costs nothing."""


def space(spec: KernelSpec, target: Target) -> list[Schedule]:
    """Distinct schedules, best guess first, never empty, at most MAX_CANDIDATES."""
    if isinstance(spec, Chain):
        found = _chain(spec, target)
    # Rows that a kernel reads again after writing them are not cut into tiles.
    elif spec.contraction is not None and not any(b.access == "rw" for b in spec.buffers):
        found = _contraction(spec, target)
        if not _fits_vectors(spec):
            found = [s for s in found if not s.pack] or _elementwise(spec)
    elif target.device == "webgpu":
        found = _gpu_rows(spec, target)
    elif _is_rows(spec):
        found = [Schedule(vector="inner", unroll=u) for u in (4, 2, 1)]
        found.append(Schedule())
    else:
        found = _elementwise(spec)
    found = [target.passes.restrict(s) for s in found]
    return list(dict.fromkeys(found))[:MAX_CANDIDATES] or [Schedule()]


def _chain(spec: Chain, target: Target) -> list[Schedule]:
    """Tiles that both contractions use, and blocks of rows that waste little and whose scratch memory fits.

    All blocks of a kernel have one size, and the last is moved back: 128 rows in blocks of 24 would be 144.
    """
    whole = spec.hint(spec.extent(spec.row))
    narrowest = min(spec.hint(spec.extent(spec.column)), spec.hint(spec.extent(KEY)))
    heads = 1
    for _, d in spec.batch:
        heads *= spec.hint(d)
    capacity = target.scratch_bytes // ir.STORAGE_BYTES["f32"]
    stride = spec.hint(spec.stride)
    if not isinstance(spec.stride, int) and 2 * stride * LEAST_BLOCK <= capacity:
        stride *= 2  # so that a longer sequence needs no other plan
    tiles = ((6, 8), (4, 8)) if target.relaxed_simd else ((4, 8), (6, 8))
    scored: list[tuple[float, int, Schedule]] = []
    for rank, (m, n) in enumerate(
        (*tiles, (2, 16), (4, 16), (6, 16), (8, 8), (3, 12), (4, 4), (2, 4), (1, 4))
    ):
        if n > max(4, narrowest) or m > whole:
            continue
        count = -(-whole // m)
        for each in range(1, min(count, max(1, capacity // (m * stride)), 96 // m) + 1):
            blocks = -(-count // each)
            waste = blocks * each * m / whole
            idle = heads * blocks < 2 * target.threads
            cost = (1 + 0.1 * rank) * waste * (1 + 0.6 / (each * m)) * (1.5 if idle else 1)
            schedule = Schedule(
                tiles=((spec.row, m), (KEY, n), (spec.column, n)),
                vector=KEY,
                serial=((spec.row, each),),
                unroll=4,
            )
            scored.append((cost, len(scored), schedule))
    return [schedule for _, _, schedule in sorted(scored, key=lambda s: s[:2])][:MAX_CHAINS]


def _fits_vectors(spec: KernelSpec) -> bool:
    """Whether every value that is reduced or stored has 4 bytes or is a bool; only those are packed."""
    values = [r.value for s in spec.stages for r in s.reduces]
    values += [w.value for s in spec.stages for w in s.stores]
    return all(v.dtype in ("f32", "i32", "u32", "bool") for v in values)


def _is_rows(spec: KernelSpec) -> bool:
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


def _loads_of(items: list) -> list[ir.Expr]:
    return [e for e in nodes(*(x.value for x in items)) if e.op == "load"]


def _elementwise(spec: KernelSpec) -> list[Schedule]:
    """Vectors along the innermost axis of the result; inner axes loop inside a task until it is worth starting."""
    if not spec.outer:
        return [Schedule()]
    axis, extent = spec.outer[-1]
    width = spec.hint(extent)
    found = _transposing(spec)
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
    unroll = _small_extent(spec) if spec.stages[0].axes else 1
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


def _transposing(spec: KernelSpec) -> list[Schedule]:
    """Tiles of two axes, where what is neighbours in memory along the one is stored as neighbours along the other.

    Whole cache lines are read and written: a tile that took less of them would fetch each again, in a matrix whose rows
    are a power of two apart at once.
    """
    axis, extent = spec.outer[-1]
    found: list[str] = []
    for e in nodes(*(v for s in spec.stages for v in s.values())):
        if e.op == "load" and coefficient(e.attr[1], axis) not in (0, 1, None):
            found += [v for v, d in spec.outer[:-1] if coefficient(e.attr[1], v) == 1 and spec.hint(d) >= 4]
    if not found or any(s.axes for s in spec.stages) or spec.hint(extent) < 4:
        return []
    across = max(found, key=found.count)
    schedules = []
    for m, n in ((16, 8), (8, 8), (8, 4), (16, 4), (4, 16), (4, 4)):
        if m <= spec.hint(spec.extent(across)) and n <= spec.hint(extent):
            run = max(1, MAP_CHUNK // (m * n))
            schedules.append(Schedule(tiles=((across, m), (axis, n)), vector=axis, serial=((axis, run),)))
    return schedules


class _Roles:
    """What the axes of a contraction are to its operands."""

    def __init__(self, spec: KernelSpec) -> None:
        operands = spec.contraction
        assert operands is not None
        self.loads: list[ir.Expr] = []
        for e in operands:
            while e.op == "cast":
                e = e.args[0]
            self.loads.append(e)
        self.indices: list[Index] = [e.attr[1] for e in self.loads]
        store = next(w for s in reversed(spec.stages) for w in s.stores)
        self.columns = [
            v for v, d in reversed(spec.outer)
            if spec.hint(d) >= 4 and any(depends(i, v) for i in self.indices) and coefficient(store.index, v) == 1
        ] or [
            v for v, d in reversed(spec.outer)
            if spec.hint(d) >= 4 and sum(depends(i, v) for i in self.indices) == 1
        ]  # fmt: skip


def _contraction(spec: KernelSpec, target: Target) -> list[Schedule]:
    roles = _Roles(spec)
    if target.device == "webgpu" or spec.stages[0].reduces[0].value.dtype not in ("f32", "i32"):
        return _gpu_contraction(spec, target, roles)
    scored: list[tuple[float, int, Schedule]] = []
    for column in roles.columns[:1]:
        scored += _register_tiles(spec, target, roles, column)
    scored += _dot_products(spec, target, roles)
    if not scored:
        return _elementwise(spec)
    scored.sort(key=lambda s: (s[0], s[1]))
    fast = winograd_schedules(spec, target)
    first = [s for cost, s in fast if cost < 1]
    plain = _diverse([s for _, _, s in scored])
    return [*first[:4], *plain[:4], *first[4:], *(s for cost, s in fast if cost >= 1), *plain[4:]]


def _diverse(ranked: list[Schedule]) -> list[Schedule]:
    """The better half of the space by rank; then each tile shape that is not among it, since what a browser's register
    allocator makes of a wide tile only a measurement tells; then the rest."""
    head = ranked[: MAX_CANDIDATES // 2]
    shapes = {s.tiles for s in head}
    others: list[Schedule] = []
    for s in ranked[len(head) :]:
        if s.tiles not in shapes:
            shapes.add(s.tiles)
            others.append(s)
    return [*head, *others, *ranked[len(head) :]]


def _small_extent(spec: KernelSpec) -> int:
    """The extent of the innermost reduction axis if unrolling it whole is cheap, else 1."""
    extent = spec.stages[0].axes[-1][1]
    return extent if isinstance(extent, int) and 1 < extent <= MAX_UNROLL else 1


def _register_tiles(
    spec: KernelSpec, target: Target, roles: _Roles, column: str
) -> list[tuple[float, int, Schedule]]:
    """Tiles of rows × columns with vectors along the columns: one splat per row, column vectors shared by all rows."""
    width = spec.hint(spec.extent(column))
    on_column = [n for n, i in enumerate(roles.indices) if depends(i, column)]
    must_pack = tuple(n for n in on_column if coefficient(roles.indices[n], column) != 1)
    row_axes = [
        v for v, d in reversed(spec.outer)
        if v != column and spec.hint(d) > 1 and any(not depends(roles.indices[n], v) for n in on_column)
    ]  # fmt: skip
    if len(on_column) == 2:
        return _shared_columns(spec, target, roles, column, must_pack, row_axes)
    packings = [(must_pack, False)]
    if not must_pack:
        packings.append((tuple(on_column), False))
    if pairable(spec):
        # Two terms at a time halve the work; what cannot be read in pairs where it lies is packed.
        packings.append((tuple(n for n in (0, 1) if n in on_column or not ready(spec, n)), True))
    fused = target.relaxed_simd and spec.stages[0].reduces[0].value.dtype == "f32"
    orders = [tuple(v for v, _ in spec.outer)]
    if row_axes:
        rest = [v for v, _ in spec.outer if v != column]
        orders.insert(
            0, (*[v for v in rest if v not in row_axes], column, *[v for v in rest if v in row_axes])
        )
    found = []
    number = 0
    for rows in _row_tiles(spec, row_axes):
        m = 1
        waste = 1.0
        for v, t in rows:
            extent = spec.hint(spec.extent(v))
            m *= t
            waste *= -(-extent // t) * t / extent
        for n in (4, 8, 12, 16, 32):
            if n > width and n > 4:
                continue
            vectors = n // 4
            accumulators = m * vectors
            if accumulators > 24 or (accumulators < 4 and m == 1 and n < min(width, 16) and row_axes):
                continue
            spill = max(0, accumulators + vectors + 1 + (not fused) - target.vector_registers)
            cost = (
                waste
                * (-(-width // n) * n / width)
                * ((1.8 if spill else 1.0) + 0.5 * (vectors + m) / accumulators)
            )
            cost *= 1 + 2.0 / max(4, accumulators)
            for packing, pairs in packings:
                for position, order in enumerate(dict.fromkeys(orders)):
                    tiles = (*rows, (column, n))
                    penalty = 1 + 0.02 * position + (0.05 if (packing, pairs) != packings[-1] else 0)
                    schedule = Schedule(
                        tiles=tiles,
                        vector=column,
                        order=order,
                        pack=packing,
                        pairs=pairs,
                        unroll=1 if pairs else _small_extent(spec),
                    )
                    found.append((cost * penalty * (0.5 if pairs else 1), number, schedule))
                    number += 1
    return found


def _shared_columns(
    spec: KernelSpec,
    target: Target,
    roles: _Roles,
    column: str,
    pack: tuple[int, ...],
    row_axes: list[str],
) -> list[tuple[float, int, Schedule]]:
    """Tiles where both operands move along the columns, as in a depthwise convolution: nothing is splatted.

    The columns loop inside a task, so that memory is read and written in its own order.
    """
    width = spec.hint(spec.extent(column))
    unroll = _small_extent(spec)
    serial = ((column, 0),) if column == spec.outer[-1][0] != spec.outer[0][0] else ()
    found: list[tuple[float, int, Schedule]] = []
    for rows in _row_tiles(spec, row_axes):
        m, waste = 1, 1.0
        for v, t in rows:
            m *= t
            waste *= -(-spec.hint(spec.extent(v)) // t) * t / spec.hint(spec.extent(v))
        windows = m * unroll
        if rows:
            # Neighbouring windows share elements.
            axis, taps = rows[-1][0], spec.stages[0].axes[-1][0]
            for i in roles.indices:
                step, tap = coefficient(i, axis), coefficient(i, taps)
                if isinstance(step, int) and isinstance(tap, int) and tap and step % tap == 0:
                    windows = min(windows, m // rows[-1][1] * (unroll + (rows[-1][1] - 1) * (step // tap)))
        for n in (4, 8, 16):
            vectors = n // 4
            accumulators = m * vectors
            if accumulators > 16 or (n > width and n > 4):
                continue
            # More than three taps need not stay in registers: loading them again is hidden behind their multiply-adds.
            live = accumulators + vectors * min(unroll, 3) + 1 + (not target.relaxed_simd)
            loads = vectors * (windows + unroll) / (accumulators * unroll)
            cost = waste * (-(-width // n) * n / width) * (1 + 0.5 * loads) * (1 + 2.0 / max(4, accumulators))
            cost *= 1.5 if live > target.vector_registers else 1.0
            cost *= 1 + 1.0 / n  # Short runs of neighbours make little of a cache line.
            tiles = (*rows, (column, n))
            for position, run in enumerate(dict.fromkeys((serial, ()))):
                schedule = Schedule(tiles=tiles, vector=column, serial=run, pack=pack, unroll=unroll)
                found.append((cost * (1 + 0.1 * position), len(found), schedule))
    return found


def _row_tiles(spec: KernelSpec, row_axes: list[str]) -> list[tuple[tuple[str, int], ...]]:
    """Register tiles over the row axes: one axis, or two neighbouring ones where the inner one is short."""
    if not row_axes:
        return [()]
    found: list[tuple[tuple[str, int], ...]] = []
    first = row_axes[0]
    extent = spec.hint(spec.extent(first))
    for t in (6, 4, 8, 3, 2, 5, 7, 1):
        if t <= extent:
            found.append(((first, t),))
    if len(row_axes) > 1 and extent < 8:
        second = row_axes[1]
        for t in range(1, extent + 1):
            for u in (2, 3, 4):
                if t * u in (4, 6, 8) and u <= spec.hint(spec.extent(second)):
                    found.append(((second, u), (first, t)))
    return found


def _dot_products(spec: KernelSpec, target: Target, roles: _Roles) -> list[tuple[float, int, Schedule]]:
    """Vectors along the reduction: nothing is packed, but every accumulator ends in a sum of its lanes."""
    axis, extent = spec.stages[0].axes[-1]
    if any(coefficient(i, axis) != 1 for i in roles.indices) or spec.hint(extent) < 8:
        return []
    free = [v for v, d in reversed(spec.outer) if spec.hint(d) > 1]
    columns = [v for v in free if not depends(roles.indices[0], v)][:1]
    rows = [v for v in free if not depends(roles.indices[1], v)][:1]
    found: list[tuple[float, int, Schedule]] = []
    for m, n in ((4, 2), (3, 3), (2, 4), (1, 4), (1, 8), (4, 1), (1, 1)):
        if (m > 1 and not rows) or (n > 1 and not columns):
            continue
        tiles = tuple((v, t) for v, t in (*((v, m) for v in rows), *((v, n) for v in columns)) if t > 1)
        if any(t > spec.hint(spec.extent(v)) for v, t in tiles):
            continue
        ending = 1 + 16.0 / spec.hint(extent)
        cost = ending * (1 + 0.5 * (m + n) / (m * n)) * (1 + 2.0 / max(4, m * n)) * 1.6
        found.append((cost, 1000 + len(found), Schedule(tiles=tiles, vector="inner")))
    return found


def _gpu_rows(spec: KernelSpec, target: Target) -> list[Schedule]:
    """One invocation for each point of the outer axes, or a workgroup that shares the point's loops."""
    loops = [s.axes[-1][1] for s in spec.stages if s.axes]
    if not loops:
        return [Schedule()]
    # Several accumulators a row: independent additions, and a smaller rounding error than one long sum has.
    alone = [Schedule(unroll=u) for u in (8, 4, 1)]
    reduces = sum(len(s.reduces) for s in spec.stages)
    most = min(target.max_workgroup, target.shared_bytes // (8 * max(1, reduces)), max(map(spec.hint, loops)))
    together = [Schedule(group=n) for n in (64, 256, 16) if n <= most and reduces]
    rows = 1
    for _, d in spec.outer:
        rows *= spec.hint(d)
    return alone + together if target.software or rows >= GPU_ROWS else together + alone


GPU_ROWS = 8192
"""Rows from which a GPU is busy with one invocation for each."""

_GPU_TILES = (
    (8, 8), (4, 4), (4, 8), (8, 4), (2, 4), (2, 2), (1, 4), (4, 1), (1, 1), (8, 16), (4, 16), (16, 4), (1, 8), (2, 8),
)  # fmt: skip
LANES = 4
GPU_INVOCATIONS = 512
"""Invocations below which a GPU runs dry."""
_ACCESS_COST = 0.004
"""A memory access in the shader's text, in loads per product: each is bounds-checked, and takes time to compile."""
_VECTOR_GAIN = 0.85
"""What a loaded element costs as part of a vector."""
_PACK_COST = 4.0
"""Laying out an element, in loads per product: spread over the products that use it."""
_FIRST_OPERAND = 0.05
"""The first operand is seldom a weight, whose layout costs nothing at an inference."""


def _gpu_contraction(spec: KernelSpec, target: Target, roles: _Roles) -> list[Schedule]:
    """Register tiles per invocation, with and without vectors along the columns.

    The columns are an axis along which results or operands are contiguous, or an operand can be packed to be. The rows
    are an axis along which an operand of the columns is loaded once and used again.
    """
    axes = tuple(v for v, _ in spec.outer)
    others = [
        v
        for v, d in reversed(spec.outer)
        if spec.hint(d) >= LANES and sum(depends(i, v) for i in roles.indices) == 1
    ]
    columns = list(dict.fromkeys([*roles.columns[:1], *others]))[:3] or list(axes[-1:]) or [""]
    narrow = spec.stages[0].reduces[0].value.dtype in ("f32", "i32", "u32")
    scored: list[tuple[float, int, Schedule]] = []
    for column in columns:
        on_column = [i for i in roles.indices if depends(i, column)]
        strided = tuple(
            n for n, i in enumerate(roles.indices) if depends(i, column) and coefficient(i, column) != 1
        )
        rows = [
            v for v, d in reversed(spec.outer)
            if v != column and spec.hint(d) > 1 and not all(depends(i, v) for i in on_column)
        ][:1]  # fmt: skip
        # An operand that other axes move as well would be laid out once for each of their positions.
        packable = narrow and all(sum(depends(roles.indices[n], v) for v in axes) == 1 for n in strided)
        order = (*(v for v in axes if v not in rows), *rows)
        for m, n in _GPU_TILES:
            tiles = tuple((v, t) for v, t in (*((v, m) for v in rows), (column, n)) if v and t > 1)
            if any(t > spec.hint(spec.extent(v)) for v, t in tiles) or (m > 1 and not rows):
                continue
            found = [Schedule(tiles=tiles, unroll=_gpu_chains(spec, m * n)), Schedule(tiles=tiles)]
            if n % LANES == 0 and packable:
                found.append(Schedule(tiles=tiles, vector=column, pack=strided))
                found += [Schedule(tiles=tiles, vector=column, pack=strided, order=order)] * (order != axes)
            for schedule in dict.fromkeys(found):
                scored.append((_gpu_cost(spec, roles, schedule), len(scored), schedule))
    tiled = [schedule for _, _, schedule in sorted(scored, key=lambda s: s[:2])]
    blocks = _gpu_blocks(spec, target) if target.device == "webgpu" else []
    if target.software:
        # A barrier costs more there than what the workgroup shares.
        return [*tiled[: MAX_CANDIDATES - len(blocks)], *blocks]
    return [*blocks, *tiled]


_GPU_BLOCKS = (
    (8, 8, 4, 4, 16), (8, 8, 8, 8, 16), (16, 16, 4, 4, 16), (8, 16, 4, 4, 16), (8, 16, 8, 4, 16), (16, 8, 4, 8, 16),
    (8, 8, 4, 8, 16), (8, 8, 4, 4, 32), (16, 16, 8, 4, 16), (16, 16, 8, 8, 8), (4, 16, 4, 4, 16), (4, 8, 4, 4, 32),
    (8, 8, 2, 4, 32), (4, 16, 2, 4, 32), (2, 32, 2, 4, 32), (1, 64, 1, 4, 32), (1, 64, 4, 4, 16),
)  # fmt: skip
BLOCK_TERMS = 16
"""Terms of a sum from which bringing operands into workgroup memory can pay."""


def _gpu_blocks(spec: KernelSpec, target: Target) -> list[Schedule]:
    """Blocks in workgroup memory, those first that waste little of the results and still give every core some."""
    roles = roles_of(spec)
    if roles is None:
        return []
    m, n, k, batch = (
        spec.hint(product([d for _, d in axes]))
        for axes in (roles.rows, roles.columns, roles.inner, roles.batch)
    )
    if k < BLOCK_TERMS or m * n == 0:
        return []
    scored: list[tuple[float, int, Schedule]] = []
    for number, block in enumerate(_GPU_BLOCKS):
        height, width = block[0] * block[2], block[1] * block[3]
        if block[0] * block[1] > target.max_workgroup or shared_bytes(block) > target.shared_bytes:
            continue
        down, across = -(-m // height), -(-n // width)
        waste = down * height * across * width / (m * n)
        idle = max(1.0, GPU_INVOCATIONS * 8 / (batch * down * across * block[0] * block[1]))
        loads = (height + width) / (height * width)
        if waste <= 2:
            scored.append((waste * idle * (1 + 8 * loads), number, Schedule(block=block)))
    return [schedule for _, _, schedule in sorted(scored, key=lambda s: s[:2])][: MAX_CANDIDATES // 4]


def _gpu_chains(spec: KernelSpec, size: int) -> int:
    """Accumulators for each of the `size` points of a small tile.

    Additions that do not wait for each other keep a GPU busy, and round less than one long sum.
    """
    chains = min(8, 16 // size)
    return chains if chains > 1 and spec.hint(spec.stages[0].axes[-1][1]) >= 2 * chains else 1


def _gpu_cost(spec: KernelSpec, roles: _Roles, schedule: Schedule) -> float:
    """Lower is better: loads per product, and what else a schedule brings."""
    size = points = 1
    for _, t in schedule.tiles:
        size *= t
    for _, d in spec.outer:
        points *= spec.hint(d)
    column = schedule.vector
    elements = accesses = packing = 0.0
    for n, i in enumerate(roles.indices):
        each = reuse = 1
        for v, d in spec.outer:
            if depends(i, v):
                each *= schedule.tile(v)
            else:
                reuse *= spec.hint(d)
        vector = bool(column) and depends(i, column)
        elements += each * (_VECTOR_GAIN if vector else 1)
        accesses += each / LANES if vector else each
        if n in schedule.pack:
            packing += _PACK_COST / max(1, reuse) + _FIRST_OPERAND * (n == 0)
    accesses += size / LANES if column in roles.columns else size
    idle = max(0.0, GPU_INVOCATIONS * size / max(1, points) - 1)
    few_chains = 0.02 * (size <= 4 and schedule.unroll == 1)
    other_order = 0.01 * bool(schedule.order)
    return (
        elements / size
        + _ACCESS_COST * accesses
        + idle
        + packing
        + 0.3 * (size > 64)
        + few_chains
        + other_order
    )
