"""Conversions from one dtype to another."""

from __future__ import annotations

from typing import Any

from .. import ir
from ..graph.graph import Node
from ..onnx.tensors import DTYPES
from ..tensor.tensor import Tensor
from . import content as known
from .content import FLOATS, Element
from .elementwise import like, pointwise
from .registry import Context, operator


@operator("Cast")
def cast(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """x in another dtype: floats to integers towards zero, anything to bool by comparison with zero."""
    code: Any = node.attrs.get("to", 1)
    if isinstance(code, (str, bytes)):  # opsets before 6 give the type by name
        name = code if isinstance(code, str) else code.decode()
        codes = {
            "FLOAT": 1,
            "UINT8": 2,
            "INT8": 3,
            "INT32": 6,
            "INT64": 7,
            "BOOL": 9,
            "FLOAT16": 10,
            "DOUBLE": 11,
        }
        code = codes.get(name, 0)
    return cast_to(ctx, x, DTYPES.get(int(code), str(code)))


@operator("CastLike", since=15)
def cast_like(ctx: Context, node: Node, x: Tensor, target: Tensor) -> Tensor:
    return cast_to(ctx, x, target.dtype)


def cast_to(ctx: Context, x: Tensor, dtype: str) -> Tensor:
    """x converted to `dtype`. Raises UnsupportedError for a dtype that kernels do not compute in."""
    if dtype == "bf16":
        return _rounded_to_bf16(ctx, cast_to(ctx, x, "f32"))
    if dtype not in ir.COMPUTE_OF:
        raise ctx.unsupported(f"a cast to {dtype}")
    if dtype == x.dtype:
        return x

    def fold(v: Element) -> Element:
        return known.cast(ctx.env, v, dtype)

    return pointwise(ctx, lambda v: converted(v, dtype), fold, x, dtype=dtype, exact=dtype != "bool")


def _rounded_to_bf16(ctx: Context, x: Tensor) -> Tensor:
    """x with the precision of a bfloat16, to nearest, ties to even; bf16 tensors are kept as f32."""

    def f(v: ir.Expr) -> ir.Expr:
        bits = ir.bitcast(v, "u32")
        odd = ir.binary("and", ir.binary("shr", bits, like(bits, 16)), like(bits, 1))
        rounded = ir.add(bits, ir.add(odd, like(bits, 0x7FFF)))
        kept = ir.bitcast(ir.binary("and", rounded, like(bits, 0xFFFF0000)), "f32")
        return ir.select(ir.binary("eq", v, v), kept, v)

    return ctx.b.elementwise(f, x, label="cast")


def converted(v: ir.Expr, dtype: str) -> ir.Expr:
    """v as a value of the compute dtype of `dtype`."""
    if dtype == "bool":
        return v if v.dtype == "bool" else ir.binary("ne", v, like(v, 0))
    return ir.cast(v, ir.COMPUTE_OF[dtype])


@operator("BitCast", since=26)
def bit_cast(ctx: Context, node: Node, x: Tensor) -> Tensor:
    """The bits of x as another dtype of the same width."""
    dtype = DTYPES.get(ctx.attr_int("to", 0), "?")
    compute = ir.COMPUTE_OF.get(dtype, "")
    here = ir.COMPUTE_OF[x.dtype]
    if dtype == x.dtype:
        return x
    if ir.STORAGE_BYTES.get(dtype) != ir.STORAGE_BYTES[x.dtype] or dtype == "bool":
        raise ctx.unsupported(f"the bits of {x.dtype} as {dtype}")
    if x.dtype not in FLOATS and dtype not in FLOATS:
        return ctx.b.elementwise(lambda v: ir.cast(v, compute), x, dtype=dtype, label="bitcast")
    if "f16" in (dtype, x.dtype) or ir.STORAGE_BYTES[dtype] != ir.STORAGE_BYTES[here]:
        raise ctx.unsupported(f"the bits of {x.dtype} as {dtype}")
    return ctx.b.elementwise(lambda v: ir.bitcast(v, compute), x, dtype=dtype, label="bitcast")
