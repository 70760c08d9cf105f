"""Attention as com.microsoft has it: MultiHeadAttention, and Attention with its projections.

Shapes in comments: B batch, S query and T key positions.
"""

from __future__ import annotations

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv
from ..tensor.tensor import Tensor
from .attention import Bias, at_most, attend, hidden_unless, masked, merge_heads, split_heads
from .contraction import contraction
from .elementwise import like
from .qlinear import scaled_product
from .registry import MICROSOFT, Context, operator

Index = int | IntExpr


def _padding_bias(ctx: Context, mask: Tensor, total: Index, batch: Index) -> Bias:
    """A mask of keys: lengths [B], 0 or 1 for each key [B, T], or for each query and key [B, S, T].

    A hidden key's score is lowered by mask_filter_value, not removed, as the operators' definition has it.
    """
    lowered = ctx.attr_float("mask_filter_value", -10000.0)
    if mask.rank == 1 and not ctx.env.eq(mask.shape[0], batch):
        raise ctx.unsupported("a mask of first and last positions")
    if mask.rank > 3:
        raise ctx.unsupported("a mask of rank 4")
    if mask.rank > 1 and not ctx.env.eq(mask.shape[-1], total):
        raise ctx.malformed(f"a mask of shape {ctx.extents(mask)} does not fit {ctx.env.hint(total)} keys")

    def bias(n: Index, h: Index, i: Index, j: Index, score: ir.Expr) -> ir.Expr:
        if mask.rank == 1:
            seen = ir.binary("lt", ir.index(j), ir.cast(mask.at(n), "i32"))
        else:
            value = mask.at(n, j) if mask.rank == 2 else mask.at(n, i, j)
            seen = ir.binary("ne", value, ir.const(0, value.dtype))
        return ir.select(seen, score, ir.add(score, like(score, lowered)))

    return bias


@operator("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(
    ctx: Context,
    node: Node,
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    bias: Tensor | None = None,
    padding: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *more: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, S, H · D]; k and v [B, T, H · D] or [B, H, T, D]. Outputs: result, present key, present value."""
    if k is None or v is None or q.rank != 3 or any(t is not None for t in more):
        raise ctx.unsupported("packed operands or a shared cache")
    heads = _heads(ctx)
    b = ctx.b
    if bias is not None:
        q_size, k_size = q.shape[2], q.shape[2]
        pieces = ((q, 0, q_size), (k, q_size, k_size), (v, q_size + k_size, v.shape[-1]))
        q, k, v = (
            t if t.rank == 4 else b.elementwise(ir.add, t, b.slice_(bias, (start,), (1,), (size,)))
            for t, start, size in pieces
        )
    q, k, v = (t if t.rank == 4 else split_heads(ctx, t, heads) for t in (q, k, v))
    offset: Index = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = b.concat([past_key, k], 2), b.concat([past_value, v], 2)
    biases: list[Bias] = []
    if ctx.attr_int("unidirectional", 0) and q.shape[2] != 1:  # One query sees all keys, as in onnxruntime.
        biases.append(hidden_unless(lambda n, h, i, j: at_most(j, ir.index(i + offset))))
    if padding is not None:
        biases.append(_padding_bias(ctx, padding, k.shape[2], q.shape[0]))
    if attention_bias is not None:
        biases.append(masked(ctx, attention_bias, (q.shape[0], heads, q.shape[2], k.shape[2])))
    y, _ = attend(ctx, q, k, v, _scale(ctx), biases)
    return merge_heads(ctx, y), k, v


@operator("Attention", domain=MICROSOFT)
def attention_microsoft(
    ctx: Context,
    node: Node,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *more: Tensor | None,
) -> tuple[Tensor, ...]:
    """Self-attention of x [B, S, I], its projections included: weights [I, 3 · hidden]. Past and present [2, B, H, T, D]."""
    if any(t is not None for t in more):
        raise ctx.unsupported("a shared cache")
    if ctx.attr_int("do_rotary", 0):
        raise ctx.unsupported("the attribute 'do_rotary'")
    sizes = ctx.attr_ints("qkv_hidden_sizes") or [floordiv(weights.shape[1], 3)] * 3  # type: ignore[list-item]
    operands = []
    start: Index = 0
    for size in sizes:
        operands.append(_projected(ctx, x, weights, bias, start, size))
        start = start + size
    return _self_attention(ctx, node, operands, mask, past, attention_bias)


@operator("QAttention", domain=MICROSOFT)
def attention_quantized(
    ctx: Context,
    node: Node,
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    x_scale: Tensor,
    scale: Tensor,
    mask: Tensor | None = None,
    x_zero: Tensor | None = None,
    zero: Tensor | None = None,
    past: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The same with x and weights of 8 bits; the weights' parameters may be one for each column."""
    for name in ("do_rotary", "past_present_share_buffer"):
        if ctx.attr_int(name, 0):
            raise ctx.unsupported(f"the attribute '{name}'")
    if (
        x.rank != 3
        or weights.rank != 2
        or not ctx.env.eq(floordiv(weights.shape[1], 3) * 3, weights.shape[1])
    ):
        raise ctx.malformed(f"weights {ctx.extents(weights)} do not project {ctx.extents(x)} to three parts")
    whole = scaled_product(ctx, x, weights, x_scale, scale, x_zero, zero, bias)
    size = floordiv(weights.shape[1], 3)
    operands = [ctx.b.slice_(whole, (0, 0, n * size), (1, 1, 1), (*whole.shape[:2], size)) for n in range(3)]
    return _self_attention(ctx, node, operands, mask, past, None)


