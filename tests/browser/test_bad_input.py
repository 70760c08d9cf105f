"""Whatever is wrong is named by a typed error, and costs nothing: models that were loaded go on, new ones load.

One page, one start of Python for all tests; each test checks afterwards that the page is as good as before.
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import expect

from nnjit_build.paths import ROOT
from nnjit_build.server import SiteServer

from . import bad_models, small_models
from .page_actions import load, run_once, saved_output, upload_npy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

GOOD = small_models.perceptron(batch=3)
X = np.sin(np.arange(3 * 64)).astype(np.float32).reshape(3, 64)

SETUP = """async ([root, good]) => {
  const { load } = await import(root + "/runtime/nnjit.js");
  const failure = async (work) => {
    try {
      await work();
      return null;
    } catch (error) {
      return { code: error.code, name: error.name, message: error.message };
    }
  };
  const f32 = (...dims) => {
    const count = dims.reduce((product, dim) => product * dim, 1);
    return { data: Float32Array.from({ length: count }, (_, i) => Math.sin(i)), dims, type: "float32" };
  };
  const answer = async (model) => Array.from((await model.run({ x: f32(3, 64) })).y.data);
  const resident = await load(good, { tune: "off", threads: 1 });
  // What a good model answers now, loaded before all that went wrong and after it.
  const survey = async () => {
    const fresh = await load(good, { tune: "off", threads: 1 });
    const answers = [await answer(resident), await answer(fresh)];
    fresh.dispose();
    return answers;
  };
  globalThis.t = { load, failure, f32, survey, models: {} };
}"""

NO_WEBGPU = 'Object.defineProperty(Object.getPrototypeOf(navigator), "gpu", { get: () => undefined });'
NO_ADAPTER = "GPU.prototype.requestAdapter = async () => null;"
NO_GROWTH = 'WebAssembly.Memory.prototype.grow = () => { throw new RangeError("no memory"); };'
LOST_AFTER_SUBMIT = """
const orders = new BroadcastChannel("orders");
let ordered = false;
orders.onmessage = () => { ordered = true; orders.postMessage("ready"); };
const { submit } = GPUQueue.prototype;
const { requestDevice } = GPUAdapter.prototype;
let device;
GPUAdapter.prototype.requestDevice = async function (...args) { return (device = await requestDevice.apply(this, args)); };
GPUQueue.prototype.submit = function (...args) {
  submit.apply(this, args);
  if (ordered) device.destroy();
};
"""
LOSE_GPU = """
const orders = new BroadcastChannel("orders");
await new Promise((resolve) => { orders.onmessage = resolve; orders.postMessage("lose"); });
"""


class Client:
    """The page of nnjit itself, where the tests also use the page's runtime from JavaScript."""

    def __init__(self, server: SiteServer, page: Page) -> None:
        self.server = server
        self.page = page
        self.good = server.publish("good.onnx", GOOD.SerializeToString())
        page.goto(server.url)
        page.evaluate(SETUP, [server.url, self.good])

    def js(self, body: str, argument: Any = None) -> Any:
        return self.page.evaluate(f"async (a) => {{ {body} }}", argument)

    def failure(self, body: str, argument: Any = None) -> dict[str, str]:
        error = self.page.evaluate(f"(a) => t.failure(async () => {{ {body} }})", argument)
        assert error is not None, "nothing was refused"
        return error

    def publish(self, content: bytes, name: str = "bad.onnx") -> str:
        return self.server.publish(name, content)

    def keep(self, name: str, content: bytes) -> None:
        """Load a model as `t.models[name]` unless it is there."""
        self.js(
            'const [name, url] = a; t.models[name] ??= await t.load(url, { tune: "off", threads: 1 });',
            [name, self.publish(content, "kept.onnx")],
        )

    @contextmanager
    def sabotaged(self, script: str) -> Iterator[None]:
        """Executors that are started meanwhile run `script` before they open a device."""
        name = "runtime/executor.worker.js"
        original = (ROOT / "web" / name).read_text(encoding="utf-8")
        self.server.published[name] = f"{original}\n{{ {script} }}\n".encode()
        self.use_up_executor()
        try:
            yield
        finally:
            del self.server.published[name]
            self.use_up_executor()

    def use_up_executor(self) -> None:
        """The next executor was started ahead: after this it is one that starts as the server has it now."""
        self.js(
            'await t.load(a, { tune: "off", threads: 1 }).then((model) => model.dispose(), () => {})',
            self.good,
        )


