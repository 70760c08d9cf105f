"""Col2Im: overlapping blocks, each a column of a matrix, summed to an image."""

from __future__ import annotations

import math

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv, maximum, minimum, product
from ..tensor.tensor import Tensor
from .reduction import wide
from .registry import Context, operator
from .window import all_of

Index = int | IntExpr


@operator("Col2Im", since=18)
def col2im(ctx: Context, node: Node, x: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
    """x [N, C · elements of a block, blocks] → [N, C, image_shape …].

    Element p of an axis is the sum over the taps k of the blocks t with t · stride + k · dilation = p + padding.
    """
    image, block = ctx.ints(image_shape, "image shape"), ctx.fixed_ints(block_shape, "block shape")
    rank = len(block)
    strides = ctx.attr_ints("strides") or [1] * rank
    dilations = ctx.attr_ints("dilations") or [1] * rank
    pads = ctx.attr_ints("pads") or [0] * (2 * rank)
    if x.rank != 3 or len(image) != rank or len(pads) != 2 * rank or {len(strides), len(dilations)} != {rank}:
        raise ctx.malformed(
            f"an input {ctx.extents(x)}, image, block, strides, dilations and pads do not fit each other"
        )
    blocks = [
        floordiv(image[a] + pads[a] + pads[rank + a] - (block[a] - 1) * dilations[a] - 1, strides[a]) + 1
        for a in range(rank)
    ]
    size = math.prod(block)
    channels = floordiv(x.shape[1], size)
    if not ctx.env.eq(channels * size, x.shape[1]) or not ctx.env.eq(product(blocks), x.shape[2]):
        raise ctx.malformed(f"an input {ctx.extents(x)} does not hold the blocks of such an image")
    columns = ctx.b.reshape(x, (x.shape[0], channels, *block, *blocks))

    def element(n: Index, c: Index, *at: Index) -> ir.Expr:
        taps, places, inside = at[rank:], [], []
        for a in range(rank):
            begin = at[a] + pads[a] - taps[a] * dilations[a]
            last = (blocks[a] - 1) * strides[a]
            inside.append(ir.binary("ge", ir.index(begin), ir.const(0, "i32")))
            inside.append(ir.binary("le", ir.index(begin), ir.index(last)))
            if strides[a] > 1:
                rest = ir.binary("rem", ir.index(begin), ir.const(strides[a], "i32"))
                inside.append(ir.binary("eq", rest, ir.const(0, "i32")))
            places.append(floordiv(minimum(maximum(begin, 0), last), strides[a]))
        value = columns.at(n, c, *taps, *places)
        return ir.select(all_of(inside), value, ir.const(0, value.dtype))  # type: ignore[arg-type]

    total = ctx.b.reduce("sum", (x.shape[0], channels, *image), block, element, wide(x.dtype), "col2im")
    return (
        total
        if total.dtype == x.dtype
        else ctx.b.elementwise(lambda v: v, total, dtype=x.dtype, label="col2im")
    )
