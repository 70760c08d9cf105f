"""The verifier refuses broken kernels with a message that shows the statement."""

from __future__ import annotations

import numpy as np
import pytest
from unit.kernels import buffers, gemm

from nnjit import ir
from nnjit.errors import VerificationError
from nnjit.ir import Kernel
from nnjit.ir_verify import verify
from nnjit.symbolic import IntExpr, Opaque, opaque, var

ONE = ir.const(1.0, "f32")
X = ir.load("x", ir.TASK, "f32")


def refuse(message: str, *body: ir.Stmt, **fields: object) -> None:
    kernel = Kernel("broken", buffers(x="f32 r", y="f32 w", z="i64 rw"), ["n"], 4, list(body))
    for name, value in fields.items():
        setattr(kernel, name, value)
    with pytest.raises(VerificationError, match=message):
        verify(kernel)


def test_a_good_kernel_passes() -> None:
    verify(gemm(48, 64, var("depth")))


def test_a_local_is_declared_before_it_is_used() -> None:
    refuse("t is not declared here", ir.Store("y", 0, ir.local("t", "f32")))


def test_a_local_ends_with_its_block() -> None:
    loop = ir.For("i", 2, [ir.Declare("t", ONE)])
    refuse("t is not declared here", loop, ir.Store("y", 0, ir.local("t", "f32")))


def test_a_local_is_declared_once() -> None:
    refuse("declared twice", ir.Declare("t", ONE), ir.Declare("t", ONE))


def test_a_local_is_used_with_its_own_kind() -> None:
    refuse("not declared here as f32x4", ir.Declare("t", ONE), ir.Store("y", 0, ir.local("t", "f32", 4)))


def test_an_assignment_keeps_the_kind() -> None:
    refuse("t is f32, not f32x4", ir.Declare("t", ONE), ir.Assign("t", ir.splat(ONE)))


def test_an_assignment_needs_a_declaration() -> None:
    refuse("t is assigned before it is declared", ir.Assign("t", ONE))


def test_a_buffer_exists() -> None:
    refuse("there is no buffer w", ir.Store("w", 0, ONE))


def test_a_read_only_buffer_is_not_written() -> None:
    refuse("x has access r and is written", ir.Store("x", 0, ONE))


def test_a_write_only_buffer_is_not_read() -> None:
    refuse("y has access w and is read", ir.Store("y", 0, ir.load("y", 1, "f32")))


def test_a_buffer_is_used_with_its_compute_dtype() -> None:
    refuse("z holds i64, computed with as i64, not f32", ir.Store("z", 0, ONE))


def test_an_index_uses_variables_in_scope() -> None:
    refuse("uses i, which is not known here", ir.For("i", 2, []), ir.Store("y", var("i"), ONE))


def test_an_opaque_index_is_checked_inside() -> None:
    refuse("uses q", ir.Store("y", opaque("mod", var("q"), 4), ONE))


def test_an_index_divides_by_a_positive_number() -> None:
    refuse("divides by 0", ir.Store("y", opaque("floordiv", var("n"), 0), ONE))


def test_an_index_value_is_a_scalar_integer() -> None:
    at = IntExpr({(Opaque("value", (X,)),): 1})
    refuse("is f32", ir.Store("y", at, ONE))


def test_a_loop_variable_has_a_name_of_its_own() -> None:
    refuse("variable n is taken", ir.For("n", 2, []))
    refuse("variable task is taken", ir.For("task", 2, []))


def test_operands_agree_in_dtype() -> None:
    mixed = ir.expr("add", "f32", 1, (ONE, ir.const(1, "i32")))
    refuse("add from f32, i32 to f32", ir.Store("y", 0, mixed))


def test_operands_agree_in_lanes() -> None:
    mixed = ir.expr("mul", "f32", 4, (ONE, ir.splat(ONE)))
    refuse("mul from f32, f32x4 to f32x4", ir.Store("y", 0, mixed))


def test_a_shuffle_names_lanes_of_its_two_operands() -> None:
    v = ir.splat(X)
    refuse("shuffle from f32x4, f32x4", ir.Store("y", 0, ir.shuffle(v, v, (0, 1, 2, 8))))
    refuse("shuffle from f32, f32", ir.Store("y", 0, ir.shuffle(X, X, (0, 1, 2, 3))))


def test_a_select_takes_a_condition_of_its_lanes() -> None:
    flag = ir.binary("lt", X, ONE)
    refuse(
        "select from bool, f32x4",
        ir.Store("y", 0, ir.expr("select", "f32", 4, (flag, ir.splat(X), ir.splat(ONE)))),
    )


@pytest.mark.parametrize("op", ["rem", "and", "xor", "shl"])
def test_floats_have_no_bits(op: str) -> None:
    refuse(f"{op} from f32, f32", ir.Store("y", 0, ir.binary(op, X, ONE)))


def test_integers_have_no_square_root() -> None:
    refuse("sqrt from i64", ir.Store("z", 0, ir.unary("sqrt", ir.load("z", 0, "i64"))))


def test_a_bitcast_keeps_the_width() -> None:
    refuse("bitcast from f32 to i64", ir.Store("z", 0, ir.bitcast(X, "i64")))


def test_an_unknown_operation_is_named() -> None:
    refuse("gamma.* is no operation", ir.Store("y", 0, ir.unary("gamma", X)))


def test_a_condition_is_a_scalar_bool() -> None:
    refuse("not a scalar bool", ir.If(X, [], []))


def test_a_barrier_needs_a_workgroup() -> None:
    refuse("barrier without a workgroup", ir.Barrier())


def test_only_scratch_memory_of_a_task_may_depend_on_symbols() -> None:
    refuse("shared s is n × f32", shared=[("s", "f32", var("n"))], workgroup=64)
    refuse("uses m, which is not known", shared=[("s", "f32", var("m"))])


def test_a_workgroup_knows_its_lane() -> None:
    kernel = Kernel(
        "f", buffers(y="f32 w"), [], 4, [ir.Store("y", ir.TASK * 64 + ir.LANE, ONE)], workgroup=64
    )
    verify(kernel)


def test_the_message_shows_the_statement() -> None:
    refuse("kernel broken: .* in `y\\[2\\*n\\] = t`", ir.Store("y", var("n") * 2, ir.local("t", "f32")))


def test_constants_match_their_dtype() -> None:
    refuse("no constant", ir.Store("y", 0, ir.expr("const", "f32", 1, (), 1)))
    assert ir.const(np.float32(1.5), "f32").attr == 1.5


def test_a_statement_that_shares_values_prints_in_full_and_shortly() -> None:
    value = X
    for _ in range(60):
        value = ir.mul(value, value)
    kernel = Kernel("squares", buffers(x="f32 r", y="f32 w"), [], 4, [ir.Store("y", ir.TASK, value)])
    verify(kernel)
    lines = str(kernel).splitlines()
    assert lines[1] == "  %0 = mul(x[task], x[task])"
    assert lines[-1] == "  y[task] = mul(%58, %58)" and len(lines) == 61
