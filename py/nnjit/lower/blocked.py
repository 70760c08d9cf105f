"""KernelSpec → loop IR for a GPU workgroup that computes a block of a sum of products (matmul, convolution).

The row axes of the contraction (those that only one operand varies along) are taken together as one, so are the column
axes and the reduction axes: a convolution becomes a matrix product whose operands are gathered as they are needed. A
workgroup of R × C invocations computes a block of R·M rows × C·N columns, each invocation M × N of them in registers.
K terms of the sum at a time are brought into workgroup memory by all invocations, four neighbours at once, then used by
all: an element of an operand is read from global memory once for each block instead of once for each result.

Past the end of the rows or columns the last ones are computed again, to equal values; past the end of the sum both
operands are zero. So nothing depends on what the block's sizes divide, and the sizes may be symbols.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import ir
from ..ir import LANES, VECTOR_DTYPES
from ..schedule.schedule import Schedule
from ..symbolic import ceildiv, floordiv, minimum, mod, product, var
from ..target import Target
from .loops import bind, decode
from .lower import Lowered
from .mathlib import expand_body
from .spec import Axes, Index, KernelSpec, coefficient, depends, substitute_expr, symbols_of
from .stages import StageLoops
from .tiling import Tiling
from .values import Point

DTYPES = ("f32", "i32")

_Element = Callable[[list[ir.Stmt], Index], tuple[Index, ir.Expr]]


class Roles:
    """The axes of a contraction by what varies along them, and its operands: `left` along rows, `right` along columns."""

    __slots__ = ("batch", "rows", "columns", "inner", "left", "right")

    def __init__(self, spec: KernelSpec, left: ir.Expr, right: ir.Expr) -> None:
        on_left = [depends(ir.uncast(left).attr[1], v) for v, _ in spec.outer]
        on_right = [depends(ir.uncast(right).attr[1], v) for v, _ in spec.outer]
        sides = list(zip(spec.outer, on_left, on_right, strict=True))
        self.rows: Axes = tuple(axis for axis, a, b in sides if a and not b)
        self.columns: Axes = tuple(axis for axis, a, b in sides if b and not a)
        self.batch: Axes = tuple(axis for axis, a, b in sides if a == b)
        self.inner: Axes = spec.stages[0].axes
        self.left = left
        self.right = right


def roles_of(spec: KernelSpec) -> Roles | None:
    """The roles in `spec`, results contiguous along the columns where they are; None where blocks do not fit it."""
    operands = spec.contraction
    if (
        operands is None
        or any(s.axes for s in spec.stages[1:])
        or any(b.access == "rw" for b in spec.buffers)
        or spec.stages[0].reduces[0].value.dtype not in DTYPES
    ):
        return None
    left, right = operands
    store = next(w for s in reversed(spec.stages) for w in s.stores)
    roles = Roles(spec, left, right)
    if any(coefficient(store.index, v) == 1 for v, _ in roles.rows[-1:]):
        roles = Roles(spec, right, left)
    return roles if roles.rows and roles.columns else None


def shared_bytes(block: tuple[int, ...]) -> int:
    """Workgroup memory that a block needs."""
    r, c, m, n, k = block
    return 4 * k * (r * m + c * n)


def lower_blocked(spec: KernelSpec, schedule: Schedule, target: Target, name: str = "kernel") -> Lowered:
    """The kernel that computes `spec` in blocks of `schedule.block`.

    Raises ValueError where the spec is no contraction with rows and columns, or the device has not what a block needs.
    """
    roles = roles_of(spec)
    block = schedule.block
    if roles is None:
        raise ValueError("blocks need a sum of products with rows and columns")
    if len(block) != 5 or min(block) < 1 or block[3] % LANES or block[4] % LANES:
        raise ValueError(f"block {block} is not rows, columns, and M × N results, K terms, N and K in fours")
    if block[0] * block[1] > target.max_workgroup or shared_bytes(block) > target.shared_bytes:
        raise ValueError(f"block {block} needs more invocations or workgroup memory than the device has")
    return _Blocked(spec, roles, schedule, target, name).run()


class _Blocked:
    def __init__(self, spec: KernelSpec, roles: Roles, schedule: Schedule, target: Target, name: str) -> None:
        column, extent = roles.columns[-1]
        whole = isinstance(extent, int) and extent % LANES == 0
        tiled = Schedule(tiles=((column, LANES),), vector=column) if whole else Schedule()
        self.spec = spec
        self.target = target
        self.name = name
        self.tiling = Tiling(spec, tiled)
        self.stages = StageLoops(spec, tiled, target, self.tiling)
        self.roles = roles
        self.group = schedule.block[0] * schedule.block[1]
        self.across, self.m, self.n, self.k = schedule.block[1:]
        self.height = schedule.block[0] * self.m
        self.width = schedule.block[1] * self.n
        self.dtype = spec.stages[0].reduces[0].value.dtype
        self.rows = product([d for _, d in roles.rows])
        self.columns = product([d for _, d in roles.columns])
        self.terms = product([d for _, d in roles.inner])

    def run(self) -> Lowered:
        spec, roles = self.spec, self.roles
        body: list[ir.Stmt] = []
        across, down = ceildiv(self.columns, self.width), ceildiv(self.rows, self.height)
        rest = bind(body, "block", floordiv(ir.TASK, across))
        first_column = bind(body, "column", mod(ir.TASK, across) * self.width)
        first_row = bind(body, "row", mod(rest, down) * self.height)
        batch = decode(body, floordiv(rest, down), roles.batch, "")
        accumulators = self._accumulators(body)
        loop = ir.For("chunk", ceildiv(self.terms, self.k), [])
        body.append(loop)
        self._fill_left(loop.body, batch, first_row)
        self._fill_right(loop.body, batch, first_column)
        loop.body.append(ir.Barrier())
        self._multiply(loop.body, accumulators)
        loop.body.append(ir.Barrier())
        points = self._points(body, batch, first_row, first_column, accumulators)
        for stage in spec.stages[1:]:
            self.stages.lower(body, stage, points)
        expand_body(body, self.target)
        shared = [("left", self.dtype, self.height * self.k), ("right", self.dtype, self.width * self.k)]
        tasks = product([d for _, d in roles.batch]) * across * down
        kernel = ir.Kernel(self.name, list(spec.buffers), symbols_of(spec), tasks, body, self.group, shared)
        return Lowered(kernel, [], self.tiling.requires)

    def _accumulators(self, body: list[ir.Stmt]) -> dict[tuple[int, int], ir.Expr]:
        """A vector for each row and each four columns of an invocation."""
        found = {}
        for i in range(self.m):
            for j in range(self.n // LANES):
                name = f"sum_{i}_{j}"
                body.append(ir.Declare(name, ir.splat(ir.const(0, self.dtype))))
                found[i, j] = ir.local(name, self.dtype, LANES)
        return found

    # -- workgroup memory: left is rows × K, right is K × columns -----------------------------------------------

    def _fill_left(self, body: list[ir.Stmt], batch: dict[str, Index], first_row: Index) -> None:
        per_row = self.k // LANES

        def element(inner: list[ir.Stmt], number: Index) -> tuple[Index, ir.Expr]:
            row = bind(inner, "l_row", floordiv(number, per_row))
            term = bind(inner, "l_term", mod(number, per_row) * LANES)
            at = _within(first_row + row, self.rows, self.height)
            fixed = batch | decode(inner, bind(inner, "l_at", at), self.roles.rows, "_l")
            start = bind(inner, "l_start", var("chunk") * self.k + term)
            value = self._four(
                inner, self.roles.left, self.roles.inner, start, self.terms, self.k, fixed, "_l"
            )
            return row * self.k + term, value

        self._fill(body, "left", self.height * per_row, element)

    def _fill_right(self, body: list[ir.Stmt], batch: dict[str, Index], first_column: Index) -> None:
        per_term = self.width // LANES

        def element(inner: list[ir.Stmt], number: Index) -> tuple[Index, ir.Expr]:
            term = bind(inner, "r_term", floordiv(number, per_term))
            column = bind(inner, "r_column", mod(number, per_term) * LANES)
            at: Index = var("chunk") * self.k + term
            within = None
            if not _divides(self.k, self.terms):
                within = ir.binary("lt", ir.index(at), ir.index(self.terms))
                at = minimum(at, self.terms - 1)
            fixed = batch | decode(inner, bind(inner, "r_at", at), self.roles.inner, "_r")
            start = bind(inner, "r_start", first_column + column)
            value = self._four(
                inner, self.roles.right, self.roles.columns, start, self.columns, self.width, fixed, "_r"
            )
            if within is not None:
                value = ir.select(within, value, ir.const(0, self.dtype))
            return term * self.width + column, value

        self._fill(body, "right", self.k * per_term, element)

    def _fill(self, body: list[ir.Stmt], shared: str, vectors: int, element: _Element) -> None:
        """Share out `vectors` vectors of workgroup memory; `element` says of a number (place, value)."""
        turns, left = divmod(vectors, self.group)
        if turns:
            loop = ir.For("turn", turns, [])
            at, value = element(loop.body, ir.LANE + var("turn") * self.group)
            loop.body.append(ir.Store(shared, at, value))
            body.append(loop)
        if left:
            some = ir.If(ir.binary("lt", ir.index(ir.LANE), ir.const(left, "i32")), [], [])
            at, value = element(some.then, ir.LANE + turns * self.group)
            some.then.append(ir.Store(shared, at, value))
            body.append(some)

    def _four(
        self,
        body: list[ir.Stmt],
        operand: ir.Expr,
        axes: Axes,
        start: Index,
        total: Index,
        size: int,
        fixed: dict[str, Index],
        suffix: str,
    ) -> ir.Expr:
        """Four neighbours of `operand` from position `start`, a multiple of 4, of the flattened `axes`.

        `size` positions of `total` are a block. Past the end of the reduction axes they are zero, else any.
        """
        axis, extent = axes[-1]
        zero = axes is self.roles.inner and not _divides(size, total)

        def or_zero(value: ir.Expr, at: Index) -> ir.Expr:
            inside = ir.binary("lt", ir.index(at), ir.index(total))
            return ir.select(inside, value, ir.const(0, self.dtype)) if zero else value

        if isinstance(extent, int) and extent % LANES == 0:
            at = bind(body, f"first{suffix}", _within(start, total, size, LANES))
            mapping = fixed | decode(body, at, axes, suffix + "v")
            return or_zero(_neighbours(operand, axis, mapping), start)
        lanes = []
        for lane in range(LANES):
            at = bind(body, f"at{lane}{suffix}", _within(start + lane, total, size))
            mapping = fixed | decode(body, at, axes, f"{suffix}{lane}")
            lanes.append(or_zero(substitute_expr(operand, mapping), start + lane))
        return ir.pack((lanes[0], lanes[1], lanes[2], lanes[3]))

    # -- registers ----------------------------------------------------------------------------------------------

    def _multiply(self, body: list[ir.Stmt], accumulators: dict[tuple[int, int], ir.Expr]) -> None:
        """Add the products of the terms in workgroup memory; vectors of the left hold terms, of the right columns."""
        row = floordiv(ir.LANE, self.across) * self.m
        column = mod(ir.LANE, self.across) * LANES
        loop = ir.For("quad", self.k // LANES, [])
        body.append(loop)
        lefts = []
        for i in range(self.m):
            at = (row + i) * self.k + var("quad") * LANES
            loop.body.append(ir.Declare(f"a{i}", ir.load("left", at, self.dtype, LANES)))
            lefts.append(ir.local(f"a{i}", self.dtype, LANES))
        for term in range(LANES):
            for j in range(self.n // LANES):
                at = (var("quad") * LANES + term) * self.width + column + j * self.across * LANES
                name = f"b{term}_{j}"
                loop.body.append(ir.Declare(name, ir.load("right", at, self.dtype, LANES)))
                right = ir.local(name, self.dtype, LANES)
                for i in range(self.m):
                    left = ir.splat(ir.extract(lefts[i], term))
                    total = accumulators[i, j]
                    more = (
                        ir.fma(left, right, total)
                        if self.dtype == "f32"
                        else ir.add(total, ir.mul(left, right))
                    )
                    loop.body.append(ir.Assign(total.attr, more))

    def _points(
        self,
        body: list[ir.Stmt],
        batch: dict[str, Index],
        first_row: Index,
        first_column: Index,
        accumulators: dict[tuple[int, int], ir.Expr],
    ) -> list[Point]:
        """The results of an invocation: vectors of four columns where rows of columns divide into such, else scalars."""
        rows = []
        for i in range(self.m):
            at = _within(first_row + floordiv(ir.LANE, self.across) * self.m + i, self.rows, self.height)
            rows.append(decode(body, bind(body, f"row{i}", at), self.roles.rows, f"_{i}"))
        column = first_column + mod(ir.LANE, self.across) * LANES
        step = LANES if self.tiling.vector else 1
        points = []
        for j in range(self.n // LANES):
            for lane in range(0, LANES, step):
                number = j * LANES + lane
                at = _within(column + j * self.across * LANES + lane, self.columns, self.width, step)
                at = bind(body, f"column{number}", at)
                columns = decode(body, at, self.roles.columns, f"_c{number}")
                for i in range(self.m):
                    point = Point(batch | rows[i] | columns, f"_{i}_{number}")
                    register = point.register(self.spec.stages[0].reduces[0].name)
                    total = accumulators[i, j]
                    body.append(
                        ir.Declare(register, total if self.tiling.vector else ir.extract(total, lane))
                    )
                    self.stages.values.lanes_of[register] = step
                    points.append(point)
        return points


def _divides(size: int, total: Index) -> bool:
    return isinstance(total, int) and total % size == 0


def _within(at: Index, total: Index, size: int, step: int = 1) -> Index:
    """`at`, or the last `step` positions of `total` where blocks of `size` reach past its end."""
    return at if _divides(size, total) else minimum(at, total - step)


def _neighbours(operand: ir.Expr, axis: str, mapping: dict[str, Index]) -> ir.Expr:
    """Four values of `operand` along `axis`, from the position that `mapping` says."""
    load = ir.uncast(operand)
    if (
        coefficient(load.attr[1], axis) == 1
        and operand.dtype in VECTOR_DTYPES
        and load.dtype in VECTOR_DTYPES
    ):
        return _widened(operand, mapping)
    lanes = [substitute_expr(operand, mapping | {axis: mapping[axis] + lane}) for lane in range(LANES)]
    return ir.pack((lanes[0], lanes[1], lanes[2], lanes[3]))


def _widened(operand: ir.Expr, mapping: dict[str, Index]) -> ir.Expr:
    if operand.op == "cast":
        return ir.cast(_widened(operand.args[0], mapping), operand.dtype)
    scalar = substitute_expr(operand, mapping)
    return ir.load(scalar.attr[0], scalar.attr[1], scalar.dtype, LANES)
