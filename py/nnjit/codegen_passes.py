"""Switches of the code generator's passes: all on, but in the bench's ablation, which shows what each is worth.

What a pass does is described where it is done; this is the list of them, in the order in which a model meets them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Passes:
    """Which passes are on."""

    row_fusion: bool = True
    """Reductions of rows and what reads the rows again are one kernel (passes/fuse.py)."""
    chains: bool = True
    """Elementwise operators in a row are one kernel (passes/fuse.py)."""
    epilogues: bool = True
    """What follows a contraction point by point is done before its result is stored (passes/fuse.py)."""
    attention: bool = True
    """A contraction, reductions of its rows and a contraction with those rows are one kernel (passes/chain.py).

    Needs packing, register tiles and vectors."""
    packing: bool = True
    """Operands of contractions are laid out in tile order (schedule)."""
    register_tiles: bool = True
    """Several rows and several vectors of columns are computed together, in registers (schedule)."""
    vectors: bool = True
    """Four lanes at a time (schedule)."""
    unrolling: bool = True
    """Several iterations of an innermost reduction, with accumulators of their own (schedule)."""
    streaming: bool = True
    """Multiply-adds in the order in which the operands of one side are needed only once (lower/stages.py)."""
    relaxed_simd: bool = True
    """Fused multiply-adds and lane selects of relaxed SIMD, where the engine has them (emit/wasm_operations.py)."""
    hoisting: bool = True
    """Index arithmetic, loads and other invariants move out of loops (emit/wasm_index.py, emit/wasm_values.py)."""
    constants: bool = True
    """Constants of an innermost loop are in locals set before it (emit/wasm_values.py)."""
    pointers: bool = True
    """Addresses of an innermost loop are pointers that it advances (emit/wasm_addresses.py).

    Worth 4 to 9 % in LayerNorm, whose loops do little else, in Chromium, Firefox and WebKitGTK, and about as much in
    WebKitGTK's products; nothing elsewhere."""
    immediates: bool = True
    """Constant offsets go into the load or store (emit/wasm_addresses.py)."""
    sharing: bool = True
    """What a stretch of code without branches uses again is computed once (emit/wasm_values.py)."""
    splat_loads: bool = True
    """A load into all lanes is one instruction (emit/wasm_operations.py)."""
    quick_limits: bool = True
    """Minimum and maximum with a constant take one operation (emit/wasm_operations.py)."""

    @staticmethod
    def without(names: Iterable[str]) -> Passes:
        """All passes but those named. Raises ValueError for a name that is none."""
        names = list(names)
        unknown = set(names) - set(NAMES)
        if unknown:
            raise ValueError(f"there is no pass {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
        return Passes(**dict.fromkeys(names, False))

    @property
    def joins_contractions(self) -> bool:
        """Whether contractions become one kernel: `attention` is on, and what it needs."""
        return self.attention and self.packing and self.register_tiles and self.vectors


ALL_PASSES = Passes()
NAMES = tuple(field.name for field in fields(Passes))
