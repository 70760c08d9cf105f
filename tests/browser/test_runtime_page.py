"""The page's interface to the runtime: runtime/nnjit.js with Pyodide, the compiler and the executor behind it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit.tune.kernel_file import parse
from nnjit_build.server import SiteServer
from nnjit_build.site import KERNELS, Site

from . import small_models

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SETUP = """async (root) => {
  const { load, exportKernels, importKernels } = await import(root + "/runtime/nnjit.js");
  const store = () => import(root + "/runtime/kernel-store.js");
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
  globalThis.t = { load, exportKernels, importKernels, store, failure, plain, floats };
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
def client(site: SiteServer, module_page: Page) -> Client:
    return Client(site, module_page)


@pytest.fixture(autouse=True)
def nothing_remembered(client: Client) -> None:
    """Each test is a first visit."""
    client.js("""
      await new Promise((done) => {
        const request = indexedDB.deleteDatabase("nnjit");
        request.onsuccess = request.onerror = request.onblocked = done;
      });
    """)


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


def test_inputs_and_outputs_are_described(client: Client) -> None:
    url = client.site.publish("dynamic.onnx", small_models.perceptron().SerializeToString())
    described = client.js(
        "const m = await t.load(a, { tune: 'off' }); m.dispose(); return [m.inputs, m.outputs, m.device]", url
    )
    assert described == [
        [{"name": "x", "dtype": "float32", "shape": ["batch", 64]}],
        [{"name": "y", "dtype": "float32", "shape": ["batch", 8]}],
        "wasm",
    ]


@pytest.mark.parametrize("kind", ["File", "Blob", "ArrayBuffer", "Uint8Array", "relative URL"])
def test_a_model_comes_from_any_source(client: Client, kind: str) -> None:
    model = small_models.perceptron(batch=3)
    url = client.site.publish("source.onnx", model.SerializeToString())
    body = """
    const bytes = await (await fetch(a.url)).arrayBuffer();
    const source = {
      File: () => new File([bytes], "source.onnx"),
      Blob: () => new Blob([bytes]),
      ArrayBuffer: () => bytes,
      Uint8Array: () => new Uint8Array(bytes),
      "relative URL": () => new URL(a.url).pathname,
    }[a.kind]();
    const model = await t.load(source, { tune: "off" });
    const x = { data: t.floats(3, 64), dims: [3, 64], type: "float32" };
    const result = t.plain(await model.run({ x }));
    model.dispose();
    return result;
    """
    check(client.js(body, {"url": url, "kind": kind}), model, 3)


def test_external_data_is_found_beside_the_model(client: Client) -> None:
    model = small_models.perceptron(batch=3)
    text, data = small_models.external(small_models.perceptron(batch=3), "weights of x.data")
    url = client.site.publish("external.onnx", text, folder="external-a")
    client.site.publish("weights of x.data", data, folder="external-a")
    check(client.js(RUN, {"url": url, "rows": 3, "options": {}}), model, 3)


def test_external_data_is_found_among_chosen_files(client: Client) -> None:
    model = small_models.perceptron(batch=3)
    text, data = small_models.external(small_models.perceptron(batch=3), "w.data")
    body = """
    const file = new File([new Uint8Array(a.model)], "m.onnx");
    const model = await t.load(file, { tune: "off", files: [new File([new Uint8Array(a.data)], "w.data")] });
    const result = t.plain(await model.run({ x: { data: t.floats(3, 64), dims: [3, 64], type: "float32" } }));
    model.dispose();
    return result;
    """
    check(client.js(body, {"model": list(text), "data": list(data)}), model, 3)


def test_missing_external_data_is_named(client: Client) -> None:
    text, _ = small_models.external(small_models.perceptron(), "lost.data")
    error = client.failure("await t.load(a)", client.site.publish("alone.onnx", text))
    assert error["code"] == "external-data"
    assert "lost.data" in error["message"]


def test_a_companion_that_was_not_chosen_is_named(client: Client) -> None:
    text, _ = small_models.external(small_models.perceptron(), "lost.data")
    error = client.failure("await t.load(new Uint8Array(a))", list(text))
    assert error["code"] == "external-data"
    assert "lost.data" in error["message"]


def test_an_operator_that_nobody_knows_is_refused(client: Client) -> None:
    url = client.site.publish("odd.onnx", small_models.unsupported().SerializeToString())
    error = client.failure("await t.load(a)", url)
    assert (error["code"], error["name"]) == ("unsupported", "UnsupportedError")
    assert "odd_one" in error["message"]
    assert "Frobnicate" in error["message"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"<!doctype html><html><body>Not here</body></html>", "model-format"),
        (b"", "model-format"),
        (small_models.perceptron().SerializeToString()[:-2000], "model-format"),
    ],
    ids=["a web page", "nothing", "a truncated file"],
)
def test_what_is_no_model_is_refused(client: Client, content: bytes, code: str) -> None:
    error = client.failure("await t.load(a)", client.site.publish("bad.onnx", content))
    assert error["code"] == code


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/nowhere.onnx", "404"),
        ("http://127.0.0.1:9/model.onnx", "cannot be reached"),
        ("file:///tmp/model.onnx", "cannot fetch file:"),
        ("http://", "is not a URL"),
    ],
)
def test_what_cannot_be_fetched_is_a_fetch_error(client: Client, url: str, message: str) -> None:
    error = client.failure("await t.load(a)", url)
    assert (error["code"], error["name"]) == ("fetch", "FetchError")
    assert message in error["message"]


