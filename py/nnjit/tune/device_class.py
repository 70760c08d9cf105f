"""Which devices may learn from each other: a device's class is the few facts that decide which schedules are fast.

The browser's name is not among them, nor the number of cores that are not used. Two devices are alike when the facts
are equal and the figures that were measured on both differ by less than a factor of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LIMITS = (
    "maxComputeInvocationsPerWorkgroup", "maxComputeWorkgroupStorageSize", "maxStorageBuffersPerShaderStage",
)  # fmt: skip
_ADAPTER = ("vendor", "architecture")

FIELDS: dict[str, dict[str, type]] = {
    "wasm": {"threads": int, "relaxedSimd": bool},
    "webgpu": {**dict.fromkeys(_ADAPTER, str), "software": bool, **dict.fromkeys(_LIMITS, int)},
}
"""Fields of a class beside "device" and "measured", by device."""
MEASURED = ("flops", "bandwidth", "registers")
"""Figures that microbenchmarks may have found: GFLOP/s and GB/s of copying in memory on all threads, v128 values in registers."""
LIKE = 2.0


def device_class(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The class of the device that the runtime's `facts` describe (web/runtime/types.js: Facts).

    "hardware" among them, where it is, holds the fields of target.Hardware.
    """
    if facts["device"] == "wasm":
        found = {"device": "wasm", "threads": facts["threads"], "relaxedSimd": facts["relaxedSimd"]}
    else:
        adapter, limits = facts["adapter"] or {}, facts["limits"]
        found = {
            "device": "webgpu",
            **{name: str(adapter.get(name, "")) for name in _ADAPTER},
            "software": bool(adapter.get("software")),
            **{name: int(limits.get(name, 0)) for name in _LIMITS},
        }
    hardware = facts.get("hardware")
    if not hardware:
        return found
    figures = (hardware["gflops"], hardware["bandwidth"][-1][-1], hardware["vector_registers"])
    return {**found, "measured": {name: v for name, v in zip(MEASURED, figures, strict=True) if v}}


def check_class(value: Any) -> dict[str, Any]:
    """`value` if it is a device class; raises ValueError with the field at fault."""
    if not isinstance(value, dict) or value.get("device") not in FIELDS:
        raise ValueError(f'device is an object whose "device" is one of {", ".join(FIELDS)}')
    fields = FIELDS[value["device"]]
    for name, kind in fields.items():
        if type(value.get(name)) is not kind:
            raise ValueError(f"device.{name} is not {_KINDS[kind]}")
        if kind is str and len(value[name]) > 100:
            raise ValueError(f"device.{name} is longer than 100 characters")
    measured = value.get("measured", {})
    if not isinstance(measured, dict) or not all(
        k in MEASURED and type(v) in (int, float) and 0 < v < 1e9 for k, v in measured.items()
    ):
        raise ValueError(f"device.measured takes positive numbers for {', '.join(MEASURED)}")
    unknown = set(value) - set(fields) - {"device", "measured"}
    if unknown:
        raise ValueError(f"device.{min(unknown)} is not a field")
    return value


_KINDS = {int: "an integer", bool: "true or false", str: "a string"}


def alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether what is fast on one device is worth trying first on the other."""
    if any(a.get(name) != b.get(name) for name in ("device", *FIELDS[a["device"]])):
        return False
    ours, theirs = a.get("measured", {}), b.get("measured", {})
    return all(1 / LIKE < ours[k] / theirs[k] < LIKE for k in ours.keys() & theirs.keys())


def describe(value: Mapping[str, Any]) -> str:
    """The class in a few words."""
    if value["device"] == "wasm":
        threads = f"{value['threads']} thread" + "s" * (value["threads"] != 1)
        return f"WebAssembly with {threads}{', relaxed SIMD' if value['relaxedSimd'] else ''}"
    name = f"{value['vendor']} {value['architecture']}".strip() or "unnamed"
    return f"WebGPU on {name}{' (software)' if value['software'] else ''}"
