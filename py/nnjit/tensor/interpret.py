"""Evaluating tensor expressions with numpy: the reference semantics, for tests and for looking into a model.

Every body is evaluated over the grid of its axes at once, with index expressions as integer arrays. An address outside
of a tensor raises, also on the side of a `select` that is not taken: generated kernels evaluate both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import ir
from ..errors import VerificationError
from ..graph.dtype import NUMPY
from ..graph.graph import Initializer
from ..symbolic import Opaque, evaluate
from .tensor import Alias, Compute, Index, Parts, Source, Tensor, View

_COMBINE: dict[str, np.ufunc] = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "pmax": np.fmax,
}  # fmt: skip


def interpret(
    tensors: Sequence[Tensor],
    inputs: Mapping[str, np.ndarray],
    symbols: Mapping[str, int] | None = None,
    weights: Callable[[Initializer], np.ndarray] | None = None,
) -> list[np.ndarray]:
    """The values of `tensors`.

    inputs    array of each model input      symbols   value of each symbol      weights   reads a weight's elements

    Raises VerificationError when an expression reads outside of a tensor.
    """
    machine = _Interpreter(dict(symbols or {}), inputs, weights)
    return [machine.value(t) for t in tensors]


def operands(t: Tensor) -> Iterator[Tensor]:
    """The tensors that `t` is made from: what a Compute's body reads, the parts of Parts, the base of the others."""
    if isinstance(t, Compute):
        yield from (read for read, _ in t.reads)
    elif isinstance(t, Parts):
        yield from t.parts
    elif isinstance(t, (View, Alias)):
        yield t.base


class _Interpreter:
    def __init__(
        self,
        symbols: dict[str, int],
        inputs: Mapping[str, np.ndarray],
        weights: Callable[[Initializer], np.ndarray] | None,
    ) -> None:
        self.symbols = symbols
        self.inputs = inputs
        self.weights = weights
        self.values: dict[int, np.ndarray] = {}

    def value(self, wanted: Tensor) -> np.ndarray:
        stack = [wanted]
        while stack:
            t = stack[-1]
            missing = [o for o in operands(t) if id(o) not in self.values]
            if id(t) not in self.values and missing:
                stack.extend(missing)
                continue
            stack.pop()
            if id(t) not in self.values:
                self.values[id(t)] = self.evaluate(t)
        return self.values[id(wanted)]

    def shape(self, t: Tensor) -> tuple[int, ...]:
        return self.extents(t.shape)

    def extents(self, shape: Sequence[Index]) -> tuple[int, ...]:
        return tuple(evaluate(d, self.symbols) for d in shape)

    def evaluate(self, t: Tensor) -> np.ndarray:
        if isinstance(t, Source):
            return self.source(t)
        if isinstance(t, Compute):
            return self.compute(t)
        shape = self.shape(t)
        if isinstance(t, Alias):
            return self.values[id(t.base)].transpose(t.base.order).reshape(shape)  # as it lies in memory
        if isinstance(t, Parts):
            whole: np.ndarray = np.empty(shape, NUMPY[t.dtype])
            for part in t.parts:
                _, origin = part.into  # type: ignore[misc]
                value = self.values[id(part)]
                box = (slice(o, o + d) for o, d in zip(self.extents(origin), value.shape, strict=True))
                whole[tuple(box)] = value
            return whole
        if isinstance(t, View):
            grid = _Grid(self, {f"v{n}": d for n, d in enumerate(shape)})
            result = grid.gather(t.base, t.index)
            return np.broadcast_to(result, shape)
        raise TypeError(type(t).__name__)

    def source(self, t: Source) -> np.ndarray:
        if t.kind == "input":
            array = np.asarray(self.inputs[str(t.origin)])
        elif isinstance(t.origin, Initializer):
            if self.weights is None:
                raise ValueError(f"no weights were given to read '{t.origin.name}' from")
            array = self.weights(t.origin)
        else:
            array = np.asarray(t.origin)
        shape = self.shape(t)
        if array.shape != shape:
            raise VerificationError(f"{t.kind} '{t.label}' has shape {array.shape}, but {shape} was traced")
        return array.astype(NUMPY[t.dtype], copy=False)

    def compute(self, t: Compute) -> np.ndarray:
        shape, reduce_shape = self.shape(t), self.extents(t.reduce_shape)
        axes = {f"i{n}": d for n, d in enumerate(shape)} | {f"r{n}": d for n, d in enumerate(reduce_shape)}
        grid = _Grid(self, axes)
        with np.errstate(all="ignore"):
            if t.combine is None:
                result = grid.evaluate(t.body)
            elif t.combine == "sum" and t.body.op == "mul" and t.body.dtype in ("f32", "f64"):
                a, b = map(grid.evaluate, t.body.args)
                result = _sum_of_products(a, b, shape, reduce_shape)
            else:
                body = np.broadcast_to(grid.evaluate(t.body), shape + reduce_shape)
                result = _combine(t.combine, body, len(shape))
            return np.broadcast_to(result, shape).astype(NUMPY[t.dtype])


def _combine(combine: str, body: np.ndarray, rank: int) -> np.ndarray:
    axes = tuple(range(rank, body.ndim))
    identity: float | int | None = None
    if combine in ("max", "min", "pmax") and 0 in body.shape[rank:]:
        lowest = combine != "min"
        if body.dtype.kind == "f":
            identity = -math.inf if lowest else math.inf
        else:
            info = np.iinfo(body.dtype)
            identity = int(info.min if lowest else info.max)
    if identity is not None:
        return np.full(body.shape[:rank], identity, body.dtype)
    return _COMBINE[combine].reduce(body, axis=axes, dtype=body.dtype)


