"""A later visit begins with the plan that an earlier one kept, before Python is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from onnx import numpy_helper

from . import small_models
from .visits import KEPT, FirstVisit, Returning, close, first_visit, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Route

    from nnjit_build.server import SiteServer

SLOW = """async (root) => {
  // As if an earlier visit had found plain loops to be best.
  const { read, write } = await import(root + "/runtime/kernel-store.js");
  await model.tune({ seconds: 0 });
  let found = [];
  while (!found.length) found = JSON.parse(await read("device"));
  const [[[, device]]] = found;
  const { tasks } = await model.report();
  const record = JSON.stringify({ schedule: "plain", ms: 1, default: 1, tried: [] });
  await write(JSON.stringify(tasks.map(({ key }) => [["tuned", device, key], record])));
  return true;
}"""

TUNE = """async (rows) => {
  let latest = "";
  model.on("tune", ({ status }) => (latest = status));
  await model.resumeTuning();
  while (latest !== "swapped") {
    if (latest === "done") throw new Error("nothing is faster than plain loops");
    await run(rows);
  }
  await model.pauseTuning();
}"""

NO_TIMERS = """
{
  const { setTimeout } = self;
  self.setTimeout = (work, ms = 0, ...rest) => (ms < 900 ? setTimeout(work, ms, ...rest) : 0);
}
"""
"""In Python's worker: what is left for later never comes."""

LEAVE = {
    "hidden": """() => {
      Object.defineProperty(document, "visibilityState", { value: "hidden" });
      document.dispatchEvent(new Event("visibilitychange"));
    }""",
    "closed": """() => dispatchEvent(new PageTransitionEvent("pagehide"))""",
}

SCHEDULES = """async (root) => {
  const { read } = await import(root + "/runtime/kernel-store.js");
  const [[, text]] = JSON.parse(await read("plan"));
  return JSON.parse(JSON.parse(text).json).units.filter(({ steps }) => steps.length).map(({ schedule }) => schedule);
}"""


BLOCK = """
{
  const held = new XMLHttpRequest();
  held.open("GET", new URL("held", import.meta.url), false);
  held.send();
}
"""
"""Blocks the thread that starts Python, as starting it does, for as long as the answer is held back."""


