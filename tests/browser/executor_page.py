"""An executor in a page, without a compiler: plans written by hand are added as a test wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnjit.target import Target

from . import hand_plans as hand

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit_build.server import SiteServer

OPEN = """async ([root, threads, signature, file]) => {
  const { Executor, ExecutorClient } = await import(root + "runtime/executor.js");
  const urls = Object.fromEntries(
    ["executor", "pool", "quarantine"].map((name) => [name, `${root}runtime/${name}.worker.js`]));
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unpack = (c) => ({ ...c, blobs: c.blobs.map(bytes) });
  const self = {
    asked: [],
    plansOnDemand: [],
    bytes, unpack,
    executor: new Executor(urls, async (inputs) => {
      self.asked.push(inputs);
      const next = self.plansOnDemand.shift();
      if (!next) throw new Error("no plan for these inputs");
      await self.add(next);
    }),
    add: ({ plan, blobs }) => self.executor.addPlan(JSON.stringify(plan), blobs.map(bytes)),
    run: async (x, client = self.executor) => {
      const { outputs } = await client.run({ x: { data: Float32Array.from(x), dims: [x.length], type: "float32" } });
      return [...outputs.y.data];
    },
    failure: async (work) => {
      try {
        await work();
        return null;
      } catch (error) {
        return { code: error.code, name: error.name, message: error.message };
      }
    },
    ExecutorClient,
  };
  globalThis.t = self;
  self.facts = await self.executor.open({ device: "wasm", threads });
  await self.executor.setSignature(signature);
  await self.executor.setFiles({ "": bytes(file).buffer });
  return self.facts;
}"""


class Session:
    """An executor opened in the page, reached through the global `t`."""

    def __init__(self, site: SiteServer, page: Page, threads: int) -> None:
        self.page = page
        self.threads = threads
        page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
        arguments = [site.url + "/", threads, hand.SIGNATURE, hand.encode(hand.MODEL_FILE)]
        self.facts = page.evaluate(OPEN, arguments)
        self.target = Target(
            relaxed_simd=self.facts["relaxedSimd"],
            shared_memory=self.facts["isolated"],
            threads=self.facts["threads"],
            max_pages=self.facts["maxPages"],
        )

    def js(self, body: str, argument: Any = None) -> Any:
        return self.page.evaluate(f"async (a) => {{ {body} }}", argument)

    def add_plan(self, **options: Any) -> dict:
        return self.js("return t.add(a)", hand.plan(self.target, **options))

    def run(self, x: list[float]) -> list[float]:
        return self.js("return t.run(a)", x)

    def failure(self, body: str, argument: Any = None) -> dict:
        return self.page.evaluate(f"(a) => t.failure(async () => {{ {body} }})", argument)

    def measure(self, candidates: list[dict], **options: Any) -> dict:
        request = {"plan": 0, "unit": 1, "samples": 3, "tolerance": 1e-5, **options}
        return self.js(
            "return t.executor.measure({ ...a[0], candidates: a[1].map(t.unpack) })", [request, candidates]
        )
