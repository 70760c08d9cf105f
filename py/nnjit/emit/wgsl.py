"""WGSL: one `ir.Kernel` becomes one readable shader with the entry point `main`.

Bindings of group 0: the kernel's buffers in order, then `params`, a uniform that holds the symbols in order, the number
of tasks, and, after them, an infinity and a NaN (`Params` in the shader's text names what it uses of it). A kernel with
`workgroup` == 1 runs one task in each of the `INVOCATIONS` invocations of a workgroup; any other runs one task in each
workgroup. Workgroups are numbered over x, then y, because one dimension of a dispatch ends at 65535.

What WGSL forces, and what is done about it:

- There is no 64-bit type: i64 computes as i32 (the border checks the range), f64 is refused.
- An infinite or NaN constant expression is an error, and so is any constant expression that overflows. So these
  constants come from the uniform, and an operation on constants alone takes them through a `let`.
- An implementation may assume that there are no NaNs: `x != x` is tested on the bits of x.
- Operators of different kinds do not mix without parentheses: see `_PRECEDENCE`.
- A storage access is bounds-checked by the browser. A buffer whose every access is 4 aligned elements is declared as
  an array of vectors, which checks, and loads, once instead of four times.
"""

from __future__ import annotations

import struct

from .. import ir
from ..errors import UnsupportedError, VerificationError
from ..symbolic import IntExpr, Opaque, bounds_of, terms_of
from ..target import Target
from .wgsl_names import RESERVED

INVOCATIONS = 64
"""Invocations of a workgroup, each with a task of its own, where the kernel asks for no workgroup."""

NATIVE_INTRINSICS = frozenset(("exp", "log"))
"""Builtins whose accuracy, as the WGSL specification guarantees it, suffices: exp to 3 + 2·|x| ULP, log to 3 ULP
(2⁻²¹ absolute near 1). sin and cos are only good to 2⁻¹¹, tanh may overflow: `lower.mathlib` expands those."""

MAX_TEXT = 96
"""An expression longer than this is bound by a `let`: for the reader, and because parsers limit nesting."""

_SCALAR = {"f32": "f32", "i32": "i32", "i64": "i32", "u32": "u32", "bool": "bool"}
_VECTOR = {"f32": "vec4f", "i32": "vec4i", "i64": "vec4i", "u32": "vec4u", "bool": "vec4<bool>"}

_PRIMARY, _UNARY, _MULTIPLY, _ADD, _SHIFT, _COMPARE, _BITS, _LOGIC = range(8)
# op → (operator, its own precedence, loosest precedence of the left operand, of the right operand)
_PRECEDENCE = {
    "mul": ("*", _MULTIPLY, _MULTIPLY, _UNARY),
    "div": ("/", _MULTIPLY, _MULTIPLY, _UNARY),
    "rem": ("%", _MULTIPLY, _MULTIPLY, _UNARY),
    "add": ("+", _ADD, _ADD, _MULTIPLY),
    "sub": ("-", _ADD, _ADD, _MULTIPLY),
    "shl": ("<<", _SHIFT, _UNARY, _UNARY),
    "shr": (">>", _SHIFT, _UNARY, _UNARY),
    "lt": ("<", _COMPARE, _ADD, _ADD),
    "le": ("<=", _COMPARE, _ADD, _ADD),
    "gt": (">", _COMPARE, _ADD, _ADD),
    "ge": (">=", _COMPARE, _ADD, _ADD),
    "eq": ("==", _COMPARE, _ADD, _ADD),
    "ne": ("!=", _COMPARE, _ADD, _ADD),
    "and": ("&", _BITS, _UNARY, _UNARY),
    "or": ("|", _BITS, _UNARY, _UNARY),
    "xor": ("^", _BITS, _UNARY, _UNARY),
}  # fmt: skip
_CALLS = frozenset(("abs", "sqrt", "floor", "ceil", "round", "trunc", "min", "max")) | NATIVE_INTRINSICS
_MIXES_SCALAR = frozenset(("add", "sub", "mul", "div"))

