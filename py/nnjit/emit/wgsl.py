"""WGSL: one `ir.Kernel` becomes one readable shader with the entry point `main`.

Bindings of group 0: the kernel's buffers in order, then `params`, a uniform that holds the symbols in order, the number
of tasks, an infinity and a NaN (the shader declares those two where it needs them). A kernel with `workgroup` == 1 runs
one task in each of the `INVOCATIONS` invocations of a workgroup; any other runs one task in each workgroup. Workgroups
are numbered over x, then y, because one dimension of a dispatch ends at 65535.

What WGSL forces, and what is done about it:

- There is no 64-bit type: i64 computes as i32 (the border checks the range), f64 is refused.
- An infinite or NaN constant expression is an error, and so is any constant expression that overflows. So these
  constants come from the uniform, and an operation on constants alone takes them through a `let`.
- An implementation may assume that there are no NaNs: `x != x` is tested on the bits of x. `min` and `max` may return
  either operand when one is NaN.
- The builtins exp, log, sin, tanh, … may be as inaccurate as their specification allows, and some adapters use it (log
  near 1, sin far from 0, tanh of large numbers): `lower.mathlib` expands them all.
- A storage access is bounds-checked by the browser. A buffer whose every access is of 4 aligned elements is declared as
  an array of vectors, which checks, and loads, once instead of four times.
"""

from __future__ import annotations

from .. import ir
from ..errors import UnsupportedError, VerificationError
from ..symbolic import IntExpr, bounds_of, values_of
from ..target import Target
from .wgsl_index import ADD, tight
from .wgsl_values import ValueWriter, access_of

INVOCATIONS = 64
"""Invocations of a workgroup, each with a task of its own, where the kernel asks for no workgroup."""

_FLOORDIV = """
fn floordiv(a: i32, b: i32) -> i32 {
  let q = a / b;
  return select(q, q - 1, q * b > a);
}"""


def emit_shader(kernel: ir.Kernel, target: Target) -> str:
    """WGSL text of `kernel`. Raises UnsupportedError for what WGSL cannot compute, VerificationError for a bad kernel."""
    return _Shader(kernel, target).text()


