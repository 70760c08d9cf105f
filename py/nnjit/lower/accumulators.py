"""Accumulators: the registers in which reductions collect their terms.

Each point of a tile has a register of its own for each reduction; where iterations are unrolled it may have several
*copies*, so that one addition need not wait for the one before. Afterwards the copies, and the lanes of a vector, are
combined into the value that later stages read.
"""

from __future__ import annotations

import math

from .. import ir
from .spec import Reduce
from .values import Point

PRODUCTS = {"f32": ("mul",), "i32": ("mul", "dot")}
"""By dtype, what a term of a sum of products may be."""
IDENTITY = {"sum": 0, "prod": 1, "max": -math.inf, "min": math.inf, "pmax": -math.inf}
COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "pmax": "pmax"}
"""Reduction → the operation that takes one more term in."""


def identity(r: Reduce) -> ir.Expr:
    """What a reduction starts from: the least or largest value of its dtype where that is no infinity."""
    dtype = r.value.dtype
    value = IDENTITY[r.combine]
    if dtype not in ("f32", "f64") and math.isinf(value):
        bits = 63 if dtype == "i64" else 31
        value = -(1 << bits) if value < 0 else (1 << bits) - 1
        if dtype == "u32":
            value = 0 if value < 0 else (1 << 32) - 1
        if dtype == "bool":
            value = value > 0
    return ir.const(value, dtype)


def combined(r: Reduce, p: Point, copies: int, lanes: int) -> ir.Expr:
    """The copies of an accumulator put together pairwise, which loses less to rounding than one after the other."""
    parts = [ir.local(p.register(r.name, copy), r.value.dtype, lanes) for copy in range(copies)]
    while len(parts) > 1:
        parts = [
            ir.binary(COMBINE[r.combine], *parts[n : n + 2]) if n + 1 < len(parts) else parts[n]
            for n in range(0, len(parts), 2)
        ]
    return parts[0]


def combine_copies(block: list[ir.Stmt], reduces: list[Reduce], points: list[Point], copies: int) -> None:
    """Leave the sum (or whatever is combined) of the copies of scalar accumulators in the first of them."""
    if copies > 1:
        for r in reduces:
            for p in points:
                block.append(ir.Assign(p.register(r.name), combined(r, p, copies, 1)))


def combine_lanes(
    block: list[ir.Stmt], reduces: list[Reduce], points: list[Point], copies: int, lanes_of: dict[str, int]
) -> None:
    """Combine the copies and the lanes of every vector accumulator into the scalar that later stages read."""
    for r in reduces:
        op = COMBINE[r.combine]
        for p in points:
            name = f"{r.name}{p.suffix}_v"
            block.append(ir.Declare(name, combined(r, p, copies, ir.LANES)))
            wide = ir.local(name, r.value.dtype, ir.LANES)
            pairs = ir.binary(op, wide, ir.shuffle(wide, wide, (2, 3, 0, 1)))
            p.combined.add(r.name)
            register = p.register(r.name)
            lanes_of[register] = 1
            total = ir.binary(op, pairs, ir.shuffle(pairs, pairs, (1, 0, 3, 2)))
            block.append(ir.Declare(register, ir.extract(total, 0)))


class Product:
    """A multiply-add to be: `operation` ("mul" or "dot") of a and b, added to the accumulator `register`."""

    __slots__ = ("a", "b", "operation", "register")

    def __init__(self, a: ir.Expr, b: ir.Expr, operation: str, register: str) -> None:
        self.a = a
        self.b = b
        self.operation = operation
        self.register = register

    def added_to(self, total: ir.Expr, a: ir.Expr, b: ir.Expr) -> ir.Expr:
        """`total` with the product of a and b, the operands where they are by now."""
        if a.dtype == "f32":
            return ir.fma(a, b, total)
        return ir.add(total, ir.dot(a, b) if self.operation == "dot" else ir.mul(a, b))


def by_operand(products: list[Product]) -> list[list[Product]]:
    """The products operand by operand of the side that has more different ones.

    Each of these is loaded, used wherever it is needed, and dropped; only the operands of the other side stay in
    registers. In any other order a wide tile, or the elements that the taps of a window share, would not fit. Each
    accumulator takes its terms in one order wherever it lies in its tile: so elements that overlapping tiles both compute are
    equal to the last bit.
    """
    first = len({one.a for one in products}) >= len({one.b for one in products})
    users: dict[ir.Expr, list[Product]] = {}
    due: dict[str, list[Product]] = {}
    for one in products:
        users.setdefault(one.a if first else one.b, []).append(one)
    for one in reversed(products):
        due.setdefault(one.register, []).append(one)
    waiting, ordered = list(users.values()), []
    while waiting:
        number, ready = 0, [one for one in waiting[0] if due[one.register][-1] is one]
        for n, group in enumerate(waiting):
            now = [one for one in group if due[one.register][-1] is one]
            if now and not ready or len(now) == len(group):
                number, ready = n, now
            if len(now) == len(group):
                break
        rest = [one for one in waiting[number] if one not in ready]
        waiting[number : number + 1] = [rest] if rest else []
        for one in ready:
            due[one.register].pop()
        ordered.append(ready)
    return ordered
