"""`Constant` nodes become initializers, and tensors among attributes become arrays where they are small."""

from __future__ import annotations

import numpy as np

from ..errors import ModelFormatError
from ..graph import dtype as dtypes
from ..graph.graph import Graph, Initializer, Node
from .functions import Reference

_CONSTANT_DTYPES = {
    "value_float": "f32", "value_floats": "f32", "value_int": "i64", "value_ints": "i64", "value_string": "str",
    "value_strings": "str",
}  # fmt: skip


def settle_attributes(graph: Graph) -> None:
    """Turn `Constant` nodes into initializers, and small tensors among the other nodes' attributes into arrays."""
    kept = []
    for node in graph.nodes:
        if node.op == "Constant" and node.domain == "":
            if len(node.outputs) != 1:
                raise ModelFormatError(f"{node.describe()} has {len(node.outputs)} outputs instead of one")
            name = node.outputs[0]
            if name in graph.initializers:
                raise ModelFormatError(f"{node.describe()}: an initializer is named '{name}' too")
            graph.initializers[name] = _constant(node, name)
            continue
        kept.append(node)
        for key, value in node.attrs.items():
            if isinstance(value, Initializer):
                node.attrs[key] = _array_if_small(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Initializer):
                node.attrs[key] = tuple(map(_array_if_small, value))
            elif isinstance(value, Reference):
                raise ModelFormatError(
                    f"{node.describe()}: attribute '{key}' refers to a function's but is in none"
                )
    graph.nodes = kept


def _array_if_small(tensor: Initializer) -> Initializer | np.ndarray:
    native = tensor.dtype in dtypes.NUMPY or tensor.dtype == "str"
    return tensor.data if native and isinstance(tensor.data, np.ndarray) else tensor


def _constant(node: Node, name: str) -> Initializer:
    """The tensor that a `Constant` node makes."""
    if len(node.attrs) != 1:
        raise ModelFormatError(f"{node.describe()} needs exactly one attribute that gives its value")
    key, value = next(iter(node.attrs.items()))
    if key == "value" and isinstance(value, Initializer):
        return Initializer(name, value.dtype, value.shape, value.data)
    if key not in _CONSTANT_DTYPES or isinstance(value, (Initializer, Graph, Reference)):
        raise ModelFormatError(f"{node.describe()}: attribute '{key}' gives no value")
    dtype = _CONSTANT_DTYPES[key]
    try:
        array = np.array(value, object if dtype == "str" else dtypes.NUMPY[dtype])
    except (ValueError, TypeError, OverflowError):
        raise ModelFormatError(
            f"{node.describe()}: attribute '{key}' holds a value of another type"
        ) from None
    return Initializer(name, dtype, array.shape, array)
