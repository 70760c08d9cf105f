"""Nodes come out in topological order, and know what their subgraphs read."""

from __future__ import annotations

import pytest

from nnjit.errors import ModelFormatError
from nnjit.graph.graph import Graph, Node, ValueInfo
from nnjit.graph.verify import sort_and_verify


def node(op: str, inputs: str, outputs: str, **attrs: object) -> Node:
    """A node whose inputs and outputs are named by single letters."""
    return Node(op, "", op.lower(), tuple(inputs), tuple(outputs), attrs)


def graph(nodes: list[Node], inputs: str = "", outputs: str = "y") -> Graph:
    infos = [[ValueInfo(name, "f32", (1,)) for name in names] for names in (inputs, outputs)]
    return Graph("g", *infos, nodes, opset={"": 18})


def order(g: Graph) -> list[str]:
    sort_and_verify(g)
    return [n.op for n in g.nodes]


def test_sorted_nodes_keep_their_order() -> None:
    assert order(graph([node("B", "x", "b"), node("A", "x", "a"), node("C", "ab", "y")], "x")) == [
        "B",
        "A",
        "C",
    ]


def test_unsorted_nodes_are_sorted() -> None:
    assert order(graph([node("C", "b", "y"), node("B", "a", "b"), node("A", "x", "a")], "x")) == [
        "A",
        "B",
        "C",
    ]


def test_what_a_subgraph_captures_comes_before_it() -> None:
    branch = graph([node("Inner", "a", "r")], outputs="r")
    choice = node("If", "x", "y", then_branch=branch)
    assert order(graph([choice, node("A", "x", "a")], "x")) == ["A", "If"]
    assert choice.captured == ("a",)


def test_captures_pass_through_nested_subgraphs() -> None:
    innermost = graph([node("Inner", "ab", "r")], outputs="r")
    middle = graph([node("B", "x", "b"), node("If", "b", "s", then_branch=innermost)], outputs="s")
    outer = node("If", "x", "y", then_branch=middle)
    sort_and_verify(graph([node("A", "x", "a"), outer], "x"))
    assert set(outer.captured) == {"x", "a"}


def test_a_branch_may_hand_out_a_captured_value() -> None:
    choice = node("If", "x", "y", then_branch=graph([], outputs="a"))
    sort_and_verify(graph([node("A", "x", "a"), choice], "x"))
    assert choice.captured == ("a",)


def test_a_value_of_a_branch_is_not_seen_outside() -> None:
    choice = node("If", "x", "a", then_branch=graph([node("Inner", "x", "r")], outputs="r"))
    with pytest.raises(ModelFormatError, match="'r'"):
        sort_and_verify(graph([choice, node("Out", "r", "y")], "x"))


def test_a_cycle_through_a_captured_value_is_found() -> None:
    choice = node("If", "x", "a", then_branch=graph([node("Inner", "y", "r")], outputs="r"))
    with pytest.raises(ModelFormatError, match="cycle"):
        sort_and_verify(graph([choice, node("Out", "a", "y")], "x"))


def test_a_graph_prints_its_nodes() -> None:
    g = graph([node("A", "x", "y", axis=1)], "x")
    assert str(g) == "graph g(x: f32[1]) -> (y: f32[1])\n  y = A(x) {axis=1}"
