"""The loop IR: what a kernel is, on one page. Both emitters take this and nothing else.

Scalar and vector values are `Expr`, a DAG of interned nodes (equal expressions are the same object):

    const   attr = Python number or bool            index   attr = IntExpr, a loop index as an i32 value
    local   attr = name of a declared local         load    attr = (buffer, IntExpr element index)
    cast    args = (x,)  to `dtype`                 bitcast args = (x,)  same width
    splat   args = (x,)  scalar → 4 lanes           pack    args = 4 scalars → 4 lanes
    extract args = (x,)  attr = lane
    shuffle args = (a, b) attr = 4 lane numbers, 0–3 those of a, 4–7 those of b
    add sub mul div min max                         floats and ints; integer div and rem truncate
    rem and or xor shl shr                          ints (and/or/xor/not also bool)
    pmin pmax                                       floats: b where b < a (a < b), else a: one instruction on a CPU
    neg abs sqrt floor ceil round trunc not         `round` is half to even
    fma                                             a·b + c, fused or not as the target likes
    dot                                             i32 from two i32 taken as pairs of i16: sum of both products, wrapping
    byte_dot                                        the signed bytes of an i32 times those of another, each 0 … 127: i32 as pairs
                                                    of i16, each the sum of two products
    add_pairs                                       both sums of two i32 taken as pairs of i16
    eq ne lt le gt ge                               → bool
    select  args = (condition, a, b)                both sides are evaluated: no trap may hide in one
    exp exp_nonpositive log tanh erf sin pow ...    `INTRINSICS`; `lower.mathlib` expands what a target lacks

Compute dtypes: f32 f64 i32 u32 i64 bool. A `load` from a buffer of storage dtype u8 i8 u16 i16 gives i32, f16 gives
f32; a store narrows by wrapping (floats: by rounding). bool is stored as one byte (0 or 1).
`lanes` is 1 or 4. A vector load or store touches 4 consecutive elements, of any alignment.

Statements:

    Declare(name, init)          a new local, dtype and lanes those of `init`; never assigned again = a let.
                                 A scalar i32 local that is never assigned may also be a variable of an IntExpr
    Assign(name, value)          to a declared local
    Store(buffer, index, value)  4 consecutive elements when value.lanes == 4
    For(var, extent, body)       var = 0 … extent − 1, serial; `unroll` is a lowering matter, not a statement
    If(condition, then, orelse)
    Barrier()                    all invocations of a workgroup (kernels with workgroup > 1 only)

A `Kernel` is a function of (buffers, symbols) over tasks 0 … tasks − 1. Tasks are independent: they may run in any
order, on any thread, in slices. The body reads the variable `task`; with `workgroup` > 1 (GPU only) `task` numbers the
workgroup, and `lane` the invocation in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .symbolic import IntExpr, forget_opaques, names_of, opaque, var

COMPUTE_DTYPES = ("f32", "f64", "i32", "u32", "i64", "bool")

STORAGE_BYTES = {
    "f32": 4, "f64": 8, "f16": 2, "i32": 4, "u32": 4, "i64": 8, "u64": 8,
    "i16": 2, "u16": 2, "i8": 1, "u8": 1, "bool": 1,
}  # fmt: skip

COMPUTE_OF = {
    "f32": "f32", "f64": "f64", "f16": "f32", "i32": "i32", "u32": "u32", "i64": "i64", "u64": "i64",
    "i16": "i32", "u16": "i32", "i8": "i32", "u8": "i32", "bool": "bool",
}  # fmt: skip

LANES = 4
"""Lanes of a vector."""
VECTOR_DTYPES = ("f32", "i32", "u32", "bool")
"""Dtypes of which there are vectors."""

_WIDTH = {"i32": 32, "u32": 32, "i64": 64}

COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
BINARY = frozenset(
    ("add", "sub", "mul", "div", "rem", "min", "max", "pmin", "pmax", "and", "or", "xor", "shl", "shr")
)
UNARY = frozenset(("neg", "abs", "sqrt", "floor", "ceil", "round", "trunc", "not"))
INTRINSICS = frozenset(
    (
        "exp", "exp_nonpositive", "log", "tanh", "erf", "sigmoid", "sin", "cos", "tan", "asin", "acos", "atan",
        "sinh", "cosh", "asinh", "acosh", "atanh", "pow",
    )
)  # fmt: skip

Index = int | IntExpr


class Expr:
    """One interned node; build it with the functions below."""

    __slots__ = ("op", "dtype", "lanes", "args", "attr", "_names", "_reads_locals")

    def __init__(self, op: str, dtype: str, lanes: int, args: tuple, attr: Any) -> None:
        self.op = op
        self.dtype = dtype
        self.lanes = lanes
        self.args = args
        self.attr = attr
        self._names: frozenset[str] | None = None
        self._reads_locals: bool | None = None

    @property
    def reads_locals(self) -> bool:
        """Whether a declared local is among its operands, at any depth (indices aside)."""
        if self._reads_locals is None:
            self._reads_locals = self.op == "local" or any([x.reads_locals for x in self.args])
        return self._reads_locals

    @property
    def names(self) -> frozenset[str]:
        """Names of all variables that the indices below this node depend on (no declared locals)."""
        if self._names is None:
            found: set[str] = set()
            for index in self.indices():
                found |= names_of(index)
            self._names = frozenset(found.union(*[x.names for x in self.args]))
        return self._names

    def indices(self) -> tuple[Index, ...]:
        """The index expressions that this node itself holds."""
        if self.op == "index":
            return (self.attr,)
        if self.op == "load":
            return (self.attr[1],)
        return self.attr[1] if self.op == "read" else ()

    def __str__(self) -> str:
        if self.op == "const":
            return str(self.attr)
        if self.op in ("local", "index"):
            return str(self.attr)
        if self.op == "load":
            buffer, index = self.attr
            return f"{buffer}[{index}{':4' if self.lanes == 4 else ''}]"
        attr = "" if self.attr is None else f"@{self.attr}"
        name = self.op if self.op not in ("cast", "bitcast") else f"{self.op}_{self.dtype}"
        return f"{name}{attr}({', '.join(map(str, self.args))})"

    __repr__ = __str__


_interned: dict[tuple, Expr] = {}


def expr(op: str, dtype: str, lanes: int = 1, args: tuple[Expr, ...] = (), attr: object = None) -> Expr:
    """The node with these fields. Most code uses the typed builders below instead."""
    key = (op, dtype, lanes, args, attr.__class__, attr)
    node = _interned.get(key)
    if node is None:
        node = _interned[key] = Expr(op, dtype, lanes, args, attr)
    return node


def forget_interned() -> None:
    """Drop the tables of interned nodes and atoms; call between two compilations, never within one."""
    _interned.clear()
    forget_opaques()


def const(value: float | int | bool, dtype: str) -> Expr:
    if dtype in ("f32", "f64"):
        value = float(value)
        # -0.0 == 0.0 and nan != nan: intern floats by their text.
        return expr("const", dtype, 1, (), _Float(value))
    return expr("const", dtype, 1, (), bool(value) if dtype == "bool" else int(value))


class _Float(float):
    """A float that is equal to another one exactly when both print the same."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and repr(self) == repr(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(repr(self))


