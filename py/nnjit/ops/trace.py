"""From a Graph to tensor expressions: every node is replaced by what its operator's definition makes of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, ModelFormatError, UnsupportedError, VerificationError
from ..graph.graph import Graph, Initializer, Node, ValueInfo
from ..ir import STORAGE_BYTES
from ..tensor.build import Builder
from ..tensor.tensor import Index, Source, Tensor
from . import registry
from .demand import demanded
from .narrow import BITS, Narrow, narrow_dtype
from .registry import Context, Definition, Results, TensorList, Value

_INTEGERS = ("i64", "i32", "i16", "i8", "u8", "u16", "u32", "u64", "bool")
_VALUE_LIMIT = 1 << 31
_TAKE_NARROW = ("DequantizeLinear", "QuantizeLinear", "GatherBlockQuantized", "Cast", "Transpose", "Identity")
"""Operators that know what to do with elements of less than a byte."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input at hand: its dtype, its shape, and its value where it is one integer or bool."""

    dtype: str
    shape: tuple[int, ...]
    value: int | None = None


def check_operators(graph: Graph) -> None:
    """Raise UnsupportedError for the first node that no definition takes, or tensor of a dtype that no kernel takes.

    Looks into subgraphs too, and needs no weights.
    """
    for info in graph.outputs:
        _check_dtype(info.dtype, f"output '{info.name}'")
    for part in graph.all_graphs():
        for info in part.inputs:
            _check_dtype(info.dtype, f"input '{info.name}'")
        for node in part.nodes:
            registry.find(node, part.opset or graph.opset)
        for tensor in part.initializers.values():
            if tensor.dtype != "bf16" and tensor.dtype not in BITS:
                _check_dtype(tensor.dtype, f"tensor '{tensor.name}'")


def trace(graph: Graph, inputs: Mapping[str, InputSpec], b: Builder) -> list[Tensor]:
    """One tensor for each output of `graph`, for the inputs at hand.

    Raises InputError (an input is missing, unknown, or does not fit its declaration), UnsupportedError (an operator, or
    a use of it, that is not supported) or ModelFormatError (a use that ONNX does not allow).
    """
    unknown = set(inputs) - {info.name for info in graph.inputs}
    if unknown:
        names = ", ".join(f"'{info.name}'" for info in graph.inputs)
        raise InputError(f"the model has no input '{min(unknown)}'; its inputs are {names}")
    tracer = _Tracer(graph, b)
    return tracer.run(graph, tracer.inputs(graph, inputs), None)


class _Scope:
    """Values of one graph by name; what it has not, the graph around it may have."""

    __slots__ = ("graph", "values", "outer")

    def __init__(self, graph: Graph, outer: _Scope | None) -> None:
        self.graph = graph
        self.values: dict[str, Any] = {}
        self.outer = outer


