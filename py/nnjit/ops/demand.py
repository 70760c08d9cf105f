"""Which values' elements must be known when the model is compiled: those that shapes and branches depend on.

Elsewhere a symbol stays symbolic and runs through kernels as an argument; here it is decided for the inputs at hand
and guarded, if it cannot stay symbolic.
"""

from __future__ import annotations

from ..graph.graph import Graph, Node

_ALL = range(1 << 10)

_DEMANDS: dict[str, range | tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1, 2), "Slice": (1, 2, 3, 4), "Pad": (1, 3), "Squeeze": (1,),
    "Unsqueeze": (1,), "Split": (1,), "ConstantOfShape": (0,), "Range": (0, 1, 2), "OneHot": (1,), "TopK": (1,),
    "Trilu": (1,), "CumSum": (1,), "CumProd": (1,), "Resize": (1, 2, 3), "Upsample": (1,), "NonZero": (0,), "Unique": (0,),
    "Compress": (1,), "CenterCropPad": (1,), "Col2Im": (1, 2), "AffineGrid": (1,), "MaxUnpool": (2,),
    "DFT": (1, 2), "STFT": (1, 3), "HannWindow": (0,), "HammingWindow": (0,), "BlackmanWindow": (0,),
    "MelWeightMatrix": _ALL, "SequenceAt": (1,), "SequenceInsert": (2,), "SequenceErase": (1,), "SplitToSequence": (1,), "If": (0,), "Loop": (0, 1), "Dropout": (2,), "ReverseSequence": (1,),
    "ReduceSum": (1,), "ReduceMean": (1,), "ReduceMax": (1,), "ReduceMin": (1,), "ReduceProd": (1,),
    "GroupQueryAttention": (6,), "ReduceL1": (1,), "ReduceL2": (1,), "ReduceLogSum": (1,), "ReduceLogSumExp": (1,), "ReduceSumSquare": (1,),
}  # fmt: skip
"""Operator → positions of the inputs whose elements it needs."""

_SHAPE_ONLY = ("Shape", "Size")


def demanded(graph: Graph) -> set[str]:
    """Names of the values, of the graph and its subgraphs, whose elements are needed at compile time."""
    maker: dict[str, Node] = {}
    formal: dict[str, Node] = {}
    pending: list[str] = []
    graphs = [graph]
    for g in graphs:
        for node in g.nodes:
            for name in node.outputs:
                maker[name] = node
            for position in _DEMANDS.get(node.op, ()):
                if position >= len(node.inputs):
                    break
                pending.append(node.inputs[position])
            for sub in node.subgraphs():
                graphs.append(sub)
                for info in sub.inputs:
                    formal[info.name] = node
                if node.op == "Loop" and sub.outputs:
                    pending.append(sub.outputs[0].name)
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if not name or name in found:
            continue
        found.add(name)
        source = maker.get(name) or formal.get(name)
        if source is None or source.op in _SHAPE_ONLY:
            continue
        pending.extend(source.inputs)
        if name in maker:
            for sub in source.subgraphs():
                pending.extend(info.name for info in sub.outputs)
    return found
