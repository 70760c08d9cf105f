"""Rotary position embeddings: pairs of elements turned by angles that grow with their positions.

J. Su et al.: RoFormer, arXiv 2104.09864
"""

from __future__ import annotations

from collections.abc import Callable

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv, maximum, minimum
from ..tensor.tensor import Tensor
from .indexing import count_outside
from .registry import MICROSOFT, Context, operator

Index = int | IntExpr
Place = Callable[[Index, Index], Index]
"""(batch, place in the sequence at hand) → position in the whole sequence."""


@operator("RotaryEmbedding", since=23)
def rotary_embedding(
    ctx: Context, node: Node, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None
) -> Tensor:
    return _rotary(ctx, x, cos, sin, positions)


@operator("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding_microsoft(
    ctx: Context, node: Node, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor
) -> Tensor:
    """`positions` [B, S], or [1]: that of the first element of the sequence."""
    return _rotary(ctx, x, cos, sin, positions)


def _rotary(ctx: Context, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None) -> Tensor:
    """x [B, S, H · D] or [B, H, S, D] with pairs of elements turned by the angles of their positions.

    The caches hold a row for each position, or, without `positions`, for each batch and place in the sequence.
    """
    b, shape = ctx.b, x.shape
    if x.rank == 3:
        heads = ctx.attr_int("num_heads", 0)
        if heads < 1:
            if not ctx.attr_int("rotary_embedding_dim", 0):
                heads_of = floordiv(x.shape[2], 2 * ctx.env.fix(cos.shape[-1]))
                heads = ctx.env.fix(heads_of)
            else:
                raise ctx.malformed("an operand of rank 3 needs the attribute num_heads")
        x = b.reshape(x, (x.shape[0], x.shape[1], heads, floordiv(x.shape[2], heads)))
    else:
        x = b.permute(x, (0, 2, 1, 3))  # [B, S, H, D]
    width = ctx.env.fix(x.shape[3])
    turned = ctx.attr_int("rotary_embedding_dim", 0) or width
    place: Place | None = None
    if positions is not None:
        least_rows = x.shape[1] if positions.rank == 1 else 1
        operand = 1 if ctx.node.domain == MICROSOFT else 3
        count_outside(ctx, positions, [cos.shape[0] - least_rows + 1], operand, negative=False)
        if positions.rank == 1:
            place = lambda n, s: ir.value_index(positions.at(0)) + s  # noqa: E731
        else:
            place = lambda n, s: ir.value_index(positions.at(0 if positions.shape[0] == 1 else n, s))  # noqa: E731
    y = turn(ctx, x, cos, sin, place, turned, ctx.attr_int("interleaved", 0) == 1)
    return b.reshape(y, shape) if len(shape) == 3 else b.permute(y, (0, 2, 1, 3))


def turn(
    ctx: Context, x: Tensor, cos: Tensor, sin: Tensor, place: Place | None, turned: int, interleaved: bool
) -> Tensor:
    """x [B, S, H, D] with pairs of the first `turned` elements of D turned by the angles of their positions.

    place         (batch, place in the sequence) → row of the caches [rows, turned / 2]; None: caches [B or 1, S, turned / 2]
    interleaved   whether neighbours are pairs, rather than elements `turned` / 2 apart
    """
    b = ctx.b
    width, half = ctx.env.fix(x.shape[3]), turned // 2
    if turned > width or not ctx.env.eq(cos.shape[-1], half):
        raise ctx.malformed(f"caches of width {ctx.extents(cos)[-1]} do not fit {turned} of {width} elements")

    def row(cache: Tensor, n: Index, s: Index, d: Index) -> ir.Expr:
        if place is None:
            return cache.at(0 if cache.shape[0] == 1 else n, s, d)
        return cache.at(maximum(minimum(place(n, s), cache.shape[0] - 1), 0), d)

    def pair(n: Index, s: Index, h: Index, d: Index) -> tuple[ir.Expr, ir.Expr]:
        places = (2 * d, 2 * d + 1) if interleaved else (d, d + half)
        first, second = (x.at(n, s, h, p) for p in places)
        return first, second

    def real(n: Index, s: Index, h: Index, d: Index, *_: Index) -> ir.Expr:
        first, second = pair(n, s, h, d)
        return ir.sub(ir.mul(row(cos, n, s, d), first), ir.mul(row(sin, n, s, d), second))

    def imaginary(n: Index, s: Index, h: Index, d: Index, *_: Index) -> ir.Expr:
        first, second = pair(n, s, h, d)
        return ir.add(ir.mul(row(sin, n, s, d), first), ir.mul(row(cos, n, s, d), second))

    extents = (*x.shape[:3], half, 1) if interleaved else (*x.shape[:3], half)
    parts: list[Tensor] = [b.compute(extents, x.dtype, f, "rotary") for f in (real, imaginary)]
    if interleaved:
        parts = [b.reshape(b.concat(parts, 4), (*x.shape[:3], turned))]
    if turned < width:
        rest = b.slice_(x, (0, 0, 0, turned), (1, 1, 1, 1), (*x.shape[:3], width - turned))
        parts.append(rest)
    return parts[0] if len(parts) == 1 else b.concat(parts, 3)