_I32 = (-(2**31), 2**31 - 1)
_NO_LIMIT = (-(2**63), 2**63 - 1, 2**64 - 1)
"""Constants that stand for "no limit" in integer models (Clip, Slice, the start of a minimum); i32 saturates them."""

Text = tuple[str, int]
"""Source text of an expression and its precedence."""

_FLOORDIV = """\
fn floordiv(a: i32, b: i32) -> i32 {
  let q = a / b;
  return select(q, q - 1, q * b > a);
}
"""


def emit_shader(kernel: ir.Kernel, target: Target) -> str:
    """WGSL text of `kernel`. Raises UnsupportedError for what WGSL cannot compute, VerificationError for a bad kernel."""
    return _Shader(kernel, target).text()


def float_text(value: float) -> str:
    """The shortest decimal that reads back as the finite float32 `value`."""
    exact = struct.unpack("<f", struct.pack("<f", value))[0]
    for digits in range(1, 10):
        text = f"{exact:.{digits}g}"
        if struct.unpack("<f", struct.pack("<f", float(text)))[0] == exact:
            break
    return text if "." in text or "e" in text else text + ".0"


class _Scope:
    """The lines of one open block, and what its `let`s and locals are called."""

    __slots__ = ("lines", "indent", "locals", "indices")

    def __init__(self, indent: str) -> None:
        self.lines: list[str] = []
        self.indent = indent
        self.locals: dict[str, str] = {}
        self.indices: dict[object, str] = {}


