"""Attention: what its definitions share, and the operator of ONNX itself. The others: attention_microsoft, group_query.

Heads come as one axis, or as two (key-value head, query head within its group) where several query heads share one
key-value head: index arithmetic then stays linear. Shapes in comments: B batch, H heads, S query and T key positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv, minimum, product
from ..tensor.build import broadcast_at
from ..tensor.tensor import Tensor
from .contraction import contraction
from .elementwise import like
from .reduction import reduced
from .registry import Context, operator

Index = int | IntExpr
Bias = Callable[[Index, Index, Index, Index, ir.Expr], ir.Expr]
"""(batch, head, query, key, score) → the score with something added, or −∞ where the key is hidden."""


class Scores:
    """The stages of the scores, each [B, heads…, S, T]; `weights` sum to 1 over T."""

    __slots__ = ("scaled", "capped", "biased", "weights")

    def __init__(self, scaled: Tensor, capped: Tensor, biased: Tensor, weights: Tensor) -> None:
        self.scaled = scaled
        self.capped = capped
        self.biased = biased
        self.weights = weights


def split_heads(ctx: Context, x: Tensor, heads: int) -> Tensor:
    """[B, S, heads · D] as [B, heads, S, D]."""
    width = floordiv(x.shape[2], heads)
    if not ctx.env.eq(width * heads, x.shape[2]):
        raise ctx.malformed(f"a hidden size of {ctx.extents(x)[2]} does not fall into {heads} heads")
    return ctx.b.permute(ctx.b.reshape(x, (x.shape[0], x.shape[1], heads, width)), (0, 2, 1, 3))


def merge_heads(ctx: Context, x: Tensor) -> Tensor:
    """[B, H, S, D] as [B, S, H · D]."""
    batch, heads, length, width = x.shape
    return ctx.b.reshape(ctx.b.permute(x, (0, 2, 1, 3)), (batch, length, heads * width))


def attend(
    ctx: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None,
    biases: Sequence[Bias] = (),
    softcap: float = 0.0,
    may_hide_all: bool = False,
) -> tuple[Tensor, Scores]:
    """softmax(q kᵀ · scale + biases) v for q [B, H, S, D], k [B, G, T, D], v [B, G, T, E], G dividing H: [B, H, S, E].

    scale         1 / √D where None
    softcap       c > 0: scores go through c · tanh(score / c) before the biases
    may_hide_all  whether some query may have no key at all; its result is then 0
    """
    q = _by_group(ctx, q, k, v)
    scores = _scores(ctx, q, k, scale, biases, softcap, may_hide_all)
    result = contraction(
        ctx.b,
        (*q.shape[:-1], v.shape[3]),
        (k.shape[2],),
        lambda at, t: scores.weights.at(*at[:-1], t[0]),
        lambda at, t: v.at(at[0], at[1], t[0], at[-1]),
        q.dtype,
        "attention",
    )
    heads = product(q.shape[1:-2])
    return ctx.b.reshape(result, (q.shape[0], heads, q.shape[-2], v.shape[3])), scores


def _by_group(ctx: Context, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B, H, S, D] as [B, G, S, D] or [B, G, H / G, S, D]; the operands of `attend` are checked."""
    groups = k.shape[1]
    shared = floordiv(q.shape[1], groups)
    if not (ctx.env.eq(groups * shared, q.shape[1]) and ctx.env.eq(v.shape[1], groups)):
        raise ctx.malformed(
            f"{ctx.extents(q)[1]} query heads cannot share {groups} key and {ctx.extents(v)[1]} value heads"
        )
    if not (ctx.env.eq(q.shape[3], k.shape[3]) and ctx.env.eq(k.shape[2], v.shape[2])):
        raise ctx.malformed(
            f"queries {ctx.extents(q)}, keys {ctx.extents(k)} and values {ctx.extents(v)} do not fit"
        )
    heads: tuple[Index, ...] = (groups,) if shared == 1 else (groups, shared)
    return ctx.b.reshape(q, (q.shape[0], *heads, *q.shape[2:]))


def _scores(
    ctx: Context,
    q: Tensor,
    k: Tensor,
    scale: float | None,
    biases: Sequence[Bias],
    softcap: float,
    may_hide_all: bool,
) -> Scores:
    """The scores of q [B, heads…, S, D] against k [B, G, T, D], at least in float32; the rest is as in `attend`."""
    b = ctx.b
    precise = "f64" if q.dtype == "f64" else "f32"
    scaled: Tensor = contraction(
        b,
        (*q.shape[:-1], k.shape[2]),
        (q.shape[-1],),
        lambda at, d: q.at(*at[:-1], d[0]),
        lambda at, d: k.at(at[0], at[1], at[-1], d[0]),
        precise,
        "scores",
    )
    factor = 1.0 / math.sqrt(ctx.env.fix(q.shape[-1])) if scale is None else scale
    scaled = b.elementwise(lambda s: ir.mul(s, like(s, factor)), scaled, label="scores")
    capped = scaled
    if softcap > 0:
        capped = b.elementwise(
            lambda s: ir.mul(ir.unary("tanh", ir.div(s, like(s, softcap))), like(s, softcap)), scaled
        )
    biased = capped
    if biases:

        def with_biases(*at: Index) -> ir.Expr:
            head = at[1] if len(at) == 4 else at[1] * q.shape[2] + at[2]
            score = capped.at(*at)
            for bias in biases:
                score = bias(at[0], head, at[-2], at[-1], score)
            return score

        biased = b.compute(capped.shape, precise, with_biases, "mask")
    return Scores(scaled, capped, biased, _softmax(ctx, biased, may_hide_all))


