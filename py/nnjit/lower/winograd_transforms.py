"""Winograd's transforms: matrices that turn a filter of three taps along an axis into products, one a point.

m results y of elements x and taps g are y = Aᵀ [(G g) ⊙ (Bᵀ x)] along each axis. The matrices follow from m + 1 points and
infinity (Toom-Cook). With 0, ±√½, ±√2 for m = 4 the largest error stays within twice that of the plain sum; with the
customary 0, ±1, ±2 it would be seven times as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as cartesian

from .. import ir

TAPS = 3
POINTS: dict[int, tuple[float, ...]] = {
    2: (0.0, 1.0, -1.0),
    4: (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)),
}
"""Results along an axis → where the polynomials are evaluated; infinity is one more point."""

Matrix = list[list[float]]


def matrices(results: int) -> tuple[Matrix, Matrix, Matrix]:
    """(Aᵀ [m][n], G [n][3], Bᵀ [n][n]) with n = m + 2: the results, the filter's and the elements' transforms."""
    points = POINTS[results]
    n = len(points) + 1
    back = [[p**k for p in points] + [float(k == results - 1)] for k in range(results)]
    filters = []
    elements = []
    for p in points:
        others = [x for x in points if x != p]
        scale = 1.0
        for x in others:
            scale *= p - x
        filters.append([p**k / scale for k in range(TAPS)])
        elements.append([*_expanded(others), 0.0])
    filters.append([float(k == TAPS - 1) for k in range(TAPS)])
    elements.append(_expanded(points))
    assert all(len(row) == n for row in elements)
    return back, filters, elements


def _expanded(roots: Sequence[float]) -> list[float]:
    """Coefficients, the constant first, of the product of (x − r)."""
    result = [1.0]
    for r in roots:
        result = [a - r * b for a, b in zip([0.0, *result], [*result, 0.0], strict=True)]
    return result


def transformed(matrices: list[Matrix], element, extents: Sequence[int]) -> list[ir.Expr]:  # type: ignore[no-untyped-def]
    """The tensor of `element`s with each axis multiplied by its matrix, row-major."""
    values = {at: element(at) for at in cartesian(*map(range, extents))}
    shape = list(extents)
    for axis, matrix in enumerate(matrices):
        lines = cartesian(*(range(d) for n, d in enumerate(shape) if n != axis))
        shape[axis] = len(matrix)
        made = {}
        for line in lines:
            column = [values[*line[:axis], n, *line[axis:]] for n in range(len(matrix[0]))]
            for n, value in enumerate(_times(matrix, column)):
                made[*line[:axis], n, *line[axis:]] = value
        values = made
    return [values[at] for at in cartesian(*map(range, shape))]


def _times(matrix: Matrix, column: list[ir.Expr]) -> list[ir.Expr]:
    """matrix · column. Rows of opposite points share their even and their odd part."""
    result = []
    for row in matrix:
        parts = []
        for terms in _shared_terms(row, column):
            # The sign of the first term is left to the end, so that p and −p have one odd part.
            sign = -1.0 if terms[0][0] < 0 else 1.0
            parts.append((sign, _combination([(sign * c, x) for c, x in terms])))
        parts.sort(key=lambda part: -part[0])
        (sign, total), *rest = parts
        for other_sign, other in rest:
            total = ir.add(total, other) if other_sign == sign else ir.sub(total, other)
        result.append(total if sign > 0 else ir.unary("neg", total))
    return result


def _shared_terms(row: list[float], column: list[ir.Expr]) -> list[list[tuple[float, ir.Expr]]]:
    """(factor, value) pairs of a row in groups that other rows have too, perhaps with the other sign.

    Neighbours with factors of one size, as opposite points have in the transform of the results, become one value.
    """
    pairs: list[tuple[float, ir.Expr]] = []
    n = 0
    while n < len(row):
        c, x = row[n], column[n]
        if c and n + 1 < len(row) and abs(row[n + 1]) == abs(c):
            join = ir.add if row[n + 1] == c else ir.sub
            pairs.append((c, join(x, column[n + 1])))
            n += 1
        elif c:
            pairs.append((c, x))
        n += 1
    if len(pairs) < sum(map(bool, row)):
        return [pairs]
    every = list(zip(row, column, strict=True))
    return [group for parity in (0, 1) if (group := [(c, x) for c, x in every[parity::2] if c])]


def _combination(terms: list[tuple[float, ir.Expr]]) -> ir.Expr:
    """Σ c · x; the first c is positive."""
    (c, x), *rest = terms
    total = x if c == 1 else ir.mul(ir.const(c, "f32"), x)
    for c, x in rest:
        if c == 1:
            total = ir.add(total, x)
        elif c == -1:
            total = ir.sub(total, x)
        else:
            total = ir.fma(ir.const(c, "f32"), x, total)
    return total