class _Tracer:
    def __init__(self, graph: Graph, b: Builder) -> None:
        self.b = b
        self.opset = graph.opset
        self.demanded = demanded(graph)
        self.stored: dict[int, Tensor] = {}
        """Tensors of initializers, by identity: an unrolled body shares its constants."""
        self.constants: dict[tuple, Tensor] = {}
        """Those of integers, by content."""
        self.known: dict[tuple, Results] = {}
        """What became of nodes whose operands are known: exporters repeat their shape arithmetic with every layer."""

    # -- inputs -------------------------------------------------------------------------------------------------

    def inputs(self, graph: Graph, specs: Mapping[str, InputSpec]) -> list[Tensor]:
        named: dict[str, Index] = {}
        tensors = []
        for info in graph.inputs:
            spec = specs.get(info.name)
            if spec is None:
                raise InputError(f"the input '{info}' is missing")
            tensors.append(self._input(info, spec, named))
        return tensors

    def _input(self, info: ValueInfo, spec: InputSpec, named: dict[str, Index]) -> Tensor:
        if info.dtype and spec.dtype != info.dtype:
            raise InputError(f"the input '{info.name}' must be {info.dtype}, not {spec.dtype}")
        _check_dtype(spec.dtype, f"input '{info.name}'")
        declared = info.shape if info.shape is not None else (None,) * len(spec.shape)
        if len(declared) != len(spec.shape):
            raise InputError(f"the input '{info}' was given with shape {list(spec.shape)}: the rank differs")
        dims: list[Index] = []
        for axis, (dim, extent) in enumerate(zip(declared, spec.shape, strict=True)):
            if isinstance(dim, int):
                if dim != extent:
                    raise InputError(
                        f"the input '{info}' was given with shape {list(spec.shape)}: axis {axis} must be {dim}"
                    )
                dims.append(dim)
                continue
            label = dim or f"{info.name}[{axis}]"
            symbol = self.b.env.dimension(label, ("dim", info.name, axis), extent)
            if dim is not None:
                first = named.setdefault(dim, symbol)
                symbol = first if self.b.env.eq(first, symbol) else symbol
            dims.append(symbol)
        tensor = Source("input", tuple(dims), spec.dtype, info.name, info.name)
        self.b.inputs.append(tensor)
        if (
            spec.value is not None
            and info.name in self.demanded
            and spec.dtype in _INTEGERS
            and all(isinstance(d, int) for d in dims)
            and abs(spec.value) < _VALUE_LIMIT
        ):
            content: np.ndarray = np.empty(tuple(dims), dtype=object)  # type: ignore[arg-type]
            if content.size == 1:
                content.reshape(-1)[0] = self.b.env.value(info.name, int(spec.value))
                tensor.content = content
        return tensor

    # -- nodes --------------------------------------------------------------------------------------------------

    def run(self, graph: Graph, inputs: Sequence[Value], outer: _Scope | None) -> list[Any]:
        scope = _Scope(graph, outer)
        for info, tensor in zip(graph.inputs, inputs, strict=True):
            scope.values[info.name] = tensor
        for node in graph.nodes:
            self._node(node, scope)
        return [self._value(info.name, scope, None) for info in graph.outputs]

    def _node(self, node: Node, scope: _Scope) -> None:
        definition = registry.find(node, self.opset)
        operands = [self._value(name, scope, node) if name else None for name in node.inputs]
        while operands and operands[-1] is None:
            operands.pop()
        ctx = Context(
            self.b,
            node,
            self.opset.get(node.domain, 1),
            lambda graph, inputs: self.run(graph, inputs, scope),
            not self.demanded.isdisjoint(node.outputs),
        )
        if "Sequence" not in node.op and node.op != "Identity":
            for name, operand in zip(node.inputs, operands, strict=False):
                if isinstance(operand, TensorList):
                    raise ctx.unsupported(f"its input '{name}' is a sequence of tensors")
        if node.op not in _TAKE_NARROW:
            for operand in operands:
                if not isinstance(operand, TensorList) and (narrow := narrow_dtype(operand)):
                    raise ctx.unsupported(f"an input with the element type {narrow}")
        key = _arithmetic(node, operands, ctx.wanted)
        results = self.known.get(key) if key else None
        if results is None:
            results = self._results(definition, ctx, node, operands)
            if key:
                self.known[key] = results
        if isinstance(results, (Tensor, TensorList)):
            results = (results,)
        for name, result in zip(node.outputs, results, strict=False):
            if name and result is not None:
                scope.values[name] = result

    def _results(self, definition: Definition, ctx: Context, node: Node, operands: Sequence[Any]) -> Results:
        self.b.node = node.name or node.outputs[0]
        try:
            return definition(ctx, node, *operands)
        except (ValueError, ZeroDivisionError) as error:
            raise ModelFormatError(f"{node.describe()}: {error}") from error
        except (TypeError, AttributeError, LookupError) as error:
            misuse = _misuse(definition, ctx, node, operands)
            if misuse:
                raise ModelFormatError(f"{node.describe()}: {misuse}") from error
            raise VerificationError(
                f"{node.describe()}: the compiler failed ({type(error).__name__}: {error}); if the node's attributes are "
                "what ONNX allows, this is a mistake in nnjit"
            ) from error

    def _value(self, name: str, scope: _Scope, node: Node | None) -> Any:
        at: _Scope | None = scope
        while at is not None:
            found = at.values.get(name)
            if found is not None:
                return found
            initializer = at.graph.initializers.get(name)
            if initializer is not None:
                return self._initializer(initializer)
            at = at.outer
        where = node.describe() if node else f"graph '{scope.graph.name}'"
        raise ModelFormatError(f"{where} reads the value '{name}', which nothing makes")

    def _initializer(self, initializer: Initializer) -> Tensor:
        tensor = self.stored.get(id(initializer))
        if tensor is None:
            dtype, data = initializer.dtype, initializer.data
            if dtype in _INTEGERS and isinstance(data, np.ndarray):
                key = (dtype, data.shape, data.tobytes())
                tensor = self.constants.get(key)
                if tensor is None:
                    tensor = self.constants[key] = _stored(self.b, initializer)
            else:
                tensor = _stored(self.b, initializer)
            self.stored[id(initializer)] = tensor
        return tensor


def _arithmetic(node: Node, operands: Sequence[Any], wanted: bool) -> tuple | None:
    """Equal for nodes that make the same of the same operands, all of known content; None where one is not."""
    if not operands or not all(
        [x is None or (isinstance(x, Tensor) and x.content is not None) for x in operands]
    ):
        return None
    attrs: list = []
    for name, value in node.attrs.items():
        if isinstance(value[0] if isinstance(value, tuple) and value else value, (Graph, Initializer)):
            return None
        if isinstance(value, np.ndarray):
            attrs.append((name, value.dtype.str, value.shape, value.tobytes()))
        else:
            attrs.append((name, repr(value)))  # which tells 1 from 1.0, and 0.0 from -0.0
    return (node.domain, node.op, len(node.outputs), wanted, *attrs, *operands)


def _misuse(definition: Definition, ctx: Context, node: Node, operands: Sequence[Any]) -> str | None:
    """What is wrong with the node's inputs, or None: they are as many as the definition takes."""
    from inspect import Parameter, signature

    try:
        bound = signature(definition).bind(ctx, node, *operands)
    except TypeError:
        return f"the operator takes another number of inputs than {len(operands)}"
    for name, parameter in bound.signature.parameters.items():
        value = bound.arguments.get(name, ())
        if parameter.kind is Parameter.VAR_POSITIONAL:
            if not value or None in value:
                return f"one of the inputs '{name}' is left out, but the operator needs them"
        elif parameter.default is Parameter.empty and value is None:
            return f"the input '{name}' is left out, but the operator needs it"
    return None


def _stored(b: Builder, initializer: Initializer) -> Tensor:
    dtype, data = initializer.dtype, initializer.data
    if dtype == "bf16":
        dtype = "f32"
        if isinstance(data, np.ndarray):
            data = (data.astype(np.uint32) << 16).view(np.float32)
    if dtype in BITS:
        return Narrow(b, initializer)
    _check_dtype(dtype, f"tensor '{initializer.name}'")
    if isinstance(data, np.ndarray):
        return b.constant(data, dtype)
    return Source("weight", initializer.shape, dtype, initializer, initializer.name)


def _check_dtype(dtype: str, what: str) -> None:
    if dtype and dtype not in STORAGE_BYTES:
        raise UnsupportedError(f"{what} has the element type {dtype}, which is not supported")
