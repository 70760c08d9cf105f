"""Units: fused groups under schedules. An `Item` is a group that is ready to be scheduled; a `Scheduler` gives the schedules that are
worth trying for it, and makes the kernels of any of them (`UnitCode` of plan.py).

Of a symbolic extent a schedule may need a least value, its tile. What all schedules of an item's space need is a guard of the plan
(`Scheduler.requirements`): whichever the tuner puts in place later, the plan fits the same inputs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from . import ir
from .emit.wasm_encoding import Function
from .lower.chain import Chain, block_rows, with_open_run
from .lower.coded import coded
from .lower.generic import Generic, generic
from .lower.lower import Lowered
from .lower.packing import Packed
from .lower.scheduled import lower_scheduled
from .lower.spec import KernelSpec, touched_elements
from .lower.specify import Specified
from .lower.tiling import least_extent
from .lower.winograd import tile_count
from .plan import BufferTable, Emitter, Step, Traffic, UnitCode, digest
from .schedule.legal import check, read
from .schedule.schedule import Schedule
from .schedule.space import space
from .symbolic import minimum, product, substitute, to_json
from .target import Target
from .tensor.tensor import Index, Storage


class Item:
    """A fused group ready to be scheduled: its spec, the buffers behind it, and what to call it.

    number      its place in the plan
    tensors     the storage behind each of the spec's buffers
    arguments   values, in symbols of the plan, of symbols that are the spec's own
    static      whether it is computed once, when the model is loaded
    work        arithmetic operations of one run; `traffic` the bytes that it moves at least
    """

    __slots__ = (
        "number",
        "spec",
        "tensors",
        "arguments",
        "static",
        "label",
        "node",
        "op",
        "work",
        "traffic",
        "hints",
        "task",
    )

    def __init__(
        self, number: int, specified: Specified, static: bool, label: str, node: str, op: str
    ) -> None:
        self.number = number
        self.spec = specified.spec
        self.tensors = specified.tensors
        self.arguments = specified.arguments
        self.static = static
        self.label = label
        self.node = node
        self.op = op
        work = self.spec.work if isinstance(self.spec, Chain) else work_of(self.spec)
        self.work = substitute(work, self.arguments)
        traffic = traffic_of(self.spec, [s.size for s in self.tensors])
        self.traffic = Traffic(*[substitute(bytes_, self.arguments) for bytes_ in traffic])
        extents = [d for _, d in self.spec.outer] + [d for s in self.spec.stages for _, d in s.axes]
        self.hints = tuple([str(self.spec.hint(d)) for d in extents if not isinstance(d, int)])
        """Sizes at hand of symbolic extents: a schedule is chosen for them."""
        self.task = None if static else digest(str(self.spec), *self.hints)
        """Key of the tuning task: equal keys are equal kernels. None where there is nothing to choose."""


def work_of(spec: KernelSpec) -> Index:
    """Arithmetic operations of one run, counting a multiply-add as two and every other element as one."""
    points = product([d for _, d in spec.outer])
    total: Index = 0
    for s in spec.stages:
        each = product([d for _, d in s.axes])
        product_sum = s is spec.stages[0] and (spec.contraction or coded(spec))
        total = total + points * each * (2 if product_sum else 1)
    return total


def traffic_of(spec: KernelSpec, sizes: Sequence[Index]) -> Traffic:
    """Bytes that one run reads and writes at least, in buffers of `sizes` elements: each element that it touches, once.

    Of a table of which rows are gathered, that is the rows and not the table.
    """
    points = product([d for _, d in spec.outer])
    most: Index = points if isinstance(spec, Chain) else 0
    for stage in spec.stages:
        most = most + points * product([d for _, d in stage.axes])
    most = spec.hint(most)
    read: Index = 0
    written: Index = 0
    for buffer, size in zip(spec.buffers, sizes, strict=True):
        # Smaller ones may be read to the last element, and are taken to be.
        elements = minimum(size, touched_elements(spec, buffer.name)) if spec.hint(size) > most else size
        moved = elements * ir.STORAGE_BYTES[buffer.storage]
        read, written = (read + moved, written) if buffer.access == "r" else (read, written + moved)
    return Traffic(read, written)


class Scheduler:
    """Makes UnitCode of Items; kernels of equal spec and schedule are lowered once."""

    def __init__(self, target: Target, table: BufferTable) -> None:
        self.target = target
        self.table = table
        self._lowered: dict[tuple, Lowered] = {}
        self._spaces: dict[tuple[str, ...], list[Schedule]] = {}
        self._required: dict[tuple[str, ...], dict[Index, int]] = {}
        self._functions: dict[ir.Kernel, Function] = {}
        """Wasm of kernels that candidates share: what packs their operands, and the same kernel in several layers."""

    def candidates(self, item: Item) -> list[Schedule]:
        """The lite space of the item, default first; items of one task share it, where what is constant is the same."""
        constant = self._constant(item)
        task = (str(item.spec), *item.hints)
        key = (*task, *constant)
        known = self._spaces.get(key)
        if known is None:
            known = space(item.spec, self.target, constant)
            if task in self._required:
                known = [s for s in known if self._unbounded(item, s) is None] or [Schedule()]
            self._spaces[key] = known
        return known

    def _constant(self, item: Item) -> list[str]:
        """The buffers of the item's spec that never change."""
        pairs = zip(item.spec.buffers, item.tensors, strict=True)
        return [b.name for b, storage in pairs if self.table.is_static(storage)]

    def requirements(self, item: Item) -> dict[Index, int]:
        """Size → least value that the schedules of the item's space ask for: a winner must fit where the plan fits.

        It stays what it was when it was first asked for, because the plan's guards were made of it.
        """
        symbolic = {a: d for a, d in item.spec.outer if not isinstance(d, int)}
        if not symbolic:
            return {}
        key = (str(item.spec), *item.hints)
        if key not in self._required:
            candidates = self.candidates(item)
            tiled = {axis for schedule in candidates for axis, tile in schedule.tiles if tile > 1}
            if isinstance(item.spec, Chain):
                tiled.add(item.spec.column)  # whose tiles are those of the keys
            sizes: list[Index] = [d for axis, d in symbolic.items() if axis in tiled]
            sizes += [tile_count(item.spec, schedule) for schedule in candidates if schedule.winograd]
            found: dict[Index, int] = {
                d: least_extent(item.spec.hint(d)) for d in sizes if not isinstance(d, int)
            }
            if isinstance(item.spec, Chain) and not isinstance(item.spec.stride, int):
                # Not more keys than scratch memory holds: minus their number is at least minus the limit.
                most = max(block_rows(s, item.spec.row) for s in candidates)
                found[-item.spec.stride] = -(self.target.scratch_bytes // ir.STORAGE_BYTES["f32"] // most)
            self._required[key] = found
        return self._required[key]

    def retarget(self, target: Target) -> None:
        """Go on with what was measured on the device since the plan was made: other schedules, the same guards."""
        self.target = target
        self._spaces.clear()
        self._functions.clear()

    def admit(self, item: Item, text: str) -> Schedule:
        """The schedule that somebody else, or an earlier visit, found for the item. Raises ValueError if it does not fit.

        It may be one that the space does not have. It must not ask more of a symbolic extent than the plan's guards do.
        """
        schedule = read(text)
        if schedule in self.candidates(item):
            return schedule
        if isinstance(item.spec, Chain):
            raise ValueError("a chain of contractions takes only the schedules of its own space")
        check(schedule, item.spec, self.target)
        reason = self._unbounded(item, schedule)
        if reason is not None:
            raise ValueError(reason)
        return schedule

    def _unbounded(self, item: Item, schedule: Schedule) -> str | None:
        """What the schedule asks of a symbolic extent that the plan's guards do not promise."""
        required = self.requirements(item)
        for axis, tile in schedule.tiles:
            extent = item.spec.extent(axis)
            if tile > 1 and not isinstance(extent, int) and extent not in required:
                return f"axis {axis} has no fixed extent, and the plan does not bound it"
        count = tile_count(item.spec, schedule) if schedule.winograd else 1
        if not isinstance(count, int) and count not in required:
            return "the number of Winograd's tiles is not fixed, and the plan does not bound it"
        return None

    def unit(self, item: Item, schedule: Schedule) -> UnitCode:
        """The item's kernels under `schedule`: packing of operands first (once, where they never change)."""
        unit = UnitCode(item.task, item.label, item.node, item.op, schedule)
        how, own = with_open_run(item.spec, schedule) if isinstance(item.spec, Chain) else (schedule, {})
        lowered = self._lower(item.spec, how, item.op, item.hints)
        self._require(unit, item, lowered)
        ids = {b.name: self.table.ids[s] for b, s in zip(item.spec.buffers, item.tensors, strict=True)}
        tensors = {b.name: s for b, s in zip(item.spec.buffers, item.tensors, strict=True)}
        for packed in lowered.packed:
            self._pack(unit, item, schedule, packed, ids, tensors)
        step = Step(
            lowered.kernel,
            [ids[b.name] for b in lowered.kernel.buffers],
            item.work,
            item.traffic,
            {**item.arguments, **own},
        )
        (unit.init if item.static else unit.steps).append(step)
        return unit

    @staticmethod
    def _require(unit: UnitCode, item: Item, lowered: Lowered) -> None:
        unit.requires += [(substitute(size, item.arguments), least) for size, least in lowered.requires]

    def _pack(
        self,
        unit: UnitCode,
        item: Item,
        schedule: Schedule,
        packed: Packed,
        ids: dict[str, str],
        tensors: dict[str, Storage],
    ) -> None:
        sources = [b.name for b in packed.spec.buffers if b.name != packed.buffer]
        fixed = all(name in tensors and self.table.is_static(tensors[name]) for name in sources)
        once = item.static or (fixed and not packed.spec.symbols)
        how = packed.schedule or space(packed.spec, self.target)[0]
        # What runs once is compiled once for all sizes.
        made = generic(packed.spec, how) if once else Generic(packed.spec, {})
        hints = item.hints if packed.spec.symbols else ()
        lowered = self._lower(made.spec, how, f"{item.op}_{packed.buffer}", hints)
        if not made.values:
            self._require(unit, item, lowered)
        keys = [self.table.keys.get(ids[name], "" if name in tensors else ids[name]) for name in sources]
        key = digest("pack", str(packed.spec), *keys) if once else ""
        name = f"{key or f'u{item.number}:{schedule}'}:{packed.buffer}"
        elements = substitute(packed.elements, item.arguments)
        spec: dict = {
            "id": name,
            "kind": "persistent" if once else "temp",
            "storage": self.target.storage(packed.storage),
            "elements": to_json(elements),
        }
        if once:
            spec["key"] = key
        unit.buffers.append(spec)
        ids[packed.buffer] = name
        step = Step(
            lowered.kernel,
            [ids[b.name] for b in lowered.kernel.buffers],
            0,
            Traffic(*[elements * ir.STORAGE_BYTES[packed.storage]] * 2),
            made.values or item.arguments,
        )
        (unit.init if once else unit.steps).append(step)

    def _lower(self, spec: KernelSpec, schedule: Schedule, op: str, hints: tuple[str, ...]) -> Lowered:
        if spec.stages and not (schedule.pack or schedule.pairs or schedule.unpack):
            hints = _tiled_hints(spec, schedule)
        key = (str(spec), schedule, *hints)
        known = self._lowered.get(key)
        if known is None:
            name = f"{op}_{len(self._lowered)}"
            known = self._lowered[key] = lower_scheduled(spec, schedule, self.target, name)
        return known

    def candidate(self, unit: UnitCode) -> dict:
        """The unit as a Candidate of web/runtime/types.js: JSON text and blobs of its own."""
        emitter = Emitter(self.target, self._functions)
        body = emitter.unit(unit)
        blobs: list[bytes] = []
        _, kernels = emitter.finish(blobs)
        return {
            "json": json.dumps({"unit": body, "buffers": unit.buffers, "kernels": kernels}),
            "blobs": blobs,
        }


def _tiled_hints(spec: KernelSpec, schedule: Schedule) -> tuple[str, ...]:
    """How large tiles may be: all that lowering takes from the sizes at hand, unless operands are packed."""
    hints = [(spec.hint(spec.extent(axis)), tile) for axis, tile in schedule.tiles]
    return tuple([str(min(tile, hint, least_extent(hint))) for hint, tile in hints])
