"""A Schedule: how a KernelSpec is turned into loops. Frozen, with a stable text form, e.g.

tile o1=6 o2=8; vector o2; order o2 o1; pack 1

tile A=T     T points of outer axis A are computed together, in registers
vector A     the points of A (or the iterations of a stage's last axis) go four at a time into vector lanes
order A B    grid axes from slowest to fastest; left out: the order of the spec
serial A=C   C tiles of axis A are looped over inside a task (0: all of them)
pack N       operand N (0 or 1) of the contraction is laid out in tile order first
pairs        the contraction, of integers that fit 16 bits, takes two terms of its sum at a time
unroll U     the innermost reduction loops, where they have at most U iterations together, are unrolled whole; else the
             innermost one is unrolled U times
sweep        a task's tiles take `unroll` rows of a reduction at a time, in the order of memory; see lower/sweep.py
winograd R   the tile's results, 2 or 4 along each axis of a convolution, by Winograd's method, which multiplies matrices
             with R rows, and columns as the tile has them, in registers
unpack HOW   the codes of coded weights (see lower/coded.py) become floats in registers, as `lanes` of vectors along the sum,
             or in scratch memory, a `panel` of columns for all rows, or stay `bytes`; unroll is then how many columns share
             loads
group N      N invocations of a workgroup (GPU) share the loops of each point of the outer axes
block R C M N K   R × C invocations of a workgroup (GPU) compute M × N results of a contraction each, from K terms of
             the sum at a time in workgroup memory
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..codegen_passes import Passes
from ..ir import LANES

MAX_CANDIDATES = 48
"""Schedules of a space: each costs time on the user's machine to make and to measure."""


@dataclass(frozen=True)
class Schedule:
    """Fields as the words of the text: see the module's docstring. Whether it fits a spec is for lowering to say, and for `legal`."""

    tiles: tuple[tuple[str, int], ...] = ()
    vector: str = ""
    order: tuple[str, ...] = ()
    serial: tuple[tuple[str, int], ...] = ()
    pack: tuple[int, ...] = ()
    unroll: int = 1
    group: int = 1
    block: tuple[int, ...] = ()
    pairs: bool = False
    sweep: bool = False
    winograd: int = 0
    unpack: str = ""

    def tile(self, axis: str) -> int:
        """Points of `axis` in a tile; 1 where nothing is said."""
        return next((t for a, t in self.tiles if a == axis), 1)

    def restricted(self, passes: Passes) -> Schedule:
        """Without what the passes that are off would do."""
        schedule = self
        if not passes.vectors:
            tiles = tuple((a, t) for a, t in schedule.tiles if a != schedule.vector)
            schedule = replace(schedule, tiles=tiles, vector="", pack=(), unpack="", winograd=0, sweep=False)
        if not passes.register_tiles:
            tiles = tuple((a, min(t, LANES)) for a, t in schedule.tiles if a == schedule.vector)
            schedule = replace(schedule, tiles=tiles, unpack="", winograd=0)
        if not passes.packing:
            schedule = replace(schedule, pack=())
        if not passes.unrolling:
            schedule = replace(schedule, unroll=1)
        return schedule

    def __str__(self) -> str:
        parts = []
        if self.tiles:
            parts.append("tile " + " ".join(f"{a}={t}" for a, t in self.tiles))
        if self.vector:
            parts.append(f"vector {self.vector}")
        if self.order:
            parts.append("order " + " ".join(self.order))
        if self.serial:
            parts.append("serial " + " ".join(f"{a}={c}" for a, c in self.serial))
        if self.pack:
            parts.append("pack " + " ".join(map(str, self.pack)))
        if self.pairs:
            parts.append("pairs")
        if self.unroll != 1:
            parts.append(f"unroll {self.unroll}")
        if self.group != 1:
            parts.append(f"group {self.group}")
        if self.block:
            parts.append("block " + " ".join(map(str, self.block)))
        if self.sweep:
            parts.append("sweep")
        if self.winograd:
            parts.append(f"winograd {self.winograd}")
        if self.unpack:
            parts.append(f"unpack {self.unpack}")
        return "; ".join(parts) or "plain"


def parse(text: str) -> Schedule:
    """The schedule that prints as `text`. Raises ValueError for anything else."""
    fields: dict = {}
    for part in text.split("; ") if text != "plain" else ():
        word, *rest = part.split(" ")
        if word in ("tile", "serial"):
            pairs = [r.split("=") for r in rest]
            fields["tiles" if word == "tile" else word] = tuple((a, int(t)) for a, t in pairs)
        elif word == "vector" and len(rest) == 1:
            fields["vector"] = rest[0]
        elif word == "order":
            fields["order"] = tuple(rest)
        elif word in ("pack", "block"):
            fields[word] = tuple(int(r) for r in rest)
        elif word in ("pairs", "sweep") and not rest:
            fields[word] = True
        elif word == "unpack" and rest in (["lanes"], ["bytes"], ["panel"]):
            fields[word] = rest[0]
        elif word in ("unroll", "group", "winograd") and len(rest) == 1:
            fields[word] = int(rest[0])
        else:
            raise ValueError(f"not a schedule: {text!r}")
    return Schedule(**fields)
