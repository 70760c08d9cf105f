"""The Python interface in a Pyodide worker that knows nothing but the wheel, as in a notebook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit_build import wheel

from . import small_models

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit_build.server import SiteServer

WORKER = """
import { loadPyodide } from "/pyodide/pyodide.mjs";
const python = (async () => {
  const pyodide = await loadPyodide({ indexURL: "/pyodide/", packages: ["numpy"] });
  pyodide.unpackArchive(await (await fetch("/%s")).arrayBuffer(), "wheel");
  return pyodide;
})();
self.onmessage = async ({ data: { id, code } }) => {
  try {
    const pyodide = await python;
    const globals = pyodide.toPy({});
    postMessage({ id, value: await pyodide.runPythonAsync(code, { globals }) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
"""

SETUP = """(url) => {
  const worker = new Worker(url, { type: "module" });
  let next = 0;
  globalThis.python = (code) => new Promise((resolve, reject) => {
    const id = next++;
    worker.addEventListener("message", ({ data }) => {
      if (data.id !== id) return;
      if (data.error) reject(new Error(data.error));
      else resolve(data.value);
    });
    worker.postMessage({ id, code });
  });
}"""


class Python:
    def __init__(self, site: SiteServer, page: Page) -> None:
        self.site = site
        self.page = page
        page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
        page.evaluate(SETUP, site.publish("python.worker.js", (WORKER % wheel.file_name()).encode()))

    def run(self, code: str, **names: Any) -> Any:
        """Run code whose last expression is JSON-ready; `names` are defined in it."""
        head = "import json, numpy as np, nnjit\n"
        head += "".join(f"{name} = json.loads({json.dumps(json.dumps(v))})\n" for name, v in names.items())
        *body, last = code.strip().splitlines()
        text = self.page.evaluate("(code) => python(code)", "\n".join([head, *body, f"json.dumps({last})"]))
        return json.loads(text)


@pytest.fixture(scope="module")
def python(site: SiteServer, module_page: Page) -> Python:
    return Python(site, module_page)


def wave(rows: int, width: int = 64) -> np.ndarray:
    return np.sin(np.arange(rows * width)).astype(np.float32).reshape(rows, width)


RUN = """
x = np.sin(np.arange(rows * 64)).astype(np.float32).reshape(rows, 64)
model = await nnjit.load(source, threads=threads, tune="off")
out = await model.run({"x": x})
model.dispose()
[out["y"].tolist(), str(out["y"].dtype)]
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_loads_from_a_url_and_runs(python: Python, threads: int) -> None:
    model = small_models.perceptron()
    url = python.site.publish("dynamic.onnx", model.SerializeToString())
    values, dtype = python.run(RUN, source=url, rows=5, threads=threads)
    expected = small_models.reference(model, {"x": wave(5)})["y"]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert dtype == "float32"


def test_a_model_loads_from_bytes(python: Python) -> None:
    model = small_models.perceptron(batch=3)
    values, _ = python.run(
        "source = bytes(source)\n" + RUN, source=list(model.SerializeToString()), rows=3, threads=1
    )
    np.testing.assert_allclose(values, small_models.reference(model, {"x": wave(3)})["y"], atol=1e-5)


def test_integers_and_booleans_keep_their_dtypes(python: Python) -> None:
    url = python.site.publish("integers.onnx", small_models.integers().SerializeToString())
    code = """
model = await nnjit.load(url, tune="off")
out = await model.run({"i": np.array([1, 2, 2**40])})
model.dispose()
[[v.tolist(), str(v.dtype)] for v in (out["next"], out["small"])]
"""
    assert python.run(code, url=url) == [[[2, 3, 2**40 + 1], "int64"], [[True, False, False], "bool"]]


def test_tuning_and_the_report(python: Python) -> None:
    url = python.site.publish("tuned.onnx", small_models.perceptron(batch=64, width=256).SerializeToString())
    code = """
model = await nnjit.load(url, tune="off")
x = np.ones((64, 256), np.float32)
before = await model.run({"x": x})
seen = []
await model.tune(seconds=2, on_progress=lambda event: seen.append(event["status"]))
after = await model.run({"x": x})
report = model.report()
source = model.source(report["kernels"][0]["kernels"][0])
model.dispose()
[seen, float(abs(before["y"] - after["y"]).max()), report, str(report), source]
"""
    seen, difference, report, text, source = python.run(code, url=url)
    assert "ok" in seen
    assert difference < 1e-5
    assert all(kernel["ms"] > 0 for kernel in report["kernels"])
    assert "tuning tasks" in text
    assert "func" in source


FAILURE = """
found = None
try:
    {work}
except nnjit.errors.NnjitError as error:
    found = [type(error).__name__, error.code, str(error)]
found
"""


def failure(python: Python, work: str, **names: Any) -> list[str]:
    return python.run("import nnjit.errors\n" + FAILURE.replace("{work}", work), **names)


def test_errors_of_the_runtime_are_python_types(python: Python) -> None:
    name, code, message = failure(python, 'await nnjit.load("/nowhere.onnx")')
    assert (name, code) == ("FetchError", "fetch")
    assert "404" in message


def test_errors_of_the_compiler_are_python_types(python: Python) -> None:
    url = python.site.publish("odd.onnx", small_models.unsupported().SerializeToString())
    name, _, message = failure(python, "await nnjit.load(url)", url=url)
    assert name == "UnsupportedError"
    assert "odd_one" in message


def test_what_is_not_a_url_is_a_fetch_error(python: Python) -> None:
    assert failure(python, 'await nnjit.load("http://")')[0] == "FetchError"


def test_wrong_inputs_are_refused(python: Python) -> None:
    url = python.site.publish("dynamic.onnx", small_models.perceptron().SerializeToString())
    work = 'await (await nnjit.load(url, tune="off")).run({"x": np.zeros((2, 64))})'
    name, _, message = failure(python, work, url=url)
    assert name == "InputError"
    assert "float64" in message
    name, _, message = failure(
        python, work.replace("np.zeros((2, 64))", "np.zeros((2, 64), complex)"), url=url
    )
    assert name == "InputError"
    assert "complex" in message


def test_a_disposed_model_says_so(python: Python) -> None:
    url = python.site.publish("dynamic.onnx", small_models.perceptron().SerializeToString())
    work = 'm = await nnjit.load(url, tune="off"); m.dispose(); await m.run({})'
    assert failure(python, work, url=url)[0] == "DeviceError"


def test_progress_is_reported(python: Python) -> None:
    url = python.site.publish("static.onnx", small_models.perceptron(batch=3).SerializeToString())
    code = """
stages = []
model = await nnjit.load(url, tune="off", on_progress=lambda event: stages.append(event["stage"]))
model.dispose()
list(dict.fromkeys(stages))
"""
    assert python.run(code, url=url) == ["download", "graph", "kernels", "weights"]


def test_tuned_kernels_are_exported_and_imported(python: Python) -> None:
    url = python.site.publish("exchanged.onnx", small_models.perceptron(batch=64).SerializeToString())
    code = """
model = await nnjit.load(url, threads=1, tune="off")
await model.run({"x": np.ones((64, 64), np.float32)})
await model.tune(seconds=30)
text = model.export_kernels()
model.dispose()
imported = await nnjit.import_kernels(text)
refused = ""
try:
    await nnjit.import_kernels(b"no JSON")
except nnjit.errors.KernelFileError as error:
    refused = str(error)
[json.loads(text), str(imported), refused]
"""
    exported, imported, refused = python.run(code, url=url)
    (group,) = exported["groups"]
    count = len(group["tasks"])
    assert count and all(f["ms"] > 0 for findings in group["tasks"].values() for f in findings)
    assert imported.startswith(f"{count} schedule")
    assert "not JSON" in refused
