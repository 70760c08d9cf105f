"""Plans written by hand for the runtime's tests: small enough to read, with every kind of buffer.

The model is y = x·scale + reversed(bias), tiled over any length: x f32 [s0], scale f32 [1], bias f32 [4] of which an
init step packs the reverse.
"""

from __future__ import annotations

import base64
import struct

from nnjit import ir
from nnjit.emit.wasm import emit_module
from nnjit.symbolic import mod, var
from nnjit.target import Target

SCALE = 3.0
BIAS = (0.5, -1.0, 2.0, 4.0)
MODEL_FILE = struct.pack("<f", SCALE) + struct.pack("<4f", *BIAS)
SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["length"]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["length"]}],
}
N = var("s0")


def expected(x: list[float]) -> list[float]:
    return [v * SCALE + BIAS[3 - i % 4] for i, v in enumerate(x)]


def _kernel(name: str, buffers: str, tasks: ir.Index, body: list[ir.Stmt]) -> ir.Kernel:
    """`buffers` like "x:r y:w", all of f32; one symbol s0."""
    parsed = [ir.Buffer(b.split(":")[0], "f32", b.split(":")[1]) for b in buffers.split()]
    return ir.Kernel(name, parsed, ["s0"], tasks, body)


def _load(buffer: str, at: ir.Index) -> ir.Expr:
    return ir.load(buffer, at, "f32")


def scale_kernel() -> ir.Kernel:
    value = ir.mul(_load("x", ir.TASK), _load("scale", 0))
    return _kernel("scale", "x:r scale:r t:w", N, [ir.Store("t", ir.TASK, value)])


def pack_kernel() -> ir.Kernel:
    return _kernel("pack", "bias:r p:w", 4, [ir.Store("p", ir.TASK, _load("bias", 3 - ir.TASK))])


def bias_kernel(name: str = "bias") -> ir.Kernel:
    value = ir.add(_load("t", ir.TASK), _load("p", mod(ir.TASK, 4)))
    return _kernel(name, "t:r p:r y:w", N, [ir.Store("y", ir.TASK, value)])


def step(kernel: int, buffers: list[str], tasks: object, work: int = 1) -> dict:
    return {
        "kernel": kernel,
        "buffers": [[b, 0] for b in buffers],
        "symbols": ["s0" if tasks == "s0" else 0],
        "tasks": tasks,
        "flops": ["mul", tasks, work],
        "read": ["mul", tasks, 4],
        "written": ["mul", tasks, 4],
    }


def kernel_spec(kernel: ir.Kernel, module: int) -> dict:
    access = [{"access": b.access} for b in kernel.buffers]
    return {"name": kernel.name, "module": module, "export": kernel.name, "buffers": access}


def plan(target: Target, guards: list | None = None, work: int = 1) -> dict:
    """JSON-ready {plan, blobs (base64)}; `work` scales the flops that the steps claim, which decides on threads."""
    kernels = [scale_kernel(), pack_kernel(), bias_kernel()]
    weight = {"file": None, "dtype": "f32"}
    described = {
        "format": 2,
        "generator": "0.1.0",
        "device": "wasm",
        "symbols": [{"name": "s0", "label": "length", "from": ["dim", "x", 0]}],
        "guards": guards or [["ge", "s0", 2]],
        "inputs": [{"name": "x", "dtype": "f32", "shape": ["s0"], "buffer": "x"}],
        "outputs": [{"name": "y", "dtype": "f32", "shape": ["s0"], "buffer": "y"}],
        "buffers": [
            {"id": "x", "kind": "input", "storage": "f32", "elements": "s0"},
            {"id": "y", "kind": "output", "storage": "f32", "elements": "s0"},
            {"id": "t", "kind": "temp", "storage": "f32", "elements": "s0"},
            {"id": "scale", "kind": "weight", "storage": "f32", "elements": 1, "key": "scale",
             "source": {**weight, "offset": 0, "length": 4}},
            {"id": "bias", "kind": "weight", "storage": "f32", "elements": 4, "key": "bias",
             "source": {**weight, "offset": 4, "length": 16}},
            {"id": "p", "kind": "persistent", "storage": "f32", "elements": 4, "key": "packed bias"},
        ],
        "modules": [0],
        "kernels": [kernel_spec(k, 0) for k in kernels],
        "units": [
            {"task": None, "label": "scale", "node": "n0", "op": "map", "init": [],
             "steps": [step(0, ["x", "scale", "t"], "s0", work)]},
            {"task": "bias-task", "label": "bias", "node": "n1", "op": "map",
             "init": [step(1, ["bias", "p"], 4)], "steps": [step(2, ["t", "p", "y"], "s0", work)]},
        ],
    }  # fmt: skip
    return {"plan": described, "blobs": [encode(emit_module(kernels, target))]}


