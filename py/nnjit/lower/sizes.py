"""Sizes as symbols of the kernel: groups that differ only in how their sizes follow from the model's dimensions become equal.

Each level of a feature pyramid has its own chain of divisions, ⌊(⌊(height + 1) / 2⌋ + 1) / 2⌋ and so on. A kernel need not
know it: the size is an argument, and all levels run the same kernel. What is left is shorter, too, for all that comes after.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..symbolic import NO_BOUNDS, SIGNED, IntExpr, Opaque, bounds_of, terms_of, var
from .chain import Chain
from .spec import Index, KernelSpec, Reduce, Stage, StoreTo, every_value, substituter, symbols_of
from .specify import Specified

_NAME = "dim"


def name_sizes(specified: Specified) -> None:
    """Let the spec's sizes that are computed from symbols be symbols themselves, and `arguments` say what they are.

    Names are given in the order in which the sizes are met, so that equal texts are equal kernels. A size that may be
    negative, which no symbol of a kernel is, stays as it is; so do specs that compute none, and chains.
    """
    spec = specified.spec
    if isinstance(spec, Chain):
        return
    sizes: dict[str | Opaque, str] = {}
    axes = {v for v, _ in (*spec.outer, *(a for s in spec.stages for a in s.axes))}
    for index in _indices(spec):
        _meet(index, sizes, axes, spec)
    if all([isinstance(size, str) for size in sizes]):
        return
    names: dict[str, Index] = {s: var(name) for s, name in sizes.items() if isinstance(s, str)}
    atoms: dict[Opaque, Index] = {s: var(name) for s, name in sizes.items() if isinstance(s, Opaque)}
    at, value = substituter(names, {}, atoms)
    stages = [
        Stage(
            tuple([(v, at(d)) for v, d in s.axes]),
            [Reduce(r.name, r.combine, value(r.value)) for r in s.reduces],
            [
                StoreTo(w.buffer, at(w.index), value(w.value), w.condition and value(w.condition))
                for w in s.stores
            ],
        )
        for s in spec.stages
    ]
    arguments: dict[str, Index] = {name: _expression(size) for size, name in sizes.items()}
    named = KernelSpec(
        tuple([(v, at(d)) for v, d in spec.outer]),
        stages,
        spec.buffers,
        spec.hints | {name: spec.hint(size) for name, size in arguments.items()},
        spec.bounds | dict.fromkeys(arguments, (0, None)),
    )
    named.symbols = symbols_of(named)
    specified.spec = named
    specified.arguments = arguments


def _indices(spec: KernelSpec) -> Iterator[Index]:
    for axes in (spec.outer, *(s.axes for s in spec.stages)):
        yield from (d for _, d in axes)
    for s in spec.stages:
        yield from (w.index for w in s.stores)
    for e in every_value(spec.stages):
        yield from e.indices()


def _meet(index: Index, sizes: dict[str | Opaque, str], axes: Collection[str], spec: KernelSpec) -> None:
    """Name the largest atoms of an index that depend on symbols alone. What is loaded has indices of its own."""
    for mono in terms_of(index):
        for atom in mono:
            if atom in axes or atom in sizes:
                continue
            if isinstance(atom, str):
                size = not atom.endswith(SIGNED)
            else:
                size = not atom.values and atom.names.isdisjoint(axes) and _is_size(atom, spec)
            if size:
                sizes[atom] = f"{_NAME}{len(sizes)}"
            elif isinstance(atom, Opaque) and atom.op != "value":
                for arg in atom.args:
                    _meet(arg, sizes, axes, spec)


def _is_size(atom: Opaque, spec: KernelSpec) -> bool:
    """Whether an atom is known not to be negative."""
    # What follows without the symbols' bounds is remembered, and nearly always enough.
    lows = (bounds_of(_expression(atom), bounds)[0] for bounds in (NO_BOUNDS, spec.bounds))
    return any(low is not None and low >= 0 for low in lows)


def _expression(size: str | Opaque) -> Index:
    return var(size) if isinstance(size, str) else IntExpr({(size,): 1})
