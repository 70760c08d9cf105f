"""WGSL expressions: the value of an `ir.Expr` as text.

The nodes of a statement are written in order, operands first. A node that is used twice, or whose text is long, is bound
by a `let` before the statement; nothing is kept for the next statement, whose loads may see other values.
"""

from __future__ import annotations

import struct

from .. import ir
from ..errors import UnsupportedError, VerificationError
from ..symbolic import IntExpr, Opaque, opaque, terms_of, values_of
from .wgsl_index import (
    ADD,
    BITS,
    COMPARE,
    LOGIC,
    MULTIPLY,
    PRIMARY,
    SHIFT,
    UNARY,
    IndexWriter,
    Text,
    Texts,
    is_name,
    tight,
)  # fmt: skip

MAX_TEXT = 96
"""An expression longer than this is bound by a `let`: for the reader, and because parsers limit nesting."""

SCALAR = {"f32": "f32", "i32": "i32", "i64": "i32", "u32": "u32", "bool": "bool"}
VECTOR = {"f32": "vec4f", "i32": "vec4i", "i64": "vec4i", "u32": "vec4u", "bool": "vec4<bool>"}

# op → (operator, its precedence, loosest precedence of the left operand, of the right operand)
_OPERATORS = {
    "mul": ("*", MULTIPLY, MULTIPLY, UNARY),
    "div": ("/", MULTIPLY, MULTIPLY, UNARY),
    "rem": ("%", MULTIPLY, MULTIPLY, UNARY),
    "add": ("+", ADD, ADD, MULTIPLY),
    "sub": ("-", ADD, ADD, MULTIPLY),
    "shl": ("<<", SHIFT, UNARY, UNARY),
    "shr": (">>", SHIFT, UNARY, UNARY),
    "lt": ("<", COMPARE, ADD, ADD),
    "le": ("<=", COMPARE, ADD, ADD),
    "gt": (">", COMPARE, ADD, ADD),
    "ge": (">=", COMPARE, ADD, ADD),
    "eq": ("==", COMPARE, ADD, ADD),
    "ne": ("!=", COMPARE, ADD, ADD),
    "and": ("&", BITS, UNARY, UNARY),
    "or": ("|", BITS, UNARY, UNARY),
    "xor": ("^", BITS, UNARY, UNARY),
}
_BOOL_OPERATORS = {
    ("and", 1): ("&&", LOGIC, COMPARE, COMPARE),
    ("or", 1): ("||", LOGIC, COMPARE, COMPARE),
    ("xor", 1): ("!=", COMPARE, ADD, ADD),
    ("xor", 4): ("!=", COMPARE, ADD, ADD),
}
_MIXES_SCALAR = frozenset(("add", "sub", "mul", "div"))
_CALLS = frozenset(("abs", "sqrt", "floor", "ceil", "round", "trunc", "min", "max"))

_INFINITY = float("inf")
_LARGEST = (2 - 2**-23) * 2.0**127
_I32 = (-(2**31), 2**31 - 1)
_NO_LIMIT = (-(2**63), 2**63 - 1, 2**64 - 1)
"""Constants that stand for "no limit" in integer models (Clip, Slice, the start of a minimum); i32 saturates them."""


def float_text(value: float) -> str:
    """The shortest decimal that reads back as the finite float32 `value`."""
    exact = struct.unpack("<f", struct.pack("<f", value))[0]
    text = repr(exact)
    for digits in range(1, 10):
        short = f"{exact:.{digits}g}"
        # Few digits of the largest floats may name a number past them, which WGSL refuses.
        if abs(float(short)) <= _LARGEST and struct.unpack("<f", struct.pack("<f", float(short)))[0] == exact:
            text = short
            break
    return text if "." in text or "e" in text else text + ".0"


