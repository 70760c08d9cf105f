"""Verifier of kernels: refuses what no emitter may be given.

Every stage that makes or rewrites kernels is followed by it in tests, so that a bad rewrite fails where it was made.
"""

from __future__ import annotations

from typing import Any

from .errors import VerificationError
from .ir import (
    BINARY,
    COMPARISONS,
    COMPUTE_DTYPES,
    COMPUTE_OF,
    INTRINSICS,
    STORAGE_BYTES,
    UNARY,
    Assign,
    Barrier,
    Declare,
    Expr,
    For,
    If,
    Index,
    Kernel,
    Stmt,
    Store,
    assigned,
)
from .ir_text import headline
from .symbolic import IntExpr, Opaque

_FLOAT = frozenset(("f32", "f64"))
_INTEGER = frozenset(("i32", "u32", "i64"))
_FLOAT_ONLY = frozenset(("sqrt", "floor", "ceil", "round", "trunc", "pmin", "pmax")) | INTRINSICS
_BITWISE = frozenset(("and", "or", "xor", "not"))
_INTEGER_ONLY = frozenset(("rem", "shl", "shr"))
_OPERANDS = {
    "fma": 3, "dot": 2, "byte_dot": 2, "add_pairs": 2, "select": 3, "pow": 2, "pack": 4, "splat": 1, "extract": 1, "shuffle": 2,
    "cast": 1, "bitcast": 1,
}  # fmt: skip
_WIDTH = {"f32": 4, "i32": 4, "u32": 4, "f64": 8, "i64": 8}


