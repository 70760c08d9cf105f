"""Losing the GPU device: the next call gets another one with the model as it was; what a candidate does is remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nnjit_build.server import SiteServer

from .gpu_device import Gpu, GpuError, device_page
from .test_webgpu_device import FILE, WEIGHT, activations, candidate, matmul, matmul_plan, relu

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

JOURNAL = "a device"

# Whatever dispatches a kernel of this name takes the device, or the page, with it.
PLANT = """() => {
  const deadly = new WeakSet();
  const { setPipeline } = GPUComputePassEncoder.prototype;
  const { submit } = GPUQueue.prototype;
  let armed = null;
  GPUComputePassEncoder.prototype.setPipeline = function (pipeline) {
    if (["lose the device", "crash", "hang"].includes(pipeline.label)) armed = pipeline.label;
    return setPipeline.call(this, pipeline);
  };
  GPUQueue.prototype.submit = function (commands) {
    submit.call(this, commands);
    if (armed === "lose the device") window.device.device.context.device.destroy();
    if (armed === "crash") {
      // From here on nothing of the page reaches the store.
      IDBObjectStore.prototype.delete = () => { throw new Error("the page is gone"); };
      location.reload();
    }
    if (armed === "hang") hung = true;
    armed = null;
  };
  // What a shader that never ends looks like: nothing comes back any more, until there is another device.
  const { mapAsync } = GPUBuffer.prototype;
  const { requestDevice } = GPUAdapter.prototype;
  let hung = false;
  GPUBuffer.prototype.mapAsync = function (...args) {
    return hung ? new Promise(() => {}) : mapAsync.apply(this, args);
  };
  GPUAdapter.prototype.requestDevice = function (...args) {
    hung = false;
    return requestDevice.apply(this, args);
  };
}"""


@pytest.fixture(scope="module")
def module_page(browser: Browser, site: SiteServer) -> Iterator[Page]:
    with device_page(browser, site) as page:
        page.evaluate(PLANT)
        yield page


@pytest.fixture
def gpu(module_page: Page) -> Gpu:
    return Gpu(module_page, lasting=True)


def lose(gpu: Gpu) -> None:
    gpu.page.evaluate("window.device.device.context.device.destroy()")


def check_runs(gpu: Gpu, plan: int, rows: int = 5) -> None:
    x = activations(rows)
    np.testing.assert_allclose(gpu.run(plan, {"m": rows}, x=x)["y"], relu(x @ WEIGHT), rtol=1e-5, atol=1e-5)


def planted(name: str) -> dict:
    """A right candidate whose kernel has a name that `PLANT` knows."""
    made = candidate(matmul(transposed=True))
    kernel = made["kernels"][0]
    # Of equal texts only the first is compiled.
    made["kernels"][0] = {**kernel, "name": name, "wgsl": f"{kernel['wgsl']}// {name}\n"}
    made["unit"] |= {"task": "the task", "schedule": name}
    return made


def measure(gpu: Gpu, plan: int, candidates: list[dict]) -> list[dict]:
    request = {"plan": plan, "unit": 0, "candidates": candidates, "samples": 2, "tolerance": 1e-5}
    return gpu.call("measure", {**request, "journal": JOURNAL})["results"]


def marks(page: Page) -> list[str]:
    """Candidates that must not be tried again."""
    text = page.evaluate(
        "async (key) => (await import('/runtime/kernel-store.js')).read('fatal', key)", JOURNAL
    )
    return [key[2] for key, _ in json.loads(text)]


def test_a_device_that_is_lost_between_two_inferences_is_replaced(gpu: Gpu) -> None:
    plans = [gpu.add(matmul_plan(), file=FILE) for _ in range(2)]
    gpu.call("swap", plans[0], 0, planted("swapped in"))
    for plan in plans:
        lose(gpu)
        check_runs(gpu, plan)
    assert gpu.call("stats")["recoveries"] == 2
    assert gpu.call("stats")["plans"] == 2
    assert gpu.page.evaluate("(id) => window.device.device.loaded(id).plan.units[0].schedule", plans[0]) == (
        "swapped in"
    )


def test_an_inference_under_way_is_repeated_on_another_device(gpu: Gpu) -> None:
    plan = gpu.add(matmul_plan(), file=FILE)
    x = activations(4)
    y = gpu.page.evaluate(
        """async ([id, x]) => {
          const inputs = { x: { data: Float32Array.from(x), dims: [4, x.length / 4], type: "float32" } };
          const pending = window.device.run({ plan: id, environment: { m: 4 }, inputs });
          window.device.device.context.device.destroy();
          return [...(await pending).y.data];
        }""",
        [plan, x.ravel().tolist()],
    )
    np.testing.assert_allclose(np.array(y).reshape(4, -1), relu(x @ WEIGHT), rtol=1e-5, atol=1e-5)


def test_a_plan_is_added_though_the_device_was_lost(gpu: Gpu) -> None:
    gpu.add(matmul_plan(), file=FILE)
    lose(gpu)
    check_runs(gpu, gpu.add(matmul_plan(), file=FILE))


def test_where_no_other_device_can_be_had_the_loss_is_the_error_and_it_is_tried_again(gpu: Gpu) -> None:
    plan = gpu.add(matmul_plan(), file=FILE)
    lose(gpu)
    gpu.page.evaluate("""() => {
      window.requestAdapter = GPU.prototype.requestAdapter;
      GPU.prototype.requestAdapter = async () => null;
    }""")
    try:
        with pytest.raises(GpuError, match="device was lost .* Load the model again") as caught:
            check_runs(gpu, plan)
        assert caught.value.code == "device"
    finally:
        gpu.page.evaluate("() => { GPU.prototype.requestAdapter = window.requestAdapter; }")
    check_runs(gpu, plan)


def test_a_disposed_device_is_not_opened_again(gpu: Gpu) -> None:
    plan = gpu.add(matmul_plan(), file=FILE)
    lose(gpu)
    gpu.page.evaluate("window.device.dispose()")
    with pytest.raises(GpuError):
        check_runs(gpu, plan)


def test_a_candidate_that_loses_the_device_is_marked_and_the_model_goes_on(gpu: Gpu) -> None:
    plan = gpu.add(matmul_plan(), file=FILE)
    check_runs(gpu, plan)
    found = measure(gpu, plan, [planted("good"), planted("lose the device"), planted("too late")])
    assert [r["status"] for r in found] == ["ok", "lost", "error"]
    assert "device was lost" in found[1]["message"]
    assert "the task lose the device" in marks(gpu.page)
    check_runs(gpu, plan)
    assert [r["status"] for r in measure(gpu, plan, [planted("too late")])] == ["ok"]
    assert marks(gpu.page) == ["the task lose the device"]


def test_inferences_while_the_device_is_lost_to_a_candidate_are_right(gpu: Gpu) -> None:
    plan = gpu.add(matmul_plan(), file=FILE)
    x = activations(9)
    expected = gpu.run(plan, {"m": 9}, x=x)["y"]
    gpu.page.evaluate(
        """([id, x]) => {
          window.served = [];
          window.interrupt = async () => {
            const inputs = { x: { data: Float32Array.from(x), dims: [9, x.length / 9], type: "float32" } };
            window.served.push([...(await window.device.run({ plan: id, environment: { m: 9 }, inputs })).y.data]);
          };
        }""",
        [plan, x.ravel().tolist()],
    )
    try:
        found = measure(gpu, plan, [planted("lose the device"), planted("good"), planted("good")])
    finally:
        gpu.page.evaluate("delete window.interrupt")
    assert found[0]["status"] == "lost"
    served = gpu.page.evaluate("window.served")
    assert len(served) >= 2
    for y in served:
        np.testing.assert_allclose(np.array(y).reshape(expected.shape), expected, rtol=1e-6)


def test_a_candidate_that_takes_the_page_with_it_is_marked(browser: Browser, site: SiteServer) -> None:
    with device_page(browser, site) as page:
        page.evaluate(PLANT)
        gpu = Gpu(page, lasting=True)
        plan = gpu.add(matmul_plan(), file=FILE)
        check_runs(gpu, plan)
        request = {"plan": plan, "unit": 0, "samples": 2, "tolerance": 1e-5, "journal": JOURNAL}
        request["candidates"] = [planted("good"), planted("crash")]
        with page.expect_navigation():
            page.evaluate("(request) => void window.gpu.measure(request)", request)
        page.wait_for_function("window.loaded")
        assert marks(page) == ["the task crash"]


def test_a_shader_that_does_not_end_is_given_up(gpu: Gpu) -> None:
    plan = gpu.add(matmul_plan(), file=FILE)
    check_runs(gpu, plan)
    found = measure(gpu, plan, [planted("hang")])
    assert found[0]["status"] == "endless"
    assert "did not end within" in found[0]["message"]
    assert "the task hang" in marks(gpu.page)
    check_runs(gpu, plan)
