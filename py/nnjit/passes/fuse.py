"""Fusion: Computes that can run in one pass over their axes become one Group, and each Group one kernel.

A Group has outer axes, which every member shares, and perhaps inner axes, which its row reductions run over:

    contraction + epilogue   outer (m, n);   the reduction's own axis k is private to it
    softmax, LayerNorm, …    outer (row,);   inner (column,): maxima and sums per row, then elements per column
    elementwise chain        outer all axes; nothing is reduced

Nothing here knows operators: the rules are about index maps alone. A member reads another member only at the very
coordinates at which the group is, so that its value is still in a register (or is computed again, per stage).
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import ir
from ..codegen_passes import ALL_PASSES, Passes
from ..symbolic import IntExpr, product, var
from ..tensor.env import Env
from ..tensor.tensor import Compute, Index, Parts, Shape, Source, Storage, Tensor
from .group import Axes, Group, index_operands, reachable, storage_of, writers


def _is_heavy(body: ir.Expr) -> bool:
    """Costly enough that computing it again for every stage of a row would show."""
    return any(e.op in ir.INTRINSICS for e in ir.nodes(body))


class Fuser:
    """Forms groups; see the module's docstring. `max_buffers`: how many buffers a kernel may bind, if that is limited."""

    def __init__(self, env: Env, max_buffers: int | None = None, passes: Passes = ALL_PASSES) -> None:
        self.env = env
        self.passes = passes
        self.max_buffers = max_buffers
        self.group_of: dict[Compute, Group] = {}
        self.groups: list[Group] = []
        self.static: dict[Compute, bool] = {}
        self.users: dict[Compute, list[Compute]] = {}
        self.outputs: set[Tensor] = set()

    def run(self, computes: list[Compute], outputs: list[Tensor]) -> list[Group]:
        """Groups in an order in which they can run. `computes` is in topological order."""
        alive = reachable(outputs)
        self.outputs = set(outputs)
        for c in alive:
            for t, _ in c.reads:
                for w in writers(t):
                    self.users.setdefault(w, []).append(c)
        for number, c in enumerate(computes):
            if c in alive:
                self._place(c, number)
        return self._ordered()

    def _place(self, c: Compute, number: int) -> None:
        found = c.reads
        # A Parts tensor is made at load only as a whole.
        boxes = c.into[0].parts if c.into else [c]
        # An output is written at each inference: its memory is the caller's in between.
        self.static[c] = c not in self.outputs and all(
            _symbol_free(b) and all(self._is_static(t) for t, _ in b.reads) for b in boxes
        )
        needed = {self.group_of[w] for t, _ in found for w in writers(t)}
        candidates = {self.group_of[s] for t, _ in found if isinstance(s := t, Compute) and s.into is None}
        candidates |= {self.group_of[u] for u in self._twins(c)}
        # What a reduction leaves is in a register, out of reach of address arithmetic.
        decisive = index_operands(c.body)
        for g in sorted(candidates, key=lambda g: -g.last):
            if (
                g.static == self.static[c]
                and self._wanted(g)
                and not (g.reduces and not g.rows and self._feeds_rows(c))
                and not (g.reduces and any(self.group_of.get(t) is g for t in decisive))  # type: ignore[call-overload]
                and not any(q.ancestors & g.bit for q in needed if q is not g)
                and self._binds(g, c)
                and self._join(g, c, found)
            ):
                break
        else:
            g = self._new_group(c, number, found)
        g.members.append(c)
        g.last = number
        self._depend(g, needed)
        self.group_of[c] = g
        for h in sorted(needed - {g}, key=lambda h: h.first):
            self._absorb(g, h, c, found)

    def _wanted(self, g: Group) -> bool:
        """Whether the passes that are on let anything join g."""
        if g.rows:
            return self.passes.row_fusion
        return self.passes.epilogues if g.reduces else self.passes.chains

    def _depend(self, g: Group, needed: set[Group]) -> None:
        """Let g, and with it every group that needs g, run after the `needed` ones."""
        g.deps |= needed - {g}
        above = 0
        for q in needed:
            if q is not g:
                above |= q.ancestors | q.bit
        if above & ~g.ancestors:
            for h in self.groups:
                if h is g or h.ancestors & g.bit:
                    h.ancestors |= above

    def _binds(self, g: Group, *newcomers: Compute) -> bool:
        """Whether the kernel of g with the newcomers binds few enough buffers, counting results that later members may still hide."""
        if self.max_buffers is None:
            return True
        members = {*g.members, *newcomers}
        bound: set[Storage] = set()
        for m in members:
            bound |= {s for t, _ in m.reads if (s := storage_of(t)) not in members}
            if m.into is not None:
                bound.add(m.into[0])
            elif m in self.outputs or not members.issuperset(self.users.get(m, ())):
                bound.add(m)
        return len(bound) <= self.max_buffers

    def _feeds_rows(self, c: Compute) -> bool:
        """Whether only row reductions use c: then it is computed there, instead of being stored by a contraction."""
        users = self.users.get(c, [])
        return bool(users) and all(
            u.combine and self._is_row_reduction(u, [(t, at) for t, at in u.reads if t is c]) for u in users
        )

    def _is_static(self, t: Tensor) -> bool:
        s = storage_of(t)
        if isinstance(s, Source):
            return s.kind != "input"
        return all(self.static[w] for w in writers(t))

    def _new_group(self, c: Compute, number: int, found: list[tuple[Tensor, Shape]]) -> Group:
        outer: Axes = []
        coords: list[Index] = [0] * c.rank
        for axis in c.order:
            if c.shape[axis] != 1:
                name = f"o{len(outer)}"
                outer.append((name, c.shape[axis]))
                coords[axis] = var(name)
        private: Axes = [(f"k{n}", d) for n, d in enumerate(c.reduce_shape)]
        inner: Axes = []
        if c.combine and self._is_row_reduction(c, found):
            inner = [(f"n{n}", d) for n, (_, d) in enumerate(private)]
            private = inner
        g = Group(outer, inner, len(self.groups), number, self.static[c])
        g.coords[c] = tuple(coords)
        g.reduce_vars[c] = tuple(v for v, _ in private)
        self.groups.append(g)
        return g

    def _is_row_reduction(self, c: Compute, found: list[tuple[Tensor, Shape]]) -> bool:
        """Whether some operand's elements are each read exactly once: then later members may read it again per row."""
        wanted = {var(f"i{n}") for n, d in enumerate(c.shape) if d != 1}
        wanted |= {var(f"r{n}") for n, d in enumerate(c.reduce_shape) if d != 1}
        return (
            self.passes.row_fusion
            and bool(c.reduce_shape)
            and any(
                {x for x in coords if not isinstance(x, int)} == wanted
                and product([d for d in t.shape]) == product([*c.shape, *c.reduce_shape])
                for t, coords in found
            )
        )

    # -- joining ------------------------------------------------------------------------------------------------

    def _join(self, g: Group, c: Compute, found: list[tuple[Tensor, Shape]]) -> bool:
        if c.combine:
            return self._join_reduction(g, c, found)
        mapping = self._match(g, found, c.shape, ())
        if mapping is None:
            return False
        if not self._map_inner(g, mapping, "i", c.shape) or not self._covers(g, mapping):
            return False
        g.coords[c] = tuple(mapping.get(f"i{n}", 0) for n in range(c.rank))
        return True

    def _join_reduction(self, g: Group, c: Compute, found: list[tuple[Tensor, Shape]]) -> bool:
        if not self._is_row_reduction(c, found):
            return False
        twin = next((u for u in self._twins(c) if self.group_of[u] is g), None)
        if twin is not None and not any(self.group_of[w] is g for t, _ in found for w in writers(t)):
            g.coords[c], g.reduce_vars[c] = g.coords[twin], g.reduce_vars[twin]
            return True
        mapping = self._match(g, found, c.shape, c.reduce_shape)
        if mapping is None:
            return False
        if g.rows and not self._map_inner(g, mapping, "r", c.reduce_shape):
            return False
        if any(d != 1 and f"i{n}" not in mapping for n, d in enumerate(c.shape)):
            return False
        over = [mapping.get(f"r{n}") for n, d in enumerate(c.reduce_shape) if d != 1]
        if not over or None in over:
            return False
        if not g.rows and not self._make_rows(g, over):
            return False
        if over != [var(v) for v, _ in g.inner]:
            return False
        if any(mapping.get(f"i{n}", 0) in over for n in range(c.rank)) or not self._covers(g, mapping):
            return False
        g.coords[c] = tuple(mapping.get(f"i{n}", 0) for n in range(c.rank))
        names = {n: mapping[f"r{n}"] for n, d in enumerate(c.reduce_shape) if d != 1}
        g.reduce_vars[c] = tuple(str(names[n]) if n in names else "" for n in range(len(c.reduce_shape)))
        return True

    def _twins(self, c: Compute) -> list[Compute]:
        """Row reductions placed before that read what c reduces, or what was made along with it, at the same coordinates.

        One pass over the rows serves both: the least and the greatest element, say, of the same tensor."""
        if not c.combine or not self.passes.row_fusion:
            return []
        axes = (c.shape, c.reduce_shape, c.order)
        return [
            u
            for t, at in c.reads
            if isinstance(t, Compute) and t.into is None
            for made in self.group_of[t].members
            for u in self.users.get(made, ())
            if u in self.group_of
            and u.combine
            and self.group_of[u].rows
            and (u.shape, u.reduce_shape, u.order) == axes
            and any(s is made and place == at for s, place in u.reads)
        ]

    @staticmethod
    def _map_inner(g: Group, mapping: dict[str, Index], prefix: str, shape: Shape) -> bool:
        """Let axes that no member's read has placed be the group's inner axes that are still free, in order."""
        unmapped = [n for n, d in enumerate(shape) if d != 1 and f"{prefix}{n}" not in mapping]
        free = [(v, d) for v, d in g.inner if var(v) not in mapping.values()]
        if unmapped and [shape[n] for n in unmapped] != [d for _, d in free]:
            return False
        if unmapped:
            mapping |= {f"{prefix}{n}": var(v) for n, (v, _) in zip(unmapped, free, strict=True)}
        return True

    def _make_rows(self, g: Group, over: list) -> bool:
        """Turn an elementwise group into a row group whose inner axes are `over`, if that is cheap."""
        if g.reduces or any(_is_heavy(m.body) for m in g.members):
            return False
        inner = [(v, d) for v, d in g.outer if var(v) in over]
        outer = [(v, d) for v, d in g.outer if var(v) not in over]
        if [var(v) for v, _ in inner] != over or self.env.hint(product([d for _, d in outer])) < 4:
            return False
        g.outer, g.inner, g.rows = outer, inner, True
        return True

    def _match(
        self, g: Group, found: list[tuple[Tensor, Shape]], shape: Shape, reduce_shape: Shape
    ) -> dict[str, Index] | None:
        """Axis variable of the newcomer → variable of the group, from every read of a member; None if they disagree."""
        extents: dict[Index, Index] = {var(f"i{n}"): d for n, d in enumerate(shape)}
        extents |= {var(f"r{n}"): d for n, d in enumerate(reduce_shape)}
        axis_extent: dict[Index, Index] = {var(v): d for v, d in (*g.outer, *g.inner)}
        mapping: dict[str, Index] = {}
        for t, coords in found:
            s = storage_of(t)
            if not any(self.group_of.get(w) is g for w in writers(s)):
                continue
            if t is not s or isinstance(s, Parts) or s.into is not None:  # type: ignore[attr-defined]
                return None
            for own, theirs in zip(coords, g.coords[s], strict=True):  # type: ignore[index]
                if isinstance(theirs, int):
                    if own != theirs:
                        return None
                    continue
                if own not in extents or extents[own] != axis_extent[theirs]:
                    return None
                name = str(own)
                if mapping.setdefault(name, theirs) != theirs:
                    return None
        if len(set(mapping.values())) != len(mapping):
            return None
        return mapping

    @staticmethod
    def _covers(g: Group, mapping: dict[str, Index]) -> bool:
        used = set(mapping.values())
        return all(var(v) in used for v, _ in g.outer)

    # -- siblings -----------------------------------------------------------------------------------------------

    def _absorb(self, g: Group, h: Group, c: Compute, found: list[tuple[Tensor, Shape]]) -> None:
        """Take the elementwise group h into g, whose new member c reads it point by point, if nothing runs between."""
        if (
            h.reduces
            or not self.passes.chains
            or h.static != g.static
            or (g.reduces and not g.rows)
            or any(m.into for m in h.members)
            or any(q.ancestors & h.bit for q in g.deps if q is not h)
            or h.ancestors & g.bit
            or not self._binds(g, *h.members)
        ):
            return
        mapping = self._shared_axes(g, h, c, found)
        if mapping is None or any(
            self._reads_from(m, h) and self._shared_axes(g, h, m, m.reads) != mapping
            for m in g.members
            if m is not c
        ):
            return
        for m in h.members:
            g.coords[m] = tuple(mapping[str(x)] if isinstance(x, IntExpr) else x for x in h.coords[m])
            self.group_of[m] = g
        g.members = h.members + g.members
        g.first = min(g.first, h.first)
        g.deps = (g.deps | h.deps) - {g, h}
        self.groups.remove(h)
        for other in self.groups:
            if h in other.deps:
                other.deps = (other.deps - {h}) | ({g} if other is not g else set())
            if other.ancestors & h.bit and other is not g:
                other.ancestors |= g.bit | g.ancestors

    def _reads_from(self, c: Compute, h: Group) -> bool:
        return any(self.group_of.get(w) is h for t, _ in c.reads for w in writers(t))

    def _shared_axes(
        self, g: Group, h: Group, c: Compute, found: list[tuple[Tensor, Shape]]
    ) -> dict[str, Index] | None:
        """Variable of h → variable of g, when c, a member of g, reads h at each point of g exactly once."""
        place = {f"i{n}": v for n, v in enumerate(g.coords[c])}
        mapping: dict[str, Index] = {}
        for t, coords in found:
            if not any(self.group_of.get(w) is h for w in writers(t)):
                continue
            if not isinstance(t, Compute):
                return None
            for own, theirs in zip(coords, h.coords[t], strict=True):
                here = place.get(str(own)) if isinstance(own, IntExpr) else own
                if isinstance(theirs, int):
                    if own != theirs:
                        return None
                elif not isinstance(here, IntExpr) or mapping.setdefault(str(theirs), here) != here:
                    return None
        extents = {v: d for v, d in (*g.outer, *g.inner)}
        if set(map(str, mapping.values())) != set(extents) or len(mapping) != len(extents):
            return None
        return (
            mapping
            if all(mapping.keys() >= {v} and extents[str(mapping[v])] == d for v, d in h.outer)
            else None
        )

    # -- order --------------------------------------------------------------------------------------------------

    def _ordered(self) -> list[Group]:
        done: dict[Group, None] = {}

        def visit(g: Group) -> None:
            stack: list[tuple[Group, Iterator[Group]]] = [(g, iter(sorted(g.deps, key=lambda d: d.first)))]
            while stack:
                top, deps = stack[-1]
                for d in deps:
                    if d not in done:
                        stack.append((d, iter(sorted(d.deps, key=lambda d: d.first))))
                        break
                else:
                    done.setdefault(top)
                    stack.pop()

        for g in sorted(self.groups, key=lambda g: g.last):
            if g not in done:
                visit(g)
        return list(done)


def _symbol_free(c: Compute) -> bool:
    """Whether shape and body name no symbol of the model: a static result must not change between inferences."""
    return all(isinstance(d, int) for d in (*c.shape, *c.reduce_shape)) and not any(
        name[0] == "s" for name in c.body.names
    )
