"""KernelSpec: what a kernel computes, before anything is decided about how.

    outer axes                              every point of them is independent of the others
    stages, one after the other             each loops over its own axes, and
        reduces (name, combine, value)      leaves a scalar per point of the outer axes, which later stages read, or
        stores  (buffer, index, value)      writes elements

A matrix product is outer (m, n), a stage over k that sums, and a stage without axes that stores; softmax is outer (row),
a stage over columns for the maximum, one for the sum, one that stores. Buffers are flat: indices are linear in elements.
The spec's text is the key of a tuning task: equal texts are equal kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from .. import ir
from ..ir_text import SharedText
from ..symbolic import (
    IntExpr,
    Opaque,
    Substitution,
    evaluate,
    names_of,
    product,
    values_of,
)

Index = int | IntExpr
Axes = tuple[tuple[str, Index], ...]


class Reduce:
    """`value`, combined (sum, prod, max, min or pmax) over the axes of its stage, under a name for later stages."""

    __slots__ = ("name", "combine", "value")

    def __init__(self, name: str, combine: str, value: ir.Expr) -> None:
        self.name = name
        self.combine = combine
        self.value = value


class StoreTo:
    """`condition`, a scalar bool of axes and symbols alone, says where the element is written; None: everywhere."""

    __slots__ = ("buffer", "index", "value", "condition")

    def __init__(self, buffer: str, index: Index, value: ir.Expr, condition: ir.Expr | None = None) -> None:
        self.buffer = buffer
        self.index = index
        self.value = value
        self.condition = condition


class Stage:
    """At each point of the outer axes: loops over `axes` that reduce and store; without axes, stores alone."""

    __slots__ = ("axes", "reduces", "stores")

    def __init__(self, axes: Axes, reduces: list[Reduce], stores: list[StoreTo]) -> None:
        self.axes = axes
        self.reduces = reduces
        self.stores = stores

    def values(self) -> list[ir.Expr]:
        """What is reduced, then what is stored."""
        return [r.value for r in self.reduces] + [w.value for w in self.stores]


class KernelSpec:
    """See the module's docstring. `hints` are the values at hand of the symbols, `bounds` their inclusive ranges."""

    __slots__ = ("outer", "stages", "buffers", "symbols", "hints", "bounds", "_text", "_hinted")

    def __init__(
        self,
        outer: Axes,
        stages: list[Stage],
        buffers: list[ir.Buffer],
        hints: dict[str, int],
        bounds: dict[str, tuple[int, int | None]],
    ) -> None:
        self.outer = outer
        self.stages = stages
        self.buffers = buffers
        self.hints = hints
        self.bounds = bounds
        self.symbols: list[str] = []
        self._text = ""
        self._hinted: dict[IntExpr, int] = {}

    def hint(self, e: Index) -> int:
        """The value of a size for the inputs at hand."""
        if isinstance(e, int):
            return e
        known = self._hinted.get(e)
        if known is None:
            known = self._hinted[e] = evaluate(e, self.hints)
        return known

    def extent(self, axis: str) -> Index:
        """The extent of an axis, outer or of a stage. Raises KeyError for one that is not there."""
        for v, d in self.outer:
            if v == axis:
                return d
        for s in self.stages:
            for v, d in s.axes:
                if v == axis:
                    return d
        raise KeyError(axis)

    @property
    def operands(self) -> tuple[ir.Expr, ir.Expr] | None:
        """The two factors of each term when this is a sum of products or of `dot` products, else None."""
        value = self.stages[0].reduces[0].value if self.stages[0].reduces else None
        return (value.args[0], value.args[1]) if value is not None and value.op == "dot" else self.contraction

    @property
    def contraction(self) -> tuple[ir.Expr, ir.Expr] | None:
        """The two operand loads when this is a sum of products (matmul, convolution), else None."""
        stage = self.stages[0]
        if len(stage.reduces) == 1 and not stage.stores and stage.reduces[0].combine == "sum" and stage.axes:
            v = stage.reduces[0].value
            if v.op == "mul" and all(ir.uncast(a).op == "load" for a in v.args):
                return v.args[0], v.args[1]
        return None

    def __str__(self) -> str:
        if not self._text:
            lines = [
                f"outer {_axes(self.outer)} | "
                + " ".join(f"{b.name}:{b.storage}:{b.access}" for b in self.buffers)
            ]
            values = SharedText([v for s in self.stages for v in s.values()], lines)
            for s in self.stages:
                lines.append(f"stage {_axes(s.axes)}")
                for r in s.reduces:
                    value = values.of(r.value)
                    lines.append(f"  {r.name} = {r.combine} {value}")
                for w in s.stores:
                    value = values.of(w.value)
                    where = "" if w.condition is None else f" if {w.condition}"
                    lines.append(f"  {w.buffer}[{w.index}] = {value}{where}")
            self._text = "\n".join(lines)
        return self._text


def _axes(axes: Axes) -> str:
    return "(" + ", ".join(f"{v}<{d}" for v, d in axes) + ")"


