"""A later visit begins with the plan that an earlier one kept, before Python is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import numpy_helper

from . import small_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from playwright.sync_api import Browser, BrowserContext, Page, Route

    from nnjit_build.server import SiteServer

VISIT = """async ([root, url, rows]) => {
  const { load, prepare } = await import(root + "/runtime/nnjit.js");
  globalThis.pythonIsThere = false;
  prepare().then(() => (globalThis.pythonIsThere = true));
  const model = (globalThis.model = await load(url, { tune: "off", device: "wasm", threads: 1 }));
  const run = (globalThis.run = async (rows) => {
    const x = { data: Float32Array.from({ length: rows * 64 }, (_, i) => Math.sin(i)), dims: [rows, 64], type: "float32" };
    const [y] = Object.values(await model.run({ x }));
    return Array.from(y.data);
  });
  const result = await run(rows);
  return { result, pythonIsThere, inputs: model.inputs.map(({ name }) => name) };
}"""

WITHIN_A_MINUTE = """(visited) => Promise.race([
  (%s)(visited),
  new Promise((_, reject) => setTimeout(reject, 60_000, new Error("no output within a minute"))),
])"""

KEPT = """async (root) => {
  const { read } = await import(root + "/runtime/kernel-store.js");
  for (let i = 0; i < 200; i++) {
    const found = JSON.parse(await read("plan"));
    if (found.length) return found.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return 0;
}"""


SLOW = """async ([root, rows]) => {
  // As if an earlier visit had found plain loops to be best.
  const { read, write } = await import(root + "/runtime/kernel-store.js");
  await model.tune({ seconds: 0 });
  let found = [];
  while (!found.length) found = JSON.parse(await read("device"));
  const [[[, device]]] = found;
  const { tasks } = await model.report();
  const record = JSON.stringify({ schedule: "plain", ms: 1, default: 1, tried: [] });
  await write(JSON.stringify(tasks.map(({ key }) => [["tuned", device, key], record])));
}"""

TUNE_AND_LEAVE = """async (rows) => {
  let latest = "";
  model.on("tune", ({ status }) => (latest = status));
  await model.resumeTuning();
  while (latest !== "swapped") {
    if (latest === "done") throw new Error("nothing is faster than plain loops");
    await run(rows);
  }
  await model.pauseTuning();
  Object.defineProperty(document, "visibilityState", { value: "hidden" });
  document.dispatchEvent(new Event("visibilitychange"));
}"""

SCHEDULES = """async (root) => {
  const { read } = await import(root + "/runtime/kernel-store.js");
  const [[, text]] = JSON.parse(await read("plan"));
  return JSON.parse(JSON.parse(text).json).units.filter(({ steps }) => steps.length).map(({ schedule }) => schedule);
}"""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context()
    made.set_default_timeout(120_000)
    yield made
    made.close()


def visit(context: BrowserContext, site: SiteServer, url: str, rows: int) -> tuple[Page, dict[str, Any]]:
    page = context.new_page()
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    return page, page.evaluate(WITHIN_A_MINUTE % VISIT, [site.url, url, rows])


def expected(model: onnx.ModelProto, rows: int) -> np.ndarray:
    x = np.sin(np.arange(rows * 64)).astype(np.float32).reshape(rows, 64)
    (y,) = small_models.reference(model, {"x": x}).values()
    return np.ravel(y)


def close(result: list[float], model: onnx.ModelProto, rows: int) -> bool:
    wanted = expected(model, rows)
    return bool(np.abs(np.array(result) - wanted).max() <= 1e-4 * np.abs(wanted).max())


BLOCK = """
{
  const held = new XMLHttpRequest();
  held.open("GET", new URL("held", import.meta.url), false);
  held.send();
}
"""
"""Blocks the thread that starts Python, as starting it does, for as long as the answer is held back."""


def test_the_second_visit_infers_while_starting_python_blocks_its_thread(
    context: BrowserContext, site: SiteServer
) -> None:
    model = small_models.perceptron()
    url = site.publish("kept.onnx", model.SerializeToString())
    page, first = visit(context, site, url, 5)
    assert first["pythonIsThere"]
    assert close(first["result"], model, 5)
    assert page.evaluate(KEPT, site.url) == 1
    page.close()

    def block(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=BLOCK + response.text())

    held: list[Route] = []
    context.route("**/pyodide/pyodide.mjs", block)
    context.route("**/pyodide/held", lambda route: held.append(route))
    page, second = visit(context, site, url, 5)
    assert not second["pythonIsThere"]
    assert close(second["result"], model, 5)
    assert second["inputs"] == first["inputs"]
    # Another size fits the plan as well, and what only Python knows is there once Python is.
    assert close(page.evaluate("run(9)"), model, 9)
    (route,) = held
    route.fulfill(body="")
    report = page.evaluate("model.report()")
    assert report["kernels"]
    assert report["memory"]["plans"] == 1


def test_a_page_that_is_left_while_it_tunes_leaves_what_it_found(
    context: BrowserContext, site: SiteServer
) -> None:
    model = small_models.perceptron(batch=64)
    url = site.publish("left.onnx", model.SerializeToString())
    page, _ = visit(context, site, url, 64)
    page.evaluate(SLOW, [site.url, 64])
    page.close()
    page, _ = visit(context, site, url, 64)
    page.wait_for_function(
        f"async (root) => (await ({SCHEDULES})(root)).every((one) => one === 'plain')", arg=site.url
    )
    page.evaluate(TUNE_AND_LEAVE, 64)
    page.wait_for_function(
        f"async (root) => (await ({SCHEDULES})(root)).some((one) => one !== 'plain')", arg=site.url
    )
    page.close()

    # Python never comes up: what runs is what was kept.
    context.route("**/pyodide/**", lambda route: None)
    _, third = visit(context, site, url, 64)
    assert not third["pythonIsThere"]
    assert close(third["result"], model, 64)


def test_a_model_of_the_same_size_is_not_run_with_another_ones_plan(
    context: BrowserContext, site: SiteServer
) -> None:
    model = small_models.perceptron()
    url = site.publish("twin.onnx", model.SerializeToString(), folder="twin")
    page, _ = visit(context, site, url, 5)
    assert page.evaluate(KEPT, site.url) == 1
    page.close()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(-2 * numpy_helper.to_array(tensor), tensor.name))
    site.publish("twin.onnx", model.SerializeToString(), folder="twin")
    _, second = visit(context, site, url, 5)
    assert second["pythonIsThere"]
    assert close(second["result"], model, 5)


def test_a_kept_plan_that_is_damaged_is_forgotten(context: BrowserContext, site: SiteServer) -> None:
    model = small_models.perceptron()
    url = site.publish("damaged.onnx", model.SerializeToString())
    page, _ = visit(context, site, url, 5)
    assert page.evaluate(KEPT, site.url) == 1
    page.evaluate(
        """async (root) => {
          const { read, write } = await import(root + "/runtime/kernel-store.js");
          const [[key, text]] = JSON.parse(await read("plan"));
          const plan = JSON.parse(text);
          await write(JSON.stringify([[key, JSON.stringify({ ...plan, blobs: plan.blobs.map(() => btoa("no module")) })]]));
        }""",
        site.url,
    )
    page.close()
    _, second = visit(context, site, url, 5)
    assert second["pythonIsThere"]
    assert close(second["result"], model, 5)
