"""The Plan: a compiled model as plain data, JSON beside a list of byte blobs. web/runtime/types.js names its fields.

Also what one unit of it is before it has a place in a plan (`UnitCode`): a tuning candidate is a unit on its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from . import ir
from .emit.wasm import emit_module
from .emit.wasm_encoding import Function
from .emit.wgsl import emit_shader
from .graph.dtype import NUMPY
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
from .schedule.legal import check, read
from .schedule.schedule import Schedule
from .schedule.space import space
from .symbolic import minimum, product, substitute, to_json, var
from .target import Target
from .tensor.tensor import Index, Source, Storage

FORMAT = 2


class Traffic(NamedTuple):
    """Bytes that a kernel moves at least."""

    read: Index
    written: Index


class Step:
    """One call of a kernel: `buffers` are buffer ids in the order of the kernel's parameters.

    `arguments` are values, in symbols of the plan, of symbols that are the kernel's own; the others are the plan's.
    """

    __slots__ = ("kernel", "buffers", "flops", "traffic", "arguments")

    def __init__(
        self,
        kernel: ir.Kernel,
        buffers: list[str],
        flops: Index,
        traffic: Traffic,
        arguments: Mapping[str, Index] = MappingProxyType({}),
    ) -> None:
        self.kernel = kernel
        self.buffers = buffers
        self.flops = flops
        self.traffic = traffic
        self.arguments = arguments


class UnitCode:
    """A unit with the kernels and extra buffers that its schedule brings. `requires`: (size, least value)."""

    __slots__ = ("task", "label", "node", "op", "schedule", "init", "steps", "buffers", "requires")

    def __init__(self, task: str | None, label: str, node: str, op: str, schedule: Schedule) -> None:
        self.task = task
        self.label = label
        self.node = node
        self.op = op
        self.schedule = schedule
        self.init: list[Step] = []
        self.steps: list[Step] = []
        self.buffers: list[dict] = []
        self.requires: list[tuple[Index, int]] = []


class Item:
    """A fused group ready to be scheduled: its spec, the buffers behind it, and what to call it."""

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


def _tiled_hints(spec: KernelSpec, schedule: Schedule) -> tuple[str, ...]:
    """How large tiles may be: all that lowering takes from the sizes at hand, unless operands are packed."""
    hints = [(spec.hint(spec.extent(axis)), tile) for axis, tile in schedule.tiles]
    return tuple([str(min(tile, hint, least_extent(hint))) for hint, tile in hints])


def digest(*texts: str) -> str:
    """A short stable name for texts."""
    return hashlib.sha1("\0".join(texts).encode()).hexdigest()[:20]


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


class BufferTable:
    """Buffers of a plan by storage: ids, kinds, and the keys under which plans of one model share content."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ids: dict[Storage, str] = {}
        self.specs: dict[str, dict] = {}
        """Buffer id → its entry in the plan."""
        self.keys: dict[str, str] = {}
        self.blobs: list[bytes] = []

    def add(self, s: Storage, kind: str) -> str:
        """The id of the storage's buffer, made on the first call."""
        known = self.ids.get(s)
        if known is not None:
            return known
        name = f"t{len(self.ids)}"
        self.ids[s] = name
        spec: dict = {
            "id": name, "kind": kind, "storage": self.target.storage(s.dtype), "elements": to_json(s.size),
        }  # fmt: skip
        key = ""
        if isinstance(s, Source) and s.kind == "weight":
            data = s.origin.data  # type: ignore[attr-defined]
            spec["source"] = {
                "file": data.file, "offset": data.offset, "length": data.length, "dtype": s.origin.dtype,  # type: ignore[attr-defined]
            }  # fmt: skip
            key = f"weight:{data.file or ''}:{data.offset}:{spec['storage']}"
        elif isinstance(s, Source) and s.kind == "const":
            content = np.ascontiguousarray(s.origin, dtype=NUMPY[spec["storage"]]).tobytes()
            spec["blob"] = len(self.blobs)
            self.blobs.append(content)
            key = f"const:{spec['storage']}:{hashlib.sha1(content).hexdigest()}"
        if key:
            spec["key"] = key
            self.keys[name] = key
        self.specs[name] = spec
        return name

    def is_static(self, s: Storage) -> bool:
        """Whether the content of a storage is fixed once the model is loaded."""
        return self.specs[self.ids[s]]["kind"] in ("weight", "const", "persistent")


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
        """The lite space of the item, default first; items of one task share it."""
        key = (str(item.spec), *item.hints)
        known = self._spaces.get(key)
        if known is None:
            known = space(item.spec, self.target)
            if key in self._required:
                known = [s for s in known if self._unbounded(item, s) is None] or [Schedule()]
            self._spaces[key] = known
        return known

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


class Emitter:
    """Collects the kernels of units and emits them: one Wasm module for all, or a shader for each.

    `functions`: the Wasm of kernels that were emitted before, which grows.
    """

    def __init__(self, target: Target, functions: dict[ir.Kernel, Function] | None = None) -> None:
        self.target = target
        self.kernels: dict[ir.Kernel, int] = {}
        self.functions = {} if functions is None else functions

    def step(self, step: Step) -> dict:
        """The step as JSON, its kernel numbered."""
        kernel = step.kernel
        number = self.kernels.setdefault(kernel, len(self.kernels))
        return {
            "kernel": number,
            "buffers": [[b, 0] for b in step.buffers],
            "symbols": [to_json(step.arguments.get(name, var(name))) for name in kernel.symbols],
            "tasks": to_json(substitute(kernel.tasks, step.arguments)),
            "flops": to_json(step.flops),
            "read": to_json(step.traffic.read),
            "written": to_json(step.traffic.written),
        }

    def unit(self, unit: UnitCode) -> dict:
        """The unit as JSON."""
        return {
            "task": unit.task,
            "label": unit.label,
            "node": unit.node,
            "op": unit.op,
            "schedule": str(unit.schedule),
            "init": [self.step(s) for s in unit.init],
            "steps": [self.step(s) for s in unit.steps],
        }

    def emit_for(self, target: Target, kernel: ir.Kernel) -> None:
        """Emit the Wasm of a kernel now, as it is for another target than the others are."""
        emit_module([kernel], target, known=self.functions)

    def finish(self, blobs: list[bytes]) -> tuple[list[int], list[dict]]:
        """(modules, kernels) of the JSON; what is emitted is appended to `blobs`."""
        modules: list[int] = []
        kernels: list[dict] = []
        for kernel in self.kernels:
            entry: dict = {"name": kernel.name, "buffers": [{"access": b.access} for b in kernel.buffers]}
            if self.target.device == "wasm":
                entry |= {"module": 0, "export": kernel.name}
                if kernel.shared:
                    entry["scratch"] = True
            else:
                entry |= {"wgsl": emit_shader(kernel, self.target), "workgroup": kernel.workgroup}
            kernels.append(entry)
        if self.target.device == "wasm" and kernels:
            modules.append(len(blobs))
            blobs.append(emit_module(list(self.kernels), self.target, known=self.functions))
        return modules, kernels