@pytest.fixture(scope="module")
def module_client(site: SiteServer, module_page: Page) -> Iterator[Client]:
    server = SiteServer(site.site)
    server.start()
    yield Client(server, module_page)
    server.stop()


@pytest.fixture
def client(module_client: Client) -> Iterator[Client]:
    """The page; after the test it must be as good as before."""
    uncaught: list[str] = []

    def note(error: Any) -> None:
        uncaught.append(str(error))

    module_client.page.on("pageerror", note)
    yield module_client
    expected = small_models.reference(GOOD, {"x": X})["y"].ravel()
    for answer in module_client.js("return t.survey()"):
        np.testing.assert_allclose(answer, expected, atol=1e-5)
    module_client.page.remove_listener("pageerror", note)
    assert not uncaught


@pytest.fixture(scope="module")
def stranger(site: SiteServer) -> Iterator[SiteServer]:
    """Another origin, whose files other sites may not read."""
    server = SiteServer(site.site)
    server.start()
    yield server
    server.stop()


def check(error: dict[str, str], code: str, *says: str) -> None:
    """The error is of its type, and its message names all of `says`; it ends as a sentence does."""
    assert error["code"] == code, error
    assert all(words in error["message"] for words in says), error
    assert error["message"].endswith((".", ")")), error


# Models


@pytest.mark.parametrize("case", bad_models.REFUSALS)
def test_a_bad_model_is_refused(client: Client, case: str) -> None:
    content, code, says = bad_models.REFUSALS[case]
    url = client.publish(content)
    check(client.failure('await t.load(a, { tune: "off" })', url), code, url, *says)


def test_a_file_that_is_cut_short_on_its_way(client: Client) -> None:
    """The server announces more than it sends."""
    with socket.create_server(("127.0.0.1", 0)) as broken:
        url = f"http://127.0.0.1:{broken.getsockname()[1]}/model.onnx"
        head = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nCross-Origin-Resource-Policy: cross-origin\r\n"
        sent = head + b"Content-Length: 9000\r\nConnection: close\r\n\r\n" + GOOD.SerializeToString()[:3000]

        def answer() -> None:
            connection, _ = broken.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        check(client.failure("await t.load(a)", url), "fetch", url, "bytes of 9000", "Try again")
        thread.join()


def test_a_file_without_a_url_is_named(client: Client) -> None:
    body = 'await t.load(new File(["<html>"], "letter.onnx"))'
    check(client.failure(body), "model-format", "letter.onnx", "web page")


def test_weights_that_are_too_short_are_refused(client: Client) -> None:
    model, data = small_models.external(small_models.perceptron(), "short.data")
    url = client.server.publish("model.onnx", model, folder="short")
    client.server.publish("short.data", data[:1000], folder="short")
    says = (url, "w1", "short.data", "only 1000", "truncated")
    check(client.failure("await t.load(a)", url), "external-data", *says)


# Inputs


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ("{}", ('"x"', "is missing")),
        ("{ x: t.f32(3, 64), z: t.f32(1) }", ('no input "z"', "its inputs are x")),
        ("{ x: { data: new Int32Array(192), dims: [3, 64], type: 'int32' } }", ('"x"', "int32", "pass float32")),
        ("{ x: { data: new Float64Array(192), dims: [3, 64], type: 'float32' } }", ("Float64Array", "pass float32")),
        ("{ x: { data: [1, 2], dims: [2], type: 'float32' } }", ('"x"', "typed array")),
        ("{ x: t.f32(3, 64, 1) }", ('"x"', "2 dimensions", "[3,64,1]")),
        ("{ x: t.f32(3, 63) }", ("Dimension 1", '"x"', "must be 64", "[3,63]")),
        ("{ x: { ...t.f32(3, 64), data: new Float32Array(191) } }", ('"x"', "191 elements", "192")),
        ("{ x: { ...t.f32(3, 64), dims: [3, -64] } }", ('"x"', "not negative")),
        ("null", ('"x"', "is missing")),
    ],
    ids=[
        "missing", "unknown", "another type", "another array", "no typed array", "another rank",
        "another size", "too few elements", "a negative dimension", "none at all",
    ],
)  # fmt: skip
def test_bad_inputs_are_refused(client: Client, inputs: str, says: tuple[str, ...]) -> None:
    client.keep("perceptron", small_models.perceptron().SerializeToString())
    check(client.failure(f"await t.models.perceptron.run({inputs})"), "input", *says)
    assert client.js("return (await t.models.perceptron.run({ x: t.f32(5, 64) })).y.dims") == [5, 8]