def candidate(kernel: ir.Kernel, target: Target, blob: bytes | None = None) -> dict:
    """Another implementation of the unit "bias", reading the packed bias as the incumbent does."""
    return {
        "unit": {"task": "bias-task", "label": kernel.name, "node": "n1", "op": "map", "init": [],
                 "steps": [step(0, ["t", "p", "y"], "s0")]},
        "buffers": [],
        "kernels": [kernel_spec(kernel, 0)],
        "blobs": [encode(blob or emit_module([kernel], target))],
    }  # fmt: skip


def repacking_candidate(target: Target) -> dict:
    """One that wants the bias in its original order, in a persistent buffer of its own, through a temporary."""
    pack = _kernel("copy", "bias:r q:w", 4, [ir.Store("q", ir.TASK, _load("bias", ir.TASK))])
    value = ir.add(_load("t", ir.TASK), _load("q", 3 - mod(ir.TASK, 4)))
    main = _kernel("unpacked", "t:r q:r u:w", N, [ir.Store("u", ir.TASK, value)])
    move = _kernel("move", "u:r y:w", N, [ir.Store("y", ir.TASK, _load("u", ir.TASK))])
    return {
        "unit": {"task": "bias-task", "label": "repacking", "node": "n1", "op": "map",
                 "init": [step(0, ["bias", "q"], 4)],
                 "steps": [step(1, ["t", "q", "u"], "s0"), step(2, ["u", "y"], "s0")]},
        "buffers": [
            {"id": "q", "kind": "persistent", "storage": "f32", "elements": 4, "key": "plain bias"},
            {"id": "u", "kind": "temp", "storage": "f32", "elements": "s0"},
        ],
        "kernels": [kernel_spec(k, 0) for k in (pack, main, move)],
        "blobs": [encode(emit_module([pack, main, move], target))],
    }  # fmt: skip


def wrong_kernel() -> ir.Kernel:
    value = ir.add(_load("t", ir.TASK), ir.const(1.0, "f32"))
    return _kernel("wrong", "t:r p:r y:w", N, [ir.Store("y", ir.TASK, value)])


def lazy_kernel() -> ir.Kernel:
    """Right, but leaves odd elements unwritten."""
    good = bias_kernel().body
    even = ir.binary("eq", ir.index(mod(ir.TASK, 2)), ir.const(0, "i32"))
    return _kernel("lazy", "t:r p:r y:w", N, [ir.If(even, good, [])])


def overflowing_kernel() -> ir.Kernel:
    """Right, but writes one element behind its output, too."""
    return _kernel(
        "overflowing", "t:r p:r y:w", N, [*bias_kernel().body, ir.Store("y", N, ir.const(7.0, "f32"))]
    )


def nan_kernel() -> ir.Kernel:
    value = ir.mul(_load("t", ir.TASK), ir.const(float("nan"), "f32"))
    return _kernel("nan", "t:r p:r y:w", N, [ir.Store("y", ir.TASK, value)])


def stray_kernel(buffer: str, at: ir.Index) -> ir.Kernel:
    """Right, but also writes where it should not: another buffer, or far from its own."""
    stray = ir.Store(buffer, at, ir.const(7.0, "f32"))
    return _kernel("stray", "t:rw p:rw y:w", N, [*bias_kernel().body, stray])


def endless_kernel(buffers: str = "t:r p:r y:w", result: str = "y") -> ir.Kernel:
    """Ends in some hundred years."""
    store = ir.Store(result, 0, ir.index(var("a") + var("b")))
    store.value = ir.cast(store.value, "f32")
    return _kernel("endless", buffers, 4, [ir.For("a", 2**30, [ir.For("b", 2**30, [store])])])


def trapping_kernel() -> ir.Kernel:
    far = ir.Store("y", ir.TASK + 0x3FFF0000 // 4 * 4, ir.const(7.0, "f32"))
    return _kernel("trapping", "t:r p:r y:w", N, [far])


def with_endless_packing(target: Target) -> dict:
    """The candidate that packs its bias anew, where packing does not end."""
    made = repacking_candidate(target)
    pack = endless_kernel("bias:r q:w", "q")
    good = [_kernel("unpacked", "t:r q:r u:w", N, []), _kernel("move", "u:r y:w", N, [])]
    kernels = [pack, *good]
    made["kernels"] = [kernel_spec(k, 0) for k in kernels]
    return {**made, "blobs": [encode(emit_module(kernels, target))]}


def reading_only(candidate: dict) -> dict:
    """The candidate as one that claims to write only its result."""
    for kernel in candidate["kernels"]:
        for buffer in kernel["buffers"][:-1]:
            buffer["access"] = "r"
    return candidate


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
