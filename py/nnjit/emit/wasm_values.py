"""Scalar and vector values of a Wasm function: one method per kind of IR expression that is not in `wasm_tables`."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from ..errors import VerificationError
from ..ir import Expr, const, pack
from ..symbolic import values_of
from ..target import Target
from .half import float_to_half, half_to_float
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
    uleb,
)
from .wasm_index import Index, loaded
from .wasm_tables import (
    CASTS,
    CHEAP,
    LANES,
    LOADS,
    PLAIN,
    REINTERPRET,
    STORES,
    TYPES,
    VECTOR_SHIFT,
    wasm_type,
)


class ValueEmitter(AddressEmitter):
    """Pushes expressions, computing one that a straight-line stretch of statements uses again only once."""

    def __init__(self, buffers: dict[str, tuple[str, bool]], params: list[str], target: Target) -> None:
        super().__init__(buffers, params, target.passes)
        self.relaxed_simd = target.relaxed_simd and target.passes.relaxed_simd
        self.dependencies: dict[Expr, frozenset[str]] = {}

    def push(self, e: Expr) -> None:
        """Push the value of `e`."""
        op = e.op
        if op == "local":
            self.out += local_get(self.lets[e.attr][0])
            return
        if op == "const":
            self._push_constant(e, _constant(e))
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
            getattr(self, "_push_" + op, self._unknown)(e)
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
        return innermost or OP["v128.const"] + _lane_bytes(e.args[0]) * 4 in CHEAP

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

    def _unknown(self, e: Expr) -> None:
        raise VerificationError(
            f"Wasm has no {e.dtype}x{e.lanes} {e.op}, needed by {e}; lowering must expand it"
        )

    # Leaves

    def _push_constant(self, e: Expr, code: bytes) -> None:
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

    def _push_index(self, e: Expr) -> None:
        self.push_index(e.attr)

    def push_narrowed(self, e: Expr) -> None:
        self.push(e)
        if e.dtype == "i64":
            self.out += OP["i32.wrap_i64"]
        elif e.dtype not in ("i32", "u32", "bool"):
            raise VerificationError(f"{e} is no integer and cannot be an index")

    def _push_load(self, e: Expr) -> None:
        buffer, index = loaded(e)
        storage = self.buffers[buffer][0]
        form = LOADS.get((storage, e.lanes))
        if form is None:
            self._unknown(e)
            return
        opcode, align, after = form
        offset = self.push_address(buffer, index)
        self.out += opcode + bytes((align,)) + uleb(offset) + after
        if storage == "f16" and e.dtype == "f32":
            self._push_through_local(e, "i32", half_to_float)

    def _push_through_local(self, e: Expr, dtype: str, formula: Callable[[Expr], Expr]) -> None:
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

    def store(self, buffer: str, index: Index, value: Expr) -> None:
        """Emit a store of `value`."""
        storage = self.buffers[buffer][0]
        form = STORES.get((storage, value.lanes))
        if form is None:
            self._unknown(value)
            return
        before, opcode, align, lane = form
        offset = self.push_address(buffer, index)
        self.push(value)
        if storage == "f16":
            self._push_through_local(value, "f32", float_to_half)
        self.out += before + opcode + bytes((align,)) + uleb(offset) + lane

    # Lanes

    def _push_splat(self, e: Expr) -> None:
        (x,) = e.args
        lanes = LANES.get(e.dtype)
        if lanes is None:
            self._unknown(e)
            return
        if x.op == "const":
            self._push_constant(e, OP["v128.const"] + _lane_bytes(x) * 4)
            return
        region = self.stack[-1]
        if (
            self.passes.splat_loads
            and x.op == "load"
            and x not in region.available
            and region.uses.get(x, 1) == 1
        ):
            buffer, index = loaded(x)
            if self.buffers[buffer][0] in ("f32", "i32", "u32"):
                offset = self.push_address(buffer, index)
                self.out += OP["v128.load32_splat"] + b"\x02" + uleb(offset)
                return
        if e.dtype == "bool":
            self.out += i32_const(0)
            self.push(x)
            self.out += OP["i32.sub"]  # 0 or 1 → 0 or −1
        else:
            self.push(x)
        self.out += OP[lanes + ".splat"]

    def _push_pack(self, e: Expr) -> None:
        lanes = LANES.get(e.dtype)
        if lanes is None or e.dtype == "bool":
            self._unknown(e)
            return
        if all(x.op == "const" for x in e.args):
            self._push_constant(e, OP["v128.const"] + b"".join(map(_lane_bytes, e.args)))
            return
        if all(x.op == "index" for x in e.args):
            steps = [x.attr - e.args[0].attr for x in e.args]
            if all(isinstance(step, int) for step in steps):
                self.push_index(e.args[0].attr)
                self.out += OP["i32x4.splat"]
                a, b, c, d = (const(step, "i32") for step in steps)
                self.push(pack((a, b, c, d)))
                self.out += OP["i32x4.add"]
                return
        self._push_splat(Expr("splat", e.dtype, 4, e.args[:1], None))
        for lane, x in enumerate(e.args[1:], 1):
            if x is not e.args[0]:
                self.push(x)
                self.out += OP[lanes + ".replace_lane"] + bytes((lane,))

    def _push_extract(self, e: Expr) -> None:
        self.push(e.args[0])
        self.out += OP[LANES[e.dtype] + ".extract_lane"] + bytes((e.attr,))
        if e.dtype == "bool":
            self.out += i32_const(1) + OP["i32.and"]

    def _push_shuffle(self, e: Expr) -> None:
        if e.dtype not in LANES:
            self._unknown(e)
        lanes: Any = e.attr
        for x in e.args:
            self.push(x)
        self.out += OP["i8x16.shuffle"] + bytes(4 * lane + byte for lane in lanes for byte in range(4))

    # Conversions

    def _push_cast(self, e: Expr) -> None:
        (x,) = e.args
        code = CASTS.get((x.dtype, e.dtype, e.lanes))
        if code is None:
            self._unknown(e)
            return
        self.push(x)
        self.out += code

    def _push_bitcast(self, e: Expr) -> None:
        (x,) = e.args
        code = REINTERPRET.get((x.dtype, e.dtype))
        if code is None:
            self._unknown(e)
            return
        self.push(x)
        if e.lanes == 1:
            self.out += code

    # Arithmetic that is not one instruction

    def _push_fma(self, e: Expr) -> None:
        a, b, c = e.args
        if e.lanes == 4 and self.relaxed_simd:
            self.push(a)
            self.push(b)
            self.push(c)
            self.out += OP["f32x4.relaxed_madd"]
            return
        self.push(c)
        self.push(a)
        self.push(b)
        self.out += PLAIN["mul", e.dtype, e.lanes] + PLAIN["add", e.dtype, e.lanes]

    def _push_select(self, e: Expr) -> None:
        condition, a, b = e.args
        self.push(a)
        self.push(b)
        self.push(condition)
        if e.lanes == 1:
            self.out += OP["select"]
        else:
            self.out += OP["i32x4.relaxed_laneselect" if self.relaxed_simd else "v128.bitselect"]

    def _push_min(self, e: Expr) -> None:
        a, b = e.args
        code = PLAIN.get((e.op, e.dtype, e.lanes))
        if e.lanes == 4 and e.dtype == "f32" and self.passes.quick_limits:
            # The plain instruction takes seven operations on x64 to care for NaN and signed zeros; where one side is a
            # constant, the single operation that answers the other side when that is NaN does.
            for x, limit in ((a, b), (b, a)):
                constant = limit.args[0] if limit.op == "splat" else limit
                if constant.op == "const" and not math.isnan(constant.attr):
                    self.push(x)
                    self.push(limit)
                    self.out += OP["f32x4.p" + e.op]
                    return
        if code is not None:
            self.push(a)
            self.push(b)
            self.out += code
            return
        first, second = self._held(a), self._held(b)
        self.out += first + second + first + second
        self.out += PLAIN["lt" if e.op == "min" else "gt", e.dtype, 1] + OP["select"]

    _push_max = _push_min

    def _push_pmin(self, e: Expr) -> None:
        a, b = map(self._held, e.args)
        self.out += b + a + (b + a if e.op == "pmin" else a + b) + PLAIN["lt", e.dtype, 1] + OP["select"]

    _push_pmax = _push_pmin

    def _held(self, e: Expr) -> bytes:
        """Code that pushes `e` and may be repeated."""
        if e.op == "const":
            return _constant(e)
        if e.op == "local":
            return local_get(self.lets[e.attr][0])
        local = self.new_local(wasm_type(e), "t")
        self.push(e)
        self.out += local_set(local)
        return local_get(local)

    def _push_div(self, e: Expr) -> None:
        a, b = e.args
        divisor = b.args[0] if b.op == "splat" else b
        if e.dtype in ("f32", "f64") or (
            divisor.op == "const" and divisor.attr not in (0, -1) and e.lanes == 1
        ):
            code = PLAIN.get((e.op, e.dtype, e.lanes))
            if code is None:
                self._unknown(e)
                return
            self.push(a)
            self.push(b)
            self.out += code
        elif e.lanes == 4:
            self._lane_by_lane(e)
        else:
            self._guarded_division(e)

    _push_rem = _push_div

    def _guarded_division(self, e: Expr) -> None:
        """Integer division that cannot trap: by zero it divides by one, and the least number by −1 wraps."""
        dtype = "i64" if e.dtype == "i64" else "i32"
        const = i64_const if e.dtype == "i64" else i32_const
        a, b = map(self._held, e.args)
        if e.dtype == "u32" or e.op == "rem":
            self.out += a + b + const(1) + b + const(0) + OP[dtype + ".ne"] + OP["select"]
            self.out += PLAIN[e.op, e.dtype, 1]
            return
        usual = b + const(1) + OP[dtype + ".add"] + const(2) + OP[dtype + ".ge_u"]  # neither 0 nor −1
        self.out += a + b + const(1) + usual + OP["select"] + PLAIN[e.op, e.dtype, 1]
        self.out += const(0) + a + OP[dtype + ".sub"]
        self.out += b + const(-1) + OP[dtype + ".ne"] + OP["select"]

    def _lane_by_lane(self, e: Expr) -> None:
        """A vector operation that Wasm has for scalars only."""
        vectors = []
        for arg in e.args:
            local = self.new_local(V128, "t")
            self.push(arg)
            self.out += local_set(local)
            vectors.append((local, arg))
        lanes = LANES[e.dtype]
        scalars = [(self.new_local(TYPES[arg.dtype], "t"), vector, arg) for vector, arg in vectors]
        region = self.stack[-1]
        for lane in range(4):
            held = []
            for scalar, vector, arg in scalars:
                self.out += (
                    local_get(vector) + OP[lanes + ".extract_lane"] + bytes((lane,)) + local_set(scalar)
                )
                x = Expr("held", arg.dtype, 1, (), None)
                region.available[x] = scalar
                held.append(x)
            if lane:
                self.push(Expr(e.op, e.dtype, 1, tuple(held), None))
                self.out += OP[lanes + ".replace_lane"] + bytes((lane,))
            else:
                self.push(Expr(e.op, e.dtype, 1, tuple(held), None))
                self.out += OP[lanes + ".splat"]
            for x in held:
                del region.available[x]

    def _push_shl(self, e: Expr) -> None:
        x, count = e.args
        if count.op != "splat":
            self._lane_by_lane(e)
            return
        self.push(x)
        self.push(count.args[0])
        self.out += VECTOR_SHIFT[e.op, e.dtype]

    _push_shr = _push_shl

    def _push_neg(self, e: Expr) -> None:
        zero = i64_const(0) if e.dtype == "i64" else i32_const(0)
        self.out += zero
        self.push(e.args[0])
        self.out += PLAIN["sub", e.dtype, 1]

    def _push_abs(self, e: Expr) -> None:
        kind, const = ("i64", i64_const) if e.dtype == "i64" else ("i32", i32_const)
        x = self._held(e.args[0])
        sign = x + const(63 if e.dtype == "i64" else 31) + OP[kind + ".shr_s"]
        self.out += x + sign + OP[kind + ".xor"] + sign + OP[kind + ".sub"]

    def _push_not(self, e: Expr) -> None:
        self.push(e.args[0])
        wide = e.dtype == "i64"
        self.out += i64_const(-1) + OP["i64.xor"] if wide else i32_const(-1) + OP["i32.xor"]


def _constant(e: Expr) -> bytes:
    """The instruction that pushes a scalar constant."""
    x: Any = e.attr
    dtype = e.dtype
    if dtype == "f32":
        return OP["f32.const"] + float_bytes(x)
    if dtype == "f64":
        return OP["f64.const"] + struct.pack("<d", x)
    return i64_const(x) if dtype == "i64" else i32_const(int(x))


def _lane_bytes(x: Expr) -> bytes:
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
