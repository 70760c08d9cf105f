"""The verifier of specs refuses what no schedule could make a right kernel of."""

from __future__ import annotations

import pytest
from unit.kernels import buffers

from nnjit import ir
from nnjit.errors import VerificationError
from nnjit.lower.spec import KernelSpec, Reduce, Stage, StoreTo
from nnjit.lower.spec_verify import verify_spec
from nnjit.symbolic import var

ROW, COLUMN = var("row"), var("column")
ELEMENT = ir.load("x", ROW * 8 + COLUMN, "f32")
TOTAL = ir.local("m0", "f32")


def row_sums(
    *stages: Stage, outer: tuple = (("row", 4),), symbols: tuple[str, ...] = (), value: ir.Expr = ELEMENT
) -> KernelSpec:
    summed = Stage((("column", 8),), [Reduce("m0", "sum", value)], [])
    stored = stages or (Stage((), [], [StoreTo("y", ROW, TOTAL)]),)
    spec = KernelSpec(outer, [summed, *stored], buffers(x="f32 r", y="f32 w"), {"n": 4}, {})
    spec.symbols = list(symbols)
    return spec


def refuse(message: str, spec: KernelSpec) -> None:
    with pytest.raises(VerificationError, match=message):
        verify_spec(spec)


def test_a_good_spec_passes() -> None:
    verify_spec(row_sums())
    verify_spec(row_sums(outer=(("row", var("n")),), symbols=("n",)))


def test_a_spec_stores_something() -> None:
    refuse("stores nothing", row_sums(Stage((), [], [])))


def test_a_buffer_is_declared() -> None:
    refuse("no buffer z", row_sums(Stage((), [], [StoreTo("z", ROW, TOTAL)])))


def test_an_operand_is_not_written() -> None:
    refuse("x has access r", row_sums(Stage((), [], [StoreTo("x", ROW, TOTAL)])))


def test_an_axis_ends_with_its_stage() -> None:
    refuse("column, which is not known here", row_sums(Stage((), [], [StoreTo("y", COLUMN, TOTAL)])))


def test_a_reduction_is_read_after_its_stage() -> None:
    refuse("m1 is not declared", row_sums(value=ir.add(ELEMENT, ir.local("m1", "f32"))))


def test_a_reduction_has_axes() -> None:
    later = Stage((), [Reduce("m1", "max", TOTAL)], [StoreTo("y", ROW, TOTAL)])
    refuse("without axes has reductions", row_sums(later))


def test_a_stored_value_has_the_dtype_of_its_buffer() -> None:
    refuse("y holds f32", row_sums(Stage((), [], [StoreTo("y", ROW, ir.const(1, "i32"))])))


def test_symbols_are_listed_and_have_a_value_at_hand() -> None:
    refuse("the symbols are not", row_sums(outer=(("row", var("n")),)))
    refuse("no value is at hand for k", row_sums(outer=(("row", var("k")),), symbols=("k",)))