def map_expr(
    e: ir.Expr,
    leaf: Callable[[ir.Expr], ir.Expr | None],
    memo: dict[ir.Expr, ir.Expr],
) -> ir.Expr:
    """`e` rebuilt with `leaf`'s answer wherever it gives one."""
    done = memo.get(e)
    if done is None:
        done = leaf(e)
        if done is None:
            done = ir.rebuild(e, tuple(map_expr(a, leaf, memo) for a in e.args)) if e.args else e
        memo[e] = done
    return done


def substitute_expr(
    e: ir.Expr, mapping: dict[str, Index], memo: dict[ir.Expr, ir.Expr] | None = None
) -> ir.Expr:
    """`e` with axis variables replaced in every index it holds."""
    return substituter(mapping, {} if memo is None else memo)[1](e)


def index_substitution(mapping: dict[str, Index]) -> Substitution:
    """Replaces axis variables in indices, in those of the values that they load too."""
    return substituter(mapping, {})[0]


def substituter(
    mapping: dict[str, Index],
    memo: dict[ir.Expr, ir.Expr],
    opaques: Mapping[Opaque, Index] = MappingProxyType({}),
) -> tuple[Substitution, Callable[[ir.Expr], ir.Expr]]:
    """What replaces variables, and the atoms `opaques`, in indices, and what does so in values."""

    def whole(e: ir.Expr) -> ir.Expr:
        return map_expr(e, leaf, memo)

    def leaf(x: ir.Expr) -> ir.Expr | None:
        if x.op == "index":
            return ir.index(at(x.attr))
        if x.op == "load":
            buffer, index = x.attr
            return ir.load(buffer, at(index), x.dtype, x.lanes)
        return None

    at = Substitution(mapping, on_value=lambda atom: ir.value_index(whole(atom.args[0])), opaques=opaques)
    return at, whole


def every_value(stages: list[Stage], skip: Collection[ir.Expr] = ()) -> Iterator[ir.Expr]:
    """All values of the stages and those below, each once, those that indices load too; without `skip` and below."""
    values = [v for s in stages for v in s.values()]
    return _with_parts([*values, *(v for s in stages for w in s.stores for v in values_of(w.index))], skip)


def _with_parts(values: Iterable[ir.Expr], skip: Collection[ir.Expr] = ()) -> Iterator[ir.Expr]:
    seen: set[ir.Expr] = set(skip)
    stack = list(values)
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            yield e
            stack += e.args
            for index in e.indices():
                stack += values_of(index)


def indices_of(spec: KernelSpec) -> set[Index]:
    """Every index expression that the spec evaluates."""
    found = {w.index for s in spec.stages for w in s.stores}
    return found.union(*[e.indices() for e in every_value(spec.stages)])


def touched_buffers(stages: list[Stage], skip: Collection[ir.Expr] = ()) -> set[str]:
    """Buffers that the stages read, in indices too, or write; loads in `skip` do not count."""
    found = {w.buffer for s in stages for w in s.stores}
    return found | {e.attr[0] for e in every_value(stages, skip) if e.op == "load"}


def touched_elements(spec: KernelSpec, buffer: str) -> Index:
    """Elements of a buffer that the spec reads or writes at most: an index is one for each point of the axes in it."""
    total: Index = 0
    for stage in spec.stages:
        indices = {w.index for w in stage.stores if w.buffer == buffer}
        indices |= {e.attr[1] for e in every_value([stage]) if e.op == "load" and e.attr[0] == buffer}
        for index in indices:
            # What an earlier stage has reduced is another value at each point.
            reduced = any(e.op == "local" for e in _with_parts(values_of(index)))
            axes = [d for v, d in (*spec.outer, *stage.axes) if reduced or depends(index, v)]
            total = total + product(axes)
    return total


def coefficient(e: Index, v: str) -> Index | None:
    """c where e = c·v + rest with neither naming v; None when e is not linear in v."""
    return 0 if isinstance(e, int) else e.coefficient(v)


def depends(e: Index, v: str) -> bool:
    """Whether an index depends on variable v, through loaded values too."""
    return isinstance(e, IntExpr) and v in e.names


def expr_depends(e: ir.Expr, names: set[str], memo: dict[ir.Expr, bool]) -> bool:
    """Whether a value depends on any of the variables `names`."""
    known = memo.get(e)
    if known is None:
        if e.op == "local":
            known = e.attr in names
        elif not names.isdisjoint(e.names):
            known = True
        else:
            known = any([expr_depends(a, names, memo) for a in e.args])
        memo[e] = known
    return known


def symbols_of(spec: KernelSpec) -> list[str]:
    """Names of the variables in extents and indices that are no axes, sorted."""
    every = [*spec.outer, *(a for s in spec.stages for a in s.axes)]
    axes = {v for v, _ in every}
    found: set[str] = set()
    for e in (*(d for _, d in every), *indices_of(spec)):
        found |= names_of(e)
    return sorted(found - axes)
