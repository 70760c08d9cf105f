"""The compiler's front: a Graph and the inputs at hand become a Plan."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping

from . import __version__, ir
from .errors import UnsupportedError
from .graph.graph import Graph
from .lower.chain import Chain
from .lower.generic import with_sizes
from .lower.numbers import share_kernels
from .lower.sizes import name_sizes
from .lower.specify import Specified, specify
from .ops.trace import InputSpec, check_operators, trace
from .passes.chain import chains
from .passes.fuse import Fuser
from .passes.group import Group, storage_of
from .plan import FORMAT, BufferTable, Emitter, UnitCode, digest
from .stopwatch import Stopwatch
from .symbolic import substitute, to_json
from .target import Target
from .tensor.build import Builder
from .tensor.env import Env
from .tensor.tensor import Compute, Index, Source, Storage
from .units import Item, Scheduler


class CompiledPlan:
    """A plan as JSON text and blobs, and what the tuner needs to make other units for it.

    `stages`: milliseconds of trace, fuse, specify, schedule, lower, emit and plan (its JSON, and what holds it together).
    """

    __slots__ = ("json", "blobs", "items", "units", "scheduler", "target", "stages")

    def __init__(
        self,
        text: str,
        blobs: list[bytes],
        items: list[Item],
        units: list[UnitCode],
        scheduler: Scheduler,
        target: Target,
        stages: dict[str, float],
    ) -> None:
        self.json = text
        self.blobs = blobs
        self.items = items
        self.units = units
        self.scheduler = scheduler
        self.target = target
        self.stages = stages


def static_inputs(graph: Graph) -> dict[str, InputSpec] | None:
    """The inputs' shapes when the model declares all of them as constants; then it can be compiled before any are given."""
    specs = {}
    for info in graph.inputs:
        if info.shape is None or not all(isinstance(d, int) for d in info.shape) or not info.dtype:
            return None
        if all(d == 1 for d in info.shape) and info.dtype not in ("f32", "f64", "f16"):
            return None  # Its value may decide a branch or a shape.
        specs[info.name] = InputSpec(info.dtype, tuple(d for d in info.shape if isinstance(d, int)), None)
    return specs


def compile_model(
    graph: Graph,
    inputs: Mapping[str, InputSpec],
    target: Target,
    schedules: Mapping[str, str] | None = None,
) -> CompiledPlan:
    """The plan of `graph` for the inputs at hand; `schedules` (task → schedule text) take the place of the defaults.

    Raises InputError, UnsupportedError or ModelFormatError.
    """
    clock = Stopwatch()
    ir.forget_interned()
    collects = gc.isenabled()
    # What a compilation makes lives to its end: looking for garbage meanwhile takes a fifth of its time and finds none.
    gc.disable()
    try:
        env = Env()
        builder = Builder(env)
        outputs = [builder.materialize(t) for t in trace(graph, inputs, builder)]
        clock.lap("trace")
        return _Assembly(graph, env, builder, outputs, target, schedules or {}, clock).run()
    finally:
        if collects:
            gc.enable()


