"""Executes kernels of the loop IR with numpy, apart from both emitters: the judge of what lowering makes.

All tasks of a slice advance together, one array element for each, so a race between tasks shows as well: two tasks may
write one element only with equal values, and a task may read from a buffer that the kernel writes only what it wrote
itself. In a workgroup each invocation counts as a task of its own; what it writes to shared memory the others may read
after a barrier. Buffers are poisoned before they are written, and no address may leave them, except that a vector load may read
up to three elements past the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnjit import ir
from nnjit.ir_verify import verify
from nnjit.symbolic import IntExpr, Opaque
from nnjit.target import Target

STORAGE: dict[str, Any] = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "i32": np.int32, "u32": np.uint32, "i64": np.int64,
    "u64": np.uint64, "i16": np.int16, "u16": np.uint16, "i8": np.int8, "u8": np.uint8, "bool": np.uint8,
}  # fmt: skip
COMPUTE: dict[str, Any] = {
    "f32": np.float32, "f64": np.float64, "i32": np.int32, "u32": np.uint32, "i64": np.int64, "bool": np.bool_,
}  # fmt: skip
WASM = Target()


class KernelFault(AssertionError):
    """What a kernel did that no kernel may."""


def poison(storage: str, elements: int) -> np.ndarray:
    """Memory that nothing has written yet: NaN, or the byte 0xFF for integers."""
    dtype = np.dtype(STORAGE[storage])
    if dtype.kind == "f":
        return np.full(elements, math.nan, dtype)
    return np.frombuffer(b"\xff" * (elements * dtype.itemsize), dtype).copy()


def task_slices(tasks: int, seed: int) -> list[np.ndarray]:
    """All tasks in a shuffled order, cut in two at random."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(tasks)
    cuts = rng.integers(0, tasks + 1, 1) if tasks > 1 else []
    return [part for part in np.split(order, cuts) if part.size]


