"""What element indices become at the points of a tile.

An index is nearly always linear in the axes that are tiled. Then it is worked out once, for the tile's first point, and at
every other point it is that plus a multiple of the axes' coefficients, the same polynomial as a substitution would give.
"""

from __future__ import annotations

from collections.abc import Collection

from ..symbolic import Substitution
from .spec import Index, coefficient, index_substitution


class Steps:
    """What an index changes by from one point of an axis to the next: None where that depends on the point."""

    __slots__ = ("_symbols", "_known")

    def __init__(self, symbols: Collection[str]) -> None:
        self._symbols = frozenset(symbols)
        self._known: dict[tuple[Index, str], Index | None] = {}

    def of(self, index: Index, axis: str) -> Index | None:
        """See the class; the answer names nothing but symbols of the kernel."""
        key = index, axis
        if key not in self._known:
            step = coefficient(index, axis)
            plain = step is None or isinstance(step, int) or step.names <= self._symbols
            self._known[key] = step if plain else None
        return self._known[key]


class Origin:
    """Indices at the first point of a tile, in one iteration: outer axes and loop variables as `mapping` has them."""

    __slots__ = ("_at", "_known")

    def __init__(self, mapping: dict[str, Index]) -> None:
        self._at = index_substitution(mapping)
        self._known: dict[Index, Index] = {}

    def __call__(self, index: Index) -> Index:
        """The index there."""
        known = self._known.get(index)
        if known is None:
            known = self._known[index] = self._at(index)
        return known


class Place:
    """Indices at a point that is `offsets` (axis → points) from the origin; altogether, axes are as in `mapping`."""

    __slots__ = ("_origin", "_steps", "_offsets", "_mapping", "_whole")

    def __init__(
        self, origin: Origin, steps: Steps, offsets: dict[str, int], mapping: dict[str, Index]
    ) -> None:
        self._origin = origin
        self._steps = steps
        self._offsets = list(offsets.items())
        self._mapping = mapping
        self._whole: Substitution | None = None

    def __call__(self, index: Index) -> Index:
        """The index there."""
        if isinstance(index, int):
            return index
        moved: Index = 0
        for axis, offset in self._offsets:
            step = self._steps.of(index, axis)
            if step is None:
                if self._whole is None:
                    self._whole = index_substitution(self._mapping)
                return self._whole(index)
            moved = moved + step * offset
        return self._origin(index) + moved