def test_an_unknown_device_is_refused(client: Client) -> None:
    url = client.site.publish("dynamic.onnx", small_models.perceptron().SerializeToString())
    assert client.failure("await t.load(a, { device: 'tpu' })", url)["code"] == "device"


def test_a_wrong_input_is_refused_and_the_model_goes_on(client: Client) -> None:
    url = client.site.publish("dynamic.onnx", small_models.perceptron().SerializeToString())
    error, rows = client.js(
        """
        const model = await t.load(a, { tune: "off" });
        const x = (width) => ({ x: { data: new Float32Array(2 * width), dims: [2, width], type: "float32" } });
        const error = await t.failure(() => model.run(x(65)));
        const { y } = await model.run(x(64));
        model.dispose();
        return [error, y.dims];
        """,
        url,
    )
    assert error["code"] == "input"
    assert "Dimension 1" in error["message"]
    assert rows == [2, 8]


def test_progress_tells_stages_and_bytes(client: Client) -> None:
    content = small_models.perceptron(batch=3).SerializeToString()
    events = client.js(
        """
        const events = [];
        const model = await t.load(a, { tune: "off", onProgress: (event) => events.push(event) });
        model.dispose();
        return events;
        """,
        client.site.publish("progress.onnx", content),
    )
    stages = [event["stage"] for event in events]
    assert [s for s in ("download", "graph", "kernels", "weights") if s in stages] == list(
        dict.fromkeys(s for s in stages if s != "compiler")
    )
    last = [event for event in events if event["stage"] == "download"][-1]
    assert last["loaded"] == last["total"] == len(content)


def test_loading_can_be_stopped(client: Client) -> None:
    url = client.site.publish("dynamic.onnx", small_models.perceptron().SerializeToString())
    error = client.failure("await t.load(a, { signal: AbortSignal.abort() })", url)
    assert error["name"] == "AbortError"
    error = client.failure(
        "const c = new AbortController(); setTimeout(() => c.abort(), 0); await t.load(a, { signal: c.signal })",
        url,
    )
    assert error["name"] == "AbortError"


def check_report(report: dict) -> None:
    """The device was measured, and every kernel's time is told as a part of what it could be."""
    hardware = report["device"]["hardware"]
    assert hardware["gflops"] > 0.5 and 8 <= hardware["vector_registers"] <= 64
    for kernel in report["kernels"]:
        assert 0 < kernel["ceiling"] < 10
    timed = [c for task in report["tasks"] for c in task["candidates"] if c["status"] == "ok"]
    assert all(c["generationMs"] > 0 and c["compileMs"] > 0 for c in timed)
    assert sum(task["share"] for task in report["tasks"]) == pytest.approx(1, abs=0.05)


