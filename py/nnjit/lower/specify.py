"""Group → KernelSpec: coordinates become linear indices, members become stages."""

from __future__ import annotations

from .. import ir
from ..passes.group import Group, storage_of
from ..symbolic import IntExpr, Opaque, bounds_of, recombine, substitute, var
from ..tensor.env import Env
from ..tensor.tensor import Alias, Compute, Index, Shape, Storage, Tensor
from .normalize import normalize
from .spec import KernelSpec, Reduce, Stage, StoreTo
from .whole import without_detour

COSTLY = frozenset((*ir.INTRINSICS, "div", "sqrt"))


class Specified:
    """A group's KernelSpec and the storages behind its buffers, in order.

    `arguments`: what those symbols are that are the spec's own; the others are the model's.
    """

    __slots__ = ("spec", "tensors", "arguments")

    def __init__(self, spec: KernelSpec, tensors: list[Storage]) -> None:
        self.spec = spec
        self.tensors = tensors
        self.arguments: dict[str, Index] = {}


def specify(
    group: Group,
    needed: set[Compute],
    env: Env,
    names: dict[Storage, str] | None = None,
    merge: bool = True,
) -> Specified:
    """The kernel of `group`.

    needed   the members whose elements must be in memory afterwards
    names    names of buffers so far, to which this adds its own; None where the kernel stands alone
    merge    whether neighbouring axes may become one
    """
    return _Specifier(group, needed, env, names).run(merge)


