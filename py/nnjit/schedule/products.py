"""Schedules for sums of products on the CPU: register tiles, windows that slide, dot products, Winograd's method."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from ..ir import LANES, STORAGE_BYTES
from ..lower.pairs import pairable, ready
from ..lower.spec import KernelSpec, coefficient, depends
from ..target import Target
from .roles import Roles, small_extent
from .schedule import MAX_CANDIDATES, Schedule
from .winograd import winograd_schedules

MAX_ACCUMULATORS = 24
"""More of them spill in every browser."""


def contraction(spec: KernelSpec, target: Target, constant: Collection[str] = ()) -> list[Schedule]:
    """The better schedules first; empty where no axis is fit for vectors. `constant` as in `space`."""
    roles = Roles(spec)
    scored: list[tuple[float, int, Schedule]] = []
    for column in _columns(spec, target, roles, constant):
        scored += _register_tiles(spec, target, roles, column)
    scored += _dot_products(spec, target, roles)
    scored.sort(key=lambda s: (s[0], s[1]))
    fast = winograd_schedules(spec, target)
    first = [s for cost, s in fast if cost < 1]
    plain = _diverse([s for _, _, s in scored])
    return (
        [*first[:4], *plain[:4], *first[4:], *(s for cost, s in fast if cost >= 1), *plain[4:]]
        if plain
        else []
    )


def _columns(spec: KernelSpec, target: Target, roles: Roles, constant: Collection[str]) -> list[str]:
    """Axes for the columns of register tiles: the first that fits. Then one of the other operand, along which results are
    stored across, where windows would be laid out anew for the first, or where that has few rows."""
    found = roles.columns[:1]
    if found and any(roles.slides(n) and coefficient(roles.indices[n], found[0]) != 1 for n in (0, 1)):
        found += [v for v in roles.others if not any(roles.slides(n) and roles.moves(n, v) for n in (0, 1))][
            :1
        ]
    elif found:
        found += _few_rows(spec, target, roles, constant, found[0])
    return found


def _few_rows(
    spec: KernelSpec, target: Target, roles: Roles, constant: Collection[str], column: str
) -> list[str]:
    """The axis of the rows of tiles whose columns are along `column`, to be that of the columns instead: where a large weight
    is fetched from memory for 7 or 8 rows in all. They fill two vectors, and leave registers for six elements of the weight,
    each splatted once. These lie along the sum in six places, which the processor fetches ahead by itself, all at a time;
    from one place a single row of tiles would fetch too slowly."""
    streamed = [n for n in (0, 1) if roles.moves(n, column)]
    if len(streamed) != 1 or not _beyond(spec, target, roles, streamed[0]):
        return []
    if roles.loads[streamed[0]].attr[0] not in constant and not _along_sum(spec, roles, streamed[0]):
        return []
    rows = [(v, d) for v, d in spec.outer if spec.hint(d) > 1 and not roles.moves(streamed[0], v)]
    if len(rows) != 1 or rows[0][0] not in roles.others:
        return []
    axis, extent = rows[0]
    # What is a symbol now may be less than 7 another time.
    full = extent in (2 * LANES - 1, 2 * LANES) or spec.hint(extent) == 2 * LANES
    return [axis] if full else []


def _along_sum(spec: KernelSpec, roles: Roles, operand: int) -> bool:
    """Whether the operand's elements lie in the order in which a sum takes them."""
    return coefficient(roles.indices[operand], spec.stages[0].axes[-1][0]) == 1


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


