"""What the compiler needs to know of the device that it generates code for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .codegen_passes import ALL_PASSES, Passes


@dataclass(frozen=True)
class Hardware:
    """What microbenchmarks found out about the device; see tune/microbench.py."""

    gflops: float
    """10⁹ floating-point operations a second that multiply-adds reach, on all threads together."""
    bandwidth: tuple[tuple[int, float, float], ...]
    """(bytes that a kernel touches, 10⁹ bytes a second when it reads them all, when it copies one half of them to the other),
    by size, on all threads together. Copying counts bytes read and written."""
    vector_registers: int | None = None
    """Wasm: 128-bit values that the engine keeps in registers, by the cliff."""
    splat_loads: bool = True
    """Wasm: `v128.load32_splat` is not slower than a load followed by a splat."""
    cache_bytes: tuple[int, ...] = ()
    """Wasm: sizes after which a dependent load takes distinctly longer, smallest first: the caches of a core."""
    cores: int = 1
    """Wasm: threads of the pool that really run at the same time."""
    barrier_us: float = 0.0
    """Microseconds of one barrier: of the thread pool, or of a workgroup of 64 invocations."""
    shared_bandwidth: float | None = None
    """WebGPU: 10⁹ bytes a second of workgroup memory."""
    dispatch_us: float | None = None
    """WebGPU: microseconds that a dispatch takes which does nothing."""
    subgroup: int | None = None
    """WebGPU: invocations of a subgroup, where the adapter tells."""

    def bandwidth_of(self, touched: float) -> tuple[float, float]:
        """(reading, copying), 10⁹ bytes a second, for a kernel that touches so many bytes, between the sizes that were measured."""
        (size, *rates), *rest = self.bandwidth
        for larger, *slower in rest:
            if touched <= size:
                break
            part = min(1.0, math.log(touched / size) / math.log(larger / size))
            rates = [rate * (other / rate) ** part for rate, other in zip(rates, slower, strict=True)]
            size = larger
        reading, copying = rates
        return reading, copying

    def least_ms(self, flops: float, read: float, written: float) -> float:
        """The roofline: milliseconds that so much arithmetic, or so much traffic (bytes), takes at least.

        The traffic's time is linear in the bytes of both kinds, and right for the two mixtures that were measured at its
        size, all read and half of it written: a byte written costs what copying takes beyond reading. No mixture is taken
        to be quicker than both.
        """
        reading, copying = (1 / rate for rate in self.bandwidth_of(read + written))
        traffic = max(
            read * reading + written * (2 * copying - reading), (read + written) * min(reading, copying)
        )
        return max(flops / self.gflops, traffic) / 1e6

    @staticmethod
    def of(data: Mapping[str, Any]) -> Hardware | None:
        """The inverse of `dataclasses.asdict`, from JSON. None where another version wrote it, with other fields or other rates."""
        known = {f.name for f in fields(Hardware)}
        if data.keys() != known or any(len(entry) != 3 for entry in data["bandwidth"]):
            return None
        lists = {
            "bandwidth": tuple(
                (int(size), float(read), float(copy)) for size, read, copy in data["bandwidth"]
            ),
            "cache_bytes": tuple(data["cache_bytes"]),
        }
        return Hardware(**{**data, **lists})


@dataclass(frozen=True)
class Target:
    """Facts found on the client; the defaults are the least that any supported browser offers."""

    device: str = "wasm"
    """"wasm" or "webgpu"."""
    relaxed_simd: bool = False
    """Wasm: relaxed SIMD instructions validate in this engine (found by a probe)."""
    shared_memory: bool = False
    """Wasm: the module imports a shared memory, as threads need."""
    threads: int = 1
    max_pages: int = 65536
    """Wasm: maximum of the imported memory, in pages of 64 KiB; a shared memory's import must state it."""
    scratch_bytes: int = 1 << 18
    """Wasm: memory that each thread has for itself."""
    vector_registers: int = 15
    """Wasm: v128 values that the engine keeps in registers."""
    splat_loads: bool = True
    """Wasm: a float is loaded into all lanes by one instruction; False where two are faster."""
    max_workgroup: int = 256
    """WebGPU: maxComputeInvocationsPerWorkgroup."""
    shared_bytes: int = 16384
    """WebGPU: maxComputeWorkgroupStorageSize."""
    max_storage_buffers: int = 8
    """WebGPU: maxStorageBuffersPerShaderStage."""
    software: bool = False
    """WebGPU: the adapter computes on the CPU, where a barrier costs more than the parallel work that it allows."""
    passes: Passes = ALL_PASSES
    """What the code generator does; less only to find out what it is worth."""
    features: frozenset[str] = field(default_factory=frozenset)
    """WebGPU features that are on: "shader-f16", "subgroups", "timestamp-query"."""
    hardware: Hardware | None = None
    """What was measured on the device; None before that."""

    def measured(self, hardware: Hardware) -> Target:
        """This target with what microbenchmarks found out."""
        registers = hardware.vector_registers or self.vector_registers
        return replace(self, hardware=hardware, vector_registers=registers, splat_loads=hardware.splat_loads)

    @property
    def cache(self) -> tuple[int, int]:
        """Bytes of the nearest and of the second cache of a core; common ones where nothing was measured."""
        found = self.hardware.cache_bytes if self.hardware else ()
        nearest = found[0] if found else 32 << 10
        return nearest, found[1] if len(found) > 1 else max(16 * nearest, 512 << 10)

    def storage(self, dtype: str) -> str:
        """The dtype that a tensor of ONNX dtype `dtype` is stored as on this device.

        A GPU has no 8-, 16- or 64-bit storage: integers widen (or narrow, checked at the border) to i32, bool to u32.
        """
        if self.device == "wasm":
            return dtype
        return _GPU_STORAGE.get(dtype, dtype)


_GPU_STORAGE = {
    "bool": "u32", "u8": "i32", "i8": "i32", "u16": "i32", "i16": "i32",
    "i64": "i32", "u64": "i32", "f16": "f32", "f64": "f32",
}  # fmt: skip