class _Specifier:
    def __init__(
        self, group: Group, needed: set[Compute], env: Env, names: dict[Storage, str] | None
    ) -> None:
        self.group = group
        self.members = {c: n for n, c in enumerate(group.members)}
        self.needed = [c for c in group.members if c in needed]
        self.env = env
        self.inner_names = {v for v, _ in group.inner}
        self.bounds: dict[str, tuple[int, int | None]] = dict(env.bounds)
        for v, d in (*group.outer, *group.inner):
            self.bounds[v] = (0, bounds_of(d - 1, env.bounds)[1])
        self.names: dict[Storage, str] = {} if names is None else names
        self.access: dict[Storage, str] = {}
        self.values: dict[Compute, ir.Expr] = {}
        self.operands: dict[Compute, set[Compute]] = {}
        """The members that each member reads."""
        self.lent: set[Compute] = set()
        """Results whose storage holds something else until the last stage."""
        self.level: dict[Compute, int] = {}
        """How many reductions, one after the other, must be complete before a member can be computed."""

    def run(self, merge: bool) -> Specified:
        for c in self.group.members:
            self.operands[c] = {t for t, _ in c.reads if isinstance(t, Compute) and t in self.members}
            self.level[c] = max(
                (self.level[d] + (d.combine is not None) for d in self.operands[c]), default=0
            )
        stages = self._stages()
        buffers = [ir.Buffer(self.names[s], s.dtype, access) for s, access in self.access.items()]
        outer = tuple(self.group.outer)
        spec = KernelSpec(outer, stages, buffers, dict(self.env.hints), dict(self.env.bounds))
        return Specified(normalize(spec) if merge else spec, list(self.access))

    # -- stages -------------------------------------------------------------------------------------------------

    def _stages(self) -> list[Stage]:
        group = self.group
        stages: list[Stage] = []
        last = max((self.level[c] + 1 for c in group.reduces), default=0)
        for level in range(last):
            reduces = [c for c in group.reduces if self.level[c] == level]
            private = [c for c in reduces if not group.rows]
            axes = self._reduce_axes(private[0]) if private else tuple(group.inner)
            stores = [] if private else self._inner_stores(level, last)
            stage = Stage(axes, [], [])
            for c in reduces:
                mapping = {f"r{n}": var(v) if v else 0 for n, v in enumerate(group.reduce_vars[c])}
                stage.reduces.append(Reduce(f"m{self.members[c]}", c.combine or "", self._body(c, mapping)))
            for c, memo in stores:
                stage.stores.append(StoreTo(self._written(memo), self._member_index(c, memo), self._value(c)))
                self.values[c] = ir.load(
                    self._readable(memo), self._member_index(c, memo), ir.COMPUTE_OF[c.dtype]
                )
            stages.append(stage)
        rest = [c for c in self.needed if self._is_inner(c) and self.level[c] == last]
        if rest:
            stages.append(Stage(tuple(group.inner), [], [self._store(c) for c in rest]))
        scalars = [c for c in self.needed if not self._is_inner(c)]
        if scalars:
            stages.append(Stage((), [], [self._store(c) for c in scalars]))
        return stages

    def _inner_stores(self, level: int, last: int) -> list[tuple[Compute, Compute]]:
        """(member, whose storage to use): inner members to keep in memory while the reductions of `level` run.

        Those needed outside are stored as soon as they are known. A costly one (the exponential of a softmax) that is used
        again later borrows the storage of a result of the last stage, if no other result of that stage needs it."""
        found = []
        for c in self.group.members:
            if not self._is_inner(c) or c.combine or self.level[c] != level or c in self.values:
                continue
            if c in self.needed:
                found.append((c, c))
            elif any(self.level[u] > level for u in self._users(c)) and _costs(c.body):
                for r in self.needed:
                    if (
                        r not in self.lent
                        and self.level[r] == last > level
                        and self._is_inner(r)
                        and r.dtype == c.dtype
                        and self.group.coords[r] == self.group.coords[c]
                        and c.dtype != "f16"
                        and all(u is r for u in self._users(c) if u in self.needed and self.level[u] == last)
                    ):
                        self.lent.add(r)
                        found.append((c, r))
                        break
        return found

    def _users(self, c: Compute) -> list[Compute]:
        """Reductions (at their level) and stored members that use c, directly or through other members."""
        found: dict[Compute, None] = {}
        stack = [c]
        while stack:
            d = stack.pop()
            for u in self.group.members:
                if d in self.operands[u] and u not in found:
                    found[u] = None
                    if not u.combine:
                        stack.append(u)
        return [u for u in found if u.combine or u in self.needed]

    def _reduce_axes(self, c: Compute) -> tuple[tuple[str, Index], ...]:
        axes = tuple(zip(self.group.reduce_vars[c], c.reduce_shape, strict=True))
        for v, d in axes:
            self.bounds[v] = (0, bounds_of(d - 1, self.env.bounds)[1])
        return tuple((v, d) for v, d in axes)

    def _is_inner(self, c: Compute) -> bool:
        return any(str(v) in self.inner_names for v in self.group.coords[c])

    def _store(self, c: Compute) -> StoreTo:
        return StoreTo(self._written(c), self._member_index(c, c), self._value(c))

    # -- expressions --------------------------------------------------------------------------------------------

    def _value(self, c: Compute) -> ir.Expr:
        """The element of member c at the group's coordinates."""
        known = self.values.get(c)
        if known is None:
            known = ir.local(f"m{self.members[c]}", c.body.dtype) if c.combine else self._body(c, {})
            self.values[c] = known
        return known

    def _body(self, c: Compute, mapping: dict[str, Index]) -> ir.Expr:
        mapping = {**mapping, **{f"i{n}": v for n, v in enumerate(self.group.coords[c])}}
        return self._resolve(c.body, mapping, {})

    def _resolve(self, e: ir.Expr, mapping: dict[str, Index], memo: dict[ir.Expr, ir.Expr]) -> ir.Expr:
        done = memo.get(e)
        if done is not None:
            return done
        if e.op == "read":
            tensor, coords = e.attr
            if tensor in self.members:
                done = self._value(tensor)
            else:
                at = tuple(self._index(x, mapping, memo) for x in coords)
                done = self._load(tensor, at)
        elif e.op == "index":
            done = ir.index(self._index(e.attr, mapping, memo))
        elif e.args:
            done = without_detour(ir.rebuild(e, tuple([self._resolve(a, mapping, memo) for a in e.args])))
        else:
            done = e
        memo[e] = done
        return done

    def _index(self, e: Index, mapping: dict[str, Index], memo: dict[ir.Expr, ir.Expr]) -> Index:
        def on_value(atom: Opaque) -> Index:
            return ir.value_index(self._resolve(atom.args[0], mapping, memo))

        return substitute(e, mapping, self.bounds, on_value)

    def _load(self, tensor: Tensor, coords: Shape) -> ir.Expr:
        s = storage_of(tensor)
        name = self._name(s, "r")
        return ir.load(name, _linear(tensor, coords), ir.COMPUTE_OF[tensor.dtype])

    # -- buffers ------------------------------------------------------------------------------------------------

    def _member_index(self, c: Compute, into: Compute) -> Index:
        coords = self.group.coords[c]
        if into.into is not None:
            whole, origin = into.into
            return _linear(whole, tuple(x + o for x, o in zip(coords, origin, strict=True)))
        return _linear(into, coords)

    def _written(self, c: Compute) -> str:
        return self._name(c.into[0] if c.into else c, "w")

    def _readable(self, c: Compute) -> str:
        return self._name(c.into[0] if c.into else c, "r")

    def _name(self, s: Storage, access: str) -> str:
        name = self.names.setdefault(s, f"b{len(self.names)}")
        before = self.access.get(s, access)
        self.access[s] = before if before == access else "rw"
        return name


def _costs(e: ir.Expr) -> bool:
    return any(x.op in COSTLY for x in ir.nodes(e))


def _linear(tensor: Tensor, coords: Shape) -> Index:
    """The element's position in the memory of the tensor's storage."""
    linear: Index = 0
    if isinstance(tensor, Alias):
        for d, c in zip(tensor.shape, coords, strict=True):
            linear = linear * d + c
    else:
        assert isinstance(tensor, Storage)
        for stride, c in zip(tensor.strides(), coords, strict=True):
            linear = linear + c * stride
    return recombine(linear) if isinstance(linear, IntExpr) else linear
