"""Real models in a real browser: every one of the registry on every device, against onnxruntime."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from models import reference, registry

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit_build.server import SiteServer

DEVICES = {
    "wasm-1": {"device": "wasm", "threads": 1},
    "wasm-2": {"device": "wasm", "threads": 2},
    "webgpu": {"device": "webgpu"},
}

SETUP = """async (root) => {
  const { load } = await import(root + "/runtime/nnjit.js");
  const arrays = {
    float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, bool: Uint8Array,
  };
  const encode = async (data) => {
    const blob = new Blob([data]);
    const reader = new FileReader();
    await new Promise((done) => { reader.onload = done; reader.readAsDataURL(blob); });
    return reader.result.slice(reader.result.indexOf(",") + 1);
  };
  const fetched = async ({ url, type, dims }) =>
    ({ data: new arrays[type](await (await fetch(url)).arrayBuffer()), dims, type });
  const run = async (model, inputs) => {
    const given = {};
    for (const [name, input] of Object.entries(inputs)) given[name] = await fetched(input);
    const outputs = {};
    for (const [name, { data, dims, type }] of Object.entries(await model.run(given))) {
      outputs[name] = { base64: await encode(data), dims, type };
    }
    return outputs;
  };
  globalThis.t = { load, run };
}"""


class Client:
    """A page with the runtime; one model at a time."""

    def __init__(self, site: SiteServer, page: Page) -> None:
        self.site = site
        self.page = page
        page.goto(site.publish("models.html", b"<!doctype html><title>models</title>"))
        page.evaluate(SETUP, site.url)

    def load(self, name: str, options: dict[str, Any]) -> None:
        url = self.site.publish_folder(registry.path(name).parent) + registry.path(name).name
        self.page.evaluate(
            "async ({ url, options }) => { t.model = await t.load(url, { tune: 'off', ...options }); }",
            {"url": url, "options": options},
        )

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        described = {
            name: {
                "url": self.site.publish(f"input-{n}.bin", np.ascontiguousarray(x).tobytes()),
                "type": x.dtype.name,
                "dims": list(x.shape),
            }
            for n, (name, x) in enumerate(inputs.items())
        }
        outputs = self.page.evaluate("(inputs) => t.run(t.model, inputs)", described)
        return {
            name: np.frombuffer(base64.b64decode(o["base64"]), o["type"]).reshape(o["dims"])
            for name, o in outputs.items()
        }

    def dispose(self) -> None:
        self.page.evaluate("() => { t.model?.dispose(); t.model = null; }")


@pytest.fixture(scope="module")
def client(site: SiteServer, module_page: Page) -> Client:
    module_page.set_default_timeout(600_000)
    return Client(site, module_page)


def assert_right(client: Client, name: str, **dims: int) -> None:
    """The model's outputs on the registry's inputs are onnxruntime's, within the reference's tolerance."""
    expected = reference.reference(name, **dims)
    found = client.run(expected.inputs)
    for output, wanted in expected.outputs.items():
        got = found[output]
        assert got.shape == wanted.shape, output
        assert got.dtype == wanted.dtype, output
        error = np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0)
        print(f"{name} {output}: max error {error:.2e}, tolerance {expected.tolerance[output]:.2e}")
        assert error <= expected.tolerance[output], output


SLOW = {("rapidocr-cls-q8", "webgpu")}
"""Run along with the large models: so many different shaders take a GPU in software long to make."""


def cases(marked: bool) -> list:
    return [
        pytest.param(n, d, id=f"{n}-{d}", marks=[pytest.mark.models] if (n, d) in SLOW else [])
        for n in registry.names(marked=marked)
        for d in DEVICES
    ]


@pytest.mark.parametrize(("name", "device"), cases(marked=False))
def test_model_gives_the_outputs_of_onnxruntime(client: Client, name: str, device: str) -> None:
    client.load(name, DEVICES[device])
    try:
        assert_right(client, name)
    finally:
        client.dispose()


@pytest.mark.models
@pytest.mark.parametrize(("name", "device"), cases(marked=True))
def test_large_model_gives_the_outputs_of_onnxruntime(client: Client, name: str, device: str) -> None:
    client.load(name, DEVICES[device])
    try:
        assert_right(client, name)
    finally:
        client.dispose()


@pytest.mark.parametrize("device", ["wasm-2", "webgpu"])
def test_one_loaded_model_takes_any_batch_and_sequence_length(client: Client, device: str) -> None:
    client.load("minilm-l6", DEVICES[device])
    try:
        for batch, sequence in ((1, 16), (1, 23), (2, 9), (3, 1), (1, 16)):
            assert_right(client, "minilm-l6", batch=batch, sequence=sequence)
    finally:
        client.dispose()
