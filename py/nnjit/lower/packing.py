"""Packing: operands of a contraction laid out in the order in which its tiles read them.

    [the tiled operand's other outer axes …, number of the tile, reduction axes …, points of the tile]

Filling the packed buffer is a kernel of its own, made of a spec like any other. It runs once where the operand is a weight
or another constant, else at each inference.
"""

from __future__ import annotations

from .. import ir
from ..schedule.schedule import Schedule
from ..symbolic import ceildiv, product, var
from .loops import row_major
from .spec import (
    Index,
    KernelSpec,
    Stage,
    StoreTo,
    expr_depends,
    substitute_expr,
    symbols_of,
    touched_buffers,
)
from .tiling import tile_start


class Packed:
    """An operand in another form: `spec` fills it, from `source` and others made before, ahead of the kernel itself.

    `elements` of dtype `storage`. `schedule` is how; None leaves that to the default for `spec`.
    """

    __slots__ = ("buffer", "storage", "elements", "spec", "source", "schedule")

    def __init__(
        self,
        buffer: str,
        storage: str,
        elements: Index,
        spec: KernelSpec,
        source: str,
        schedule: Schedule | None = None,
    ) -> None:
        self.buffer = buffer
        self.storage = storage
        self.elements = elements
        self.spec = spec
        self.source = source
        self.schedule = schedule


def packed_operand(
    spec: KernelSpec, number: int, axis: str, tile: int, name: str
) -> tuple[ir.Expr, Packed, Index]:
    """Operand `number` of the contraction `spec`, packed into buffer `name` for tiles of `axis`.

    Gives the load that it replaces, how it is made, and the index there of the point `axis` of the tile `tile_number(axis)`;
    an operand that does not depend on `axis` just gets its elements in the order of the loops.
    """
    operands = spec.operands
    assert operands is not None
    load = ir.uncast(operands[number])
    buffer = next(x.attr[0] for x in ir.nodes(load) if x.op == "load")
    source = next(b for b in spec.buffers if b.name == buffer)
    storage = source.storage if load.op == "load" else load.dtype
    axes = [(v, d) for v, d in spec.outer if v != axis and expr_depends(load, {v}, {})]
    inner = [(v, d) for v, d in spec.stages[0].axes if expr_depends(load, {v}, {})]
    value = load
    if expr_depends(load, {axis}, {}):
        extent = spec.extent(axis)
        axes += [(tile_number(axis), ceildiv(extent, tile)), *inner, (axis, tile)]
        start = tile_start(var(tile_number(axis)), tile, extent)
        value = substitute_expr(load, {axis: start + var(axis)})
    else:
        axes += inner
    place = row_major(axes)
    stages = [Stage((), [], [StoreTo(name, place, value)])]
    touched = touched_buffers(stages)
    buffers = [ir.Buffer(b.name, b.storage, "r") for b in spec.buffers if b.name in touched]
    filling = KernelSpec(
        tuple(axes), stages, [*buffers, ir.Buffer(name, storage, "w")], spec.hints, spec.bounds
    )
    filling.symbols = symbols_of(filling)
    return load, Packed(name, storage, product([d for _, d in axes]), filling, buffer), place


def tile_number(axis: str) -> str:
    """The variable that numbers the tiles of `axis` in a packed operand's indices."""
    return f"{axis}_p"
