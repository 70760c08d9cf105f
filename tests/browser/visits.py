"""Visits of one browser to a page that loads a model: what the first one keeps, the next one finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import small_models

if TYPE_CHECKING:
    import onnx
    from playwright.sync_api import Browser, BrowserContext, Page, StorageState

    from nnjit_build.server import SiteServer

VISIT = """async ([root, url, rows, tune]) => {
  const { load, importKernels } = await import(root + "/runtime/nnjit.js");
  Object.assign(globalThis, { load, importKernels, events: [] });
  const model = (globalThis.model = await load(url, { tune, device: "wasm", threads: 1 }));
  model.on("tune", (event) => events.push(event));
  const run = (globalThis.run = async (rows) => {
    const x = { data: Float32Array.from({ length: rows * 64 }, (_, i) => Math.sin(i)), dims: [rows, 64], type: "float32" };
    const [y] = Object.values(await model.run({ x }));
    return Array.from(y.data);
  });
  const result = await run(rows);
  return { result, python: model.python, tuned: model.tuned, inputs: model.inputs.map(({ name }) => name) };
}"""

WITHIN_A_MINUTE = """(visited) => Promise.race([
  (%s)(visited),
  new Promise((_, reject) => setTimeout(reject, 60_000, new Error("no output within a minute"))),
])"""

TUNED = """async (root) => {
  await model.tune({ seconds: 60 });
  const { read } = await import(root + "/runtime/kernel-store.js");
  for (let i = 0; i < 200; i++) {
    const [[, text]] = JSON.parse(await read("plans"));
    if (JSON.parse(text).every(([, , { tuned }]) => tuned)) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}"""
"""Tune to the end: whether the kept plan is marked as one that needs no more tuning."""

KEPT = """async (root) => {
  const { read } = await import(root + "/runtime/kernel-store.js");
  for (let i = 0; i < 200; i++) {
    const found = JSON.parse(await read("plan"));
    if (found.length) return found.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return 0;
}"""
"""How many plans are kept, once there are any."""


@dataclass(frozen=True)
class FirstVisit:
    """A visit that others may follow: what was loaded, what VISIT said of it, and what it left in the browser."""

    model: onnx.ModelProto
    url: str
    result: dict[str, Any]
    storage: StorageState


Returning = Callable[[FirstVisit], "BrowserContext"]
"""The fixture `returning`: a browser in which is kept what a first visit left."""


def visit(
    context: BrowserContext, site: SiteServer, url: str, rows: int, tune: str = "off"
) -> tuple[Page, dict[str, Any]]:
    """Open a page, load the model there and run it once: see VISIT."""
    page = context.new_page()
    page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    return page, page.evaluate(WITHIN_A_MINUTE % VISIT, [site.url, url, rows, tune])


def first_visit(
    browser: Browser, site: SiteServer, name: str, model: onnx.ModelProto, rows: int, tune: str, last: str
) -> FirstVisit:
    """A visit in a fresh browser, left once `last`, a function of the site's root, gives something true."""
    url = site.publish(name, model.SerializeToString())
    context = browser.new_context()
    page, result = visit(context, site, url, rows, tune)
    assert page.evaluate(last, site.url)
    page.close()
    storage = context.storage_state(indexed_db=True)
    context.close()
    return FirstVisit(model, url, result, storage)


def expected(model: onnx.ModelProto, rows: int) -> np.ndarray:
    """What the model makes of VISIT's input."""
    x = np.sin(np.arange(rows * 64)).astype(np.float32).reshape(rows, 64)
    (y,) = small_models.reference(model, {"x": x}).values()
    return np.ravel(y)


def close(result: list[float], model: onnx.ModelProto, rows: int) -> bool:
    """Whether the result is what the model makes of VISIT's input."""
    wanted = expected(model, rows)
    return bool(np.abs(np.array(result) - wanted).max() <= 1e-4 * np.abs(wanted).max())
