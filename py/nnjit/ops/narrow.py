"""Elements of less than a byte: several share a byte, from its low bits upwards, and are unpacked where they are read."""

from __future__ import annotations

import numpy as np

from .. import ir
from ..graph.graph import Initializer, Location
from ..symbolic import IntExpr, floordiv, mod
from ..tensor.build import Builder
from ..tensor.tensor import Source, Tensor, View

Index = int | IntExpr

BITS = {"u4": 4, "i4": 4, "u2": 2, "i2": 2}
"""dtype → bits of an element, for the dtypes that are read so."""


class Narrow(Tensor):
    """An initializer of one of the dtypes in BITS (`narrow`): its elements read as those of a tensor of u8 or i8 would."""

    __slots__ = ("packed", "narrow")

    def __init__(self, b: Builder, initializer: Initializer) -> None:
        super().__init__(initializer.shape, "i8" if initializer.dtype[0] == "i" else "u8")
        self.packed = words(b, initializer)
        self.narrow = initializer.dtype

    def _read(self, coords: tuple[Index, ...]) -> ir.Expr:
        linear: Index = 0
        for c, d in zip(coords, self.shape, strict=True):
            linear = linear * d + c
        bits = BITS[self.narrow]
        each = 8 * ir.STORAGE_BYTES[self.packed.dtype] // bits
        value = code(self.packed.at(floordiv(linear, each)), mod(linear, each), bits)
        if self.narrow[0] == "u":
            return value
        sign = ir.const(1 << (bits - 1), "i32")
        return ir.sub(ir.binary("xor", value, sign), sign)


def narrow_dtype(x: Tensor | None) -> str | None:
    """The dtype of less than a byte that the elements of x are of, if they are."""
    base = x.base if isinstance(x, View) else x
    return base.narrow if isinstance(base, Narrow) else None


def words(b: Builder, initializer: Initializer) -> Source:
    """The bytes of a tensor stored in the model, of one axis: as 32-bit words where they fill such, else as bytes."""
    data = initializer.data
    size = data.length if isinstance(data, Location) else data.nbytes
    dtype = "i32" if size % 4 == 0 else "u8"
    shape = (size // ir.STORAGE_BYTES[dtype],)
    if isinstance(data, np.ndarray):
        return b.constant(np.frombuffer(data.tobytes(), "<i4" if dtype == "i32" else "u1"), dtype)
    stored = Initializer(initializer.name, dtype, shape, data)
    return Source("weight", shape, dtype, stored, initializer.name)


def as_words(b: Builder, x: Tensor) -> Tensor:
    """x, of bytes that fill words row by row of its last axis, as words: the weight itself where it is one."""
    last = x.shape[-1]
    assert isinstance(last, int) and last % 4 == 0
    shape = (*x.shape[:-1], last // 4)
    if isinstance(x, Source) and x.kind == "weight" and isinstance(x.origin, Initializer):
        return b.reshape(words(b, x.origin), shape)
    if isinstance(x, Source) and x.kind == "const":
        return b.constant(np.ascontiguousarray(x.origin).view("<i4"), "i32")

    def word(*c: Index) -> ir.Expr:
        value = x.at(*c[:-1], c[-1] * 4)
        for n in range(1, 4):
            byte = ir.binary("shl", x.at(*c[:-1], c[-1] * 4 + n), ir.const(8 * n, "i32"))
            value = ir.binary("or", value, byte)
        return value

    return b.compute(shape, "i32", word, "words")


def code(word: ir.Expr, place: Index, bits: int) -> ir.Expr:
    """Element `place`, of `bits` bits, of a word or byte, as an unsigned number."""
    shifted = ir.binary("shr", word, ir.index(place * bits))
    return ir.binary("and", shifted, ir.const((1 << bits) - 1, "i32"))


__all__ = ["BITS", "Narrow", "as_words", "code", "narrow_dtype", "words"]
