"""KernelSpec → loop IR for a GPU workgroup: one point of the outer axes is a task, and the invocations share its loops.

Invocation l of N takes every N-th iteration of a stage's last axis, from l on: neighbours read neighbouring elements.
Each reduces its share; the shares meet in workgroup memory, pairwise, so that a long sum also rounds less than it would
one term after the other.
"""

from __future__ import annotations

from .. import ir
from ..schedule.schedule import Schedule
from ..symbolic import floordiv, product, var
from ..target import Target
from .accumulators import COMBINE, identity
from .loops import decode, nest
from .lower import Lowered
from .mathlib import expand_body
from .spec import Index, KernelSpec, Reduce, Stage, StoreTo, substitute_expr, symbols_of


def lower_cooperative(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel that runs each point of `spec` on a workgroup of `schedule.group` invocations, a power of two."""
    return _Cooperative(spec, schedule.group).run(target, name)


class _Cooperative:
    def __init__(self, spec: KernelSpec, group: int) -> None:
        self.spec = spec
        self.group = group
        self.mapping: dict[str, Index] = {}
        self.shared: list[tuple[str, str, int]] = []

    def run(self, target: Target, name: str) -> Lowered:
        spec = self.spec
        body: list[ir.Stmt] = []
        self.mapping = decode(body, ir.TASK, spec.outer)
        for stage in spec.stages:
            self._stage(body, stage)
        expand_body(body, target)
        tasks = product([d for _, d in spec.outer])
        kernel = ir.Kernel(name, list(spec.buffers), symbols_of(spec), tasks, body, self.group, self.shared)
        return Lowered(kernel, [], [])

    def _stage(self, body: list[ir.Stmt], stage: Stage) -> None:
        if not stage.axes:
            first = ir.binary("eq", ir.index(ir.LANE), ir.const(0, "i32"))
            body.append(ir.If(first, [self._store(w) for w in stage.stores], []))
            return
        for r in stage.reduces:
            body.append(ir.Declare(f"{r.name}_share", identity(r)))
        inner = nest(body, stage.axes[:-1])
        axis, extent = stage.axes[-1]
        turns = floordiv(extent - 1 - ir.LANE, self.group) + 1
        loop = ir.For(f"{axis}_s", turns, [])
        inner.append(loop)
        self.mapping[axis] = var(f"{axis}_s") * self.group + ir.LANE
        for r in stage.reduces:
            share = ir.local(f"{r.name}_share", r.value.dtype)
            value = substitute_expr(r.value, self.mapping)
            loop.body.append(ir.Assign(f"{r.name}_share", ir.binary(COMBINE[r.combine], share, value)))
        loop.body += [self._store(w) for w in stage.stores]
        del self.mapping[axis]
        for r in stage.reduces:
            self._combine(body, r)

    def _store(self, w: StoreTo) -> ir.Store:
        at = ir.value_index(substitute_expr(ir.index(w.index), self.mapping))
        return ir.Store(w.buffer, at, substitute_expr(w.value, self.mapping))

    def _combine(self, body: list[ir.Stmt], r: Reduce) -> None:
        """Put the invocations' shares together: each half onto the other, then all read the result."""
        dtype = r.value.dtype
        shares = f"{r.name}_shares"
        self.shared.append((shares, dtype, self.group))
        body.append(ir.Store(shares, ir.LANE, ir.local(f"{r.name}_share", dtype)))
        body.append(ir.Barrier())
        half = self.group // 2
        while half:
            mine, other = ir.load(shares, ir.LANE, dtype), ir.load(shares, ir.LANE + half, dtype)
            both = ir.Store(shares, ir.LANE, ir.binary(COMBINE[r.combine], mine, other))
            body.append(ir.If(ir.binary("lt", ir.index(ir.LANE), ir.const(half, "i32")), [both], []))
            body.append(ir.Barrier())
            half //= 2
        body.append(ir.Declare(r.name, ir.load(shares, 0, dtype)))
