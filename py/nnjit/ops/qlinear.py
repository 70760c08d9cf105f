"""com.microsoft's operators between quantised tensors, as its static quantisation writes them, and fused products.

An element q of a quantised tensor stands for (q − zero point) · scale: operands are dequantised, the operator computed in
f32, and the result quantised again, all in one pass.
"""

from __future__ import annotations

from .. import ir
from ..graph.graph import Node
from ..tensor.tensor import Tensor
from .elementwise import like
from .matmul import matrix_product
from .pool import average_pool
from .quantization import dynamically_quantized, saturated
from .quantized import along, centred
from .reduction import reduced, softmax_over
from .registry import Context, operator

MICROSOFT = "com.microsoft"


def _real(ctx: Context, x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """What the elements of x stand for."""

    def f(v: ir.Expr, s: ir.Expr, z: ir.Expr | None = None) -> ir.Expr:
        return ir.mul(ir.cast(v if z is None else ir.sub(v, z), "f32"), s)

    operands = [x, ctx.b.reshape(scale, ())]
    if zero is not None:
        operands.append(ctx.b.reshape(zero, ()))
    return ctx.b.elementwise(f, *operands, dtype="f32", label="dequantize")


def _quantised(ctx: Context, x: Tensor, scale: Tensor, zero: Tensor | None, dtype: str) -> Tensor:
    """x as elements of `dtype`, rounded half to even and saturated."""
    operands = [x, ctx.b.reshape(scale, ())]
    if zero is not None:
        operands.append(ctx.b.reshape(zero, ()))

    def f(v: ir.Expr, s: ir.Expr, z: ir.Expr | None = None) -> ir.Expr:
        return saturated(ir.div(v, s), z, dtype)

    return ctx.b.elementwise(f, *operands, dtype=dtype, label="quantize")


@operator("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def qlinear_binary(
    ctx: Context,
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    y: Tensor,
    y_scale: Tensor,
    y_zero: Tensor | None,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    f = ir.add if node.op == "QLinearAdd" else ir.mul
    a, b = _real(ctx, x, x_scale, x_zero), _real(ctx, y, y_scale, y_zero)
    return _quantised(ctx, ctx.b.elementwise(f, a, b, label="qlinear"), scale, zero, x.dtype)


@operator("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_unary(
    ctx: Context,
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    alpha = ctx.attr_float("alpha", 0.01)

    def f(v: ir.Expr) -> ir.Expr:
        if node.op == "QLinearSigmoid":
            return ir.unary("sigmoid", v)
        return ir.select(ir.binary("lt", v, like(v, 0)), ir.mul(v, like(v, alpha)), v)

    y = ctx.b.elementwise(f, _real(ctx, x, x_scale, x_zero), label="qlinear")
    return _quantised(ctx, y, scale, zero, x.dtype)


@operator("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(ctx: Context, node: Node, scale: Tensor, zero: Tensor, *operands: Tensor) -> Tensor:
    """Operands in threes: elements, scale, zero point."""
    if not operands or len(operands) % 3:
        raise ctx.malformed(f"{len(operands)} inputs do not come in threes")
    parts = [
        _quantised(ctx, _real(ctx, *operands[n : n + 3]), scale, zero, zero.dtype)
        for n in range(0, len(operands), 3)
    ]
    return ctx.b.concat(parts, ctx.axis(ctx.attr_int("axis", 0), parts[0].rank))


@operator("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(
    ctx: Context, node: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor, scale: Tensor, zero: Tensor
) -> Tensor:
    first = 1 if ctx.attr_int("channels_last", 0) else 2
    axes = range(first, first + x.rank - 2)
    total = reduced(ctx, "sum", _real(ctx, x, x_scale, x_zero), list(axes), label="pool")
    count = ir.const(1, "i32")
    for a in axes:
        count = ir.mul(count, ir.index(x.shape[a]))
    mean = ctx.b.elementwise(lambda t: ir.div(t, ir.cast(count, "f32")), total, label="pool")
    return _quantised(ctx, mean, scale, zero, x.dtype)


@operator("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(
    ctx: Context,
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    real = _real(ctx, x, x_scale, x_zero)
    last = ctx.attr_int("channels_last", 0) == 1
    if last:
        real = ctx.b.permute(real, (0, x.rank - 1, *range(1, x.rank - 1)))
    y = average_pool(ctx, node, real)
    if last:
        y = ctx.b.permute(y, (0, *range(2, x.rank), 1))
    return _quantised(ctx, y, scale, zero, x.dtype)


@operator("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(
    ctx: Context,
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    scale: Tensor,
    zero: Tensor,
) -> Tensor:
    """The attribute `opset` says which version of Softmax it stands for: before 13 it took all axes from `axis` on."""
    axis = ctx.axis(ctx.attr_int("axis", -1), x.rank)
    axes = [axis] if ctx.attr_int("opset", 13) >= 13 else list(range(axis, x.rank))
    y = softmax_over(ctx, _real(ctx, x, x_scale, x_zero), axes)
    return _quantised(ctx, y, scale, zero, x.dtype)


@operator("QLinearWhere", domain=MICROSOFT)
def qlinear_where(
    ctx: Context,
    node: Node,
    condition: Tensor,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    scale: Tensor,
    zero: Tensor,
) -> Tensor:
    a, b = _real(ctx, x, x_scale, x_zero), _real(ctx, y, y_scale, y_zero)
    chosen = ctx.b.elementwise(ir.select, condition, a, b, dtype="f32", label="where")
    return _quantised(ctx, chosen, scale, zero, x.dtype)


@operator("QGemm", domain=MICROSOFT)
def qgemm(
    ctx: Context,
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    c: Tensor | None = None,
    scale: Tensor | None = None,
    zero: Tensor | None = None,
) -> Tensor:
    """alpha · (x' y' + c · x_scale · y_scale), c of i32; quantised where there is an output scale, else f32."""
    b = ctx.b
    if ctx.attr_int("transA", 0):
        x = b.permute(x, (1, 0))
    if ctx.attr_int("transB", 0):
        y = b.permute(y, (1, 0))
    left, right = centred(ctx, x, b.reshape(x_zero, ())), centred(ctx, y, along(ctx, y_zero, 2, -1))
    total = matrix_product(ctx, left, right, "i32")
    if c is not None:
        total = b.elementwise(ir.add, total, c, label="bias")
    alpha = ctx.attr_float("alpha", 1.0)

    def real(t: ir.Expr, p: ir.Expr, q: ir.Expr) -> ir.Expr:
        factor = ir.mul(p, q)
        return ir.mul(ir.cast(t, "f32"), factor if alpha == 1.0 else ir.mul(factor, like(factor, alpha)))

    scales = b.reshape(x_scale, ()), along(ctx, y_scale, 2, -1)
    result = b.elementwise(real, total, *scales, dtype="f32", label="scale")  # type: ignore[arg-type]
    return result if scale is None else _quantised(ctx, result, scale, zero, x.dtype)


# -- products whose result is f32 -------------------------------------------------------------------------------------


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(
    ctx: Context,
    node: Node,
    x: Tensor,
    y: Tensor,
    x_scale: Tensor,
    y_scale: Tensor,
    x_zero: Tensor | None = None,
    y_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    return scaled_product(ctx, x, y, x_scale, y_scale, x_zero, y_zero, bias)


def scaled_product(
    ctx: Context,
    x: Tensor,
    y: Tensor,
    x_scale: Tensor,
    y_scale: Tensor,
    x_zero: Tensor | None,
    y_zero: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """x y, each less its zero point, times both scales, plus a bias; y's parameters may be one for each column."""
    left = centred(ctx, x, along(ctx, x_zero, x.rank, -2))
    right = centred(ctx, y, along(ctx, y_zero, y.rank, -1))
    product = matrix_product(ctx, left, right, "i32")
    operands = [product, along(ctx, x_scale, x.rank, -2), along(ctx, y_scale, y.rank, -1)]
    if bias is not None:
        operands.append(bias)

    def f(t: ir.Expr, a: ir.Expr, b: ir.Expr, c: ir.Expr | None = None) -> ir.Expr:
        v = ir.mul(ir.cast(t, "f32"), ir.mul(a, b))
        return v if c is None else ir.add(v, c)

    return ctx.b.elementwise(f, *operands, dtype="f32", label="scale")  # type: ignore[arg-type]


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(
    ctx: Context,
    node: Node,
    x: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    return dynamic_product(ctx, x, y, y_scale, y_zero, bias)


def dynamic_product(
    ctx: Context, x: Tensor, y: Tensor, y_scale: Tensor, y_zero: Tensor | None, bias: Tensor | None = None
) -> Tensor:
    """x, quantised as a whole, times y of 8 bits; y's parameters may be one for each column."""
    q, scale, zero = dynamically_quantized(ctx, x)
    return scaled_product(ctx, q, y, scale, y_scale, zero, y_zero, bias)
