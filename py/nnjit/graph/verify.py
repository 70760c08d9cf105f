"""Checks that a graph is one: every value made once, every value read made somewhere, no cycle. Puts nodes in order."""

from __future__ import annotations

from collections import deque

from ..errors import ModelFormatError
from .graph import Graph, Node


def sort_and_verify(graph: Graph) -> None:
    """Bring the nodes of `graph` and its subgraphs into topological order, in place, and fill in `Node.captured`.

    Nodes that are in order already stay as they are. Raises ModelFormatError, naming node and value, when a value has
    two producers or none, when nodes form a cycle, or when an operator's domain has no opset.
    """
    if not graph.outputs:
        raise ModelFormatError("the graph has no outputs")
    for info in graph.inputs:
        if not info.dtype:
            raise ModelFormatError(f"graph input '{info.name}' is declared without an element type")
    _visit(graph, frozenset())


def _visit(graph: Graph, outer: frozenset[str]) -> dict[str, None]:
    """Check one graph. `outer`: names of the graphs around it. Returns those of them that it reads."""
    producer = _producers(graph)
    scope = outer.union(producer)
    captured: dict[str, None] = {}
    for node in graph.nodes:
        if node.domain not in graph.opset:
            raise ModelFormatError(
                f"{node.describe()}: the model imports no opset for the domain '{node.domain or 'ai.onnx'}'"
            )
        for name in node.inputs:
            if name and name not in scope:
                raise ModelFormatError(f"{node.describe()} reads '{name}', which nothing in the model makes")
        subgraphs = node.subgraphs()
        if subgraphs:
            inner: dict[str, None] = {}
            for part in subgraphs:
                inner |= _visit(part, scope)
            node.captured = tuple(inner)
            captured |= inner
        captured |= dict.fromkeys(node.inputs)
    for info in graph.outputs:
        if info.name not in scope:
            raise ModelFormatError(
                f"nothing in the model makes the output '{info.name}' of graph '{graph.name}'"
            )
        captured[info.name] = None
    _sort(graph, producer)
    return {name: None for name in captured if name and name not in producer}


def _producers(graph: Graph) -> dict[str, Node | None]:
    """Name of every value of the graph -> the node that makes it (None: an input or initializer)."""
    producer: dict[str, Node | None] = dict.fromkeys(graph.initializers)
    for info in graph.inputs:
        if not info.name:
            raise ModelFormatError(f"an input of graph '{graph.name}' has no name")
        if info.name in producer:
            raise ModelFormatError(f"two inputs of graph '{graph.name}' are named '{info.name}'")
        producer[info.name] = None
    for node in graph.nodes:
        if not node.op:
            raise ModelFormatError(f"node '{node.name}' names no operator")
        for name in node.outputs:
            if name in producer:
                first = producer[name]
                made = first.describe() if first else "an input or initializer"
                raise ModelFormatError(
                    f"the value '{name}' is made twice: by {made} and by {node.describe()}"
                )
            if name:
                producer[name] = node
    return producer


def _sort(graph: Graph, producer: dict[str, Node | None]) -> None:
    """Stable topological sort (Kahn, "Topological sorting of large networks", 1962)."""
    done: set[int] = set()
    for node in graph.nodes:
        for name in (*node.inputs, *node.captured):
            maker = producer.get(name)
            if maker is not None and id(maker) not in done:
                break
        else:
            done.add(id(node))
            continue
        break
    else:
        return

    waiting: dict[int, int] = {}
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        makers = {id(m) for name in (*node.inputs, *node.captured) if (m := producer.get(name)) is not None}
        waiting[id(node)] = len(makers)
        for each in makers:
            readers.setdefault(each, []).append(node)
    ready = deque(node for node in graph.nodes if not waiting[id(node)])
    ordered: list[Node] = []
    while ready:
        node = ready.popleft()
        ordered.append(node)
        for reader in readers.get(id(node), ()):
            waiting[id(reader)] -= 1
            if not waiting[id(reader)]:
                ready.append(reader)
    if len(ordered) < len(graph.nodes):
        _report_cycle(graph, producer, {id(node) for node in ordered})
    graph.nodes = ordered


def _report_cycle(graph: Graph, producer: dict[str, Node | None], sorted_nodes: set[int]) -> None:
    """Raise ModelFormatError that names the nodes of one cycle, found by walking from readers to makers."""
    node = next(node for node in graph.nodes if id(node) not in sorted_nodes)
    walked: list[Node] = []
    while not any(node is seen for seen in walked):
        walked.append(node)
        makers = (producer.get(name) for name in (*node.inputs, *node.captured))
        node = next(m for m in makers if m is not None and id(m) not in sorted_nodes)
    start = next(i for i, seen in enumerate(walked) if seen is node)
    names = [n.describe() for n in reversed(walked[start:])]
    shown = names if len(names) <= 6 else [*names[:5], f"... {len(names) - 5} more"]
    raise ModelFormatError(f"the graph has a cycle: {' -> '.join(shown)} -> back to the first")
