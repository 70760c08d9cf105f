"""Finding chains: a contraction, reductions over its rows, and a contraction with the outcome (see `lower.chain`).

Nothing here knows attention. Three groups make a chain when each of the first two leaves a result that only the next one
reads, point by point; when the axes of the three correspond; and when the last contraction has rows that its other
operand does not know. The reductions may leave more, such as a bias that is made here and used again by later layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .. import ir
from ..lower.chain import KEY, LEAST_BLOCK, ROW, SCRATCH, STRIDE_PAD, Chain, column_operand
from ..lower.spec import (
    KernelSpec,
    Reduce,
    Stage,
    StoreTo,
    depends,
    expr_depends,
    index_substitution,
    map_expr,
    substitute_expr,
)
from ..lower.specify import Specified, specify
from ..symbolic import var
from ..tensor.tensor import Compute, Index, Shape, Storage
from .fuse import Fuser
from .group import Group

MIN_ROWS = 4
"""Fewer rows do not share what they read of keys and values, so there is nothing to gain."""
MIN_KEYS = 8
MIN_COLUMNS = 4
"""The narrowest tile that the lanes of a vector fill."""
CACHED_ELEMENTS = 1 << 18
"""Elements of keys and values together that every block of rows finds in a cache of its core: 1 MiB of floats."""
Rename = dict[str, Index]


def chains(
    groups: list[Group], needed: set[Compute], fuser: Fuser, scratch_bytes: int
) -> Iterator[tuple[list[Group], Specified | None]]:
    """The groups in order: [group], None for most; the three groups of a chain at the place of the last, and its spec."""
    finder = _Finder(groups, needed, fuser, scratch_bytes)
    found: dict[Group, tuple[list[Group], Specified]] = {}
    taken: set[Group] = set()
    for last in groups:
        chain = finder.ending_with(last)
        if chain is not None and taken.isdisjoint(chain[0]):
            found[last] = chain
            taken.update(chain[0])
    for g in groups:
        if g in found:
            yield found[g]
        elif g not in taken:
            yield [g], None


class _Axes(NamedTuple):
    """Axes of three groups that go together as a chain."""

    renames: list[Rename]
    """Of each group: variable → variable of the last group, or KEY."""
    shared: list[str]
    """Outer axes of the last group that rows of the scores have too."""
    column: str
    """The outer axis of the last group that is its own."""
    key: str
    """The variable that the last group sums up over, `keys` its extent."""
    keys: Index


class _Finder:
    def __init__(self, groups: list[Group], needed: set[Compute], fuser: Fuser, scratch_bytes: int) -> None:
        self.group_of = {c: g for g in groups for c in g.members}
        self.place = {g: n for n, g in enumerate(groups)}
        self.needed = needed
        self.users = fuser.users
        self.outputs = fuser.outputs
        self.env = fuser.env
        self.scratch_elements = scratch_bytes // ir.STORAGE_BYTES["f32"]

    def ending_with(self, last: Group) -> tuple[list[Group], Specified] | None:
        """The chain whose last contraction is `last`."""
        if last.static or last.rows or len(last.reduces) != 1:
            return None
        (product,) = last.reduces
        if product.combine != "sum" or product.body.op != "mul":
            return None
        for e in product.body.args:
            if e.op != "read":
                continue
            weights, coords = e.attr
            if not isinstance(weights, Compute):
                continue
            middle = self.group_of.get(weights)
            if middle is None or not middle.rows or middle.static or not self._passed_on(weights, [last]):
                continue
            if any(u is not product for u in self.users.get(weights, ())) or not self._in_time(middle, last):
                continue
            read = [t for c in middle.members for t, _ in c.reads if isinstance(t, Compute)]
            for scores in dict.fromkeys(read):
                first = self.group_of.get(scores)
                if (
                    first is not None
                    and first is not middle
                    and not (first.rows or first.static)
                    and len(first.reduces) == 1
                    and [c for c in first.members if c in self.needed] == [scores]
                    and self._passed_on(scores, [middle])
                ):
                    spec = self._spec([first, middle, last], scores, weights, product, coords)
                    if spec is not None:
                        return [first, middle, last], spec
        return None

    def _passed_on(self, result: Compute, to: list[Group]) -> bool:
        """Whether a result must be in memory after its group only for the groups `to`, as floats."""
        if result not in self.needed or result.into is not None or result in self.outputs:
            return False
        return result.dtype == "f32" and all(self.group_of.get(u) in to for u in self.users.get(result, ()))

    def _in_time(self, middle: Group, last: Group) -> bool:
        """Whether nobody needs any result of `middle` before the place of `last`, where the chain will be."""
        users = {
            self.group_of.get(u) for c in middle.members if c in self.needed for u in self.users.get(c, ())
        }
        return all(self.place[g] >= self.place[last] for g in users - {middle} if g is not None)

    # -- axes ---------------------------------------------------------------------------------------------------

    def _axes(
        self, groups: list[Group], scores: Compute, weights: Compute, product: Compute, coords: Shape
    ) -> _Axes | None:
        """How the axes of three groups go together, if they do as those of a chain; `coords`: where `product` reads `weights`."""
        first, middle, last = groups
        places: Rename = {f"i{n}": v for n, v in enumerate(last.coords[product])}
        places |= {f"r{n}": var(v) for n, v in enumerate(last.reduce_vars[product])}
        here = _placed(coords, places)
        if len(last.reduce_vars[product]) != 1 or here is None:
            return None
        key = last.reduce_vars[product][0]
        of_middle = _renaming(middle.coords[weights], here)
        if of_middle is None or len(middle.inner) != 1 or of_middle.get(middle.inner[0][0]) != var(key):
            return None
        seen = {
            _placed(at, {f"i{n}": v for n, v in enumerate(middle.coords[c])}
                    | {f"r{n}": var(v) for n, v in enumerate(middle.reduce_vars.get(c, ())) if v})
            for c in middle.members
            for t, at in c.reads
            if t is scores
        }  # fmt: skip
        if len(seen) != 1 or None in seen:
            return None
        (at,) = seen
        theirs = tuple(of_middle.get(str(v), v) if not isinstance(v, int) else v for v in at)  # type: ignore[union-attr]
        of_first = _renaming(first.coords[scores], theirs)
        if of_first is None or set(of_first) != {v for v, _ in first.outer}:
            return None
        shared = [v for v, _ in last.outer if var(v) in of_middle.values()]
        columns = [v for v, _ in last.outer if v not in shared]
        if len(columns) != 1 or {v for v, _ in middle.outer} != set(of_middle) - {middle.inner[0][0]}:
            return None
        renames: list[Rename] = [
            {v: var(KEY) if e == var(key) else e for v, e in of_first.items()},
            {v: var(KEY) if e == var(key) else e for v, e in of_middle.items()},
            {},
        ]
        return _Axes(renames, shared, columns[0], key, middle.inner[0][1])

    def _spec(
        self, groups: list[Group], scores: Compute, weights: Compute, product: Compute, coords: Shape
    ) -> Specified | None:
        """The chain of the three groups, as far as it is one, fits the scratch memory, and pays."""
        axes = self._axes(groups, scores, weights, product, coords)
        if axes is None:
            return None
        names: dict[Storage, str] = {}
        made = [specify(g, self.needed, self.env, names, merge=False).spec for g in groups]
        if _reads_late(made[1], names[scores], names[weights]):
            return None
        stored = [w.buffer for s in made[1].stages for w in s.stores if w.buffer != names[weights]]
        if len(set(stored)) != len(stored):
            return None  # Blocks that overlap would find there what the other one has replaced.
        keys, column = axes.keys, axes.column
        inner = (KEY, KEY, axes.key)
        stride = keys + STRIDE_PAD
        passed = {names[scores], names[weights]}
        parts = [
            _part(spec, axes.renames[n], passed, var(ROW) * stride + var(inner[n]))
            for n, spec in enumerate(made)
        ]
        if any({v for v, _ in part.outer} & {v for s in part.stages for v, _ in s.axes} for part in parts):
            return None  # An axis that is summed up over has the name that an axis of the results has in the last part.
        most = keys if isinstance(keys, int) else self.scratch_elements // LEAST_BLOCK
        parts = _scaled_late(parts, var(ROW) * stride + keys, most)
        row = self._row(parts, axes.shared, column)
        if row is None or not self._fits(parts, column, keys) or not self._pays(parts, row, column, keys):
            return None
        chain = Chain(parts, row, column, keys)
        by_name = {name: s for s, name in names.items()}
        return Specified(chain, [by_name[b.name] for b in chain.buffers])

    def _row(self, parts: list[KernelSpec], shared: list[str], column: str) -> str | None:
        """The shared axis with most points that no operand laid out along keys or columns depends on."""
        first, _, last = parts
        best = None
        for v in shared:
            others = [
                x
                for part, c in ((first, KEY), (last, column))
                if part.contraction is not None
                for x in ir.nodes(part.contraction[column_operand(part, c)])
                if x.op == "load"
            ]
            count = self.env.hint(last.extent(v))
            if count >= MIN_ROWS and not any(depends(x.attr[1], v) for x in others):
                if best is None or count > best[0]:
                    best = count, v
        return best[1] if best else None

    def _fits(self, parts: list[KernelSpec], column: str, keys: Index) -> bool:
        first, _, last = parts
        if first.contraction is None or last.contraction is None:
            return False
        if self.env.hint(keys) < MIN_KEYS or self.env.hint(last.extent(column)) < MIN_COLUMNS:
            return False
        if any(len(p.stages[0].axes) != 1 for p in (first, last)):
            return False
        if any(v.dtype != "f32" for p in parts for s in p.stages for v in s.values()):
            return False
        return (self.env.hint(keys) + STRIDE_PAD) * LEAST_BLOCK <= self.scratch_elements

    def _pays(self, parts: list[KernelSpec], row: str, column: str, keys: Index) -> bool:
        """Whether what is not stored outweighs that each block of rows reads all keys and values.

        Two layers of a network with a normalisation between them are no attention: a few rows, and large weights.
        """
        first, _, last = parts
        rows, depth, columns = map(
            self.env.hint, (last.extent(row), first.stages[0].axes[0][1], last.extent(column))
        )
        return self.env.hint(keys) * (depth + columns) <= CACHED_ELEMENTS or rows >= depth + columns


def _placed(coords: Shape, places: Rename) -> Shape | None:
    """Coordinates in variables of a group, when each is a variable of its own or 0."""
    found: list[Index] = []
    for c in coords:
        at = c if isinstance(c, int) else places.get(str(c))
        if at is None or (isinstance(at, int) and at != 0) or (not isinstance(at, int) and at in found):
            return None
        found.append(at)
    return tuple(found)


def _renaming(own: Shape, theirs: Shape) -> Rename | None:
    """Variable of one group → variable of another, where both name the axes of one tensor."""
    mapping: Rename = {}
    for a, b in zip(own, theirs, strict=True):
        if isinstance(a, int) != isinstance(b, int):
            return None
        if not isinstance(a, int):
            mapping[str(a)] = b
    return mapping


def _reads_late(spec: KernelSpec, buffer: str, replacement: str) -> bool:
    """Whether a stage reads `buffer` after an earlier one has stored to `replacement`, which will lie in its place."""
    written = False
    for s in spec.stages:
        if written and any(x.op == "load" and x.attr[0] == buffer for x in ir.nodes(*s.values())):
            return True
        written = written or any(w.buffer == replacement for w in s.stores)
    return False


def _scaled_late(parts: list[KernelSpec], place: Index, keys: int) -> list[KernelSpec]:
    """The parts, such that a factor by which the middle one multiplies whole rows at its end is applied to the results.

    Σ (e · f) · v = f · Σ e · v: a pass over the rows less. The factor of a row goes to SCRATCH[place], beside the row.

    A softmax's results are no larger than the largest v, but Σ e · v may be, by the number of `keys`, and overflow. Where e is
    an exponential that is at most 1, e · 2⁻ⁿ takes its place, with 2ⁿ ≥ keys, and f · 2ⁿ that of f: exact, and never larger.
    """
    first, middle, last = parts
    stage = middle.stages[-1]
    if stage.reduces or len(stage.stores) != 1 or not stage.axes:
        return parts
    (store,) = stage.stores
    row = ir.load(SCRATCH, store.index, store.value.dtype)
    if store.buffer != SCRATCH or row not in store.value.args:
        return parts
    a, b = store.value.args[0], store.value.args[-1]
    factor = None
    if store.value.op == "mul":
        factor = b if a is row else a
    elif store.value.op == "div" and a is row:
        factor = ir.div(ir.const(1.0, b.dtype), b)
    if factor is None or expr_depends(factor, {v for v, _ in stage.axes}, {}):
        return parts
    stages = list(middle.stages[:-1])
    before = stages[-1]
    for n, w in enumerate(before.stores):
        if w.buffer == SCRATCH and w.index == store.index and w.value.op == "exp_nonpositive":
            scale = 2.0 ** -(keys - 1).bit_length()
            stores = [*before.stores]
            stores[n] = StoreTo(SCRATCH, w.index, ir.mul(w.value, ir.const(scale, "f32")))
            stages[-1] = Stage(before.axes, before.reduces, stores)
            factor = ir.mul(factor, ir.const(1 / scale, "f32"))
    reduction = last.stages[0].reduces[0]
    result = ir.local(reduction.name, reduction.value.dtype)
    memo = {result: ir.mul(result, ir.load(SCRATCH, place, "f32"))}
    results = [
        Stage(
            s.axes,
            s.reduces,
            [StoreTo(w.buffer, w.index, map_expr(w.value, memo.get, memo)) for w in s.stores],
        )
        for s in last.stages[1:]
    ]
    scales = Stage((), [], [StoreTo(SCRATCH, place, factor)])
    return [
        first,
        KernelSpec(middle.outer, [*stages, scales], middle.buffers, middle.hints, middle.bounds),
        KernelSpec(last.outer, [last.stages[0], *results], last.buffers, last.hints, last.bounds),
    ]


def _part(spec: KernelSpec, rename: Rename, passed: set[str], place: Index) -> KernelSpec:
    """`spec` with renamed axes, and with SCRATCH[place] instead of the buffers that the parts pass on."""
    at = index_substitution(rename)
    memo: dict[ir.Expr, ir.Expr] = {}

    def leaf(x: ir.Expr) -> ir.Expr | None:
        if x.op == "load" and x.attr[0] in passed:
            return ir.load(SCRATCH, place, x.dtype)
        return substitute_expr(x, rename) if x.op in ("load", "index") else None

    stages = [
        Stage(
            tuple([(str(rename.get(v, v)), d) for v, d in s.axes]),
            [Reduce(r.name, r.combine, map_expr(r.value, leaf, memo)) for r in s.reduces],
            [
                StoreTo(SCRATCH, place, map_expr(w.value, leaf, memo))
                if w.buffer in passed
                else StoreTo(w.buffer, at(w.index), map_expr(w.value, leaf, memo))
                for w in s.stores
            ],
        )
        for s in spec.stages
    ]
    outer = tuple((str(rename.get(v, v)), d) for v, d in spec.outer)
    access = {b.access for b in spec.buffers if b.name in passed}
    kept = [b for b in spec.buffers if b.name not in passed]
    scratch = ir.Buffer(SCRATCH, "f32", access.pop() if len(access) == 1 else "rw")
    return KernelSpec(outer, stages, [*kept, scratch], spec.hints, spec.bounds)
