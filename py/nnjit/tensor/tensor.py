"""Tensor expressions: what every operator becomes.

A `Tensor` has a shape (ints and symbols), an ONNX dtype, and is one of

    Source    an input, a weight or a constant: elements that exist before any kernel runs
    Compute   elements defined by an expression of their coordinates, optionally reduced over further axes
    Parts     elements written by several Computes, each into a box of it (Concat)
    View      another tensor seen through an index map (Transpose, Slice, Expand, …): no memory, no kernel
    Alias     the same memory, row-major, under another shape (Reshape): no kernel

`x.at(i, j)` is the IR expression that reads an element. A View resolves at once to its base, so that a body only ever
reads a Storage (Source, Compute, Parts) or an Alias of one.

A Compute's physical order (which axis is innermost in memory) is open until something needs to know: elementwise
results follow their operand, and a Reshape of a Transpose settles it so that the Reshape is free.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ir
from ..symbolic import IntExpr, product, substitute, values_of, var

Index = int | IntExpr
Shape = tuple[Index, ...]


class Tensor:
    """Base of all; `content` holds the elements (ints, IntExprs, floats, bools) when they are known at compile time."""

    __slots__ = ("shape", "dtype", "content")

    def __init__(self, shape: Shape, dtype: str) -> None:
        self.shape = shape
        self.dtype = dtype
        self.content: Any = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Index:
        return product(self.shape)

    def at(self, *coords: Index) -> ir.Expr:
        """The element at `coords`, in the compute dtype."""
        if len(coords) != len(self.shape):
            raise ValueError(f"{len(coords)} coordinates for rank {len(self.shape)}")
        if all(isinstance(c, int) for c in coords) and self.content is not None:
            value, dtype = self.content[coords], ir.COMPUTE_OF[self.dtype]
            return ir.cast(ir.index(value), dtype) if isinstance(value, IntExpr) else ir.const(value, dtype)
        return self._read(coords)

    def _read(self, coords: Shape) -> ir.Expr:
        return ir.expr("read", ir.COMPUTE_OF[self.dtype], 1, (), (self, coords))


class Storage(Tensor):
    """A tensor with memory of its own. `order`: axes from outermost to innermost in memory."""

    __slots__ = ("order", "frozen", "label")

    def __init__(self, shape: Shape, dtype: str, label: str = "") -> None:
        super().__init__(shape, dtype)
        self.order: tuple[int, ...] = tuple(range(len(shape)))
        self.frozen = False
        self.label = label

    def strides(self) -> Shape:
        """Elements between neighbours along each axis."""
        strides: list[Index] = [0] * len(self.shape)
        step: Index = 1
        for axis in reversed(self.order):
            strides[axis] = step
            step = step * self.shape[axis]
        return tuple(strides)


_SMALL = 4096
"""Elements of a constant that shape arithmetic may look at."""


class Source(Storage):
    """An input (`origin` = its name), a weight (`origin` = Initializer) or a constant (`origin` = numpy array)."""

    __slots__ = ("kind", "origin", "_content")

    def __init__(self, kind: str, shape: Shape, dtype: str, origin: object, label: str = "") -> None:
        self._content: Any = None
        super().__init__(shape, dtype, label)
        self.kind = kind
        self.origin = origin
        self.frozen = True

    @property
    def content(self) -> Any:
        """See `Tensor`. A small constant's are made when they are asked for: most are only weights of a layer."""
        if self._content is None and isinstance(self.origin, np.ndarray) and self.origin.size <= _SMALL:
            self._content = self.origin.astype(object)
        return self._content

    @content.setter
    def content(self, known: Any) -> None:
        self._content = known


