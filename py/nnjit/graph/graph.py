"""The graph of a model: what the reader makes and every later stage starts from.

A `Graph` names its values with strings. A value is an input, an initializer (a tensor stored in the model; `Constant`
nodes become initializers too), or an output of exactly one node. Nodes are in topological order. An attribute may hold
a subgraph (If, Loop, Scan), which may read the values of the graphs around it.

Element types have short names: f16 f32 f64 bf16, i8 i16 i32 i64, u8 u16 u32 u64, bool, str, i4 u4 and others that
dtype.py lists. The default operator domain is "" ("ai.onnx" is the same).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """What the model declares of a value.

    dtype   "" where the model does not say
    shape   an int, the name of a symbol, or None (unknown) for each dimension; None where the rank is unknown
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        dims = "..." if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype or '?'}[{dims}]"


@dataclass(frozen=True, slots=True)
class Location:
    """Raw little-endian bytes of a tensor in the model's own file (`file` None) or in an external one.

    file   path relative to the model's folder, with forward slashes, checked not to leave it
    """

    file: str | None
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Initializer:
    """A tensor stored in the model: small ones are arrays, weights stay where they lie.

    An array of a dtype that numpy lacks is in the form that `dtype.from_bytes` describes; dtype "str" is an object array.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Location | np.ndarray

    def place(self) -> str:
        """Where the data is, for people."""
        if isinstance(self.data, np.ndarray):
            return "array"
        return f"{self.data.file or 'model'}+{self.data.offset}"

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(slots=True)
class Node:
    """An application of an operator.

    inputs, outputs   names of values; "" where an optional one is absent
    attrs             int, float, str (bytes where it is not UTF-8), tuple of these, Graph, or a tensor: an array when it is
                      small and of a dtype that numpy has, an Initializer when not
    captured          names of surrounding graphs' values that the subgraphs in `attrs` read
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, int | float | str | bytes | tuple | np.ndarray | Graph | Initializer] = field(
        default_factory=dict
    )
    captured: tuple[str, ...] = ()

    def describe(self) -> str:
        """How error messages call this node."""
        op = f"{self.domain}.{self.op}" if self.domain else self.op
        return (
            f"node '{self.name}' ({op})" if self.name else f"{op} node that makes '{', '.join(self.outputs)}'"
        )

    def subgraphs(self) -> list[Graph]:
        """The graphs among the attributes."""
        found = [value for value in self.attrs.values() if isinstance(value, Graph)]
        for value in self.attrs.values():
            if isinstance(value, tuple) and value and isinstance(value[0], Graph):
                found += value
        return found


@dataclass(slots=True)
class Graph:
    """A graph of nodes in topological order; the opset of a subgraph is that of the model."""

    name: str
    inputs: list[ValueInfo]
    outputs: list[ValueInfo]
    nodes: list[Node]
    initializers: dict[str, Initializer] = field(default_factory=dict)
    opset: dict[str, int] = field(default_factory=dict)
    value_infos: dict[str, ValueInfo] = field(default_factory=dict)

    def external_files(self) -> list[str]:
        """Paths, relative to the model's folder, of the external-data files that the model needs, each once."""
        files: dict[str, None] = {}
        for graph in self.all_graphs():
            for tensor in graph.tensors():
                if isinstance(tensor.data, Location) and tensor.data.file is not None:
                    files[tensor.data.file] = None
        return list(files)

    def all_graphs(self) -> list[Graph]:
        """This graph and the subgraphs within it, at any depth."""
        found = [self]
        for graph in found:
            for node in graph.nodes:
                found += node.subgraphs()
        return found

    def tensors(self) -> list[Initializer]:
        """Initializers, and the tensors among the attributes, of this graph (not of its subgraphs)."""
        found = list(self.initializers.values())
        for node in self.nodes:
            for value in node.attrs.values():
                found += [
                    v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, Initializer)
                ]
        return found

    def __str__(self) -> str:
        def listed(items: Iterable[object]) -> str:
            return ", ".join(map(str, items))

        lines = [f"graph {self.name}({listed(self.inputs)}) -> ({listed(self.outputs)})"]
        lines += [f"  {tensor} @ {tensor.place()}" for tensor in self.initializers.values()]
        for node in self.nodes:
            attrs = ", ".join(
                f"{k}={'graph' if isinstance(v, Graph) else repr(v)}" for k, v in node.attrs.items()
            )
            call = f"{listed(node.outputs)} = {node.op}({listed(node.inputs)})"
            lines.append(f"  {call} {{{attrs}}}" if attrs else f"  {call}")
        return "\n".join(lines)
