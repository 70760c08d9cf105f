"""Reading ahead: while a tile is computed, what the next column of tiles will read is brought near, little by little.

The tasks of a matmul go down a column of tiles, all of which read the same packed tile of the weights; only the first
one waits for memory, at a time when nothing else is fetched. Wasm has no prefetch instruction, but a load whose value
nobody uses does as well: the tasks of a column share out the next packed tile among themselves, each iteration loads one
element of it, and so the column after finds it in the cache. Engines keep such a load, since it could trap.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .. import ir
from ..symbolic import ceildiv, minimum, mod, product, substitute
from .packing import Packed, tile_number
from .spec import Index, KernelSpec, expr_depends

LEAST_ELEMENTS = 1 << 14
"""Elements of an operand from which it may not be in the nearest cache when it is needed."""
LEAST_ROWS = 3
"""Rows of a tile from which it pays: the loads of a flatter one lie so close together that many are under way anyway."""
LINE = 16
"""Elements between two loads at most: 64 bytes of floats, the usual line of a cache."""


class Ahead:
    """Iteration i of the innermost reduction reads element `start` + i · `step` of `buffer`."""

    __slots__ = ("buffer", "dtype", "start", "step")

    def __init__(self, buffer: str, dtype: str, start: Index, step: int) -> None:
        self.buffer = buffer
        self.dtype = dtype
        self.start = start
        self.step = step

    def read(self, iteration: Index) -> ir.Stmt:
        """The load, into a local that is not used."""
        return ir.Declare("ahead", ir.load(self.buffer, self.start + iteration * self.step, self.dtype))


def reading_ahead(
    spec: KernelSpec,
    order: Sequence[str],
    sizes: dict[str, int],
    axis: str,
    load: ir.Expr,
    packed: Packed,
    place: Index,
) -> Ahead | None:
    """What the tasks of a kernel read of the tile after theirs of a packed operand; None where it would not help.

    The grid of tasks has the `order` of axes, tiles have `sizes`. `load` of the contraction was packed for tiles of `axis`,
    and the first element of the task's packed tile is at `place`.
    """
    after = order[order.index(axis) + 1 :]
    if len(spec.stages[0].axes) != 1 or not after or expr_depends(load, set(after), {}):
        return None
    if not expr_depends(load, {axis}, {}) or spec.hint(packed.elements) < LEAST_ELEMENTS:
        return None
    rows = product([ceildiv(spec.extent(v), sizes[v]) for v in after])
    tile, terms = sizes[axis], spec.stages[0].axes[0][1]
    count = spec.hint(rows)
    step = -(-tile // count)
    if count < 2 or prod(sizes[v] for v in after) < LEAST_ROWS or step > LINE:
        return None
    whole, share = terms * tile, terms * step
    # The last column reads its own tile again; tasks beyond those that share the tile out read the last share again.
    following = minimum(place + whole, packed.elements - whole)
    part = minimum(mod(ir.TASK, rows) * share, whole - share)
    return Ahead(packed.buffer, ir.COMPUTE_OF[packed.storage], following + part, step)


def tile_place(place: Index, axis: str, number: Index, bases: dict[str, Index], spec: KernelSpec) -> Index:
    """The index of a packed tile's first element, `place` being that of any of its points."""
    first = {v: 0 for v, _ in spec.stages[0].axes}
    return substitute(place, {**bases, **first, tile_number(axis): number, axis: 0})
