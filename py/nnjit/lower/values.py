"""Values of a spec at the points of a tile, as vectors or scalars.

A *point* is one position within a tile of the outer axes; all points of a tile are computed together, each with registers
of its own. Along the vector axis a point stands for four neighbours, the *lanes*. A value that is the same in all lanes
stays scalar and is splatted where it meets a vector; one that differs becomes a vector, by one vector load where its
elements are neighbours in memory, by loads and shuffles where they nearly are, else lane by lane.

`shift` below is where the iteration at hand stands on the axes of the stage; axes that it leaves out are loop variables.
"""

from __future__ import annotations

from .. import ir
from ..ir import LANES, VECTOR_DTYPES
from ..symbolic import var
from ..target import Target
from .packing import Packed
from .places import Origin, Place, Steps
from .shuffles import strided, transposed
from .spec import Index, KernelSpec, coefficient, expr_depends
from .tiling import Tiling

Shift = dict[str, Index]


class Point:
    """One position in the tile: outer axis → index, and the registers of the reductions there."""

    __slots__ = ("mapping", "offsets", "suffix", "memo", "depends_memo", "places", "combined")

    def __init__(self, mapping: dict[str, Index], suffix: str, offsets: dict[str, int] | None = None) -> None:
        self.mapping = mapping
        self.offsets = offsets or {}
        """Position within the tile along the axes that are tiled."""
        self.suffix = suffix
        self.memo: dict[tuple, ir.Expr] = {}
        self.depends_memo: dict[ir.Expr, bool] = {}
        self.places: dict[int | None, Place] = {}
        """For each lane, None for the point itself: what indices become there in the iteration at hand."""
        self.combined: set[str] = set()
        """Reductions whose lanes have been combined into one scalar."""

    def register(self, reduction: str, copy: int = 0) -> str:
        """Name of the local that holds a reduction here, or one of its copies while its terms are being collected."""
        return f"{reduction}{self.suffix}_{'h' if reduction in self.combined else copy}"


