"""`load`: from a URL or bytes to a Model. The page's compiler worker enters at `open_model`, its session being under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..codegen_passes import ALL_PASSES, Passes
from ..compiler import check_operators, static_inputs
from ..errors import ERROR_TYPES, FetchError, InputError, ModelFormatError, NnjitError, UnsupportedError
from ..onnx.external import check_files
from ..onnx.reader import read_model
from ..stopwatch import ms_since
from .describe import model_signature, specs_of
from .model import Model, Progress, collecting_later
from .session import Session


async def load(
    source: Any,
    device: str = "auto",
    threads: int | None = None,
    tune: str = "background",
    on_progress: Progress | None = None,
    external_data: Mapping[str, Any] | None = None,
) -> Model:
    """Load an ONNX model from a URL or from its bytes.

    source         a URL (str), bytes, or a JavaScript File, Blob or buffer
    device         "auto", "wasm" (CPU) or "webgpu"
    threads        CPU threads; None: as many as suit the machine
    tune           "background": look for faster kernels while the model is in use; "off": only when `tune` is called
    on_progress    called with each step: see `Progress`
    external_data  location that the model gives → URL or bytes, where it is not to be found beside the model

    A model whose input shapes are constant is compiled here, another one at its first run. Raises an NnjitError: the
    type says whether it is the fetch, the file, the model or the device.
    """
    from .javascript import session_class

    session_type, urls = await session_class()
    options = _options(source, device, threads, on_progress, external_data)
    return await open_model(session_type.new(options, urls), tune, on_progress)


def _options(
    source: Any, device: str, threads: int | None, on_progress: Progress | None, external_data: Any
) -> Any:
    from js import Object
    from pyodide.ffi import to_js

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return _absolute(value)
        return to_js(value) if isinstance(value, (bytes, bytearray, memoryview)) else value

    options = Object.new()
    options.source = plain(source)
    options.device = device
    options.threads = threads
    if external_data:
        options.externalData = Object.fromEntries(to_js([[k, plain(v)] for k, v in external_data.items()]))
    if on_progress:
        options.onProgress = lambda event: on_progress(event.to_py())
    return options


def _absolute(url: str) -> str:
    from js import URL, location
    from pyodide.ffi import JsException

    try:
        # The address of a worker that was started from a Blob names nothing but its origin.
        base = location.origin if location.protocol == "blob:" else location.href
        return URL.new(url, base).href
    except JsException as error:
        raise FetchError(f"{url!r} is not a URL. Write it in full, like https://host/model.onnx.") from error


async def open_model(
    js_session: Any,
    tune: str,
    on_progress: Progress | None = None,
    on_event: Progress | None = None,
    passes: Passes = ALL_PASSES,
) -> Model:
    """The model of a JavaScript Session that has begun to download it; disposes of the session when it fails."""
    opened: asyncio.Future[Model] = asyncio.get_running_loop().create_future()

    async def needs_plan(described: dict) -> None:
        await (await opened).compile(specs_of(described))

    session = Session(js_session, needs_plan)
    report = on_progress or (lambda event: None)
    timings: dict[str, float] = {}
    try:
        if tune not in ("background", "off"):
            raise InputError(f'tune is "background" or "off", not {tune!r}.')
        facts = await session.facts()
        source = await session.model_bytes()
        started = time.perf_counter()
        report({"stage": "graph"})
        with _named(session.name), collecting_later():
            graph = read_model(source)
            check_operators(graph)
        timings["graph"] = ms_since(started)
        external = graph.external_files()
        if external:
            sizes = await session.fetch_external_data(external)
            with _named(session.name):
                check_files(graph, sizes)
        model = Model(graph, session, facts, tune, report, on_event, passes)
        model.timings |= timings
        await asyncio.gather(session.place(model_signature(graph)), model.recall())
        opened.set_result(model)
        first = static_inputs(graph)
        if first is None and (kept := await session.kept_inputs()) is not None:
            first = specs_of(kept)
        if first is not None:
            with _named(session.name):
                await model.compile(first)
    except BaseException:
        opened.cancel()
        session.dispose()
        raise
    return model


_ADVICE: dict[type[NnjitError], str] = {
    ModelFormatError: "Check that this is a whole ONNX file, or export the model again.",
    UnsupportedError: "Another export of the model, with other options or another opset, may avoid it.",
}


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Refusals of the file's content say which file it is, and what to do."""
    try:
        yield
    except NnjitError as error:
        advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), "")
        message = str(error).removesuffix(".")
        raise ERROR_TYPES[error.code](f"{model}: {message}. {advice}".rstrip()) from error