def _sum_of_products(
    a: np.ndarray, b: np.ndarray, shape: tuple[int, ...], reduce_shape: tuple[int, ...]
) -> np.ndarray:
    """Σ a·b over the reduce axes, by way of matrix products."""
    rank = len(shape) + len(reduce_shape)
    operands: list[Any] = []
    extents = shape + reduce_shape
    for x in (a, b):
        x = np.asarray(x).reshape((1,) * (rank - np.ndim(x)) + np.shape(x))
        keep = [n for n in range(rank) if x.shape[n] == extents[n]]
        operands += [x.reshape([extents[n] for n in keep]), keep]
    seen = set(operands[1]) | set(operands[3])
    out = [n for n in range(len(shape)) if n in seen]
    count = math.prod(d for n, d in enumerate(extents) if n >= len(shape) and n not in seen)
    result = np.einsum(*operands, out, optimize=True) * np.asarray(count, a.dtype)
    return np.broadcast_to(result.reshape([d if n in seen else 1 for n, d in enumerate(shape)]), shape)


class _Grid:
    """All points of some axes at once: the variable of axis n is an array that varies along dimension n only."""

    def __init__(self, machine: _Interpreter, axes: dict[str, int]) -> None:
        self.machine = machine
        self.env: dict[str, np.ndarray | int] = dict(machine.symbols)
        for n, (name, extent) in enumerate(axes.items()):
            self.env[name] = np.arange(extent).reshape([-1 if m == n else 1 for m in range(len(axes))])
        self.done: dict[int, np.ndarray] = {}

    def index(self, e: Index) -> np.ndarray:
        total = np.asarray(0)
        if isinstance(e, int):
            return np.asarray(e)
        for mono, coef in e.terms.items():
            term = np.asarray(coef)
            for atom in mono:
                term = term * self.atom(atom)
            total = total + term
        return total

    def atom(self, atom: str | Opaque) -> np.ndarray | int:
        if isinstance(atom, str):
            return self.env[atom]
        if atom.op == "value":
            return self.evaluate(atom.args[0]).astype(np.int64)
        a, b = (self.index(x) for x in atom.args)
        return _INDEX_OPERATIONS[atom.op](a, b)

    def gather(self, base: Tensor, coords: Sequence[Index]) -> np.ndarray:
        value = self.machine.values[id(base)]
        at = [self.index(c) for c in coords]
        for axis, (i, extent) in enumerate(zip(at, value.shape, strict=True)):
            if i.size and (i.min() < 0 or i.max() >= extent):
                raise VerificationError(
                    f"reads {coords[axis]} = {i.min()} to {i.max()} on axis {axis} of extent {extent}"
                )
        if not at:
            return value
        return value[tuple(np.broadcast_arrays(*at))]

    def evaluate(self, body: ir.Expr) -> np.ndarray:
        """The value of `body` at every point; interned subexpressions are evaluated once."""
        stack = [body]
        while stack:
            e = stack[-1]
            missing = [a for a in e.args if id(a) not in self.done]
            if missing and id(e) not in self.done:
                stack.extend(missing)
                continue
            stack.pop()
            if id(e) not in self.done:
                self.done[id(e)] = self.node(e)
        return self.done[id(body)]

    def node(self, e: ir.Expr) -> np.ndarray:
        dtype = NUMPY[e.dtype]
        if e.op == "const":
            return np.asarray(e.attr, dtype)
        if e.op == "index":
            return self.index(e.attr).astype(dtype)
        if e.op == "read":
            attr: Any = e.attr
            return self.gather(*attr).astype(dtype)
        args = [self.done[id(a)] for a in e.args]
        if e.op == "cast":
            return convert(args[0], e.dtype)
        if e.op == "bitcast":
            return np.ascontiguousarray(args[0]).view(dtype).reshape(args[0].shape)
        return _OPERATIONS[e.op](*args).astype(dtype, copy=False)


def convert(x: np.ndarray, dtype: str) -> np.ndarray:
    """`x` in another compute dtype: floats to ints towards zero and saturating (NaN is 0), ints to ints wrapping."""
    target: Any = np.dtype(NUMPY[dtype])
    if x.dtype.kind == "f" and target.kind in "iu":
        info = np.iinfo(target)
        whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=math.inf, neginf=-math.inf))
        inside = (whole > info.min) & (whole < float(info.max))
        result = np.where(inside, whole, 0).astype(target)
        result = np.where(whole >= float(info.max), np.asarray(info.max, target), result)
        return np.where(whole <= info.min, np.asarray(info.min, target), result)
    return x.astype(target)


def _truncating_division(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return a / b
    quotient = np.floor_divide(a, b)
    return quotient + ((a % b != 0) & ((a < 0) != (b < 0)))


def _pmin(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b < a, b, a)


def _pmax(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(a < b, b, a)


def _elementwise(f: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    def apply(x: np.ndarray) -> np.ndarray:
        return np.array([f(v) for v in np.ravel(x).tolist()], np.float64).reshape(np.shape(x))

    return apply


_INDEX_OPERATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "floordiv": np.floor_divide, "mod": np.mod, "min": np.minimum, "max": np.maximum,
}  # fmt: skip

_OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _truncating_division, "rem": np.fmod,
    "min": np.minimum, "max": np.maximum, "pmin": _pmin,
    "pmax": _pmax, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "shl": np.left_shift, "shr": np.right_shift, "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt,
    "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "not": np.invert,
    "fma": lambda a, b, c: a * b + c, "select": np.where,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
    "exp": np.exp, "exp_nonpositive": np.exp, "log": np.log, "tanh": np.tanh, "erf": _elementwise(math.erf), "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "pow": np.power,
    "sigmoid": lambda x: 0.5 * np.tanh(0.5 * x) + 0.5,
}  # fmt: skip