class _Shader:
    def __init__(self, kernel: ir.Kernel, target: Target) -> None:
        self.kernel = kernel
        self.target = target
        self.taken: set[str] = set(RESERVED)
        self.names: dict[str, str] = {}
        for name in [b.name for b in kernel.buffers] + [n for n, _, _ in kernel.shared] + kernel.symbols:
            self.names[name] = self._fresh(name)
        for name in ("params", "main", "floordiv", "group", "groups", "task", "lane"):
            self.taken.add(name)
        if len(kernel.buffers) > target.max_storage_buffers:
            raise UnsupportedError(
                f"kernel {kernel.name} reads and writes {len(kernel.buffers)} buffers, and this GPU binds at most "
                f"{target.max_storage_buffers} storage buffers to a shader; use device \"wasm\""
            )
        self.storage = {b.name: target.storage(b.storage) for b in kernel.buffers}
        self.storage.update((n, d) for n, d, _ in kernel.shared)
        self.element = {b.name: b.storage for b in kernel.buffers}
        self.values: dict[int | IntExpr, tuple[ir.Expr, ...]] = {}
        self.mutable: set[str] = set()
        self.vectors = self._vector_buffers()
        self.uses_inf = self.uses_nan = self.uses_floordiv = False
        self.scopes: list[_Scope] = [_Scope("  ")]
        self.var_scope: dict[str, int] = {name: 0 for name in [*kernel.symbols, "task", "lane"]}
        self.bounds: dict[str, tuple[int, int | None]] = {"lane": (0, kernel.workgroup - 1)}
        self.counter = 0

    # The shader as a whole

    def text(self) -> str:
        kernel = self.kernel
        for name in kernel.symbols:
            self._line(f"let {self.names[name]} = params.{self.names[name]};")
        for statement in kernel.body:
            self._statement(statement)
        lines: list[str] = []
        for i, buffer in enumerate(kernel.buffers):
            dtype = self._type(self.storage[buffer.name], 4 if buffer.name in self.vectors else 1, storage=True)
            access = "read" if buffer.access == "r" else "read_write"
            name = self.names[buffer.name]
            lines.append(f"@group(0) @binding({i}) var<storage, {access}> {name}: array<{dtype}>;")
        fields = [f"{self.names[n]}: i32" for n in kernel.symbols] + ["tasks: i32"]
        if self.uses_inf or self.uses_nan:
            fields.append("infinity: f32")
        if self.uses_nan:
            fields.append("nan: f32")
        lines.append("struct Params { " + ", ".join(fields) + " }")
        lines.append(f"@group(0) @binding({len(kernel.buffers)}) var<uniform> params: Params;")
        for name, dtype, elements in kernel.shared:
            element = self._type(dtype, 4 if name in self.vectors else 1, storage=True)
            count = -(-elements // 4) if name in self.vectors else elements
            lines.append(f"var<workgroup> {self.names[name]}: array<{element}, {count}>;")
        if self.uses_floordiv:
            lines += ["", _FLOORDIV.rstrip()]
        size = INVOCATIONS if kernel.workgroup == 1 else kernel.workgroup
        lines += [
            "",
            f"@compute @workgroup_size({size})",
            "fn main(",
            "  @builtin(workgroup_id) group: vec3u,",
            "  @builtin(num_workgroups) groups: vec3u,",
            "  @builtin(local_invocation_index) invocation: u32,",
            ") {",
        ]
        if kernel.workgroup == 1:
            lines.append(f"  let task = i32((group.y * groups.x + group.x) * {size}u + invocation);")
        else:
            lines.append("  let task = i32(group.y * groups.x + group.x);")
        lines.append("  if (task >= params.tasks) { return; }")
        if kernel.workgroup > 1:
            lines.append("  let lane = i32(invocation);")
        return "\n".join([*lines, *self.scopes[0].lines, "}", ""])

    def _type(self, dtype: str, lanes: int, storage: bool = False) -> str:
        if storage and dtype == "bool":
            dtype = "u32"
        text = (_VECTOR if lanes == 4 else _SCALAR).get(dtype)
        if text is None:
            raise UnsupportedError(
                f"kernel {self.kernel.name} computes in {dtype}, which WebGPU does not have; use device \"wasm\""
            )
        return text

    def _fresh(self, name: str) -> str:
        text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
        if not text or text[0].isdigit() or text == "_" or text.startswith("__"):
            text = "v" + text
        unique, n = text, 1
        while unique in self.taken:
            n += 1
            unique = f"{text}_{n}"
        self.taken.add(unique)
        return unique

    def _line(self, text: str, scope: int = -1) -> None:
        at = self.scopes[scope]
        at.lines.append(at.indent + text)

    # What the whole kernel says: locals that change, buffers that are only used as vectors

    def _vector_buffers(self) -> set[str]:
        """Buffers that every access takes 4 aligned elements of. Fills `mutable` on the way."""
        vector: dict[str, bool] = {}
        seen: set[int] = set()

        def access(buffer: str, at: int | IntExpr, lanes: int) -> None:
            aligned = lanes == 4 and all(c % 4 == 0 for c in terms_of(at).values())
            vector[buffer] = vector.get(buffer, True) and aligned

        def visit(*roots: ir.Expr) -> None:
            todo = list(roots)
            while todo:
                e = todo.pop()
                if id(e) in seen:
                    continue
                seen.add(id(e))
                if e.op == "load":
                    access(*e.attr, e.lanes)  # type: ignore[misc]
                todo += self._children(e)

        def walk(body: list[ir.Stmt]) -> None:
            for s in body:
                if isinstance(s, ir.Declare):
                    visit(s.init)
                elif isinstance(s, ir.Assign):
                    self.mutable.add(s.name)
                    visit(s.value)
                elif isinstance(s, ir.Store):
                    access(s.buffer, s.index, s.value.lanes)
                    visit(s.value, *self._values(s.index))
                elif isinstance(s, ir.For):
                    visit(*self._values(s.extent))
                    walk(s.body)
                elif isinstance(s, ir.If):
                    visit(s.condition)
                    walk(s.then)
                    walk(s.orelse)

        walk(self.kernel.body)
        return {name for name, only in vector.items() if only}

    def _values(self, e: int | IntExpr) -> tuple[ir.Expr, ...]:
        """Run-time values that the index `e` holds."""
        if isinstance(e, int):
            return ()
        found = self.values.get(e)
        if found is None:
            collected: list[ir.Expr] = []
            for mono in e.terms:
                for atom in mono:
                    if isinstance(atom, Opaque):
                        if atom.op == "value":
                            collected.append(atom.args[0])
                        else:
                            for arg in atom.args:
                                collected += self._values(arg)
            found = self.values[e] = tuple(collected)
        return found

    def _children(self, e: ir.Expr) -> tuple[ir.Expr, ...]:
        if e.op == "load":
            return self._values(e.attr[1])  # type: ignore[index]
        if e.op == "index":
            return self._values(e.attr)  # type: ignore[arg-type]
        return e.args

    # Statements

    def _statement(self, s: ir.Stmt) -> None:
        if isinstance(s, ir.Declare):
            value = self._evaluate(s.init)[0]
            name = self._fresh(s.name)
            kind = "var" if s.name in self.mutable else "let"
            # A constant alone would have an abstract type; the declaration says which.
            typed = f"{name}: {self._type(s.init.dtype, s.init.lanes)}" if s.init.op == "const" else name
            self._line(f"{kind} {typed} = {value};")
            self.scopes[-1].locals[s.name] = name
        elif isinstance(s, ir.Assign):
            value = self._evaluate(s.value)[0]
            self._line(f"{self._local(s.name)} = {value};")
        elif isinstance(s, ir.Store):
            self._store(s)
        elif isinstance(s, ir.For):
            self._for(s)
        elif isinstance(s, ir.If):
            condition = self._evaluate(s.condition)[0]
            then = self._block(s.then)
            orelse = self._block(s.orelse)
            self._line(f"if ({condition}) {{")
            self.scopes[-1].lines += then
            if s.orelse:
                self._line("} else {")
                self.scopes[-1].lines += orelse
            self._line("}")
        else:
            if self.kernel.workgroup == 1:
                raise VerificationError(f"kernel {self.kernel.name} has a barrier but no workgroup")
            self._line("workgroupBarrier();")

    def _block(self, body: list[ir.Stmt]) -> list[str]:
        self.scopes.append(_Scope(self.scopes[-1].indent + "  "))
        for statement in body:
            self._statement(statement)
        return self.scopes.pop().lines

    def _for(self, s: ir.For) -> None:
        texts = self._texts(self._values(s.extent))
        extent = self._tight(self._index(s.extent, texts), _ADD)
        name = self._fresh(s.var)
        outer = self.names.get(s.var), self.var_scope.get(s.var), self.bounds.get(s.var)
        self.names[s.var] = name
        self.var_scope[s.var] = len(self.scopes)
        high = bounds_of(s.extent, self.bounds)[1]
        self.bounds[s.var] = (0, None if high is None else max(high - 1, 0))
        body = self._block(s.body)
        for table, value in zip((self.names, self.var_scope, self.bounds), outer, strict=True):
            if value is None:
                del table[s.var]  # type: ignore[attr-defined]
            else:
                table[s.var] = value  # type: ignore[index]
        self._line(f"for (var {name} = 0; {name} < {extent}; {name}++) {{")
        self.scopes[-1].lines += body
        self._line("}")

    def _store(self, s: ir.Store) -> None:
        value, texts = self._evaluate_with(s.value, *self._values(s.index))
        buffer = self.names[s.buffer]
        text = self._to_storage(s.buffer, s.value, value)
        if s.value.lanes == 1:
            self._line(f"{buffer}[{self._index(s.index, texts)[0]}] = {text[0]};")
        elif s.buffer in self.vectors:
            self._line(f"{buffer}[{self._index(_quarter(s.index), texts)[0]}] = {text[0]};")
        else:
            whole = text[0] if text[0].isidentifier() else self._bind(text[0])
            for lane in range(4):
                at = self._index(s.index + lane, texts)[0]
                self._line(f"{buffer}[{at}] = {whole}.{'xyzw'[lane]};")

    # Values

    def _local(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope.locals:
                return scope.locals[name]
        raise VerificationError(f"kernel {self.kernel.name} uses the local {name} where it is not declared")

    def _bind(self, text: str) -> str:
        self.counter += 1
        name = self._fresh(f"t{self.counter}")
        self._line(f"let {name} = {text};")
        return name

    def _evaluate(self, e: ir.Expr) -> Text:
        return self._texts((e,))[e]

    def _evaluate_with(self, e: ir.Expr, *more: ir.Expr) -> tuple[Text, dict[ir.Expr, Text]]:
        texts = self._texts((e, *more))
        return texts[e], texts

    def _texts(self, roots: tuple[ir.Expr, ...]) -> dict[ir.Expr, Text]:
        """Text of each root and of all that it is made of; what is used twice, or long, is bound by a `let`."""
        uses: dict[ir.Expr, int] = {}
        order: list[ir.Expr] = []
        todo: list[tuple[ir.Expr, bool]] = [(e, False) for e in reversed(roots)]
        while todo:
            e, done = todo.pop()
            if done:
                order.append(e)
                continue
            uses[e] = uses.get(e, 0) + 1
            if uses[e] == 1:
                todo.append((e, True))
                todo += [(c, False) for c in reversed(self._children(e))]
        texts: dict[ir.Expr, Text] = {}
        for e in order:
            text = self._expression(e, texts)
            if text[1] != _PRIMARY or "(" in text[0] or "[" in text[0]:
                shared = uses[e] > 1 and e.op not in ("const", "splat")
                if shared or (len(text[0]) > MAX_TEXT and e not in roots):
                    text = self._bind(text[0]), _PRIMARY
            texts[e] = text
        return texts

    def _tight(self, text: Text, loosest: int) -> str:
        return text[0] if text[1] <= loosest else f"({text[0]})"

    def _expression(self, e: ir.Expr, texts: dict[ir.Expr, Text]) -> Text:
        op = e.op
        if op == "const":
            return self._constant(e)
        if op == "local":
            return self._local(e.attr), _PRIMARY  # type: ignore[arg-type]
        if op == "index":
            return self._index(e.attr, texts)  # type: ignore[arg-type]
        if op == "load":
            return self._load(e, texts)
        if op == "extract":
            return f"{self._tight(texts[e.args[0]], _PRIMARY)}.{'xyzw'[e.attr]}", _PRIMARY  # type: ignore[index]
        dtype = self._type(e.dtype, e.lanes)
        if op in ("splat", "pack"):
            return f"{dtype}({', '.join(texts[a][0] for a in e.args)})", _PRIMARY
        args = [texts[a] for a in e.args]
        if all(map(_is_constant, e.args)):
            args = [self._as_variable(a, t) for a, t in zip(e.args, args, strict=True)]
        if op == "cast":
            x = e.args[0]
            same = self._type(x.dtype, x.lanes) == dtype
            return args[0] if same else (f"{dtype}({args[0][0]})", _PRIMARY)
        if op == "bitcast":
            self._type(e.args[0].dtype, e.lanes)
            return f"bitcast<{dtype}>({args[0][0]})", _PRIMARY
        if op in ("eq", "ne") and e.args[0] is e.args[1] and e.args[0].dtype == "f32":
            return self._nan_test(op, e, args[0])
        if op in _PRECEDENCE:
            return self._operator(e, args)
        if op == "neg":
            if e.dtype == "u32":
                return f"~{self._tight(args[0], _PRIMARY)} + {self._literal('1u', e)}", _ADD
            return f"-{self._tight(args[0], _PRIMARY)}", _UNARY
        if op == "not":
            return f"{'!' if e.dtype == 'bool' else '~'}{self._tight(args[0], _PRIMARY)}", _UNARY
        if op == "fma":
            a, b, c = (self._unsplat(x, t) for x, t in zip(e.args, args, strict=True))
            if a[1] is None and b[1] is None:
                a = args[0], _PRIMARY
            product = f"{self._tight(a[0], _MULTIPLY)} * {self._tight(b[0], _UNARY)}"
            return f"{product} + {self._tight(c[0], _MULTIPLY)}", _ADD
        if op == "select":
            condition, a, b = (t[0] for t in args)
            return f"select({b}, {a}, {condition})", _PRIMARY
        if op in _CALLS:
            return f"{op}({', '.join(t[0] for t in args)})", _PRIMARY
        if op in ir.INTRINSICS:
            raise VerificationError(f"kernel {self.kernel.name}: {op} must be expanded before WGSL is emitted")
        raise VerificationError(f"kernel {self.kernel.name}: WGSL has no rule for {op}")

    def _constant(self, e: ir.Expr) -> Text:
        value = e.attr
        if e.dtype == "bool":
            return ("true" if value else "false"), _PRIMARY
        if e.dtype == "f32":
            number = float(value)  # type: ignore[arg-type]
            try:
                struct.pack("<f", number)
            except OverflowError:
                number = float("inf") if number > 0 else -float("inf")
            if number != number:
                self.uses_nan = True
                return "params.nan", _PRIMARY
            if number in (float("inf"), -float("inf")):
                self.uses_inf = True
                return ("params.infinity", _PRIMARY) if number > 0 else ("-params.infinity", _UNARY)
            text = float_text(number)
        else:
            self._type(e.dtype, 1)
            integer = int(value)  # type: ignore[call-overload]
            if e.dtype == "u32":
                return f"{integer % 2**32}u", _PRIMARY
            if not _I32[0] <= integer <= _I32[1]:
                if integer not in _NO_LIMIT:
                    raise UnsupportedError(
                        f"kernel {self.kernel.name} uses the integer {integer}, and WebGPU has only 32-bit "
                        f"integers; use device \"wasm\""
                    )
                integer = _I32[integer > 0]
            text = str(integer)
        return text, _UNARY if text[0] == "-" else _PRIMARY

    def _as_variable(self, e: ir.Expr, text: Text) -> Text:
        """A constant operand as a `let`, which ends constant evaluation and the errors that it may bring."""
        if text[0].isidentifier() and text[0] not in ("true", "false"):
            return text
        self.counter += 1
        name = self._fresh(f"c{self.counter}")
        self._line(f"let {name}: {self._type(e.dtype, e.lanes)} = {text[0]};")
        return name, _PRIMARY

    def _literal(self, text: str, like: ir.Expr) -> str:
        return f"{self._type(like.dtype, 4)}({text})" if like.lanes == 4 else text

    def _unsplat(self, e: ir.Expr, text: Text) -> tuple[Text, None | int]:
        """`v * vec4f(x)` may say `v * x`: the operand's text as a scalar (second value None) where it is a splat."""
        prefix = f"{self._type(e.dtype, 4)}("
        if e.op == "splat" and text[0].startswith(prefix):
            inner = text[0][len(prefix) : -1]
            return (inner, _PRIMARY if _is_simple(inner) else _LOGIC), None
        return text, _PRIMARY

    def _operator(self, e: ir.Expr, args: list[Text]) -> Text:
        a, b = args
        symbol, own, left, right = _PRECEDENCE[e.op]
        operands = e.args[0].dtype
        if operands == "bool":
            if e.op == "xor":
                symbol, own, left, right = "!=", _COMPARE, _ADD, _ADD
            elif e.lanes == 1 and e.op in ("and", "or"):
                symbol, own, left, right = symbol * 2, _LOGIC, _COMPARE, _COMPARE
        elif e.op in ("shl", "shr"):
            count = e.args[1].args[0] if e.args[1].op == "splat" else e.args[1]
            if count.op == "const":
                b = self._literal_shift(count, e), _PRIMARY
            elif operands != "u32":
                b = f"{'vec4u' if e.lanes == 4 else 'u32'}({b[0]})", _PRIMARY
        elif e.op in ("div", "rem") and operands != "f32" and _is_constant(e.args[1]):
            divisor = e.args[1].args[0] if e.args[1].op == "splat" else e.args[1]
            if divisor.op != "const" or divisor.attr in (0, -1):
                b = self._as_variable(e.args[1], b)
        if e.lanes == 4 and e.op in _MIXES_SCALAR:
            (a2, a_vector), (b2, b_vector) = self._unsplat(e.args[0], a), self._unsplat(e.args[1], b)
            if b_vector is None and a_vector is not None:
                b = b2
            elif a_vector is None and b_vector is not None:
                a = a2
        return f"{self._tight(a, left)} {symbol} {self._tight(b, right)}", own

    def _literal_shift(self, count: ir.Expr, e: ir.Expr) -> str:
        amount = int(count.attr)  # type: ignore[call-overload]
        # i64 computes in 32 bits: a count past them keeps what a 64-bit shift of a small number would leave.
        amount = min(amount, 31) if e.dtype == "i64" else amount % 32
        return f"vec4u({amount}u)" if e.lanes == 4 else f"{amount}u"

    def _nan_test(self, op: str, e: ir.Expr, x: Text) -> Text:
        bits = f"bitcast<{'vec4u' if e.lanes == 4 else 'u32'}>({x[0]})"
        mask, limit = "0x7fffffffu", "0x7f800000u"
        if e.lanes == 4:
            mask, limit = f"vec4u({mask})", f"vec4u({limit})"
        return f"({bits} & {mask}) {'>' if op == 'ne' else '<='} {limit}", _COMPARE

    # Memory

    def _load(self, e: ir.Expr, texts: dict[ir.Expr, Text]) -> Text:
        buffer, at = e.attr  # type: ignore[misc]
        name = self.names[buffer]
        stored = self.storage[buffer]
        stored = "u32" if stored == "bool" else stored
        if e.lanes == 1:
            text = f"{name}[{self._index(at, texts)[0]}]"
        elif buffer in self.vectors:
            text = f"{name}[{self._index(_quarter(at), texts)[0]}]"
        else:
            elements = (f"{name}[{self._index(at + lane, texts)[0]}]" for lane in range(4))
            text = f"{self._type(stored, 4)}({', '.join(elements)})"
        if e.dtype == "bool":
            return f"{text} != {'vec4u()' if e.lanes == 4 else '0u'}", _COMPARE
        if self._type(stored, 1) != self._type(e.dtype, 1):
            text = f"{self._type(e.dtype, e.lanes)}({text})"
        return text, _PRIMARY

    def _to_storage(self, buffer: str, value: ir.Expr, text: Text) -> Text:
        """`text` as the buffer's element: converted, and wrapped where the tensor's own integers are narrower."""
        stored = self._type(self.storage[buffer], value.lanes, storage=True)
        if stored != self._type(value.dtype, value.lanes):
            text = f"{stored}({text[0]})", _PRIMARY
        element = self.element.get(buffer, "")
        if element in ("u8", "u16") and value.dtype != "bool":
            mask = self._wrap_literal("0xff" if element == "u8" else "0xffff", value)
            text = f"{self._tight(text, _UNARY)} & {mask}", _BITS
        elif element in ("i8", "i16") and value.dtype != "bool":
            count = self._wrap_shift("24u" if element == "i8" else "16u", value)
            text = f"({self._tight(text, _UNARY)} << {count}) >> {count}", _SHIFT
        return text

    def _wrap_literal(self, text: str, value: ir.Expr) -> str:
        return f"vec4i({text})" if value.lanes == 4 else text

    def _wrap_shift(self, text: str, value: ir.Expr) -> str:
        return f"vec4u({text})" if value.lanes == 4 else text

    # Indices: i32 arithmetic; what does not change in a loop is bound by a `let` before it

    def _index(self, e: int | IntExpr, texts: dict[ir.Expr, Text]) -> Text:
        if isinstance(e, int):
            return str(e), _PRIMARY if e >= 0 else _UNARY
        here = len(self.scopes)
        levels: dict[int, dict[tuple, int]] = {}
        constant = 0
        for mono, coef in e.terms.items():
            if mono:
                levels.setdefault(max(self._level(a) for a in mono), {})[mono] = coef
            else:
                constant = coef
        base: Text | None = None
        known: dict[tuple, int] = {}
        for level in sorted(levels):
            terms = levels[level]
            known = {**known, **terms}
            if level == here:
                base = self._sum(base, terms, texts)
                continue
            scope = self.scopes[level]
            key = frozenset(known.items())
            name = scope.indices.get(key)
            if name is None:
                total = self._sum(base, terms, texts)
                if total[0].isidentifier():
                    name = total[0]
                else:
                    self.counter += 1
                    name = self._fresh(f"i{self.counter}")
                    self._line(f"let {name} = {total[0]};", level)
                scope.indices[key] = name
            base = name, _PRIMARY
        assert base is not None
        if not constant:
            return base
        sign = "+" if constant > 0 else "-"
        return f"{self._tight(base, _ADD)} {sign} {abs(constant)}", _ADD

    def _level(self, atom: str | Opaque) -> int:
        """Index of the innermost scope that the atom depends on; the number of scopes for a run-time value."""
        if isinstance(atom, str):
            level = self.var_scope.get(atom)
            if level is None:
                raise VerificationError(f"kernel {self.kernel.name} uses the index {atom} outside of its loop")
            return level
        if atom.op == "value":
            return len(self.scopes)
        return max((self._level(a) for arg in atom.args for mono in terms_of(arg) for a in mono), default=0)

    def _sum(self, base: Text | None, terms: dict[tuple, int], texts: dict[ir.Expr, Text]) -> Text:
        text = "" if base is None else self._tight(base, _ADD)
        single: Text = base or ("", _PRIMARY)
        # Positive terms first: a leading minus is harder to read.
        for mono, coef in sorted(terms.items(), key=lambda term: term[1] < 0):
            factors = [self._tight(self._atom(a, texts), _UNARY) for a in mono]
            if abs(coef) != 1:
                factors.append(str(abs(coef)))
            product = " * ".join(factors)
            single = product, _PRIMARY if len(factors) == 1 else _MULTIPLY
            if not text:
                text = product if coef > 0 else f"-{product}" if len(factors) == 1 else f"-({product})"
                single = single if coef > 0 else (text, _UNARY)
            else:
                text = f"{text} {'+' if coef > 0 else '-'} {product}"
        return single if text == single[0] else (text, _ADD)

    def _atom(self, atom: str | Opaque, texts: dict[ir.Expr, Text]) -> Text:
        if isinstance(atom, str):
            return self.names.get(atom, atom), _PRIMARY
        if atom.op == "value":
            e = atom.args[0]
            text = texts[e]
            return text if e.dtype in ("i32", "i64") else (f"i32({text[0]})", _PRIMARY)
        level = self._level(atom)
        inline = level == len(self.scopes)
        scope = self.scopes[-1 if inline else level]
        found = None if inline else scope.indices.get(atom)
        if found is None:
            text = self._opaque(atom, texts)
            if inline:
                return text
            self.counter += 1
            found = scope.indices[atom] = self._fresh(f"i{self.counter}")
            self._line(f"let {found} = {text[0]};", level)
        return found, _PRIMARY

    def _opaque(self, atom: Opaque, texts: dict[ir.Expr, Text]) -> Text:
        a, b = (self._index(arg, texts) for arg in atom.args)
        if atom.op in ("min", "max"):
            return f"{atom.op}({a[0]}, {b[0]})", _PRIMARY
        divisor = atom.args[1]
        remainder = atom.op == "mod"
        if isinstance(divisor, int) and divisor > 0 and divisor & (divisor - 1) == 0:
            # Arithmetic shift and mask round down for negative numbers too.
            if remainder:
                return f"{self._tight(a, _UNARY)} & {divisor - 1}", _BITS
            return f"{self._tight(a, _UNARY)} >> {divisor.bit_length() - 1}u", _SHIFT
        low = bounds_of(atom.args[0], self.bounds)[0]
        if low is not None and low >= 0:
            return f"{self._tight(a, _MULTIPLY)} {'%' if remainder else '/'} {self._tight(b, _UNARY)}", _MULTIPLY
        self.uses_floordiv = True
        quotient = f"floordiv({a[0]}, {b[0]})"
        if not remainder:
            return quotient, _PRIMARY
        return f"{self._tight(a, _ADD)} - {quotient} * {self._tight(b, _UNARY)}", _ADD


def _quarter(at: int | IntExpr) -> int | IntExpr:
    return at // 4 if isinstance(at, int) else IntExpr({m: c // 4 for m, c in at.terms.items()})


def _is_constant(e: ir.Expr) -> bool:
    return e.op == "const" or (e.op in ("splat", "pack") and all(map(_is_constant, e.args)))


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