class PointValues:
    """Values at points. Whoever emits loops says when another stage (`enter_stage`) or iteration (`forget`) begins.

    vector_axis    the axis along which points have four lanes in the stage at hand; "" where all is scalar
    lanes_of       register → 1 or 4
    packed_loads   load → (the packed operand that is read in its place, element index there)
    """

    __slots__ = (
        "spec", "tiling", "target", "vector_axis", "lanes_of", "packed_loads", "_memo", "_origins", "_steps",
        "_varying", "_scopes",
    )  # fmt: skip

    def __init__(self, spec: KernelSpec, tiling: Tiling, target: Target) -> None:
        self.spec = spec
        self.tiling = tiling
        self.target = target
        self.vector_axis = tiling.vector
        self.lanes_of: dict[str, int] = {}
        self.packed_loads: dict[ir.Expr, tuple[Packed, Index]] = {}
        self._memo: dict[tuple, ir.Expr] = {}
        """Values of the iteration at hand that points share: see `_place_of`."""
        self._origins: dict[tuple[Index, ...], Origin] = {}
        """First points of tiles in the iteration at hand, by where they are."""
        self._steps = Steps(spec.symbols)
        self._varying: set[str] = set()
        """The vector axis, and the earlier stages' reductions that differ between the lanes."""
        self._scopes: dict[ir.Expr, tuple[str, ...] | None] = {}

    def enter_stage(self, vector_axis: str, points: list[Point]) -> None:
        """The vector axis may be another one from here on."""
        self.vector_axis = vector_axis
        self.forget(points)
        self._varying = set()
        for p in points:
            p.depends_memo = {}

    def forget(self, points: list[Point]) -> None:
        """Another iteration, another value of every expression."""
        self._memo, self._origins = {}, {}
        for p in points:
            p.memo, p.places = {}, {}

    def place(self, p: Point, shift: Shift, lane: int | None = None) -> Place:
        """What indices become at a point, or in a lane of it, in the iteration `shift`."""
        known = p.places.get(lane)
        if known is None:
            known = p.places[lane] = self._find_place(p, shift, lane)
        return known

    def _find_place(self, p: Point, shift: Shift, lane: int | None) -> Place:
        mapping = {**p.mapping, **shift}
        offsets = {axis: n for axis, n in p.offsets.items() if n}
        if lane:
            v = self.vector_axis
            mapping[v] = mapping.get(v, var(v)) + lane
            offsets[v] = offsets.get(v, 0) + lane
        first = {axis: at - offsets[axis] if axis in offsets else at for axis, at in mapping.items()}
        where = tuple(first.values())
        origin = self._origins.get(where)
        if origin is None:
            origin = self._origins[where] = Origin(first)
        return Place(origin, self._steps, offsets, mapping)

    def varies(self, e: ir.Expr, p: Point) -> bool:
        """Whether the value differs between the lanes."""
        if not self.vector_axis:
            return False
        known = p.depends_memo.get(e)
        if known is not None:
            return known
        if not self._varying:
            self._varying = {self.vector_axis}
            if self.vector_axis == self.tiling.vector:
                reduces = [r for s in self.spec.stages for r in s.reduces]
                self._varying |= {r.name for r in reduces if self.lanes_of.get(p.register(r.name)) == LANES}
        return expr_depends(e, self._varying, p.depends_memo)

    def value(self, e: ir.Expr, p: Point, shift: Shift) -> ir.Expr:
        """`e` at a point: a vector where it differs between lanes, else a scalar."""
        memo, key = self._place_of(e, p, "value")
        done = memo.get(key)
        if done is None:
            done = memo[key] = self._value(e, p, shift)
        return done

    def scalar(self, e: ir.Expr, p: Point, shift: Shift, lane: int | None = None) -> ir.Expr:
        """`e` at a point, or in a lane of it, as a scalar."""
        memo, key = self._place_of(e, p, lane)
        done = memo.get(key)
        if done is None:
            done = memo[key] = self._scalar(e, p, shift, lane)
        return done

    def _place_of(self, e: ir.Expr, p: Point, form: object) -> tuple[dict[tuple, ir.Expr], tuple]:
        """(where the value of `e` at a point is kept, its key): points that agree in the axes on which `e` depends share
        it, unless it reads their registers."""
        if e in self._scopes:
            axes = self._scopes[e]
        else:
            axes = self._scopes[e] = self._scope(e)
        if axes is None:
            return p.memo, (e, form)
        return self._memo, (e, form, *[p.mapping[axis] for axis in axes])

    def _scope(self, e: ir.Expr) -> tuple[str, ...] | None:
        """The outer axes on which a value depends; None when it reads registers."""
        if e.reads_locals:
            return None
        return tuple([axis for axis, _ in self.spec.outer if axis in e.names])

    def _value(self, e: ir.Expr, p: Point, shift: Shift) -> ir.Expr:
        if e.op == "const":
            return e
        if not self.varies(e, p):
            return self.scalar(e, p, shift)
        if e.op == "local":
            return ir.local(p.register(e.attr), e.dtype, LANES)
        packed = self.packed_loads.get(e)
        if packed is not None:
            return ir.load(packed[0].buffer, self.place(p, shift)(packed[1]), e.dtype, LANES)
        if e.op == "load":
            step = coefficient(e.attr[1], self.vector_axis)
            if isinstance(step, int) and step == 1 and e.dtype in VECTOR_DTYPES:
                return ir.load(e.attr[0], self.place(p, shift)(e.attr[1]), e.dtype, LANES)
            shuffled = self._shuffled(e, step, p, shift)
            if shuffled is not None:
                return shuffled
        if e.op in ("load", "index") or not _has_vector_form(e):
            return _packed_lanes([self.scalar(e, p, shift, lane) for lane in range(LANES)])
        return ir.rebuild(e, tuple([self.value(a, p, shift) for a in e.args]))

    def _shuffled(self, e: ir.Expr, step: Index | None, p: Point, shift: Shift) -> ir.Expr | None:
        """A load whose lanes are apart by `step`, from vector loads: along the vector axis, or along another axis of the
        tile where its elements are neighbours, four points of which then share four loads."""
        buffer, index = e.attr
        if step is None or e.dtype not in VECTOR_DTYPES or self.target.device != "wasm":
            return None
        if isinstance(step, int) and abs(step) <= 2:
            at = self.place(p, shift)(index)
            return strided(lambda n: ir.load(buffer, at + n, e.dtype, LANES), step)
        for axis, n in p.offsets.items():
            if (
                self.tiling.sizes[axis] % LANES == 0
                and axis != self.vector_axis
                and coefficient(index, axis) == 1
            ):
                first = n - n % LANES
                rows = []
                for lane in range(LANES):
                    at = self.place(p, shift, lane)(index) + (first - n)
                    rows.append(ir.load(buffer, at, e.dtype, LANES))
                return transposed(rows, n % LANES)
        return None

    def _scalar(self, e: ir.Expr, p: Point, shift: Shift, lane: int | None) -> ir.Expr:
        if e.op == "const":
            return e
        if e.op == "local":
            if lane is not None and self.varies(e, p):
                return ir.extract(ir.local(p.register(e.attr), e.dtype, LANES), lane)
            return ir.local(p.register(e.attr), e.dtype)
        if e.op == "index":
            return ir.index(self.place(p, shift, lane)(e.attr))
        packed = self.packed_loads.get(e)
        if packed or e.op == "load":
            buffer, index = (packed[0].buffer, packed[1]) if packed else e.attr
            return ir.load(buffer, self.place(p, shift, lane)(index), e.dtype)
        return ir.rebuild(e, tuple([self.scalar(a, p, shift, lane) for a in e.args]))


def _packed_lanes(values: list[ir.Expr]) -> ir.Expr:
    """Four scalars as one vector; bools as the lane mask."""
    a, b, c, d = (ir.cast(v, "i32") if v.dtype == "bool" else v for v in values)
    vector = ir.pack((a, b, c, d))
    return ir.binary("ne", vector, ir.const(0, "i32")) if values[0].dtype == "bool" else vector


def _has_vector_form(e: ir.Expr) -> bool:
    if e.dtype not in VECTOR_DTYPES or any(a.dtype not in VECTOR_DTYPES for a in e.args):
        return False
    if e.dtype in ("i32", "u32") and e.op in ("div", "rem"):
        return False
    return not (e.op == "cast" and "u32" in (e.dtype, e.args[0].dtype))
