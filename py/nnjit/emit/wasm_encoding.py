"""The WebAssembly binary format: opcodes, LEB128 numbers, sections. Knows nothing of kernels.

Opcode numbers follow the WebAssembly core specification 3.0 (chapter "Binary Format"), which includes SIMD and relaxed
SIMD.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

I32, I64, F32, F64, V128 = 0x7F, 0x7E, 0x7D, 0x7C, 0x7B
VOID = 0x40


def uleb(n: int) -> bytes:
    """Unsigned LEB128 of n ≥ 0."""
    if n < 128:
        return _BYTES[n]
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def sleb(n: int) -> bytes:
    """Signed LEB128."""
    if -64 <= n < 64:
        return _BYTES[n & 127]
    out = bytearray()
    while not -64 <= n < 64:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n & 127)
    return bytes(out)


_BYTES = [bytes((i,)) for i in range(128)]


def opcodes() -> dict[str, tuple[int, int]]:
    """Instruction name → (prefix byte or 0, number). Consecutive numbers are listed as runs."""
    compare = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u"
    compare_float = "eq ne lt gt le ge"
    integer = "clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr"
    floating = "abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign"
    runs = (
        (0, 0x00, "", "unreachable nop block loop if else"),
        (0, 0x0B, "", "end br br_if"),
        (0, 0x0F, "", "return call"),
        (0, 0x1A, "", "drop select"),
        (0, 0x20, "", "local.get local.set local.tee global.get"),
        (0, 0x28, "", "i32.load i64.load f32.load f64.load"),
        (0, 0x2C, "i32.", "load8_s load8_u load16_s load16_u"),
        (0, 0x30, "i64.", "load8_s load8_u load16_s load16_u load32_s load32_u"),
        (0, 0x36, "", "i32.store i64.store f32.store f64.store i32.store8 i32.store16"),
        (0, 0x41, "", "i32.const i64.const f32.const f64.const"),
        (0, 0x45, "i32.", "eqz " + compare),
        (0, 0x50, "i64.", "eqz " + compare),
        (0, 0x5B, "f32.", compare_float),
        (0, 0x61, "f64.", compare_float),
        (0, 0x67, "i32.", integer),
        (0, 0x79, "i64.", integer),
        (0, 0x8B, "f32.", floating),
        (0, 0x99, "f64.", floating),
        (0, 0xA7, "i32.", "wrap_i64"),
        (0, 0xAC, "i64.", "extend_i32_s extend_i32_u"),
        (0, 0xB2, "f32.", "convert_i32_s convert_i32_u convert_i64_s convert_i64_u demote_f64"),
        (0, 0xB7, "f64.", "convert_i32_s convert_i32_u convert_i64_s convert_i64_u promote_f32"),
        (0, 0xBC, "", "i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64"),
        (0xFC, 0, "i32.", "trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u"),
        (0xFC, 4, "i64.", "trunc_sat_f32_s trunc_sat_f32_u trunc_sat_f64_s trunc_sat_f64_u"),
        (0xFD, 0, "v128.", "load load8x8_s load8x8_u load16x4_s load16x4_u"),
        (0xFD, 9, "v128.", "load32_splat"),
        (0xFD, 11, "", "v128.store v128.const i8x16.shuffle i8x16.swizzle"),
        (0xFD, 17, "", "i32x4.splat"),
        (0xFD, 19, "", "f32x4.splat"),
        (0xFD, 27, "i32x4.", "extract_lane replace_lane"),
        (0xFD, 31, "f32x4.", "extract_lane replace_lane"),
        (0xFD, 55, "i32x4.", compare),
        (0xFD, 65, "f32x4.", compare_float),
        (0xFD, 77, "v128.", "not and andnot or xor bitselect"),
        (0xFD, 90, "v128.", "store32_lane store64_lane load32_zero load64_zero"),
        (0xFD, 103, "f32x4.", "ceil floor trunc nearest"),
        (0xFD, 135, "i16x8.", "extend_low_i8x16_s extend_high_i8x16_s extend_low_i8x16_u"),
        (0xFD, 142, "i16x8.", "add"),
        (0xFD, 160, "i32x4.", "abs neg"),
        (
            0xFD,
            167,
            "i32x4.",
            "extend_low_i16x8_s extend_high_i16x8_s extend_low_i16x8_u extend_high_i16x8_u",
        ),
        (0xFD, 171, "i32x4.", "shl shr_s shr_u add"),
        (0xFD, 177, "i32x4.", "sub"),
        (0xFD, 181, "i32x4.", "mul min_s min_u max_s max_u dot_i16x8_s"),
        (0xFD, 224, "f32x4.", "abs neg"),
        (0xFD, 227, "f32x4.", "sqrt add sub mul div min max pmin pmax"),
        (0xFD, 248, "", "i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u"),
        (0xFD, 250, "f32x4.", "convert_i32x4_s convert_i32x4_u"),
        (0xFD, 0x105, "", "f32x4.relaxed_madd"),
        (0xFD, 0x10B, "", "i32x4.relaxed_laneselect"),
        (0xFD, 0x112, "", "i16x8.relaxed_dot_i8x16_i7x16_s"),
    )
    table = {}
    for prefix, start, stem, names in runs:
        for n, name in enumerate(names.split()):
            table[stem + name] = (prefix, start + n)
    return table


def _encoded() -> dict[str, bytes]:
    return {
        name: bytes((prefix,)) + uleb(number) if prefix else bytes((number,))
        for name, (prefix, number) in opcodes().items()
    }


OP: dict[str, bytes] = _encoded()
"""Instruction name → its encoded opcode, immediates not included."""

GET = [OP["local.get"] + uleb(i) for i in range(512)]
SET = [OP["local.set"] + uleb(i) for i in range(512)]
TEE = [OP["local.tee"] + uleb(i) for i in range(512)]


def local_get(i: int) -> bytes:
    return GET[i] if i < 512 else OP["local.get"] + uleb(i)


def local_set(i: int) -> bytes:
    return SET[i] if i < 512 else OP["local.set"] + uleb(i)


def local_tee(i: int) -> bytes:
    return TEE[i] if i < 512 else OP["local.tee"] + uleb(i)


def i32_const(n: int) -> bytes:
    """`i32.const` of n modulo 2³²."""
    return b"\x41" + sleb((n + 0x80000000 & 0xFFFFFFFF) - 0x80000000)


def i64_const(n: int) -> bytes:
    """`i64.const` of n modulo 2⁶⁴."""
    return b"\x42" + sleb((n + (1 << 63) & (1 << 64) - 1) - (1 << 63))


def float_bytes(x: float) -> bytes:
    """Little-endian binary32 of x, too large values becoming infinite."""
    try:
        return struct.pack("<f", x)
    except OverflowError:
        return struct.pack("<f", float("inf") if x > 0 else float("-inf"))


def vector(items: Iterable[bytes]) -> bytes:
    """Count, then the items."""
    parts = list(items)
    return uleb(len(parts)) + b"".join(parts)


def text(s: str) -> bytes:
    """Length, then UTF-8."""
    data = s.encode()
    return uleb(len(data)) + data


def sized(data: bytes) -> bytes:
    """Length, then the bytes."""
    return uleb(len(data)) + data


class Function:
    """One function of a module, without results: name, parameter types, local types, code without the final `end`."""

    __slots__ = ("name", "params", "locals", "code", "names")

    def __init__(
        self,
        name: str,
        params: bytes,
        local_types: bytes,
        code: bytes,
        names: list[str] | None = None,
    ) -> None:
        self.name = name
        self.params = params
        self.locals = local_types
        self.code = code
        self.names = names
        """Names of parameters and locals in order, for the name section."""


def assemble(functions: list[Function], shared_pages: int | None, scratch: bool = False) -> bytes:
    """A module that imports `env.memory` and exports every function under its name.

    `scratch`: it also imports `env.scratch`, global 0, the address of memory that is the instance's own.
    `shared_pages` is the maximum of a shared memory, None for an unshared one. A name section is written when
    the functions carry names.
    """
    types: dict[bytes, int] = {}
    indices = [types.setdefault(f.params, len(types)) for f in functions]
    memory = b"\x00\x00" if shared_pages is None else b"\x03\x00" + uleb(shared_pages)
    out = bytearray(b"\x00asm\x01\x00\x00\x00")

    def section(number: int, data: bytes) -> None:
        out.append(number)
        out.extend(sized(data))

    section(1, vector(b"\x60" + sized(params) + b"\x00" for params in types))
    imports = [text("env") + text("memory") + b"\x02" + memory]
    if scratch:
        imports.append(text("env") + text("scratch") + b"\x03" + bytes((I32, 0)))
    section(2, vector(imports))
    section(3, vector(map(uleb, indices)))
    section(7, vector(text(f.name) + b"\x00" + uleb(i) for i, f in enumerate(functions)))
    section(10, vector(sized(_runs(f.locals) + f.code + b"\x0b") for f in functions))
    if any(f.names for f in functions):
        section(0, text("name") + _names(functions))
    return bytes(out)


def _runs(types: bytes) -> bytes:
    """Local types as (count, type) pairs."""
    runs: list[list[int]] = []
    for t in types:
        if runs and runs[-1][1] == t:
            runs[-1][0] += 1
        else:
            runs.append([1, t])
    return vector(uleb(n) + bytes((t,)) for n, t in runs)


def _names(functions: list[Function]) -> bytes:
    names = vector(uleb(i) + text(f.name) for i, f in enumerate(functions))
    inner = vector(
        uleb(i) + vector(uleb(j) + text(n) for j, n in enumerate(f.names or ()))
        for i, f in enumerate(functions)
    )
    return b"\x01" + sized(names) + b"\x02" + sized(inner)