def test_two_sizes_of_one_dimension_are_refused(client: Client) -> None:
    client.keep("agreeing", bad_models.agreeing().SerializeToString())
    error = client.failure("await t.models.agreeing.run({ a: t.f32(3, 2), b: t.f32(4, 2) })")
    check(error, "input", "dimension n is 3", '"a"', "4", '"b"')


def test_an_index_beyond_its_axis_is_refused(client: Client) -> None:
    client.keep("lookup", small_models.lookup().SerializeToString())
    run = "t.models.lookup.run({ ids: { data: BigInt64Array.from(a, BigInt), dims: [a.length], type: 'int64' } })"
    for ids in ([0, 6], [0, -7], [5, 2**40]):
        says = (f'Element 1 of the input "ids" is {ids[1]}', "an axis of 6 elements")
        check(client.failure(f"await {run}", ids), "input", *says)
    rows = np.array(client.js(f"return Array.from((await {run}).y.data)", [5, -6])).reshape(2, 2)
    expected = small_models.reference(small_models.lookup(), {"ids": np.array([5, -6])})["y"]
    np.testing.assert_allclose(rows, expected, atol=1e-6)


@pytest.mark.parametrize("device", ["wasm", "webgpu"])
def test_an_index_that_is_computed_beyond_its_axis_is_refused(client: Client, device: str) -> None:
    client.js(
        't.next = await t.load(a[0], { tune: "off", threads: 1, device: a[1] });',
        [client.publish(small_models.next_row().SerializeToString()), device],
    )
    run = "t.next.run({ ids: { data: BigInt64Array.from(a, BigInt), dims: [a.length], type: 'int64' } })"
    says = ("node 'lookup' (Gather)", "input 'next'", "out of range (1 of them)")
    check(client.failure(f"await {run}", [0, 5, 2]), "input", *says)
    names, rows = client.js(
        f"const outputs = await {run}; t.next.dispose(); "
        "return [Object.keys(outputs), Array.from(outputs.y.data)];",
        [4, -2],
    )
    expected = small_models.reference(small_models.next_row(), {"ids": np.array([4, -2])})["y"]
    assert names == ["y"]
    np.testing.assert_allclose(np.array(rows).reshape(2, 2), expected, atol=1e-6)


# Fetching


def test_an_address_that_is_not_there(client: Client) -> None:
    check(
        client.failure("await t.load('/nowhere.onnx')"), "fetch", "/nowhere.onnx", "404", "Check the address"
    )


def test_a_server_that_does_not_answer(client: Client) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/model.onnx"
        check(client.failure("await t.load(a)", url), "fetch", url, "cannot be reached", "Check the address")


def test_a_server_that_refuses_other_sites(client: Client, stranger: SiteServer) -> None:
    url = stranger.publish("model.onnx", GOOD.SerializeToString())
    check(client.failure("await t.load(a)", url), "fetch", url, "CORS", "choose it from disk")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://", "not a URL"),
        ("file:///model.onnx", "Choose the file"),
        ("ftp://host/model.onnx", "cannot fetch ftp:"),
    ],
)
def test_an_address_that_cannot_be_fetched(client: Client, url: str, says: str) -> None:
    check(client.failure("await t.load(a)", url), "fetch", url, says)


# Devices


def test_no_webgpu(client: Client) -> None:
    with client.sabotaged(NO_WEBGPU):
        error = client.failure('await t.load(a, { device: "webgpu" })', client.good)
    check(error, "device", "no WebGPU", 'use the device "wasm"')


def test_no_gpu(client: Client) -> None:
    with client.sabotaged(NO_ADAPTER):
        error = client.failure('await t.load(a, { device: "webgpu" })', client.good)
    check(error, "device", "no GPU", 'use the device "wasm"')


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ("{ device: 'abacus' }", "device", ("abacus", "webgpu")),
        ("{ threads: 0 }", "device", ("0 is no number of threads", "from 1 on")),
        ("{ threads: 'two' }", "device", ("two", "from 1 on")),
        ("{ tune: 'always' }", "input", ("always", "background")),
    ],
)
def test_options_that_do_not_exist(client: Client, options: str, code: str, says: tuple[str, ...]) -> None:
    check(client.failure(f"await t.load(a, {options})", client.good), code, *says)


