"""Single operators as small models, with the arithmetic that they do or the bytes that they have to move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import reference
from onnx import TensorProto, helper, numpy_helper

from nnjit_build.paths import CACHE

from .cases import Case, NoCase, whole_model

FOLDER = CACHE / "bench"
_ELEMENT_TYPES = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int32"): TensorProto.INT32}

Arrays = dict[str, np.ndarray]
Node = tuple[str, list[str], str, dict[str, Any]]


def kernel_titles() -> list[str]:
    """What the operators are called."""
    return list(_OPERATORS)


def kernel_cases(patterns: list[str]) -> list[Case]:
    """The operators whose titles match one of the patterns (all, if there are none). Raises NoCase when none does."""
    titles = [title for title in _OPERATORS if not patterns or any(fnmatch(title, p) for p in patterns)]
    if not titles:
        raise NoCase(f"no operator is called {', '.join(patterns)}; there are {', '.join(_OPERATORS)}")
    return [_OPERATORS[title](title) for title in titles]


def named_cases(names: Sequence[str]) -> tuple[list[Case], list[Case]]:
    """(whole models, single operators) of names as the command line has them. Raises NoCase."""
    models: list[Case] = []
    operators: list[Case] = []
    for name in names:
        if any(fnmatch(title, name) for title in _OPERATORS):
            operators += kernel_cases([name])
        else:
            models.append(whole_model(name))
    return models, operators


def _case(
    title: str,
    op: str,
    nodes: list[Node],
    inputs: Arrays,
    constants: Arrays,
    *,
    flops: float | None = None,
    **attributes: Any,
) -> Case:
    """The case of a graph whose last node gives `y`; without `flops` it is bound by memory.

    A rival without ONNX gets `op`, the operands in order, the constant ones by name, and `attributes`.
    """
    model = FOLDER / f"{title}.onnx"
    _write(model, nodes, inputs, constants)
    expected = reference.run(model, inputs)
    operator = {
        "op": op,
        "operands": [*inputs, *constants],
        "constants": constants,
        "attributes": attributes,
    }
    read = sum(array.nbytes for array in (*inputs.values(), *constants.values()))
    written = sum(array.nbytes for array in expected.outputs.values())
    return Case(title, model, expected, operator, flops, float(read), float(written))


def _write(path: Path, nodes: list[Node], inputs: Arrays, constants: Arrays) -> None:
    ports = [helper.make_tensor_value_info(n, _ELEMENT_TYPES[a.dtype], a.shape) for n, a in inputs.items()]
    made = [
        helper.make_node(op, operands, [result], name=result, **attributes)
        for op, operands, result, attributes in nodes
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(made, path.stem, ports, [result], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)  # gives y its shape
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = model.SerializeToString()
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def _matmul(title: str, m: int, k: int, n: int) -> Case:
    """A weight on the right, as in a dense layer."""
    nodes: list[Node] = [("MatMul", ["a", "b"], "y", {})]
    arrays = {"a": _normal(m, k)}, {"b": _normal(k, n, seed=1)}
    return _case(title, "matmul", nodes, *arrays, flops=2.0 * m * k * n)


def _gemv(title: str, k: int, n: int) -> Case:
    """One row: each weight is used once, so memory is the limit."""
    nodes: list[Node] = [("MatMul", ["a", "b"], "y", {})]
    return _case(title, "matmul", nodes, {"a": _normal(1, k)}, {"b": _normal(k, n, seed=1)})


def _batched_matmul(title: str, batch: int, m: int, k: int, n: int) -> Case:
    """Both operands are activations."""
    nodes: list[Node] = [("MatMul", ["a", "b"], "y", {})]
    inputs = {"a": _normal(1, batch, m, k), "b": _normal(1, batch, k, n, seed=1)}
    return _case(title, "matmul", nodes, inputs, {}, flops=2.0 * batch * m * k * n)


def _conv(title: str, channels: int, out: int, size: int, kernel: int, stride: int, groups: int) -> Case:
    """Square image and kernel, padded so that stride 1 keeps the size; with a bias."""
    pad = kernel // 2
    strides, pads = [stride, stride], [pad] * 4
    nodes: list[Node] = [("Conv", ["x", "w", "b"], "y", {"strides": strides, "pads": pads, "group": groups})]
    weights = {"w": _normal(out, channels // groups, kernel, kernel), "b": _normal(out)}
    side = (size + 2 * pad - kernel) // stride + 1
    flops = 2.0 * out * side * side * kernel * kernel * channels // groups
    inputs = {"x": _normal(1, channels, size, size)}
    return _case(title, "conv", nodes, inputs, weights, flops=flops, stride=stride, pad=pad, groups=groups)


def _softmax(title: str, *shape: int) -> Case:
    return _case(title, "softmax", [("Softmax", ["x"], "y", {"axis": -1})], {"x": _normal(*shape)}, {})


def _layernorm(title: str, rows: int, columns: int) -> Case:
    nodes: list[Node] = [("LayerNormalization", ["x", "scale", "bias"], "y", {"axis": -1, "epsilon": 1e-5})]
    constants = {"scale": _normal(columns), "bias": _normal(columns, seed=1)}
    return _case(title, "layernorm", nodes, {"x": _normal(rows, columns)}, constants, epsilon=1e-5)


def _gelu(title: str, *shape: int) -> Case:
    """As exporters write it: x · (1 + erf(x / √2)) · ½."""
    nodes: list[Node] = [
        ("Div", ["x", "root"], "scaled", {}),
        ("Erf", ["scaled"], "erf", {}),
        ("Add", ["erf", "one"], "shifted", {}),
        ("Mul", ["x", "shifted"], "product", {}),
        ("Mul", ["product", "half"], "y", {}),
    ]
    constants = {
        name: np.array(value, np.float32) for name, value in (("root", 2**0.5), ("one", 1), ("half", 0.5))
    }
    return _case(title, "gelu", nodes, {"x": _normal(*shape)}, constants)


def _attention(title: str, heads: int, sequence: int, width: int) -> Case:
    """softmax(q · kᵀ / √width) · v, with k already transposed as exporters leave it."""
    nodes: list[Node] = [
        ("MatMul", ["q", "k"], "scores", {}),
        ("Mul", ["scores", "scale"], "scaled", {}),
        ("Softmax", ["scaled"], "weights", {"axis": -1}),
        ("MatMul", ["weights", "v"], "y", {}),
    ]
    inputs = {
        "q": _normal(1, heads, sequence, width),
        "k": _normal(1, heads, width, sequence, seed=1),
        "v": _normal(1, heads, sequence, width, seed=2),
    }
    constants = {"scale": np.array(width**-0.5, np.float32)}
    return _case(title, "attention", nodes, inputs, constants, flops=4.0 * heads * sequence**2 * width)


def _gather(title: str, rows: int, columns: int, count: int) -> Case:
    """Rows of a table, as an embedding takes them; what has to move is the rows that are taken."""
    indices = np.random.default_rng(0).integers(0, rows, (1, count), np.int32)
    nodes: list[Node] = [("Gather", ["table", "indices"], "y", {"axis": 0})]
    case = _case(title, "gather", nodes, {"indices": indices}, {"table": _normal(rows, columns)})
    return replace(case, read=float(indices.nbytes) + case.written)


def _transpose(title: str, shape: tuple[int, ...], axes: list[int]) -> Case:
    nodes: list[Node] = [("Transpose", ["x"], "y", {"perm": axes})]
    return _case(title, "transpose", nodes, {"x": _normal(*shape)}, {}, axes=axes)


def _reduce(title: str, shape: tuple[int, ...], axis: int) -> Case:
    nodes: list[Node] = [("ReduceMean", ["x"], "y", {"axes": [axis], "keepdims": 0})]
    return _case(title, "mean", nodes, {"x": _normal(*shape)}, {}, axis=axis)


def _resize(title: str, channels: int, size: int) -> Case:
    """Twice as large, linear, with the half-pixel centres of most exporters."""
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    nodes: list[Node] = [("Resize", ["x", "", "scales"], "y", attributes)]
    constants = {"scales": np.array([1, 1, 2, 2], np.float32)}
    inputs = {"x": _normal(1, channels, size, size)}
    return _case(title, "resize", nodes, inputs, constants, size=2 * size)


_OPERATORS: dict[str, Callable[[str], Case]] = {
    "matmul-384x768x768": partial(_matmul, m=384, k=768, n=768),
    "matmul-384x3072x768": partial(_matmul, m=384, k=3072, n=768),
    "matmul-1024x1024x1024": partial(_matmul, m=1024, k=1024, n=1024),
    "matmul-625x625x625": partial(_matmul, m=625, k=625, n=625),
    "matmul-197x197x197": partial(_matmul, m=197, k=197, n=197),
    "matmul-384x768x771": partial(_matmul, m=384, k=768, n=771),
    "matmul-7x768x3072": partial(_matmul, m=7, k=768, n=3072),
    "gemv-768x3072": partial(_gemv, k=768, n=3072),
    "gemv-4096x4096": partial(_gemv, k=4096, n=4096),
    "batched-matmul-12x128x64x128": partial(_batched_matmul, batch=12, m=128, k=64, n=128),
    "batched-matmul-12x128x128x64": partial(_batched_matmul, batch=12, m=128, k=128, n=64),
    "conv-1x1-64-256-56": partial(_conv, channels=64, out=256, size=56, kernel=1, stride=1, groups=1),
    "conv-1x1-512-128-28": partial(_conv, channels=512, out=128, size=28, kernel=1, stride=1, groups=1),
    "conv-3x3-64-64-56": partial(_conv, channels=64, out=64, size=56, kernel=3, stride=1, groups=1),
    "conv-3x3-s2-128-128-56": partial(_conv, channels=128, out=128, size=56, kernel=3, stride=2, groups=1),
    "conv-7x7-s2-3-64-224": partial(_conv, channels=3, out=64, size=224, kernel=7, stride=2, groups=1),
    "depthwise-3x3-144-56": partial(_conv, channels=144, out=144, size=56, kernel=3, stride=1, groups=144),
    "depthwise-3x3-s2-96-112": partial(_conv, channels=96, out=96, size=112, kernel=3, stride=2, groups=96),
    "softmax-12x128x128": lambda title: _softmax(title, 1, 12, 128, 128),
    "softmax-3x197x197": lambda title: _softmax(title, 1, 3, 197, 197),
    "layernorm-384x768": partial(_layernorm, rows=384, columns=768),
    "gelu-384x3072": lambda title: _gelu(title, 384, 3072),
    "attention-12x128x64": partial(_attention, heads=12, sequence=128, width=64),
    "attention-6x1500x64": partial(_attention, heads=6, sequence=1500, width=64),
    "gather-30522x384-128": partial(_gather, rows=30522, columns=384, count=128),
    "transpose-heads-128x12x64": partial(_transpose, shape=(1, 128, 12, 64), axes=[0, 2, 1, 3]),
    "transpose-1024x1024": partial(_transpose, shape=(1024, 1024), axes=[1, 0]),
    "reduce-rows-1024x1024": partial(_reduce, shape=(1024, 1024), axis=1),
    "reduce-columns-1024x1024": partial(_reduce, shape=(1024, 1024), axis=0),
    "resize-64x56": partial(_resize, channels=64, size=56),
}
