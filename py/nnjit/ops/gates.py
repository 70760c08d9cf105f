"""Activation functions that recurrent layers name in an attribute."""

from __future__ import annotations

from collections.abc import Callable

from .. import ir
from .activation import clamp_unit, elu_of, negative, softplus_of
from .elementwise import like
from .registry import Context

Activation = Callable[[ir.Expr], ir.Expr]


_FUNCTIONS: dict[str, tuple[float, float, Callable[[ir.Expr, float, float], ir.Expr]]] = {
    "sigmoid": (0, 0, lambda v, a, b: ir.unary("sigmoid", v)),
    "tanh": (0, 0, lambda v, a, b: ir.unary("tanh", v)),
    "relu": (0, 0, lambda v, a, b: ir.binary("max", v, like(v, 0.0))),
    "affine": (1.0, 0.0, lambda v, a, b: ir.add(ir.mul(like(v, a), v), like(v, b))),
    "leakyrelu": (0.01, 0, lambda v, a, b: ir.select(negative(v), ir.mul(like(v, a), v), v)),
    "thresholdedrelu": (
        1.0, 0, lambda v, a, b: ir.select(ir.binary("gt", v, like(v, a)), v, like(v, 0.0)),
    ),
    "scaledtanh": (1.0, 1.0, lambda v, a, b: ir.mul(like(v, a), ir.unary("tanh", ir.mul(like(v, b), v)))),
    "hardsigmoid": (0.2, 0.5, lambda v, a, b: clamp_unit(ir.add(ir.mul(like(v, a), v), like(v, b)))),
    "elu": (1.0, 0, lambda v, a, b: elu_of(v, a)),
    "softsign": (0, 0, lambda v, a, b: ir.div(v, ir.add(like(v, 1.0), ir.unary("abs", v)))),
    "softplus": (0, 0, lambda v, a, b: softplus_of(v)),
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
