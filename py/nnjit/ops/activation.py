"""Activation functions. Formulas: https://onnx.ai/onnx/operators/"""

from __future__ import annotations

import math
from collections.abc import Callable

from .. import ir
from ..graph.graph import Node
from ..tensor.tensor import Tensor
from .elementwise import like
from .registry import Context, operator

Function = Callable[[ir.Expr], ir.Expr]


def _apply(ctx: Context, f: Function, x: Tensor) -> Tensor:
    return ctx.b.elementwise(f, x, label=ctx.node.op.lower())


def negative(v: ir.Expr) -> ir.Expr:
    """Whether v < 0."""
    return ir.binary("lt", v, like(v, 0))


def elu_of(v: ir.Expr, alpha: float) -> ir.Expr:
    """α (e^v − 1) below 0, v from there on."""
    return ir.select(negative(v), ir.mul(like(v, alpha), _expm1(v)), v)


def _expm1(v: ir.Expr) -> ir.Expr:
    return ir.sub(ir.unary("exp", v), like(v, 1))


def softplus_of(v: ir.Expr) -> ir.Expr:
    """log(1 + e^v), without overflow."""
    tail = ir.unary(
        "log", ir.add(like(v, 1), ir.unary("exp_nonpositive", ir.unary("neg", ir.unary("abs", v))))
    )
    return ir.add(ir.binary("max", v, like(v, 0)), tail)


def gelu_of(v: ir.Expr) -> ir.Expr:
    """v · Φ(v) with the error function."""
    half = ir.mul(v, like(v, 0.5))
    return ir.mul(half, ir.add(like(v, 1), ir.unary("erf", ir.mul(v, like(v, math.sqrt(0.5))))))


def gelu_tanh_of(v: ir.Expr) -> ir.Expr:
    """v · Φ(v), approximated: 0.5 v (1 + tanh(√(2/π) (v + 0.044715 v³)))."""
    cubic = ir.add(v, ir.mul(like(v, 0.044715), ir.mul(ir.mul(v, v), v)))
    inner = ir.unary("tanh", ir.mul(like(v, math.sqrt(2 / math.pi)), cubic))
    return ir.mul(ir.mul(v, like(v, 0.5)), ir.add(like(v, 1), inner))


def clamp_unit(v: ir.Expr) -> ir.Expr:
    """v limited to [0, 1]."""
    return ir.binary("min", ir.binary("max", v, like(v, 0)), like(v, 1))


@operator("Relu")
def relu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return _apply(ctx, lambda v: ir.binary("max", v, like(v, 0)), x)


