"""The graphs that warm Python up are compiled to their ends, for every kind of device."""

from __future__ import annotations

import pytest

from nnjit.ops.trace import check_operators
from nnjit.runtime.warm_up import GRAPHS, Maker, steps
from nnjit.target import Target


@pytest.mark.parametrize("device", ["wasm", "webgpu"])
def test_every_graph_compiles(device: str) -> None:
    assert list(steps(Target(device=device))) == [make.__name__ for make in GRAPHS]


def test_graphs_are_like_those_of_models() -> None:
    operators = set()
    for make in GRAPHS:
        maker = Maker()
        graph = maker.graph(make(maker))
        check_operators(graph)
        operators |= {node.op for node in graph.nodes}
    assert operators >= {"Conv", "MatMul", "Gemm", "Softmax", "ReduceMean", "Erf", "Reshape", "Pad", "Gather"}
