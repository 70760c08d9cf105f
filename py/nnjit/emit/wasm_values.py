"""Values of a Wasm function: which are computed once, and where; `wasm_operations` says how.

A value that a stretch of statements without branches uses again is kept in a local until something it depends on is
written. One that does not change within the innermost loop is computed before it, and so are constants.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ..codegen_passes import Passes
from ..errors import VerificationError
from ..ir import Expr
from ..symbolic import values_of
from .wasm_addresses import AddressEmitter
from .wasm_encoding import (
    F32,
    F64,
    OP,
    V128,
    float_bytes,
    i32_const,
    i64_const,
    local_get,
    local_set,
    local_tee,
)
from .wasm_index import loaded
from .wasm_tables import CHEAP, PLAIN, wasm_type


class ValueEmitter(AddressEmitter):
    """Pushes expressions, computing one that a straight-line stretch of statements uses again only once."""

    def __init__(self, buffers: dict[str, tuple[str, bool]], params: list[str], passes: Passes) -> None:
        super().__init__(buffers, params, passes)
        self.dependencies: dict[Expr, frozenset[str]] = {}

    def push(self, e: Expr) -> None:
        """Push the value of `e`."""
        op = e.op
        if op == "local":
            self.out += local_get(self.lets[e.attr][0])
            return
        if op == "const":
            self.push_constant(e, constant_code(e))
            return
        region = self.stack[-1]
        local = region.available.get(e)
        if local is not None:
            self.out += local_get(local)
            return
        if op != "index" and self._push_invariant(e):
            return
        code = PLAIN.get((op, e.args[0].dtype, e.lanes)) if e.args else None
        if code is not None and op not in ("div", "rem", "min", "max"):
            for arg in e.args:
                self.push(arg)
            self.out += code
        else:
            getattr(self, "_push_" + op, self.refuse)(e)
        if self.passes.sharing and region.uses.get(e, 1) > 1 and op != "index" and not self._is_cheap(e):
            local = self.new_local(wasm_type(e), "t")
            self.out += local_tee(local)
            self.remember(e, local)

    def _push_invariant(self, e: Expr) -> bool:
        """Push `e` from a local set before the innermost loop, where it does not change within that loop."""
        number = self.nearest_loop()
        if (
            not self.passes.hoisting
            or not self.stack[number].innermost
            or (e.op == "splat" and e.args[0].op == "const")
        ):
            return False
        level, tied, loads = self.value_origin(e)
        if tied or level >= number or (loads and self.place(level, loads) >= number):
            return False
        values = self.stack[number - 1].values
        local = values.get(e)
        if local is None:
            local = values[e] = self.new_local(wasm_type(e), "v")
            saved = self.at(number - 1)
            outer = self.stack[-1]
            uses, outer.uses = outer.uses, count_uses([e])
            self.push(e)
            outer.uses = uses
            self.out += local_set(local)
            self.remember(e, local)
            self.back(saved)
        self.out += local_get(local)
        return True

    def _is_cheap(self, e: Expr) -> bool:
        """Whether `e` is a constant vector that needs no local of its own: it has one, or takes one instruction."""
        if e.op != "splat" or e.args[0].op != "const":
            return False
        innermost = self.stack[self.nearest_loop()].innermost
        return innermost or OP["v128.const"] + lane_bytes(e.args[0]) * 4 in CHEAP

    def remember(self, e: Expr, local: int) -> None:
        """From here on, until something it depends on is written, `local` holds `e`."""
        region = self.stack[-1]
        region.available[e] = local
        needs = self._depends(e)
        if needs:
            region.fragile[e] = needs

    def forget(self, written: str) -> None:
        """The variable or buffer `written` has changed."""
        region = self.stack[-1]
        if region.fragile:
            for e in [e for e, needs in region.fragile.items() if written in needs]:
                del region.available[e], region.fragile[e]

    def _depends(self, e: Expr) -> frozenset[str]:
        """Variables and buffers that `e` reads and that may be written in this function."""
        known = self.dependencies.get(e)
        if known is not None:
            return known
        found: set[str] = set()
        index: Any = None
        if e.op == "local":
            if e.attr in self.mutable:
                found.add(str(e.attr))
        elif e.op == "load":
            buffer, index = loaded(e)
            if not self.buffers[buffer][1]:
                found.add(buffer)
        elif e.op == "index":
            index = e.attr
        if index is not None:
            for value in values_of(index):
                found |= self._depends(value)
        for arg in e.args:
            found |= self._depends(arg)
        self.dependencies[e] = answer = frozenset(found)
        return answer

    def refuse(self, e: Expr) -> None:
        """Raise VerificationError: what emits kernels was given one that lowering should have expanded."""
        raise VerificationError(
            f"Wasm has no {e.dtype}x{e.lanes} {e.op}, needed by {e}; lowering must expand it"
        )

    def push_constant(self, e: Expr, code: bytes) -> None:
        """Push a constant; in an innermost loop, from a local that is set before the loop.

        V8 builds a vector constant anew wherever it is used, in three instructions, and a float in two: functions made
        of polynomials run up to three times faster with their constants in locals. Outer loops are left alone, where
        the locals would be kept across inner ones.
        """
        kind = wasm_type(e)
        number = self.nearest_loop()
        wanted = self.passes.constants and kind in (V128, F32, F64) and code not in CHEAP
        if wanted and self.stack[number].innermost:
            before = self.stack[number - 1]
            local = before.values.get(code)
            if local is None:
                local = before.values[code] = self.new_local(kind, "c")
                before.code += code + local_set(local)
            self.out += local_get(local)
        else:
            self.out += code

    def push_narrowed(self, e: Expr) -> None:
        """Push a run-time integer as i32."""
        self.push(e)
        if e.dtype == "i64":
            self.out += OP["i32.wrap_i64"]
        elif e.dtype not in ("i32", "u32", "bool"):
            raise VerificationError(f"{e} is no integer and cannot be an index")

    def held(self, e: Expr) -> bytes:
        """Code that pushes `e` and may be repeated."""
        if e.op == "const":
            return constant_code(e)
        if e.op == "local":
            return local_get(self.lets[e.attr][0])
        local = self.new_local(wasm_type(e), "t")
        self.push(e)
        self.out += local_set(local)
        return local_get(local)

    def push_through_local(self, e: Expr, dtype: str, formula: Callable[[Expr], Expr]) -> None:
        """Replace the pushed value, of `dtype` and the lanes of `e`, by `formula(its local)`."""
        holder = Expr("held", dtype, e.lanes, (), None)
        local = self.new_local(wasm_type(holder), "t")
        self.out += local_set(local)
        self.dependencies[holder] = frozenset()
        region = self.stack[-1]
        region.available[holder] = local
        result = formula(holder)
        counted = count_uses([result])
        saved, region.uses = region.uses, counted
        self.push(result)
        region.uses = saved
        for inner in counted:
            region.available.pop(inner, None)


def constant_code(e: Expr) -> bytes:
    """The instruction that pushes a scalar constant."""
    x: Any = e.attr
    dtype = e.dtype
    if dtype == "f32":
        return OP["f32.const"] + float_bytes(x)
    if dtype == "f64":
        return OP["f64.const"] + struct.pack("<d", x)
    return i64_const(x) if dtype == "i64" else i32_const(int(x))


def lane_bytes(x: Expr) -> bytes:
    """The four bytes of a constant's lane; a bool is a mask."""
    value: Any = x.attr
    if x.dtype == "f32":
        return float_bytes(value)
    return ((-value if x.dtype == "bool" else value) & 0xFFFFFFFF).to_bytes(4, "little")


def count_uses(roots: list[Expr]) -> dict[Expr, int]:
    """How often each node is an operand (or root), a node's operands counted once."""
    uses: dict[Expr, int] = {}
    stack = list(roots)
    while stack:
        e = stack.pop()
        n = uses.get(e)
        if n:
            uses[e] = n + 1
        else:
            uses[e] = 1
            stack.extend(e.args)
    return uses
