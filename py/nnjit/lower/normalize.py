"""The normal form of a spec: few axes, in the order of memory, so that equal kernels get equal texts.

Neighbouring axes become one wherever every index is linear across them: an elementwise kernel over a dense tensor of any
rank has one axis in the end.
"""

from __future__ import annotations

from .. import ir
from ..symbolic import substitute
from .spec import Axes, Index, KernelSpec, coefficient, indices_of, substitute_expr, symbols_of


def normalize(spec: KernelSpec) -> KernelSpec:
    """Outer axes in the order of the result's memory, neighbours merged wherever every access is linear across them."""
    store = next(w for s in reversed(spec.stages) for w in s.stores)

    def stride(axis: tuple[str, Index]) -> int:
        c = coefficient(store.index, axis[0])
        return spec.hint(c) if c is not None else 0

    spec.outer = tuple(sorted(spec.outer, key=stride, reverse=True))
    spec = _merge(spec, None)
    for n in range(len(spec.stages)):
        spec = _merge(spec, n)
    spec.symbols = symbols_of(spec)
    return spec


def _merge(spec: KernelSpec, stage: int | None) -> KernelSpec:
    """Merge neighbouring axes: the outer ones, or those of all stages that loop over the same axes as `stage`."""
    while True:
        axes = spec.outer if stage is None else spec.stages[stage].axes
        indices = indices_of(spec) if len(axes) > 1 else ()
        for (a, _), (b, extent) in zip(axes, axes[1:], strict=False):
            if all(_mergeable(i, a, b, extent) for i in indices):
                _merge_pair(spec, a, b)
                break
        else:
            return spec


def _mergeable(e: Index, a: str, b: str, extent: Index) -> bool:
    ca, cb = coefficient(e, a), coefficient(e, b)
    return ca is not None and cb is not None and ca == cb * extent


def _merge_pair(spec: KernelSpec, a: str, b: str) -> None:
    """Axis a·extent + b takes the name b: every index is linear in it with b's coefficient, so a just becomes 0."""

    def merged(axes: Axes) -> Axes:
        if not any(v == a for v, _ in axes):
            return axes
        da = next(d for v, d in axes if v == a)
        return tuple((v, da * d if v == b else d) for v, d in axes if v != a)

    zero: dict[str, Index] = {a: 0}
    memo: dict[ir.Expr, ir.Expr] = {}
    spec.outer = merged(spec.outer)
    for s in spec.stages:
        s.axes = merged(s.axes)
        for r in s.reduces:
            r.value = substitute_expr(r.value, zero, memo)
        for w in s.stores:
            w.index = substitute(w.index, zero)
            w.value = substitute_expr(w.value, zero, memo)
