"""Which Wasm instruction does which operation of the IR: tables by operation, dtype and lanes.

A scalar bool is an i32 of 0 or 1, a vector bool a mask of 0 or −1 in each lane.
"""

from __future__ import annotations

import struct

from ..ir import Expr
from .wasm_encoding import F32, F64, I32, I64, OP, V128, i32_const, i64_const

TYPES = {"f32": F32, "f64": F64, "i64": I64, "i32": I32, "u32": I32, "bool": I32}
LANES = {"f32": "f32x4", "i32": "i32x4", "u32": "i32x4", "bool": "i32x4"}
ZERO = OP["v128.const"] + bytes(16)
CHEAP = frozenset(
    (ZERO, OP["v128.const"] + b"\xff" * 16, OP["f32.const"] + bytes(4), OP["f64.const"] + bytes(8))
)
"""Constants that take one instruction."""
ONES = OP["v128.const"] + struct.pack("<4i", 1, 1, 1, 1)


def wasm_type(e: Expr) -> int:
    """Wasm value type of an expression."""
    return V128 if e.lanes == 4 else TYPES[e.dtype]


def _plain_operations() -> dict[tuple[str, str, int], bytes]:
    """(op, dtype of the operands, lanes) → the one instruction that does it."""
    table = {}
    unsigned = ("div", "rem", "shr", "lt", "le", "gt", "ge", "min", "max")
    for dtype in ("f32", "f64", "i32", "u32", "i64", "bool"):
        for lanes in (1, 4):
            prefix: str = dtype if dtype in ("f32", "f64", "i64") else "i32"
            if lanes == 4:
                prefix += "x4"
            floating = dtype in ("f32", "f64")
            names = {op: op for op in ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "shl")}
            names |= {op: op for op in ("and", "or", "xor", "shr", "rem", "min", "max", "abs", "neg")}
            if floating:
                names |= {op: op for op in ("sqrt", "floor", "ceil", "trunc", "pmin", "pmax")}
                names["round"] = "nearest"
                for op in ("and", "or", "xor", "shl", "shr", "rem"):
                    del names[op]
            else:
                sign = "_u" if dtype in ("u32", "bool") else "_s"
                names |= {op: op + sign for op in unsigned}
            for op, name in names.items():
                code = OP.get(f"{prefix}.{name}")
                if lanes == 4 and name in ("and", "or", "xor"):
                    code = OP["v128." + name]
                if code is not None:
                    table[op, dtype, lanes] = code
    table["dot", "i32", 4] = OP["i32x4.dot_i16x8_s"]
    # Relaxed in what it makes of bytes beyond 127 on the right, of which there are none.
    table["byte_dot", "i32", 4] = OP["i16x8.relaxed_dot_i8x16_i7x16_s"]
    table["add_pairs", "i32", 4] = OP["i16x8.add"]
    for dtype in ("i32", "u32", "bool"):
        table["not", dtype, 4] = OP["v128.not"]
        table.pop(("shl", dtype, 4), None)
        table.pop(("shr", dtype, 4), None)
    table["not", "bool", 1] = OP["i32.eqz"]
    return table


PLAIN = _plain_operations()
VECTOR_SHIFT = {
    ("shl", "i32"): OP["i32x4.shl"],
    ("shl", "u32"): OP["i32x4.shl"],
    ("shr", "i32"): OP["i32x4.shr_s"],
    ("shr", "u32"): OP["i32x4.shr_u"],
}


def _casts() -> dict[tuple[str, str, int], bytes]:
    """(from, to, lanes) → instructions; bool sources and targets apart."""
    table: dict[tuple[str, str, int], bytes] = {}
    for f in ("f32", "f64"):
        for i in ("i32", "u32", "i64"):
            sign = "u" if i == "u32" else "s"
            wide = "i64" if i == "i64" else "i32"
            table[f, i, 1] = OP[f"{wide}.trunc_sat_{f}_{sign}"]
            table[i, f, 1] = OP[f"{f}.convert_{wide}_{sign}"]
        table["bool", f, 1] = OP[f"{f}.convert_i32_u"]
    table["f32", "f64", 1] = OP["f64.promote_f32"]
    table["f64", "f32", 1] = OP["f32.demote_f64"]
    for small, sign in (("i32", "s"), ("u32", "u"), ("bool", "u")):
        table[small, "i64", 1] = OP[f"i64.extend_i32_{sign}"]
    for small, sign in (("i32", "s"), ("u32", "u")):
        table["i64", small, 1] = OP["i32.wrap_i64"]
        table["f32", small, 4] = OP[f"i32x4.trunc_sat_f32x4_{sign}"]
        table[small, "f32", 4] = OP[f"f32x4.convert_i32x4_{sign}"]
        table["bool", small, 1] = b""
        table["bool", small, 4] = OP["i32x4.neg"]
    for lanes in (1, 4):
        table["i32", "u32", lanes] = table["u32", "i32", lanes] = b""
    table["bool", "f32", 4] = OP["v128.const"] + struct.pack("<4f", 1, 1, 1, 1) + OP["v128.and"]
    for dtype, zero in (("i32", i32_const(0)), ("u32", i32_const(0)), ("i64", i64_const(0))):
        table[dtype, "bool", 1] = zero + OP[("i64" if dtype == "i64" else "i32") + ".ne"]
        table[dtype, "bool", 4] = ZERO + OP["i32x4.ne"]
    table["f32", "bool", 1] = OP["f32.const"] + bytes(4) + OP["f32.ne"]
    table["f64", "bool", 1] = OP["f64.const"] + bytes(8) + OP["f64.ne"]
    table["f32", "bool", 4] = ZERO + OP["f32x4.ne"]
    return table


