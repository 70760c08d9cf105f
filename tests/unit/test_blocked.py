"""Contractions in workgroup memory: every block computes what the tensor expressions say, at every size, without races."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from unit.ir_interpreter import KernelFault
from unit.plan_interpreter import Machine, Model
from unit.tensor_programs import convolution, matmul, relu
from unit.test_fuse import close

from nnjit import ir
from nnjit.ir import Barrier
from nnjit.lower.blocked import roles_of
from nnjit.schedule.schedule import parse
from nnjit.schedule.space import space
from nnjit.target import Target
from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Tensor

GPU = Target(device="webgpu")
BLOCKS = ("2 4 1 4 4", "2 2 3 8 8", "4 4 2 4 16", "1 8 5 4 12")


def epilogue(m: Model) -> Tensor:
    y = m.b.elementwise(ir.add, matmul(m, m.input(13, 18), m.weight(18, 20)), m.weight(20))
    return m.b.elementwise(ir.add, m.b.elementwise(relu, y), m.input(13, 20))


PROGRAMS: dict[str, Callable[[Model], Tensor]] = {
    "matmul, everything odd": lambda m: matmul(m, m.input(13, 21), m.weight(21, 27)),
    "matmul, everything in fours": lambda m: matmul(m, m.input(12, 20), m.weight(20, 24)),
    "matmul with few columns": lambda m: matmul(m, m.input(9, 16), m.weight(16, 3)),
    "matmul, second operand transposed": lambda m: matmul(m, m.input(6, 20), m.weight(9, 20), True),
    "matmul of i32": lambda m: matmul(m, m.input(5, 18, dtype="i32"), m.weight(18, 7, dtype="i32")),
    "batched matmul": lambda m: matmul(m, m.input(3, 7, 16), m.input(3, 16, 8)),
    "matmul, bias, ReLU, residual": epilogue,
    "convolution": lambda m: convolution(m, 3, 6, 3, (7, 8)),
    "convolution, odd width": lambda m: convolution(m, 4, 5, 3, (6, 7)),
    "strided convolution": lambda m: convolution(m, 4, 8, 3, (9, 9), stride=2),
    "grouped convolution": lambda m: convolution(m, 4, 6, 3, (5, 6), groups=2),
}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_block_computes_its_expression(program: str, block: str) -> None:
    m = Model(7)
    out = PROGRAMS[program](m)
    expected = interpret([out], m.arrays, m.env.hints)[0]
    compiled = m.compile([out], GPU)
    machine = Machine(compiled)
    close(machine.run(m.arrays)[0], expected)
    fitting = [n for n, item in enumerate(compiled.items) if roles_of(item.spec)]
    assert len(fitting) == 1
    made = machine.run_unit(
        compiled.scheduler.unit(compiled.items[fitting[0]], parse(f"block {block}")), fitting[0]
    )
    for name, array in made.items():
        close(array, machine.memory[name])


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_right_at_every_size_of_a_symbol(block: str) -> None:
    m = Model(3)
    x, w = m.input(9, 16, symbolic=(0, 1)), m.input(16, 8, symbolic=(0, 1))
    assert m.env.eq(x.shape[1], w.shape[0])
    out = m.b.elementwise(relu, matmul(m, x, w))
    compiled = m.compile([out], GPU)
    machine = Machine(compiled)
    for shapes in ([(9, 16), (16, 8)], [(8, 19), (19, 13)], [(40, 5), (5, 9)]):
        arrays = {name: m.data(s) for name, s in zip(m.arrays, shapes, strict=True)}
        symbols = machine.fits(arrays)
        if symbols is None:
            continue
        machine.run(arrays)
        made = machine.run_unit(compiled.scheduler.unit(compiled.items[0], parse(f"block {block}")), 0)
        close(next(iter(made.values())), interpret([out], arrays, symbols)[0].ravel())


def test_infinities_and_nans_stay_in_their_rows_and_columns() -> None:
    m = Model(1)
    out = matmul(m, m.input(6, 18), m.weight(18, 8))
    compiled = m.compile([out], GPU)
    machine = Machine(compiled)
    arrays = {name: a.copy() for name, a in m.arrays.items()}
    arrays[next(iter(arrays))][2, 17] = np.inf
    machine.run(arrays)
    made = machine.run_unit(compiled.scheduler.unit(compiled.items[0], parse("block 2 2 2 4 8")), 0)
    y = next(iter(made.values())).reshape(6, 8)
    assert np.isinf(y[2]).all()
    assert np.isfinite(np.delete(y, 2, 0)).all()


def test_a_missing_barrier_would_be_found() -> None:
    m = Model(2)
    compiled = m.compile([matmul(m, m.input(8, 32), m.weight(32, 8))], GPU)
    machine = Machine(compiled)
    machine.run(m.arrays)
    unit = compiled.scheduler.unit(compiled.items[0], parse("block 2 2 2 4 8"))
    loop = next(s for s in unit.steps[0].kernel.body if isinstance(s, ir.For))
    loop.body[:] = [s for s in loop.body if not isinstance(s, Barrier)]
    with pytest.raises(KernelFault, match="another task writes"):
        machine.run_unit(unit, 0)


@pytest.mark.parametrize(
    ("block", "reason"), [("8 8 4 4", "fours"), ("8 8 4 6 16", "fours"), ("32 32 4 4 4", "invocations"), ("16 16 16 16 16", "memory")]
)  # fmt: skip
def test_a_block_that_fits_no_device_is_refused(block: str, reason: str) -> None:
    m = Model()
    compiled = m.compile([matmul(m, m.input(8, 32), m.weight(32, 8))], GPU)
    with pytest.raises(ValueError, match=reason):
        compiled.scheduler.unit(compiled.items[0], parse(f"block {block}"))


def test_a_block_for_no_contraction_is_refused() -> None:
    m = Model()
    compiled = m.compile([m.b.elementwise(relu, m.input(8, 32))], GPU)
    with pytest.raises(ValueError, match="rows and columns"):
        compiled.scheduler.unit(compiled.items[0], parse("block 8 8 4 4 16"))


def test_a_gpu_starts_with_blocks_and_a_software_adapter_does_not() -> None:
    m = Model()
    compiled = m.compile([matmul(m, m.input(128, 64), m.weight(64, 128))], GPU)
    spec = compiled.items[0].spec
    assert space(spec, GPU)[0].block
    software = space(spec, Target(device="webgpu", software=True))
    assert not software[0].block
    assert any(s.block for s in software)
