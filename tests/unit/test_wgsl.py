"""The text of emitted WGSL: what it says, and what is refused. tests/browser runs it."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit import ir
from nnjit.emit.wgsl import emit_shader
from nnjit.emit.wgsl_values import float_text
from nnjit.errors import UnsupportedError, VerificationError
from nnjit.ir import TASK, Assign, Barrier, Buffer, Declare, For, Kernel, Store
from nnjit.symbolic import floordiv, minimum, mod, var
from nnjit.target import Target

TARGET = Target(device="webgpu")


def body_of(kernel: Kernel) -> list[str]:
    """The lines of `main`, after those that every shader has."""
    lines = emit_shader(kernel, TARGET).splitlines()
    start = next(i for i, line in enumerate(lines) if "return; }" in line)
    return [line[2:] for line in lines[start + 1 : -1]]


def kernel(body: list[ir.Stmt], symbols: list[str] | None = None, x: str = "f32", out: str = "f32") -> Kernel:
    return Kernel("k", [Buffer("x", x, "r"), Buffer("out", out, "w")], symbols or [], 64, body)


def x(at: ir.Index = TASK, dtype: str = "f32", lanes: int = 1) -> ir.Expr:
    return ir.load("x", at, dtype, lanes)


def test_a_shader_reads_as_the_kernel_does() -> None:
    k = var("k")
    body: list[ir.Stmt] = [
        Declare("sum", ir.const(0.0, "f32")),
        For("k", 12, [Assign("sum", ir.add(ir.local("sum", "f32"), x(TASK * 12 + k)))]),
        Store("out", TASK, ir.div(ir.local("sum", "f32"), ir.const(12, "f32"))),
    ]
    assert (
        emit_shader(kernel(body), TARGET)
        == """\
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
struct Params { tasks: i32 }
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) invocation: u32,
) {
  let task = i32((group.y * groups.x + group.x) * 64u + invocation);
  if (task >= params.tasks) { return; }
  var sum: f32 = 0.0;
  let i1 = task * 12;
  for (var k = 0; k < 12; k++) {
    let i2 = i1 + k;
    sum = sum + x[i2];
  }
  out[task] = sum / 12.0;
}
"""
    )


def test_an_index_is_computed_outside_of_the_loops_that_do_not_change_it() -> None:
    i, j, n = var("i"), var("j"), var("n")
    index = floordiv(TASK, n) * 100 + i * n + j
    lines = body_of(
        kernel(
            [For("i", 4, [For("j", 5, [Store("out", TASK, x(index)), Store("out", TASK, x(index + 1))])])],
            ["n"],
        )
    )
    assert lines == [
        "let n = params.n;",
        "let i1 = task / n;",
        "let i2 = i1 * 100;",
        "for (var i = 0; i < 4; i++) {",
        "  let i3 = i2 + i * n;",
        "  for (var j = 0; j < 5; j++) {",
        "    let i4 = i3 + j;",
        "    out[task] = x[i4];",
        "    out[task] = x[i4 + 1];",
        "  }",
        "}",
    ]


def test_a_declared_integer_is_a_variable_of_indices() -> None:
    body: list[ir.Stmt] = [
        Declare("row", ir.index(floordiv(TASK, 12))),
        For("k", 2, [Store("out", var("row") * 2 + var("k"), x(floordiv(var("row"), 3)))]),
    ]
    assert body_of(kernel(body)) == [
        "let row = task / 12;",
        "let i2 = row / 3;",
        "let i3 = row * 2;",
        "for (var k = 0; k < 2; k++) {",
        "  let i4 = i3 + k;",
        "  out[i4] = x[i2];",
        "}",
    ]


def test_a_buffer_of_aligned_vectors_is_declared_as_vectors() -> None:
    shader = emit_shader(kernel([Store("out", TASK * 4, x(TASK * 8 + 4, lanes=4))]), TARGET)
    assert "x: array<vec4f>" in shader
    assert "out[task] = x[i1 + 1];" in shader


def test_a_declared_multiple_of_four_keeps_vectors_aligned() -> None:
    body: list[ir.Stmt] = [
        Declare("base", ir.index(minimum(TASK * 8, 120))),
        Store("out", TASK * 4, x(var("base") * 3 + 4, lanes=4)),
    ]
    shader = emit_shader(kernel(body), TARGET)
    assert "x: array<vec4f>" in shader
    assert "let base = min(i1, 120);" in shader
    assert "let i3 = base >> 2u;" in shader
    assert "out[task] = x[i4 + 1];" in shader


def test_one_unaligned_access_makes_a_buffer_scalar() -> None:
    body: list[ir.Stmt] = [Store("out", TASK * 4, ir.add(x(TASK * 4, lanes=4), x(TASK * 4 + 1, lanes=4)))]
    shader = emit_shader(kernel(body), TARGET)
    assert "x: array<f32>" in shader
    assert "out: array<vec4f>" in shader
    assert "vec4f(x[i1], x[i1 + 1], x[i1 + 2], x[i1 + 3])" in shader


def test_a_value_used_twice_is_computed_once() -> None:
    root = ir.unary("sqrt", x())
    assert body_of(kernel([Store("out", TASK, ir.mul(root, root))])) == [
        "let t1 = sqrt(x[task]);",
        "out[task] = t1 * t1;",
    ]


def test_a_splat_stays_a_scalar_in_arithmetic() -> None:
    body: list[ir.Stmt] = [
        Store(
            "out",
            TASK * 4,
            ir.fma(ir.splat(x(TASK)), ir.load("x", TASK, "f32", 4), ir.splat(ir.const(2, "f32"))),
        )
    ]
    assert "x[task] * vec4f(" in emit_shader(kernel(body), TARGET)
    assert ") + 2.0;" in emit_shader(kernel(body), TARGET)


def test_a_shuffle_and_pmax_have_short_forms() -> None:
    v = ir.load("x", TASK * 4, "f32", 4)
    lines = body_of(kernel([Store("out", TASK * 4, ir.binary("pmax", v, ir.shuffle(v, v, (1, 0, 7, 6))))]))
    assert lines[-2:] == [
        "let t2 = vec4f(t1.y, t1.x, t1.w, t1.z);",
        "out[task] = select(t1, t2, t1 < t2);",
    ]


def test_operators_are_parenthesised_as_the_grammar_wants() -> None:
    a, b = x(dtype="i32"), x(TASK + 1, "i32")
    shifted = ir.binary("shl", ir.add(a, b), ir.const(3, "i32"))
    masked = ir.binary("and", shifted, ir.binary("or", a, ir.const(-2, "i32")))
    lines = body_of(kernel([Store("out", TASK, ir.sub(a, ir.sub(b, masked)))], x="i32", out="i32"))
    assert lines[-1] == "out[task] = t1 - (t2 - (((t1 + t2) << 3u) & (t1 | -2)));"


@pytest.mark.parametrize("divisor", [16, 12])
def test_division_of_an_index_takes_the_cheapest_right_form(divisor: int) -> None:
    k = kernel([Store("out", floordiv(TASK, divisor) + mod(5 - TASK, divisor), x())])
    shader = emit_shader(k, TARGET)
    if divisor == 16:
        assert "task >> 4u" in shader
        assert "(i2 + 5) & 15" in shader
    else:
        assert "task / 12" in shader
        assert "i2 + 5 - floordiv(i2 + 5, 12) * 12" in shader


def test_infinity_and_nan_come_from_the_uniform() -> None:
    shader = emit_shader(
        kernel([Store("out", TASK, ir.binary("max", x(), ir.const(-np.inf, "f32")))]), TARGET
    )
    assert "struct Params { tasks: i32, infinity: f32 }" in shader
    assert "max(x[task], -params.infinity)" in shader
    shader = emit_shader(kernel([Store("out", TASK, ir.add(x(), ir.const(np.nan, "f32")))]), TARGET)
    assert "struct Params { tasks: i32, infinity: f32, nan: f32 }" in shader


@pytest.mark.parametrize("value", [0.1, 1.0, 1e-45, 3.4028234663852886e38, -2.5, 1e10, 16777217.0, np.pi])
def test_float_text_reads_back_as_the_same_float(value: float) -> None:
    text = float_text(value)
    assert np.float32(text) == np.float32(value)
    assert abs(float(text)) <= float(np.finfo(np.float32).max)
    assert "." in text or "e" in text


def test_a_barrier_synchronises_the_workgroup_and_shared_memory_is_declared() -> None:
    body: list[ir.Stmt] = [
        Store("tile", ir.LANE, x(TASK * 32 + ir.LANE)),
        Barrier(),
        Store("out", TASK * 32 + ir.LANE, ir.load("tile", -ir.LANE + 31, "f32")),
    ]
    buffers = [Buffer("x", "f32", "r"), Buffer("out", "f32", "w")]
    shader = emit_shader(Kernel("k", buffers, [], 4, body, 32, [("tile", "f32", 32)]), TARGET)
    assert "var<workgroup> tile: array<f32, 32>;" in shader
    assert "@workgroup_size(32)" in shader
    assert "let task = i32(group.y * groups.x + group.x);" in shader
    assert "  workgroupBarrier();\n" in shader


def test_scratch_memory_of_a_task_is_refused() -> None:
    with pytest.raises(VerificationError, match="memory for each task"):
        emit_shader(Kernel("k", [Buffer("out", "f32", "w")], [], 1, [], 1, [("s", "f32", 8)]), TARGET)


def test_double_precision_is_refused() -> None:
    with pytest.raises(UnsupportedError, match='kernel k computes in f64.*device "wasm"'):
        emit_shader(kernel([Store("out", TASK, ir.cast(ir.cast(x(), "f64"), "f32"))]), TARGET)


def test_an_integer_constant_past_32_bits_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="uses the integer 10000000000"):
        body: list[ir.Stmt] = [Store("out", TASK, ir.add(x(dtype="i64"), ir.const(10**10, "i64")))]
        emit_shader(kernel(body, x="i64", out="i64"), TARGET)


def test_more_buffers_than_the_device_binds_are_refused() -> None:
    buffers = [Buffer(f"b{i}", "f32", "r") for i in range(9)]
    with pytest.raises(UnsupportedError, match="reads and writes 9 buffers.*at most 8"):
        emit_shader(Kernel("k", buffers, [], 1, []), TARGET)


@pytest.mark.parametrize(
    "body",
    [
        [Barrier()],
        [Assign("nowhere", ir.const(1.0, "f32"))],
        [Store("out", var("nowhere"), ir.const(1.0, "f32"))],
        [For("i", 2, [For("i", 2, [])])],
        [Declare("i", ir.index(TASK)), Declare("i", ir.index(TASK + 1))],
        [Store("out", TASK, ir.unary("tan", ir.load("x", TASK, "f32")))],
    ],
    ids=["barrier", "local", "index", "nested loops", "variable twice", "intrinsic"],
)
def test_a_kernel_that_breaks_the_rules_of_the_ir_is_refused(body: list[ir.Stmt]) -> None:
    with pytest.raises(VerificationError, match="kernel k"):
        emit_shader(kernel(body), TARGET)