def _register_tiles(
    spec: KernelSpec, target: Target, roles: Roles, column: str
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
    if not row_axes and roles.slides(on_column[0]):
        return _sliding(spec, target, roles, column)
    # The columns are rows that are few, and what is read in several places is the other operand: see `_few_rows`.
    few = column != roles.columns[0] and not roles.slides(1 - on_column[0])
    packings = _packings(spec, roles, on_column, must_pack, few)
    orders = _orders(spec, column, row_axes, few)
    unroll = small_extent(spec)
    waiting = _waiting(spec, target, roles, on_column[0])
    fused = target.relaxed_simd and spec.stages[0].reduces[0].value.dtype == "f32"
    found: list[tuple[float, int, Schedule]] = []
    for rows in _row_tiles(spec, row_axes):
        m = prod(t for _, t in rows)
        waste = _waste(spec, rows)
        stores = _stores(roles, rows, column)
        for n in (width,) if few else (4, 8, 12, 16, 32):
            vectors = -(-n // LANES)
            accumulators = m * vectors
            if n > max(width, LANES) or accumulators > MAX_ACCUMULATORS:
                continue
            if accumulators < 4 and m == 1 and n < min(width, 16) and row_axes:
                continue
            cost = tile_cost(m, n, target, fused, alone=not row_axes) * (1 + waiting * m)
            cost *= waste * (-(-width // n) * vectors * LANES / width) * stores
            for packing, pairs, layout in packings:
                last = (packing, pairs) == packings[-1][:2]
                walks: list[tuple[float, tuple[str, ...], tuple[tuple[str, int], ...]]]
                walks = [(0.02 * position, order, ()) for position, order in enumerate(orders)]
                if last and row_axes and not pairs:
                    block = _cache_block(spec, target, roles, row_axes, on_column[0], -(-width // n), n)
                    walks += [(0.01, orders[0], ((column, block),))] if block else []
                for later, order, serial in walks:
                    schedule = Schedule(
                        tiles=(*rows, (column, n)),
                        vector=column,
                        order=order,
                        serial=serial,
                        pack=packing,
                        pairs=pairs,
                        unroll=1 if pairs else unroll,
                    )
                    penalty = (1 + later + (0.0 if last else 0.05)) * layout * (0.5 if pairs else 1)
                    found.append((cost * penalty, len(found), schedule))
    return found


def _packings(
    spec: KernelSpec, roles: Roles, on_column: list[int], must_pack: tuple[int, ...], few: bool
) -> list[tuple[tuple[int, ...], bool, float]]:
    """(operands laid out in tile order, whether in pairs, what laying them out adds to the cost as a factor); the best last."""
    found = [(must_pack, False)]
    if not must_pack:
        found.append((tuple(on_column), False))
    if few and not _along_sum(spec, roles, 1 - on_column[0]):
        found = [((0, 1), False)]  # The other operand in the order of its sum.
    if pairable(spec):
        # Two terms at a time halve the work; what cannot be read in pairs where it lies is packed.
        found.append((tuple(n for n in (0, 1) if n in on_column or not ready(spec, n)), True))
    return [
        (packing, pairs, 1 + sum(_LAYOUT / roles.reuse(n) for n in packing if roles.slides(n)))
        for packing, pairs in found
    ]


def _orders(spec: KernelSpec, column: str, row_axes: list[str], few: bool) -> list[tuple[str, ...]]:
    """Orders of the outer axes, the better first: all tiles of rows for a tile of columns, then that of the spec."""
    rest = [v for v, _ in spec.outer if v != column]
    if few:
        return [(*rest, column)]
    rows_last = (*[v for v in rest if v not in row_axes], column, *[v for v in rest if v in row_axes])
    plain = tuple(v for v, _ in spec.outer)
    return list(dict.fromkeys((rows_last, plain))) if row_axes else [plain]


def _waste(spec: KernelSpec, tiles: tuple[tuple[str, int], ...]) -> float:
    """Points that tiles compute for each that there is: the last tile of an axis is moved back."""
    extents = [(spec.hint(spec.extent(v)), t) for v, t in tiles]
    return prod(-(-extent // t) * t / extent for extent, t in extents)


def _cache_block(
    spec: KernelSpec, target: Target, roles: Roles, row_axes: list[str], streamed: int, panels: int, n: int
) -> int:
    """Tiles of n columns, of `panels`, that a task goes through with each of its tiles of rows; 0 where that is of no use.

    Where the operand of the rows does not fit a core's second cache, each tile of the columns of the operand `streamed`
    would fetch it again from further away, where threads, and whatever else the machine does, compete. A block of tiles
    that stays in half of that cache fetches it once, and as much of the nearest cache holds its few rows meanwhile.
    """
    if roles.slides(1 - streamed):
        return 0
    nearby = target.cache[1] // STORAGE_BYTES["f32"]
    rows = prod(spec.hint(spec.extent(v)) for v in row_axes)
    most = nearby // 2 // (roles.terms * n)
    if rows * roles.terms <= nearby or not 2 <= most < panels:
        return 0
    return -(-panels // -(-panels // most))


def tile_cost(m: int, n: int, target: Target, fused: bool, alone: bool = False) -> float:
    """What a multiply-add costs in tiles of m rows × n columns in registers, whose accumulators should be many and fit.

    `alone`: there is one row only, so that each vector of the columns is used once and needed no longer.
    """
    vectors = -(-n // LANES)
    accumulators = m * vectors
    spill = accumulators + (1 if alone else vectors) + 1 + (not fused) > target.vector_registers
    loads = _VECTOR_LOAD * vectors + (_SPLAT if target.relaxed_simd else _SPLAT_UNFUSED) * m
    cost = (1.8 if spill else 1.0) + loads / accumulators
    cost *= 1 + 2.0 / max(4, accumulators)
    return cost * (1.06 if n == 12 else 1.0)  # Rows of 48 bytes lie across cache lines.


def _stores(roles: Roles, rows: tuple[tuple[str, int], ...], column: str) -> float:
    """What storing adds to the cost of all multiply-adds."""
    if coefficient(roles.store, column) == 1:
        return 1.0
    across = bool(rows) and rows[-1][1] % LANES == 0 and coefficient(roles.store, rows[-1][0]) == 1
    return 1 + (_TRANSPOSED if across else _SCATTERED) / roles.terms


def _waiting(spec: KernelSpec, target: Target, roles: Roles, streamed: int) -> float:
    """What each row of a tile adds to the cost of all, where the operand `streamed` is fetched from memory for few rows.

    The first tile of a column waits for memory; the others find in the cache what it read. The flatter tiles are, the
    closer together lie their loads, so that more of them are under way at a time.
    """
    return _WAITING / roles.reuse(streamed) if _beyond(spec, target, roles, streamed) else 0.0


def _beyond(spec: KernelSpec, target: Target, roles: Roles, operand: int) -> bool:
    """Whether the operand, no window that slides, is larger than a core's second cache."""
    fetched = prod(spec.hint(d) for v, d in (*spec.outer, *spec.stages[0].axes) if roles.moves(operand, v))
    return STORAGE_BYTES["f32"] * fetched > target.cache[1] and not roles.slides(operand)


_VECTOR_LOAD = 0.5
_SPLAT = 0.5
_SPLAT_UNFUSED = 1.5
"""What loading a vector, or an element into all lanes, costs, in multiply-adds. Engines without relaxed SIMD make more of the
latter: there 2×16 is ahead of squarer tiles, or level with them, in all engines that were tried."""
_WAITING = 0.1
"""What waiting for memory costs a tile of all rows, in parts of its multiply-adds."""
_LAYOUT = 8.0
"""What laying out an element costs, in multiply-adds."""
_SCATTERED = 6.0
"""What storing an element alone costs, in multiply-adds."""
_TRANSPOSED = 2.0
"""What storing an element costs where four vectors are transposed first, in multiply-adds."""


def _sliding(
    spec: KernelSpec, target: Target, roles: Roles, column: str
) -> list[tuple[float, int, Schedule]]:
    """Tiles where one operand slides over the other along rows and columns, as in a depthwise convolution whose channels
    are outermost: each tap is splatted for the whole tile, and nothing is worth laying out anew."""
    (sliding,) = (n for n in (0, 1) if roles.moves(n, column))
    row_axes = [
        v for v, _ in reversed(spec.outer)
        if v != column and roles.moves(sliding, v) and not roles.moves(1 - sliding, v)
    ]  # fmt: skip
    width = spec.hint(spec.extent(column))
    whole = roles.terms if roles.terms <= MAX_TAPS else small_extent(spec)
    step = coefficient(roles.indices[sliding], column)
    # Two loads and a shuffle collect every second element; others are loaded one by one.
    each = abs(step) if isinstance(step, int) and abs(step) <= 2 else 4
    found: list[tuple[float, int, Schedule]] = []
    for t in (4, 2, 1, 3, 5, 6, 8):
        if t > 1 and (not row_axes or t > spec.hint(spec.extent(row_axes[0]))):
            continue
        rows = ((row_axes[0], t),) if t > 1 else ()
        waste = _waste(spec, rows)
        for unroll in dict.fromkeys((whole, small_extent(spec))):
            windows, fetched = _windows(spec, roles, [column, *row_axes[:1]], dict(rows), unroll)
            for n in (4, 8, 16):
                accumulators = t * n // 4
                if accumulators > 16 or (n > width and n > 4):
                    continue
                over = accumulators + unroll + 1 + (not target.relaxed_simd) - target.vector_registers
                cost = 1 + 0.3 * each * windows / (t * unroll) + 0.6 * fetched / roles.terms + 0.5 / n
                cost += _few(accumulators, roles) + 0.03 * max(0, over) * each**2
                cost *= waste * (-(-width // n) * n / width) * (1 if unroll == whole else 1.15)
                for run in (((column, 0),), ()):
                    schedule = Schedule(tiles=(*rows, (column, n)), vector=column, serial=run, unroll=unroll)
                    found.append((cost * (1 if run else 1.2), len(found), schedule))
    return found


MAX_TAPS = 25
"""Iterations of all reductions of a window that are unrolled whole where its rows share elements."""


def _few(accumulators: int, roles: Roles) -> float:
    """What it costs that additions wait for each other, in a sum that is too long for the next tile to begin meanwhile."""
    return 0.3 * max(0.0, 8 / accumulators - 1) * min(1.0, roles.terms / MAX_TAPS)


def _shared_columns(
    spec: KernelSpec,
    target: Target,
    roles: Roles,
    column: str,
    pack: tuple[int, ...],
    row_axes: list[str],
) -> list[tuple[float, int, Schedule]]:
    """Tiles where both operands move along the columns, as in a depthwise convolution: nothing is splatted.

    The columns loop inside a task, so that memory is read and written in its own order. Neighbouring windows share
    elements: along a row of them in registers, from row to row in the cache, where a tile has several.
    """
    width = spec.hint(spec.extent(column))
    serial = ((column, 0),) if column == spec.outer[-1][0] != spec.outer[0][0] else ()
    inner = small_extent(spec)
    tiles = _row_tiles(spec, row_axes)
    if len(row_axes) > 1:
        limits = [spec.hint(spec.extent(v)) for v in row_axes[:2]]
        tiles += [
            ((row_axes[1], q), (row_axes[0], m))
            for q, m in ((4, 1), (2, 4), (2, 2), (3, 3), (2, 1), (4, 2))
            if m <= limits[0] and q <= limits[1]
        ]
    found: list[tuple[float, int, Schedule]] = []
    for rows in dict.fromkeys(tuple(r for r in rows if r[1] > 1) for rows in tiles):
        sizes = dict(rows)
        m = prod(sizes.values())
        waste = _waste(spec, rows)
        for unroll in dict.fromkeys((roles.terms if roles.terms <= MAX_TAPS else inner, inner)):
            windows, fetched = _windows(spec, roles, row_axes, sizes, unroll)
            for n in (4, 8, 16):
                vectors = n // 4
                accumulators = m * vectors
                if accumulators > 16 or (n > width and n > 4):
                    continue
                # More than three taps need not stay in registers: loading them again is hidden behind multiply-adds.
                live = accumulators + vectors * min(unroll, 3) + 1 + (not target.relaxed_simd)
                held = accumulators + vectors * unroll + 1
                loads = (windows + unroll) / (m * unroll)
                cost = 1 + 0.3 * loads + 1.8 * fetched / roles.terms
                cost += _few(accumulators, roles)
                # Short runs of neighbours make little of a cache line.
                cost += 0.8 / n + 0.05 * min(4, max(0, held - target.vector_registers))
                cost *= waste * (-(-width // n) * n / width)
                cost *= 1.5 if live > target.vector_registers else 1.0
                for position, run in enumerate(dict.fromkeys((serial, ()))):
                    schedule = Schedule(
                        tiles=(*rows, (column, n)), vector=column, serial=run, pack=pack, unroll=unroll
                    )
                    found.append((cost * (1 + 0.1 * position), len(found), schedule))
    return found


def _windows(
    spec: KernelSpec, roles: Roles, row_axes: list[str], sizes: dict[str, int], unroll: int
) -> tuple[int, float]:
    """(elements that the windows of a tile read in the iterations that are unrolled, rows fetched for a row of results)."""
    taps = [(v, spec.hint(d)) for v, d in spec.stages[0].axes]
    unrolled = taps if roles.terms <= unroll else taps[-1:] if unroll > 1 else []
    elements = 1
    fetched = 1.0
    for number, axis in enumerate(row_axes):
        size = sizes.get(axis, 1)
        spans = []
        for tap, extent in taps:
            for i in roles.indices:
                step, each = coefficient(i, axis), coefficient(i, tap)
                if isinstance(step, int) and isinstance(each, int) and step and each and step % each == 0:
                    # The smallest step is that of the axis which the tap slides along.
                    spans.append((step // each, tap, extent))
        if not spans:
            elements *= size
            continue
        stride, tap, extent = min(spans)
        reach = (size - 1) * stride + extent
        elements *= reach if any(tap == v for v, _ in unrolled) else size
        if number:
            fetched *= reach / size
    return elements, fetched


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


def _dot_products(spec: KernelSpec, target: Target, roles: Roles) -> list[tuple[float, int, Schedule]]:
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
