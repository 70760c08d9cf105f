"""ir.Kernel → WebAssembly binary: functions, statements, loops.

Every kernel becomes an exported function

    (i32 byte address of each buffer …, i32 of each symbol …, i32 lo, i32 hi) → ()

that runs tasks lo … hi − 1. Where what is computed is decided in `wasm_index`.
"""

from __future__ import annotations

from typing import Any

from ..errors import VerificationError
from ..ir import Assign, Declare, Expr, For, If, Kernel, Stmt, Store, assigned
from ..symbolic import bounds_of, var
from ..target import Target
from .wasm_encoding import I32, OP, VOID, Function, assemble, i32_const, local_get, local_set, local_tee
from .wasm_index import Index, Region
from .wasm_operations import OperationEmitter
from .wasm_tables import wasm_type
from .wasm_values import count_uses

_LO, _HI = "#lo", "#hi"
_BR_IF = OP["br_if"] + b"\x00"
_IF = OP["if"] + bytes((VOID,))
_LOOP = OP["loop"] + bytes((VOID,))


def emit_module(
    kernels: list[Kernel],
    target: Target,
    names: bool = False,
    known: dict[Kernel, Function] | None = None,
) -> bytes:
    """One module that imports `env.memory` and exports each kernel under its name.

    Where a kernel has scratch memory it also imports the i32 global `env.scratch`: the address of
    `target.scratch_bytes` that no other thread uses.
    `names` adds a name section, for the reader of a disassembly. `known` keeps functions from one module for this target
    to the next. Raises VerificationError where a kernel asks for what Wasm lacks and lowering should have expanded.
    """
    known = {} if known is None else known
    for kernel in kernels:
        if kernel not in known:
            known[kernel] = _KernelEmitter(kernel, target).function(names)
    scratch = any(kernel.shared for kernel in kernels)
    functions = [known[kernel] for kernel in kernels]
    return assemble(functions, target.max_pages if target.shared_memory else None, scratch)


