"""A WebGpuDevice of the runtime in a page, driven from Python."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nnjit_build.server import SiteServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCRIPT = """
import { LastingGpu } from "/runtime/lasting-gpu.js";
import { WebGpuDevice } from "/runtime/webgpu-device.js";
import { WeightFiles } from "/runtime/weights.js";

const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const textOf = (array) => {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
};
const arrays = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, int32: Int32Array, uint32: Uint32Array,
  int64: BigInt64Array, uint64: BigUint64Array, int16: Int16Array, uint16: Uint16Array, int8: Int8Array,
  uint8: Uint8Array, bool: Uint8Array,
};
const inputsOf = (inputs) => Object.fromEntries(Object.entries(inputs).map(([name, { data, dims, type }]) =>
  [name, { data: new arrays[type](bytesOf(data).buffer), dims, type }]));
const candidatesOf = (c) => ({ ...c, blobs: c.blobs.map(bytesOf) });
const pause = () => new Promise((resolve) => setTimeout(resolve, 0));

window.gpu = {
  async open(lasting) {
    window.device?.dispose();
    window.device = await (lasting ? LastingGpu : WebGpuDevice).open();
    return window.device.facts;
  },
  setFile: (data) => window.device.setFiles(new WeightFiles({ "": bytesOf(data).buffer })),
  addPlan: (plan, blobs) => window.device.addPlan(plan, blobs.map(bytesOf)),
  async run(plan, environment, inputs) {
    const outputs = await window.device.run({ plan, environment, inputs: inputsOf(inputs) });
    return Object.fromEntries(Object.entries(outputs).map(([name, { data, dims, type }]) =>
      [name, { data: textOf(data), dims, type, array: data.constructor.name }]));
  },
  measure: (request) => window.device.measure(
    { ...request, candidates: request.candidates.map(candidatesOf) }, window.interrupt ?? pause),
  swap: (plan, unit, candidate) => window.device.swap({ plan, replacements: [{ unit, with: candidatesOf(candidate) }] }),
  profile: (plan, repeat) => window.device.profile({ plan, repeat }, pause).then(({ times }) => times),
  microbench: (probe) => window.device.microbench(probe, pause),
  stats: () => window.device.stats(),
};
window.call = async (name, args) => {
  try {
    return { value: await window.gpu[name](...args) };
  } catch (error) {
    return { code: error.code ?? null, message: String(error.message), stack: error.stack };
  }
};
window.loaded = true;
"""


class GpuError(Exception):
    def __init__(self, code: str | None, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Gpu:
    """A WebGpuDevice in a page."""

    def __init__(self, page: Page, lasting: bool = False) -> None:
        """`lasting`: as a LastingGpu, which survives the loss of its device."""
        self.page = page
        self.facts = self.call("open", lasting)

    def call(self, method: str, *args: Any) -> Any:
        result = self.page.evaluate("([name, args]) => window.call(name, args)", [method, list(args)])
        if "value" not in result and "code" in result:
            raise GpuError(result["code"], f"{result['message']}\n{result['stack']}")
        return result.get("value")

    def add(self, plan: dict, blobs: list[bytes] | None = None, file: bytes = b"") -> int:
        self.call("setFile", text(file))
        return self.call("addPlan", plan, [text(b) for b in blobs or []])["plan"]

    def run(self, plan: int, environment: dict[str, int], **inputs: np.ndarray) -> dict[str, np.ndarray]:
        given = {
            name: {
                "data": text(np.ascontiguousarray(a).tobytes()),
                "dims": list(a.shape),
                "type": str(a.dtype),
            }
            for name, a in inputs.items()
        }
        outputs = self.call("run", plan, environment, given)
        return {
            name: np.frombuffer(base64.b64decode(o["data"]), o["type"]).reshape(o["dims"])
            for name, o in outputs.items()
        }


@contextmanager
def device_page(browser: Browser, site: SiteServer) -> Iterator[Page]:
    """A page in which `Gpu` works."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(
        site.publish(
            "gpu.html", f"<!doctype html><title>x</title><script type=module>{SCRIPT}</script>".encode()
        )
    )
    page.wait_for_function("window.loaded")
    yield page
    context.close()
