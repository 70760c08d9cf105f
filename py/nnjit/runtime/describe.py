"""What the runtime says, as the compiler's types, and back: dtypes, inputs, what a model declares, the device."""

from __future__ import annotations

from ..codegen_passes import ALL_PASSES, Passes
from ..compiler import InputSpec
from ..graph.graph import Graph
from ..target import Target

LONG_NAMES = {
    "f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "uint8",
    "i16": "int16", "u16": "uint16", "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64", "bool": "bool",
}  # fmt: skip
SHORT_NAMES = {long: short for short, long in LONG_NAMES.items()}


def specs_of(described: dict) -> dict[str, InputSpec]:
    """Inputs as the executor describes them, {name: {"type", "dims", "value"}}: `value` is that of an integer scalar."""
    return {
        name: InputSpec(SHORT_NAMES[d["type"]], tuple(d["dims"]), d["value"]) for name, d in described.items()
    }


def described(specs: dict[str, InputSpec]) -> dict:
    """The inverse of `specs_of`."""
    return {
        name: {"type": LONG_NAMES[s.dtype], "dims": list(s.shape), "value": s.value}
        for name, s in specs.items()
    }


def model_signature(graph: Graph) -> dict:
    """The graph's inputs and outputs as the executor checks them."""

    def ports(infos: list) -> list[dict]:
        return [
            {
                "name": info.name,
                "dtype": LONG_NAMES.get(info.dtype, info.dtype),
                "shape": None if info.shape is None else list(info.shape),
            }
            for info in infos
        ]

    return {"inputs": ports(graph.inputs), "outputs": ports(graph.outputs)}


def target_of(facts: dict, passes: Passes = ALL_PASSES) -> Target:
    """The compiler's target for the device that the runtime found."""
    limits = facts["limits"]
    gpu = {
        "max_workgroup": limits.get("maxComputeInvocationsPerWorkgroup"),
        "shared_bytes": limits.get("maxComputeWorkgroupStorageSize"),
        "max_storage_buffers": limits.get("maxStorageBuffersPerShaderStage"),
    }
    return Target(
        device=facts["device"],
        relaxed_simd=facts["relaxedSimd"],
        shared_memory=facts["isolated"],
        threads=facts["threads"],
        max_pages=facts["maxPages"] or Target.max_pages,
        software=bool((facts["adapter"] or {}).get("software")),
        passes=passes,
        features=frozenset(facts["features"]),
        **{name: value for name, value in gpu.items() if value is not None},
    )
