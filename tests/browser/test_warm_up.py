"""Python compiles little graphs while nothing is asked of it: no load waits for them, none fails with them."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from . import small_models
from .visits import close

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from nnjit_build.server import SiteServer

WITH_WARM_UP = """async ([root, body]) => {
  const { WarmUp } = await import(root + "/runtime/warm-up.js");
  const log = [];
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  // Three graphs for each device; `event` is called within the second.
  const make = (event = () => {}, needless = () => false) => new WarmUp(async (facts) => {
    const device = facts ? JSON.parse(facts).device : "any";
    let graph = 0;
    return { next: () => {
      if (graph === 3) return { done: true };
      log.push(device + ++graph);
      if (graph === 2) event();
      return {};
    } };
  }, needless);
  await Function("log", "make", "pause", `return (async () => { ${body} })()`)(log, make, pause);
  return log;
}"""


def logged(page: Page, site: SiteServer, body: str) -> list[str]:
    """What `body` and the graphs of the warm-ups that it makes wrote to the log."""
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    return page.evaluate(WITH_WARM_UP, [site.url, body])


def test_what_is_asked_during_a_warm_up_waits_for_the_graph_at_hand_only(
    page: Page, site: SiteServer
) -> None:
    assert logged(
        page,
        site,
        """
        const { port1, port2 } = new MessageChannel();
        const answers = [];
        port1.onmessage = () => answers.push(warmUp.interrupted(async () => {
          log.push("asked");
          await pause(30);
          log.push("answered");
        }));
        const warmUp = make(() => port2.postMessage(""));
        await warmUp.run(null);
        await Promise.all(answers);
        port1.close();
        """,
    ) == ["any1", "any2", "asked", "answered", "any3"]


def test_a_warm_up_is_done_once_for_each_device(page: Page, site: SiteServer) -> None:
    body = """
        const warmUp = make();
        const runs = [null, { device: "wasm" }, { device: "webgpu" }, { device: "webgpu" }].map((f) => warmUp.run(f));
        await Promise.all(runs);
        """
    assert logged(page, site, body) == ["any1", "any2", "any3", "webgpu1", "webgpu2", "webgpu3"]


def test_a_warm_up_ends_when_a_model_was_compiled_or_inferences_begin(page: Page, site: SiteServer) -> None:
    body = """
        let compiled = false;
        await make(() => (compiled = true), () => compiled).run(null);
        const warmUp = make(() => warmUp.end());
        await warmUp.run({ device: "webgpu" });
        await warmUp.run(null);
        """
    assert logged(page, site, body) == ["any1", "any2", "webgpu1", "webgpu2"]


def test_a_warm_up_that_fails_fails_no_load(page: Page, site: SiteServer) -> None:
    def break_it(route: Route) -> None:
        broken = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(route.fetch().body())) as wheel,
            zipfile.ZipFile(broken, "w") as out,
        ):
            for name in wheel.namelist():
                content = b"raise RuntimeError('broken')" if name.endswith("warm_up.py") else wheel.read(name)
                out.writestr(name, content)
        route.fulfill(body=broken.getvalue())

    page.route("**/nnjit-*.whl", break_it)
    model = small_models.perceptron()
    url = site.publish("warm.onnx", model.SerializeToString())
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    with page.expect_console_message(lambda m: "not warmed up" in m.text and "broken" in m.text):
        page.evaluate(
            "async (root) => (globalThis.nnjit = await import(root + '/runtime/nnjit.js')).prepare()",
            site.url,
        )
    result = page.evaluate(
        """async (url) => {
          const model = await nnjit.load(url, { device: "wasm", threads: 1, tune: "off" });
          const data = Float32Array.from({ length: 5 * 64 }, (_, i) => Math.sin(i));
          const [y] = Object.values(await model.run({ x: { data, dims: [5, 64], type: "float32" } }));
          return Array.from(y.data);
        }""",
        url,
    )
    assert close(result, model, 5)