class Compute(Storage):
    """body over axes i0, i1, … and reduce axes r0, r1, …; `combine` is None, sum, prod, max, min or pmax.

    `pmax` is the maximum of what is not NaN: cheaper, and right where a NaN shows in the result by another way.

    `into` = (Parts, box origin) when the elements belong in a box of a Parts tensor.
    """

    __slots__ = ("body", "reduce_shape", "combine", "into", "node", "_reads")

    def __init__(
        self,
        shape: Shape,
        dtype: str,
        body: ir.Expr,
        reduce_shape: Shape = (),
        combine: str | None = None,
        label: str = "",
        node: str = "",
    ) -> None:
        super().__init__(shape, dtype, label)
        self.body = body
        self.reduce_shape = reduce_shape
        self.combine = combine
        self.into: tuple[Parts, Shape] | None = None
        self.node = node
        self._reads: list[tuple[Tensor, Shape]] | None = None

    @property
    def reads(self) -> list[tuple[Tensor, Shape]]:
        """What `reads` says of the body, which never changes."""
        if self._reads is None:
            self._reads = reads(self.body)
        return self._reads


class Parts(Storage):
    """Storage that several Computes fill; `parts` in the order of their creation."""

    __slots__ = ("parts",)

    def __init__(self, shape: Shape, dtype: str, label: str = "") -> None:
        super().__init__(shape, dtype, label)
        self.parts: list[Compute] = []
        self.frozen = True


class View(Tensor):
    """`base` seen through `index`: one expression for each axis of the base, of the variables v0, v1, …"""

    __slots__ = ("base", "index")

    def __init__(self, base: Tensor, shape: Shape, index: Shape) -> None:
        super().__init__(shape, base.dtype)
        self.base = base
        self.index = index

    def _read(self, coords: Shape) -> ir.Expr:
        mapping = {f"v{i}": c for i, c in enumerate(coords)}
        return self.base.at(*(substitute(e, mapping) for e in self.index))

    def permutation(self) -> tuple[int, ...] | None:
        """For each axis of the view the base's axis that it is, when the view only permutes (extents of 1 aside)."""
        if len(self.shape) != len(self.index):
            return None
        axis_of: dict[Index, int] = {}
        spare = []
        for b, e in enumerate(self.index):
            if isinstance(e, int):
                if e != 0 or self.base.shape[b] != 1:
                    return None
                spare.append(b)
            else:
                axis_of[e] = b
        result = []
        for i, d in enumerate(self.shape):
            b = axis_of.get(var(f"v{i}"), -1)
            if b < 0:
                if d != 1 or not spare:
                    return None
                b = spare.pop(0)
            elif d != self.base.shape[b]:
                return None
            result.append(b)
        return tuple(result)


class Alias(Tensor):
    """The memory of `base`, which is row-major, under another shape of the same size."""

    __slots__ = ("base",)

    def __init__(self, base: Storage, shape: Shape) -> None:
        super().__init__(shape, base.dtype)
        self.base = base


def is_row_major(t: Storage) -> bool:
    """Whether memory order is logical order, extents of 1 aside."""
    axes = [a for a in t.order if t.shape[a] != 1]
    return axes == sorted(axes)


def physical_order(t: Tensor) -> tuple[int, ...] | None:
    """The axes of `t` from outermost to innermost in memory, or None when no permutation describes it."""
    if isinstance(t, Storage):
        return t.order
    if isinstance(t, Alias):
        return tuple(range(t.rank))
    if isinstance(t, View):
        perm = t.permutation()
        base = physical_order(t.base)
        if perm is None or base is None:
            return None
        axis_of = {b: i for i, b in enumerate(perm)}
        return tuple(axis_of[b] for b in base)
    return None


def reads(*roots: ir.Expr) -> list[tuple[Tensor, Shape]]:
    """Every (tensor, coordinates) that the values read, those inside run-time indices included."""
    found: list[tuple[Tensor, Shape]] = []
    seen: set[ir.Expr] = set()
    stack = list(reversed(roots))
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e.op == "read":
            found.append(e.attr)
        for index in reversed(e.indices()):
            stack += reversed(values_of(index))
        stack += reversed(e.args)
    return found
