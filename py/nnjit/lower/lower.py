"""KernelSpec × Schedule → loop IR, by tiles of the outer axes: the entry, and how tiles become tasks.

A *task* is one tile, or a serial run of tiles. `tiling` says how large tiles are, `stages` what a task does for the points
of its tile, `values` what an expression is at a point, `accumulators` how reductions collect their terms, and `packing`
which operands are laid out in tile order first. Kernels that are made in other ways, of these parts or beside them:
`blocked` and `cooperative` for workgroups of a GPU, `winograd` and `chain` of several specs, `coded` for packed weights, `sweep` for reductions over rows.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product as cartesian

from .. import ir
from ..schedule.schedule import Schedule
from ..symbolic import ceildiv, minimum, product, substitute, var
from ..target import Target
from .interior import interior
from .loops import bind, decode, nest
from .mathlib import expand_body
from .packing import Packed, packed_operand, tile_number
from .pairs import paired
from .spec import Index, KernelSpec, Stage, touched_buffers
from .stages import StageLoops
from .tiling import Tiling, tile_start, vector_starts
from .values import Point


class Lowered:
    """A kernel, the packed operands that it reads (buffers after the spec's own), and (size, least value) requirements."""

    __slots__ = ("kernel", "packed", "requires")

    def __init__(self, kernel: ir.Kernel, packed: list[Packed], requires: list[tuple[Index, int]]) -> None:
        self.kernel = kernel
        self.packed = packed
        self.requires = requires


def lower(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel that `schedule` makes of `spec`. Raises ValueError where the schedule does not fit the spec."""
    if schedule.pairs:
        spec = paired(spec, schedule.pack)
    return Tiles(spec, schedule, target, "p").kernel(name)


def lower_inside(
    spec: KernelSpec, schedule: Schedule, target: Target, fixed: dict[str, Index], pack_name: str
) -> tuple[list[ir.Stmt], list[Packed], Collection[ir.Expr]]:
    """Statements that compute all points whose axes in `fixed` have those values, for a task of a larger kernel.

    Also the packed operands, their buffers' names starting with `pack_name`, and the loads that these replace.
    Intrinsics are left to `expand_body`.
    """
    tiles = Tiles(spec, schedule, target, pack_name)
    return tiles.inside(fixed), tiles.packed, tiles.stages.values.packed_loads


class Tiles:
    """The tiles of one spec under one schedule."""

    def __init__(self, spec: KernelSpec, schedule: Schedule, target: Target, pack_name: str) -> None:
        self.spec = spec
        self.schedule = schedule
        self.target = target
        self.tiling = Tiling(spec, schedule)
        self.stages = StageLoops(spec, schedule, target, self.tiling)
        self.pack_name = pack_name
        self.packed: list[Packed] = []

    def kernel(self, name: str) -> Lowered:
        """The kernel whose tasks are the tiles, `serial` runs of them one task."""
        spec, sizes = self.spec, self.tiling.sizes
        order = list(self.schedule.order) or [v for v, _ in spec.outer]
        if sorted(order) != sorted(v for v, _ in spec.outer):
            raise ValueError(f"order {order} does not name the outer axes of the kernel")
        serial = dict(self.schedule.serial)
        counts = {axis: ceildiv(spec.extent(axis), sizes[axis]) for axis in order}
        grid = tuple(
            (axis, ceildiv(counts[axis], serial.get(axis, 1))) for axis in order if serial.get(axis) != 0
        )
        body: list[ir.Stmt] = []
        runs: dict[str, Index] = {}
        numbers = decode(body, ir.TASK, grid)
        for axis, number in numbers.items():
            chunk, count = serial.get(axis, 1), counts[axis]
            if chunk > 1:
                base = number * chunk
                runs[axis] = chunk
                if not (isinstance(count, int) and count % chunk == 0):
                    runs[axis] = bind(body, f"{axis}_run", minimum(chunk, count - base))
                numbers[axis] = base + var(f"{axis}_c")
        for axis in order:
            if serial.get(axis) == 0:
                runs[axis] = counts[axis]
                numbers[axis] = var(f"{axis}_c")
        block = nest(body, [(f"{axis}_c", runs[axis]) for axis in order if axis in runs])
        self._tile(block, numbers)
        used = touched_buffers(spec.stages, self.stages.values.packed_loads)
        dropped = {p.source for p in self.packed} - used
        buffers = [b for b in spec.buffers if b.name not in dropped]
        buffers += [ir.Buffer(p.buffer, p.storage, "r") for p in self.packed]
        expand_body(body, self.target)
        tasks = product([d for _, d in grid])
        kernel = ir.Kernel(name, buffers, spec.symbols, tasks, body)
        return Lowered(kernel, self.packed, self.tiling.requires)

    def inside(self, fixed: dict[str, Index]) -> list[ir.Stmt]:
        """Loops over all tiles of the axes that are not `fixed`, in the schedule's order."""
        body: list[ir.Stmt] = []
        numbers = dict(fixed)
        loops: list[tuple[str, Index]] = []
        for axis in self.schedule.order or [v for v, _ in self.spec.outer]:
            if axis not in fixed:
                count = ceildiv(self.spec.extent(axis), self.tiling.sizes[axis])
                numbers[axis] = 0
                if count != 1:
                    loops.append((f"{axis}_c", count))
                    numbers[axis] = var(f"{axis}_c")
        self._tile(nest(body, loops), numbers)
        return body

    def _tile(self, block: list[ir.Stmt], numbers: dict[str, Index]) -> None:
        """All stages for the tile with these numbers along the axes."""
        sizes = self.tiling.sizes
        bases: dict[str, Index] = {}
        for axis, extent in self.spec.outer:
            start = numbers[axis]
            if sizes[axis] > 1:
                start = tile_start(start, sizes[axis], extent)
            bases[axis] = bind(block, f"{axis}_b", start)
        self._pack(numbers, bases)
        steps = []
        for axis, _ in self.spec.outer:
            starts = vector_starts(sizes[axis]) if axis == self.tiling.vector else range(sizes[axis])
            steps.append([(axis, start) for start in starts])
        at = {(axis, offset): bases[axis] + offset for offsets in steps for axis, offset in offsets}
        points = []
        for n, offsets in enumerate(cartesian(*steps)):
            mapping = {axis: at[axis, offset] for axis, offset in offsets}
            points.append(Point(mapping, f"_{n}", dict(offsets)))
        axis = self.tiling.vector
        inside = None
        if axis and self.target.device == "wasm":
            inside = interior(self.spec.stages, axis, bases[axis], bases[axis] + (sizes[axis] - 1))
        if inside is not None:
            condition, plain = inside
            branch = ir.If(condition, [], [])
            block.append(branch)
            self._stages(branch.then, plain, points)
            block = branch.orelse
        self._stages(block, self.spec.stages, points)

    def _stages(self, block: list[ir.Stmt], stages: list[Stage], points: list[Point]) -> None:
        """The stages, one after the other."""
        for stage in stages:
            self._stage(block, stage, points)

    def _stage(self, block: list[ir.Stmt], stage: Stage, points: list[Point]) -> None:
        self.stages.lower(block, stage, points)

    def _pack(self, numbers: dict[str, Index], bases: dict[str, Index]) -> None:
        """Read the operands that the schedule packs where they will be packed."""
        axis = self.tiling.vector
        if self.schedule.pack and (self.spec.operands is None or not axis):
            raise ValueError("pack needs a contraction with a vector axis among its outer axes")
        for number in self.schedule.pack:
            name = f"{self.pack_name}{number}"
            load, packed, place = packed_operand(self.spec, number, axis, self.tiling.sizes[axis], name)
            self.packed.append(packed)
            # Within a tile, axis = base + offset: the packed position is that of the tile, plus the offset.
            within = {tile_number(axis): numbers[axis], axis: var(axis) - bases[axis]}
            self.stages.values.packed_loads[load] = packed, substitute(place, within)