def verify(kernel: Kernel) -> None:
    """Raise VerificationError, with the statement, where `kernel` breaks a rule of the IR (see `ir`)."""
    _Verifier(kernel).run()


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.storage = {b.name: (b.storage, b.access) for b in kernel.buffers}
        self.indices = set(kernel.symbols)
        self.locals: dict[str, tuple[str, int]] = {}
        self.assigned = assigned(kernel.body)
        self.where: Stmt | None = None
        self.checked: set[Expr] = set()

    def fail(self, message: str) -> VerificationError:
        place = f" in `{_brief(self.where)}`" if self.where else ""
        return VerificationError(f"kernel {self.kernel.name}: {message}{place}")

    def run(self) -> None:
        kernel = self.kernel
        names = [b.name for b in kernel.buffers] + [name for name, _, _ in kernel.shared]
        if len(set(names)) != len(names):
            raise self.fail("two buffers have one name")
        for b in kernel.buffers:
            if b.storage not in STORAGE_BYTES or b.access not in ("r", "w", "rw"):
                raise self.fail(f"buffer {b.name} has storage {b.storage} and access {b.access}")
        for name, dtype, elements in kernel.shared:
            counted = elements >= 1 if isinstance(elements, int) else kernel.workgroup == 1
            if dtype not in COMPUTE_DTYPES or not counted:
                raise self.fail(f"shared {name} is {elements} × {dtype}")
            self.index(elements)
            self.storage[name] = dtype, "rw"
        self.index(kernel.tasks)
        self.indices.add("task")
        if kernel.workgroup > 1:
            self.indices.add("lane")
        self.block(kernel.body)

    # Statements

    def block(self, body: list[Stmt]) -> None:
        scope = dict(self.locals)
        for s in body:
            self.where = s
            self.checked.clear()
            if isinstance(s, Declare):
                self.value(s.init)
                if s.name in self.locals or s.name in self.indices:
                    raise self.fail(f"{s.name} is declared twice")
                self.locals[s.name] = s.init.dtype, s.init.lanes
            elif isinstance(s, Assign):
                self.value(s.value)
                declared = self.locals.get(s.name)
                if declared is None:
                    raise self.fail(f"{s.name} is assigned before it is declared")
                if declared != (s.value.dtype, s.value.lanes):
                    raise self.fail(
                        f"{s.name} is {_kind(declared)}, not {_kind((s.value.dtype, s.value.lanes))}"
                    )
            elif isinstance(s, Store):
                self.value(s.value)
                self.index(s.index)
                self.access(s.buffer, "w", s.value.dtype)
            elif isinstance(s, For):
                self.index(s.extent)
                if s.var in self.indices or s.var in self.locals:
                    raise self.fail(f"the variable {s.var} is taken")
                self.indices.add(s.var)
                self.block(s.body)
                self.indices.remove(s.var)
            elif isinstance(s, If):
                self.value(s.condition)
                if (s.condition.dtype, s.condition.lanes) != ("bool", 1):
                    raise self.fail("the condition is not a scalar bool")
                self.block(s.then)
                self.block(s.orelse)
            elif not isinstance(s, Barrier):
                raise self.fail(f"{type(s).__name__} is no statement")
            elif self.kernel.workgroup == 1:
                raise self.fail("a barrier without a workgroup")
        self.locals = scope

    def access(self, buffer: str, mode: str, dtype: str) -> None:
        if buffer not in self.storage:
            raise self.fail(f"there is no buffer {buffer}")
        storage, allowed = self.storage[buffer]
        if mode not in allowed:
            raise self.fail(f"{buffer} has access {allowed} and is {'read' if mode == 'r' else 'written'}")
        if COMPUTE_OF[storage] != dtype:
            raise self.fail(f"{buffer} holds {storage}, computed with as {COMPUTE_OF[storage]}, not {dtype}")

    # Indices

    def index(self, e: Index) -> None:
        if isinstance(e, int):
            return
        for mono in e.terms:
            for atom in mono:
                if isinstance(atom, str):
                    if atom not in self.indices and not self.constant_integer(atom):
                        raise self.fail(f"the index {e} uses {atom}, which is not known here")
                else:
                    self.opaque(atom)

    def constant_integer(self, name: str) -> bool:
        """Whether `name` is a local that an index may use: a scalar i32 that keeps its first value."""
        return self.locals.get(name) == ("i32", 1) and name not in self.assigned

    def opaque(self, atom: Opaque) -> None:
        if atom.op == "value":
            (e,) = atom.args
            self.value(e)
            if e.dtype not in _INTEGER or e.lanes != 1:
                raise self.fail(f"the index {atom} is {_kind((e.dtype, e.lanes))}")
            return
        if atom.op not in ("floordiv", "mod", "min", "max") or len(atom.args) != 2:
            raise self.fail(f"{atom} is no index operation")
        for arg in atom.args:
            self.index(arg)
        if atom.op in ("floordiv", "mod") and isinstance(atom.args[1], int) and atom.args[1] < 1:
            raise self.fail(f"{atom} divides by {atom.args[1]}")

    # Values

    def value(self, e: Expr) -> None:
        """Check `e` and all below it, each node once a statement."""
        stack = [e]
        while stack:
            node = stack.pop()
            if node not in self.checked:
                self.checked.add(node)
                self.node(node)
                stack.extend(node.args)

    def node(self, e: Expr) -> None:
        op, dtype, lanes = e.op, e.dtype, e.lanes
        if dtype not in COMPUTE_DTYPES or lanes not in (1, 4):
            raise self.fail(f"{e} is {_kind((dtype, lanes))}")
        if op == "const":
            if lanes != 1 or isinstance(e.attr, float) is not (dtype in _FLOAT):
                raise self.fail(f"{e} is no constant of {_kind((dtype, lanes))}")
        elif op == "local":
            if self.locals.get(str(e.attr)) != (dtype, lanes):
                raise self.fail(f"{e} is not declared here as {_kind((dtype, lanes))}")
        elif op == "index":
            if (dtype, lanes) != ("i32", 1) or not isinstance(e.attr, IntExpr):
                raise self.fail(f"{e} is no index")
            self.index(e.attr)
        elif op == "load":
            attr: Any = e.attr
            buffer, index = attr
            self.access(buffer, "r", dtype)
            self.index(index)
        else:
            self.operation(e)

    def operation(self, e: Expr) -> None:
        op, dtype, lanes = e.op, e.dtype, e.lanes
        wanted = _OPERANDS.get(op, 2 if op in BINARY or op in COMPARISONS else 1)
        known = op in _OPERANDS or op in BINARY or op in COMPARISONS or op in UNARY or op in INTRINSICS
        if not known or len(e.args) != wanted:
            raise self.fail(f"{e} is no operation of the IR")
        kinds = [(x.dtype, x.lanes) for x in e.args]
        first = kinds[0][0]
        if op in ("splat", "pack"):
            right = lanes == 4 and all(k == (dtype, 1) for k in kinds)
        elif op == "extract":
            right = lanes == 1 and kinds == [(dtype, 4)] and e.attr in range(4)
        elif op == "shuffle":
            chosen: Any = e.attr
            right = (
                lanes == 4 and kinds == [(dtype, 4)] * 2 and len(chosen) == 4 and set(chosen) <= set(range(8))
            )
        elif op == "cast":
            right = kinds[0][1] == lanes
        elif op == "bitcast":
            right = kinds[0][1] == lanes and _WIDTH.get(first, 0) == _WIDTH.get(dtype, -1)
        elif op == "select":
            right = kinds == [("bool", lanes), (dtype, lanes), (dtype, lanes)]
        elif op in COMPARISONS:
            right = dtype == "bool" and kinds == [(first, lanes)] * 2
            right = right and (first != "bool" or op in ("eq", "ne"))
        else:
            right = all(k == (dtype, lanes) for k in kinds)
            if op in ("dot", "byte_dot", "add_pairs"):
                right = right and dtype == "i32"
            elif op in _FLOAT_ONLY or op == "fma":
                right = right and dtype in _FLOAT
            elif op in _INTEGER_ONLY:
                right = right and dtype in _INTEGER
            elif op in _BITWISE:
                right = right and dtype not in _FLOAT
            else:
                right = right and dtype != "bool"
        if not right:
            operands = ", ".join(map(_kind, kinds))
            raise self.fail(f"{op} from {operands} to {_kind((dtype, lanes))}")


def _kind(kind: tuple[str, int]) -> str:
    return kind[0] if kind[1] == 1 else f"{kind[0]}x{kind[1]}"


def _brief(s: Stmt | None) -> str:
    """The statement as a kernel prints it, without its blocks."""
    return "" if s is None else "; ".join(headline(s))[:400]
