"""Tiles of the outer axes: how many points of each a task computes together.

Tiles never have tails: the last tile of an axis is moved back to end with the axis, so it overlaps its neighbour and
writes some elements twice, with equal values. Likewise the last vector of a tile whose size along the vector axis is not a
multiple of 4. A tile is never larger than its axis; where the axis is a symbol, that becomes a requirement on it
(`Tiling.requires`), and the plan gets a guard.
"""

from __future__ import annotations

from ..ir import LANES, VECTOR_DTYPES
from ..schedule.schedule import Schedule
from ..symbolic import bounds_of, minimum, mod
from .spec import Index, KernelSpec


def least_extent(hint: int) -> int:
    """What a plan may require of a symbolic extent that is `hint` now: coarse steps, so that most sizes fit one plan."""
    return next(n for n in (8, 4, 2, 1) if n <= max(1, hint))


class Tiling:
    """What `schedule` makes of the outer axes of `spec`.

    sizes      axis → points of it in a tile, at least 1
    vector     the axis whose points are lanes of vectors, its size at least 4; "" where values stay scalar
    requires   (extent, least value) of symbolic axes
    """

    __slots__ = ("sizes", "vector", "requires")

    def __init__(self, spec: KernelSpec, schedule: Schedule) -> None:
        self.sizes: dict[str, int] = {}
        self.requires: list[tuple[Index, int]] = []
        for axis, extent in spec.outer:
            tile = max(1, min(schedule.tile(axis), spec.hint(extent)))
            low = bounds_of(extent, spec.bounds)[0]
            if tile > 1 and (low is None or low < tile):
                tile = min(tile, least_extent(spec.hint(extent)))
                self.requires.append((extent, tile))
            self.sizes[axis] = tile
        if any(b.access == "rw" for b in spec.buffers):
            # A tile that overlaps its neighbour would read what the neighbour's task has already replaced.
            self.sizes = dict.fromkeys(self.sizes, 1)
        vector = schedule.vector if schedule.vector in self.sizes else ""
        if vector and (self.sizes[vector] < LANES or not fits_vectors(spec)):
            vector = ""
        self.vector = vector


def vector_starts(size: int) -> list[int]:
    """Where the vectors of a tile of `size` points begin: the last one is moved back to end with the tile."""
    return [min(n, size - LANES) for n in range(0, size, LANES)]


def tile_start(number: Index, tile: int, extent: Index) -> Index:
    """The first point of tile `number`: the last tile is moved back to end with the axis."""
    start = number * tile
    left = mod(extent, tile)
    return start if isinstance(left, int) and left == 0 else minimum(start, extent - tile)


def fits_vectors(spec: KernelSpec) -> bool:
    """Whether every value that is reduced or stored fits a vector lane."""
    return all(v.dtype in VECTOR_DTYPES for s in spec.stages for v in s.values())
