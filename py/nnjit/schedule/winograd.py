"""Which of Winograd's schedules are worth measuring for a convolution, and whether the best of them should come first."""

from __future__ import annotations

from ..lower.spec import KernelSpec
from ..lower.winograd import convolution_of, tile_count
from ..lower.winograd_transforms import TAPS
from ..target import Target
from .schedule import Schedule

_PRODUCT = 1.0
"""Cost of a multiply-add of the products, in those of the plain convolution: both kernels run near the ceiling."""
_TRANSFORM = 8.0
"""Cost of an element of a transform: it is computed, written and read again."""
_FILTER = 2.5
"""Cost of an element of the transformed filters: there are more of them than of the filters, and memory is slow."""
LEAST_CHANNELS = 8
"""Below so many channels the transforms cost as much as the products save."""


def winograd_schedules(spec: KernelSpec, target: Target) -> list[tuple[float, Schedule]]:
    """(cost as a fraction of that of the plain convolution, schedule), the cheapest first; empty where none fits."""
    form = convolution_of(spec) if target.device == "wasm" else None
    if form is None:
        return []
    columns, depth = spec.extent(form.columns), spec.hint(spec.extent(form.depth))
    if not isinstance(columns, int) or columns % 4 or min(columns, depth) < LEAST_CHANNELS:
        return []
    plain = float(columns * depth)
    for v, _ in spec.outer:
        if v != form.columns:
            plain *= spec.hint(spec.extent(v))
    for _ in form.windows:
        plain *= TAPS
    found: list[tuple[float, Schedule]] = []
    block = 8 if columns % 8 == 0 else 4
    for size in (4, 2):
        if any(spec.hint(spec.extent(v)) < size for v, _ in form.windows):
            continue
        tiles = (*((v, size) for v, _ in form.windows), (form.columns, block))
        count = (size + TAPS - 1) ** len(form.windows)
        total = spec.hint(tile_count(spec, Schedule(tiles=tiles)))
        for rows in (6, 5, 4, 8) if block == 8 else (8, 6, 4):
            if rows > total and rows > 4:
                continue
            waste = -(-total // rows) * rows / total * (1 + 0.5 / rows)
            if rows * block // 4 + 3 > target.vector_registers:
                waste *= 1.5
            cost = _PRODUCT * waste * total * columns * depth + _TRANSFORM * total * (columns + depth)
            cost = count * (cost + _FILTER * columns * depth) / plain
            found.append((cost, Schedule(tiles=tiles, vector=form.columns, winograd=rows)))
    return sorted(found, key=lambda f: f[0])
