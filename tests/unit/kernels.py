"""Kernels that several tests use."""

from __future__ import annotations

from nnjit import ir
from nnjit.symbolic import floordiv, mod, var


def buffers(**kinds: str) -> list[ir.Buffer]:
    """name="f32 r" → Buffer."""
    return [ir.Buffer(name, *kind.split()) for name, kind in kinds.items()]


def gemm(rows: int, columns: int, depth, tile_m: int = 6) -> ir.Kernel:  # type: ignore[no-untyped-def]
    """C = A·B, B packed in panels of 8 columns; `depth` may be symbolic."""
    panels, k = columns // 8, var("k")
    m, n = floordiv(ir.TASK, panels), mod(ir.TASK, panels)
    tile = [(i, j) for i in range(tile_m) for j in range(2)]
    accumulators = {t: ir.local(f"acc{t[0]}_{t[1]}", "f32", 4) for t in tile}
    body: list[ir.Stmt] = [ir.Declare(f"acc{i}_{j}", ir.splat(ir.const(0.0, "f32"))) for i, j in tile]
    step: list[ir.Stmt] = []
    for (i, j), acc in accumulators.items():
        a = ir.load("A", (m * tile_m + i) * depth + k, "f32")
        b = ir.load("B", (n * depth + k) * 8 + 4 * j, "f32", 4)
        step.append(ir.Assign(f"acc{i}_{j}", ir.fma(ir.splat(a), b, acc)))
    body.append(ir.For("k", depth, step))
    for (i, j), acc in accumulators.items():
        body.append(ir.Store("C", (m * tile_m + i) * columns + n * 8 + 4 * j, acc))
    symbols = [] if isinstance(depth, int) else ["depth"]
    return ir.Kernel("gemm", buffers(A="f32 r", B="f32 r", C="f32 w"), symbols, rows // tile_m * panels, body)