def run(
    kernel: ir.Kernel,
    buffers: Mapping[str, np.ndarray],
    symbols: Mapping[str, int] | None = None,
    seed: int = 0,
    target: Target = WASM,
) -> None:
    """Run every task of `kernel` on `buffers` (name → flat array of the dtype that `target` stores; outputs are written
    in place).

    Raises KernelFault for anything outside of the rules (see the module's docstring), VerificationError for a kernel
    that is malformed.
    """
    verify(kernel)
    symbols = dict(symbols or {})
    for s in kernel.symbols:
        if s not in symbols:
            raise KernelFault(f"{kernel.name} wants the symbol {s}, which is not bound")
    memory = {}
    for b in kernel.buffers:
        array = buffers[b.name]
        stored = target.storage(b.storage)
        if array.dtype != STORAGE[stored] or array.ndim != 1:
            raise KernelFault(f"{b.name} is {array.dtype}{array.shape}, not flat {stored}")
        memory[b.name] = _Memory(b, array)
    constants = {s: np.asarray(symbols[s]) for s in kernel.symbols}
    tasks = int(_Run(kernel, memory, constants, np.zeros(1, np.int64)).index(kernel.tasks)[()])
    size = kernel.workgroup
    sizes = _Run(kernel, memory, constants, np.zeros(1, np.int64))
    scratch = [(name, dtype, int(sizes.index(elements)[()])) for name, dtype, elements in kernel.shared]
    for part in task_slices(tasks, seed):
        invocation = np.repeat(part, size) * size + np.tile(np.arange(size), part.size)
        env = {**constants, "task": invocation // size, "lane": invocation % size}
        shared = {name: _Shared(name, dtype, elements, part.size, size) for name, dtype, elements in scratch}
        with np.errstate(all="ignore"):
            _Run(kernel, {**memory, **shared}, env, invocation).block(
                kernel.body, np.ones(invocation.size, bool)
            )


class _Memory:
    """One buffer; `writer[n]` is the task that wrote element n, −1 before."""

    def __init__(self, buffer: ir.Buffer, array: np.ndarray) -> None:
        self.name = buffer.name
        self.element = STORAGE[buffer.storage]
        self.compute = COMPUTE[ir.COMPUTE_OF[buffer.storage]]
        self.readable = "r" in buffer.access
        self.writable = "w" in buffer.access
        self.array = array
        self.writer = np.full(array.size, -1, np.int64) if self.writable else None

    def read(self, at: np.ndarray, lanes: int, tasks: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if not self.readable:
            raise KernelFault(f"{self.name} is only to be written, and is read")
        first = at[mask]
        if first.size and (first.min() < 0 or first.max() >= self.array.size):
            raise KernelFault(f"reads {self.name}[{first.min()} … {first.max()}] of {self.array.size}")
        where = np.where(mask, at, 0)[:, None] + np.arange(lanes)
        past = where >= self.array.size
        where = np.where(past, 0, where)
        if not self.array.size:
            return np.zeros(where.shape, self.compute)
        if self.writer is not None:
            others = mask[:, None] & ~past & (self.writer[where] != tasks[:, None])
            if others.any():
                raise KernelFault(f"reads from {self.name} what another task writes, or nothing has written")
        value = self.array[where]
        value = value.astype(bool) if self.compute is np.bool_ else value.astype(self.compute)
        if past.any():
            value[past] = np.nan if value.dtype.kind == "f" else 77 if value.dtype.kind in "iu" else True
        return value

    def write(self, at: np.ndarray, value: np.ndarray, tasks: np.ndarray, mask: np.ndarray) -> None:
        if self.writer is None:
            raise KernelFault(f"{self.name} is read-only, and is written")
        lanes = value.shape[1]
        where = (at[:, None] + np.arange(lanes))[mask]
        if where.size and (where.min() < 0 or where.max() >= self.array.size):
            raise KernelFault(f"writes {self.name}[{where.min()} … {where.max()}] of {self.array.size}")
        new = np.broadcast_to(value, (mask.size, lanes))[mask].astype(self.element).astype(self.array.dtype)
        owner = np.broadcast_to(tasks[:, None], (mask.size, lanes))[mask]
        before = self.writer[where]
        clash = (before >= 0) & (before != owner)
        if clash.any() and not _same(self.array[where][clash], new[clash]):
            raise KernelFault(f"two tasks write different values to one element of {self.name}")
        self.array[where] = new
        self.writer[where] = owner
        if not _same(self.array[where], new):
            raise KernelFault(f"two tasks write different values to one element of {self.name} at once")


class _Shared(_Memory):
    """Workgroup memory of all tasks of a slice, one after the other; `visible`: written before the latest barrier."""

    def __init__(self, name: str, dtype: str, elements: int, tasks: int, workgroup: int) -> None:
        super().__init__(ir.Buffer(name, dtype, "rw"), poison(dtype, elements * tasks))
        self.elements = elements
        self.starts = np.repeat(np.arange(tasks) * elements, workgroup)
        self.visible = np.zeros(elements * tasks, bool)

    def place(self, at: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Where the elements of each invocation's own workgroup lie."""
        if mask.any() and (at[mask].min() < 0 or at[mask].max() >= self.elements):
            raise KernelFault(f"uses {self.name}[{at[mask].min()} … {at[mask].max()}] of {self.elements}")
        return at + self.starts

    def read(self, at: np.ndarray, lanes: int, tasks: np.ndarray, mask: np.ndarray) -> np.ndarray:
        where = self.place(at, mask)
        writer = self.writer
        # What is visible counts as one's own.
        self.writer = np.where(self.visible, tasks[0], self.writer)
        try:
            own = np.where(self.visible[np.where(mask, where, 0)], tasks[0], tasks)
            return super().read(where, lanes, own, mask)
        finally:
            self.writer = writer

    def write(self, at: np.ndarray, value: np.ndarray, tasks: np.ndarray, mask: np.ndarray) -> None:
        where = self.place(at, mask)
        super().write(where, value, tasks, mask)
        self.visible[where[mask]] = False

    def barrier(self) -> None:
        assert self.writer is not None
        self.visible |= self.writer >= 0
        self.writer[:] = -1


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


class _Run:
    """One slice of tasks. Values are arrays of shape (tasks or 1, lanes), indices of shape (tasks,) or ()."""

    def __init__(
        self, kernel: ir.Kernel, memory: dict[str, _Memory], env: dict[str, np.ndarray], tasks: np.ndarray
    ) -> None:
        self.kernel = kernel
        self.memory = memory
        self.env = dict(env)
        self.tasks = tasks
        self.locals: dict[str, np.ndarray] = {}
        self.done: dict[ir.Expr, np.ndarray] = {}
        self.mask = np.ones(tasks.size, bool)
        self.changes: dict[str, int] = {}
        """Variable → how often it has changed."""
        self.indices: dict[IntExpr | Opaque, tuple[np.ndarray, list[int], np.ndarray]] = {}
        """Index → mask, changes of its variables, value: what it was at last, and as long as these are the same."""

    # -- statements ---------------------------------------------------------------------------------------------

    def block(self, body: Sequence[ir.Stmt], mask: np.ndarray) -> None:
        for s in body:
            self.mask = mask
            self.done = {}
            if isinstance(s, ir.Declare):
                self.assign(s.name, s.init, mask, new=True)
            elif isinstance(s, ir.Assign):
                self.assign(s.name, s.value, mask, new=False)
            elif isinstance(s, ir.Store):
                value = self.value(s.value)
                at = np.broadcast_to(self.index(s.index), mask.shape)
                self.memory[s.buffer].write(at, value, self.tasks, mask)
            elif isinstance(s, ir.For):
                self.loop(s, mask)
            elif isinstance(s, ir.If):
                taken = np.broadcast_to(self.value(s.condition)[:, 0], mask.shape)
                if (mask & taken).any():
                    self.block(s.then, mask & taken)
                if (mask & ~taken).any():
                    self.block(s.orelse, mask & ~taken)
            else:
                self.barrier(mask)

    def barrier(self, mask: np.ndarray) -> None:
        groups = mask.reshape(-1, self.kernel.workgroup)
        if (groups != groups[:, :1]).any():
            raise KernelFault("only some invocations of a workgroup reach a barrier")
        for memory in self.memory.values():
            if isinstance(memory, _Shared):
                memory.barrier()

    def assign(self, name: str, e: ir.Expr, mask: np.ndarray, new: bool) -> None:
        value = self.value(e)
        if value.shape != (mask.size, e.lanes):
            value = np.broadcast_to(value, (mask.size, e.lanes))
        if not new and not mask.all():
            value = np.where(mask[:, None], value, self.locals[name])
        self.locals[name] = value
        if value.dtype == np.int32 and e.lanes == 1:
            self.set(name, value[:, 0].astype(np.int64))

    def set(self, name: str, value: np.ndarray) -> None:
        """Give a variable of indices a value."""
        self.env[name] = value
        self.changes[name] = self.changes.get(name, 0) + 1

    def loop(self, s: ir.For, mask: np.ndarray) -> None:
        extent = np.broadcast_to(self.index(s.extent), mask.shape)
        for n in range(int(extent[mask].max(initial=0))):
            running = mask & (n < extent)
            self.set(s.var, np.asarray(n))
            self.block(s.body, mask if (running == mask).all() else running)
        self.env.pop(s.var, None)

    # -- indices ------------------------------------------------------------------------------------------------

    def index(self, e: ir.Index) -> np.ndarray:
        return np.asarray(e) if isinstance(e, int) else self.unchanged(e, self.polynomial)

    def unchanged(self, e: Any, evaluate: Callable[[Any], np.ndarray]) -> np.ndarray:
        """`evaluate(e)`, or what that was if nothing has changed since; what memory holds may always have."""
        if e.values:
            return evaluate(e)
        changes = [self.changes.get(name, 0) for name in e.names]
        known = self.indices.get(e)
        if known is None or known[0] is not self.mask or known[1] != changes:
            known = self.indices[e] = (self.mask, changes, evaluate(e))
        return known[2]

    def polynomial(self, e: IntExpr) -> np.ndarray:
        total: np.ndarray = np.asarray(0)
        for mono, coef in e.terms.items():
            term: np.ndarray = np.asarray(coef)
            for atom in mono:
                term = term * (self.env[atom] if isinstance(atom, str) else self.unchanged(atom, self.opaque))
            total = total + term
        if total.size and np.abs(total).max() >= 1 << 31:
            raise KernelFault(f"the index {e} leaves 32 bits")
        return total

    def opaque(self, atom: Opaque) -> np.ndarray:
        if atom.op == "value":
            return self.value(atom.args[0])[:, 0].astype(np.int64)
        a, b = (self.index(x) for x in atom.args)
        if atom.op in ("floordiv", "mod"):
            if (np.broadcast_to(b, self.mask.shape)[self.mask] <= 0).any():
                raise KernelFault(f"{atom} divides by {b.min()}")
            return a // np.where(b > 0, b, 1) if atom.op == "floordiv" else a % np.where(b > 0, b, 1)
        return np.minimum(a, b) if atom.op == "min" else np.maximum(a, b)

    # -- values -------------------------------------------------------------------------------------------------

    def value(self, e: ir.Expr) -> np.ndarray:
        known = self.done.get(e)
        if known is None:
            known = self.node(e)
            if known.dtype != COMPUTE[e.dtype] or known.ndim != 2 or known.shape[1] != e.lanes:
                raise TypeError(f"{e.op}: {known.dtype}{known.shape} for {e.dtype} x {e.lanes}")
            self.done[e] = known
        return known

    def node(self, e: ir.Expr) -> np.ndarray:
        dtype = COMPUTE[e.dtype]
        if e.op == "const":
            if e.dtype in ("i32", "u32", "i64"):
                info = np.iinfo(dtype)
                if not info.min <= int(e.attr) <= info.max:  # type: ignore[call-overload]
                    raise KernelFault(f"the constant {e.attr} is no {e.dtype}")
            return np.full((1, 1), e.attr, dtype)
        if e.op == "index":
            return np.atleast_1d(self.index(e.attr)).astype(np.int32)[:, None]  # type: ignore[arg-type]
        if e.op == "local":
            return self.locals[str(e.attr)]
        if e.op == "load":
            buffer, at = e.attr  # type: ignore[misc]
            where = self.index(at)
            if where.shape != self.mask.shape:
                where = np.broadcast_to(where, self.mask.shape)
            return self.memory[buffer].read(where, e.lanes, self.tasks, self.mask)
        args = [self.value(a) for a in e.args]
        if e.op == "splat":
            return np.repeat(args[0], 4, axis=1)
        if e.op == "pack":
            return np.concatenate(np.broadcast_arrays(*args), axis=1)
        if e.op == "extract":
            return args[0][:, e.attr : e.attr + 1]  # type: ignore[operator]
        if e.op == "shuffle":
            return np.concatenate(np.broadcast_arrays(*args), axis=1)[:, list(e.attr)]  # type: ignore[call-overload]
        if e.op == "cast":
            return _cast(args[0], dtype)
        if e.op == "bitcast":
            return np.ascontiguousarray(args[0]).view(dtype)
        if e.op == "dot":
            (a, b), (c, d) = ((x.astype(np.int16).astype(np.int32), x >> 16) for x in args)
            return a * c + b * d
        if e.op == "byte_dot":
            a, b = (np.ascontiguousarray(x).view(np.int8).astype(np.int32) for x in args)
            if (b < 0).any():
                raise KernelFault("byte_dot takes bytes of 0 to 127 on its right")
            products = a * b
            return _pairs(products[:, ::2] + products[:, 1::2])
        if e.op == "add_pairs":
            a, b = (np.ascontiguousarray(x).view(np.int16).astype(np.int32) for x in args)
            return _pairs(a + b)
        if e.op == "select":
            return np.where(*args).astype(dtype)
        if e.op in ("div", "rem") and e.dtype not in ("f32", "f64"):
            return self.divide(e.op, args[0], args[1])
        if e.op in ("shl", "shr"):
            args[1] = args[1] & (63 if e.dtype == "i64" else 31)
        return np.asarray(_OPERATIONS[e.op](*args)).astype(dtype, copy=False)

    def divide(self, op: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Truncating, as ONNX wants it; a zero divisor is a trap that no select may hide."""
        zero = np.broadcast_to(b == 0, np.broadcast_shapes(b.shape, (self.mask.size, b.shape[1])))
        if zero[self.mask].any():
            raise KernelFault("an integer is divided by zero")
        b = np.where(b == 0, 1, b)
        remainder = np.fmod(a, b)
        return (remainder if op == "rem" else (a - remainder) // b).astype(b.dtype)


def _pairs(sums: np.ndarray) -> np.ndarray:
    """Neighbours as the halves of an i32; none may wrap, since not all engines would do that alike."""
    if (abs(sums) > 32767).any():
        raise KernelFault("a sum of bytes does not fit 16 bits")
    return sums.astype(np.int16).view(np.int32)


def _cast(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Floats to integers truncate and saturate, NaN becomes 0; integers wrap."""
    target = np.dtype(dtype)
    if x.dtype.kind == "f" and target.kind in "iu":
        info = np.iinfo(target)
        wide = np.nan_to_num(np.trunc(x.astype(np.longdouble)), nan=0, posinf=np.inf, neginf=-np.inf)
        return np.clip(wide, info.min, info.max).astype(target)
    return x.astype(target)


def _each(f: Any) -> Any:
    return np.vectorize(f, otypes=[np.float64])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


_OPERATIONS: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.minimum, "max": np.maximum,
    "pmin": lambda a, b: np.where(b < a, b, a), "pmax": lambda a, b: np.where(a < b, b, a),
    "rem": np.fmod, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "shl": np.left_shift,
    "shr": np.right_shift, "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "trunc": np.trunc, "not": np.invert, "fma": lambda a, b, c: a * b + c,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "exp": np.exp, "exp_nonpositive": np.exp, "log": np.log, "tanh": np.tanh, "erf": _each(math.erf), "sigmoid": _sigmoid, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh,
    "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "pow": np.power,
}  # fmt: skip


__all__ = ["STORAGE", "KernelFault", "poison", "run", "task_slices"]
