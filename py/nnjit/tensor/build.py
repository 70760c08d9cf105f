"""Building tensor expressions: the vocabulary in which the operators are written.

compute(shape, dtype, lambda i, j: …)          any tensor whose elements are a formula of their coordinates
elementwise(f, x, y, …)                        the same with broadcasting, for operators without an index
reduce("sum", shape, (k,), lambda i, r: …)     sums, products, maxima, minima; contractions are sums of products
permute, slice_, expand, reshape, view         no memory is moved, if it can be helped
concat(tensors, axis)                          each operand is written straight into its place
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from .. import ir
from ..graph.dtype import NUMPY
from ..symbolic import IntExpr, bounds_of, floordiv, mod, product, substitute, terms_of, var
from .env import Env
from .tensor import (
    Alias,
    Compute,
    Index,
    Parts,
    Shape,
    Source,
    Storage,
    Tensor,
    View,
    is_row_major,
    physical_order,
)

_NARROW = {"u8": (0xFF, 0), "u16": (0xFFFF, 0), "i8": (0, 24), "i16": (0, 16)}


class Builder:
    """Makes tensors for one compilation; `node` is the ONNX node being lowered, for reports."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.node = ""
        self.inputs: list[Source] = []
        """The model's inputs, in order."""
        self.indexed: dict[str, dict[Index, None]] = {}
        """Input → extents of the axes that its elements are indices of."""
        self.checks: dict[object, tuple[str, Compute]] = {}
        """What only an inference can check, each thing once → (what is wrong, an i32 [1] that says how often)."""
        self.computes: list[Compute] = []
        """Every Compute in order of creation, which is a topological order."""

    # -- sources ------------------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray, dtype: str) -> Source:
        """A small constant, its content known to shape arithmetic."""
        array = np.asarray(array)
        return Source("const", tuple(array.shape), dtype, array)

    def known(self, content: np.ndarray, dtype: str) -> Tensor:
        """A tensor of known elements (ints, IntExprs, floats, bools); symbols are passed to kernels as arguments."""
        content = np.asarray(content, dtype=object)
        flat = content.reshape(-1)
        if not any(isinstance(x, IntExpr) for x in flat):
            t: Tensor = self.constant(content.astype(NUMPY[dtype]), dtype)
        else:
            cd = ir.COMPUTE_OF[dtype]

            def element(*coords: Index) -> ir.Expr:
                linear: Index = 0
                for c, d in zip(coords, content.shape, strict=True):
                    linear = linear * d + c
                if flat.size == 1 or isinstance(linear, int):
                    return self._scalar(flat[linear if isinstance(linear, int) else 0], cd)
                result = self._scalar(flat[-1], cd)
                at = ir.index(linear)
                for i in range(flat.size - 2, -1, -1):
                    here = ir.binary("eq", at, ir.const(i, "i32"))
                    result = ir.select(here, self._scalar(flat[i], cd), result)
                return result

            t = self.compute(tuple(content.shape), dtype, element)
        t.content = content
        return t

    @staticmethod
    def _scalar(value: object, cd: str) -> ir.Expr:
        if isinstance(value, IntExpr):
            return ir.cast(ir.index(value), cd)
        return ir.const(value, cd)  # type: ignore[arg-type]

    # -- definitions --------------------------------------------------------------------------------------------

    def compute(
        self, shape: Sequence[Index], dtype: str, f: Callable[..., ir.Expr], label: str = ""
    ) -> Compute:
        """The tensor whose element at (i0, i1, …) is f(i0, i1, …), in the compute dtype of `dtype`."""
        shape = self._extents(shape)
        body = f(*_axes("i", shape))
        return self._add(Compute(shape, dtype, narrow(body, dtype), label=label, node=self.node))

    def reduce(
        self,
        combine: str,
        shape: Sequence[Index],
        reduce_shape: Sequence[Index],
        f: Callable[..., ir.Expr],
        dtype: str,
        label: str = "",
    ) -> Compute:
        """The tensor whose element at (i…) combines f(i…, r…) over all r; `combine` as in Compute."""
        shape, reduce_shape = self._extents(shape), self._extents(reduce_shape)
        if not reduce_shape:
            return self.compute(shape, dtype, f, label)
        body = f(*_axes("i", shape), *_axes("r", reduce_shape))
        return self._add(Compute(shape, dtype, body, reduce_shape, combine, label, self.node))

    def _extents(self, shape: Sequence[Index]) -> Shape:
        """`shape` with what is 0 or 1 as a constant, as broadcasting wants it."""
        return tuple(d if isinstance(d, int) else self.env.extent(d) for d in shape)

    def _add(self, t: Compute) -> Compute:
        if ir.COMPUTE_OF[t.dtype] != t.body.dtype:
            raise TypeError(f"a body of {t.body.dtype} for a tensor of {t.dtype} ({self.node})")
        self._check_reads(t)
        self.computes.append(t)
        return t

    def _check_reads(self, t: Compute) -> None:
        """Raise ValueError where t would read past the end of an operand.

        What an index that is clamped, or computed from symbols, reaches is its maker's business.
        """
        extents: dict[Index, Index] = {var(f"i{n}"): d for n, d in enumerate(t.shape)}
        extents |= {var(f"r{n}"): d for n, d in enumerate(t.reduce_shape)}
        if any(d == 0 for d in extents.values()):
            return
        bounds = {str(v): (0, d - 1) for v, d in extents.items() if isinstance(d, int)}
        for operand, coords in t.reads:
            for c, d in zip(coords, operand.shape, strict=True):
                extent = extents.get(c)
                if extent is None and isinstance(d, int):
                    # Of sums of axes the bounds are exact; of minima and remainders that hang together they are not.
                    if all(len(factors) <= 1 and bounds.keys() >= set(factors) for factors in terms_of(c)):
                        extent = (bounds_of(c, bounds)[1] or 0) + 1
                if extent is not None and extent is not d and not self.env.le(extent, d):
                    shape = [self.env.hint(e) for e in operand.shape]
                    raise ValueError(
                        f"{self.env.hint(extent)} elements are taken of an axis of a tensor of shape {shape}"
                    )

    def elementwise(
        self, f: Callable[..., ir.Expr], *xs: Tensor, dtype: str | None = None, label: str = ""
    ) -> Tensor:
        """f of the operands' elements, with numpy's broadcasting; `dtype` is that of the first operand by default."""
        dtype = dtype or xs[0].dtype
        sunk = self._below_reshape(xs)
        if sunk:
            reshaped, operands = sunk
            return self.reshape(self._pointwise(f, operands, dtype, label), xs[reshaped].shape)
        return self._pointwise(f, xs, dtype, label)

    def _pointwise(self, f: Callable[..., ir.Expr], xs: Sequence[Tensor], dtype: str, label: str) -> Compute:
        shape = self.broadcast_shapes(*(x.shape for x in xs))
        order: tuple[int, ...] | None = None
        for x in xs:
            if x.shape == shape and (o := physical_order(x)) is not None:
                if order is None or (isinstance(x, (Storage, View)) and order == tuple(range(len(shape)))):
                    order = o
        t = self.compute(shape, dtype, lambda *c: f(*(broadcast_at(x, shape, c) for x in xs)), label)
        if order is not None:
            t.order = order
        return t

    def _below_reshape(self, xs: Sequence[Tensor]) -> tuple[int, list[Tensor]] | None:
        """Elementwise of reshapes is a reshape of elementwise: that keeps the operands' own axes, so that the result
        can be fused into the kernel that makes them. Gives (index of the reshaped operand, operands to use)."""
        for n, x in enumerate(xs):  # noqa: B007
            if isinstance(x, Alias) and isinstance(x.base, Compute) and is_row_major(x.base):
                base = x.base
                break
        else:
            return None
        operands: list[Tensor] = []
        for y in xs:
            if y.shape == x.shape:
                if isinstance(y, Alias) or (isinstance(y, Storage) and (is_row_major(y) or not y.frozen)):
                    operands.append(self.reshape(y, base.shape))
                    continue
                return None
            if all(d == 1 for d in y.shape) and y.rank <= x.rank:
                operands.append(self.reshape(y, (1,) * min(y.rank, base.rank)))
            elif (
                y.rank <= x.rank
                and base.shape
                and y.shape[-1] == x.shape[-1] == base.shape[-1]
                and all(d == 1 for d in y.shape[:-1])
            ):
                operands.append(self.reshape(y, y.shape[-1:]))
            else:
                return None
        return n, operands

    def broadcast_shapes(self, *shapes: Shape) -> Shape:
        """numpy's rule. Raises ValueError when the shapes do not go together."""
        rank = max(map(len, shapes))
        result: list[Index] = []
        for axis in range(-rank, 0):
            dim: Index = 1
            for s in shapes:
                if len(s) < -axis or s[axis] == 1:
                    continue
                if isinstance(dim, int) and dim == 1:
                    dim = s[axis]
                elif not self.env.eq(dim, s[axis]):
                    raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast")
            result.append(dim)
        return tuple(result)

    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """The operands one after the other along `axis`."""
        extent: Index = 0
        for x in xs:
            extent = extent + x.shape[axis]
        shape = (*xs[0].shape[:axis], extent, *xs[0].shape[axis + 1 :])
        whole = Parts(shape, xs[0].dtype, "concat")
        orders = [o for x in xs if (o := physical_order(x)) is not None]
        if orders and all(o == orders[0] for o in orders):
            whole.order = orders[0]
        start: Index = 0
        for x in xs:
            part = self.compute(x.shape, x.dtype, lambda *c, x=x: x.at(*c), "concat")
            part.into = (whole, tuple(start if a == axis else 0 for a in range(len(shape))))
            whole.parts.append(part)
            start = start + x.shape[axis]
        return whole

    # -- movement -----------------------------------------------------------------------------------------------

    def view(self, x: Tensor, shape: Sequence[Index], f: Callable[..., Sequence[Index]]) -> Tensor:
        """x seen through f, which maps the new coordinates to those of x. Content follows where it is known."""
        shape = self._extents(shape)
        index = tuple(f(*_axes("v", shape)))
        base = x
        if isinstance(x, View):
            mapping = {f"v{n}": e for n, e in enumerate(index)}
            index = tuple(substitute(e, mapping) for e in x.index)
            base = x.base
        t = View(base, shape, index)
        if _is_small(shape) and x.content is not None:
            content: Any = np.empty(cast(tuple[int, ...], shape), dtype=object)
            for c in np.ndindex(*shape):  # type: ignore[arg-type]
                at = f(*c)
                if not all(isinstance(a, int) for a in at):
                    return t
                content[c] = x.content[tuple(at)]
            t.content = content
        return t

    def permute(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Axis n of the result is axis axes[n] of x."""
        inverse = {a: n for n, a in enumerate(axes)}
        return self.view(x, [x.shape[a] for a in axes], lambda *c: [c[inverse[a]] for a in range(x.rank)])

    def expand(self, x: Tensor, shape: Sequence[Index]) -> Tensor:
        """x broadcast to `shape`."""
        skip = len(shape) - x.rank
        return self.view(
            x, shape, lambda *c: [0 if d == 1 else i for d, i in zip(x.shape, c[skip:], strict=True)]
        )

    def slice_(
        self, x: Tensor, starts: Sequence[Index], steps: Sequence[int], shape: Sequence[Index]
    ) -> Tensor:
        """`shape` elements from `starts` with `steps`, one of each per axis; steps may be negative."""
        return self.view(x, shape, lambda *c: [s + i * p for i, s, p in zip(c, starts, steps, strict=True)])

    def reshape(self, x: Tensor, shape: Sequence[Index]) -> Tensor:
        """x in row-major order under another shape of the same size; a copy only where nothing else will do."""
        shape = self._extents(shape)
        if shape == x.shape:
            return x
        t = self._reshape(x, shape)
        if x.content is not None and all(isinstance(d, int) for d in shape):
            t.content = x.content.reshape(shape)
        return t

    def _reshape(self, x: Tensor, shape: Shape) -> Tensor:
        if isinstance(x, Alias):
            return x.base if x.base.shape == shape and is_row_major(x.base) else Alias(x.base, shape)
        if isinstance(x, Storage) and (is_row_major(x) or not x.frozen):
            if not x.frozen:
                x.order = tuple(range(x.rank))
                x.frozen = True
            return Alias(x, shape)
        if 0 in shape:
            empty = ir.const(0, ir.COMPUTE_OF[x.dtype])
            return self.compute(shape, x.dtype, lambda *c: empty)
        regrouped = self._regroup(x, shape)
        if regrouped is not None:
            return regrouped
        if isinstance(x, View) and isinstance(x.base, Compute) and not x.base.frozen:
            perm = x.permutation()
            if perm is not None:
                x.base.order = perm
                x.base.frozen = True
                return Alias(x.base, shape)
        copy = self.compute(x.shape, x.dtype, lambda *c: x.at(*c), "copy")
        copy.frozen = True
        return Alias(copy, shape)

    def _regroup(self, x: Tensor, shape: Shape) -> Tensor | None:
        """The reshape as a view: splitting axes always is one; merging axes is one where they are neighbours in memory."""
        groups = _reshape_groups(x.shape, shape)
        if groups is None:
            return None
        order = physical_order(x)
        for olds, _ in groups:
            if len(olds) > 1:
                if order is None:
                    return None
                at = order.index(olds[0])
                if order[at : at + len(olds)] != tuple(olds):
                    return None
        if isinstance(x, View) and isinstance(x.base, Storage):
            x.base.frozen = True
        elif isinstance(x, Storage):
            x.frozen = True
        bounds = {f"v{n}": (0, d - 1 if isinstance(d, int) else None) for n, d in enumerate(shape)}

        def old_coords(*c: Index) -> list[Index]:
            result: list[Index] = [0] * x.rank
            for olds, news in groups:
                linear: Index = 0
                for n in news:
                    linear = linear * shape[n] + c[n]
                for axis in reversed(olds[1:]):
                    result[axis] = mod(linear, x.shape[axis], bounds)
                    linear = floordiv(linear, x.shape[axis], bounds)
                if olds:
                    result[olds[0]] = linear
            return result

        return self.view(x, shape, old_coords)

    # -- helpers ------------------------------------------------------------------------------------------------

    def materialize(self, x: Tensor) -> Storage:
        """x as row-major storage of its own."""
        if isinstance(x, Compute) and x.into is None and (is_row_major(x) or not x.frozen):
            x.order = tuple(range(x.rank))
            x.frozen = True
            return x
        copy = self.compute(x.shape, x.dtype, lambda *c: x.at(*c), "copy")
        copy.frozen = True
        return copy


def _is_small(shape: Shape) -> bool:
    """Whether the content of so many elements is worth following."""
    count = product(shape)
    return isinstance(count, int) and count <= 4096


def _axes(prefix: str, shape: Shape) -> list[Index]:
    """A variable for each axis; an axis of extent 1 has only one coordinate."""
    return [0 if d == 1 else var(f"{prefix}{n}") for n, d in enumerate(shape)]


def _reshape_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Runs of old and new axes (extents of 1 left out) that hold the same number of elements, as short as possible."""
    groups: list[tuple[list[int], list[int]]] = []
    olds = [a for a, d in enumerate(old) if d != 1]
    news = [a for a, d in enumerate(new) if d != 1]
    i = j = 0
    while i < len(olds) or j < len(news):
        group: tuple[list[int], list[int]] = ([], [])
        left: Index = 1
        right: Index = 1
        while not group[0] or left != right:
            grow_left = isinstance(left, int) and (not isinstance(right, int) or left <= right)
            if not isinstance(left, int) and not isinstance(right, int):
                grow_left = isinstance(floordiv(right, left), int) or not group[0]
            if grow_left and i < len(olds) or j == len(news):
                if i == len(olds):
                    return None
                left = left * old[olds[i]]
                group[0].append(olds[i])
                i += 1
            else:
                right = right * new[news[j]]
                group[1].append(news[j])
                j += 1
        groups.append(group)
    return groups


def broadcast_at(x: Tensor, shape: Shape, coords: Sequence[Index]) -> ir.Expr:
    """The element of x that numpy's broadcasting to `shape` puts at `coords`."""
    skip = len(shape) - x.rank
    return x.at(*(0 if d == 1 else c for d, c in zip(x.shape, coords[skip:], strict=True)))


def narrow(e: ir.Expr, dtype: str) -> ir.Expr:
    """`e` wrapped to the range of a small integer dtype, as storing and loading it would."""
    rule = _NARROW.get(dtype)
    if rule is None or e.op in ("read", "const"):
        return e
    mask, shift = rule
    if mask:
        return ir.binary("and", e, ir.const(mask, "i32"))
    return ir.binary("shr", ir.binary("shl", e, ir.const(shift, "i32")), ir.const(shift, "i32"))
