"""Verifier of specs: refuses what no schedule could make a right kernel of.

What a spec says is what its plain loops do, without any schedule: so these are written down, and are what is verified.
"""

from __future__ import annotations

from .. import ir
from ..errors import VerificationError
from ..ir_verify import verify
from .accumulators import COMBINE, identity
from .chain import Chain
from .loops import nest
from .spec import KernelSpec, symbols_of


def verify_spec(spec: KernelSpec) -> None:
    """Raise VerificationError where `spec` breaks a rule: see `spec` and `ir`. Tests call it before every lowering."""
    if isinstance(spec, Chain):
        for part in spec.parts:
            verify(plain_loops(part))
        return
    if not any(s.stores for s in spec.stages):
        raise VerificationError(f"the spec stores nothing:\n{spec}")
    if spec.symbols != symbols_of(spec):
        raise VerificationError(
            f"the symbols are not {', '.join(spec.symbols) or 'none'} in the spec\n{spec}"
        )
    unknown = [s for s in spec.symbols if s not in spec.hints]
    if unknown:
        raise VerificationError(f"no value is at hand for {', '.join(unknown)} in the spec\n{spec}")
    verify(plain_loops(spec))


def plain_loops(spec: KernelSpec) -> ir.Kernel:
    """The kernel that loops over all points of the outer axes and does the stages at each, scalar by scalar."""
    body: list[ir.Stmt] = []
    block = nest(body, spec.outer)
    for stage in spec.stages:
        if stage.reduces and not stage.axes:
            raise VerificationError(f"a stage without axes has reductions in the spec\n{spec}")
        block += [ir.Declare(r.name, identity(r)) for r in stage.reduces]
        inner = nest(block, stage.axes)
        for r in stage.reduces:
            more = ir.binary(COMBINE[r.combine], ir.local(r.name, r.value.dtype), r.value)
            inner.append(ir.Assign(r.name, more))
        for w in stage.stores:
            store = ir.Store(w.buffer, w.index, w.value)
            inner.append(store if w.condition is None else ir.If(w.condition, [store], []))
    return ir.Kernel("plain", spec.buffers, symbols_of(spec), 1, body)