class _KernelEmitter(OperationEmitter):
    """Emits one kernel."""

    def __init__(self, kernel: Kernel, target: Target) -> None:
        if kernel.workgroup != 1 or len(kernel.shared) > 1:
            raise VerificationError(f"kernel {kernel.name} wants a workgroup, which Wasm does not have")
        buffers = {b.name: (b.storage, b.access == "r") for b in kernel.buffers}
        params = ["&" + name for name in buffers] + kernel.symbols + [_LO, _HI]
        super().__init__(buffers, params, target)
        for name, dtype, _ in kernel.shared:
            buffers[name] = dtype, False
            local = self.new_local(I32, name)
            self.out += OP["global.get"] + b"\x00" + local_set(local)
            self.variables["&" + name] = local, 0
        self.kernel = kernel
        self.mutable = assigned(kernel.body)

    def function(self, names: bool) -> Function:
        """The whole function."""
        self._loop("task", var(_LO), var(_HI), self.kernel.body)
        return Function(
            self.kernel.name,
            bytes((I32,)) * self.param_count,
            bytes(self.local_types),
            bytes(self.stack[0].code),
            names=self.local_names if names else None,
        )

    # Statements

    def _block(self, body: list[Stmt]) -> None:
        """Statements of the current region. Expressions are shared within stretches without control flow."""
        region = self.stack[-1]
        for n, s in enumerate(body):
            if n == 0 or isinstance(body[n - 1], (For, If)):
                region.available.clear()
                region.fragile.clear()
                region.uses = count_uses(_stretch(body, n))
            if isinstance(s, Assign):
                self.push(s.value)
                self.out += local_set(self.lets[s.name][0])
                self.forget(s.name)
            elif isinstance(s, Store):
                self.store(s.buffer, s.index, s.value)
                self.forget(s.buffer)
            elif isinstance(s, Declare):
                self._declare(s)
            elif isinstance(s, For):
                self._loop(s.var, 0, s.extent, s.body)
            elif isinstance(s, If):
                self._if(s)
            else:
                raise VerificationError(f"kernel {self.kernel.name}: Wasm has no {type(s).__name__.lower()}")

    def _declare(self, s: Declare) -> None:
        local = self.new_local(wasm_type(s.init), s.name)
        shared = self.passes.sharing and s.name not in self.mutable and self.stack[-1].uses.pop(s.init, 1) > 1
        self.push(s.init)
        self.out += local_set(local)
        self.lets[s.name] = local, len(self.stack) - 1
        if s.init.dtype == "i32" and s.init.lanes == 1 and s.name not in self.mutable:
            self.define(s.name, *self.lets[s.name])
            value: Any = s.init.attr
            low = bounds_of(value, self.bounds)[0] if s.init.op == "index" else None
            self.bounds[s.name] = (0, None) if low is not None and low >= 0 else (-(2**31), None)
        if shared and s.init.op not in ("const", "local", "index"):
            self.remember(s.init, local)

    def _if(self, s: If) -> None:
        self.push(s.condition)
        self.out += _IF
        self._branch(s.then)
        if s.orelse:
            self.out += OP["else"]
            self._branch(s.orelse)
        self.out += OP["end"]

    def _branch(self, body: list[Stmt]) -> None:
        self.enter(Region(body))
        self._block(body)
        branch = self.leave()
        self.out += branch.code

    # Loops

    def _loop(self, name: str, start: Index, end: Index, body: list[Stmt]) -> None:
        """Run `body` for name = start … end − 1. Only a loop that surely runs goes without a guard."""
        if isinstance(end, int):
            if end > 0:
                self._unguarded_loop(name, start, end, body)
            return
        if self.origin(end)[1]:
            # Tied to this place: evaluate it once, here, and give the result a name.
            local = self.new_local(I32, name + "_end")
            self.push_index(end)
            self.out += local_set(local)
            held = f"#{local}"
            self.define(held, local, len(self.stack) - 1)
            end = var(held)
        self.push_index(start)
        self.push_index(end)
        self.out += OP["i32.lt_s"] + _IF
        self.enter(Region([]))
        self._unguarded_loop(name, start, end, body)
        guarded = self.leave()
        self.out += guarded.code + OP["end"]

    def _unguarded_loop(self, name: str, start: Index, end: Index, body: list[Stmt]) -> None:
        local = self.new_local(I32, name)
        self.define(name, local, len(self.stack))
        self.bounds[name] = 0, end - 1 if isinstance(end, int) else None
        self.used.discard(name)
        self.enter(Region(body, name, start, innermost=not _has_loop(body)))
        self._block(body)
        loop = self.leave()
        for pointer, step in loop.pointers.values():
            if end == 1:
                break
            loop.code += local_get(pointer) + self.index_code(step) + OP["i32.add"] + local_set(pointer)
        head, again = self._condition(loop, local, name in self.used, start, end)
        self.out += head
        if end == 1:
            self.out += loop.code
        else:
            self.out += _LOOP + loop.code + again + _BR_IF + OP["end"]

    def _condition(
        self, loop: Region, local: int, counted: bool, start: Index, end: Index
    ) -> tuple[bytes, bytes]:
        """(code before the loop, code that pushes whether to go round again).

        The variable itself is kept only where the code reads it. Otherwise a pointer is compared with its last value,
        and where there is none, a counter runs down to zero.
        """
        if counted:
            head = self.index_code(start) + local_set(local)
            onward = local_get(local) + i32_const(1) + OP["i32.add"] + local_tee(local)
            return head, onward + self.index_code(end) + OP["i32.ne"]
        if end == 1:
            return b"", b""
        count = end - start
        for pointer, step in loop.pointers.values():
            if isinstance(step, int):
                last = self.new_local(I32, "last")
                head = local_get(pointer) + self.index_code(count * step) + OP["i32.add"] + local_set(last)
                return head, local_get(pointer) + local_get(last) + OP["i32.ne"]
        head = self.index_code(count) + local_set(local)
        return head, local_get(local) + i32_const(1) + OP["i32.sub"] + local_tee(local)


def _stretch(body: list[Stmt], start: int) -> list[Expr]:
    """Root expressions of the statements from `start` up to the first with control flow, its condition included."""
    roots: list[Expr] = []
    for s in body[start:]:
        if isinstance(s, Declare):
            roots.append(s.init)
        elif isinstance(s, (Assign, Store)):
            roots.append(s.value)
        else:
            if isinstance(s, If):
                roots.append(s.condition)
            break
    return roots


def _has_loop(body: list[Stmt]) -> bool:
    return any(
        isinstance(s, For) or (isinstance(s, If) and (_has_loop(s.then) or _has_loop(s.orelse))) for s in body
    )
