"""Matrix products: MatMul, Gemm, Einsum."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr
from ..tensor.build import broadcast_at
from ..tensor.tensor import Tensor
from .contraction import Read, contraction
from .elementwise import like
from .registry import Context, operator

Index = int | IntExpr


def matrix_product(ctx: Context, x: Tensor, y: Tensor, dtype: str | None = None) -> Tensor:
    """numpy's matmul of x and y, as a tensor of `dtype` (that of x by default); either may have rank 1 or more.

    Raises ModelFormatError when the operands do not fit each other.
    """
    if x.rank == 0 or y.rank == 0:
        raise ctx.malformed("matrix products need operands of rank 1 or more")
    rows, columns = x.shape[-2:-1], y.shape[-1:] if y.rank > 1 else ()
    depth, other = x.shape[-1], y.shape[-2] if y.rank > 1 else y.shape[0]
    if not ctx.env.eq(depth, other):
        raise ctx.malformed(f"cannot multiply {ctx.extents(x)} by {ctx.extents(y)}")
    try:
        batch = ctx.b.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError as error:
        raise ctx.malformed(str(error)) from None
    nb, nr = len(batch), len(batch) + len(rows)

    def left(at: Sequence[Index], k: Sequence[Index]) -> ir.Expr:
        return broadcast_at(x, (*batch, *rows, depth), (*at[:nr], *k))

    def right(at: Sequence[Index], k: Sequence[Index]) -> ir.Expr:
        return broadcast_at(y, (*batch, depth, *columns), (*at[:nb], *k, *at[nr:]))

    return contraction(ctx.b, (*batch, *rows, *columns), (depth,), left, right, dtype or x.dtype, "matmul")


def scaled(ctx: Context, x: Tensor, factor: float) -> Tensor:
    """x × factor; x itself when factor is 1."""
    if factor == 1.0:
        return x
    return ctx.b.elementwise(lambda v: ir.mul(v, like(v, factor)), x, label="scale")


@operator("MatMul")
def matmul(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    return matrix_product(ctx, x, y)


@operator("Gemm")
def gemm(ctx: Context, node: Node, x: Tensor, y: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha · x' y' + beta · c, where a prime is a transposition if transA or transB says so."""
    b = ctx.b
    if x.rank != 2 or y.rank != 2:
        raise ctx.malformed(f"operands must be matrices, not {ctx.extents(x)} and {ctx.extents(y)}")
    if ctx.attr_int("transA", 0):
        x = b.permute(x, (1, 0))
    if ctx.attr_int("transB", 0):
        y = b.permute(y, (1, 0))
    product = matrix_product(ctx, x, y)
    alpha, beta = ctx.attr_float("alpha", 1.0), ctx.attr_float("beta", 1.0)
    if c is None or beta == 0.0:
        return scaled(ctx, product, alpha)

    def epilogue(p: ir.Expr, q: ir.Expr) -> ir.Expr:
        p = p if alpha == 1.0 else ir.mul(p, like(p, alpha))
        return ir.add(p, q if beta == 1.0 else ir.mul(q, like(q, beta)))

    return b.elementwise(epilogue, product, c, label="gemm")