CASTS = _casts()
REINTERPRET = {
    ("f32", "i32"): OP["i32.reinterpret_f32"],
    ("f32", "u32"): OP["i32.reinterpret_f32"],
    ("i32", "f32"): OP["f32.reinterpret_i32"],
    ("u32", "f32"): OP["f32.reinterpret_i32"],
    ("f64", "i64"): OP["i64.reinterpret_f64"],
    ("i64", "f64"): OP["f64.reinterpret_i64"],
    ("i32", "u32"): b"",
    ("u32", "i32"): b"",
}

_WIDEN_8 = {s: OP[f"i16x8.extend_low_i8x16_{s}"] + OP[f"i32x4.extend_low_i16x8_{s}"] for s in ("s", "u")}
_WIDE = OP["v128.load"]
LOADS: dict[tuple[str, int], tuple[bytes, int, bytes]] = {
    # (storage, lanes) → opcode, log2 of the alignment promised, instructions that follow
    ("f32", 1): (OP["f32.load"], 2, b""),
    ("f64", 1): (OP["f64.load"], 3, b""),
    ("i32", 1): (OP["i32.load"], 2, b""),
    ("u32", 1): (OP["i32.load"], 2, b""),
    ("i64", 1): (OP["i64.load"], 3, b""),
    ("u64", 1): (OP["i64.load"], 3, b""),
    ("i16", 1): (OP["i32.load16_s"], 1, b""),
    ("u16", 1): (OP["i32.load16_u"], 1, b""),
    ("f16", 1): (OP["i32.load16_u"], 1, b""),
    ("i8", 1): (OP["i32.load8_s"], 0, b""),
    ("u8", 1): (OP["i32.load8_u"], 0, b""),
    ("bool", 1): (OP["i32.load8_u"], 0, i32_const(0) + OP["i32.ne"]),
    ("f32", 4): (_WIDE, 2, b""),
    ("i32", 4): (_WIDE, 2, b""),
    ("u32", 4): (_WIDE, 2, b""),
    ("i16", 4): (OP["v128.load16x4_s"], 1, b""),
    ("u16", 4): (OP["v128.load16x4_u"], 1, b""),
    ("f16", 4): (OP["v128.load16x4_u"], 1, b""),
    ("i8", 4): (OP["v128.load32_zero"], 0, _WIDEN_8["s"]),
    ("u8", 4): (OP["v128.load32_zero"], 0, _WIDEN_8["u"]),
    ("bool", 4): (OP["v128.load32_zero"], 0, _WIDEN_8["u"] + ZERO + OP["i32x4.ne"]),
}

_LOW_BYTES = OP["i8x16.shuffle"] + bytes((0, 4, 8, 12) * 4)
_LOW_HALVES = OP["i8x16.shuffle"] + bytes((0, 1, 4, 5, 8, 9, 12, 13) * 2)


STORES: dict[tuple[str, int], tuple[bytes, bytes, int, bytes]] = {
    # (storage, lanes) → instructions before, opcode, log2 of the alignment promised, lane immediate
    ("f32", 1): (b"", OP["f32.store"], 2, b""),
    ("f64", 1): (b"", OP["f64.store"], 3, b""),
    ("i32", 1): (b"", OP["i32.store"], 2, b""),
    ("u32", 1): (b"", OP["i32.store"], 2, b""),
    ("i64", 1): (b"", OP["i64.store"], 3, b""),
    ("u64", 1): (b"", OP["i64.store"], 3, b""),
    **{(s, 1): (b"", OP["i32.store16"], 1, b"") for s in ("i16", "u16", "f16")},
    **{(s, 1): (b"", OP["i32.store8"], 0, b"") for s in ("i8", "u8", "bool")},
    **{(s, 4): (b"", OP["v128.store"], 2, b"") for s in ("f32", "i32", "u32")},
    **{(s, 4): (ZERO + _LOW_HALVES, OP["v128.store64_lane"], 1, b"\0") for s in ("i16", "u16", "f16")},
    **{(s, 4): (ZERO + _LOW_BYTES, OP["v128.store32_lane"], 0, b"\0") for s in ("i8", "u8")},
    ("bool", 4): (ONES + OP["v128.and"] + ZERO + _LOW_BYTES, OP["v128.store32_lane"], 0, b"\0"),
}
