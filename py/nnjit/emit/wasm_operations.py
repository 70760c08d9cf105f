"""One method for each kind of IR expression: how Wasm computes it where `wasm_tables` has no single instruction for it."""

from __future__ import annotations

import math
from typing import Any

from ..ir import Expr, const, pack
from ..target import Target
from .half import float_to_half, half_to_float
from .wasm_encoding import OP, V128, i32_const, i64_const, local_get, local_set, uleb
from .wasm_index import Index, loaded
from .wasm_tables import CASTS, LANES, LOADS, PLAIN, REINTERPRET, STORES, TYPES, VECTOR_SHIFT
from .wasm_values import ValueEmitter, lane_bytes


class OperationEmitter(ValueEmitter):
    """`ValueEmitter.push` calls `_push_` and the operation's name."""

    def __init__(self, buffers: dict[str, tuple[str, bool]], params: list[str], target: Target) -> None:
        super().__init__(buffers, params, target.passes)
        self.relaxed_simd = target.relaxed_simd and target.passes.relaxed_simd
        # Integers go through a general register either way where one instruction is slow.
        self.splat_loads = {"f32", "i32", "u32"} if target.splat_loads else {"i32", "u32"}

    # Memory

    def _push_index(self, e: Expr) -> None:
        self.push_index(e.attr)

    def _push_load(self, e: Expr) -> None:
        buffer, index = loaded(e)
        storage = self.buffers[buffer][0]
        form = LOADS.get((storage, e.lanes))
        if form is None:
            self.refuse(e)
            return
        opcode, align, after = form
        offset = self.push_address(buffer, index)
        self.out += opcode + bytes((align,)) + uleb(offset) + after
        if storage == "f16" and e.dtype == "f32":
            self.push_through_local(e, "i32", half_to_float)

    def store(self, buffer: str, index: Index, value: Expr) -> None:
        """Emit a store of `value`."""
        storage = self.buffers[buffer][0]
        form = STORES.get((storage, value.lanes))
        if form is None:
            self.refuse(value)
            return
        before, opcode, align, lane = form
        offset = self.push_address(buffer, index)
        self.push(value)
        if storage == "f16":
            self.push_through_local(value, "f32", float_to_half)
        self.out += before + opcode + bytes((align,)) + uleb(offset) + lane

    # Lanes

    def _push_splat(self, e: Expr) -> None:
        (x,) = e.args
        lanes = LANES.get(e.dtype)
        if lanes is None:
            self.refuse(e)
            return
        if x.op == "const":
            self.push_constant(e, OP["v128.const"] + lane_bytes(x) * 4)
            return
        region = self.stack[-1]
        if (
            self.passes.splat_loads
            and x.op == "load"
            and x not in region.available
            and region.uses.get(x, 1) == 1
        ):
            buffer, index = loaded(x)
            if self.buffers[buffer][0] in self.splat_loads:
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
            self.refuse(e)
            return
        if all(x.op == "const" for x in e.args):
            self.push_constant(e, OP["v128.const"] + b"".join(map(lane_bytes, e.args)))
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
            self.refuse(e)
        lanes: Any = e.attr
        for x in e.args:
            self.push(x)
        self.out += OP["i8x16.shuffle"] + bytes(4 * lane + byte for lane in lanes for byte in range(4))

    # Conversions

    def _push_cast(self, e: Expr) -> None:
        (x,) = e.args
        code = CASTS.get((x.dtype, e.dtype, e.lanes))
        if code is None:
            self.refuse(e)
            return
        self.push(x)
        self.out += code

    def _push_bitcast(self, e: Expr) -> None:
        (x,) = e.args
        code = REINTERPRET.get((x.dtype, e.dtype))
        if code is None:
            self.refuse(e)
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
        first, second = self.held(a), self.held(b)
        self.out += first + second + first + second
        self.out += PLAIN["lt" if e.op == "min" else "gt", e.dtype, 1] + OP["select"]

    _push_max = _push_min

    def _push_pmin(self, e: Expr) -> None:
        a, b = map(self.held, e.args)
        self.out += b + a + (b + a if e.op == "pmin" else a + b) + PLAIN["lt", e.dtype, 1] + OP["select"]

    _push_pmax = _push_pmin

    def _push_div(self, e: Expr) -> None:
        a, b = e.args
        divisor = b.args[0] if b.op == "splat" else b
        if e.dtype in ("f32", "f64") or (
            divisor.op == "const" and divisor.attr not in (0, -1) and e.lanes == 1
        ):
            code = PLAIN.get((e.op, e.dtype, e.lanes))
            if code is None:
                self.refuse(e)
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
        a, b = map(self.held, e.args)
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
        x = self.held(e.args[0])
        sign = x + const(63 if e.dtype == "i64" else 31) + OP[kind + ".shr_s"]
        self.out += x + sign + OP[kind + ".xor"] + sign + OP[kind + ".sub"]

    def _push_not(self, e: Expr) -> None:
        self.push(e.args[0])
        wide = e.dtype == "i64"
        self.out += i64_const(-1) + OP["i64.xor"] if wide else i32_const(-1) + OP["i32.xor"]