def test_tuning_tries_candidates_and_keeps_the_answers(client: Client) -> None:
    model = small_models.perceptron(batch=64, width=256)
    url = client.site.publish("tuned.onnx", model.SerializeToString())
    result = client.js(
        """
        const model = await t.load(a, { tune: "off" });
        const x = { data: t.floats(64, 256), dims: [64, 256], type: "float32" };
        const before = t.plain(await model.run({ x }));
        const events = [];
        await model.tune({ seconds: 3, onProgress: (event) => events.push(event) });
        const after = t.plain(await model.run({ x }));
        const report = await model.report();
        model.dispose();
        return { before, after, events, report };
        """,
        url,
    )
    assert any(event["status"] == "ok" for event in result["events"])
    assert result["events"][-1]["status"] == "done"
    tried = [candidate for task in result["report"]["tasks"] for candidate in task["candidates"]]
    # A schedule may come to the code of another one.
    assert {candidate["status"] for candidate in tried} - {"same"} == {"ok"}
    check_report(result["report"])
    expected = small_models.reference(model, {"x": wave(64, 256)})["y"]
    for name in ("before", "after"):
        found = np.array(result[name]["y"]["data"], np.float32).reshape(64, 8)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_dynamic_model_must_run_before_it_is_tuned(client: Client) -> None:
    url = client.site.publish("dynamic.onnx", small_models.perceptron().SerializeToString())
    error = client.failure(
        "const m = await t.load(a, { tune: 'off' });"
        "try { await m.tune({ seconds: 1 }); } finally { m.dispose(); }",
        url,
    )
    assert error["code"] == "input"
    assert "run it once" in error["message"]


def test_background_tuning_pauses_and_resumes(client: Client) -> None:
    url = client.site.publish("tuned.onnx", small_models.perceptron(batch=64, width=256).SerializeToString())
    counts = client.js(
        """
        let tried = 0;
        const model = await t.load(a);
        model.on("tune", () => tried++);
        const until = async (condition) => {
          for (let i = 0; i < 1500 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
        };
        await until(() => tried);
        await model.pauseTuning();
        const paused = tried;
        await new Promise((resolve) => setTimeout(resolve, 300));
        const still = tried;
        await model.resumeTuning();
        await until(() => tried > still);
        model.dispose();
        return [paused, still, tried];
        """,
        url,
    )
    assert 0 < counts[0] == counts[1] < counts[2]


def test_pausing_ends_a_call_of_tune(client: Client) -> None:
    url = client.site.publish("tuned.onnx", small_models.perceptron(batch=64, width=256).SerializeToString())
    seconds = client.js(
        """
        const model = await t.load(a, { tune: "off" });
        const start = performance.now();
        let first;
        const heard = new Promise((resolve) => (first = resolve));
        const tuning = model.tune({ seconds: 3600, onProgress: first });
        await heard;
        await model.pauseTuning();
        await tuning;
        model.dispose();
        return (performance.now() - start) / 1000;
        """,
        url,
    )
    assert seconds < 60


def test_the_report_names_kernels_whose_source_can_be_read(client: Client) -> None:
    url = client.site.publish("report.onnx", small_models.perceptron(batch=3).SerializeToString())
    report, source = client.js(
        """
        const model = await t.load(a, { tune: "off" });
        const report = await model.report();
        const source = await model.source(report.kernels[0].kernels[0]);
        model.dispose();
        return [report, source];
        """,
        url,
    )
    assert {"first", "second"} <= {k["node"] for k in report["kernels"]}
    assert all(k["ms"] > 0 and 0 < k["share"] <= 1 for k in report["kernels"])
    assert report["device"]["device"] == "wasm"
    assert report["memory"]["peakWasmBytes"] > 0
    assert "func" in source


def test_a_disposed_model_answers_no_more_and_another_loads(client: Client) -> None:
    model = small_models.perceptron(batch=3)
    url = client.site.publish("static.onnx", model.SerializeToString())
    error = client.failure(
        "const m = await t.load(a); m.dispose();"
        "await m.run({ x: { data: new Float32Array(192), dims: [3, 64], type: 'float32' } })",
        url,
    )
    assert error["code"] == "device"
    check(client.js(RUN, {"url": url, "rows": 3, "options": {}}), model, 3)


