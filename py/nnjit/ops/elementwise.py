"""Elementwise operators: functions of one element, comparisons, logic, bits, choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ir
from ..graph.dtype import NUMPY
from ..graph.graph import Node
from ..tensor.tensor import Tensor
from . import content as known
from .content import Element
from .registry import MAX_CONTENT, Context, operator

SIGNED = ("i8", "i16", "i32", "i64")


def like(v: ir.Expr, value: float) -> ir.Expr:
    """The constant `value` in the dtype of v."""
    return ir.const(value, v.dtype)


def pointwise(
    ctx: Context,
    f: Callable[..., ir.Expr],
    fold: Callable[..., Element] | None,
    *xs: Tensor,
    dtype: str | None = None,
    exact: bool = True,
) -> Tensor:
    """f of every element, with numpy's broadcasting; `fold` does the same for known elements."""
    if fold is not None and all(x.content is not None for x in xs):
        extent = np.broadcast_shapes(*(x.content.shape for x in xs))
        if math.prod(extent) <= MAX_CONTENT:
            folded = ctx.fold(lambda *c: known.apply(fold, *c), *xs, dtype=dtype, exact=exact)
            if folded is not None:
                return folded
    return ctx.b.elementwise(f, *xs, dtype=dtype, label=ctx.node.op.lower())


def same_dtype(ctx: Context, *xs: Tensor) -> None:
    """Raise ModelFormatError unless all operands are of one dtype."""
    for x in xs[1:]:
        if x.dtype != xs[0].dtype:
            raise ctx.malformed(f"operands are of dtype {xs[0].dtype} and {x.dtype}")


def legacy_broadcast(ctx: Context, x: Tensor, y: Tensor) -> Tensor:
    """y shaped so that numpy's rule puts it where opsets before 7 did: along `axis` of x."""
    if ctx.opset >= 7 or not ctx.attr_int("broadcast", 0) or y.rank == 0 or "axis" not in ctx.node.attrs:
        return y
    axis = ctx.axis(ctx.attr_int("axis", 0), x.rank)
    return ctx.b.reshape(y, (*y.shape, *(1,) * (x.rank - axis - y.rank)))


# -- unary functions --------------------------------------------------------------------------------------------

_INTRINSICS: dict[str, tuple[str, Any]] = {
    "Exp": ("exp", np.exp), "Log": ("log", np.log), "Sqrt": ("sqrt", np.sqrt), "Sin": ("sin", np.sin),
    "Cos": ("cos", np.cos), "Tan": ("tan", np.tan), "Asin": ("asin", np.arcsin), "Acos": ("acos", np.arccos),
    "Atan": ("atan", np.arctan), "Sinh": ("sinh", np.sinh), "Cosh": ("cosh", np.cosh),
    "Asinh": ("asinh", np.arcsinh), "Acosh": ("acosh", np.arccosh), "Atanh": ("atanh", np.arctanh),
    "Tanh": ("tanh", np.tanh), "Erf": ("erf", np.frompyfunc(math.erf, 1, 1)),
}  # fmt: skip


