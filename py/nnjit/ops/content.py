"""Arithmetic on known elements: ints, symbolic ints (IntExpr), floats and bools, one at a time.

Shape arithmetic of exporters runs through these, so that it vanishes from the model. What cannot stay symbolic (a
comparison, a square root, a fraction) is decided for the inputs at hand and guarded, through `env`.
A symbolic int may stand in a float tensor: it is that number, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..symbolic import IntExpr, floordiv, mod
from ..tensor.env import Env

Element = Any
"""int | IntExpr | float | bool"""

_RANGES = {
    "i8": (-(1 << 7), 1 << 8), "u8": (0, 1 << 8), "i16": (-(1 << 15), 1 << 16), "u16": (0, 1 << 16),
    "i32": (-(1 << 31), 1 << 32), "u32": (0, 1 << 32), "i64": (-(1 << 63), 1 << 64), "u64": (0, 1 << 64),
}  # fmt: skip
"""dtype → (least value, number of values)."""

FLOATS = ("f32", "f64", "f16")


def symbolic(content: np.ndarray) -> bool:
    """Whether an element is not a number yet."""
    return any(isinstance(x, IntExpr) for x in content.reshape(-1))


def settle(content: np.ndarray, dtype: str) -> np.ndarray:
    """Elements as a tensor of `dtype` holds them: integers wrapped, floats rounded, symbols as they are."""
    if dtype in FLOATS:
        kind: Any = {"f32": np.float32, "f64": np.float64, "f16": np.float16}[dtype]
        if not symbolic(content):
            with np.errstate(over="ignore"):
                return content.astype(kind).astype(object)
        return apply(lambda x: x if isinstance(x, IntExpr) else float(kind(x)), content)
    if dtype == "bool":
        return apply(lambda x: x if isinstance(x, IntExpr) else bool(x), content)
    low, count = _RANGES[dtype]
    return apply(lambda x: x if isinstance(x, IntExpr) else (int(x) - low) % count + low, content)


def apply(f: Callable[..., Element], *contents: np.ndarray) -> np.ndarray:
    """f of every element, with numpy's broadcasting."""
    return np.asarray(np.frompyfunc(f, len(contents), 1)(*contents), dtype=object)


def truth(env: Env, x: Element) -> bool:
    """Whether x is not 0."""
    return not env.eq(x, 0) if isinstance(x, IntExpr) else bool(x)


def number(env: Env, x: Element) -> Element:
    """x, a symbol guarded to have the value at hand."""
    return env.fix(x) if isinstance(x, IntExpr) else x


def _pair(env: Env, a: Element, b: Element) -> tuple[Element, Element]:
    """Operands that Python can combine: beside a symbol a float becomes an int, or the symbol a number."""
    if isinstance(a, IntExpr) and isinstance(b, float):
        return (a, int(b)) if b.is_integer() else (env.fix(a), b)
    if isinstance(b, IntExpr) and isinstance(a, float):
        return (int(a), b) if a.is_integer() else (a, env.fix(b))
    return a, b


def add(env: Env, a: Element, b: Element) -> Element:
    a, b = _pair(env, a, b)
    return a + b


def sub(env: Env, a: Element, b: Element) -> Element:
    a, b = _pair(env, a, b)
    return a - b


def mul(env: Env, a: Element, b: Element) -> Element:
    a, b = _pair(env, a, b)
    return a * b


def div_float(env: Env, a: Element, b: Element) -> Element:
    """a / b; a symbol over an integer stays symbolic where it divides evenly."""
    a, b = _pair(env, a, b)
    if isinstance(a, IntExpr) or isinstance(b, IntExpr):
        if not isinstance(b, float) and env.gt(b, 0) and env.eq(mod(a, b), 0):
            return floordiv(a, b)
        a, b = number(env, a), number(env, b)
    if b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def div_int(env: Env, a: Element, b: Element) -> Element:
    """a / b towards zero; 0 for a division by zero."""
    if isinstance(a, IntExpr) or isinstance(b, IntExpr):
        if env.ge(a, 0) and env.gt(b, 0):
            return floordiv(a, b)
        a, b = number(env, a), number(env, b)
    if b == 0:
        return 0
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def mod_floor(env: Env, a: Element, b: Element) -> Element:
    """a mod b with the sign of b; 0 for b = 0."""
    if isinstance(a, IntExpr) or isinstance(b, IntExpr):
        if env.gt(b, 0):
            return mod(a, b)
        a, b = number(env, a), number(env, b)
    return a % b if b else 0


def mod_trunc(env: Env, a: Element, b: Element) -> Element:
    """a mod b with the sign of a; for ints 0 for b = 0."""
    if isinstance(a, IntExpr) or isinstance(b, IntExpr):
        if not isinstance(a, float) and not isinstance(b, float) and env.ge(a, 0) and env.gt(b, 0):
            return mod(a, b)
        a, b = number(env, a), number(env, b)
    if isinstance(a, float) or isinstance(b, float):
        return math.fmod(a, b) if b else math.nan
    return int(math.copysign(1, a)) * (abs(a) % abs(b)) if b else 0


def minimum(env: Env, a: Element, b: Element) -> Element:
    return a if a != a or compare(env, "le", a, b) else b


def maximum(env: Env, a: Element, b: Element) -> Element:
    return a if a != a or compare(env, "ge", a, b) else b


def compare(env: Env, op: str, a: Element, b: Element) -> bool:
    """a op b, where op is eq, lt, le, gt or ge."""
    a, b = _pair(env, a, b)
    if isinstance(a, IntExpr) or isinstance(b, IntExpr):
        return getattr(env, op)(a, b)
    return {"eq": a == b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[op]


def absolute(env: Env, x: Element) -> Element:
    if isinstance(x, IntExpr):
        return x if env.ge(x, 0) else -x
    return abs(x)


def sign(env: Env, x: Element) -> Element:
    if isinstance(x, IntExpr):
        return int(env.gt(x, 0)) - int(env.lt(x, 0))
    return x if x != x else type(x)((x > 0) - (x < 0))


def power(env: Env, a: Element, b: Element) -> Element:
    """a ** b; a symbol to a small whole power stays symbolic."""
    b = number(env, b)
    if isinstance(a, IntExpr):
        if float(b).is_integer() and 0 <= b <= 8:
            result: Element = 1
            for _ in range(int(b)):
                result = result * a
            return result
        a = env.fix(a)
    try:
        result = a**b
        return math.nan if isinstance(result, complex) else result
    except ZeroDivisionError:
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf
    except OverflowError:
        return math.inf


def cast(env: Env, x: Element, dtype: str) -> Element:
    """x in another dtype: floats to ints towards zero, to bool by comparison with zero."""
    if dtype == "bool":
        return truth(env, x)
    if isinstance(x, IntExpr):
        return x
    if dtype in FLOATS:
        return float(x)
    if isinstance(x, float) and not math.isfinite(x):
        low, count = _RANGES[dtype]
        return 0 if x != x else low if x < 0 else low + count - 1
    return int(x)