HUGE_RUN = "await t.models[a].run({ a: t.f32(40000, 1), b: t.f32(1, 40000) })"
SMALL_RUN = "return Array.from((await t.models[a].run({ a: t.f32(2, 1), b: t.f32(1, 3) })).y.data)"
SMALL = np.outer(np.sin(np.arange(2)), np.sin(np.arange(3))).ravel()


def test_more_than_a_memory_can_hold(client: Client) -> None:
    client.keep("outer", bad_models.outer().SerializeToString())
    check(
        client.failure(HUGE_RUN, "outer"),
        "out-of-memory",
        "MiB of WebAssembly memory",
        "4096.0 MiB",
        "smaller batch",
    )
    np.testing.assert_allclose(client.js(SMALL_RUN, "outer"), SMALL, atol=1e-6)


def test_more_than_an_index_can_count(client: Client) -> None:
    client.keep("outer", bad_models.outer().SerializeToString())
    body = "await t.models.outer.run({ a: t.f32(100000, 1), b: t.f32(1, 100000) })"
    check(client.failure(body), "out-of-memory", "381", "smaller batch")
    np.testing.assert_allclose(client.js(SMALL_RUN, "outer"), SMALL, atol=1e-6)


def test_more_than_a_gpu_buffer_can_hold(client: Client) -> None:
    url = client.publish(bad_models.outer().SerializeToString())
    client.js('t.models.gpu = await t.load(a, { tune: "off", device: "webgpu" })', url)
    check(client.failure(HUGE_RUN, "gpu"), "out-of-memory", "6104 MB", 'device "wasm"', "smaller inputs")
    np.testing.assert_allclose(client.js(SMALL_RUN, "gpu"), SMALL, atol=1e-6)
    client.js("t.models.gpu.dispose()")


def test_a_model_of_fixed_shapes_that_no_memory_can_hold(client: Client) -> None:
    model = bad_models.outer(bad_models.HUGE, bad_models.HUGE)
    body = """
    const model = await t.load(a, { tune: "off" });
    try { await model.run({ a: t.f32(40000, 1), b: t.f32(1, 40000) }); } finally { model.dispose(); }
    """
    error = client.failure(body, client.publish(model.SerializeToString()))
    check(error, "out-of-memory", "MiB", "smaller batch")


def test_a_browser_without_memory_to_give(client: Client) -> None:
    with client.sabotaged(NO_GROWTH):
        body = 'const m = await t.load(a, { tune: "off" }); try { await m.run({ x: t.f32(3, 64000) }) } finally { m.dispose() }'
        model = small_models.perceptron(batch=3, width=64_000)
        error = client.failure(body, client.publish(model.SerializeToString()))
    check(error, "out-of-memory", "MiB", "Close other tabs")


def test_a_gpu_lost_in_mid_run(client: Client) -> None:
    with client.sabotaged(LOST_AFTER_SUBMIT):
        client.js('t.models.lost = await t.load(a, { tune: "off", device: "webgpu" })', client.good)
        client.js("await t.models.lost.run({ x: t.f32(3, 64) })")
        error = client.failure(LOSE_GPU + "await t.models.lost.run({ x: t.f32(3, 64) })")
    check(error, "device", "GPU device was lost", "Load the model again")
    check(client.failure("await t.models.lost.run({ x: t.f32(3, 64) })"), "device", "lost")
    client.js("t.models.lost.dispose()")
    body = """
    const model = await t.load(a, { tune: "off", device: "webgpu" });
    const { y } = await model.run({ x: t.f32(3, 64) });
    model.dispose();
    return Array.from(y.data);
    """
    expected = small_models.reference(GOOD, {"x": X})["y"].ravel()
    np.testing.assert_allclose(client.js(body, client.good), expected, atol=1e-4)