def index(e: Index) -> Expr:
    """A loop index or symbol as an i32 value."""
    return const(e, "i32") if isinstance(e, int) else expr("index", "i32", 1, (), e)


def value_index(e: Expr) -> Index:
    """A run-time integer value as an index atom, e.g. what Gather loads. i64 is narrowed by the emitter."""
    if e.op == "const":
        return int(e.attr)
    if e.op == "index":
        return e.attr
    if e.op == "cast" and e.args[0].op == "index" and e.dtype in ("i32", "i64"):
        return e.args[0].attr
    return opaque("value", e)


def load(buffer: str, at: Index, dtype: str, lanes: int = 1) -> Expr:
    """Element `at` of `buffer`; `dtype` is the compute dtype."""
    return expr("load", dtype, lanes, (), (buffer, at))


def local(name: str, dtype: str, lanes: int = 1) -> Expr:
    return expr("local", dtype, lanes, (), name)


def splat(x: Expr) -> Expr:
    return x if x.lanes == 4 else expr("splat", x.dtype, 4, (x,))


def pack(xs: tuple[Expr, Expr, Expr, Expr]) -> Expr:
    return expr("pack", xs[0].dtype, 4, xs)


def extract(x: Expr, lane: int) -> Expr:
    return expr("extract", x.dtype, 1, (x,), lane)


def shuffle(a: Expr, b: Expr, lanes: tuple[int, int, int, int]) -> Expr:
    return expr("shuffle", a.dtype, 4, (a, b), lanes)


def uncast(x: Expr) -> Expr:
    """What `x` is a cast of, through any number of casts."""
    while x.op == "cast":
        x = x.args[0]
    return x


def cast(x: Expr, dtype: str) -> Expr:
    """x in another dtype; constants at once, but for floats that become integers."""
    if x.dtype == dtype:
        return x
    if (
        x.op == "const"
        and x.lanes == 1
        and not (x.dtype in ("f32", "f64") and dtype in ("i32", "u32", "i64"))
    ):
        return const(_wrapped(x.attr, dtype), dtype)
    return expr("cast", dtype, x.lanes, (x,))


def _wrapped(value: float | int | bool, dtype: str) -> float | int | bool:
    """An integer constant as `dtype` keeps it: modulo its width."""
    width = _WIDTH.get(dtype)
    if width is None or isinstance(value, float):
        return value
    value = int(value) % (1 << width)
    return value - (1 << width) if dtype[0] == "i" and value >> (width - 1) else value


def bitcast(x: Expr, dtype: str) -> Expr:
    return expr("bitcast", dtype, x.lanes, (x,))


def _widen(xs: tuple[Expr, ...]) -> tuple[Expr, ...]:
    for x in xs:
        if x.lanes == 4:
            return tuple(map(splat, xs))
    return xs


