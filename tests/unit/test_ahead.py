"""Reading ahead: tasks bring near what the next column of tiles will read, all of it, and change no result."""

from __future__ import annotations

import pytest
from unit.plan_interpreter import RELAXED, WEBGPU, Machine, Model
from unit.tensor_programs import matmul
from unit.test_fuse import close

from nnjit import ir
from nnjit.compiler import CompiledPlan
from nnjit.schedule.schedule import Schedule, parse
from nnjit.symbolic import evaluate
from nnjit.target import Target
from nnjit.tensor.interpret import interpret

LINE = 16
"""Floats of a cache line."""


def product(rows: int, terms: int, columns: int, target: Target = RELAXED, symbolic: tuple[int, ...] = ()):  # type: ignore[no-untyped-def]
    m = Model(3)
    out = matmul(m, m.input(rows, terms, symbolic=symbolic), m.weight(terms, columns))
    return m, out, m.compile([out], target)


def kernel_of(compiled: CompiledPlan, schedule: Schedule) -> ir.Kernel:
    return compiled.scheduler.unit(compiled.items[0], schedule).steps[-1].kernel


def reads_ahead(kernel: ir.Kernel) -> list[tuple[int, int]]:
    """(task, element) of each read whose value is not used, in a kernel whose loops have constant extents."""
    found: list[tuple[int, int]] = []

    def walk(body: list[ir.Stmt], env: dict[str, int]) -> None:
        for s in body:
            if isinstance(s, ir.Declare) and s.name == "ahead":
                found.append((env["task"], evaluate(s.init.attr[1], env)))
            elif isinstance(s, ir.Declare) and s.init.op == "index":
                env[s.name] = evaluate(s.init.attr, env)
            elif isinstance(s, ir.For):
                for n in range(evaluate(s.extent, env)):
                    walk(s.body, {**env, s.var: n})

    for task in range(evaluate(kernel.tasks, {})):
        walk(kernel.body, {"task": task})
    return found


@pytest.mark.parametrize("rows, tile", [(24, "o0=6 o1=8"), (21, "o0=3 o1=8"), (32, "o0=8 o1=12")])
def test_the_tasks_of_a_column_read_every_line_of_the_next(rows: int, tile: str) -> None:
    _, _, compiled = product(rows, 64, 260)
    schedule = parse(f"tile {tile}; vector o1; order o1 o0; pack 1")
    each = 64 * schedule.tile("o1")
    down = -(-rows // schedule.tile("o0"))
    columns = -(-260 // schedule.tile("o1"))
    lines: dict[int, set[int]] = {}
    for task, element in reads_ahead(kernel_of(compiled, schedule)):
        lines.setdefault(task // down, set()).add(element // LINE)
    assert lines.keys() == set(range(columns))
    for column, seen in lines.items():
        following = min(column + 1, columns - 1) * each
        assert seen == set(range(following // LINE, (following + each - 1) // LINE + 1))


@pytest.mark.parametrize("symbolic", [(), (0,)])
def test_reading_ahead_stays_within_the_operand_and_changes_nothing(symbolic: tuple[int, ...]) -> None:
    m, out, compiled = product(19, 65, 270, symbolic=symbolic)
    machine = Machine(compiled)
    close(machine.run(m.arrays)[0], interpret([out], m.arrays, m.env.hints)[0])
    schedules = compiled.scheduler.candidates(compiled.items[0])
    for schedule in schedules[::6]:
        for name, array in machine.run_unit(compiled.scheduler.unit(compiled.items[0], schedule), 0).items():
            close(array, machine.memory[name])


@pytest.mark.parametrize(
    "rows, columns, schedule",
    [
        (24, 40, "tile o0=6 o1=8; vector o1; order o1 o0; pack 1"),  # an operand that stays in the cache
        (
            24,
            260,
            "tile o0=6 o1=8; vector o1; order o0 o1; pack 1",
        ),  # columns next to each other: read in their order
        (6, 260, "tile o0=6 o1=8; vector o1; order o1 o0; pack 1"),  # one tile a column: nothing to share
        (
            24,
            260,
            "tile o0=2 o1=16; vector o1; order o1 o0; pack 1",
        ),  # flat: its own loads are close together
        (24, 260, "tile o0=6 o1=8; vector o1; order o1 o0"),  # not packed
    ],
)
def test_nothing_is_read_ahead_where_it_would_not_help(rows: int, columns: int, schedule: str) -> None:
    _, _, compiled = product(rows, 64, columns)
    assert not reads_ahead(kernel_of(compiled, parse(schedule)))


def test_a_gpu_reads_nothing_ahead() -> None:
    _, _, compiled = product(12, 64, 260, WEBGPU)
    schedule = parse("tile o0=4 o1=4; vector o1; order o1 o0; pack 1")
    assert not reads_ahead(kernel_of(compiled, schedule))
