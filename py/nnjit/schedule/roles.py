"""What the axes of a sum of products are to its operands."""

from __future__ import annotations

from math import prod

from .. import ir
from ..lower.spec import Index, KernelSpec, coefficient, depends

MAX_UNROLL = 7
"""Iterations of an innermost reduction that are unrolled whole: the width of a filter, the channels of a picture."""


class Roles:
    """What the axes of a contraction are to its operands.

    indices   where each of the two operands is read, and `store`, where the result is written
    columns   axes fit for vectors: results are stored side by side along them, else `others`
    others    axes along which only one operand moves
    terms     of each sum, for the sizes at hand
    """

    def __init__(self, spec: KernelSpec) -> None:
        operands = spec.contraction
        assert operands is not None
        self.loads = [ir.uncast(e) for e in operands]
        self.indices: list[Index] = [e.attr[1] for e in self.loads]
        self.store: Index = next(w for s in reversed(spec.stages) for w in s.stores).index
        wide = [v for v, d in reversed(spec.outer) if spec.hint(d) >= ir.LANES]
        self.others = [v for v in wide if sum(self.moves(n, v) for n in (0, 1)) == 1]
        side_by_side = [
            v for v in wide if any(depends(i, v) for i in self.indices) and coefficient(self.store, v) == 1
        ]
        self.columns = side_by_side or self.others
        self.terms = prod(spec.hint(d) for _, d in spec.stages[0].axes)
        self._spec = spec

    def moves(self, operand: int, axis: str) -> bool:
        """Whether the operand moves along the axis."""
        return depends(self.indices[operand], axis)

    def reuse(self, operand: int) -> int:
        """Products that an element of the operand is used for, were it laid out anew for each position."""
        return max(1, prod(self._spec.hint(d) for v, d in self._spec.outer if not self.moves(operand, v)))

    def slides(self, operand: int) -> bool:
        """Whether the operand is a window that slides: laid out in the order of the sums, its elements would be repeated."""
        index, spec = self.indices[operand], self._spec
        count = span = 1
        for v, d in (*spec.outer, *spec.stages[0].axes):
            if depends(index, v):
                step = coefficient(index, v)
                if step is None:
                    return False
                count *= spec.hint(d)
                span += abs(spec.hint(step)) * (spec.hint(d) - 1)
        return span < count


def small_extent(spec: KernelSpec) -> int:
    """The extent of the innermost reduction axis if unrolling it whole is cheap, else 1."""
    extent = spec.stages[0].axes[-1][1]
    return extent if isinstance(extent, int) and 1 < extent <= MAX_UNROLL else 1
