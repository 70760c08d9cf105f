"""com.microsoft's products with an activation behind them, as onnxruntime's optimiser writes them."""

from __future__ import annotations

from .. import ir
from ..graph.graph import Node
from ..tensor.tensor import Tensor
from .conv import conv
from .elementwise import like
from .gates import activation
from .matmul import gemm
from .registry import Context, operator


def _activated(ctx: Context, y: Tensor, first: float | None, second: float | None) -> Tensor:
    """The function that the attribute `activation` names, with its parameters; Clip's are its limits."""
    name = ctx.attr_str("activation", "")
    if not name:
        return y
    if name != "Clip":
        return ctx.b.elementwise(activation(ctx, name, first, second), y, label=name.lower())
    if first is None or second is None:
        raise ctx.malformed("the activation 'Clip' needs two parameters")

    def clipped(v: ir.Expr) -> ir.Expr:
        return ir.binary("min", ir.binary("max", v, like(v, first)), like(v, second))

    return ctx.b.elementwise(clipped, y, label="clip")


@operator("FusedConv", domain="com.microsoft")
def fused_conv(
    ctx: Context, node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None, z: Tensor | None = None
) -> Tensor:
    """activation(conv(x, w, bias) + z)."""
    y = conv(ctx, node, x, w, bias)
    if z is not None:
        y = ctx.b.elementwise(ir.add, y, z, label="add")
    given = [float(v) for v in node.attrs.get("activation_params", ())]  # type: ignore[union-attr]
    first, second, *_ = (*given, None, None)
    return _activated(ctx, y, first, second)


@operator("FusedGemm", domain="com.microsoft")
def fused_gemm(ctx: Context, node: Node, x: Tensor, y: Tensor, c: Tensor | None = None) -> Tensor:
    """activation(alpha · x' y' + beta · c)."""
    first, second = (node.attrs.get(f"activation_{n}") for n in ("alpha", "beta"))
    return _activated(ctx, gemm(ctx, node, x, y, c), first, second)  # type: ignore[arg-type]
