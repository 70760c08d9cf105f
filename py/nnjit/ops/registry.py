"""The table of operators, and what an operator's definition is given to work with.

    @operator("Softmax", since=13)
    def softmax(ctx: Context, node: Node, x: Tensor) -> Tensor:

A definition serves every opset from `since` up to the next registration of the same name. It takes the node's inputs as
tensors in order (None for an optional one that is left out) and gives one tensor for each output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import ModelFormatError, UnsupportedError
from ..graph.graph import Graph, Initializer, Node
from ..symbolic import IntExpr
from ..tensor.build import Builder
from ..tensor.env import Env
from ..tensor.tensor import Tensor
from .content import settle, symbolic

Index = int | IntExpr


class TensorList(tuple[Tensor, ...]):
    """A value that is a sequence of tensors."""

    __slots__ = ()


Value = Tensor | TensorList
Results = Value | Sequence[Value | None]
Definition = Callable[..., Results]
Defined = TypeVar("Defined", bound=Definition)

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators."""

NEWEST_OPSET = 28
"""The newest opset of ONNX's own domain that the definitions follow; a later one may change what an operator means."""

MAX_CONTENT = 4096
"""Content of more elements is not followed: shape arithmetic is small."""

_TABLE: dict[tuple[str, str], list[tuple[int, Definition]]] = {}
_REFUSED: dict[tuple[str, str], str] = {}


def operator(*names: str, since: int = 1, domain: str = "") -> Callable[[Defined], Defined]:
    """Register a definition under one or more operator names of `domain`, from opset `since` on."""

    def register(f: Defined) -> Defined:
        for name in names:
            versions = _TABLE.setdefault((domain, name), [])
            versions.append((since, f))
            versions.sort(key=lambda v: v[0], reverse=True)
        return f

    return register


def refuse(reason: str, *names: str, domain: str = "") -> None:
    """Have `find` say why these operators are not supported."""
    for name in names:
        _REFUSED[(domain, name)] = reason


