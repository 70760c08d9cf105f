"""com.microsoft's GroupQueryAttention: causal attention of decoders, with a cache of keys and values.

Shapes in comments: B batch, H query heads, G key-value heads, S new and T all positions, P those of the past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv, maximum, minimum
from ..tensor.tensor import Tensor
from .attention import Bias, attend, hidden_unless, masked, merge_heads
from .registry import MICROSOFT, Context, operator
from .rotary import turn

Index = int | IntExpr


@operator("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(
    ctx: Context,
    node: Node,
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    lengths: Tensor,
    total: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    positions: Tensor | None = None,
    bias: Tensor | None = None,
    *more: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """query [B, S, H · D], key and value [B, S, G · D], or all three side by side in `query`; past [B, G, P, D].

    lengths   [B]: positions in use after this step, less 1           total   their maximum over the batch
    cos, sin  [positions, half of what do_rotary turns]               bias    added to the scores [B or 1, H or 1, S, T]
    Outputs: result [B, S, H · D], present key and value [B, G, max(P, total), D].
    """
    b, env = ctx.b, ctx.env
    _refuse_variants(ctx, more)
    q, k, v = _projections(ctx, query, key, value)
    batch, new = q.shape[0], q.shape[1]
    lengths = b.reshape(lengths, (batch,))
    everything = ctx.ints(total, "total_sequence_length")[0]
    first = past_key is None or past_key.shape[2] == 0 or env.eq(new, everything)

    def before(n: Index) -> Index:
        """Positions of the past in use."""
        return 0 if first else ir.value_index(ir.cast(lengths.at(n), "i32")) + 1 - new

    if ctx.attr_int("do_rotary", 0):
        q, k = _rotated(ctx, q, k, cos, sin, positions, before)
    q, k, v = (b.permute(t, (0, 2, 1, 3)) for t in (q, k, v))
    if past_key is not None and past_value is not None and past_key.shape[2] != 0:
        k = _present(ctx, past_key, k, everything, before)
        v = _present(ctx, past_value, v, everything, before)
    biases = [_causal(before, ctx.attr_int("local_window_size", -1))]
    if bias is not None:
        biases.insert(0, masked(ctx, bias, (batch, q.shape[1], new, k.shape[2])))
    scale = ctx.attr_float("scale", 0.0) or None
    y, _ = attend(ctx, q, k, v, scale, biases, ctx.attr_float("softcap", 0.0))
    return merge_heads(ctx, y), k, v


def _refuse_variants(ctx: Context, more: Sequence[Tensor | None]) -> None:
    """Raises UnsupportedError for what later versions of the operator added, as attributes or as the inputs `more`."""
    for name, default in (("causal", 1), ("sliding_window_cache", 0), ("qk_output", 0)):
        if ctx.attr_int(name, default) != default:
            raise ctx.unsupported(f"the attribute '{name}'")
    if ctx.attr_int("smooth_softmax", 0) > 0 or any(t is not None for t in more):
        raise ctx.unsupported("a sink of the softmax, a quantised cache, norms of heads, or padded chunks")


def _projections(
    ctx: Context, query: Tensor, key: Tensor | None, value: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, S, H, D], k and v [B, S, G, D], of three tensors or of one that holds them side by side."""
    heads, groups = ctx.attr_int("num_heads", 0), ctx.attr_int("kv_num_heads", 0)
    if heads < 1 or groups < 1:
        raise ctx.malformed("the attributes num_heads and kv_num_heads are missing")

    def width(x: Tensor, count: int) -> int:
        return ctx.env.fix(floordiv(x.shape[2], count))

    if key is None or value is None:
        each = width(query, heads + 2 * groups)
        return (
            _heads_of(ctx, query, 0, heads, each),
            _heads_of(ctx, query, heads, groups, each),
            _heads_of(ctx, query, heads + groups, groups, each),
        )
    return (
        _heads_of(ctx, query, 0, heads, width(query, heads)),
        _heads_of(ctx, key, 0, groups, width(key, groups)),
        _heads_of(ctx, value, 0, groups, width(value, groups)),
    )


def _heads_of(ctx: Context, x: Tensor, start: int, count: int, width: int) -> Tensor:
    """Heads `start` … `start + count − 1` of x [B, S, heads · D] as [B, S, count, D]."""
    size = count * width
    if not ctx.env.eq(x.shape[2], size):
        x = ctx.b.slice_(x, (0, 0, start * width), (1, 1, 1), (*x.shape[:2], size))
    return ctx.b.reshape(x, (*x.shape[:2], count, width))


def _rotated(
    ctx: Context,
    q: Tensor,
    k: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    positions: Tensor | None,
    before: Callable[[Index], Index],
) -> tuple[Tensor, Tensor]:
    """q and k [B, S, heads, D] turned by their positions: `positions` [B or 1, S], or those that follow the past."""
    if cos is None or sin is None:
        raise ctx.malformed("do_rotary needs the inputs cos_cache and sin_cache")

    def place(n: Index, s: Index) -> Index:
        if positions is None:
            return before(n) + s
        return ir.value_index(positions.at(0 if positions.shape[0] == 1 else n, s))

    turned = 2 * ctx.env.fix(cos.shape[-1])
    interleaved = ctx.attr_int("rotary_interleaved", 0) == 1
    q = turn(ctx, q, cos, sin, place, turned, interleaved)
    return q, turn(ctx, k, cos, sin, place, turned, interleaved)


def _causal(before: Callable[[Index], Index], window: int) -> Bias:
    """Each query sees the keys up to its own position, with `window` > 0 only the latest so many."""

    def seen(n: Index, h: Index, i: Index, j: Index) -> ir.Expr:
        here = ir.index(before(n) + i)
        visible = ir.binary("le", ir.index(j), here)
        if window > 0:
            visible = ir.binary("and", visible, ir.binary("gt", ir.index(j + window), here))
        return visible

    return hidden_unless(seen)


def _present(
    ctx: Context, past: Tensor, new: Tensor, total: Index, before: Callable[[Index], Index]
) -> Tensor:
    """The cache after this step: `new` [B, G, S, D] where the past in use ends, in as many positions as it takes."""
    env = ctx.env
    capacity, added = past.shape[2], new.shape[2]
    if past.dtype != new.dtype:
        raise ctx.unsupported(f"a cache of {past.dtype} for keys of {new.dtype}")
    grows = env.eq(total, capacity + added)
    extent = total if grows or env.gt(total, capacity) else capacity

    def element(n: Index, g: Index, t: Index, d: Index) -> ir.Expr:
        start = before(n)
        old = past.at(n, g, minimum(t, capacity - 1), d)
        fresh = new.at(n, g, maximum(minimum(t - start, added - 1), 0), d)
        is_old = ir.binary("lt", ir.index(t), ir.index(start))
        if not grows:
            is_old = ir.binary("or", is_old, ir.binary("ge", ir.index(t), ir.index(start + added)))
        return ir.select(is_old, old, fresh)

    return ctx.b.compute((*new.shape[:2], extent, new.shape[3]), new.dtype, element, "cache")
