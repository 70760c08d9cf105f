"""What this machine can do at most, measured in the same run: kernels of our own loop IR that do nothing else.

Arithmetic: independent chains of fused multiply-adds. Memory: reading and copying, at the size that an operator has to
move, so that what fits into a cache is compared with that cache. What they make of an operator is target.Hardware's.
"""

from __future__ import annotations

import math

from nnjit import ir
from nnjit.emit.wasm import emit_module
from nnjit.ir_verify import verify
from nnjit.symbolic import var
from nnjit.target import Hardware, Target
from nnjit.tune.memory_kernels import CHUNK, copy_kernel, read_kernel

from .cases import Case
from .match import Arena

# Pairs of chains: with one operand that they share and two that alternate, so many accumulators fill 15 registers at
# the most (12), or the wider ones of an engine that pairs neighbouring operations (16 and more).
CHAINS = (8, 10, 12, 16, 20, 24)
_UNROLL = 4
_ITERATIONS = 1000
_LARGEST_MB = 256


class Ceilings:
    """Measures when asked, once for each question."""

    def __init__(self, arena: Arena, threads: int) -> None:
        self.arena = arena
        self.threads = threads
        self._arithmetic: float | None = None
        self._memory: dict[tuple[str, int], float] = {}

    def gflops(self) -> float:
        """10⁹ floating-point operations a second, on all threads together."""
        if self._arithmetic is None:
            modules = [
                self._publish(_chains_module(Target(relaxed_simd=relaxed))) for relaxed in (True, False)
            ]
            kernels = {_chains_name(chains): flops(chains) for chains in CHAINS}
            options = {"modules": modules, "kernels": kernels, "threads": self.threads}
            self._arithmetic = self.arena.call("ceiling", "fma", options) / 1e9
        return self._arithmetic

    def gbps(self, how: str, touched: float) -> float:
        """10⁹ bytes a second of `how`, "read" or "copy": of all, or of one half to the other (`touched` to the next power of two)."""
        size = min(max(1 << math.ceil(math.log2(touched)), 1 << 16), _LARGEST_MB << 20)
        if (how, size) not in self._memory:
            module = self._publish(emit_module([read_kernel(), copy_kernel()], Target()))
            options = {
                "modules": [module], "name": how, "bytes": size // 2, "chunk": 4 * CHUNK, "threads": self.threads,
            }  # fmt: skip
            self._memory[how, size] = self.arena.call("ceiling", "memory", options) / 1e9
        return self._memory[how, size]

    def least_ms(self, case: Case) -> float:
        """Milliseconds that the case's arithmetic and traffic take at least."""
        touched = case.read + case.written
        rates = self.gbps("read", touched), self.gbps("copy", touched)
        hardware = Hardware(gflops=self.gflops(), bandwidth=((round(touched), *rates),))
        return hardware.least_ms(case.flops or 0.0, case.read, case.written)

    def _publish(self, module: bytes) -> str:
        return self.arena.server.publish("ceiling.wasm", module)


def _chains_name(chains: int) -> str:
    return f"chains{chains}"


def flops(chains: int) -> int:
    """Operations of one task of `chains_kernel(chains)`: 4 lanes, a multiplication and an addition."""
    return chains * 4 * 2 * _UNROLL * _ITERATIONS


def _chains_module(target: Target) -> bytes:
    kernels = [chains_kernel(chains) for chains in CHAINS]
    for kernel in kernels:
        verify(kernel)
    return emit_module(kernels, target)


def chains_kernel(chains: int) -> ir.Kernel:
    """accumulator[i] += x · y[i mod 2], `chains` accumulators that do not wait for each other."""
    x = ir.splat(ir.local("x", "f32"))
    ys = [ir.local(f"y{i}", "f32", 4) for i in range(2)]
    accumulators = [ir.local(f"acc{i}", "f32", 4) for i in range(chains)]
    body: list[ir.Stmt] = [ir.Declare("x", ir.load("in", 0, "f32"))]
    body += [ir.Declare(f"y{i}", ir.load("in", 4 + 4 * i, "f32", 4)) for i in range(2)]
    body += [ir.Declare(f"acc{i}", ir.splat(ir.const(0.0, "f32"))) for i in range(chains)]
    step = [ir.Assign(f"acc{i}", ir.fma(x, ys[i % 2], acc)) for i, acc in enumerate(accumulators)]
    body.append(ir.For("i", _ITERATIONS, step * _UNROLL))
    body += [ir.Store("out", 4 * i, acc) for i, acc in enumerate(accumulators)]
    buffers = [ir.Buffer("in", "f32", "r"), ir.Buffer("out", "f32", "w")]
    return ir.Kernel(_chains_name(chains), buffers, ["tasks"], var("tasks"), body)
