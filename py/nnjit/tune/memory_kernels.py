"""Kernels that do nothing but move memory: what the bandwidths of `target.Hardware` are measured with, in the page and in the bench.

Reading and copying are compared at the size of what is touched, which decides the cache that it comes from.
"""

from __future__ import annotations

from .. import ir
from ..symbolic import floordiv, mod, var

CHUNK = 1024
"""Elements of each buffer that a task on the CPU touches."""
GPU_LOADS = 16
"""Vectors that an invocation on the GPU reads."""
SIGNAL = 0x2545F491
"""A sum that no memory has by chance."""
_UNROLL = 8
_GROUP = 64


def copy_kernel() -> ir.Kernel:
    """Task t copies the t-th chunk of CHUNK elements."""
    at = ir.TASK * CHUNK + var("i") * (4 * _UNROLL)
    step: list[ir.Stmt] = [
        ir.Store("out", at + 4 * j, ir.load("in", at + 4 * j, "f32", 4)) for j in range(_UNROLL)
    ]
    body: list[ir.Stmt] = [ir.For("i", CHUNK // (4 * _UNROLL), step)]
    return ir.Kernel("copy", _buffers("f32", "w"), [], 1, body)


def read_kernel() -> ir.Kernel:
    """Task t reads the t-th chunk of CHUNK elements of both buffers, and writes a single vector: its sum.

    Integers are summed, whose additions never take longer for what the memory happens to hold.
    """
    at = ir.TASK * CHUNK + var("i") * (4 * _UNROLL)
    sums = [ir.local(f"sum{j}", "i32", 4) for j in range(_UNROLL)]
    body: list[ir.Stmt] = [ir.Declare(f"sum{j}", ir.splat(ir.const(0, "i32"))) for j in range(_UNROLL)]
    step: list[ir.Stmt] = [
        ir.Assign(f"sum{j}", ir.add(total, ir.load(buffer, at + 4 * j, "i32", 4)))
        for buffer in ("in", "out")
        for j, total in enumerate(sums)
    ]
    body += [ir.For("i", CHUNK // (4 * _UNROLL), step), ir.Store("out", ir.TASK * CHUNK, _total(sums))]
    return ir.Kernel("read", _buffers("i32", "rw"), [], 1, body)


def gpu_copy_kernel() -> ir.Kernel:
    """Task t copies its 4 elements."""
    body: list[ir.Stmt] = [ir.Store("out", ir.TASK * 4, ir.load("in", ir.TASK * 4, "f32", 4))]
    return ir.Kernel("copy", _buffers("f32", "w"), [], 1, body)


def gpu_read_kernel() -> ir.Kernel:
    """Task t reads GPU_LOADS vectors of "in", and writes only where their elements sum up to SIGNAL.

    Neighbouring tasks read neighbouring vectors, and all that _GROUP of them read lies together.
    """
    first = floordiv(ir.TASK, _GROUP) * (4 * _GROUP * GPU_LOADS) + 4 * mod(ir.TASK, _GROUP)
    loads = [ir.load("in", first + 4 * _GROUP * j, "i32", 4) for j in range(GPU_LOADS)]
    total = _total([ir.extract(ir.local("sum", "i32", 4), lane) for lane in range(4)])
    found = ir.binary("eq", total, ir.const(SIGNAL, "i32"))
    body: list[ir.Stmt] = [
        ir.Declare("sum", _total(loads)),
        ir.If(found, [ir.Store("out", ir.TASK, total)], []),
    ]
    return ir.Kernel("read", _buffers("i32", "w"), [], 1, body)


def _total(values: list[ir.Expr]) -> ir.Expr:
    total = values[0]
    for value in values[1:]:
        total = ir.add(total, value)
    return total


def _buffers(storage: str, out: str) -> list[ir.Buffer]:
    return [ir.Buffer("in", storage, "r"), ir.Buffer("out", storage, out)]


__all__ = ["CHUNK", "GPU_LOADS", "SIGNAL", "copy_kernel", "gpu_copy_kernel", "gpu_read_kernel", "read_kernel"]