def test_a_later_visit_infers_while_starting_python_blocks_its_thread(
    kept: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    model = kept.model
    assert kept.result["python"] == "on"
    assert close(kept.result["result"], model, 5)

    context = returning(kept)
    held: list[Route] = []
    context.route("**/pyodide/pyodide.mjs", lambda route: prepended(route, BLOCK))
    context.route("**/pyodide/held", lambda route: held.append(route))
    page, second = visit(context, site, kept.url, 5)
    assert second["python"] == "off"
    assert close(second["result"], model, 5)
    assert second["inputs"] == kept.result["inputs"]
    page.evaluate("globalThis.asked = model.report(), null")
    while not held:
        page.wait_for_timeout(20)
    # Another size fits the plan as well, and what only Python knows is there once Python is.
    assert close(page.evaluate("run(9)"), model, 9)
    (route,) = held
    route.fulfill(body="")
    report = page.evaluate("asked")
    assert report["kernels"]
    assert report["memory"]["plans"] == 1


def prepended(route: Route, script: str) -> None:
    """Answer with the script before what the server answers."""
    response = route.fetch()
    route.fulfill(response=response, body=script + response.text())


@pytest.fixture(scope="module")
def slow(browser: Browser, site: SiteServer) -> FirstVisit:
    """A first visit that found plain loops to be best, for 64 rows."""
    return first_visit(browser, site, "slow.onnx", small_models.perceptron(batch=64), 64, "off", SLOW)


@pytest.mark.parametrize("how", LEAVE)
def test_a_page_that_is_left_while_it_tunes_leaves_what_it_found(
    slow: FirstVisit, returning: Returning, site: SiteServer, how: str
) -> None:
    context = returning(slow)
    context.route("**/compiler.worker.js", lambda route: prepended(route, NO_TIMERS))
    page, _ = visit(context, site, slow.url, 64)
    page.wait_for_function(
        f"async (root) => (await ({SCHEDULES})(root)).every((one) => one === 'plain')", arg=site.url
    )
    page.evaluate(TUNE, 64)
    page.evaluate(LEAVE[how])
    page.wait_for_function(
        f"async (root) => (await ({SCHEDULES})(root)).some((one) => one !== 'plain')", arg=site.url
    )
    page.close()

    # Python never comes up: what runs is what was kept.
    context.route("**/pyodide/**", lambda route: None)
    _, third = visit(context, site, slow.url, 64)
    assert third["python"] == "off"
    assert close(third["result"], slow.model, 64)


def test_a_model_of_the_same_size_is_not_run_with_another_ones_plan(
    kept: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    twin = small_models.perceptron()
    for tensor in twin.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(-2 * numpy_helper.to_array(tensor), tensor.name))
    assert twin.ByteSize() == kept.model.ByteSize()
    context = returning(kept)
    context.route(kept.url, lambda route: route.fulfill(body=twin.SerializeToString()))
    _, second = visit(context, site, kept.url, 5)
    assert second["python"] == "on"
    assert close(second["result"], twin, 5)


def test_a_kept_plan_that_is_damaged_is_forgotten(
    kept: FirstVisit, returning: Returning, site: SiteServer
) -> None:
    context = returning(kept)
    page = context.new_page()
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
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
    _, second = visit(context, site, kept.url, 5)
    assert second["python"] == "on"
    assert close(second["result"], kept.model, 5)


STARTED_ANEW = """async ([root, url, left]) => {
  const { Session } = await import(root + "/runtime/session.js");
  const { site } = await import(root + "/runtime/site.js");
  const workers = ["executor", "pool", "quarantine"].map((name) => [name, `${root}/runtime/${name}.worker.js`]);
  const generator = site.then((parts) => parts.generator);
  const session = new Session({ source: url, device: "wasm", threads: 1, generator }, Object.fromEntries(workers));
  session.executor.addPlan = async () => {
    if (left) session.dispose();
    throw new Error("no plan today");
  };
  const outcome = await session.startFromKept().then((kept) => String(kept), (error) => error.message);
  session.dispose();
  return outcome;
}"""


@pytest.mark.parametrize(
    ("left", "outcome", "plans"), [(True, "no plan today", 1), (False, "null", 0)], ids=["aborted", "failed"]
)
def test_a_plan_that_does_not_start_is_forgotten_unless_loading_was_aborted(
    kept: FirstVisit, returning: Returning, site: SiteServer, left: bool, outcome: str, plans: int
) -> None:
    page = returning(kept).new_page()
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    assert page.evaluate(STARTED_ANEW, [site.url, kept.url, left]) == outcome
    found = page.evaluate(
        "async (root) => JSON.parse(await (await import(root + '/runtime/kernel-store.js')).read('plan')).length",
        site.url,
    )
    assert found == plans


def test_a_model_with_external_data_keeps_its_plan_while_the_data_stay_the_same(
    context: BrowserContext, site: SiteServer
) -> None:
    model = small_models.perceptron()
    text, data = small_models.external(small_models.perceptron(), "w.data")
    url = site.publish("outside.onnx", text, folder="outside")
    site.publish("w.data", data, folder="outside")
    page, _ = visit(context, site, url, 5)
    assert page.evaluate(KEPT, site.url) == 1
    page.close()
    page, second = visit(context, site, url, 5)
    assert second["python"] == "off"
    assert close(second["result"], model, 5)
    # Python reads the model without its data, which the executor has.
    assert page.evaluate("model.report()")["memory"]["plans"] == 1
    page.close()
    changed, copy = small_models.perceptron(), small_models.perceptron()
    for tensor in (*changed.graph.initializer, *copy.graph.initializer):
        tensor.CopyFrom(numpy_helper.from_array(-2 * numpy_helper.to_array(tensor), tensor.name))
    again, data = small_models.external(copy, "w.data")
    assert again == text
    site.publish("w.data", data, folder="outside")
    _, third = visit(context, site, url, 5)
    assert third["python"] == "on"
    assert close(third["result"], changed, 5)
