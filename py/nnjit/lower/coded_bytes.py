"""Coded weights multiplied as bytes: no code becomes a float, and one instruction multiplies 16 of them.

Codes of less than 8 bits are bytes once they are shifted and masked. So that x can be multiplied by them in integers, each
element is written with three signed digits to the base 180,

    x ≈ unit · (180² d0 + 180 d1 + d2),    unit = max |x| of the block / (127 · 180²),    −127 ≤ d ≤ 127,

whose error is at most 2⁻²² of the largest element of its block: about that of adding up a block in single precision. Sums
of two products fit 16 bits, and so do those of eight pairs of such; multiplied by the weights of the digits and
added up, what 16 bits hold fits 32. All these are exact; then they become floats, once for each block. A NaN in x makes
NaN of each sum that it is part of, as always; so does an infinity here, where a sum of floats may be infinite.
"""

from __future__ import annotations

from itertools import product as cartesian

from .. import ir
from ..ir import LANES
from ..schedule.schedule import Schedule
from ..symbolic import product, substitute, var
from ..target import Target
from .coded import MOST_UNROLLED, Lanes, fitting
from .loops import nest, row_major
from .lower import Lowered
from .spec import Axes, Index, KernelSpec, Reduce, Stage, StoreTo, substitute_expr
from .values import Point

DIGITS = 3
BASE = 180
LARGEST = 127
LEAST = 2.0**-100
"""A block whose elements are all smaller is taken as one of these, so that no quotient overflows."""
BYTE = 8
MOST_PAIR = 32767 // (2 * LARGEST)
"""Sums of two products of a digit with a code of 1 that 16 bits hold; BASE² times two of the results fit 31."""


