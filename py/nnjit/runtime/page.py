"""What compiler.worker.js calls: models of a page by number, answers as JSON text {"result"} or {"error"}."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ..codegen_passes import Passes
from ..errors import DeviceError, InputError
from ..target import Target
from .describe import target_of
from .javascript import plain
from .kernel_store import KernelStore
from .loading import open_model
from .model import Model

_models: dict[int, Model] = {}


async def load(number: int, session: Any, tune: str, without: str, on_event: Any) -> str:
    """Finish loading the model of a JavaScript Session; its inputs, outputs and facts.

    `without` names the passes of the code generator that are left out, separated by spaces.
    """

    async def work() -> dict:
        from js import Object
        from pyodide.ffi import to_js

        send_progress = session.progress

        def progress(event: dict) -> None:
            send_progress(to_js(event, dict_converter=Object.fromEntries))

        try:
            passes = Passes.without(without.split())
        except ValueError as problem:
            raise InputError(str(problem)) from None
        model = await open_model(session, tune, progress, lambda event: on_event(json.dumps(event)), passes)
        _models[number] = model
        return {"inputs": model.inputs, "outputs": model.outputs, "facts": model.facts}

    return await _answer(work)


async def call(number: int, method: str, args: str) -> str:
    """One of the methods of a model that the page may call."""

    async def work() -> Any:
        model = _models.get(number)
        if model is None:
            raise DeviceError("The model was disposed of.")
        return await _METHODS[method](model, **json.loads(args))

    return await _answer(work)


async def export_kernels(store: Any) -> str:
    """All that was tuned in this browser; `store` is the module kernel-store.js."""

    return await _answer(KernelStore(store).export)


async def import_kernels(store: Any, text: str) -> str:
    """Take a kernel file; what was imported, and the same in words."""

    async def work() -> dict:
        imported = await KernelStore(store).add(text)
        return {**imported, "message": str(imported)}

    return await _answer(work)


def warming(facts: str) -> Iterator[str]:
    """Compile what nobody asked for, a little with each step; `facts`: JSON, "" where the device is not known yet."""
    from .warm_up import steps  # Most visits need none of it.

    return steps(target_of(json.loads(facts)) if facts else Target())


async def keep_findings() -> str:
    """The page may be gone soon: leave what tuning found for its models to later visits."""

    async def work() -> None:
        for model in list(_models.values()):
            await model.keep_findings()

    return await _answer(work)


async def dispose(number: int) -> str:
    """Forget a model."""

    async def work() -> None:
        model = _models.pop(number, None)
        if model is not None:
            model.dispose()

    return await _answer(work)


async def _report(model: Model) -> dict:
    await model.profile_if_stale()
    return model.report()


async def _export_kernels(model: Model) -> str:
    return model.export_kernels()


async def _source(model: Model, kernel: str) -> str:
    return model.source(kernel)


_METHODS: dict[str, Callable[..., Awaitable[Any]]] = {
    "tune": Model.tune,
    "pause_tuning": Model.pause_tuning,
    "resume_tuning": Model.resume_tuning,
    "profile": Model.profile,
    "report": _report,
    "export_kernels": _export_kernels,
    "source": _source,
}


async def _answer(work: Callable[[], Awaitable[Any]]) -> str:
    try:
        return json.dumps({"result": await work()})
    except Exception as error:
        return json.dumps({"error": plain(error)})