@operator(*_INTRINSICS)
def intrinsic(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """A function that the IR knows by name."""
    name, function = _INTRINSICS[node.op]

    def fold(content: np.ndarray) -> np.ndarray:
        numbers = known.apply(lambda v: known.number(ctx.env, v), content).astype(NUMPY[x.dtype])
        with np.errstate(all="ignore"):
            return function(numbers).astype(object)

    folded = ctx.fold(fold, x, exact=False)
    return folded or ctx.b.elementwise(lambda v: ir.unary(name, v), x, label=name)


@operator("Neg")
def neg(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return pointwise(ctx, lambda v: ir.unary("neg", v), lambda v: -v, x)


@operator("Abs")
def abs_(ctx: Context, node: Node, x: Tensor) -> Tensor:
    if x.dtype[0] == "u" or x.dtype == "bool":
        return x
    return pointwise(ctx, lambda v: ir.unary("abs", v), lambda v: known.absolute(ctx.env, v), x, exact=False)


def _rounding(op: str, number: Callable[[float], float]) -> None:
    def definition(ctx: Context, node: Node, x: Tensor) -> Tensor:
        def fold(v: Element) -> Element:
            return number(v) if isinstance(v, float) and math.isfinite(v) else v

        return pointwise(ctx, lambda v: ir.unary(op.lower(), v), fold, x)

    operator(op)(definition)


_rounding("Floor", lambda v: float(math.floor(v)))
_rounding("Ceil", lambda v: float(math.ceil(v)))
_rounding("Round", lambda v: float(round(v)))


@operator("Reciprocal")
def reciprocal(ctx: Context, node: Node, x: Tensor) -> Tensor:
    def fold(v: Element) -> Element:
        return known.div_float(ctx.env, 1.0, known.number(ctx.env, v))

    return pointwise(ctx, lambda v: ir.div(like(v, 1), v), fold, x, exact=False)


@operator("Sign")
def sign(ctx: Context, node: Node, x: Tensor) -> Tensor:
    def f(v: ir.Expr) -> ir.Expr:
        negative = v if x.dtype[0] == "u" else ir.select(ir.binary("lt", v, like(v, 0)), like(v, -1), v)
        return ir.select(ir.binary("gt", v, like(v, 0)), like(v, 1), negative)

    return pointwise(ctx, f, lambda v: known.sign(ctx.env, v), x, exact=False)


@operator("IsNaN")
def is_nan(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return pointwise(ctx, no_number, None, x, dtype="bool")


def no_number(v: ir.Expr) -> ir.Expr:
    """Whether v is NaN: by its bits, where that is possible, as a shader compiler may assume that there are no NaNs."""
    if v.dtype != "f32":
        return ir.binary("ne", v, v)
    return ir.binary("gt", _magnitude_bits(v), ir.const(0x7F800000, "u32"))


@operator("IsInf")
def is_inf(ctx: Context, node: Node, x: Tensor) -> Tensor:
    signs = [s for s, name in ((0, "detect_positive"), (1, "detect_negative")) if ctx.attr_int(name, 1)]

    def f(v: ir.Expr) -> ir.Expr:
        if not signs:
            return ir.const(False, "bool")
        if v.dtype == "f32":
            if len(signs) == 2:
                return ir.binary("eq", _magnitude_bits(v), ir.const(0x7F800000, "u32"))
            return ir.binary("eq", ir.bitcast(v, "u32"), ir.const(0x7F800000 | signs[0] << 31, "u32"))
        tests = [ir.binary("eq", v, like(v, -math.inf if s else math.inf)) for s in signs]
        return tests[0] if len(tests) == 1 else ir.binary("or", *tests)

    return pointwise(ctx, f, None, x, dtype="bool")


def _magnitude_bits(v: ir.Expr) -> ir.Expr:
    return ir.binary("and", ir.bitcast(v, "u32"), ir.const(0x7FFFFFFF, "u32"))


# -- comparisons and logic --------------------------------------------------------------------------------------

_COMPARISONS = {"Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}


@operator(*_COMPARISONS)
def compare(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    y = legacy_broadcast(ctx, x, y)
    op = _COMPARISONS[node.op]

    def fold(a: Element, b: Element) -> Element:
        return known.compare(ctx.env, op, a, b)

    return pointwise(ctx, lambda a, b: ir.binary(op, a, b), fold, x, y, dtype="bool", exact=False)


@operator("Equal")
def equal(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    y = legacy_broadcast(ctx, x, y)

    def f(a: ir.Expr, b: ir.Expr) -> ir.Expr:
        return ir.unary("not", ir.binary("xor", a, b)) if a.dtype == "bool" else ir.binary("eq", a, b)

    def fold(a: Element, b: Element) -> Element:
        return known.compare(ctx.env, "eq", a, b)

    return pointwise(ctx, f, fold, x, y, dtype="bool", exact=False)


_LOGIC: dict[str, tuple[str, Callable[[bool, bool], bool]]] = {
    "And": ("and", lambda a, b: a and b), "Or": ("or", lambda a, b: a or b), "Xor": ("xor", lambda a, b: a != b),
}  # fmt: skip


@operator(*_LOGIC)
def logic(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    y = legacy_broadcast(ctx, x, y)
    op, function = _LOGIC[node.op]

    def fold(a: Element, b: Element) -> Element:
        return function(known.truth(ctx.env, a), known.truth(ctx.env, b))

    return pointwise(ctx, lambda a, b: ir.binary(op, a, b), fold, x, y, exact=False)


@operator("Not")
def not_(ctx: Context, node: Node, x: Tensor) -> Tensor:
    def fold(v: Element) -> Element:
        return not known.truth(ctx.env, v)

    return pointwise(ctx, lambda v: ir.unary("not", v), fold, x, exact=False)


_BITWISE = {"BitwiseAnd": "and", "BitwiseOr": "or", "BitwiseXor": "xor"}


@operator(*_BITWISE, since=18)
def bitwise(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    return pointwise(ctx, lambda a, b: ir.binary(_BITWISE[node.op], a, b), None, x, y)


@operator("BitwiseNot", since=18)
def bitwise_not(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return pointwise(ctx, lambda v: ir.unary("not", v), None, x)


@operator("BitShift", since=11)
def bit_shift(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)
    direction = ctx.attr_str("direction", "")
    if direction not in ("LEFT", "RIGHT"):
        raise ctx.malformed(f"the direction must be LEFT or RIGHT, not '{direction}'")
    width = 8 * ir.STORAGE_BYTES[x.dtype]

    def f(a: ir.Expr, b: ir.Expr) -> ir.Expr:
        inside = ir.binary("lt", b, like(b, width))
        if x.dtype != "u32":
            inside = ir.binary("and", inside, ir.binary("ge", b, like(b, 0)))
        count = ir.select(inside, b, like(b, 0))
        if direction == "LEFT":
            return ir.select(inside, ir.binary("shl", a, count), like(a, 0))
        beyond = (
            ir.select(ir.binary("lt", a, like(a, 0)), like(a, -1), like(a, 0))
            if x.dtype in SIGNED
            else like(a, 0)
        )
        shifted = ir.binary("shr", a, count)
        if x.dtype == "u64":  # computed as i64, whose shift copies the sign
            halved = ir.binary("and", ir.binary("shr", a, like(a, 1)), like(a, (1 << 63) - 1))
            rest = ir.binary("max", ir.sub(count, like(b, 1)), like(b, 0))
            shifted = ir.select(ir.binary("eq", count, like(b, 0)), a, ir.binary("shr", halved, rest))
        return ir.select(inside, shifted, beyond)

    return pointwise(ctx, f, None, x, y)


@operator("Where")
def where(ctx: Context, node: Node, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    same_dtype(ctx, x, y)

    def fold(c: Element, a: Element, b: Element) -> Element:
        return a if known.truth(ctx.env, c) else b

    return pointwise(ctx, ir.select, fold, condition, x, y, dtype=x.dtype, exact=False)


@operator("Clip")
def clip(
    ctx: Context, node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    """x limited to [low, high]: attributes before opset 11, inputs since."""
    if ctx.opset < 11:
        if "min" in node.attrs:
            low = ctx.b.constant(np.asarray(ctx.attr_float("min", 0.0), np.float32), x.dtype)
        if "max" in node.attrs:
            high = ctx.b.constant(np.asarray(ctx.attr_float("max", 0.0), np.float32), x.dtype)
    limits = [(op, t) for op, t in (("max", low), ("min", high)) if t is not None]
    if not limits:
        return x
    operands = [x, *(ctx.b.reshape(t, ()) if t.rank else t for _, t in limits)]
    same_dtype(ctx, *operands)

    def f(v: ir.Expr, *bounds: ir.Expr) -> ir.Expr:
        for (op, _), bound in zip(limits, bounds, strict=True):
            v = ir.binary(op, v, bound)
        return v

    def fold(v: Element, *bounds: Element) -> Element:
        for (op, _), bound in zip(limits, bounds, strict=True):
            v = (known.maximum if op == "max" else known.minimum)(ctx.env, v, bound)
        return v

    return pointwise(ctx, f, fold, *operands, exact=False)
