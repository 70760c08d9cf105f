"""The page's interface to the runtime: runtime/nnjit.js with Pyodide, the compiler and the executor behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from . import small_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from nnjit_build.server import SiteServer

SETUP = """async (root) => {
  const { load } = await import(root + "/runtime/nnjit.js");
  const failure = async (work) => {
    try {
      await work();
      return null;
    } catch (error) {
      return { code: error.code, name: error.name, message: error.message };
    }
  };
  const plain = (outputs) => Object.fromEntries(
    Object.entries(outputs).map(([name, { data, dims, type }]) => [name, { data: Array.from(data, Number), dims, type }]));
  const floats = (rows, width) => Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i));
  globalThis.t = { load, failure, plain, floats };
}"""


class Client:
    """A page that has imported the runtime; Python starts once for all tests that share it."""

    def __init__(self, site: SiteServer, page: Page) -> None:
        self.site = site
        self.page = page
        page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
        page.evaluate(SETUP, site.url)

    def js(self, body: str, argument: Any = None) -> Any:
        return self.page.evaluate(f"async (a) => {{ {body} }}", argument)

    def failure(self, body: str, argument: Any = None) -> dict:
        return self.page.evaluate(f"(a) => t.failure(async () => {{ {body} }})", argument)


@pytest.fixture(scope="module")
def client(site: SiteServer, browser: Browser) -> Iterator[Client]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield Client(site, page)
    context.close()


def wave(rows: int, width: int) -> np.ndarray:
    """What `t.floats` makes in the page."""
    return np.sin(np.arange(rows * width)).astype(np.float32).reshape(rows, width)


RUN = """
const model = await t.load(a.url, { tune: "off", ...a.options });
const x = { data: t.floats(a.rows, 64), dims: [a.rows, 64], type: "float32" };
const result = t.plain(await model.run({ x }));
model.dispose();
return result;
"""


def check(result: dict, model: Any, rows: int) -> None:
    expected = small_models.reference(model, {"x": wave(rows, 64)})["y"]
    found = np.array(result["y"]["data"], np.float32).reshape(result["y"]["dims"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert result["y"]["type"] == "float32"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_dynamic_model_runs(client: Client, threads: int) -> None:
    model = small_models.perceptron()
    url = client.site.publish("dynamic.onnx", model.SerializeToString())
    check(client.js(RUN, {"url": url, "rows": 5, "options": {"threads": threads}}), model, 5)


def test_a_static_model_runs(client: Client) -> None:
    model = small_models.perceptron(batch=3)
    url = client.site.publish("static.onnx", model.SerializeToString())
    check(client.js(RUN, {"url": url, "rows": 3, "options": {}}), model, 3)


def test_int64_and_bool_come_back_as_they_should(client: Client) -> None:
    url = client.site.publish("integers.onnx", small_models.integers().SerializeToString())
    types = client.js(
        """
        const model = await t.load(a, { tune: "off" });
        const i = { data: BigInt64Array.of(1n, 2n, 2n ** 40n), dims: [3], type: "int64" };
        const { next, small } = await model.run({ i });
        model.dispose();
        const tell = ({ data, type }) => [data.constructor.name, type, Array.from(data, Number)];
        return [tell(next), tell(small)];
        """,
        url,
    )
    assert types == [["BigInt64Array", "int64", [2, 3, 2**40 + 1]], ["Uint8Array", "bool", [1, 0, 0]]]