def _softmax(ctx: Context, x: Tensor, may_hide_all: bool) -> Tensor:
    """Softmax over the last axis; a row of −∞ only gives zeros if `may_hide_all`."""
    b, axes = ctx.b, [x.rank - 1]
    largest: Tensor = reduced(ctx, "pmax", x, axes, label="softmax")
    if may_hide_all:
        largest = b.elementwise(lambda m: ir.binary("max", m, like(m, -3e38)), largest, label="softmax")
    e = b.elementwise(lambda v, m: ir.unary("exp_nonpositive", ir.sub(v, m)), x, largest, label="softmax")
    total: Tensor = reduced(ctx, "sum", e, axes, label="softmax")
    if may_hide_all:
        total = b.elementwise(
            lambda s: ir.select(ir.binary("eq", s, like(s, 0.0)), like(s, 1.0), s), total, label="softmax"
        )
    scale = b.elementwise(lambda s: ir.div(like(s, 1.0), s), total, label="softmax")
    return b.elementwise(ir.mul, e, scale, label="softmax")


# -- biases -----------------------------------------------------------------------------------------------------------


def hidden_unless(test: Callable[[Index, Index, Index, Index], ir.Expr]) -> Bias:
    """−∞ wherever `test` of (batch, head, query, key) fails."""

    def bias(n: Index, h: Index, i: Index, j: Index, score: ir.Expr) -> ir.Expr:
        return ir.select(test(n, h, i, j), score, like(score, -math.inf))

    return bias


def masked(ctx: Context, mask: Tensor, shape: tuple[Index, ...]) -> Bias:
    """An additive or boolean mask that broadcasts to `shape` [B, H, S, T]; keys that it is too short for are hidden."""
    short = not (mask.shape[-1] == 1 and shape[-1] == 1) and not ctx.env.eq(mask.shape[-1], shape[-1])

    def bias(n: Index, h: Index, i: Index, j: Index, score: ir.Expr) -> ir.Expr:
        at = minimum(j, mask.shape[-1] - 1) if short else j
        value = broadcast_at(mask, shape if not short else (*shape[:-1], mask.shape[-1]), (n, h, i, at))
        hidden = like(score, -math.inf)
        if mask.dtype == "bool":
            score = ir.select(value, score, hidden)
        else:
            score = ir.add(score, ir.cast(value, score.dtype))
        if short:
            score = ir.select(_less(j, mask.shape[-1]), score, hidden)
        return score

    return bias


def _less(a: Index, b: Index) -> ir.Expr:
    return ir.binary("lt", ir.index(a), ir.index(b))


def at_most(a: Index, b: ir.Expr) -> ir.Expr:
    """Whether a ≤ b."""
    return ir.binary("le", ir.index(a), b)


# -- ONNX -------------------------------------------------------------------------------------------------------------


@operator("Attention", since=23)
def attention(
    ctx: Context,
    node: Node,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Outputs: result, present key, present value, scores at the stage that qk_matmul_output_mode asks for."""
    flat = q.rank == 3
    if flat:
        q_heads, kv_heads = ctx.attr_int("q_num_heads", 0), ctx.attr_int("kv_num_heads", 0)
        if q_heads < 1 or kv_heads < 1:
            raise ctx.malformed("operands of rank 3 need the attributes q_num_heads and kv_num_heads")
        q, k, v = (split_heads(ctx, t, n) for t, n in ((q, q_heads), (k, kv_heads), (v, kv_heads)))
    offset: Index = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = ctx.b.concat([past_key, k], 2), ctx.b.concat([past_value, v], 2)
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    biases: list[Bias] = []
    if mask is not None:
        biases.append(masked(ctx, mask, shape))
    biases += _position_biases(ctx, shape[2], offset, lengths)
    scale = ctx.attr_float("scale", 0.0) if "scale" in node.attrs else None
    y, scores = attend(ctx, q, k, v, scale, biases, ctx.attr_float("softcap", 0.0), bool(biases))
    stages = (scores.scaled, scores.capped, scores.biased, scores.weights)
    stage: Tensor | None = None
    if len(node.outputs) > 3 and node.outputs[3]:
        mode = ctx.attr_int("qk_matmul_output_mode", 0)
        if not 0 <= mode <= 3:
            raise ctx.malformed(f"the qk_matmul_output_mode {mode} is unknown")
        stage = ctx.b.reshape(stages[mode], shape)
        if stage.dtype != q.dtype:
            stage = ctx.b.elementwise(lambda s: s, stage, dtype=q.dtype, label="cast")
    return (merge_heads(ctx, y) if flat else y), k, v, stage


def _position_biases(ctx: Context, queries: Index, offset: Index, lengths: Tensor | None) -> list[Bias]:
    """What is_causal, the windows and the number of keys in use hide; query i stands at position i + offset."""
    biases: list[Bias] = []

    def used(n: Index) -> ir.Expr:
        return ir.cast(lengths.at(n), "i32")  # type: ignore[union-attr]

    def place(n: Index, i: Index) -> ir.Expr:
        if lengths is None:
            return ir.index(i + offset)
        return ir.sub(ir.add(ir.index(i), used(n)), ir.index(queries))

    if ctx.attr_int("is_causal", 0):
        biases.append(hidden_unless(lambda n, h, i, j: at_most(j, place(n, i))))
    left, right = ctx.attr_int("left_window_size", -1), ctx.attr_int("right_window_size", -1)
    if left >= 0:
        biases.append(hidden_unless(lambda n, h, i, j: ir.binary("ge", ir.index(j + left), place(n, i))))
    if right >= 0:
        biases.append(hidden_unless(lambda n, h, i, j: at_most(j - right, place(n, i))))
    if lengths is not None:
        biases.append(hidden_unless(lambda n, h, i, j: ir.binary("lt", ir.index(j), used(n))))
    return biases
