"""Kernels and values as text, for people, bug reports and keys."""

from __future__ import annotations

from .ir import Assign, Declare, Expr, For, If, Kernel, Stmt, Store


class SharedText:
    """Prints values; one that is used several times gets a line and a name of its own, or texts would grow without end.

    The lines go to `lines` before the text that needs them is complete.
    """

    def __init__(self, roots: list[Expr], lines: list[str], indent: str = "  ") -> None:
        self.lines = lines
        self.indent = indent
        self.uses: dict[Expr, int] = {}
        self.names: dict[Expr, str] = {}
        stack = list(roots)
        while stack:
            e = stack.pop()
            self.uses[e] = self.uses.get(e, 0) + 1
            if self.uses[e] == 1:
                stack.extend(e.args)

    def of(self, e: Expr) -> str:
        """The text of one of the roots, or of a part of one."""
        if not e.args:
            return str(e)
        name = self.names.get(e)
        if name is None:
            args = ", ".join([self.of(a) for a in e.args])
            op = e.op if e.op not in ("cast", "bitcast") else f"{e.op}_{e.dtype}"
            text = f"{op}({args})" if e.attr is None else f"{op}@{e.attr}({args})"
            if self.uses[e] == 1:
                return text
            name = self.names[e] = f"%{len(self.names)}"
            self.lines.append(f"{self.indent}{name} = {text}")
        return name


def kernel_text(kernel: Kernel) -> str:
    """What `str(kernel)` gives: a line for each statement, those of a block indented."""
    params = ", ".join(f"{b.name}: {b.storage}[{b.access}]" for b in kernel.buffers)
    lines = [f"kernel {kernel.name}({params}; {', '.join(kernel.symbols)}) tasks {kernel.tasks}"]
    lines += [f"  shared {name}: {dtype}[{elements}]" for name, dtype, elements in kernel.shared]
    _print(kernel.body, "  ", lines)
    return "\n".join(lines)


def headline(s: Stmt, indent: str = "") -> list[str]:
    """The lines of a statement without those of its blocks; values that it uses several times come first."""
    if isinstance(s, For):
        return [f"{indent}for {s.var} < {s.extent}"]
    if isinstance(s, (Declare, Assign, Store, If)):
        lines: list[str] = []
        value = s.init if isinstance(s, Declare) else s.condition if isinstance(s, If) else s.value
        text = SharedText([value], lines, indent).of(value)
        if isinstance(s, Declare):
            text = f"let {s.name}: {value.dtype}x{value.lanes} = {text}"
        elif isinstance(s, Assign):
            text = f"{s.name} = {text}"
        elif isinstance(s, Store):
            text = f"{s.buffer}[{s.index}{':4' if value.lanes == 4 else ''}] = {text}"
        else:
            text = f"if {text}"
        return [*lines, indent + text]
    return [f"{indent}{type(s).__name__.lower()}"]


def _print(body: list[Stmt], indent: str, lines: list[str]) -> None:
    for s in body:
        lines += headline(s, indent)
        if isinstance(s, For):
            _print(s.body, indent + "  ", lines)
        elif isinstance(s, If):
            _print(s.then, indent + "  ", lines)
            if s.orelse:
                lines.append(f"{indent}else")
                _print(s.orelse, indent + "  ", lines)
