"""The Plan: a compiled model as plain data, JSON beside a list of byte blobs. web/runtime/types.js names its fields.

What it consists of, before it is JSON: calls of kernels (`Step`), in units (`UnitCode`), between buffers (`BufferTable`). `Emitter`
numbers the kernels and emits them. A tuning candidate is a unit on its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from . import ir
from .emit.wasm import emit_module
from .emit.wasm_encoding import Function
from .emit.wgsl import emit_shader
from .graph.dtype import NUMPY
from .schedule.schedule import Schedule
from .symbolic import substitute, to_json, var
from .target import Target
from .tensor.tensor import Index, Source, Storage

FORMAT = 2
"""Of the JSON: the executor takes plans of its own format only."""


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
    """What computes one fused group: calls of kernels, and what the tuner and reports call it.

    task       key of the tuning task; None where there is nothing to choose
    label      the ONNX nodes in it, for people; `node` is the first of them, `op` the kind of computation
    init       calls that are made once, when the model is loaded; `steps` are made by each inference
    buffers    entries of the plan for the buffers that the schedule brings, packed operands
    requires   (size, least value that it must have), in symbols of the plan
    """

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


def digest(*texts: str) -> str:
    """A short stable name for texts."""
    return hashlib.sha1("\0".join(texts).encode()).hexdigest()[:20]


class BufferTable:
    """Buffers of a plan by storage: ids, kinds, and the keys under which plans of one model share content.

    A kind says how long the content lives: "input", "output" and "temp" for one inference, "weight" (in the model's files),
    "const" (among `blobs`) and "persistent" (made by `init` calls) as long as the model.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ids: dict[Storage, str] = {}
        self.specs: dict[str, dict] = {}
        """Buffer id → its entry in the plan."""
        self.keys: dict[str, str] = {}
        """Buffer id → key of its content, where that is known when the model is loaded."""
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