def test_what_fails_while_the_model_is_tuned_costs_only_that(client: Client) -> None:
    """A run that does not fit into memory, while kernels of the model are tried."""
    url = client.publish(bad_models.outer().SerializeToString())
    client.js('t.models.tuned = await t.load(a, { tune: "background", threads: 1 })', url)
    client.js(SMALL_RUN, "tuned")
    check(client.failure(HUGE_RUN, "tuned"), "out-of-memory", "MiB of WebAssembly memory")
    np.testing.assert_allclose(client.js(SMALL_RUN, "tuned"), SMALL, atol=1e-6)
    client.js("await t.models.tuned.tune({ seconds: 0.5 })")
    np.testing.assert_allclose(client.js(SMALL_RUN, "tuned"), SMALL, atol=1e-6)
    client.js("t.models.tuned.dispose()")


def test_a_gpu_lost_while_the_model_is_tuned(client: Client) -> None:
    url = client.publish(small_models.perceptron(batch=3, width=256).SerializeToString())
    with client.sabotaged(LOST_AFTER_SUBMIT):
        client.js('t.models.lost = await t.load(a, { tune: "off", device: "webgpu" })', url)
        client.js("await t.models.lost.run({ x: t.f32(3, 256) })")
        error = client.failure(LOSE_GPU + "await t.models.lost.tune({ seconds: 5 })")
    check(error, "device", "GPU device was lost", "Load the model again")
    check(client.failure("await t.models.lost.run({ x: t.f32(3, 256) })"), "device", "lost")
    client.js("t.models.lost.dispose()")


# The page


def refused(page: Page, code: str, *says: str) -> None:
    """An alert stands there with its code, the message and an advice."""
    alert = page.get_by_role("alert")
    expect(alert).to_have_count(1)
    expect(alert.locator(".code")).to_have_text(code)
    for words in says:
        expect(alert.locator(".message")).to_contain_text(words)
    expect(alert.locator(".advice")).not_to_be_empty()


def works(page: Page, server: SiteServer) -> None:
    """A good model loads in the page and gives the right numbers; the alert is gone."""
    load(page, server.publish("good.onnx", GOOD.SerializeToString()), "CPU")
    expect(page.get_by_role("alert")).to_have_count(0)
    runs(page)


def runs(page: Page) -> None:
    """The model of the page, a good one, gives the right numbers."""
    upload_npy(page, X)
    run_once(page)
    np.testing.assert_allclose(
        saved_output(page, "y"), small_models.reference(GOOD, {"x": X})["y"], atol=1e-5
    )


@pytest.mark.parametrize("case", ["a web page", "a model cut short", "a cycle", "weights outside the folder"])
def test_the_page_says_why_it_refuses_a_model_and_keeps_the_one_it_has(client: Client, case: str) -> None:
    content, code, says = bad_models.REFUSALS[case]
    works(client.page, client.server)
    load(client.page, client.publish(content), "CPU")
    refused(client.page, code, *says)
    runs(client.page)
    works(client.page, client.server)


def test_the_page_says_that_there_is_no_webgpu(client: Client) -> None:
    with client.sabotaged(NO_WEBGPU):
        load(client.page, client.good, "GPU")
    refused(client.page, "device", "no WebGPU")
    works(client.page, client.server)


def test_the_page_says_that_memory_does_not_suffice(client: Client) -> None:
    load(client.page, client.publish(bad_models.outer().SerializeToString()), "CPU")
    for name in ("rows", "columns"):
        client.page.get_by_label(name).fill(str(bad_models.HUGE))
    run_once(client.page)
    refused(client.page, "out-of-memory", "MiB", "smaller batch")
    for name in ("rows", "columns"):
        client.page.get_by_label(name).fill("3")
    run_once(client.page)
    expect(client.page.get_by_role("alert")).to_have_count(0)
    assert saved_output(client.page, "y").shape == (3, 3)
    works(client.page, client.server)


def test_the_page_says_that_the_gpu_was_lost(client: Client) -> None:
    with client.sabotaged(LOST_AFTER_SUBMIT):
        load(client.page, client.good, "GPU")
        run_once(client.page)
        client.js(LOSE_GPU)
        run_once(client.page)
    refused(client.page, "device", "GPU device was lost")
    works(client.page, client.server)


def test_the_page_goes_on_after_tensors_of_the_wrong_type(client: Client) -> None:
    works(client.page, client.server)
    upload_npy(client.page, X.astype(np.float64)[:, :5])
    run_once(client.page)
    expect(client.page.get_by_role("alert")).to_contain_text(re.compile("5"))
    runs(client.page)
