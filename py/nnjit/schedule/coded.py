"""Schedules of sums of products with coded weights: unpacked in registers for few rows, in scratch memory for many."""

from __future__ import annotations

from ..lower.coded import Coded, panel_bytes
from ..lower.spec import KernelSpec
from ..target import Target
from .schedule import Schedule

FEW_ROWS = 3
"""Rows up to which unpacking each weight for every row, or two of them, costs less than a panel."""


def coded_schedules(spec: KernelSpec, found: Coded, target: Target) -> list[Schedule]:
    """Best guess first; the plain schedules last, which always work."""
    column = found.column
    width = spec.hint(spec.extent(column))
    count = 1
    for _, d in found.rows:
        count *= spec.hint(d)
    axis = max(found.rows, key=lambda a: spec.hint(a[1]))[0] if found.rows else ""
    lanes = []
    # Engines differ in what they make of products of bytes: they are tried early, but are no first guess.
    bytewise = target.relaxed_simd and target.passes.relaxed_simd and found.bits < 8
    for rows in (2, 1) if count > 1 else (1,):
        for (columns, together), other in zip(
            ((4, 2), (8, 2), (4, 4), (4, 1), (8, 1)), ((4, 4), (8, 4), (4, 2), (8, 2), (4, 1)), strict=True
        ):
            if columns <= width:
                tiles = (*(((axis, rows),) if rows > 1 else ()), (column, columns))
                lanes.append(Schedule(tiles=tiles, vector=column, unroll=together, unpack="lanes"))
            if bytewise and other[0] <= width:
                tiles = (*(((axis, rows),) if rows > 1 else ()), (column, other[0]))
                lanes.append(Schedule(tiles=tiles, vector=column, unroll=other[1], unpack="bytes"))
    panels = []
    tiles_of = ((6, 8), (4, 8)) if target.relaxed_simd else ((4, 8), (6, 8))
    for rows, columns in (
        *tiles_of,
        (8, 8),
        (3, 8),
        (2, 16),
        (4, 16),
        (8, 4),
        (4, 4),
        (2, 8),
        (1, 8),
        (1, 4),
    ):
        fits = columns <= width and panel_bytes(found, columns) <= target.scratch_bytes
        if fits and (rows == 1 or rows <= spec.hint(spec.extent(axis)) if axis else rows == 1):
            tiles = (*(((axis, rows),) if rows > 1 else ()), (column, columns))
            panels.append(Schedule(tiles=tiles, vector=column, unpack="panel"))
    plain = [Schedule(vector="inner"), Schedule()]
    return [*lanes, *panels, *plain] if count <= FEW_ROWS else [*panels, *lanes, *plain]