class ValueWriter(IndexWriter):
    """Writes values of one kernel."""

    def __init__(self, kernel: ir.Kernel) -> None:
        super().__init__(kernel.name)
        self.storage: dict[str, str] = {}
        """Storage dtype of each buffer on the GPU."""
        self.element: dict[str, str] = {}
        """Storage dtype that the kernel names, which may be narrower."""
        self.vectors: set[str] = set()
        """Buffers declared as arrays of 4-vectors."""
        self.fourfold: set[str] = set()
        """Declared variables that are multiples of 4."""
        self.uses_infinity = self.uses_nan = False

    def type_of(self, dtype: str, lanes: int) -> str:
        text = (VECTOR if lanes == 4 else SCALAR).get(dtype)
        if text is None:
            raise UnsupportedError(
                f'kernel {self.kernel_name} computes in {dtype}, which WebGPU does not have; use device "wasm"'
            )
        return text

    def local(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope.locals:
                return scope.locals[name]
        raise VerificationError(f"kernel {self.kernel_name} uses the local {name} where it is not declared")

    def children(self, e: ir.Expr) -> tuple[ir.Expr, ...]:
        """Operands of `e`, the values inside its index included."""
        if e.op == "load":
            return values_of(access_of(e)[1])
        if e.op == "index":
            return values_of(e.attr)
        return e.args

    def texts(self, *roots: ir.Expr) -> Texts:
        """Text of each root and of all that it is made of."""
        uses: dict[ir.Expr, int] = {}
        indexing: set[ir.Expr] = set()  # an index may repeat the value in it: once for each lane
        order: list[ir.Expr] = []
        todo: list[tuple[ir.Expr, bool]] = [(e, False) for e in reversed(roots)]
        while todo:
            e, done = todo.pop()
            if done:
                order.append(e)
                continue
            uses[e] = uses.get(e, 0) + 1
            if uses[e] > 1:
                continue
            todo.append((e, True))
            children = self.children(e)
            todo += [(c, False) for c in reversed(children)]
            if e.op in ("load", "index"):
                indexing.update(children)
        texts: Texts = {}
        for e in order:
            text = self._expression(e, texts)
            if uses[e] > 1 and e.op == "splat":
                text = self._splat_of_name(e, texts)
            elif uses[e] > 1 or e in indexing or (len(text[0]) > MAX_TEXT and e not in roots):
                if e.op != "const" and not is_name(text[0]):
                    text = self.bind(text[0], "t"), PRIMARY
            texts[e] = text
        return texts

    def _splat_of_name(self, e: ir.Expr, texts: Texts) -> Text:
        x = e.args[0]
        if x.op != "const" and not is_name(texts[x][0]):
            texts[x] = self.bind(texts[x][0], "t"), PRIMARY
        return self._expression(e, texts)

    def _expression(self, e: ir.Expr, texts: Texts) -> Text:
        op = e.op
        if op == "const":
            return self._constant(e)
        if op == "local":
            return self.local(e.attr), PRIMARY
        if op == "index":
            return self.index(e.attr, texts)
        if op == "load":
            return self._load(e, texts)
        if op == "extract":
            return f"{tight(texts[e.args[0]], PRIMARY)}.{'xyzw'[e.attr]}", PRIMARY
        dtype = self.type_of(e.dtype, e.lanes)
        if op == "shuffle":
            sides = [tight(texts[a], PRIMARY) for a in e.args]
            lanes = [f"{sides[n // 4]}.{'xyzw'[n % 4]}" for n in e.attr]
            return f"{dtype}({', '.join(lanes)})", PRIMARY
        if op in ("splat", "pack"):
            return f"{dtype}({', '.join(texts[a][0] for a in e.args)})", PRIMARY
        args = [texts[a] for a in e.args]
        if all(map(_is_constant, e.args)):
            args = [self._as_variable(a, t) for a, t in zip(e.args, args, strict=True)]
        if op == "cast":
            same = self.type_of(e.args[0].dtype, e.lanes) == dtype
            return args[0] if same else (f"{dtype}({args[0][0]})", PRIMARY)
        if op == "bitcast":
            self.type_of(e.args[0].dtype, e.lanes)
            return f"bitcast<{dtype}>({args[0][0]})", PRIMARY
        if op in ("eq", "ne") and e.args[0] is e.args[1] and e.args[0].dtype == "f32":
            return self._nan_test(e, args[0])
        if op in _OPERATORS:
            return self._operator(e, args)
        if op == "fma":
            return self._multiply_add(e, args)
        if op == "neg":
            if e.dtype == "u32":
                return f"{self._literal('0u', e)} - {tight(args[0], MULTIPLY)}", ADD
            return f"-{tight(args[0], PRIMARY)}", UNARY
        if op == "not":
            return f"{'!' if e.dtype == 'bool' else '~'}{tight(args[0], PRIMARY)}", UNARY
        if op == "select":
            condition, a, b = (t[0] for t in args)
            return f"select({b}, {a}, {condition})", PRIMARY
        if op in ("pmin", "pmax"):
            a, b = (t if is_name(t) else self.bind(t, "t") for t, _ in args)
            return f"select({a}, {b}, {f'{a} < {b}' if op == 'pmax' else f'{b} < {a}'})", PRIMARY
        if op in _CALLS:
            return f"{op}({', '.join(t[0] for t in args)})", PRIMARY
        hint = ": lower.mathlib must expand it" if op in ir.INTRINSICS else ""
        raise VerificationError(f"kernel {self.kernel_name}: WGSL has no rule for {op}{hint}")

    # Constants

    def _constant(self, e: ir.Expr) -> Text:
        if e.dtype == "bool":
            return ("true" if e.attr else "false"), PRIMARY
        if e.dtype == "f32":
            return self._float_constant(float(e.attr))
        self.type_of(e.dtype, 1)
        value = int(e.attr)
        if e.dtype == "u32":
            return f"{value % 2**32}u", PRIMARY
        if not _I32[0] <= value <= _I32[1]:
            if value not in _NO_LIMIT:
                raise UnsupportedError(
                    f"kernel {self.kernel_name} uses the integer {value}, and WebGPU has only 32-bit integers; "
                    f'use device "wasm"'
                )
            value = _I32[value > 0]
        return str(value), UNARY if value < 0 else PRIMARY

    def _float_constant(self, value: float) -> Text:
        try:
            struct.pack("<f", value)
        except OverflowError:
            value = _INFINITY if value > 0 else -_INFINITY
        if value != value:
            self.uses_nan = True
            return "params.nan", PRIMARY
        if abs(value) == _INFINITY:
            self.uses_infinity = True
            return ("params.infinity", PRIMARY) if value > 0 else ("-params.infinity", UNARY)
        text = float_text(value)
        return text, UNARY if text[0] == "-" else PRIMARY

    def _as_variable(self, e: ir.Expr, text: Text) -> Text:
        """A constant operand as a `let`, which ends constant evaluation and the errors that it may bring."""
        return self.bind(text[0], "c", dtype=self.type_of(e.dtype, e.lanes)), PRIMARY

    def _literal(self, text: str, like: ir.Expr) -> str:
        return f"{self.type_of(like.dtype, 4)}({text})" if like.lanes == 4 else text

    # Operators

    def _operator(self, e: ir.Expr, args: list[Text]) -> Text:
        a, b = args
        x, y = e.args
        symbol, own, left, right = _OPERATORS[e.op]
        if x.dtype == "bool":
            symbol, own, left, right = _BOOL_OPERATORS.get((e.op, e.lanes), _OPERATORS[e.op])
        elif e.op in ("shl", "shr"):
            b = self._shift_count(y, b)
        elif e.op in ("div", "rem") and x.dtype != "f32" and _is_constant(y) and not _is_constant(x):
            if _scalar_of(y).attr in (0, -1):
                b = self._as_variable(y, b)
        elif e.lanes == 4 and e.op in _MIXES_SCALAR:
            if y.op == "splat" and (scalar := self._unsplat(y, b)):
                b = scalar
            elif x.op == "splat" and (scalar := self._unsplat(x, a)):
                a = scalar
        return f"{tight(a, left)} {symbol} {tight(b, right)}", own

    def _multiply_add(self, e: ir.Expr, args: list[Text]) -> Text:
        """a * b + c, which compilers contract where the GPU has the instruction."""
        a, b, c = args
        x, y, z = e.args
        if y.op == "splat" and (scalar := self._unsplat(y, b)):
            b = scalar
        elif x.op == "splat" and (scalar := self._unsplat(x, a)):
            a = scalar
        if z.op == "splat" and (scalar := self._unsplat(z, c)):
            c = scalar
        return f"{tight(a, MULTIPLY)} * {tight(b, UNARY)} + {tight(c, MULTIPLY)}", ADD

    def _unsplat(self, e: ir.Expr, text: Text) -> Text | None:
        """`v * vec4f(x)` may say `v * x`: the text of x, if the splat was not bound to a name."""
        prefix = f"{self.type_of(e.dtype, 4)}("
        if not text[0].startswith(prefix):
            return None
        inner = text[0][len(prefix) : -1]
        return inner, PRIMARY if _is_simple(inner) else LOGIC

    def _shift_count(self, count: ir.Expr, text: Text) -> Text:
        if _is_constant(count) and count.op != "pack":
            amount = int(_scalar_of(count).attr)
            # i64 computes in 32 bits: a longer shift leaves what a 64-bit one would leave of a small number.
            amount = min(amount, 31) if count.dtype == "i64" else amount % 32
            return (f"vec4u({amount}u)" if count.lanes == 4 else f"{amount}u"), PRIMARY
        if count.dtype == "u32":
            return text
        return f"{VECTOR['u32'] if count.lanes == 4 else 'u32'}({text[0]})", PRIMARY

    def _nan_test(self, e: ir.Expr, x: Text) -> Text:
        """x != x, or x == x, on the bits of x: compilers may assume that there are no NaNs."""
        vector = e.lanes == 4
        bits = f"bitcast<{'vec4u' if vector else 'u32'}>({x[0]})"
        mask, limit = (
            ("vec4u(0x7fffffffu)", "vec4u(0x7f800000u)") if vector else ("0x7fffffffu", "0x7f800000u")
        )
        return f"({bits} & {mask}) {'>' if e.op == 'ne' else '<='} {limit}", COMPARE

    # Memory

    def is_fourfold(self, e: int | IntExpr) -> bool:
        """Whether `e` is known to be a multiple of 4, term by term."""
        return all(c % 4 == 0 or any(map(self._fourfold_atom, mono)) for mono, c in terms_of(e).items())

    def _fourfold_atom(self, atom: str | Opaque) -> bool:
        if isinstance(atom, str):
            return atom in self.fourfold
        return atom.op in ("min", "max", "mod") and all(map(self.is_fourfold, atom.args))

    def note_multiple(self, s: ir.Declare) -> None:
        """Remember whether the local that is declared is a multiple of 4."""
        if s.init.op == "index" and self.is_fourfold(s.init.attr):
            self.fourfold.add(s.name)
        else:
            self.fourfold.discard(s.name)

    def quarter(self, at: int | IntExpr) -> int | IntExpr:
        """The index of a vector, from that of its first element, which `is_fourfold`."""
        result: int | IntExpr = 0
        for mono, coef in terms_of(at).items():
            if coef % 4 == 0:
                result = result + (IntExpr({mono: coef // 4}) if mono else coef // 4)
                continue
            n = next(i for i, atom in enumerate(mono) if self._fourfold_atom(atom))
            rest = IntExpr({mono[:n] + mono[n + 1 :]: coef}) if len(mono) > 1 else coef
            result = result + rest * opaque("floordiv", IntExpr({(mono[n],): 1}), 4)
        return result

    def _load(self, e: ir.Expr, texts: Texts) -> Text:
        buffer, at = access_of(e)
        name = self.names[buffer]
        stored = self.storage[buffer]
        if e.lanes == 1:
            text = f"{name}[{self.index(at, texts)[0]}]"
        elif buffer in self.vectors:
            text = f"{name}[{self.index(self.quarter(at), texts)[0]}]"
        else:
            elements = (f"{name}[{self.index(at + lane, texts)[0]}]" for lane in range(4))
            text = f"{self.type_of(stored, 4)}({', '.join(elements)})"
        if e.dtype == "bool":
            return f"{text} != {'vec4u()' if e.lanes == 4 else '0u'}", COMPARE
        dtype = self.type_of(e.dtype, e.lanes)
        return text if self.type_of(stored, e.lanes) == dtype else f"{dtype}({text})", PRIMARY

    def to_storage(self, buffer: str, value: ir.Expr, text: Text) -> Text:
        """`text` as the buffer's element: converted, and wrapped where the tensor's own integers are narrower."""
        stored = self.type_of(self.storage[buffer], value.lanes)
        if stored != self.type_of(value.dtype, value.lanes):
            text = f"{stored}({text[0]})", PRIMARY
        element = self.element[buffer]
        vector = value.lanes == 4
        if value.dtype != "bool" and element in ("u8", "u16"):
            mask = "0xff" if element == "u8" else "0xffff"
            return f"{tight(text, UNARY)} & {f'vec4i({mask})' if vector else mask}", BITS
        if value.dtype != "bool" and element in ("i8", "i16"):
            count = "24u" if element == "i8" else "16u"
            count = f"vec4u({count})" if vector else count
            return f"({tight(text, UNARY)} << {count}) >> {count}", SHIFT
        return text


def access_of(e: ir.Expr) -> tuple[str, int | IntExpr]:
    """Buffer and element index of a load."""
    return e.attr


def _is_constant(e: ir.Expr) -> bool:
    return e.op == "const" or (e.op in ("splat", "pack") and all(map(_is_constant, e.args)))


def _scalar_of(e: ir.Expr) -> ir.Expr:
    """The constant inside a splat of one."""
    return e.args[0] if e.op in ("splat", "pack") else e


def _is_simple(text: str) -> bool:
    """No operator at the top: a name, a literal, a call or an access."""
    depth = 0
    for i, c in enumerate(text):
        if c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        elif depth == 0 and (c == " " or (i == 0 and c in "-!~")):
            return False
    return True