def find(node: Node, opsets: dict[str, int]) -> Definition:
    """The definition for `node`. Raises UnsupportedError when there is none for the model's opset."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = opsets.get(domain, 1)
    if not domain and opset > NEWEST_OPSET:
        raise unsupported(node, opset, f"the newest opset that nnjit knows is {NEWEST_OPSET}")
    versions = _TABLE.get((domain, node.op), ())
    for since, definition in versions:
        if opset >= since:
            return definition
    reason = _REFUSED.get((domain, node.op))
    if reason is None:
        reason = (
            f"it is defined from opset {versions[-1][0]} on"
            if versions
            else "the operator is not implemented"
        )
    raise unsupported(node, opset, reason)


def unsupported(node: Node, opset: int, reason: str) -> UnsupportedError:
    """The error that names node, operator, opset and reason."""
    return UnsupportedError(f"{node.describe()}, opset {opset}, is not supported: {reason}")


class Context:
    """What a definition works with while `node` is being traced.

    b       the tensor expression builder            env     symbols and guards (b.env)
    opset   the version of the node's own domain     run     traces a subgraph (If, Loop, Scan)
    wanted  whether shapes or branches depend on the elements of the node's outputs
    """

    def __init__(
        self,
        b: Builder,
        node: Node,
        opset: int,
        run: Callable[[Graph, Sequence[Value]], list[Any]] | None = None,
        wanted: bool = True,
    ) -> None:
        self.b = b
        self.env: Env = b.env
        self.node = node
        self.opset = opset
        self.wanted = wanted
        self._run = run

    def run(self, graph: Graph, inputs: Sequence[Value]) -> list[Any]:
        """The outputs of a subgraph for `inputs`; it sees the values of the graphs around it."""
        if self._run is None:
            raise self.unsupported("it has a subgraph")
        return self._run(graph, inputs)

    # -- attributes ---------------------------------------------------------------------------------------------

    def attr_int(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.node.attrs.get(name, default))  # type: ignore[arg-type]

    def attr_float(self, name: str, default: float) -> float:
        """A float attribute, rounded to f32 as the file holds it."""
        return float(self.node.attrs.get(name, default))  # type: ignore[arg-type]

    def attr_str(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.node.attrs.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def attr_ints(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        """A list-of-integers attribute; `default` where it is left out."""
        value = self.node.attrs.get(name, default)
        return None if value is None else [int(v) for v in value]  # type: ignore[union-attr]

    def attr_array(self, name: str) -> np.ndarray | None:
        """A small tensor attribute; None where it is left out."""
        value = self.node.attrs.get(name)
        if isinstance(value, Initializer):
            if isinstance(value.data, np.ndarray):
                return value.data
            raise self.unsupported(f"its attribute '{name}' is a large tensor")
        return value  # type: ignore[return-value]

    def attr_graph(self, name: str) -> Graph:
        """A subgraph attribute."""
        value = self.node.attrs.get(name)
        if not isinstance(value, Graph):
            raise self.malformed(f"the attribute '{name}' must be a graph")
        return value

    # -- checks -------------------------------------------------------------------------------------------------

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front. Raises ModelFormatError when it is out of range."""
        if not -rank <= axis < max(rank, 1):
            raise self.malformed(f"axis {axis} is out of range for rank {rank}")
        return axis + rank if axis < 0 else axis

    def axes(self, axes: Sequence[int], rank: int) -> list[int]:
        """The same for several axes, in the given order."""
        return [self.axis(int(a), rank) for a in axes]

    def unsupported(self, reason: str) -> UnsupportedError:
        """The error to raise for what is well-formed but not supported."""
        return unsupported(self.node, self.opset, reason)

    def malformed(self, reason: str) -> ModelFormatError:
        """The error to raise for what ONNX does not allow."""
        return ModelFormatError(f"{self.node.describe()}: {reason}")

    def extents(self, x: Tensor) -> list[int]:
        """The shape of x for the inputs at hand, for messages."""
        return [self.env.hint(d) for d in x.shape]

    # -- content ------------------------------------------------------------------------------------------------

    def content(self, x: Tensor, what: str) -> np.ndarray:
        """The known elements of x, as an object array. Raises UnsupportedError, with `what` x is, when unknown."""
        if x.content is None:
            raise self.unsupported(
                f"its {what} must be known when the model is compiled, but depends on data"
            )
        return x.content

    def ints(self, x: Tensor, what: str) -> list[Index]:
        """The known elements of an integer tensor as a flat list of ints and IntExprs."""
        return list(self.content(x, what).reshape(-1))

    def fixed_ints(self, x: Tensor, what: str) -> list[int]:
        """The same, but plain ints: symbols are guarded to have the value at hand."""
        return [self.env.fix(i) if isinstance(i, IntExpr) else int(i) for i in self.ints(x, what)]

    def scalar(self, x: Tensor, what: str) -> object:
        """The one known element of x."""
        values = self.content(x, what).reshape(-1)
        if len(values) != 1:
            raise self.malformed(f"its {what} must have one element, not {len(values)}")
        return values[0]

    def fold(
        self, f: Callable[..., np.ndarray | None], *xs: Tensor, dtype: str | None = None, exact: bool = True
    ) -> Tensor | None:
        """The tensor of known content f(contents of xs), or None when one is unknown or the result is too large.

        f takes and gives object arrays; it may return None to leave the operation to a kernel.
        exact    False: f has to decide about symbols (comparisons, roots). It is then asked only where shapes or
                 branches depend on the result; elsewhere a kernel computes with the symbol itself.
        """
        contents = []
        for x in xs:
            if x.content is None:
                return None
            contents.append(x.content)
        if not exact and not self.wanted and any(map(symbolic, contents)):
            return None
        result = f(*contents)
        if result is None or np.size(result) > MAX_CONTENT:
            return None
        dtype = dtype or xs[0].dtype
        return self.b.known(settle(np.asarray(result, dtype=object), dtype), dtype)
