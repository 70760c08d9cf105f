"""What the test models are made of: `PYTHONPATH=py:tests python -m models.census [NAME ...]` prints Markdown.

Per model: inputs and outputs, initializers by dtype, operator counts (subgraphs of If and Loop apart), and the attribute
values of the operators whose variants matter.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

import onnx
from onnx import helper

from . import registry

# Attributes not worth counting: the values differ in every node.
_SKIPPED = {("Constant", "value"), ("If", "then_branch"), ("If", "else_branch"), ("Loop", "body")}


def _value(info: onnx.ValueInfoProto) -> str:
    tensor = info.type.tensor_type
    dims = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in tensor.shape.dim]
    return f"`{info.name}` {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(dims)}]"


def _graphs(graph: onnx.GraphProto, where: str = "main") -> Iterator[tuple[str, onnx.GraphProto]]:
    """The graph and all its subgraphs, each with a path that says where it hangs."""
    yield where, graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g, f"{where} > {node.op_type} {node.name} {attribute.name}")


def _attribute_values(graph: onnx.GraphProto) -> dict[str, Counter[str]]:
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for node in graph.node:
        for attribute in node.attribute:
            if (
                node.op_type,
                attribute.name,
            ) not in _SKIPPED and attribute.type != onnx.AttributeProto.TENSOR:
                text = repr(helper.get_attribute_value(attribute))
                values[node.op_type][f"{attribute.name}={text if len(text) < 60 else text[:57] + '...'}"] += 1
    return values


def describe(name: str) -> str:
    """The census of one model as Markdown."""
    model = onnx.load(registry.path(name))
    stored = {tensor.name for tensor in model.graph.initializer}
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    lines = [f"## {name}", "", f"opset {opsets}; IR {model.ir_version}; {registry.MODELS[name].how}", ""]
    lines += [f"- in {_value(v)}" for v in model.graph.input if v.name not in stored]
    lines += [f"- out {_value(v)}" for v in model.graph.output]
    lines += [f"- {len(model.functions)} local functions", f"- {len(stored)} initializers"]
    for where, graph in _graphs(model.graph):
        counts = Counter(f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in graph.node)
        types = Counter(onnx.TensorProto.DataType.Name(t.data_type).lower() for t in graph.initializer)
        summary = " ".join(f"{op}:{count}" for op, count in counts.most_common())
        lines += ["", f"**{where}** ({len(graph.node)} nodes; initializers {dict(types)}): {summary}", ""]
        for op, values in sorted(_attribute_values(graph).items()):
            shown = ", ".join(f"{text} x{count}" for text, count in values.most_common(14))
            lines.append(f"  - {op}: {shown}{', ...' if len(values) > 14 else ''}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for wanted in sys.argv[1:] or registry.names(marked=False):
        print(describe(wanted))
