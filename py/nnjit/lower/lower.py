"""KernelSpec × Schedule → loop IR.

Vocabulary. A *point* is one position within a tile of the outer axes; all points of a tile are computed together, each in
registers of its own (a vector register when the vector axis is among them). A *task* is one tile, or a serial run of them.

Tiles never have tails: the last tile of an axis is moved back to end with the axis, so it overlaps its neighbour and
writes some elements twice, with equal values. A tile is never larger than its axis; where the axis is a symbol, that
becomes a requirement on it (`Lowered.requires`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from itertools import product as cartesian

from .. import ir
from ..schedule.schedule import Schedule
from ..symbolic import (
    Substitution,
    ceildiv,
    floordiv,
    minimum,
    mod,
    product,
    substitute,
    values_of,
    var,
    variables,
)
from ..target import Target
from .mathlib import expander
from .pairs import paired
from .shuffles import strided, transposed
from .spec import (
    Index,
    KernelSpec,
    Reduce,
    Stage,
    StoreTo,
    coefficient,
    depends,
    expr_depends,
    index_substitution,
    nodes,
    substitute_expr,
    symbols_of,
)

LANES = 4
PRODUCTS = {"f32": ("mul",), "i32": ("mul", "dot")}
"""By dtype, what a term of a sum of products may be."""
IDENTITY = {"sum": 0, "prod": 1, "max": -math.inf, "min": math.inf, "pmax": -math.inf}
COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "pmax": "pmax"}
VECTOR_DTYPES = ("f32", "i32", "u32", "bool")


def least_extent(hint: int) -> int:
    """What a plan may require of a symbolic extent that is `hint` now: coarse steps, so that most sizes fit one plan."""
    return next(n for n in (8, 4, 2, 1) if n <= max(1, hint))


class Packed:
    """An operand in another form: `spec` fills it, from `source` and others made before, ahead of the kernel itself.

    `schedule` is how; None leaves that to the default for `spec`.
    """

    __slots__ = ("buffer", "storage", "elements", "spec", "source", "schedule")

    def __init__(
        self,
        buffer: str,
        storage: str,
        elements: Index,
        spec: KernelSpec,
        source: str,
        schedule: Schedule | None = None,
    ) -> None:
        self.buffer = buffer
        self.storage = storage
        self.elements = elements
        self.spec = spec
        self.source = source
        self.schedule = schedule


class Lowered:
    """A kernel, the packed operands that it reads (buffers after the spec's own), and (size, least value) requirements."""

    __slots__ = ("kernel", "packed", "requires")

    def __init__(self, kernel: ir.Kernel, packed: list[Packed], requires: list[tuple[Index, int]]) -> None:
        self.kernel = kernel
        self.packed = packed
        self.requires = requires


def lower(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel that `schedule` makes of `spec`. Raises ValueError where the schedule does not fit the spec."""
    if schedule.pairs:
        spec = paired(spec, schedule.pack)
    return _Lowering(spec, schedule, target, name).run()


def lower_inside(
    spec: KernelSpec, schedule: Schedule, target: Target, fixed: dict[str, Index], pack_name: str
) -> tuple[list[ir.Stmt], list[Packed], Collection[ir.Expr]]:
    """Statements that compute all points whose axes in `fixed` have those values, for a task of a larger kernel.

    Also the packed operands, their buffers' names starting with `pack_name`, and the loads that these replace.
    Intrinsics are left to `expand_body`.
    """
    lowering = _Lowering(spec, schedule, target, "")
    lowering.pack_name = pack_name
    return lowering.inside(fixed), lowering.packed, lowering.packed_loads


_Product = tuple[ir.Expr, ir.Expr, str, str]
"""(operand, operand, operation, name of the accumulator) of a multiply-add."""


class _Point:
    """One position in the tile: axis → index, and the registers of the reductions there."""

    __slots__ = ("mapping", "offsets", "suffix", "memo", "depends_memo", "places", "combined")

    def __init__(self, mapping: dict[str, Index], suffix: str, offsets: dict[str, int] | None = None) -> None:
        self.mapping = mapping
        self.offsets = offsets or {}
        """Position within the tile along the axes that are tiled."""
        self.suffix = suffix
        self.memo: dict[tuple, ir.Expr] = {}
        self.depends_memo: dict[ir.Expr, bool] = {}
        self.places: dict[int | None, Substitution] = {}
        """For each lane, None for the point itself: what indices become there in the iteration at hand."""
        self.combined: set[str] = set()
        """Reductions whose lanes have been combined into one scalar."""


class _Lowering:
    def __init__(self, spec: KernelSpec, schedule: Schedule, target: Target, name: str) -> None:
        self.spec = spec
        self.schedule = schedule
        self.target = target
        self.name = name
        self.requires: list[tuple[Index, int]] = []
        self.tiles: dict[str, int] = {}
        for axis, extent in spec.outer:
            tile = max(1, min(schedule.tile(axis), spec.hint(extent)))
            if tile > 1 and not isinstance(extent, int):
                least = least_extent(spec.hint(extent))
                tile = min(tile, least)
                self.requires.append((extent, least))
            self.tiles[axis] = tile
        if any(b.access == "rw" for b in spec.buffers):
            # A tile that overlaps its neighbour would read what the neighbour's task has already replaced.
            self.tiles = dict.fromkeys(self.tiles, 1)
        outer_vector = schedule.vector if schedule.vector in self.tiles else ""
        if outer_vector and (self.tiles[outer_vector] < LANES or not _vector_spec(spec)):
            outer_vector = ""
        self.outer_vector = outer_vector
        if outer_vector and self.tiles[outer_vector] % LANES:
            self.tiles[outer_vector] -= self.tiles[outer_vector] % LANES
        self.vector_axis = outer_vector
        self.bases: dict[str, Index] = {}
        self.lanes_of: dict[str, int] = {}
        self.lets: dict[ir.Expr, ir.Expr] = {}
        self.counter = 0
        self.pack_name = "p"
        self.packed: list[Packed] = []
        self.packed_loads: dict[ir.Expr, tuple[Packed, Index]] = {}
        self.memo: dict[tuple, ir.Expr] = {}
        """Values of the iteration at hand that points share: see `_memo`."""
        self.varying: set[str] = set()
        """The vector axis, and the earlier stages' reductions that differ between the lanes."""
        self.scopes: dict[ir.Expr, tuple[str, ...] | None] = {}

    # -- structure ----------------------------------------------------------------------------------------------

    def run(self) -> Lowered:
        spec = self.spec
        order = list(self.schedule.order) or [v for v, _ in spec.outer]
        if sorted(order) != sorted(v for v, _ in spec.outer):
            raise ValueError(f"order {order} does not name the outer axes of the kernel")
        serial = dict(self.schedule.serial)
        tasks: Index = 1
        body: list[ir.Stmt] = []
        inner: list[tuple[str, str, Index]] = []
        starts: dict[str, Index] = {}
        rest: Index = ir.TASK
        grid = [a for a in order if a not in serial or serial[a] > 0]
        for n, axis in enumerate(reversed(grid)):
            count = ceildiv(spec.extent(axis), self.tiles[axis])
            chunk = serial.get(axis, 1)
            steps = ceildiv(count, chunk)
            tasks = tasks * steps
            last = n == len(grid) - 1
            number = rest if last else mod(rest, steps)
            if steps == 1:
                number = 0
            if not last:
                rest = floordiv(rest, steps)
                if not isinstance(rest, int) and variables(rest) - {"task"} == set() and n + 2 < len(grid):
                    rest = self._bind(body, f"{axis}_q", rest)
            number = self._bind(body, f"{axis}_t", number)
            if chunk > 1:
                base = number * chunk
                run: Index = chunk
                if not (isinstance(count, int) and count % chunk == 0):
                    run = self._bind(body, f"{axis}_run", minimum(chunk, count - base))
                inner.append((axis, f"{axis}_c", run))
                number = base + var(f"{axis}_c")
            starts[axis] = number
        for axis in order:
            if serial.get(axis) == 0 and axis in serial:
                inner.append((axis, f"{axis}_c", ceildiv(spec.extent(axis), self.tiles[axis])))
                starts[axis] = var(f"{axis}_c")
        block = body
        for axis in order:
            for a, loop_var, run in inner:
                if a == axis:
                    loop = ir.For(loop_var, run, [])
                    block.append(loop)
                    block = loop.body
        self._tile(block, starts)
        buffers = list(spec.buffers)
        used = touched_buffers(spec.stages, self.packed_loads)
        for p in self.packed:
            buffers.append(ir.Buffer(p.buffer, p.storage, "r"))
        dropped = {p.source for p in self.packed} - used
        buffers = [b for b in buffers if b.name not in dropped]
        expand_body(body, self.target)
        kernel = ir.Kernel(self.name, buffers, spec.symbols, tasks, body)
        return Lowered(kernel, self.packed, self.requires)

    def inside(self, fixed: dict[str, Index]) -> list[ir.Stmt]:
        """Loops over all tiles of the axes that are not `fixed`, in the schedule's order."""
        body: list[ir.Stmt] = []
        block = body
        starts = dict(fixed)
        for axis in self.schedule.order or [v for v, _ in self.spec.outer]:
            if axis in fixed:
                continue
            count = ceildiv(self.spec.extent(axis), self.tiles[axis])
            starts[axis] = 0
            if count != 1:
                loop = ir.For(f"{axis}_c", count, [])
                block.append(loop)
                block = loop.body
                starts[axis] = var(f"{axis}_c")
        self._tile(block, starts)
        return body

    def _bind(self, body: list[ir.Stmt], name: str, e: Index) -> Index:
        """`e` under a name, so that it is computed once; constants and plain variables need none."""
        if isinstance(e, int) or str(e) in variables(e):
            return e
        body.append(ir.Declare(name, ir.index(e)))
        return var(name)

    def _tile(self, block: list[ir.Stmt], starts: dict[str, Index]) -> None:
        spec = self.spec
        bases = self.bases
        for axis, extent in spec.outer:
            tile = self.tiles[axis]
            start = starts[axis]
            if tile > 1:
                start = start * tile
                if not (isinstance(extent, int) and extent % tile == 0):
                    start = minimum(start, extent - tile)
            bases[axis] = self._bind(block, f"{axis}_b", start)
        self._plan_packs(starts)
        steps = []
        for axis, _ in spec.outer:
            step = LANES if axis == self.outer_vector else 1
            steps.append([(axis, off) for off in range(0, self.tiles[axis], step)])
        at = {(axis, off): bases[axis] + off for offsets in steps for axis, off in offsets}
        points = []
        for n, offsets in enumerate(cartesian(*steps)):
            mapping = {axis: at[axis, off] for axis, off in offsets}
            points.append(_Point(mapping, f"_{n}", dict(offsets)))
        for stage in spec.stages:
            self._stage(block, stage, points)

    def _stage(self, block: list[ir.Stmt], stage: Stage, points: list[_Point]) -> None:
        axes = list(stage.axes)
        inner_vector = bool(axes) and not self.outer_vector and self._vectorizes(stage, axes[-1][0])
        self.vector_axis = axes[-1][0] if inner_vector else self.outer_vector
        self._forget_stage(points)
        if not axes:
            self.lets = {}
            for p in points:
                self._store_all(block, stage.stores, p)
            return
        lanes = LANES if self.vector_axis else 1
        unroll = self.schedule.unroll
        copies = unroll if not self.outer_vector and len(points) * unroll <= 16 else 1
        for r in stage.reduces:
            for p in points:
                for copy in range(copies):
                    init = identity(r)
                    wide = lanes > 1 and (inner_vector or self._varies(r.value, p))
                    register = _register(r, p, copy)
                    self.lanes_of[register] = LANES if wide else 1
                    block.append(ir.Declare(register, ir.splat(init) if wide else init))
        whole = () if inner_vector else _whole(axes, unroll)
        body = block
        for v, d in axes[: -max(1, len(whole))]:
            loop = ir.For(v, d, [])
            body.append(loop)
            body = loop.body
        v, d = axes[-1]
        step = (LANES if inner_vector else 1) * unroll
        if whole:
            shifts: list[dict[str, Index]] = [dict(at) for at in cartesian(*whole)]
            self._iterations(body, stage, points, shifts, 1)
        else:
            self._main_loop(body, stage, points, v, d, step, copies)
            if inner_vector and step > LANES:
                body = self._vector_tail(body, stage, points, v, d, step)
        if inner_vector:
            self._reduce_lanes(block, stage, points, copies)
            self.vector_axis = ""
            self._forget_stage(points)
            done = d - mod(d, LANES)
            self._scalar_tail(block, stage, points, axes, done)
        elif step > 1 and not whole and not (isinstance(d, int) and d % step == 0):
            self._tail_loop(body, stage, points, v, d - mod(d, step), mod(d, step))
        if not inner_vector:
            self._combine_copies(block, stage, points, copies)

    def _forget_stage(self, points: list[_Point]) -> None:
        """The vector axis may be another one from here on."""
        self._forget_iteration(points)
        self.varying = set()
        for p in points:
            p.depends_memo = {}

    def _forget_iteration(self, points: list[_Point]) -> None:
        """Another iteration, another value of every expression."""
        self.memo = {}
        for p in points:
            p.memo, p.places = {}, {}

    def _main_loop(
        self,
        body: list[ir.Stmt],
        stage: Stage,
        points: list[_Point],
        v: str,
        d: Index,
        step: int,
        copies: int,
    ) -> None:
        count = floordiv(d, step)
        if isinstance(count, int) and count == 0:
            return
        lane_step = LANES if self.vector_axis == v else 1
        if step == 1:
            loop = ir.For(v, count, [])
            shifts: list[dict[str, Index]] = [{}]
        else:
            loop = ir.For(f"{v}_u", count, [])
            shifts = [{v: var(f"{v}_u") * step + n * lane_step} for n in range(step // lane_step)]
        body.append(loop)
        self._iterations(loop.body, stage, points, shifts, copies)

    def _vector_tail(
        self, body: list[ir.Stmt], stage: Stage, points: list[_Point], v: str, d: Index, step: int
    ) -> list[ir.Stmt]:
        """The whole vectors that unrolling left over."""
        done = d - mod(d, step)
        count = floordiv(d - done, LANES)
        if not (isinstance(count, int) and count == 0):
            loop = ir.For(f"{v}_w", count, [])
            body.append(loop)
            self._iterations(loop.body, stage, points, [{v: done + var(f"{v}_w") * LANES}], 1)
        return body

    def _scalar_tail(
        self,
        block: list[ir.Stmt],
        stage: Stage,
        points: list[_Point],
        axes: list[tuple[str, Index]],
        done: Index,
    ) -> None:
        v, d = axes[-1]
        left = d - done
        if isinstance(left, int) and left == 0:
            return
        body = block
        for outer_v, outer_d in axes[:-1]:
            loop = ir.For(outer_v, outer_d, [])
            body.append(loop)
            body = loop.body
        self._tail_loop(body, stage, points, v, done, left)

    def _tail_loop(
        self, body: list[ir.Stmt], stage: Stage, points: list[_Point], v: str, done: Index, left: Index
    ) -> None:
        loop = ir.For(f"{v}_s", left, [])
        body.append(loop)
        self._iterations(loop.body, stage, points, [{v: done + var(f"{v}_s")}], 1)

    def _iterations(
        self,
        body: list[ir.Stmt],
        stage: Stage,
        points: list[_Point],
        shifts: list[dict[str, Index]],
        copies: int,
    ) -> None:
        """One or several iterations of the innermost loop, for every point; equal loads are done once."""
        self.lets = {}
        products: list[_Product] = []
        for n, shift in enumerate(shifts):
            self._forget_iteration(points)
            for p in points:
                for r in stage.reduces:
                    self._accumulate(body, r, p, shift, n % copies, products)
                if stage.stores:
                    self._multiply_add(body, products)
                    products = []
                for w in stage.stores:
                    self._store(body, w, p, shift)
        self._multiply_add(body, products)

    def _multiply_add(self, body: list[ir.Stmt], products: list[_Product]) -> None:
        """Add the products up, operand by operand of the side that has more of them.

        Each of these is loaded, used wherever it is needed, and dropped; only the operands of the other side stay in
        registers. In any other order a wide tile, or the elements that the taps of a window share, would not fit.
        """
        first = len({x for x, *_ in products}) >= len({y for _, y, *_ in products})
        users: dict[ir.Expr, list[_Product]] = {}
        for one in products:
            users.setdefault(one[0] if first else one[1], []).append(one)
        for group in users.values() if self.target.passes.streaming else [products]:
            for x, y, op, register in group:
                a, b = self._shared(body, x), self._shared(body, y)
                old = ir.local(register, x.dtype, self.lanes_of[register])
                if x.dtype == "f32":
                    more = ir.fma(a, b, old)
                else:
                    more = ir.add(old, ir.dot(a, b) if op == "dot" else ir.mul(a, b))
                body.append(ir.Assign(register, more))

    def _accumulate(
        self,
        body: list[ir.Stmt],
        r: Reduce,
        p: _Point,
        shift: dict[str, Index],
        copy: int,
        products: list[_Product],
    ) -> None:
        register = _register(r, p, copy)
        if r.combine == "sum" and r.value.op in PRODUCTS.get(r.value.dtype, ()):
            a, b = (self._value(x, p, shift) for x in r.value.args)
            if max(a.lanes, b.lanes) == LANES:
                a, b = ir.splat(a), ir.splat(b)
            products.append((a, b, r.value.op, register))
            return
        value = self._value(r.value, p, shift)
        old = ir.local(register, r.value.dtype, self.lanes_of[register])
        body.append(ir.Assign(register, ir.binary(COMBINE[r.combine], old, value)))

    def _shared(self, body: list[ir.Stmt], e: ir.Expr) -> ir.Expr:
        """A load (splatted or not) that several points use goes into a local of its own."""
        core = e.args[0] if e.op == "splat" else e
        if core.op != "load" and core.op != "cast":
            return e
        known = self.lets.get(e)
        if known is None:
            name = f"x{self.counter}"
            self.counter += 1
            body.append(ir.Declare(name, e))
            known = self.lets[e] = ir.local(name, e.dtype, e.lanes)
        return known

    def _reduce_lanes(self, block: list[ir.Stmt], stage: Stage, points: list[_Point], copies: int) -> None:
        """Combine the copies and the lanes of every vector accumulator into the scalar that later stages read."""
        for r in stage.reduces:
            op = COMBINE[r.combine]
            for p in points:
                name = f"{r.name}{p.suffix}_v"
                block.append(ir.Declare(name, _combined(r, p, copies, LANES)))
                wide = ir.local(name, r.value.dtype, LANES)
                pairs = ir.binary(op, wide, ir.shuffle(wide, wide, (2, 3, 0, 1)))
                p.combined.add(r.name)
                register = _register(r, p, 0)
                self.lanes_of[register] = 1
                total = ir.binary(op, pairs, ir.shuffle(pairs, pairs, (1, 0, 3, 2)))
                block.append(ir.Declare(register, ir.extract(total, 0)))

    @staticmethod
    def _combine_copies(block: list[ir.Stmt], stage: Stage, points: list[_Point], copies: int) -> None:
        if copies > 1:
            for r in stage.reduces:
                for p in points:
                    block.append(ir.Assign(_register(r, p, 0), _combined(r, p, copies, 1)))

    # -- values -------------------------------------------------------------------------------------------------

    def _store_all(self, block: list[ir.Stmt], stores: list[StoreTo], p: _Point) -> None:
        """The stores of a stage without axes; those under one condition together, with every value known before."""
        if all(w.condition is None for w in stores):
            for w in stores:
                self._store(block, w, p, {})
            return
        groups: dict[ir.Expr | None, list[ir.Stmt]] = {None: []}
        for w in stores:
            value = self._value(w.value, p, {})
            name = f"x{self.counter}"
            self.counter += 1
            block.append(ir.Declare(name, value))
            held = ir.local(name, value.dtype, value.lanes)
            self._store(groups.setdefault(w.condition, []), w, p, {}, held)
        block.extend(groups.pop(None))
        for condition, body in groups.items():
            assert condition is not None
            block.append(ir.If(self._scalar(condition, p, {}), body, []))

    def _store(
        self,
        body: list[ir.Stmt],
        w: StoreTo,
        p: _Point,
        shift: dict[str, Index],
        value: ir.Expr | None = None,
    ) -> None:
        if value is None:
            value = self._value(w.value, p, shift)
        at = self._place(p, shift)
        v = self.vector_axis
        if not v or not (depends(w.index, v) or value.lanes == LANES):
            body.append(ir.Store(w.buffer, at(w.index), value))
            return
        if coefficient(w.index, v) == 1 and value.dtype in VECTOR_DTYPES:
            body.append(ir.Store(w.buffer, at(w.index), ir.splat(value)))
            return
        if value.op != "local" and value.lanes == LANES:
            name = f"x{self.counter}"
            self.counter += 1
            body.append(ir.Declare(name, value))
            value = ir.local(name, value.dtype, LANES)
        for lane in range(LANES):
            element = ir.extract(value, lane) if value.lanes == LANES else value
            body.append(ir.Store(w.buffer, self._place(p, shift, lane)(w.index), element))

    def _place(self, p: _Point, shift: dict[str, Index], lane: int | None = None) -> Substitution:
        """What indices become at a point, or in a lane of it, in the iteration `shift`."""
        known = p.places.get(lane)
        if known is None:
            mapping = {**p.mapping, **shift}
            if lane is not None:
                v = self.vector_axis
                mapping[v] = mapping.get(v, var(v)) + lane
            known = p.places[lane] = index_substitution(mapping)
        return known

    def _varies(self, e: ir.Expr, p: _Point) -> bool:
        """Whether the value differs between the lanes."""
        if not self.vector_axis:
            return False
        known = p.depends_memo.get(e)
        if known is not None:
            return known
        if not self.varying:
            self.varying = {self.vector_axis}
            if self.vector_axis == self.outer_vector:
                reduces = [r for s in self.spec.stages for r in s.reduces]
                self.varying |= {r.name for r in reduces if self.lanes_of.get(_register(r, p, 0)) == LANES}
        return expr_depends(e, self.varying, p.depends_memo)

    def _value(self, e: ir.Expr, p: _Point, shift: dict[str, Index]) -> ir.Expr:
        """`e` at a point: a vector where it differs between lanes, else a scalar."""
        memo, key = self._memo(e, p, "value")
        done = memo.get(key)
        if done is None:
            done = memo[key] = self._compute(e, p, shift)
        return done

    def _memo(self, e: ir.Expr, p: _Point, form: object) -> tuple[dict[tuple, ir.Expr], tuple]:
        """(where the value of `e` at a point is kept, its key): points that agree in the axes on which `e` depends share
        it, unless it reads their registers."""
        if e in self.scopes:
            axes = self.scopes[e]
        else:
            axes = self.scopes[e] = self._scope(e)
        if axes is None:
            return p.memo, (e, form)
        return self.memo, (e, form, *[p.mapping[axis] for axis in axes])

    def _scope(self, e: ir.Expr) -> tuple[str, ...] | None:
        """The outer axes on which a value depends; None when it reads registers."""
        if e.reads_locals:
            return None
        return tuple([axis for axis, _ in self.spec.outer if axis in e.names])

    def _compute(self, e: ir.Expr, p: _Point, shift: dict[str, Index]) -> ir.Expr:
        if e.op == "const":
            return e
        if not self._varies(e, p):
            return self._scalar(e, p, shift)
        if e.op == "local":
            return self._register_of(e, p, LANES)
        packed = self.packed_loads.get(e)
        if packed is not None:
            return ir.load(packed[0].buffer, self._place(p, shift)(packed[1]), e.dtype, LANES)
        if e.op == "load":
            step = coefficient(e.attr[1], self.vector_axis)
            if isinstance(step, int) and step == 1 and e.dtype in VECTOR_DTYPES:
                return ir.load(e.attr[0], self._place(p, shift)(e.attr[1]), e.dtype, LANES)
            shuffled = self._shuffled(e, step, p, shift)
            if shuffled is not None:
                return shuffled
        if e.op in ("load", "index") or not _has_vector_form(e):
            return _packed_lanes([self._scalar(e, p, shift, lane) for lane in range(LANES)])
        return ir.rebuild(e, tuple([self._value(a, p, shift) for a in e.args]))

    def _shuffled(self, e: ir.Expr, step: Index | None, p: _Point, shift: dict[str, Index]) -> ir.Expr | None:
        """A load whose lanes are apart by `step`, from vector loads: along the vector axis, or along another axis of the
        tile where its elements are neighbours, four points of which then share four loads."""
        buffer, index = e.attr
        if step is None or e.dtype not in VECTOR_DTYPES or self.target.device != "wasm":
            return None
        if isinstance(step, int) and abs(step) <= 2:
            at = self._place(p, shift)(index)
            return strided(lambda n: ir.load(buffer, at + n, e.dtype, LANES), step)
        for axis, n in p.offsets.items():
            if self.tiles[axis] % LANES == 0 and axis != self.vector_axis and coefficient(index, axis) == 1:
                first = n - n % LANES
                rows = []
                for lane in range(LANES):
                    at = self._place(p, shift, lane)(index) + (first - n)
                    rows.append(ir.load(buffer, at, e.dtype, LANES))
                return transposed(rows, n % LANES)
        return None

    def _scalar(self, e: ir.Expr, p: _Point, shift: dict[str, Index], lane: int | None = None) -> ir.Expr:
        memo, key = self._memo(e, p, lane)
        done = memo.get(key)
        if done is None:
            done = memo[key] = self._scalar_value(e, p, shift, lane)
        return done

    def _scalar_value(self, e: ir.Expr, p: _Point, shift: dict[str, Index], lane: int | None) -> ir.Expr:
        if e.op == "const":
            return e
        if e.op == "local":
            wide = lane is not None and self._varies(e, p)
            register = self._register_of(e, p, LANES if wide else 1)
            return ir.extract(register, lane) if wide else register  # type: ignore[arg-type]
        if e.op == "index":
            return ir.index(self._place(p, shift, lane)(e.attr))
        packed = self.packed_loads.get(e)
        if packed or e.op == "load":
            buffer, index = (packed[0].buffer, packed[1]) if packed else e.attr
            return ir.load(buffer, self._place(p, shift, lane)(index), e.dtype)
        return ir.rebuild(e, tuple([self._scalar(a, p, shift, lane) for a in e.args]))

    def _register_of(self, e: ir.Expr, p: _Point, lanes: int) -> ir.Expr:
        """The register that holds reduction `e` at a point."""
        suffix = "h" if e.attr in p.combined else "0"
        return ir.local(f"{e.attr}{p.suffix}_{suffix}", e.dtype, lanes)

    def _vectorizes(self, stage: Stage, axis: str) -> bool:
        """Whether running four iterations of `axis` at once pays: most loads touch neighbours along it."""
        if self.schedule.vector != "inner" or self.target.device != "wasm":
            return False
        good = bad = 0
        for r in stage.reduces:
            if r.value.dtype not in ("f32", "i32"):
                return False
        for e in _loads(stage):
            step = coefficient(e.attr[1], axis)
            if step is None or not (isinstance(step, int) and step in (0, 1)):
                bad += 1
            else:
                good += step == 1
        for w in stage.stores:
            if coefficient(w.index, axis) != 1 or not _vector_dtype(w.value):
                return False
        return good > bad

    # -- packing ------------------------------------------------------------------------------------------------

    def _plan_packs(self, starts: dict[str, Index]) -> None:
        if not self.schedule.pack:
            return
        operands = self.spec.operands
        if operands is None or not self.outer_vector:
            raise ValueError("pack needs a contraction with a vector axis among its outer axes")
        axis = self.outer_vector
        tile = self.tiles[axis]
        for number in self.schedule.pack:
            load = operands[number]
            while load.op == "cast":
                load = load.args[0]
            buffer = next(x.attr[0] for x in nodes(load) if x.op == "load")
            source = next(b for b in self.spec.buffers if b.name == buffer)
            storage = source.storage if load.op == "load" else load.dtype
            outer = [(v, d) for v, d in self.spec.outer if v != axis and expr_depends(load, {v}, {})]
            inner = [(v, d) for v, d in self.spec.stages[0].axes if expr_depends(load, {v}, {})]
            tiled = expr_depends(load, {axis}, {})
            if tiled:
                extent = self.spec.extent(axis)
                axes = [*outer, (f"{axis}_p", ceildiv(extent, tile)), *inner, (axis, tile)]
                start: Index = var(f"{axis}_p") * tile
                if not (isinstance(extent, int) and extent % tile == 0):
                    start = minimum(start, extent - tile)
                value = substitute_expr(load, {axis: start + var(axis)})
            else:
                axes = [*outer, *inner]
                value = load
            linear: Index = 0
            for v, d in axes:
                linear = linear * d + var(v)
            name = f"{self.pack_name}{number}"
            stages = [Stage((), [], [StoreTo(name, linear, value)])]
            touched = touched_buffers(stages)
            spec = KernelSpec(
                tuple(axes),
                stages,
                [
                    *(ir.Buffer(b.name, b.storage, "r") for b in self.spec.buffers if b.name in touched),
                    ir.Buffer(name, storage, "w"),
                ],
                self.spec.hints,
                self.spec.bounds,
            )
            spec.symbols = symbols_of(spec)
            packed = Packed(name, storage, product([d for _, d in axes]), spec, buffer)
            self.packed.append(packed)
            if tiled:
                # Within a tile, axis = base + offset: the packed position is that of the tile, plus the offset.
                within = {f"{axis}_p": starts[axis], axis: var(axis) - self.bases[axis]}
                linear = substitute(linear, within)
            self.packed_loads[load] = packed, linear


def _whole(axes: list[tuple[str, Index]], unroll: int) -> list[list[tuple[str, Index]]]:
    """The last axes whose iterations together are no more than `unroll`, each as its (axis, index) pairs."""
    found: list[list[tuple[str, Index]]] = []
    count = 1
    for v, d in reversed(axes):
        if not isinstance(d, int) or count * d > unroll:
            break
        count *= d
        found.insert(0, [(v, n) for n in range(d)])
    return found


def touched_buffers(stages: list[Stage], skip: Collection[ir.Expr] = ()) -> set[str]:
    """Buffers that the stages read, in indices too, or write; loads in `skip` do not count."""
    found: set[str] = set()
    seen: set[ir.Expr] = set(skip)

    def walk(e: ir.Expr) -> None:
        if e in seen:
            return
        seen.add(e)
        if e.op == "load":
            found.add(e.attr[0])
            walk_index(e.attr[1])
        elif e.op == "index":
            walk_index(e.attr)
        for a in e.args:
            walk(a)

    def walk_index(i: Index) -> None:
        for value in values_of(i):
            walk(value)

    for s in stages:
        for r in s.reduces:
            walk(r.value)
        for w in s.stores:
            found.add(w.buffer)
            walk_index(w.index)
            walk(w.value)
    return found


def _register(r: Reduce, p: _Point, copy: int) -> str:
    return f"{r.name}{p.suffix}_{'h' if r.name in p.combined else copy}"


def _combined(r: Reduce, p: _Point, copies: int, lanes: int) -> ir.Expr:
    """The copies of an accumulator put together pairwise, which loses less to rounding than one after the other."""
    parts = [ir.local(_register(r, p, copy), r.value.dtype, lanes) for copy in range(copies)]
    while len(parts) > 1:
        parts = [
            ir.binary(COMBINE[r.combine], *parts[n : n + 2]) if n + 1 < len(parts) else parts[n]
            for n in range(0, len(parts), 2)
        ]
    return parts[0]


def identity(r: Reduce) -> ir.Expr:
    """What a reduction starts from."""
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


def _vector_spec(spec: KernelSpec) -> bool:
    """Whether every value that is reduced or stored fits a vector lane."""
    values = [r.value for s in spec.stages for r in s.reduces]
    values += [w.value for s in spec.stages for w in s.stores]
    return all(v.dtype in VECTOR_DTYPES for v in values)


def expand_body(body: list[ir.Stmt], target: Target) -> None:
    """Replace intrinsics that the target lacks, in place."""
    _expand_body(body, expander(target))


def _expand_body(body: list[ir.Stmt], expand: Callable[[ir.Expr], ir.Expr]) -> None:
    for s in body:
        if isinstance(s, ir.Declare):
            s.init = expand(s.init)
        elif isinstance(s, (ir.Assign, ir.Store)):
            s.value = expand(s.value)
        elif isinstance(s, ir.For):
            _expand_body(s.body, expand)
        elif isinstance(s, ir.If):
            s.condition = expand(s.condition)
            _expand_body(s.then, expand)
            _expand_body(s.orelse, expand)


def _vector_dtype(e: ir.Expr) -> bool:
    return e.dtype in VECTOR_DTYPES


def _loads(stage: Stage) -> list[ir.Expr]:
    return [e for e in nodes(*stage.values()) if e.op == "load"]


__all__ = ["Lowered", "Packed", "lower", "lower_inside", "touched_buffers"]
