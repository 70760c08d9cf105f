"""One operator at a time against onnxruntime: traced at one size, evaluated at another one that the guards allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from nnjit.graph.dtype import NUMPY
from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from nnjit.onnx.tensors import load
from nnjit.ops.trace import InputSpec, check_operators, trace
from nnjit.symbolic import evaluate
from nnjit.tensor.build import Builder
from nnjit.tensor.env import Env
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Tensor

DTYPES = {np.dtype(code): name for name, code in NUMPY.items()}
_HOLDS = {"eq": int.__eq__, "ne": int.__ne__, "ge": int.__ge__, "le": int.__le__}


def model(
    op: str,
    operands: Sequence[np.ndarray | None],
    constants: Sequence[int] = (),
    outputs: int | Sequence[bool] = 1,
    opset: int = 17,
    domain: str = "",
    **attributes: object,
) -> onnx.ModelProto:
    """A model of one node. Operands at the positions `constants` are stored in it, the others are inputs x0, x1, …

    All dimensions of the inputs are symbols. `outputs`: how many, or which of them are wanted.
    """
    wanted = [True] * outputs if isinstance(outputs, int) else outputs
    names = ["" if a is None else f"x{n}" for n, a in enumerate(operands)]
    results = [f"y{n}" if w else "" for n, w in enumerate(wanted)]
    given = {name: a for name, a in zip(names, operands) if a is not None}
    stored = {f"x{n}" for n in constants}
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        op,
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(a.dtype), [f"{name}_{axis}" for axis in range(a.ndim)]
            )
            for name, a in given.items()
            if name not in stored
        ],
        [onnx.ValueInfoProto(name=name) for name in results if name],
        [numpy_helper.from_array(a, name) for name, a in given.items() if name in stored],
    )
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def traced(
    proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, np.dtype]
) -> tuple[list[Tensor], Builder, BytesSource]:
    """The tensors of a model for inputs of these shapes."""
    source = BytesSource(proto.SerializeToString())
    graph = read_model(source)
    check_operators(graph)
    builder = Builder(Env())
    specs = {name: InputSpec(DTYPES[dtypes[name]], tuple(shape)) for name, shape in shapes.items()}
    return trace(graph, specs, builder), builder, source


def evaluated(
    proto: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    traced_at: Mapping[str, Sequence[int]] | None = None,
) -> list[np.ndarray]:
    """The model's outputs by the interpreter; asserts that a plan made for the shapes `traced_at` fits these inputs."""
    shapes = {name: (traced_at or {}).get(name, a.shape) for name, a in inputs.items()}
    tensors, builder, source = traced(proto, shapes, {name: a.dtype for name, a in inputs.items()})
    symbols = {}
    for symbol in builder.env.symbols:
        _, name, axis = symbol["from"]
        symbols[symbol["name"]] = inputs[name].shape[axis]
    for kind, a, b in builder.env._guards:
        assert _HOLDS[kind](evaluate(a, symbols), evaluate(b, symbols)), f"guard {kind} {a} {b}"
    return interpret(tensors, inputs, symbols, lambda tensor: load(tensor, lambda file: source))


def agrees_with_onnxruntime(
    op: str,
    operands: Sequence[np.ndarray | None],
    constants: Sequence[int] = (),
    traced_at: Mapping[int, Sequence[int]] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    **options: object,
) -> None:
    """Assert that every output has onnxruntime's shape, dtype and values; `options` are those of `model`."""
    proto = model(op, operands, constants, **options)  # type: ignore[arg-type]
    inputs = {f"x{n}": a for n, a in enumerate(operands) if a is not None and n not in constants}
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1  # several threads quantise the rows of a batch apart
    expected = onnxruntime.InferenceSession(proto.SerializeToString(), settings).run(None, dict(inputs))
    shapes = {f"x{n}": shape for n, shape in (traced_at or {}).items()}
    actual = evaluated(proto, inputs, shapes)
    for a, e in zip(actual, expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(a, e, rtol, atol)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """float32 elements of the standard normal distribution."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)
