"""The GPU device of the runtime, driven with small plans whose kernels the WGSL emitter writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit import ir
from nnjit.emit.wgsl import emit_shader
from nnjit.ir import TASK, Assign, Buffer, Declare, For, Kernel, Store
from nnjit.symbolic import floordiv, mod, to_json, var
from nnjit.target import Target
from nnjit_build.server import SiteServer

from .gpu_device import Gpu, GpuError, device_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TARGET = Target(device="webgpu")


@pytest.fixture(scope="module")
def module_page(browser: Browser, site: SiteServer) -> Iterator[Page]:
    with device_page(browser, site) as page:
        yield page


@pytest.fixture
def gpu(module_page: Page) -> Gpu:
    return Gpu(module_page)


# Plans


def kernel_json(kernel: Kernel) -> dict:
    return {
        "name": kernel.name,
        "wgsl": emit_shader(kernel, TARGET),
        "workgroup": kernel.workgroup,
        "buffers": [{"access": b.access} for b in kernel.buffers],
    }


def step(kernel: int, buffers: list, tasks: ir.Index, symbols: tuple[ir.Index, ...] = ()) -> dict:
    return {
        "kernel": kernel,
        "buffers": [[b, 0] for b in buffers],
        "symbols": [to_json(s) for s in symbols],
        "tasks": to_json(tasks),
        "flops": 0,
        "read": 0,
        "written": 0,
    }


def unit(label: str, steps: list[dict], init: list[dict] | None = None) -> dict:
    return {"task": None, "label": label, "node": label, "op": "map", "init": init or [], "steps": steps}


def buffer(id: str, kind: str, storage: str, elements: ir.Index, **more: Any) -> dict:
    return {"id": id, "kind": kind, "storage": storage, "elements": to_json(elements), **more}


def plan(**parts: Any) -> dict:
    base = {"format": 2, "generator": "test", "device": "webgpu", "symbols": [], "guards": [], "modules": []}
    return base | parts


def port(name: str, dtype: str, shape: list[ir.Index], buffer: str | None) -> dict:
    return {"name": name, "dtype": dtype, "shape": [to_json(d) for d in shape], "buffer": buffer}


def f32(value: float) -> ir.Expr:
    return ir.const(value, "f32")


def map_kernel(name: str, compute: Any, count: int = 1, out: str = "f32", dtype: str = "f32") -> Kernel:
    """out[task] = compute(x0[task], …) over the symbol `n`."""
    loads = [ir.load(f"x{i}", TASK, dtype) for i in range(count)]
    stored = TARGET.storage(dtype)
    buffers = [Buffer(f"x{i}", stored, "r") for i in range(count)] + [Buffer("out", TARGET.storage(out), "w")]
    return Kernel(name, buffers, ["n"], var("n"), [Store("out", TASK, compute(*loads))])


K, N = 6, 8


def matmul(transposed: bool, scale: float = 1.0, overrun: int = 0) -> Kernel:
    """c[m, n] = scale · Σ a[m, k] · b[k, n]; `transposed`: b is stored as [n, k]. `overrun` stores that many too many."""
    row, column, k = floordiv(TASK, N), mod(TASK, N), var("k")
    at = column * K + k if transposed else k * N + column
    product = ir.fma(ir.load("a", row * K + k, "f32"), ir.load("b", at, "f32"), ir.local("sum", "f32"))
    body = [
        Declare("sum", f32(0.0)),
        For("k", K, [Assign("sum", product)]),
        Store("c", TASK + overrun, ir.mul(ir.local("sum", "f32"), f32(scale))),
    ]
    buffers = [Buffer("a", "f32", "r"), Buffer("b", "f32", "r"), Buffer("c", "f32", "w")]
    return Kernel("matmul", buffers, ["m"], var("m") * N, body)


def transpose() -> Kernel:
    row, column = floordiv(TASK, N), mod(TASK, N)
    body = [Store("out", column * K + row, ir.load("x", TASK, "f32"))]
    return Kernel("transpose", [Buffer("x", "f32", "r"), Buffer("out", "f32", "w")], [], K * N, body)


WEIGHT = np.random.default_rng(0).standard_normal((K, N), dtype=np.float32)
M = var("m")
BATCH = [{"name": "m", "label": "batch", "from": ["dim", "x", 0]}]


def matmul_plan(storage: str = "f32", **source: Any) -> dict:
    """y = relu(x · W), W in the model file at byte 8."""
    return plan(
        symbols=BATCH,
        inputs=[port("x", "float32", [M, K], "x")],
        outputs=[port("y", "float32", [M, N], "y")],
        buffers=[
            buffer("x", "input", "f32", M * K),
            buffer("w", "weight", storage, K * N, key="W", source={"file": None, "offset": 8, "length": K * N * 4, "dtype": "f32"} | source),
            buffer("h", "temp", "f32", M * N),
            buffer("y", "output", "f32", M * N),
        ],
        kernels=[
            kernel_json(matmul(transposed=False)),
            kernel_json(map_kernel("relu", lambda x: ir.binary("max", x, f32(0.0)))),
        ],
        units=[
            unit("matmul", [step(0, ["x", "w", "h"], M * N, (M,))]),
            unit("relu", [step(1, ["h", "y"], M * N, (M * N,))]),
        ],
    )  # fmt: skip


FILE = b"notmodel" + WEIGHT.tobytes()


def candidate(kernel: Kernel) -> dict:
    """The matmul unit with a weight that an init step transposes."""
    return {
        "unit": unit(
            "matmul'", [step(0, ["x", "packed", "h"], M * N, (M,))], [step(1, ["w", "packed"], K * N)]
        ),
        "buffers": [buffer("packed", "persistent", "f32", K * N, key="W transposed")],
        "kernels": [kernel_json(kernel), kernel_json(transpose())],
        "blobs": [],
    }


def activations(m: int) -> np.ndarray:
    return np.random.default_rng(m).standard_normal((m, K), dtype=np.float32)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


# Inference


def test_a_plan_computes_for_every_size_of_its_symbols(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    for m in (3, 1, 100, 3, 0):
        x = activations(m)
        y = gpu.run(id, {"m": m}, x=x)["y"]
        assert y.shape == (m, N)
        np.testing.assert_allclose(y, relu(x @ WEIGHT), rtol=1e-5, atol=1e-5)


def test_the_facts_name_the_adapter_and_its_limits(gpu: Gpu) -> None:
    assert gpu.facts["device"] == "webgpu"
    assert gpu.facts["limits"]["maxStorageBufferBindingSize"] >= 128 << 20
    assert set(gpu.facts["adapter"]) >= {"vendor", "architecture", "description", "software"}


def test_temporary_buffers_are_reused(gpu: Gpu) -> None:
    count = 12
    ids = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    n = 1 << 16
    increment = map_kernel("increment", lambda x: ir.add(x, f32(1.0)))
    chain = plan(
        inputs=[port("x", "float32", [n], "x")],
        outputs=[port("y", "float32", [n], "y")],
        buffers=[buffer(i, "input" if i == "x" else "output" if i == "y" else "temp", "f32", n) for i in ids],
        kernels=[kernel_json(increment)],
        units=[unit(f"u{i}", [step(0, [ids[i], ids[i + 1]], n, (n,))]) for i in range(count)],
    )
    id = gpu.add(chain)
    x = np.arange(n, dtype=np.float32)
    np.testing.assert_array_equal(gpu.run(id, {}, x=x)["y"], x + count)
    assert gpu.call("stats")["arenaBytes"] <= 3 * (n * 4 + 256)


def test_integers_and_bools_keep_their_types(gpu: Gpu) -> None:
    n = var("n")
    twice = map_kernel("twice", lambda x: ir.add(x, x), out="i64", dtype="i64")
    odd = map_kernel(
        "odd",
        lambda x: ir.binary("eq", ir.binary("and", x, ir.const(1, "i64")), ir.const(1, "i64")),
        out="bool",
        dtype="i64",
    )
    swap = map_kernel("invert", lambda x: ir.unary("not", x), out="bool", dtype="bool")
    mixed = plan(
        symbols=[{"name": "n", "label": "n", "from": ["dim", "ids", 0]}],
        inputs=[port("ids", "int64", [n], "ids"), port("mask", "bool", [n], "mask")],
        outputs=[
            port("twice", "int64", [n], "t"),
            port("odd", "bool", [n], "o"),
            port("inverse", "bool", [n], "i"),
        ],
        buffers=[
            buffer("ids", "input", "i32", n),
            buffer("mask", "input", "u32", n),
            buffer("t", "output", "i32", n),
            buffer("o", "output", "u32", n),
            buffer("i", "output", "u32", n),
        ],
        kernels=[kernel_json(k) for k in (twice, odd, swap)],
        units=[
            unit("twice", [step(0, ["ids", "t"], n, (n,))]),
            unit("odd", [step(1, ["ids", "o"], n, (n,))]),
            unit("invert", [step(2, ["mask", "i"], n, (n,))]),
        ],
    )
    id = gpu.add(mixed)
    ids = np.array([1, -2, 3, 2**30, -7], np.int64)
    mask = np.array([1, 0, 0, 1, 1], bool)
    out = gpu.run(id, {"n": 5}, ids=ids, mask=mask)
    assert [a.dtype for a in out.values()] == [np.int64, np.bool_, np.bool_]
    np.testing.assert_array_equal(out["twice"], (ids * 2).astype(np.int32))
    np.testing.assert_array_equal(out["odd"], ids % 2 == 1)
    np.testing.assert_array_equal(out["inverse"], ~mask)
    with pytest.raises(GpuError, match='Input "ids".*4294967296') as caught:
        gpu.run(id, {"n": 1}, ids=np.array([2**32], np.int64), mask=mask[:1])
    assert caught.value.code == "input"


def test_weights_are_converted_to_what_the_gpu_stores(gpu: Gpu) -> None:
    doubles = WEIGHT.astype(np.float64)
    source = {"offset": 0, "length": doubles.nbytes, "dtype": "f64"}
    id = gpu.add(matmul_plan(**source), file=doubles.tobytes())
    x = activations(4)
    np.testing.assert_allclose(gpu.run(id, {"m": 4}, x=x)["y"], relu(x @ WEIGHT), rtol=1e-5, atol=1e-5)


def test_a_weight_that_the_gpu_cannot_store_is_refused_by_name(gpu: Gpu) -> None:
    longs = np.full(K * N, 2**40, np.int64)
    wrong = matmul_plan("i32", offset=0, length=longs.nbytes, dtype="i64")
    with pytest.raises(GpuError, match="The weight W ") as caught:
        gpu.add(wrong, file=longs.tobytes())
    assert caught.value.code == "unsupported"
    assert gpu.call("stats")["persistentBytes"] == 0


def test_plans_of_one_model_share_weights(gpu: Gpu) -> None:
    first = gpu.add(matmul_plan(), file=FILE)
    used = gpu.call("stats")["persistentBytes"]
    second = gpu.add(matmul_plan(), file=b"")
    assert gpu.call("stats")["persistentBytes"] == used == WEIGHT.nbytes
    x = activations(5)
    np.testing.assert_array_equal(gpu.run(first, {"m": 5}, x=x)["y"], gpu.run(second, {"m": 5}, x=x)["y"])


def test_a_weight_that_only_init_steps_read_does_not_stay(gpu: Gpu) -> None:
    packed = matmul_plan()
    change = candidate(matmul(transposed=True))
    packed["kernels"] += change["kernels"]
    packed["buffers"] += change["buffers"]
    packed["units"][0] = unit(
        "matmul", [step(2, ["x", "packed", "h"], M * N, (M,))], [step(3, ["w", "packed"], K * N)]
    )
    id = gpu.add(packed, file=FILE)
    assert gpu.call("stats")["persistentBytes"] == WEIGHT.nbytes
    x = activations(7)
    np.testing.assert_allclose(gpu.run(id, {"m": 7}, x=x)["y"], relu(x @ WEIGHT), rtol=1e-5, atol=1e-5)


def test_a_constant_comes_from_the_plan(gpu: Gpu) -> None:
    n = 4
    add = map_kernel("add", ir.add, count=2)
    bias = np.arange(n, dtype=np.float32)
    biased = plan(
        inputs=[port("x", "float32", [n], "x")],
        outputs=[port("y", "float32", [n], "y"), port("b", "float32", [n], "b")],
        buffers=[
            buffer("x", "input", "f32", n),
            buffer("b", "const", "f32", n, blob=0),
            buffer("y", "output", "f32", n),
        ],
        kernels=[kernel_json(add)],
        units=[unit("add", [step(0, ["x", "b", "y"], n, (n,))])],
    )
    id = gpu.add(biased, [bias.tobytes()])
    out = gpu.run(id, {}, x=np.ones(n, np.float32))
    np.testing.assert_array_equal(out["y"], bias + 1)
    np.testing.assert_array_equal(out["b"], bias)


# What goes wrong


def test_a_shader_that_does_not_compile_is_reported_with_its_name(gpu: Gpu) -> None:
    broken = matmul_plan()
    broken["kernels"][0]["wgsl"] = broken["kernels"][0]["wgsl"].replace("fn main", "fn main oops")
    with pytest.raises(GpuError, match="kernel matmul: line") as caught:
        gpu.add(broken, file=FILE)
    assert caught.value.code == "internal"
    x = activations(2)
    np.testing.assert_allclose(
        gpu.run(gpu.add(matmul_plan(), file=FILE), {"m": 2}, x=x)["y"], relu(x @ WEIGHT), rtol=1e-5, atol=1e-5
    )


def test_a_tensor_too_large_for_a_binding_is_an_out_of_memory_error_with_sizes(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    with pytest.raises(GpuError, match="MB in one GPU buffer") as caught:
        gpu.run(id, {"m": 1 << 28}, x=activations(2))
    assert caught.value.code == "out-of-memory"
    x = activations(2)
    np.testing.assert_allclose(gpu.run(id, {"m": 2}, x=x)["y"], relu(x @ WEIGHT), rtol=1e-5, atol=1e-5)


def test_a_lost_device_rejects_calls_and_a_new_one_works(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    gpu.page.evaluate("window.device.context.device.destroy()")
    for _ in range(2):
        with pytest.raises(GpuError, match="device was lost") as caught:
            gpu.run(id, {"m": 2}, x=activations(2))
        assert caught.value.code == "device"
    with pytest.raises(GpuError, match="device was lost"):
        gpu.add(matmul_plan(), file=FILE)
    gpu.call("open")
    x = activations(2)
    y = gpu.run(gpu.add(matmul_plan(), file=FILE), {"m": 2}, x=x)["y"]
    np.testing.assert_allclose(y, relu(x @ WEIGHT), rtol=1e-5, atol=1e-5)


def test_losing_the_device_rejects_the_inference_under_way(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    result = gpu.page.evaluate(
        """async ([id, k]) => {
          const inputs = { x: { data: new Float32Array(k * 4), dims: [4, k], type: "float32" } };
          const pending = window.device.run({ plan: id, environment: { m: 4 }, inputs });
          const settled = pending.then(() => "ran", (error) => error.code);
          window.device.context.device.destroy();
          return await settled;
        }""",
        [id, K],
    )
    assert result == "device"


def test_without_webgpu_opening_the_device_says_so(page: Page, site: SiteServer) -> None:
    page.goto(site.publish("page.html", b"<!doctype html><title>x</title>"))
    message = page.evaluate(
        """async () => {
          Object.defineProperty(navigator, "gpu", { value: undefined });
          const { WebGpuDevice } = await import("/runtime/webgpu-device.js");
          return WebGpuDevice.open().then(() => "", (error) => `${error.code}: ${error.message}`);
        }"""
    )
    assert message.startswith("device: This browser offers no WebGPU")


# Tuning


def measure(gpu: Gpu, id: int, candidates: list[dict], samples: int = 2) -> dict:
    return gpu.call(
        "measure", {"plan": id, "unit": 0, "candidates": candidates, "samples": samples, "tolerance": 1e-5}
    )


def test_candidates_are_checked_and_timed(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    gpu.run(id, {"m": 50}, x=activations(50))
    broken = candidate(matmul(transposed=True))
    broken["kernels"][0]["wgsl"] += "oops"
    found = measure(
        gpu,
        id,
        [
            candidate(matmul(transposed=True)),
            candidate(matmul(transposed=True, scale=1.01)),
            candidate(matmul(transposed=False)),
            candidate(matmul(transposed=True, overrun=5)),
            broken,
        ],
    )
    assert [r["status"] for r in found["results"]] == [
        "ok",
        "wrong",
        "wrong",
        "out-of-bounds",
        "compile-error",
    ]
    good, wrong = found["results"][:2]
    assert found["incumbentMs"] > 0
    assert 1 <= len(good["ms"]) <= 2
    assert all(ms > 0 for ms in good["ms"])
    assert good["maxError"] <= 1e-6
    assert 5e-3 < wrong["maxError"] < 2e-2


def test_measuring_leaves_nothing_behind(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    gpu.run(id, {"m": 50}, x=activations(50))
    before = gpu.page.evaluate("window.device.context.bytes")
    measure(gpu, id, [candidate(matmul(transposed=True)), candidate(matmul(transposed=True, overrun=5))])
    assert gpu.page.evaluate("window.device.context.bytes") == before
    assert gpu.call("stats")["persistentBytes"] == WEIGHT.nbytes


def test_inferences_are_served_while_candidates_are_measured(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    x = activations(9)
    expected = gpu.run(id, {"m": 9}, x=x)["y"]
    gpu.page.evaluate(
        """([id, x, m]) => {
          window.served = [];
          window.interrupt = async () => {
            // Another size each time: the pool's buffers are replaced while the measurement goes on.
            const rows = m + window.served.length * 40;
            const data = new Float32Array(rows * (x.length / m));
            data.set(x);
            const inputs = { x: { data, dims: [rows, x.length / m], type: "float32" } };
            const { y } = await window.device.run({ plan: id, environment: { m: rows }, inputs });
            window.served.push([...y.data.slice(0, m * 8)]);
          };
        }""",
        [id, x.ravel().tolist(), 9],
    )
    try:
        found = measure(gpu, id, [candidate(matmul(transposed=True)), candidate(matmul(transposed=True))])
    finally:
        gpu.page.evaluate("delete window.interrupt")
    assert [r["status"] for r in found["results"]] == ["ok", "ok"]
    served = gpu.page.evaluate("window.served")
    assert len(served) >= 3
    for y in served:
        np.testing.assert_allclose(np.array(y).reshape(9, N), expected, rtol=1e-6)


def test_a_candidate_can_take_the_place_of_its_unit(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    x = activations(11)
    before = gpu.run(id, {"m": 11}, x=x)["y"]
    gpu.call("swap", id, 0, candidate(matmul(transposed=True)))
    np.testing.assert_allclose(gpu.run(id, {"m": 11}, x=x)["y"], before, rtol=1e-5, atol=1e-6)
    assert gpu.call("stats")["persistentBytes"] == WEIGHT.nbytes
    # And back again: the weight in its first layout is read from the file once more.
    back = {
        "unit": matmul_plan()["units"][0],
        "buffers": [],
        "kernels": [kernel_json(matmul(False))],
        "blobs": [],
    }
    gpu.call("swap", id, 0, back)
    np.testing.assert_array_equal(gpu.run(id, {"m": 11}, x=x)["y"], before)


def test_a_swap_that_fails_leaves_the_plan_as_it_was(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    x = activations(3)
    before = gpu.run(id, {"m": 3}, x=x)["y"]
    bad = candidate(matmul(transposed=True))
    bad["buffers"][0]["elements"] = 1 << 40
    with pytest.raises(GpuError) as caught:
        gpu.call("swap", id, 0, bad)
    assert caught.value.code == "out-of-memory"
    np.testing.assert_array_equal(gpu.run(id, {"m": 3}, x=x)["y"], before)


def test_a_profile_gives_a_time_to_every_unit(gpu: Gpu) -> None:
    id = gpu.add(matmul_plan(), file=FILE)
    gpu.run(id, {"m": 4000}, x=activations(4000))
    found = gpu.call("profile", id, 2)
    assert [entry["unit"] for entry in found] == [0, 1]
    assert all(entry["ms"] > 0 for entry in found)
