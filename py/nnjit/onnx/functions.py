"""Local functions of a model: each call is replaced by the function's nodes.

https://github.com/onnx/onnx/blob/main/docs/IR.md#functions
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import ModelFormatError, UnsupportedError
from ..graph.graph import Graph, Node, ValueInfo

_MAX_NODES = 1 << 17
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Reference:
    """In place of an attribute within a function: the value of the function's attribute `name`."""

    name: str


@dataclass(slots=True)
class Function:
    """A FunctionProto: `name` carries ":overload" where it has one, `defaults` the attributes that may be left out."""

    domain: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    defaults: dict = field(default_factory=dict)
    opset: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.domain, self.name


def inline(graph: Graph, functions: dict[tuple[str, str], Function], opset: dict[str, int]) -> None:
    """Replace every call of a function in `graph` and its subgraphs, in place.

    Domains that only functions import are added to `opset`. Raises UnsupportedError when a function needs another
    version of an opset than the model, ModelFormatError when functions call themselves.
    """
    _Inliner(functions, opset).visit(graph, 0)


class _Inliner:
    def __init__(self, functions: dict[tuple[str, str], Function], opset: dict[str, int]) -> None:
        self.functions = functions
        self.opset = opset
        self.calls = 0
        self.made = 0

    def visit(self, graph: Graph, depth: int) -> None:
        nodes: list[Node] = []
        for node in graph.nodes:
            function = self.functions.get((node.domain, node.op))
            if function is None:
                nodes.append(node)
                for part in node.subgraphs():
                    self.visit(part, depth)
            else:
                nodes += self.expand(node, function, depth)
        graph.nodes = nodes

    def expand(self, call: Node, function: Function, depth: int) -> list[Node]:
        """The function's nodes with the call's values and attributes put in."""
        if depth > _MAX_DEPTH:
            raise ModelFormatError(
                f"{call.describe()}: functions call each other more than {_MAX_DEPTH} deep"
            )
        if len(call.inputs) > len(function.inputs) or len(call.outputs) > len(function.outputs):
            raise ModelFormatError(f"{call.describe()} has more inputs or outputs than the function it calls")
        for domain, version in function.opset.items():
            if self.opset.setdefault(domain, version) != version:
                raise UnsupportedError(
                    f"{call.describe()}: its function uses opset {version} of domain '{domain}' "
                    f"but the model uses {self.opset[domain]}; export both with one opset"
                )
        self.calls += 1
        prefix = f"{call.name or call.op}/{self.calls}/"
        actual = call.inputs + ("",) * (len(function.inputs) - len(call.inputs))
        names = dict(zip(function.inputs, actual, strict=True))
        passed = []  # outputs that are inputs of the function as well
        for formal, output in zip(function.outputs, call.outputs, strict=False):
            if not output:
                continue
            if formal in names:
                passed.append(Node("Identity", "", prefix + formal, (names[formal],), (output,)))
            else:
                names[formal] = output
        body = _Body(prefix, names, function.defaults | call.attrs)
        part = Graph(prefix, [], [], [body.node(node) for node in function.nodes])
        self.made += len(part.nodes)
        if self.made > _MAX_NODES:
            raise UnsupportedError(
                f"{call.describe()}: inlining functions makes more than {_MAX_NODES} nodes"
            )
        self.visit(part, depth + 1)
        return part.nodes + passed


class _Body:
    """Copies a function's nodes for one call."""

    def __init__(self, prefix: str, names: dict[str, str], attrs: dict) -> None:
        self.prefix = prefix
        self.names = names
        self.attrs = attrs

    def name(self, name: str) -> str:
        if not name:
            return ""
        return self.names[name] if name in self.names else self.prefix + name

    def node(self, node: Node) -> Node:
        attrs = {}
        for key, value in node.attrs.items():
            if isinstance(value, Reference):
                if value.name not in self.attrs:
                    continue  # neither the call nor the function gives it: the operator's own default holds
                value = self.attrs[value.name]
            elif isinstance(value, Graph):
                value = self.graph(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Graph):
                value = tuple(map(self.graph, value))
            attrs[key] = value
        inputs = tuple(map(self.name, node.inputs))
        outputs = tuple(map(self.name, node.outputs))
        return Node(node.op, node.domain, self.prefix + node.name, inputs, outputs, attrs)

    def graph(self, graph: Graph) -> Graph:
        return Graph(
            graph.name,
            [self.info(info) for info in graph.inputs],
            [self.info(info) for info in graph.outputs],
            [self.node(node) for node in graph.nodes],
            {self.name(name): tensor for name, tensor in graph.initializers.items()},
            value_infos={self.name(name): self.info(info) for name, info in graph.value_infos.items()},
        )

    def info(self, info: ValueInfo) -> ValueInfo:
        return ValueInfo(self.name(info.name), info.dtype, info.shape)
