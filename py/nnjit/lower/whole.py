"""Whole numbers that need not leave floats.

A quantised model rounds and limits a float, makes an integer of it and a float again, less a zero point. Where nothing is
stored in between, the integer is the limited float, which is whole, and so is the difference. What is left is shorter, has
its zero points in floats, which kernels may read from memory (`numbers`), and runs on float units alone.
"""

from __future__ import annotations

from .. import ir

_EXACT = 1 << 22
"""A whole f32 below it, and a sum of two of them, is exact."""


def without_detour(e: ir.Expr) -> ir.Expr:
    """`e`, a value of which the operands are in this form already, without conversions that leave it as it is."""
    if e.op == "and":
        # What wraps a u8 where it is made.
        x, mask = e.args
        return x if mask.op == "const" and mask.attr in _MASKS and _fits(x, 0, mask.attr) else e
    if e.op == "shr":
        # What wraps an i8: to the left and back.
        inner, by = e.args
        if inner.op == "shl" and by.op == "const" and inner.args[1] is by and by.attr in (16, 24):
            high = (1 << (31 - by.attr)) - 1
            return inner.args[0] if _fits(inner.args[0], -high - 1, high) else e
        return e
    if e.op != "cast" or e.dtype != "f32":
        return e
    x = e.args[0]
    if x.op != "sub":
        return _whole(x) or e
    number, zero = _whole(x.args[0]), x.args[1]
    if number is None or zero.op != "const" or abs(zero.attr) > _EXACT:
        return e
    return ir.sub(number, ir.const(zero.attr, "f32"))


_MASKS = (0xFF, 0xFFFF)


def _limits(x: ir.Expr) -> tuple[float, float] | None:
    """(least, greatest) of a float that `ops.quantization.saturated` made, or None."""
    if x.op != "pmin" or x.dtype != "f32" or x.args[0].op != "pmax":
        return None
    low, high = x.args[0].args[0], x.args[1]
    return (low.attr, high.attr) if low.op == high.op == "const" else None


def _fits(x: ir.Expr, low: int, high: int) -> bool:
    """Whether the integer x is a float between these limits."""
    limits = _limits(x.args[0]) if x.op == "cast" and x.dtype == "i32" else None
    return limits is not None and low <= limits[0] and limits[1] <= high


def _whole(x: ir.Expr) -> ir.Expr | None:
    """The f32 that the i32 x was made of, if it is whole and exact."""
    limits = _limits(x.args[0]) if x.op == "cast" and x.dtype == "i32" else None
    if limits is None or not all([n.is_integer() and abs(n) < _EXACT for n in limits]):
        return None
    value = x.args[0].args[0].args[1]
    parts = value.args if value.op == "add" else (value,)
    return x.args[0] if all(map(_is_whole, parts)) else None


def _is_whole(x: ir.Expr) -> bool:
    if x.op == "const":
        return x.attr.is_integer()
    return x.op == "round" or (x.op == "cast" and x.args[0].dtype == "i32")
