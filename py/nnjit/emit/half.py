"""Half precision as IR arithmetic, for targets that have no instruction for it."""

from __future__ import annotations

from .. import ir
from ..ir import Expr, binary, bitcast, select


def half_to_float(bits: Expr) -> Expr:
    """The f32 value of the 16 bits in an i32 (upper half zero); scalar or vector; exact, subnormals included."""

    def i(n: int) -> Expr:
        return ir.const(n, "i32")

    sign = binary("shl", binary("and", bits, i(0x8000)), i(16))
    magnitude = binary("shl", binary("and", bits, i(0x7FFF)), i(13))
    # The exponent of a half is 112 less than a float's; multiplying also normalises subnormals.
    scaled = bitcast(ir.mul(bitcast(magnitude, "f32"), ir.const(2.0**112, "f32")), "i32")
    special = binary("or", scaled, i(0x7F800000))
    value = select(binary("ge", magnitude, i(0x7C00 << 13)), special, scaled)
    return bitcast(binary("or", value, sign), "f32")


def float_to_half(x: Expr) -> Expr:
    """The 16 bits, as an i32, of an f32 rounded to half precision (ties to even); NaN stays NaN.

    Adding a power of two far enough above the value makes the float adder do the rounding (M. Dukhan's method).
    """

    def u(n: int) -> Expr:
        return ir.const(n, "u32")

    bits = bitcast(x, "u32")
    doubled = ir.add(bits, bits)
    magnitude = ir.mul(ir.mul(ir.unary("abs", x), ir.const(2.0**112, "f32")), ir.const(2.0**-110, "f32"))
    exponent = binary("max", binary("and", doubled, u(0xFF000000)), u(0x71000000))
    anchor = bitcast(ir.add(binary("shr", exponent, u(1)), u(0x07800000)), "f32")
    rounded = bitcast(ir.add(anchor, magnitude), "u32")
    finite = ir.add(
        binary("and", binary("shr", rounded, u(13)), u(0x7C00)), binary("and", rounded, u(0x0FFF))
    )
    value = select(binary("gt", doubled, u(0xFF000000)), u(0x7E00), finite)
    return bitcast(binary("or", value, binary("shr", binary("and", bits, u(0x80000000)), u(16))), "i32")
