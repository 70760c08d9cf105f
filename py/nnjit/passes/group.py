"""Groups: Computes that become one kernel (see `fuse`), and what a Compute depends on."""

from __future__ import annotations

from .. import ir
from ..symbolic import values_of
from ..tensor.tensor import Alias, Compute, Index, Parts, Shape, Storage, Tensor, reads

Axes = list[tuple[str, Index]]


class Group:
    """Members that become one kernel. `coords[c][n]` is the group's variable (or 0) that axis n of member c is."""

    __slots__ = (
        "members",
        "outer",
        "inner",
        "coords",
        "reduce_vars",
        "deps",
        "bit",
        "ancestors",
        "first",
        "last",
        "static",
        "rows",
    )

    def __init__(self, outer: Axes, inner: Axes, number: int, first: int, static: bool) -> None:
        self.members: list[Compute] = []
        self.outer = outer
        self.inner = inner
        self.coords: dict[Compute, Shape] = {}
        self.reduce_vars: dict[Compute, tuple[str, ...]] = {}
        """For each reduction: the variables of its reduce axes, inner ones of the group or private ones."""
        self.deps: set[Group] = set()
        self.bit = 1 << number
        self.ancestors = 0
        """Bits of all groups that must run before this one."""
        self.first = first
        self.last = first
        self.static = static
        """Depends on weights and constants only: runs once, when the model is loaded."""
        self.rows = bool(inner)

    @property
    def reduces(self) -> list[Compute]:
        return [c for c in self.members if c.combine]


def index_operands(e: ir.Expr) -> set[Tensor]:
    """Tensors whose elements decide where `e` reads, or are counted with."""
    found: set[Tensor] = set()
    seen: set[ir.Expr] = set()
    stack = [e]
    while stack:
        x = stack.pop()
        if x in seen:
            continue
        seen.add(x)
        indices = x.attr[1] if x.op == "read" else (x.attr,) if x.op == "index" else ()
        for i in indices:
            if values := values_of(i):
                found |= {t for t, _ in reads(*values)}
        stack.extend(x.args)
    return found


def storage_of(t: Tensor) -> Storage:
    """The storage whose memory a read of `t` touches."""
    if isinstance(t, Alias):
        return t.base
    assert isinstance(t, Storage)
    return t


def writers(t: Tensor) -> list[Compute]:
    """The Computes that make the elements of `t`."""
    s = storage_of(t)
    if isinstance(s, Parts):
        return s.parts
    return [s] if isinstance(s, Compute) else []


def reachable(outputs: list[Tensor]) -> set[Compute]:
    """The Computes that the outputs depend on."""
    found: set[Compute] = set()
    stack = [c for t in outputs for c in writers(t)]
    while stack:
        c = stack.pop()
        if c not in found:
            found.add(c)
            for t, _ in c.reads:
                stack.extend(writers(t))
    return found
