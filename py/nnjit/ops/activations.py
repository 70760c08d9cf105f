"""Activation functions that recurrent layers name in an attribute."""

from __future__ import annotations

from collections.abc import Callable

from .. import ir
from .registry import Context

Activation = Callable[[ir.Expr], ir.Expr]


def _c(v: ir.Expr, value: float) -> ir.Expr:
    return ir.const(value, v.dtype)


def _positive(v: ir.Expr, then: ir.Expr, otherwise: ir.Expr) -> ir.Expr:
    return ir.select(ir.binary("ge", v, _c(v, 0.0)), then, otherwise)


def _softplus(v: ir.Expr) -> ir.Expr:
    """log(1 + exp v), as max(v, 0) + log(1 + exp −|v|) to stay in range."""
    small = ir.unary("exp", ir.unary("neg", ir.unary("abs", v)))
    return ir.add(ir.binary("max", v, _c(v, 0.0)), ir.unary("log", ir.add(_c(v, 1.0), small)))


def _hard_sigmoid(v: ir.Expr, alpha: float, beta: float) -> ir.Expr:
    linear = ir.add(ir.mul(_c(v, alpha), v), _c(v, beta))
    return ir.binary("max", ir.binary("min", linear, _c(v, 1.0)), _c(v, 0.0))


def _elu(v: ir.Expr, alpha: float) -> ir.Expr:
    return _positive(v, v, ir.mul(_c(v, alpha), ir.sub(ir.unary("exp", v), _c(v, 1.0))))


_FUNCTIONS: dict[str, tuple[float, float, Callable[[ir.Expr, float, float], ir.Expr]]] = {
    "sigmoid": (0, 0, lambda v, a, b: ir.unary("sigmoid", v)),
    "tanh": (0, 0, lambda v, a, b: ir.unary("tanh", v)),
    "relu": (0, 0, lambda v, a, b: ir.binary("max", v, _c(v, 0.0))),
    "affine": (1.0, 0.0, lambda v, a, b: ir.add(ir.mul(_c(v, a), v), _c(v, b))),
    "leakyrelu": (0.01, 0, lambda v, a, b: _positive(v, v, ir.mul(_c(v, a), v))),
    "thresholdedrelu": (
        1.0, 0, lambda v, a, b: ir.select(ir.binary("gt", v, _c(v, a)), v, _c(v, 0.0)),
    ),
    "scaledtanh": (1.0, 1.0, lambda v, a, b: ir.mul(_c(v, a), ir.unary("tanh", ir.mul(_c(v, b), v)))),
    "hardsigmoid": (0.2, 0.5, _hard_sigmoid),
    "elu": (1.0, 0, lambda v, a, b: _elu(v, a)),
    "softsign": (0, 0, lambda v, a, b: ir.div(v, ir.add(_c(v, 1.0), ir.unary("abs", v)))),
    "softplus": (0, 0, lambda v, a, b: _softplus(v)),
}  # fmt: skip
"""Name in lower case → default alpha, default beta, the function of (v, alpha, beta)."""


def activation(ctx: Context, name: str, alpha: float | None, beta: float | None) -> Activation:
    """The function called `name`, letter case aside. Raises ModelFormatError when there is none of that name."""
    found = _FUNCTIONS.get(name.lower())
    if found is None:
        raise ctx.malformed(f"the activation '{name}' is unknown")
    default_alpha, default_beta, f = found
    a = default_alpha if alpha is None else float(alpha)
    b = default_beta if beta is None else float(beta)
    return lambda v: f(v, a, b)
