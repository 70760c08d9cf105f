"""Products with, and rows of, weights that are quantised in blocks: com.microsoft's MatMulNBits and GatherBlockQuantized.

A weight is (code − zero point) · scale, where the codes of a block, neighbours along one axis, share a scale and a zero
point. Nothing is unpacked ahead: what is kept in memory, and read by a product, is the packed codes.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv, maximum, minimum, mod
from ..tensor.tensor import Tensor
from .elementwise import like
from .narrow import as_words, code, narrow_dtype
from .registry import Context, operator

Index = int | IntExpr
MICROSOFT = "com.microsoft"
_Zero = Callable[[Index, Index], ir.Expr]
"""(row, block) → the zero point, as f32."""


@operator("MatMulNBits", domain=MICROSOFT)
def matmul_nbits(
    ctx: Context,
    node: Node,
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    group_index: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """x [..., K] times the transpose of a weight [N, K] of 2, 4 or 8 bits, plus a bias [N].

    codes    u8 [N, blocks of K, bytes]             scales   [N, blocks]
    zeros    u8, packed as the codes are, [N, bytes]; or [N, blocks] of the scales' dtype
    """
    b = ctx.b
    bits, block = ctx.attr_int("bits", 4), ctx.attr_int("block_size", 0)
    columns, depth = ctx.attr_int("N", 0), ctx.attr_int("K", 0)
    if group_index is not None:
        raise ctx.unsupported("the input 'g_idx', which puts the rows of the weight into another order")
    if ctx.attr_int("weight_prepacked", 0):
        raise ctx.unsupported("weights in the layout of another device (the attribute 'weight_prepacked')")
    if bits not in (2, 4, 8):
        raise ctx.unsupported(f"weights of {bits} bits")
    if block < 16 or block & (block - 1):
        raise ctx.malformed(f"block_size must be a power of two from 16 on, not {block}")
    blocks = -(-depth // block)
    size = block * bits // 8
    if ctx.env.hint(codes.size) != columns * blocks * size or codes.dtype != "u8":
        raise ctx.malformed(
            f"a weight {codes.dtype}{ctx.extents(codes)} does not hold {columns} × {depth} codes of {bits} bits"
        )
    if not ctx.env.eq(x.shape[-1], depth):
        raise ctx.malformed(f"an operand of shape {ctx.extents(x)} does not fit K = {depth}")
    packed = as_words(b, b.reshape(codes, (columns, blocks, size)))
    scales = b.reshape(scales, (columns, blocks))
    zero = _zero_points(ctx, zeros, columns, blocks, bits)
    each = 32 // bits
    if blocks * block != depth:
        x = _padded(ctx, x, blocks * block)

    def product(*at: Index) -> ir.Expr:
        *rows, n, k, w, j = at
        weight = ir.sub(ir.cast(code(packed.at(n, k, w), j, bits), "f32"), zero(n, k))
        element = x.at(*rows, k * block + w * each + j)
        return ir.mul(element, ir.mul(weight, scales.at(n, k)))

    shape = (*x.shape[:-1], columns)
    y: Tensor = b.reduce("sum", shape, (blocks, block // each, each), product, x.dtype, "matmul_nbits")
    return y if bias is None else b.elementwise(ir.add, y, bias, label="bias")


def _zero_points(ctx: Context, zeros: Tensor | None, rows: int, blocks: int, bits: int) -> _Zero:
    """The zero points of each row and block, 2^(bits − 1) where none are given."""
    if zeros is None:
        return lambda n, k: ir.const(1 << (bits - 1), "f32")
    if zeros.dtype != "u8":
        plain = ctx.b.reshape(zeros, (rows, blocks))
        return lambda n, k: plain.at(n, k)
    packed = ctx.b.reshape(zeros, (rows, -(-blocks * bits // 8)))
    each = 8 // bits
    return lambda n, k: ir.cast(code(packed.at(n, floordiv(k, each)), mod(k, each), bits), "f32")


def _padded(ctx: Context, x: Tensor, extent: int) -> Tensor:
    """x with zeros after the elements of its last axis."""
    last = x.shape[-1]

    def element(*at: Index) -> ir.Expr:
        value = x.at(*at[:-1], minimum(at[-1], last - 1))
        return ir.select(ir.binary("lt", ir.index(at[-1]), ir.index(last)), value, like(value, 0))

    return ctx.b.compute((*x.shape[:-1], extent), x.dtype, element, "pad")


@operator("GatherBlockQuantized", domain=MICROSOFT)
def gather_block_quantized(
    ctx: Context, node: Node, codes: Tensor, indices: Tensor, scales: Tensor, zeros: Tensor | None = None
) -> Tensor:
    """Gather along `gather_axis` of weights quantised in blocks along `quantize_axis`; an index out of range gives zeros.

    codes    i4 or u4, or u8 with 8 / bits codes along the last axis in each byte; `zeros` likewise
    """
    b = ctx.b
    block = ctx.attr_int("block_size", 128)
    narrow = narrow_dtype(codes)
    bits = ctx.attr_int("bits", 4)
    if narrow is None and (codes.dtype != "u8" or bits not in (2, 4, 8)):
        raise ctx.unsupported(f"codes of {bits} bits as {codes.dtype}")
    if block < 16 or block & (block - 1):
        raise ctx.malformed(f"block_size must be a power of two from 16 on, not {block}")
    each = 1 if narrow else 8 // bits
    shape = (*codes.shape[:-1], codes.shape[-1] * each)
    rank = len(shape)
    axis = ctx.axis(ctx.attr_int("gather_axis", 0), rank)
    along = ctx.axis(ctx.attr_int("quantize_axis", 1), rank)
    if each > 1 and axis == along:
        raise ctx.malformed("packed codes cannot be gathered along the axis of their blocks")
    read = _codes_of(ctx, codes, bits, narrow)
    read_zero = None if zeros is None else _codes_of(ctx, zeros, bits, narrow_dtype(zeros))
    default = 0 if narrow else 1 << (bits - 1)
    after = axis + indices.rank

    def element(*c: Index) -> ir.Expr:
        chosen = ir.cast(indices.at(*c[axis:after]), "i32")
        extent = ir.index(shape[axis])
        wrapped = ir.select(ir.binary("lt", chosen, ir.const(0, "i32")), ir.add(chosen, extent), chosen)
        inside = ir.binary(
            "and", ir.binary("ge", wrapped, ir.const(0, "i32")), ir.binary("lt", wrapped, extent)
        )
        place = maximum(minimum(ir.value_index(wrapped), shape[axis] - 1), 0)
        at = (*c[:axis], place, *c[after:])
        block_at = tuple(floordiv(i, block) if n == along else i for n, i in enumerate(at))
        zero = ir.const(default, "i32") if read_zero is None else read_zero(block_at)
        value = ir.mul(ir.cast(ir.sub(read(at), zero), "f32"), scales.at(*block_at))
        return ir.select(inside, value, like(value, 0))

    return b.compute(
        (*shape[:axis], *indices.shape, *shape[axis + 1 :]), scales.dtype, element, "gather_quantized"
    )


def _codes_of(
    ctx: Context, x: Tensor, bits: int, narrow: str | None
) -> Callable[[tuple[Index, ...]], ir.Expr]:
    """Coordinates → code, of a tensor whose last axis is packed into bytes unless its dtype says so itself."""
    if narrow is not None or bits == 8:
        return lambda at: x.at(*at)
    each = 8 // bits
    last = x.shape[-1]
    if isinstance(last, int) and last % 4 == 0:
        x, each = as_words(ctx.b, x), 4 * each
    return lambda at: code(x.at(*at[:-1], floordiv(at[-1], each)), mod(at[-1], each), bits)
