"""In Python every refusal is of its own type; models that were loaded go on, and new ones load.

One start of Pyodide for all tests; each test checks afterwards that everything is as good as before.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit_build.server import SiteServer

from . import bad_models, small_models
from .test_runtime_python import Python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

GOOD = small_models.perceptron(batch=3)
X = np.sin(np.arange(3 * 64)).astype(np.float32).reshape(3, 64)

HELPERS = '''
import js, nnjit
import numpy as np
from nnjit.errors import NnjitError
from nnjit.runtime.javascript import session_class
from pyodide.code import run_js

loaded = {}

def wave(*shape):
    return np.sin(np.arange(np.prod(shape))).astype(np.float32).reshape(shape)

async def model(url):
    """The model of an address, loaded once."""
    if url not in loaded:
        loaded[url] = await nnjit.load(url, tune="off", threads=1)
    return loaded[url]

async def survey(good):
    """What a model answers that was loaded before all that went wrong, and one loaded now."""
    fresh = await nnjit.load(good, tune="off", threads=1)
    answers = [(await m.run({"x": wave(3, 64)}))["y"].ravel().tolist() for m in (await model(good), fresh)]
    fresh.dispose()
    return answers

async def failure(work):
    """Type, code and message of what the coroutine raises."""
    try:
        await work
    except NnjitError as error:
        return [type(error).__name__, error.code, str(error)]

async def without_webgpu(url):
    """Load a model for the GPU in an executor that has none."""
    _, urls = await session_class()
    whole = urls.executor
    text = await (await js.fetch(whole)).text()
    text += 'Object.defineProperty(Object.getPrototypeOf(navigator), "gpu", { get: () => undefined });'
    urls.executor = run_js("(text) => URL.createObjectURL(new Blob([text], { type: 'text/javascript' }))")(text)
    try:
        await nnjit.load(url, device="webgpu")
    finally:
        urls.executor = whole
'''


class Client(Python):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.good = self.site.publish("good.onnx", GOOD.SerializeToString())
        install = "import sys\nsys.path.insert(0, '.')\nopen('bad_input.py', 'w').write(text)"
        self.run(install, text=HELPERS)
        self.survey()

    def value(self, expression: str, **names: Any) -> Any:
        return self.run(f"from bad_input import *\n{expression}", **names)

    def survey(self) -> list[list[float]]:
        return self.value("await survey(good)", good=self.good)

    def check(self, work: str, kind: str, *says: str, **names: Any) -> None:
        """What the coroutine `work` raises is of the type `kind`, and its message names all of `says`."""
        found = self.value(f"await failure({work})", **names)
        assert found is not None, "nothing was refused"
        name, _, message = found
        assert name == kind, found
        assert all(words in message for words in says), found


@pytest.fixture(scope="module")
def module_client(site: SiteServer, module_page: Page) -> Client:
    return Client(site, module_page)


@pytest.fixture
def client(module_client: Client) -> Iterator[Client]:
    """Python; after the test it must be as good as before."""
    yield module_client
    expected = small_models.reference(GOOD, {"x": X})["y"].ravel()
    for answer in module_client.survey():
        np.testing.assert_allclose(answer, expected, atol=1e-5)


TYPES = {
    "model-format": "ModelFormatError",
    "unsupported": "UnsupportedError",
    "external-data": "ExternalDataError",
}


@pytest.mark.parametrize("case", bad_models.REFUSALS)
def test_a_bad_model_is_refused(client: Client, case: str) -> None:
    content, code, says = bad_models.REFUSALS[case]
    url = client.site.publish("bad.onnx", content)
    client.check("nnjit.load(url)", TYPES[code], url, *says, url=url)


@pytest.mark.parametrize("case", ["a web page", "random bytes", "a cycle", "weights that are not there"])
def test_bad_bytes_are_refused(client: Client, case: str) -> None:
    content, code, says = bad_models.REFUSALS[case]
    words = says if case != "weights that are not there" else ("lost.data", "externalData")
    client.check("nnjit.load(bytes(content))", TYPES[code], *words, content=list(content))


def test_weights_that_are_too_short_are_refused(client: Client) -> None:
    model, data = small_models.external(small_models.perceptron(), "short.data")
    url = client.site.publish("model.onnx", model, folder="short")
    client.site.publish("short.data", data[:1000], folder="short")
    client.check("nnjit.load(url)", "ExternalDataError", url, "w1", "short.data", "only 1000", url=url)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ("{}", ('"x"', "is missing")),
        ("{'x': wave(3, 64), 'z': wave(1)}", ('no input "z"', "its inputs are x")),
        ("{'x': wave(3, 64).astype(np.int32)}", ('"x"', "int32", "pass float32")),
        ("{'x': np.array(['a'])}", ("'x'", "<U1")),
        ("{'x': wave(3, 64, 1)}", ('"x"', "2 dimensions", "[3,64,1]")),
        ("{'x': wave(3, 63)}", ("Dimension 1", '"x"', "must be 64")),
        ("[wave(3, 64)]", ("dict",)),
        ("wave(3, 64)", ("dict",)),
        ("None", ("dict",)),
    ],
    ids=["missing", "unknown", "another type", "strings", "another rank", "another size", "a list", "an array", "none"],
)  # fmt: skip
def test_bad_inputs_are_refused(client: Client, inputs: str, says: tuple[str, ...]) -> None:
    url = client.site.publish("perceptron.onnx", small_models.perceptron().SerializeToString(), folder="py")
    client.check(f"(await model(url)).run({inputs})", "InputError", *says, url=url)
    assert client.value("list((await (await model(url)).run({'x': wave(5, 64)}))['y'].shape)", url=url) == [
        5,
        8,
    ]


def test_two_sizes_of_one_dimension_are_refused(client: Client) -> None:
    url = client.site.publish("agreeing.onnx", bad_models.agreeing().SerializeToString())
    run = "(await model(url)).run({'a': wave(3, 2), 'b': wave(4, 2)})"
    client.check(run, "InputError", "dimension n is 3", '"a"', "4", '"b"', url=url)


def test_what_cannot_be_fetched_is_refused(client: Client) -> None:
    client.check('nnjit.load("/nowhere.onnx")', "FetchError", "/nowhere.onnx", "404", "Check the address")
    client.check('nnjit.load("http://")', "FetchError", "is not a URL")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/model.onnx"
        client.check("nnjit.load(url)", "FetchError", url, "cannot be reached", url=url)
    other = SiteServer(client.site.site)
    other.start()
    try:
        url = other.publish("model.onnx", GOOD.SerializeToString())
        client.check("nnjit.load(url)", "FetchError", url, "CORS", url=url)
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        ("nnjit.load(None)", "FetchError", "A model is given as"),
        ("nnjit.load(7)", "FetchError", "A model is given as"),
        ("nnjit.load(good, tune='always')", "InputError", "always"),
        ("nnjit.load(good, device='abacus')", "DeviceError", "abacus"),
        ("nnjit.load(good, threads=0)", "DeviceError", "threads"),
        ("nnjit.load(good, threads='two')", "DeviceError", "threads"),
    ],
)
def test_bad_options_are_refused(client: Client, call: str, kind: str, says: str) -> None:
    client.check(call, kind, says, good=client.good)


def test_no_webgpu(client: Client) -> None:
    client.check(
        "without_webgpu(good)", "DeviceError", "no WebGPU", 'use the device "wasm"', good=client.good
    )


def test_more_than_a_memory_can_hold(client: Client) -> None:
    url = client.site.publish("outer.onnx", bad_models.outer().SerializeToString())
    run = f"(await model(url)).run({{'a': wave({bad_models.HUGE}, 1), 'b': wave(1, {bad_models.HUGE})}})"
    client.check(run, "OutOfMemoryError", "MiB of WebAssembly memory", "4096.0 MiB", "smaller batch", url=url)
    small = client.value(
        "(await (await model(url)).run({'a': wave(2, 1), 'b': wave(1, 3)}))['y'].tolist()", url=url
    )
    np.testing.assert_allclose(small, np.outer(np.sin(np.arange(2)), np.sin(np.arange(3))), atol=1e-6)