class _Shader(ValueWriter):
    def __init__(self, kernel: ir.Kernel, target: Target) -> None:
        super().__init__(kernel)
        self.kernel = kernel
        if len(kernel.buffers) > target.max_storage_buffers:
            raise UnsupportedError(
                f"kernel {kernel.name} reads and writes {len(kernel.buffers)} buffers, and this GPU binds at most "
                f'{target.max_storage_buffers} storage buffers to a shader; use device "wasm"'
            )
        if kernel.shared and kernel.workgroup == 1:
            raise VerificationError(
                f"kernel {kernel.name} wants memory for each task, which WGSL does not have"
            )
        for name, dtype in [(b.name, b.storage) for b in kernel.buffers] + [
            (n, d) for n, d, _ in kernel.shared
        ]:
            self.names[name] = self.fresh(name)
            self.element[name] = dtype
            self.storage[name] = target.storage(dtype)
        for name in kernel.symbols:
            self.names[name] = self.fresh(name)
            self.var_scope[name] = 0
        self.bounds["lane"] = (0, kernel.workgroup - 1)
        self.mutable: set[str] = set()
        self.vectors = self._vector_buffers()

    def text(self) -> str:
        kernel = self.kernel
        for name in kernel.symbols:
            self.line(f"let {self.names[name]} = params.{self.names[name]};")
        for statement in kernel.body:
            self._statement(statement)
        invocations = INVOCATIONS if kernel.workgroup == 1 else kernel.workgroup
        head = [
            *self._declarations(),
            *(_FLOORDIV.splitlines() if self.uses_floordiv else ()),
            "",
            f"@compute @workgroup_size({invocations})",
            "fn main(",
            "  @builtin(workgroup_id) group: vec3u,",
            "  @builtin(num_workgroups) groups: vec3u,",
            "  @builtin(local_invocation_index) invocation: u32,",
            ") {",
        ]
        if kernel.workgroup == 1:
            head.append(f"  let task = i32((group.y * groups.x + group.x) * {invocations}u + invocation);")
        else:
            head.append("  let task = i32(group.y * groups.x + group.x);")
            head.append("  let lane = i32(invocation);")
        head.append("  if (task >= params.tasks) { return; }")
        return "\n".join([*head, *self.close(), "}", ""])

    def _declarations(self) -> list[str]:
        lines = []
        for i, buffer in enumerate(self.kernel.buffers):
            access = "read" if buffer.access == "r" else "read_write"
            dtype = self._element_type(buffer.name)
            lines.append(
                f"@group(0) @binding({i}) var<storage, {access}> {self.names[buffer.name]}: array<{dtype}>;"
            )
        fields = [f"{self.names[name]}: i32" for name in self.kernel.symbols] + ["tasks: i32"]
        if self.uses_infinity or self.uses_nan:
            fields.append("infinity: f32")
        if self.uses_nan:
            fields.append("nan: f32")
        lines.append(f"struct Params {{ {', '.join(fields)} }}")
        lines.append(f"@group(0) @binding({len(self.kernel.buffers)}) var<uniform> params: Params;")
        for name, _, elements in self.kernel.shared:
            count = -(-elements // 4) if name in self.vectors else elements
            lines.append(f"var<workgroup> {self.names[name]}: array<{self._element_type(name)}, {count}>;")
        return lines

    def _element_type(self, buffer: str) -> str:
        return self.type_of(self.storage[buffer], 4 if buffer in self.vectors else 1)

    def _vector_buffers(self) -> set[str]:
        """Buffers that every access takes 4 aligned elements of. Fills `mutable` on the way."""
        vector: dict[str, bool] = {}
        seen: set[ir.Expr] = set()

        def access(buffer: str, at: int | IntExpr, lanes: int) -> None:
            aligned = lanes == 4 and self.is_fourfold(at)
            vector[buffer] = vector.get(buffer, True) and aligned

        def visit(*roots: ir.Expr) -> None:
            todo = list(roots)
            while todo:
                e = todo.pop()
                if e not in seen:
                    seen.add(e)
                    todo += self.children(e)
                    if e.op == "load":
                        access(*access_of(e), e.lanes)

        def walk(body: list[ir.Stmt]) -> None:
            for s in body:
                if isinstance(s, ir.Declare):
                    visit(s.init)
                    self.note_multiple(s)
                elif isinstance(s, ir.Assign):
                    self.mutable.add(s.name)
                    visit(s.value)
                elif isinstance(s, ir.Store):
                    access(s.buffer, s.index, s.value.lanes)
                    visit(s.value, *values_of(s.index))
                elif isinstance(s, ir.For):
                    visit(*values_of(s.extent))
                    walk(s.body)
                elif isinstance(s, ir.If):
                    visit(s.condition)
                    walk(s.then)
                    walk(s.orelse)

        walk(self.kernel.body)
        self.fourfold.clear()
        return {name for name, only in vector.items() if only}

    # Statements

    def _statement(self, s: ir.Stmt) -> None:
        if isinstance(s, ir.Declare):
            value = self.texts(s.init)[s.init][0]
            name = self.fresh(s.name)
            kind = "var" if s.name in self.mutable else "let"
            # A constant alone has no concrete type of its own.
            typed = f"{name}: {self.type_of(s.init.dtype, s.init.lanes)}" if s.init.op == "const" else name
            if s.init.op != "index" or kind == "var" or not self.rename(value, name):
                self.line(f"{kind} {typed} = {value};")
            self.scopes[-1].locals[s.name] = name
            self.note_multiple(s)
            if kind == "let" and s.init.dtype == "i32" and s.init.lanes == 1:
                known = bounds_of(s.init.attr, self.bounds) if s.init.op == "index" else (None, None)
                self.variable(s.name, name, known)
        elif isinstance(s, ir.Assign):
            value = self.texts(s.value)[s.value][0]
            self.line(f"{self.local(s.name)} = {value};")
        elif isinstance(s, ir.Store):
            self._store(s)
        elif isinstance(s, ir.For):
            self._for(s)
        elif isinstance(s, ir.If):
            self._if(s)
        elif self.kernel.workgroup == 1:
            raise VerificationError(f"kernel {self.kernel.name} has a barrier but no workgroup")
        else:
            self.line("workgroupBarrier();")

    def _block(self, body: list[ir.Stmt]) -> list[str]:
        self.open()
        for statement in body:
            self._statement(statement)
        return self.close()

    def _if(self, s: ir.If) -> None:
        condition = self.texts(s.condition)[s.condition][0]
        then = self._block(s.then)
        orelse = self._block(s.orelse)
        self.line(f"if ({condition}) {{")
        self.scopes[-1].lines += then
        if orelse:
            self.line("} else {")
            self.scopes[-1].lines += orelse
        self.line("}")

    def _for(self, s: ir.For) -> None:
        extent = tight(self.index(s.extent, self.texts(*values_of(s.extent))), ADD)
        high = bounds_of(s.extent, self.bounds)[1]
        self.open()
        name = self.fresh(s.var)
        self.variable(s.var, name, (0, None if high is None else max(high - 1, 0)))
        for statement in s.body:
            self._statement(statement)
        body = self.close()
        self.line(f"for (var {name} = 0; {name} < {extent}; {name}++) {{")
        self.scopes[-1].lines += body
        self.line("}")

    def _store(self, s: ir.Store) -> None:
        texts = self.texts(s.value, *values_of(s.index))
        value = self.to_storage(s.buffer, s.value, texts[s.value])[0]
        buffer = self.names[s.buffer]
        if s.value.lanes == 1:
            self.line(f"{buffer}[{self.index(s.index, texts)[0]}] = {value};")
        elif s.buffer in self.vectors:
            self.line(f"{buffer}[{self.index(self.quarter(s.index), texts)[0]}] = {value};")
        else:
            whole = value if value.isidentifier() else self.bind(value, "t")
            for lane in range(4):
                self.line(f"{buffer}[{self.index(s.index + lane, texts)[0]}] = {whole}.{'xyzw'[lane]};")
