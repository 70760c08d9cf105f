"""Compiling once what nobody asked for, so that the first model that is asked for does not find everything cold.

In a fresh Pyodide nothing has run yet: the browser translates each of CPython's and numpy's Wasm functions when it is
first called, and better when it is called often; CPython specialises bytecode likewise; the compiler's own caches are
empty. So while Python has nothing to do, compiler.worker.js lets it compile little graphs of what models are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..compiler import InputSpec, compile_model
from ..graph.graph import Graph, Initializer, Location, Node, ValueInfo
from ..target import Target

_OPSET = 17
_NAMED = 7
"""Extent of dimensions that have a name."""


def steps(target: Target) -> Iterator[str]:
    """Compile one of `GRAPHS` after the other; gives the name of each when it is done."""
    for make in GRAPHS:
        maker = Maker()
        compile_model(maker.graph(make(maker)), maker.specs, target)
        yield make.__name__


class Maker:
    """Makes a Graph; each method gives the name of a value."""

    def __init__(self) -> None:
        self.specs: dict[str, InputSpec] = {}
        self._inputs: list[ValueInfo] = []
        self._nodes: list[Node] = []
        self._initializers: dict[str, Initializer] = {}

    def _fresh(self) -> str:
        return f"v{len(self._inputs) + len(self._nodes) + len(self._initializers)}"

    def input(self, *shape: int | str, dtype: str = "f32") -> str:
        """An input; a dimension may have a name."""
        name = self._fresh()
        self._inputs.append(ValueInfo(name, dtype, shape))
        self.specs[name] = InputSpec(dtype, tuple(_NAMED if isinstance(d, str) else d for d in shape))
        return name

    def weights(self, *shape: int) -> str:
        """An f32 tensor whose content stays in the model file, which there is none of: a plan never reads it."""
        return self._stored("f32", shape, Location(None, 0, 4 * int(np.prod(shape))))

    def constant(self, value: Any, dtype: str = "i64") -> str:
        """A tensor whose content the graph holds."""
        array = np.array(value, {"i64": np.int64, "f32": np.float32}[dtype])
        return self._stored(dtype, array.shape, array)

    def _stored(self, dtype: str, shape: tuple[int, ...], data: Location | np.ndarray) -> str:
        name = self._fresh()
        self._initializers[name] = Initializer(name, dtype, shape, data)
        return name

    def __call__(self, op: str, *inputs: str, **attrs: Any) -> str:
        """A node's first output."""
        name = self._fresh()
        self._nodes.append(Node(op, "", name, inputs, (name,), attrs))
        return name

    def graph(self, output: str) -> Graph:
        """What was made."""
        outputs = [ValueInfo(output, "", None)]
        return Graph("warm-up", self._inputs, outputs, self._nodes, self._initializers, {"": _OPSET})


def _copy(m: Maker) -> str:
    return m("Relu", m.input(1, 8))


def _elementwise(m: Maker) -> str:
    x = m.input("n", 8)
    return m("Mul", m("Sub", m("Add", x, m.weights(8)), x), m("Sigmoid", x))


def _gelu(m: Maker) -> str:
    x = m.input("n", 8)
    erf = m("Erf", m("Div", x, m.constant(1.4142135, "f32")))
    return m("Mul", m("Mul", x, m("Add", erf, m.constant(1.0, "f32"))), m.constant(0.5, "f32"))


def _shapes(m: Maker) -> str:
    x = m.input("n", "rows", 16)
    shape = m("Shape", x)
    axes = m.constant([0])
    sizes = [m("Unsqueeze", m("Gather", shape, m.constant(i)), axes) for i in range(2)]
    parts = m("Reshape", x, m("Concat", *sizes, m.constant([4, 4]), axis=0))
    return m("Transpose", parts, perm=(0, 2, 1, 3))


def _padding(m: Maker) -> str:
    x = m.input("n", 4, 6, 6)
    missing = m("ConstantOfShape", m.constant([4]), value=np.zeros(1, np.int64))
    pairs = m("Reshape", m("Concat", m.constant([0, 1, 0, 1]), missing, axis=0), m.constant([-1, 2]))
    back = [m.constant([n]) for n in (-1, -(2**63) + 1, 0, -1)]
    turned = m("Transpose", m("Slice", pairs, *back), perm=(1, 0))
    pads = m("Cast", m("Reshape", turned, m.constant([-1])), to=7)
    return m("Pad", x, pads, m.constant(0.0, "f32"))


def _product(m: Maker) -> str:
    return m("Add", m("MatMul", m.input("n", "rows", 64), m.weights(64, 64)), m.weights(64))


def _layer_norm(m: Maker) -> str:
    x = m.input("n", "rows", 64)
    centred = m("Sub", x, m("ReduceMean", x, axes=(-1,)))
    squares = m("ReduceMean", m("Pow", centred, m.constant(2.0, "f32")), axes=(-1,))
    root = m("Sqrt", m("Add", squares, m.constant(1e-5, "f32")))
    return m("Add", m("Mul", m("Div", centred, root), m.weights(64)), m.weights(64))


def _softmax(m: Maker) -> str:
    return m("Softmax", m("Mul", m.input("n", "rows", 64), m.constant(0.25, "f32")), axis=-1)


def _batched_product(m: Maker) -> str:
    q, k = (m.input("n", 4, "rows", 16) for _ in range(2))
    return m("MatMul", q, m("Transpose", k, perm=(0, 1, 3, 2)))


def _conv(m: Maker, channels: int, outputs: int, kernel: int, group: int = 1, stride: int = 1) -> str:
    x = m.input("n", channels, 28, 28)
    weights = m.weights(outputs, channels // group, kernel, kernel)
    pad = (kernel // 2,) * 4
    y = m("Conv", x, weights, m.weights(outputs), group=group, strides=(stride, stride), pads=pad)
    return m("Clip", y, m.constant(0.0, "f32"), m.constant(6.0, "f32"))


def _pointwise(m: Maker) -> str:
    return _conv(m, 16, 32, 1)


def _depthwise(m: Maker) -> str:
    return _conv(m, 32, 32, 3, group=32)


def _depthwise_strided(m: Maker) -> str:
    return _conv(m, 32, 32, 3, group=32, stride=2)


def _image_conv(m: Maker) -> str:
    return _conv(m, 3, 32, 3, stride=2)


def _classifier(m: Maker) -> str:
    pooled = m("Flatten", m("GlobalAveragePool", m.input("n", 64, 7, 7)), axis=1)
    return m("Gemm", pooled, m.weights(100, 64), m.weights(100), transB=1)


GRAPHS: tuple[Callable[[Maker], str], ...] = (
    _copy,
    _elementwise,
    _gelu,
    _shapes,
    _padding,
    _product,
    _layer_norm,
    _softmax,
    _batched_product,
    _pointwise,
    _depthwise,
    _depthwise_strided,
    _image_conv,
    _classifier,
)
"""What models are made of, each a few milliseconds to compile once Python is warm: what is in most of them first."""
