"""Numbers as operands: kernels of a plan that differ in numbers alone become one.

Exporters leave scales and offsets of single elements all over a model (a layer's affine step, an activation with learned
slopes). As constants of the code they would make as many kernels as there are layers, each lowered, emitted, compiled and
tuned by itself. Numbers that are equal in all of them stay constants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from .. import ir
from ..tensor.tensor import Source
from .spec import KernelSpec, StoreTo, map_expr
from .specify import Specified

_BUFFER = "numbers"


Place = tuple[ir.Expr, int]
"""An operation and which of its arguments is a number."""


def share_kernels(specified: Iterable[Specified], max_buffers: int | None = None) -> None:
    """Where specs are equal but for f32 numbers in what they store, read the numbers that differ from a constant tensor.

    max_buffers   how many buffers a kernel may have; None: any number
    """
    alike: dict[tuple, list[tuple[Specified, list[Place]]]] = defaultdict(list)
    for s in specified:
        if max_buffers is None or len(s.spec.buffers) < max_buffers:
            places = _places(s.spec)
            if places:
                alike[_form(s.spec)].append((s, places))
    for group in alike.values():
        columns = zip(*[[_number(p) for p in places] for _, places in group], strict=True)
        differing = [n for n, column in enumerate(columns) if len(set(column)) > 1]
        if differing:
            for s, places in group:
                _read_from_memory(s, [places[n] for n in differing])


def _number(place: Place) -> ir.Expr:
    operation, n = place
    return operation.args[n]


def _is_number(e: ir.Expr) -> bool:
    return e.op == "const" and e.dtype == "f32"


def _operations(spec: KernelSpec) -> list[ir.Expr]:
    return [e for e in ir.nodes(*[w.value for s in spec.stages for w in s.stores]) if e.args]


def _places(spec: KernelSpec) -> list[Place]:
    """Where numbers stand in what the spec stores, in the order in which they are met."""
    return [(e, n) for e in _operations(spec) for n, a in enumerate(e.args) if _is_number(a)]


def _form(spec: KernelSpec) -> tuple:
    """Equal for specs that are equal but for the values of numbers in what they store."""

    def described(e: ir.Expr) -> object:
        return e.op if e.args else "number" if _is_number(e) else e

    return (
        spec.outer,
        tuple([(b.name, b.storage, b.access) for b in spec.buffers]),
        tuple(
            [
                (s.axes, *[(r.combine, r.value) for r in s.reduces], *[(w.buffer, w.index) for w in s.stores])
                for s in spec.stages
            ]
        ),
        tuple([(e.op, e.dtype, e.attr, *map(described, e.args)) for e in _operations(spec)]),
    )


def _read_from_memory(specified: Specified, places: list[Place]) -> None:
    spec = specified.spec
    loads = {place: ir.load(_BUFFER, n, "f32") for n, place in enumerate(places)}
    changing = {operation for operation, _ in places}
    memo: dict[ir.Expr, ir.Expr] = {}

    def changed(e: ir.Expr) -> ir.Expr | None:
        if e not in changing:
            return None
        return ir.rebuild(
            e, tuple([loads.get((e, n)) or map_expr(a, changed, memo) for n, a in enumerate(e.args)])
        )

    for s in spec.stages:
        s.stores = [
            StoreTo(w.buffer, w.index, map_expr(w.value, changed, memo), w.condition) for w in s.stores
        ]
    content = np.array([_number(p).attr for p in places], np.float32)
    specified.spec = KernelSpec(
        spec.outer, spec.stages, [*spec.buffers, ir.Buffer(_BUFFER, "f32", "r")], spec.hints, spec.bounds
    )
    specified.spec.symbols = spec.symbols
    specified.tensors = [*specified.tensors, Source("const", content.shape, "f32", content)]