@operator("Sigmoid")
def sigmoid(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return _apply(ctx, lambda v: ir.unary("sigmoid", v), x)


@operator("LeakyRelu")
def leaky_relu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    alpha = ctx.attr_float("alpha", 0.01)
    return _apply(ctx, lambda v: ir.select(negative(v), ir.mul(v, like(v, alpha)), v), x)


@operator("PRelu")
def prelu(ctx: Context, node: Node, x: Tensor, slope: Tensor) -> Tensor:
    if ctx.opset < 7 and slope.rank == 1 and x.rank > 2:  # one slope for each channel
        slope = ctx.b.reshape(slope, (*slope.shape, *(1,) * (x.rank - 2)))
    return ctx.b.elementwise(lambda v, s: ir.select(negative(v), ir.mul(v, s), v), x, slope, label="prelu")


@operator("Elu")
def elu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    alpha = ctx.attr_float("alpha", 1.0)
    return _apply(ctx, lambda v: elu_of(v, alpha), x)


@operator("Selu")
def selu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    alpha = ctx.attr_float("alpha", 1.67326319217681884765625)
    gamma = ctx.attr_float("gamma", 1.05070102214813232421875)

    def f(v: ir.Expr) -> ir.Expr:
        return ir.mul(like(v, gamma), elu_of(v, alpha))

    return _apply(ctx, f, x)


@operator("Celu", since=12)
def celu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    alpha = ctx.attr_float("alpha", 1.0)

    def f(v: ir.Expr) -> ir.Expr:
        return ir.select(negative(v), ir.mul(like(v, alpha), _expm1(ir.div(v, like(v, alpha)))), v)

    return _apply(ctx, f, x)


@operator("ThresholdedRelu")
def thresholded_relu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    alpha = ctx.attr_float("alpha", 1.0)
    return _apply(ctx, lambda v: ir.select(ir.binary("gt", v, like(v, alpha)), v, like(v, 0)), x)


@operator("HardSigmoid")
def hard_sigmoid(ctx: Context, node: Node, x: Tensor) -> Tensor:
    alpha, beta = ctx.attr_float("alpha", 0.2), ctx.attr_float("beta", 0.5)
    return _apply(ctx, lambda v: clamp_unit(ir.add(ir.mul(v, like(v, alpha)), like(v, beta))), x)


@operator("HardSwish", since=14)
def hard_swish(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return _apply(ctx, lambda v: ir.mul(v, clamp_unit(ir.add(ir.mul(v, like(v, 1 / 6)), like(v, 0.5)))), x)


@operator("Softplus")
def softplus(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return _apply(ctx, softplus_of, x)


@operator("Softsign")
def softsign(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return _apply(ctx, lambda v: ir.div(v, ir.add(like(v, 1), ir.unary("abs", v))), x)


@operator("Mish", since=18)
def mish(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """x · tanh(softplus(x))."""
    return _apply(ctx, lambda v: ir.mul(v, ir.unary("tanh", softplus_of(v))), x)


@operator("Swish", since=24)
def swish(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """x · sigmoid(alpha · x)."""
    return _swish(ctx, x, ctx.attr_float("alpha", 1.0))


@operator("QuickGelu", domain="com.microsoft")
def quick_gelu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return _swish(ctx, x, ctx.attr_float("alpha", 1.702))


def _swish(ctx: Context, x: Tensor, alpha: float) -> Tensor:
    return _apply(ctx, lambda v: ir.mul(v, ir.unary("sigmoid", ir.mul(v, like(v, alpha)))), x)


@operator("Shrink", since=9)
def shrink(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """x + bias below −lambd, x − bias above lambd, 0 between."""
    bias, limit = ctx.attr_float("bias", 0.0), ctx.attr_float("lambd", 0.5)

    def f(v: ir.Expr) -> ir.Expr:
        w = ir.cast(v, "f32") if v.dtype not in ("f32", "f64") else v
        below, above = ir.binary("lt", w, like(w, -limit)), ir.binary("gt", w, like(w, limit))
        shrunk = ir.select(above, ir.sub(w, like(w, bias)), like(w, 0))
        return ir.cast(ir.select(below, ir.add(w, like(w, bias)), shrunk), v.dtype)

    return _apply(ctx, f, x)


@operator("Gelu", since=20)
def gelu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    approximate = ctx.attr_str("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise ctx.malformed(f"approximate must be 'none' or 'tanh', not '{approximate}'")
    return _apply(ctx, gelu_of if approximate == "none" else gelu_tanh_of, x)


@operator("Gelu", domain="com.microsoft")
def contrib_gelu(ctx: Context, node: Node, x: Tensor) -> Tensor:
    return _apply(ctx, gelu_of, x)


@operator("BiasGelu", domain="com.microsoft")
def bias_gelu(ctx: Context, node: Node, x: Tensor, bias: Tensor) -> Tensor:
    return ctx.b.elementwise(lambda v, b: gelu_of(ir.add(v, b)), x, bias, label="biasgelu")


@operator("FastGelu", domain="com.microsoft")
def fast_gelu(ctx: Context, node: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    if bias is None:
        return _apply(ctx, gelu_tanh_of, x)
    return ctx.b.elementwise(lambda v, b: gelu_tanh_of(ir.add(v, b)), x, bias, label="fastgelu")
