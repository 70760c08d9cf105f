"""What the compiler needs to know of the device that it generates code for."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    vector_registers: int = 15
    """Wasm: v128 values that the engine keeps in registers."""
    max_workgroup: int = 256
    """WebGPU: maxComputeInvocationsPerWorkgroup."""
    shared_bytes: int = 16384
    """WebGPU: maxComputeWorkgroupStorageSize."""
    max_storage_buffers: int = 8
    """WebGPU: maxStorageBuffersPerShaderStage."""
    software: bool = False
    """WebGPU: the adapter computes on the CPU, where a barrier costs more than the parallel work that it allows."""
    features: frozenset[str] = field(default_factory=frozenset)
    """WebGPU features that are on: "shader-f16", "subgroups", "timestamp-query"."""

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
