"""nnjit: a deep-learning compiler that runs inside the browser.

What happens to a model, and where:

    onnx/       the bytes of a file        → Graph          opset differences end here; weights stay where they lie
    ops/        Graph                      → tensor/        every operator becomes tensor expressions (Compute, View, …)
    passes/     tensor expressions         → Group          what runs in one pass over its axes: epilogues, rows, chains
    lower/      Group                      → KernelSpec     loops, reductions and stores over flat buffers (specify.py)
    schedule/   KernelSpec × Target        → Schedules      the lite space, best guess first; legal.py for those of others
    lower/      KernelSpec × Schedule      → ir.Kernel      tiles, stages, packing (scheduled.py); ir.py is the loop IR
    emit/       ir.Kernel                  → wasm | WGSL    decides nothing but instructions
    units.py    Specifieds × Schedules     → UnitCode       which schedules may be tried, and the kernels of one
    plan.py     units and buffers          → Plan           JSON and bytes: web/runtime executes it without Python
    tune/       Plan × measurements        → better units   what to measure next, and whether to believe it

`compiler.compile_model` runs it from a Graph to a Plan; `runtime/` is the bridge to JavaScript, and the only part that
needs Pyodide. Each stage knows the data of the one before, and none that follows: tests/unit/test_layers.py says so in full.
Dimensions are ints or polynomials of symbols (symbolic/) throughout, and whatever is decided about a symbol becomes a
guard of the plan (tensor/env.py).
"""

from __future__ import annotations

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The interface of `nnjit.runtime`, at its first use: it needs Pyodide, the compiler does not."""
    if name in ("load", "Model", "export_kernels", "import_kernels"):
        from . import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
