"""Schedules for a GPU: tiles in the registers of an invocation, blocks in workgroup memory, rows."""

from __future__ import annotations

from ..ir import LANES
from ..lower.blocked import roles_of, shared_bytes
from ..lower.spec import KernelSpec, coefficient, depends
from ..symbolic import product
from ..target import Target
from .roles import Roles
from .schedule import MAX_CANDIDATES, Schedule

GPU_ROWS = 8192
"""Rows from which a GPU is busy with one invocation for each."""
_TILES = (
    (8, 8), (4, 4), (4, 8), (8, 4), (2, 4), (2, 2), (1, 4), (4, 1), (1, 1), (8, 16), (4, 16), (16, 4), (1, 8), (2, 8),
)  # fmt: skip


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
_BLOCKS = (
    (8, 8, 4, 4, 16), (8, 8, 8, 8, 16), (16, 16, 4, 4, 16), (8, 16, 4, 4, 16), (8, 16, 8, 4, 16), (16, 8, 4, 8, 16),
    (8, 8, 4, 8, 16), (8, 8, 4, 4, 32), (16, 16, 8, 4, 16), (16, 16, 8, 8, 8), (4, 16, 4, 4, 16), (4, 8, 4, 4, 32),
    (8, 8, 2, 4, 32), (4, 16, 2, 4, 32), (2, 32, 2, 4, 32), (1, 64, 1, 4, 32), (1, 64, 4, 4, 16),
)  # fmt: skip


BLOCK_TERMS = 16
"""Terms of a sum from which bringing operands into workgroup memory can pay."""


def gpu_rows(spec: KernelSpec, target: Target) -> list[Schedule]:
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


def gpu_contraction(spec: KernelSpec, target: Target, roles: Roles) -> list[Schedule]:
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
        for m, n in _TILES:
            tiles = tuple((v, t) for v, t in (*((v, m) for v in rows), (column, n)) if v and t > 1)
            if any(t > spec.hint(spec.extent(v)) for v, t in tiles) or (m > 1 and not rows):
                continue
            found = [Schedule(tiles=tiles, unroll=_chains(spec, m * n)), Schedule(tiles=tiles)]
            if n % LANES == 0 and packable:
                found.append(Schedule(tiles=tiles, vector=column, pack=strided))
                found += [Schedule(tiles=tiles, vector=column, pack=strided, order=order)] * (order != axes)
            for schedule in dict.fromkeys(found):
                scored.append((_cost(spec, roles, schedule), len(scored), schedule))
    tiled = [schedule for _, _, schedule in sorted(scored, key=lambda s: s[:2])]
    blocks = _blocks(spec, target) if target.device == "webgpu" else []
    if target.software:
        # A barrier costs more there than what the workgroup shares.
        return [*tiled[: MAX_CANDIDATES - len(blocks)], *blocks]
    return [*blocks, *tiled]


def _blocks(spec: KernelSpec, target: Target) -> list[Schedule]:
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
    for number, block in enumerate(_BLOCKS):
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


def _chains(spec: KernelSpec, size: int) -> int:
    """Accumulators for each of the `size` points of a small tile.

    Additions that do not wait for each other keep a GPU busy, and round less than one long sum.
    """
    chains = min(8, 16 // size)
    return chains if chains > 1 and spec.hint(spec.stages[0].axes[-1][1]) >= 2 * chains else 1


def _cost(spec: KernelSpec, roles: Roles, schedule: Schedule) -> float:
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
