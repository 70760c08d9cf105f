"""The shape of emitted code: what is in a loop, what is hoisted out of it, and how it reads as text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from unit.kernels import buffers, gemm
from unit.wasm_engine import PLAIN, RELAXED

from nnjit import ir
from nnjit.emit.wasm import emit_module
from nnjit.emit.wat import disassemble
from nnjit.errors import VerificationError
from nnjit.ir import Buffer, Kernel
from nnjit.symbolic import floordiv, mod, var
from nnjit.target import Target


def text_of(kernel: Kernel, target: Target = RELAXED) -> str:
    return disassemble(emit_module([kernel], target, names=True))


def loops(kernel: Kernel, target: Target = RELAXED) -> list[list[str]]:
    """Instructions of each loop body, in order of their ends: the innermost first."""
    found: list[list[str]] = []
    open_blocks: list[list[str] | None] = []
    for line in text_of(kernel, target).splitlines():
        line = line.strip()
        if line in ("loop", "if", "block"):
            open_blocks.append([] if line == "loop" else None)
        elif line == "end":
            body = open_blocks.pop()
            if body is not None:
                found.append(body)
        else:
            for body in open_blocks:
                if body is not None:
                    body.append(line)
    return found


def opcodes(body: list[str]) -> Counter[str]:
    """Counts of what is not a mere move between stack and locals."""
    moves = ("local.get", "local.set", "local.tee", "i32.const")
    return Counter(line.split()[0] for line in body if line.split()[0] not in moves)


def copy(source, target, **loops_: object) -> Kernel:  # type: ignore[no-untyped-def]
    """y[target] = x[source] in a nest of loops, the first outermost."""
    body: list[ir.Stmt] = [ir.Store("y", target, ir.load("x", source, "f32"))]
    for name, extent in reversed(loops_.items()):
        body = [ir.For(name, extent, body)]  # type: ignore[arg-type]
    symbols = sorted({a for e in loops_.values() if not isinstance(e, int) for m in e.terms for a in m})  # type: ignore[attr-defined]
    return Kernel("f", buffers(x="f32 r", y="f32 w"), symbols, 1, body)


GEMM_LOOP = {
    "v128.load": 2,
    "v128.load32_splat": 6,
    "f32x4.relaxed_madd": 12,
    "i32.add": 2,
    "i32.ne": 1,
    "br_if": 1,
}


def test_inner_loop_of_a_gemm_has_nothing_but_its_work() -> None:
    assert opcodes(loops(gemm(48, 64, 96))[0]) == GEMM_LOOP


def test_without_relaxed_simd_it_multiplies_and_adds() -> None:
    expected = {k: v for k, v in GEMM_LOOP.items() if k != "f32x4.relaxed_madd"}
    assert opcodes(loops(gemm(48, 64, 96), PLAIN)[0]) == expected | {"f32x4.mul": 12, "f32x4.add": 12}


def test_where_splat_loads_are_slow_a_load_and_a_splat_take_their_place() -> None:
    expected = {k: v for k, v in GEMM_LOOP.items() if k != "v128.load32_splat"}
    code = opcodes(loops(gemm(48, 64, 96), replace(RELAXED, splat_loads=False))[0])
    assert code == expected | {"f32.load": 6, "f32x4.splat": 6}


def test_rows_at_a_symbolic_distance_have_a_pointer_each() -> None:
    assert opcodes(loops(gemm(48, 64, var("depth")))[0]) == GEMM_LOOP | {"i32.add": 7}


def test_division_of_the_task_number_is_done_once_a_task() -> None:
    text = text_of(gemm(48, 64, 96))
    assert (text.count("i32.div_u"), text.count("i32.rem_u")) == (1, 1)


def test_neighbouring_elements_differ_in_the_offset_only() -> None:
    i = var("i")
    total = ir.add(ir.load("x", i * 8 + 1, "f32"), ir.load("x", i * 8 + 7, "f32"))
    kernel = Kernel("f", buffers(x="f32 r", y="f32 w"), [], 1, [ir.For("i", 5, [ir.Store("y", i, total)])])
    text = "\n".join(loops(kernel)[0])
    assert "f32.load offset=4 align=4" in text and "f32.load offset=28 align=4" in text
    assert opcodes(loops(kernel)[0])["i32.add"] == 2


def test_a_negative_constant_is_in_the_pointer_and_not_in_the_offset() -> None:
    i = var("i")
    total = ir.add(ir.load("x", i - 3, "f32"), ir.load("x", i + 2, "f32"))
    kernel = Kernel("f", buffers(x="f32 r", y="f32 w"), [], 1, [ir.For("i", 5, [ir.Store("y", i, total)])])
    text = "\n".join(loops(kernel)[0])
    assert "f32.load offset=0 align=4" in text and "f32.load offset=20 align=4" in text


def test_an_invariant_store_has_a_fixed_address() -> None:
    kernel = copy(var("i"), var("j") + 3, j=4, i=5)
    assert opcodes(loops(kernel)[0]) == {"f32.load": 1, "f32.store": 1, "i32.add": 1, "i32.ne": 1, "br_if": 1}


def test_an_invariant_value_is_computed_before_an_innermost_loop() -> None:
    x = ir.load("x", var("j"), "f32")
    scale = ir.div(ir.const(1.0, "f32"), ir.add(ir.load("x", 0, "f32"), x))
    store = ir.Store("y", var("i"), ir.mul(ir.load("x", var("i"), "f32"), scale))
    nest = ir.For("j", 4, [ir.For("i", 5, [store])])
    inner = opcodes(loops(Kernel("f", buffers(x="f32 r", y="f32 w"), [], 1, [nest]))[0])
    assert inner["f32.div"] == inner["f32.add"] == 0 and inner["f32.load"] == inner["f32.mul"] == 1


def test_an_invariant_value_that_uses_another_one_twice_does_not_double_the_code() -> None:
    value = ir.load("x", 0, "f32")
    for _ in range(40):
        value = ir.mul(ir.add(value, value), value)
    body = [ir.For("i", 8, [ir.Store("y", var("i"), value)])]
    text = text_of(Kernel("f", buffers(x="f32 r", y="f32 w"), [], 1, body))
    assert text.count("f32.mul") == 40


def test_a_value_that_is_loaded_from_a_written_buffer_stays_in_its_loop() -> None:
    store = ir.Store("y", var("i"), ir.add(ir.load("y", 0, "f32"), ir.const(1.0, "f32")))
    kernel = Kernel("f", buffers(y="f32 rw"), [], 1, [ir.For("i", 5, [store])])
    assert opcodes(loops(kernel)[0])["f32.load"] == 1


def test_symbolic_strides_are_multiplied_outside_the_loop() -> None:
    rows, columns = var("rows"), var("columns")
    kernel = copy(var("i") * columns + var("j"), var("j") * rows + var("i"), i=rows, j=columns)
    inner = opcodes(loops(kernel)[0])
    assert inner["i32.mul"] == inner["i32.shl"] == 0 and inner["i32.add"] == 2


def test_a_gathered_row_is_looked_up_once() -> None:
    row = ir.value_index(ir.load("ids", ir.TASK, "i64"))
    body = [
        ir.For("j", 64, [ir.Store("y", ir.TASK * 64 + var("j"), ir.load("x", row * 64 + var("j"), "f32"))])
    ]
    kernel = Kernel("f", buffers(ids="i64 r", x="f32 r", y="f32 w"), [], 8, body)
    inner = opcodes(loops(kernel)[0])
    assert inner["i64.load"] == 0 and inner["i32.mul"] == 0


def test_a_load_that_a_condition_guards_stays_under_it() -> None:
    row = ir.value_index(ir.load("ids", ir.TASK, "i32"))
    guarded = ir.If(
        ir.binary("lt", ir.index(ir.TASK), ir.const(3, "i32")),
        [ir.For("j", 4, [ir.Store("y", var("j"), ir.load("x", row + var("j"), "f32"))])],
        [],
    )
    lines = text_of(Kernel("f", buffers(ids="i32 r", x="f32 r", y="f32 w"), [], 8, [guarded])).splitlines()
    stripped = [line.strip() for line in lines]
    assert stripped.index("i32.lt_s", stripped.index("loop")) < stripped.index("i32.load offset=0 align=4")


def test_a_loop_without_addresses_counts_down() -> None:
    body: list[ir.Stmt] = [
        ir.Declare("t", ir.const(1.0, "f32")),
        ir.For("i", 9, [ir.Assign("t", ir.add(ir.local("t", "f32"), ir.local("t", "f32")))]),
        ir.Store("y", 0, ir.local("t", "f32")),
    ]
    kernel = Kernel("f", buffers(y="f32 w"), [], 1, body)
    assert opcodes(loops(kernel)[0]) == {"f32.add": 1, "i32.sub": 1, "br_if": 1}


def test_only_loops_that_may_run_zero_times_are_guarded() -> None:
    assert text_of(copy(var("i"), var("i"), i=5)).count("if\n") == 1  # lo < hi
    assert text_of(copy(var("i"), var("i"), i=var("n"))).count("if\n") == 2


def test_a_loop_of_one_iteration_is_no_loop() -> None:
    assert len(loops(copy(var("i"), var("i"), i=1))) == 1


def test_a_value_used_twice_is_computed_once() -> None:
    x = ir.load("x", ir.TASK, "f32")
    root = ir.unary("sqrt", ir.add(x, ir.const(1.0, "f32")))
    kernel = Kernel(
        "f", buffers(x="f32 r", y="f32 w"), [], 4, [ir.Store("y", ir.TASK, ir.mul(root, ir.add(root, x)))]
    )
    counts = opcodes(loops(kernel)[0])
    assert counts["f32.sqrt"] == 1 and counts["f32.load"] == 1


def test_a_constant_divisor_needs_no_guard() -> None:
    kernel = copy(floordiv(var("i"), 3) + mod(var("i"), 3), var("i"), i=8)
    assert "i32.eqz" not in text_of(kernel)


def test_the_same_kernels_give_the_same_bytes() -> None:
    first, second = (emit_module([gemm(48, 64, 96), copy(0, 0)], RELAXED) for _ in range(2))
    assert first == second


def test_names_are_written_on_request_only() -> None:
    plain, named = (emit_module([gemm(48, 64, 96)], RELAXED, names) for names in (False, True))
    assert "$acc0_0" not in disassemble(plain) and "$acc0_0" in disassemble(named)
    assert len(plain) < 1000


def test_a_shared_memory_is_imported_with_its_maximum() -> None:
    kernel = copy(0, 0)
    shared = disassemble(emit_module([kernel], Target(shared_memory=True, max_pages=4096)))
    assert '(import "env" "memory" (memory 0 4096 shared))' in shared
    assert '(import "env" "memory" (memory 0))' in disassemble(emit_module([kernel], PLAIN))


def test_every_kernel_of_a_module_is_exported() -> None:
    first, second = copy(0, 0), gemm(48, 64, var("depth"))
    first.name = "k0"
    text = disassemble(emit_module([first, second], RELAXED))
    assert '(export "k0")' in text and '(export "gemm")' in text


def test_the_text_of_one_kernel_leaves_the_others_out() -> None:
    first, second = copy(0, 0), gemm(48, 64, var("depth"))
    first.name = "k0"
    text = disassemble(emit_module([first, second], RELAXED), only="gemm")
    assert '(export "k0")' not in text and '(export "gemm")' in text


def test_text_shows_constants_and_lanes() -> None:
    lanes = ir.pack(tuple(ir.extract(ir.load("x", 0, "f32", 4), n) for n in (1, 0, 3, 2)))  # type: ignore[arg-type]
    value = ir.add(lanes, ir.const(0.5, "f32"))
    text = text_of(Kernel("f", buffers(x="f32 r", y="f32 w"), [], 1, [ir.Store("y", 0, value)]))
    assert "f32x4.extract_lane 3" in text and "f32x4.replace_lane 1" in text
    assert "v128.const i32x4 0x3f000000 0x3f000000 0x3f000000 0x3f000000" in text


def test_bytes_that_are_no_module_are_refused() -> None:
    with pytest.raises(VerificationError, match="WebAssembly module"):
        disassemble(b"PK\x03\x04 not a module")


def test_workgroups_are_refused() -> None:
    kernel = Kernel("f", [Buffer("y", "f32", "w")], [], 1, [ir.Barrier()], workgroup=64)
    with pytest.raises(VerificationError, match="workgroup"):
        emit_module([kernel], PLAIN)


def test_constants_of_an_innermost_loop_are_set_before_it() -> None:
    value = ir.mul(ir.load("x", ir.TASK * 4, "f32", 4), ir.const(0.3, "f32"))
    text = text_of(Kernel("f", buffers(x="f32 r", y="f32 w"), [], 4, [ir.Store("y", ir.TASK * 4, value)]))
    assert text.index("v128.const") < text.index("loop")


def test_lanes_a_constant_apart_are_one_addition() -> None:
    lanes = ir.pack(tuple(ir.index(ir.TASK * 4 + n) for n in (1, 2, 3, 4)))  # type: ignore[arg-type]
    kernel = Kernel("f", buffers(y="i32 w"), [], 4, [ir.Store("y", ir.TASK * 4, lanes)])
    counts = opcodes(loops(kernel)[0])
    assert counts["i32x4.splat"] == counts["i32x4.add"] == 1 and counts["i32x4.replace_lane"] == 0


def test_zero_vectors_are_made_where_they_are_used() -> None:
    text = text_of(gemm(48, 64, 96))
    assert text.count("v128.const i32x4 0x0 0x0 0x0 0x0\n") == 12