def test_two_models_live_side_by_side(client: Client) -> None:
    first, second = small_models.perceptron(batch=2), small_models.perceptron(batch=3)
    urls = [client.site.publish("m.onnx", m.SerializeToString()) for m in (first, second)]
    results = client.js(
        """
        const models = await Promise.all(a.map((url) => t.load(url)));
        const run = (m, n) => m.run({ x: { data: t.floats(n, 64), dims: [n, 64], type: "float32" } });
        const outputs = await Promise.all([run(models[0], 2), run(models[1], 3)]);
        models.forEach((m) => m.dispose());
        return outputs.map(t.plain);
        """,
        urls,
    )
    check(results[0], first, 2)
    check(results[1], second, 3)


def test_the_second_load_comes_from_the_cache(client: Client) -> None:
    url = client.site.publish("cached.onnx", small_models.perceptron(batch=3).SerializeToString())
    messages = client.js(
        """
        const messages = [];
        for (let i = 0; i < 2; i++) {
          const onProgress = ({ stage, message }) => stage === "download" && messages.push([i, message]);
          (await t.load(a, { tune: "off", onProgress })).dispose();
          await new Promise((resolve) => setTimeout(resolve, 300));
        }
        return messages;
        """,
        url,
    )
    assert [0, "cached.onnx"] in messages
    assert [1, "cached.onnx from the cache"] in messages


def test_a_model_that_changed_is_fetched_again(client: Client) -> None:
    first, second = small_models.perceptron(batch=3), small_models.perceptron(batch=3, width=32)
    url = client.site.publish("changing.onnx", first.SerializeToString(), folder="changing")
    client.js(
        "(await t.load(a, { tune: 'off' })).dispose(); await new Promise((r) => setTimeout(r, 300))", url
    )
    client.site.publish("changing.onnx", second.SerializeToString(), folder="changing")
    shape = client.js(
        "const m = await t.load(a, { tune: 'off' }); m.dispose(); return m.inputs[0].shape", url
    )
    assert shape == [3, 32]


def test_without_isolation_there_is_one_thread_and_the_facts_say_why(page: Page) -> None:
    host = SiteServer(Site(), isolated=False)
    host.start()
    try:
        model = small_models.perceptron(batch=3)
        client = Client(host, page)
        url = host.publish("static.onnx", model.SerializeToString())
        facts, result = client.js(
            """
            const model = await t.load(a, { tune: "off", threads: 2 });
            const x = { data: t.floats(3, 64), dims: [3, 64], type: "float32" };
            const result = t.plain(await model.run({ x }));
            model.dispose();
            return [model.facts, result];
            """,
            url,
        )
    finally:
        host.stop()
    check(result, model, 3)
    assert facts["threads"] == 1
    assert "cross-origin isolated" in facts["notes"][0]


def test_a_later_visit_starts_with_the_kernels_that_an_earlier_one_found(client: Client) -> None:
    model = small_models.perceptron()
    url = client.site.publish("remembered.onnx", model.SerializeToString())
    visit = """
      const model = await t.load(a, { tune: "off", device: "wasm", threads: 1 });
      const x = { data: t.floats(64, 64), dims: [64, 64], type: "float32" };
      await model.run({ x });
      await model.tune({ seconds: 20 });
      const { tasks, device } = await model.report();
      await new Promise((done) => setTimeout(done, 300));
      model.dispose();
      return {
        hardware: device.hardware,
        tasks: tasks.map(({ schedule, candidates }) => ({ schedule, measured: candidates.length })),
      };
    """
    forget(client)
    visits = [client.js(visit, url), client.js(visit, url)]
    first, second = (v["tasks"] for v in visits)
    # Measured again, no rate would be the same to the last digit.
    assert visits[1]["hardware"] == visits[0]["hardware"] is not None
    assert any(task["measured"] for task in first)
    assert [task["schedule"] for task in second] == [task["schedule"] for task in first]
    assert not any(task["measured"] for task in second)


# Kernels from elsewhere


TUNE = """
const model = await t.load(a, { tune: "off", device: "wasm", threads: 1 });
const x = { data: t.floats(64, 64), dims: [64, 64], type: "float32" };
const before = t.plain(await model.run({ x }));
const events = [];
await model.tune({ seconds: 2, onProgress: (event) => events.push(event) });
const after = t.plain(await model.run({ x }));
const { tasks } = await model.report();
const exported = await model.exportKernels();
await new Promise((done) => setTimeout(done, 300));
model.dispose();
return { before, after, events, tasks, exported };
"""