@operator("FusedMatMul", "TransposeMatMul", domain="com.microsoft")
def fused_matmul(ctx: Context, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """alpha · x' y', with transposition of the last two axes, or of the batch axes with the last but one."""
    for name in ("transBatchA", "transBatchB"):
        if ctx.attr_int(name, 0):
            raise ctx.unsupported(f"the attribute '{name}'")
    if ctx.attr_int("transA", 0) and x.rank > 1:
        x = transpose_last(ctx, x)
    if ctx.attr_int("transB", 0) and y.rank > 1:
        y = transpose_last(ctx, y)
    return scaled(ctx, matrix_product(ctx, x, y), ctx.attr_float("alpha", 1.0))


def transpose_last(ctx: Context, x: Tensor) -> Tensor:
    """x with its last two axes exchanged."""
    return ctx.b.permute(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


# -- Einsum -----------------------------------------------------------------------------------------------------------


@operator("Einsum", since=12)
def einsum(ctx: Context, node: Node, *xs: Tensor) -> Tensor:
    """numpy's einsum. More than two operands are contracted from left to right."""
    terms, output = _parse_equation(ctx, xs)
    operands = [_merge_repeated(ctx, x, term) for x, term in zip(xs, terms, strict=True)]
    extents: dict[str, Index] = {}
    for x, term in operands:
        for letter, d in zip(term, x.shape, strict=True):
            known = extents.setdefault(letter, d)
            if known == 1:
                extents[letter] = d
            elif d != 1 and not ctx.env.eq(known, d):
                raise ctx.malformed(
                    f"axis '{letter}' has extents {ctx.env.hint(known)} and {ctx.env.hint(d)}"
                )
    x, term = operands[0]
    for n, (y, other) in enumerate(operands[1:], 2):
        later = set(output).union(*(t for _, t in operands[n:]))
        result = output if n == len(operands) else [c for c in dict.fromkeys((*term, *other)) if c in later]
        x, term = _contract(ctx, x, term, y, other, result, extents), result
    return _sum_to(ctx, x, term, output, extents)


def _parse_equation(ctx: Context, xs: tuple[Tensor, ...]) -> tuple[list[list[str]], list[str]]:
    """Axis letters of each operand and of the result; the axes of an ellipsis are called …0, …1, from the last."""
    equation = ctx.attr_str("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    texts = left.split(",")
    if len(texts) != len(xs):
        raise ctx.malformed(f"equation '{equation}' is for {len(texts)} operands, not {len(xs)}")
    widest = 0
    terms = []
    for text, x in zip(texts, xs, strict=True):
        width = x.rank - len(text.replace("...", ""))
        if width < 0 or (width > 0 and "..." not in text):
            raise ctx.malformed(f"'{text}' of equation '{equation}' does not fit an operand of rank {x.rank}")
        widest = max(widest, width)
        terms.append(_letters(text, width))
    if arrow:
        return terms, _letters(right, widest)
    seen = [c for term in terms for c in term]
    once = sorted(c for c in set(seen) if not c.startswith("…") and seen.count(c) == 1)
    return terms, [*_letters("...", widest), *once]


def _letters(text: str, width: int) -> list[str]:
    before, dots, after = text.partition("...")
    return [*before, *(f"…{n}" for n in reversed(range(width if dots else 0))), *after]


def _merge_repeated(ctx: Context, x: Tensor, term: list[str]) -> tuple[Tensor, list[str]]:
    """A letter twice in one operand takes the diagonal: a view with each letter once."""
    letters = list(dict.fromkeys(term))
    if len(letters) == len(term):
        return x, term
    places = [letters.index(c) for c in term]
    shape = [x.shape[term.index(c)] for c in letters]
    return ctx.b.view(x, shape, lambda *c: [c[p] for p in places]), letters


def _contract(
    ctx: Context,
    x: Tensor,
    x_term: list[str],
    y: Tensor,
    y_term: list[str],
    output: list[str],
    extents: dict[str, Index],
) -> Tensor:
    """The sum of products over every letter that is not in `output`."""
    x, x_term = _drop_lone(ctx, x, x_term, {*y_term, *output}, extents)
    y, y_term = _drop_lone(ctx, y, y_term, {*x_term, *output}, extents)
    summed = [c for c in dict.fromkeys((*x_term, *y_term)) if c not in output]

    def reader(t: Tensor, term: list[str]) -> Read:
        def read(at: Sequence[Index], k: Sequence[Index]) -> ir.Expr:
            coords = dict(zip(output, at, strict=True)) | dict(zip(summed, k, strict=True))
            return t.at(*(0 if d == 1 else coords[c] for c, d in zip(term, t.shape, strict=True)))

        return read

    shape = [extents[c] for c in output]
    reduced = [extents[c] for c in summed]
    return contraction(ctx.b, shape, reduced, reader(x, x_term), reader(y, y_term), x.dtype, "einsum")


def _drop_lone(
    ctx: Context, x: Tensor, term: list[str], needed: set[str], extents: dict[str, Index]
) -> tuple[Tensor, list[str]]:
    """x summed over the letters that nothing else has: cheaper before the product than within it."""
    kept = [c for c in term if c in needed]
    return _sum_to(ctx, x, term, kept, extents), kept


def _sum_to(ctx: Context, x: Tensor, term: list[str], output: list[str], extents: dict[str, Index]) -> Tensor:
    """x with its axes in the order of `output`, summed over the others."""
    if output == term:
        return x
    summed = [c for c in term if c not in output]
    if not summed:
        return ctx.b.permute(x, [term.index(c) for c in output])

    def element(*at: Index) -> ir.Expr:
        coords = dict(zip((*output, *summed), at, strict=True))
        return x.at(*(coords[c] for c in term))

    shape = [x.shape[term.index(c)] for c in output]
    return ctx.b.reduce("sum", shape, [x.shape[term.index(c)] for c in summed], element, x.dtype, "einsum")