class _Assembly:
    """One compilation, from the tensors that the model's outputs are to the plan that computes them."""

    def __init__(
        self,
        graph: Graph,
        env: Env,
        builder: Builder,
        outputs: list[Storage],
        target: Target,
        schedules: Mapping[str, str],
        clock: Stopwatch,
    ) -> None:
        self.clock = clock
        self.graph = graph
        self.env = env
        self.builder = builder
        self.outputs = outputs
        self.target = target
        self.schedules = schedules
        self.table = BufferTable(target)
        self.scheduler = Scheduler(target, self.table)

    def run(self) -> CompiledPlan:
        """Fuse, schedule, lower and emit; the plan and what the tuner goes on with."""
        self._separate_outputs()
        ports: list[dict] = [{"name": info.name} for info in self.graph.outputs]
        if self.builder.checks:
            ports.append(self._checks({port["name"] for port in ports}))
        items: list[Item] = []
        units: list[UnitCode] = []
        for members, specified in self._specified():
            item = self._item(len(items), members, specified)
            self.clock.lap("specify")
            items.append(item)
            units.append(self._unit(item))
        self._require(items)
        self.clock.lap("schedule")
        self._check_bindings(items)
        text = self._emit(ports, units)
        return CompiledPlan(
            text, self.table.blobs, items, units, self.scheduler, self.target, self.clock.stages
        )

    def _separate_outputs(self) -> None:
        """Distinct outputs may be one tensor, or part of another: each gets memory of its own."""
        seen: set[Storage] = set()
        for n, t in enumerate(self.outputs):
            if t in seen or (isinstance(t, Compute) and t.into):
                self.outputs[n] = self.builder.materialize(self.builder.view(t, t.shape, lambda *c: c))
            seen.add(self.outputs[n])

    def _specified(self) -> list[tuple[list[Group], Specified]]:
        """What becomes one kernel each: the groups in it, one or those of a chain, and its spec with the buffers behind it."""
        limit = self.target.max_storage_buffers if self.target.device == "webgpu" else None
        fuser = Fuser(self.env, limit, self.target.passes)
        groups = fuser.run(self.builder.computes, list(self.outputs))
        needed = self._needed(groups, fuser)
        self.clock.lap("fuse")
        whole: list[tuple[list[Group], Specified | None]] = [([g], None) for g in groups]
        if self.target.device == "wasm" and self.target.passes.joins_contractions:
            whole = list(chains(groups, needed, fuser, self.target.scratch_bytes))
        specified = [chain or specify(members[-1], needed, self.env) for members, chain in whole]
        for (members, _), made in zip(whole, specified, strict=True):
            if members[-1].static:
                with_sizes(made)
        share_kernels(specified, limit)
        return [(members, made) for (members, _), made in zip(whole, specified, strict=True)]

    def _item(self, number: int, members: list[Group], specified: Specified) -> Item:
        """What the groups are to the scheduler, their buffers in the table."""
        group = members[-1]
        if not group.static:
            name_sizes(specified)
        for s in specified.tensors:
            self._buffer(s, group.static)
        root = next((c for c in group.members if c.combine), group.members[0])
        chained = isinstance(specified.spec, Chain)
        op = "attention" if chained else root.label or ("reduce" if root.combine else "map")
        nodes = list(dict.fromkeys(c.node for g in members for c in g.members if c.node))
        item = Item(number, specified, group.static, _label(nodes, op), nodes[0] if nodes else "", _word(op))
        self._key(item)
        return item

    def _require(self, items: list[Item]) -> None:
        """Guard that symbols are as large as any schedule that tuning may choose needs them."""
        required: dict[Index, int] = {}
        for item in items:
            for size, least in self.scheduler.requirements(item).items():
                required[substitute(size, item.arguments)] = least
        for extent, least in required.items():
            self.env.require(extent, least)

    def _emit(self, ports: list[dict], units: list[UnitCode]) -> str:
        """The plan's JSON; what is emitted is appended to the table's blobs."""
        emitter = Emitter(self.target)
        body = {
            "format": FORMAT,
            "generator": __version__,
            "device": self.target.device,
            "symbols": self.env.symbols,
            "guards": self.env.guards(),
            "inputs": self._inputs(),
            "outputs": [
                {
                    **port,
                    "dtype": t.dtype,
                    "shape": [to_json(d) for d in t.shape],
                    "buffer": self.table.ids[t],
                }
                for port, t in zip(ports, self.outputs, strict=True)
            ],
            "buffers": [*self.table.specs.values(), *self._extra_buffers(units)],
            "units": [emitter.unit(u) for u in units],
        }
        self.clock.lap("plan")
        body["modules"], body["kernels"] = emitter.finish(self.table.blobs)
        self.clock.lap("emit")
        text = json.dumps(body)
        self.clock.lap("plan")
        return text

    def _checks(self, names: set[str]) -> dict:
        """Add an output that callers do not see: an i32 for each check, 0 where it holds; gives what the plan says of it."""
        messages, counts = zip(*self.builder.checks.values(), strict=True)
        self.builder.node = ""
        whole = counts[0] if len(counts) == 1 else self.builder.concat(counts, 0)
        self.outputs.append(self.builder.materialize(whole))
        name = "checks"
        while name in names:
            name += "'"
        return {"name": name, "checks": messages}

    def _needed(self, groups: list[Group], fuser: Fuser) -> set[Compute]:
        """Members whose elements another kernel, or the caller, reads from memory."""
        needed = {t for t in self.outputs if isinstance(t, Compute)}
        for g in groups:
            for c in g.members:
                if c.into is not None:
                    needed.add(c)
                for t, _ in c.reads:
                    s = storage_of(t)
                    if isinstance(s, Compute) and (fuser.group_of[s] is not g or t is not s):
                        needed.add(s)
        return needed

    def _buffer(self, s: Storage, static: bool) -> None:
        if isinstance(s, Source):
            self.table.add(s, s.kind)
        elif any(s is t for t in self.outputs):
            self.table.add(s, "output")
        else:
            self.table.add(s, "persistent" if static else "temp")

    def _key(self, item: Item) -> None:
        """Content that is made at load gets a key from what it is made of."""
        if not item.static:
            return
        sources = []
        for b, s in zip(item.spec.buffers, item.tensors, strict=True):
            if b.access == "r":
                sources.append(self.table.keys.get(self.table.ids[s], ""))
        for n, (b, s) in enumerate(zip(item.spec.buffers, item.tensors, strict=True)):
            name = self.table.ids[s]
            spec = self.table.specs[name]
            if b.access != "r" and spec["kind"] == "persistent":
                known = self.table.keys.get(name, "")
                spec["key"] = self.table.keys[name] = digest(
                    known, str(item.spec), str(item.arguments), str(n), *sources
                )

    def _unit(self, item: Item) -> UnitCode:
        unit = self._remembered(item)
        if unit is None:
            schedule = self.scheduler.candidates(item)[0]
            self.clock.lap("schedule")
            unit = self.scheduler.unit(item, schedule)
        self.clock.lap("lower")
        return unit

    def _remembered(self, item: Item) -> UnitCode | None:
        """The unit under the schedule that was asked for, if any and if it fits."""
        wanted = self.schedules.get(item.task or "")
        if wanted is None:
            return None
        try:
            return self.scheduler.unit(item, self.scheduler.admit(item, wanted))
        except ValueError:
            return (
                None  # What is remembered may be damaged, or older than the kernel: the default runs instead.
            )

    @staticmethod
    def _extra_buffers(units: list[UnitCode]) -> list[dict]:
        return list({spec["id"]: spec for u in units for spec in u.buffers}.values())

    def _inputs(self) -> list[dict]:
        sources = {s.origin: s for s in self.table.ids if isinstance(s, Source) and s.kind == "input"}
        result = []
        for t in self.builder.inputs:
            used = sources.get(t.origin)
            result.append(
                {
                    "name": t.origin,
                    "dtype": t.dtype,
                    "shape": [to_json(d) for d in t.shape],
                    "buffer": self.table.ids[used] if used is not None else None,
                }
            )
            if t.origin in self.builder.indexed:
                result[-1]["indexes"] = [to_json(d) for d in self.builder.indexed[t.origin]]
        return result

    def _check_bindings(self, items: list[Item]) -> None:
        """A kernel that binds more buffers than the GPU allows is refused at load."""
        if self.target.device != "webgpu":
            return
        for item in items:
            count = len(item.spec.buffers)
            if count > self.target.max_storage_buffers:
                raise UnsupportedError(
                    f"{item.label} needs {count} storage buffers in one kernel, this GPU allows "
                    f"{self.target.max_storage_buffers}; use the CPU (device 'wasm')"
                )


def _word(op: str) -> str:
    return "".join(ch if ch.isalnum() else "_" for ch in op.lower())


def _label(nodes: list[str], op: str) -> str:
    if not nodes:
        return op
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} … {nodes[-1]}"


__all__ = ["CompiledPlan", "InputSpec", "check_operators", "compile_model", "static_inputs"]