def lower_bytes(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel of `spec` that multiplies bytes.

    Raises ValueError where the spec has no coded weights of less than 8 bits, or the schedule does not fit them.
    """
    found = fitting(spec, schedule)
    if found.bits >= BYTE:
        raise ValueError("unpack bytes needs codes of less than 8 bits")
    return _Bytes(spec, found, schedule, target).kernel(name)


class _Bytes(Lanes):
    """Tiles of rows × columns; `unroll` columns at a time share the loads of x."""

    def lay_out_x(self) -> None:
        """The units of blocks, and the digits in words of four bytes, as those of codes lie in words."""
        found = self.found
        codes, each = found.codes
        self.turns = BYTE // found.bits
        self.stages.values.packed_loads.setdefault(found.x, None)  # type: ignore[arg-type]
        within = var("quad") * LANES + var("lane")

        axes: Axes = (*found.rows, found.blocks)
        self.unit_at = row_major(axes)
        inner: Axes = (("quad", self.quads), (codes, each), ("lane", LANES))
        x = substitute_expr(found.x, {found.words[0]: within})
        most = Reduce("most", "max", ir.unary("abs", x))
        unit = ir.mul(
            ir.binary("max", ir.local("most", "f32"), ir.const(LEAST, "f32")),
            ir.const(1 / (LARGEST * BASE**2), "f32"),
        )
        name = f"{self.pack_name}_unit"
        stages = [Stage(inner, [most], []), Stage((), [], [StoreTo(name, self.unit_at, unit)])]
        self.units = self.filled(name, "f32", product([d for _, d in axes]), axes, stages)

        axes = (*axes, ("quad", self.quads), ("turn", self.turns))
        place = row_major(axes) * (DIGITS * LANES) + var("lane")
        inverse = ir.div(ir.const(BASE**-2.0, "f32"), ir.load(name, self.unit_at, "f32"))
        words = [ir.const(0, "i32")] * DIGITS
        for byte in range(4):
            at = {found.words[0]: within, codes: var("turn") + byte * self.turns}
            rest = ir.mul(substitute_expr(found.x, at), inverse)
            for n in range(DIGITS):
                digit = ir.unary("round", rest)
                rest = ir.mul(ir.sub(rest, digit), ir.const(float(BASE), "f32"))
                bits = ir.binary("and", ir.cast(digit, "i32"), ir.const(0xFF, "i32"))
                words[n] = ir.binary("or", words[n], ir.binary("shl", bits, ir.const(BYTE * byte, "i32")))
        axes = (*axes, ("lane", LANES))
        name = f"{self.pack_name}_digits"
        stores = [StoreTo(name, place + n * LANES, word) for n, word in enumerate(words)]
        elements = product([d for _, d in axes]) * DIGITS
        self.digits = self.filled(name, "i32", elements, axes, [Stage((), [], stores)])
        self.digits_at = place

    def _block(self, body: list[ir.Stmt], column: Index, rows: list[Point], lanes: range) -> None:
        """Add the products of a block of codes, of the columns `column` + lanes, to the totals of all `rows`."""
        places = {c: {self.found.column: column + c} for c in lanes}
        if self.quads > MOST_UNROLLED:
            for total in (_sum(p, c) for p in rows for c in lanes):
                body.append(ir.Declare(total.attr, ir.splat(ir.const(0, "f32"))))
            self._pairs(nest(body, [("quad", self.quads)]), places, rows, [var("quad")], more=True)
        else:
            together = max(1, MOST_PAIR // ((1 << self.found.bits) - 1) // self.turns)
            for first in range(0, self.quads, together):
                quads: list[Index] = list(range(first, min(first + together, self.quads)))
                self._pairs(body, places, rows, quads, more=first > 0)
        for p in rows:
            unit = ir.load(self.units.buffer, substitute(self.unit_at, p.mapping), "f32")
            for c in lanes:
                value = ir.fma(_sum(p, c), ir.splat(unit), self._correction(p, places[c]))
                total = ir.local(f"total{p.suffix}_{c}", "f32", LANES)
                body.append(ir.Assign(total.attr, ir.fma(value, ir.splat(self._scale(places[c])), total)))

    def _pairs(
        self,
        body: list[ir.Stmt],
        places: dict[int, dict[str, Index]],
        rows: list[Point],
        quads: list[Index],
        more: bool,
    ) -> None:
        """Make the products with the codes of some vectors of words, few enough for pairs of 16 bits, the sums of the columns
        with these `places`; or add `more` to them."""
        found = self.found
        mask = ir.splat(ir.const(((1 << found.bits) - 1) * 0x01010101, "i32"))
        group = f"{rows[0].suffix}_{min(places)}"
        pairs: dict[tuple[str, int, int], ir.Expr] = {}
        for quad, turn in cartesian(quads, range(self.turns)):
            codes = {}
            for c, place in places.items():
                name = f"words{group}_{quad}_{c}"
                if not turn:
                    at = substitute(found.word.attr[1], {**place, found.words[0]: quad * LANES})
                    body.append(ir.Declare(name, ir.load(found.word.attr[0], at, "i32", LANES)))
                word = ir.local(name, "i32", LANES)
                if turn:
                    word = ir.binary("shr", word, ir.splat(ir.const(turn * found.bits, "i32")))
                name = f"codes{group}_{quad}_{turn}_{c}"
                body.append(ir.Declare(name, ir.binary("and", word, mask)))
                codes[c] = ir.local(name, "i32", LANES)
            for p, n in cartesian(rows, range(DIGITS)):
                at = substitute(self.digits_at, {**p.mapping, "quad": quad, "turn": turn, "lane": 0})
                name = f"x{group}_{quad}_{turn}{p.suffix}_{n}"
                body.append(ir.Declare(name, ir.load(self.digits.buffer, at + n * LANES, "i32", LANES)))
                x = ir.local(name, "i32", LANES)
                for c in places:
                    products = ir.byte_dot(x, codes[c])
                    pair = pairs.get((p.suffix, c, n))
                    if pair is None:
                        pair = ir.local(f"pairs{p.suffix}_{c}_{n}_{quads[0]}", "i32", LANES)
                        pairs[p.suffix, c, n] = pair
                        body.append(ir.Declare(pair.attr, products))
                    else:
                        body.append(ir.Assign(pair.attr, ir.add_pairs(pair, products)))
        for p, c in cartesian(rows, places):
            parts = []
            for n in range(DIGITS):
                factor = ir.splat(ir.const(BASE ** (DIGITS - 1 - n) * 0x00010001, "i32"))
                parts.append(ir.dot(pairs[p.suffix, c, n], factor))
            whole = ir.cast(ir.add(parts[0], ir.add(parts[1], parts[2])), "f32")
            total = _sum(p, c)
            if more:
                body.append(ir.Assign(total.attr, ir.add(total, whole)))
            else:
                body.append(ir.Declare(total.attr, whole))


def _sum(p: Point, c: int) -> ir.Expr:
    """The sum of the products with a block of codes, in units of x, lane by lane."""
    return ir.local(f"sum{p.suffix}_{c}", "f32", LANES)