def unary(op: str, x: Expr) -> Expr:
    return expr(op, x.dtype, x.lanes, (x,))


def binary(op: str, a: Expr, b: Expr) -> Expr:
    """Arithmetic on two operands of one dtype; a scalar beside a vector is splatted."""
    if a.dtype != b.dtype:
        raise TypeError(f"{op}: {a.dtype} and {b.dtype}")
    if a.lanes != b.lanes:
        a, b = splat(a), splat(b)
    return expr(op, "bool" if op in COMPARISONS else a.dtype, a.lanes, (a, b))


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    a, b, c = _widen((a, b, c))
    return expr("fma", a.dtype, a.lanes, (a, b, c))


def dot(a: Expr, b: Expr) -> Expr:
    a, b = _widen((a, b))
    return expr("dot", "i32", a.lanes, (a, b))


def byte_dot(a: Expr, b: Expr) -> Expr:
    a, b = _widen((a, b))
    return expr("byte_dot", "i32", a.lanes, (a, b))


def add_pairs(a: Expr, b: Expr) -> Expr:
    a, b = _widen((a, b))
    return expr("add_pairs", "i32", a.lanes, (a, b))


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    condition, a, b = _widen((condition, a, b))
    return expr("select", a.dtype, a.lanes, (condition, a, b))


def add(a: Expr, b: Expr) -> Expr:
    return binary("add", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    return binary("sub", a, b)


def mul(a: Expr, b: Expr) -> Expr:
    return binary("mul", a, b)


def div(a: Expr, b: Expr) -> Expr:
    return binary("div", a, b)


def rebuild(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """`e` with other operands; lanes follow them."""
    if args == e.args:
        return e
    if e.op not in ("pack", "extract"):
        args = _widen(args)
    lanes = 1 if e.op == "extract" else 4 if e.op in ("pack", "splat") else args[0].lanes
    return expr(e.op, e.dtype, lanes, args, e.attr)


def nodes(*roots: Expr) -> list[Expr]:
    """The roots and all below them, each once, indices aside."""
    found: dict[Expr, None] = {}
    stack = list(reversed(roots))
    while stack:
        e = stack.pop()
        if e not in found:
            found[e] = None
            stack.extend(reversed(e.args))
    return list(found)


class Stmt:
    """Base of the statements."""

    __slots__ = ()


class Declare(Stmt):
    __slots__ = ("name", "init")

    def __init__(self, name: str, init: Expr) -> None:
        self.name = name
        self.init = init


class Assign(Stmt):
    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Expr) -> None:
        self.name = name
        self.value = value


class Store(Stmt):
    __slots__ = ("buffer", "index", "value")

    def __init__(self, buffer: str, index: Index, value: Expr) -> None:
        self.buffer = buffer
        self.index = index
        self.value = value


class For(Stmt):
    __slots__ = ("var", "extent", "body")

    def __init__(self, var: str, extent: Index, body: list[Stmt]) -> None:
        self.var = var
        self.extent = extent
        self.body = body


class If(Stmt):
    __slots__ = ("condition", "then", "orelse")

    def __init__(self, condition: Expr, then: list[Stmt], orelse: list[Stmt]) -> None:
        self.condition = condition
        self.then = then
        self.orelse = orelse


class Barrier(Stmt):
    __slots__ = ()


class Buffer:
    """A kernel parameter: `storage` dtype (key of STORAGE_BYTES), `access` "r", "w" or "rw"."""

    __slots__ = ("name", "storage", "access")

    def __init__(self, name: str, storage: str, access: str) -> None:
        self.name = name
        self.storage = storage
        self.access = access


class Kernel:
    """One emitted function. Symbols are i32 parameters named like variables; see the module's docstring."""

    __slots__ = ("name", "buffers", "symbols", "tasks", "body", "workgroup", "shared")

    def __init__(
        self,
        name: str,
        buffers: list[Buffer],
        symbols: list[str],
        tasks: Index,
        body: list[Stmt],
        workgroup: int = 1,
        shared: Sequence[tuple[str, str, Index]] = (),
    ) -> None:
        self.name = name
        self.buffers = buffers
        self.symbols = symbols
        self.tasks = tasks
        self.body = body
        self.workgroup = workgroup
        self.shared = list(shared)
        """(name, dtype, elements), used like a buffer: memory of the workgroup. Where `workgroup` is 1, on a CPU, it is
        scratch memory of the task, without content when the task starts; `elements` may name symbols there."""

    def __str__(self) -> str:
        from .ir_text import kernel_text

        return kernel_text(self)


def assigned(body: list[Stmt]) -> set[str]:
    """Names of the locals that an Assign writes anywhere in `body`."""
    names: set[str] = set()
    for s in body:
        if isinstance(s, Assign):
            names.add(s.name)
        elif isinstance(s, For):
            names |= assigned(s.body)
        elif isinstance(s, If):
            names |= assigned(s.then) | assigned(s.orelse)
    return names


TASK = var("task")
LANE = var("lane")