def _self_attention(
    ctx: Context,
    node: Node,
    operands: list[Tensor],
    mask: Tensor | None,
    past: Tensor | None,
    attention_bias: Tensor | None,
) -> tuple[Tensor, ...]:
    """The attention of queries, keys and values [B, S, heads · D]; the present keys and values where they are wanted."""
    b, heads = ctx.b, _heads(ctx)
    q, k, v = (split_heads(ctx, t, heads) for t in operands)
    offset: Index = 0
    if past is not None:
        offset = past.shape[3]
        old = [b.view(past, past.shape[1:], lambda n, h, t, d, i=i: (i, n, h, t, d)) for i in (0, 1)]
        k, v = b.concat([old[0], k], 2), b.concat([old[1], v], 2)
    biases: list[Bias] = []
    if ctx.attr_int("unidirectional", 0):
        biases.append(hidden_unless(lambda n, h, i, j: at_most(j, ir.index(i + offset))))
    if mask is not None:
        biases.append(_padding_bias(ctx, mask, k.shape[2], q.shape[0]))
    if attention_bias is not None:
        biases.append(masked(ctx, attention_bias, (q.shape[0], heads, q.shape[2], k.shape[2])))
    y, _ = attend(ctx, q, k, v, _scale(ctx), biases)
    results = [merge_heads(ctx, y)]
    if len(node.outputs) > 1 and node.outputs[1]:
        results.append(b.concat([b.reshape(t, (1, *t.shape)) for t in (k, v)], 0))
    return tuple(results)


def _projected(
    ctx: Context, x: Tensor, weights: Tensor, bias: Tensor | None, start: Index, size: Index
) -> Tensor:
    """x [B, S, I] times columns start … start + size − 1 of the weights, plus their bias."""
    product = contraction(
        ctx.b,
        (*x.shape[:2], size),
        (x.shape[2],),
        lambda at, k: x.at(at[0], at[1], k[0]),
        lambda at, k: weights.at(k[0], start + at[2]),
        x.dtype,
        "projection",
    )
    if bias is None:
        return product
    return ctx.b.elementwise(ir.add, product, ctx.b.slice_(bias, (start,), (1,), (size,)), label="bias")


def _heads(ctx: Context) -> int:
    heads = ctx.attr_int("num_heads", 0)
    if heads < 1:
        raise ctx.malformed("the attribute 'num_heads' is missing")
    return heads


def _scale(ctx: Context) -> float | None:
    """The attribute `scale`; 0 stands for the default."""
    return ctx.attr_float("scale", 0.0) or None