SLOW = "plain"


def forget(client: Client) -> None:
    client.js(
        "const s = await t.store(); for (const [key] of JSON.parse(await s.read())) await s.remove(...key)"
    )


def start_from(client: Client, device: str, tasks: dict[str, str]) -> None:
    """Let the next visit find these schedules in use, with the search still open."""
    entries = [[["tuned", device, task], json.dumps({"schedule": text})] for task, text in tasks.items()]
    client.js("await (await t.store()).write(JSON.stringify(a))", entries)


def check_hints_win(model: Any, result: dict, hints: dict[str, str]) -> None:
    """The visit began with the slow schedules, tried the hints first and adopted them, and computed right."""
    for name in ("before", "after"):
        expected = small_models.reference(model, {"x": wave(64, 64)})["y"]
        found = np.array(result[name]["y"]["data"], np.float32).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for task, hint in hints.items():
        own = [event for event in result["events"] if event.get("task") == task]
        assert own[0]["schedule"] == hint
        assert own[0]["status"] == "ok"
        swapped = [event["schedule"] for event in own if event["status"] == "swapped"]
        assert swapped and swapped[0] == hint


def device_of(client: Client) -> str:
    (key, _), *_ = json.loads(client.js("return (await t.store()).read('device')"))
    return key[1]


def test_exported_kernels_are_imported_as_hints_that_are_tried_first(client: Client) -> None:
    model = small_models.perceptron()
    url = client.site.publish("exchanged.onnx", model.SerializeToString())
    first = client.js(TUNE, url)
    exported = client.js("return t.exportKernels()")
    assert parse(exported).groups == parse(first["exported"]).groups
    (group,) = parse(exported).groups
    assert (group["device"]["device"], group["device"]["threads"]) == ("wasm", 1)
    hints = {task: findings[0]["schedule"] for task, findings in group["tasks"].items()}
    assert hints
    device = device_of(client)
    forget(client)
    assert parse(client.js("return t.exportKernels()")).groups == []

    start_from(client, device, dict.fromkeys(hints, SLOW))
    imported = client.js("return t.importKernels(new Blob([a]))", exported)
    assert imported["schedules"] == imported["kernels"] == len(hints)
    assert "WebAssembly with 1 thread" in imported["message"]
    second = client.js(TUNE, url)
    assert {t["default"] for t in second["tasks"] if t["key"] in hints} == {SLOW}
    check_hints_win(model, second, hints)


def test_what_is_no_kernel_file_is_refused(client: Client) -> None:
    error = client.failure("await t.importKernels(new Blob(['# Notes']))")
    assert error["name"] == "KernelFileError"
    assert "not JSON" in error["message"]


def test_a_site_ships_kernels_that_are_tried_first_on_devices_like_theirs(
    client: Client, browser: Browser
) -> None:
    model = small_models.perceptron()
    url = client.site.publish("shipped.onnx", model.SerializeToString())
    exported = json.loads(client.js(TUNE, url)["exported"])
    device = device_of(client)
    tasks = exported["groups"][0]["tasks"]
    hints = {task: findings[0]["schedule"] for task, findings in tasks.items()}
    others = {"device": {**exported["groups"][0]["device"], "threads": 64}}
    unlike = {task: [{"schedule": "tile o0=2", "ms": 0.001}] for task in tasks}
    exported["groups"].insert(0, {**exported["groups"][0], **others, "tasks": unlike})
    site = Site()
    where = json.loads(site.find("runtime/site.json"))  # type: ignore[arg-type]
    site.made["runtime/site.json"] = lambda: json.dumps({**where, "kernels": KERNELS}).encode()
    site.made[f"runtime/{KERNELS}"] = lambda: json.dumps(exported).encode()
    host = SiteServer(site)
    host.start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(120_000)
        visitor = Client(host, page)
        start_from(visitor, device, dict.fromkeys(hints, SLOW))
        result = visitor.js(TUNE, host.publish("shipped.onnx", model.SerializeToString()))
    finally:
        context.close()
        host.stop()
    check_hints_win(model, result, hints)
