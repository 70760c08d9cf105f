"""The node test cases of the `onnx` package, and how they run through tracing and the interpreter.

Making the cases takes the package half a minute, so that they are kept under `.cache/conformance`.
"""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from nnjit.graph.dtype import NUMPY
from nnjit.graph.graph import Graph, Initializer, ValueInfo
from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from nnjit.onnx.tensors import load
from nnjit.ops.demand import demanded
from nnjit.ops.trace import InputSpec, check_operators, trace
from nnjit.tensor.build import Builder
from nnjit.tensor.env import Env
from nnjit.tensor.interpret import interpret

CACHE = Path(__file__).parents[2] / ".cache" / "conformance"
DTYPES = {np.dtype(code): name for name, code in NUMPY.items()}


@dataclass(frozen=True)
class Case:
    """One case: the model's bytes, and lists of inputs and expected outputs in the order of the graph's."""

    name: str
    operators: tuple[str, ...]
    model: bytes
    inputs: list[Any]
    outputs: list[Any]
    rtol: float

    @property
    def other_than_tensors(self) -> bool:
        """Whether an input or output is a sequence, or an optional value that is absent."""
        return any(not isinstance(v, (np.ndarray, np.generic)) for v in (*self.inputs, *self.outputs))

    def atol(self, expected: np.ndarray) -> float:
        """The absolute error allowed. What cancels in a Fourier transform leaves an error of the size of what does not."""
        if {"DFT", "STFT"} & set(self.operators):
            return 1e-6 * float(np.abs(expected).max())
        return 1e-5

    @property
    def foreign_types(self) -> bool:
        """Whether an input or output has elements that kernels do not compute with: strings, float8, int4, ..."""
        return any(np.asarray(v).dtype not in DTYPES for v in (*self.inputs, *self.outputs))


@cache
def cases() -> dict[str, Case]:
    """Every node test case by name, without the `test_` that they all begin with.

    Cases that expand an operator into the function that defines it are left out where the operator itself is there.
    """
    # Plain tuples: a pickled class would be bound to the name under which this module was imported.
    kept = CACHE / f"node-cases-{onnx.__version__}.pickle"
    if kept.exists():
        return {fields[0]: Case(*fields) for fields in pickle.loads(kept.read_bytes())}
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    found = {}
    for case in collected:
        name = case.name.removeprefix("test_")
        if name.endswith(("_expanded", "_expanded_ver18")):
            continue
        inputs, outputs = case.data_sets[0]
        operators = tuple(sorted({n.op_type for n in case.model.graph.node}))
        found[name] = Case(
            name,
            operators,
            case.model.SerializeToString(),
            [_plain(x) for x in inputs],
            [_plain(x) for x in outputs],
            case.rtol,
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_bytes(pickle.dumps([tuple(vars(case).values()) for case in found.values()]))
    part.replace(kept)
    return found


def _plain(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def run(model: bytes, arrays: list[Any], symbolic: bool = False) -> list[np.ndarray]:
    """The outputs of a model for inputs in the order of its graph's. Raises what reading and tracing raise.

    symbolic    trace as if the model declared no extent, so that all but 0 and 1 are symbols
    """
    source = BytesSource(model)
    graph, inputs, specs = prepared(model, arrays, symbolic)
    check_operators(graph)
    builder = Builder(Env())
    outputs = trace(graph, specs, builder)
    return interpret(outputs, inputs, builder.env.hints, lambda tensor: load(tensor, lambda file: source))


def prepared(
    model: bytes, arrays: list[Any], symbolic: bool = False
) -> tuple[Graph, dict[str, np.ndarray], dict[str, InputSpec]]:
    """The graph of a model, its inputs by name, and what the compiler is told of them; the arguments are those of `run`."""
    graph = read_model(BytesSource(model))
    inputs = {
        info.name: np.asarray(array)
        for info, array in zip(graph.inputs, arrays, strict=True)
        if array is not None
    }
    _settle_shapes(graph, inputs)
    if symbolic:
        graph.inputs = [ValueInfo(i.name, i.dtype, None) for i in graph.inputs]
    return graph, inputs, {name: _spec(array) for name, array in inputs.items()}


def _settle_shapes(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    """Make initializers of the inputs that shapes depend on: models in the wild have constants there."""
    wanted = demanded(graph)
    for info in list(graph.inputs):
        array = inputs.get(info.name)
        if array is not None and (info.name in wanted or array.dtype.name not in _PLAIN):
            if array.dtype not in DTYPES:
                continue
            graph.inputs.remove(info)
            del inputs[info.name]
            graph.initializers[info.name] = Initializer(info.name, DTYPES[array.dtype], array.shape, array)


_PLAIN = {np.dtype(code).name for code in NUMPY.values()}


def _spec(array: np.ndarray) -> InputSpec:
    return InputSpec(DTYPES.get(array.dtype, str(array.dtype)), array.shape)
