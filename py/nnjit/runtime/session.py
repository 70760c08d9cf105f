"""The JavaScript session of one model, with Python's types: what the model and the tuner call.

Every call crosses once, with JSON text and byte arrays; a promise that fails raises the Python type of its error.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from ..errors import InputError
from .javascript import plain, typed
from .kernel_store import KernelStore

_NUMPY_TYPES = (
    "float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool",
)  # fmt: skip


class ByteSource:
    """JavaScript's ModelBytes as the byte source that the ONNX reader takes: bytes are copied when they are read."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.size: int = model.size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer at the end."""
        return self._model.read(offset, length).to_bytes()


class Session:
    """A model's files and executor.

    `needs_plan` is called with the description of inputs that no plan fits; a plan that does must have been added when
    it returns.
    """

    def __init__(self, js: Any, needs_plan: Callable[[dict], Awaitable[None]]) -> None:
        from pyodide.ffi import create_proxy

        self._js = js
        self.store = KernelStore(js.store)
        self.name: str = js.name
        """What messages call the model: its URL or file name."""

        async def compile(inputs: str) -> str:
            try:
                await needs_plan(json.loads(inputs))
            except Exception as error:
                return json.dumps({"error": plain(error)})
            return "{}"

        self._proxy = create_proxy(compile)
        js.useCompiler(self._proxy)

    async def facts(self) -> dict:
        """What was found about the device; raises DeviceError when the one asked for is not there."""
        return json.loads(await _await(self._js.facts()))

    async def model_bytes(self) -> ByteSource:
        """The model file; readable until `place`."""
        return ByteSource(await _await(self._js.modelBytes()))

    async def keep_journal(self, key: str) -> None:
        """Mark candidates as fatal, under the device's key, while they are tried."""
        await _await(self._js.keepJournal(key))

    async def shared_kernels(self) -> str:
        """The kernel file that the site ships, or an empty text."""
        return await _await(self._js.sharedKernels())

    async def fetch_external_data(self, names: list[str]) -> dict[str, int]:
        """Fetch external data files; their sizes in bytes."""
        return json.loads(await _await(self._js.fetchExternalData(json.dumps(names))))

    async def place(self, signature: dict) -> None:
        """Give the executor the model's inputs and outputs, and its files."""
        await _await(self._js.place(json.dumps(signature)))

    async def add_plan(self, text: str, blobs: list[bytes]) -> dict:
        """Instantiate a plan; {"plan": id, "compileMs", "initMs"}."""
        return json.loads(await _await(self._js.addPlan(text, _to_js(blobs))))

    async def kept_inputs(self) -> dict | None:
        """Descriptions of the inputs for which the plan was compiled that an earlier visit kept and that runs already."""
        text = await _await(self._js.keptInputs())
        return json.loads(text) if text else None

    async def keep_plan(self, text: str, blobs: list[bytes], inputs: dict) -> None:
        """Keep a plan for later visits; `inputs`: descriptions of those that it is for."""
        await _await(self._js.keepPlan(text, _to_js(blobs), json.dumps(inputs)))

    async def mark_tuned(self) -> None:
        """Tuning found nothing left to try for the plan that was kept last."""
        await _await(self._js.markTuned())

    async def measure(
        self,
        plan: int,
        unit: int,
        candidates: list[dict],
        samples: int,
        tolerance: float,
        background: bool = False,
    ) -> dict:
        """Time candidates of a unit against the incumbent, on the latest inputs, and check what they compute.

        candidates   as Scheduler.candidate() makes them: {"json", "blobs"}
        tolerance    fraction of the largest magnitude in the incumbent's output
        background   give way to inferences, those that are expected soon included
        Returns {"incumbentMs", "results": [{"status", "ms": [...], "incumbent": [...], "incumbentMs", "maxError",
        "compileMs", "message"}]}; status is "ok", "wrong", "trap", "endless", "lost" (the GPU), "compile-error",
        "out-of-bounds" or "error".
        """
        request = {
            "plan": plan,
            "unit": unit,
            "samples": samples,
            "tolerance": tolerance,
            "background": background,
        }
        texts, blobs = _split(candidates)
        return json.loads(await _await(self._js.measure(json.dumps(request), texts, blobs)))

    async def swap(self, plan: int, replacements: list[tuple[int, dict]]) -> dict:
        """Replace units, (index, candidate), between two inferences: all of them, or none when it raises."""
        texts, blobs = _split([candidate for _, candidate in replacements])
        units = _to_js([unit for unit, _ in replacements])
        return json.loads(await _await(self._js.swap(plan, units, texts, blobs)))

    async def profile(self, plan: int, repeat: int, background: bool = False) -> list[dict]:
        """Median milliseconds, flops and bytes of each unit on the latest inputs; `background` as in `measure`."""
        return json.loads(await _await(self._js.profile(plan, repeat, background)))

    async def microbench(self, request: str, blobs: list[bytes], background: bool) -> list[float | None]:
        """Milliseconds of the experiments that tune.microbench.request describes; `background` as in `measure`."""
        return json.loads(await _await(self._js.microbench(request, _to_js(blobs), background)))

    async def stats(self) -> dict:
        """Memory in bytes, and counts."""
        return json.loads(await _await(self._js.stats()))

    async def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference."""
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"Inputs are a dict of numpy arrays by input name, not of type {type(inputs).__name__}."
            )
        header, data = [], []
        for name, value in inputs.items():
            array = np.asarray(value, order="C")
            if array.dtype.name not in _NUMPY_TYPES:
                raise InputError(
                    f"The input {name!r} has the numpy dtype {array.dtype}, which no model takes."
                )
            header.append([name, array.dtype.name, list(array.shape)])
            data.append(_bytes_to_js(array))
        answer = await _await(self._js.run(json.dumps(header), _to_js(data)))
        outputs = {}
        for (name, dtype, shape), bytes_ in zip(json.loads(answer.header), answer.data, strict=True):
            array = np.empty(shape, dtype)
            if array.nbytes:
                bytes_.assign_to(array.reshape(-1).view(np.uint8))
            outputs[name] = array
        return outputs

    def dispose(self) -> None:
        """Stop the executor and give back its memory."""
        self._js.dispose()
        self._proxy.destroy()


async def _await(promise: Any) -> Any:
    try:
        return await promise
    except Exception as error:
        raise typed(error) from error


def _to_js(value: Any) -> Any:
    from pyodide.ffi import to_js

    return to_js(value)


def _bytes_to_js(array: np.ndarray) -> Any:
    """A Uint8Array of the array's bytes, in a buffer of its own."""
    from js import Uint8Array

    target = Uint8Array.new(array.nbytes)
    if array.nbytes:
        target.assign(array.reshape(-1).view(np.uint8))
    return target


def _split(candidates: list[dict]) -> tuple[Any, Any]:
    return _to_js([c["json"] for c in candidates]), _to_js([c["blobs"] for c in candidates])
