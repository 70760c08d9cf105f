"""`load` and `Model`: the Python interface. The page's compiler worker uses the same objects (page.py)."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from .. import __version__
from ..codegen_passes import ALL_PASSES, Passes
from ..compiler import CompiledPlan, InputSpec, check_operators, compile_model, static_inputs
from ..errors import (
    ERROR_TYPES,
    DeviceError,
    FetchError,
    InputError,
    KernelFileError,
    ModelFormatError,
    NnjitError,
    UnsupportedError,
)
from ..graph.graph import Graph
from ..onnx.external import check_files
from ..onnx.reader import read_model
from ..target import Hardware, Target
from ..tune import kernel_file, microbench
from ..tune.cost_model import CostModel
from ..tune.device_class import device_class
from ..tune.kernel_file import Findings
from .kernel_store import device_key, findings_of, hints_for
from .loaded_plan import LoadedPlan
from .report import Report, make_report
from .session import Session

LONG_NAMES = {
    "f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "u8": "uint8",
    "i16": "int16", "u16": "uint16", "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64", "bool": "bool",
}  # fmt: skip
SHORT_NAMES = {long: short for short, long in LONG_NAMES.items()}

Progress = Callable[[dict], Any]
"""Takes {"stage", "message"?, "loaded"?, "total"?, "secondsLeft"?}; stages: download, graph, kernels, weights."""


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
        await (await opened)._compile(_specs(described))

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
        with _named(session.name):
            graph = read_model(source)
            check_operators(graph)
        timings["graph"] = _since(started)
        external = graph.external_files()
        if external:
            sizes = await session.fetch_external_data(external)
            with _named(session.name):
                check_files(graph, sizes)
        await session.place(model_signature(graph))
        model = Model(graph, session, facts, tune, report, on_event, passes)
        model.timings |= timings
        await model._recall()
        opened.set_result(model)
        first = static_inputs(graph)
        if first is None and (kept := session.kept_inputs()) is not None:
            first = _specs(kept)
        if first is not None:
            with _named(session.name):
                await model._compile(first)
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


@lru_cache(maxsize=1)
def _shared_groups(text: str) -> list[dict]:
    """The groups of the kernel file that the site ships; none when it is not one, which is the site's mistake."""
    try:
        return kernel_file.parse(text).groups if text else []
    except KernelFileError as error:
        print(f"kernels of this site: {error}")
        return []


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _specs(described: dict) -> dict[str, InputSpec]:
    return {
        name: InputSpec(SHORT_NAMES[d["type"]], tuple(d["dims"]), d["value"]) for name, d in described.items()
    }


def _described(specs: dict[str, InputSpec]) -> dict:
    """The inverse of `_specs`."""
    return {
        name: {"type": LONG_NAMES[s.dtype], "dims": list(s.shape), "value": s.value}
        for name, s in specs.items()
    }


def model_signature(graph: Graph) -> dict:
    """The graph's inputs and outputs as the executor checks them."""

    def ports(infos: list) -> list[dict]:
        return [
            {
                "name": info.name,
                "dtype": LONG_NAMES.get(info.dtype, info.dtype),
                "shape": None if info.shape is None else list(info.shape),
            }
            for info in infos
        ]

    return {"inputs": ports(graph.inputs), "outputs": ports(graph.outputs)}


def target_of(facts: dict, passes: Passes = ALL_PASSES) -> Target:
    """The compiler's target for the device that the runtime found."""
    limits = facts["limits"]
    gpu = {
        "max_workgroup": limits.get("maxComputeInvocationsPerWorkgroup"),
        "shared_bytes": limits.get("maxComputeWorkgroupStorageSize"),
        "max_storage_buffers": limits.get("maxStorageBuffersPerShaderStage"),
    }
    return Target(
        device=facts["device"],
        relaxed_simd=facts["relaxedSimd"],
        shared_memory=facts["isolated"],
        threads=facts["threads"],
        max_pages=facts["maxPages"] or Target.max_pages,
        software=bool((facts["adapter"] or {}).get("software")),
        passes=passes,
        features=frozenset(facts["features"]),
        **{name: value for name, value in gpu.items() if value is not None},
    )


_BACKGROUND_SLICE = 3600.0
"""Seconds of one call of the tuner in the background; it returns as soon as nothing is left to try."""


class Model:
    """A loaded model; made by `load`.

    inputs, outputs   [{"name", "dtype", "shape"}]: a dimension is an int, a name, or None where the model does not say
    device, facts     the device that runs it, and what was found about it
    timings           milliseconds of loading's parts, and of compiling all plans so far: graph, compile (of which trace, fuse,
                      specify, schedule, lower, emit, plan), modules (the browser's compiler), init (weights packed)
    """

    def __init__(
        self,
        graph: Graph,
        session: Session,
        facts: dict,
        tune: str,
        on_progress: Progress,
        on_event: Progress | None,
        passes: Passes,
    ) -> None:
        signature = model_signature(graph)
        self.inputs: list[dict] = signature["inputs"]
        self.outputs: list[dict] = signature["outputs"]
        self.facts = facts
        self.device: str = facts["device"]
        self.timings: dict[str, float] = {"compile": 0.0, "modules": 0.0, "init": 0.0}
        self._graph = graph
        self._session = session
        self._target = target_of(facts, passes)
        self._tune_mode = tune
        self._on_progress = on_progress
        self._on_event = on_event or (lambda event: None)
        self._plans: dict[int, LoadedPlan] = {}
        self._current: LoadedPlan | None = None
        self._inputs: dict[str, InputSpec] = {}
        """For which the current plan was compiled."""
        self._swapped = False
        """Whether kernels were exchanged since a plan was kept for later visits."""
        self._stats: dict = {}
        self._tuning: asyncio.Task | None = None
        self._paused = False
        self._profiling: asyncio.Task | None = None
        self._disposed = False
        self._memory: dict[str, dict] = {}
        """Task → what an earlier visit left of it: see Tuner.records."""
        self._hints: Findings = {}
        """Task → what was fast on devices like this one."""
        self._cost_model = CostModel()
        self._fatal: set[str] = set()
        """Candidates, as `task schedule`, with which the device was lost."""

    async def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference: arrays by name in, arrays by name out.

        The first run with new shapes may compile. Raises InputError for a missing or unknown input or one of the wrong
        dtype or shape, DeviceError when the device fails.
        """
        self._check_alive()
        outputs = await self._session.run(inputs)
        if self._current and self._current.stale and not self._profiling:
            # For `report`, which does not wait; the caller has its answer.
            self._profiling = asyncio.ensure_future(self._profile_quietly())
        return outputs

    async def tune(self, seconds: float = 30, on_progress: Progress | None = None) -> None:
        """Look for faster kernels for at most `seconds`; inferences may go on meanwhile, and use each winner at once.

        on_progress   called with each candidate: {"task", "label", "schedule", "ms", "best", "status", "secondsLeft"};
                      status is that of the measurement, or "swapped" for a winner put to use, or "done"
        Returns early when nothing promising is left, or when `pause_tuning` is called. Raises InputError when the model
        has dynamic shapes and was never run.
        """
        self._check_alive()
        current = self._current
        if current is None:
            raise InputError(
                "This model has dynamic dimensions: run it once, so that tuning knows for which shapes."
            )
        await self._stop_tuning()
        listener = self._on_event

        def both(event: dict) -> None:
            listener(event)
            if on_progress:
                on_progress(event)

        self._on_event = both
        try:
            self._tuning = asyncio.ensure_future(self._tune_now(current, seconds))
            await self._tuning
        finally:
            self._on_event = listener
        await self.profile()
        self._tune_in_background()

    async def _tune_now(self, plan: LoadedPlan, seconds: float) -> None:
        started = time.perf_counter()
        await self._know_device(background=False)
        await plan.tune(max(0.0, seconds - _since(started) / 1000))

    async def pause_tuning(self) -> None:
        """Stop tuning, in the background too, until `resume_tuning`."""
        self._paused = True
        await self._stop_tuning()

    async def resume_tuning(self) -> None:
        """Tune in the background, also when the model was loaded with tune="off"."""
        self._check_alive()
        self._tune_mode, self._paused = "background", False
        self._tune_in_background()

    async def _stop_tuning(self) -> None:
        task = self._tuning
        if task is not None and not task.done():
            # It ends by itself after the batch at hand: cancelled, it might not know what was swapped in.
            for plan in self._plans.values():
                plan.tuner.stopped = True
            await asyncio.wait([task])

    async def profile(self, repeat: int = 3, background: bool = False) -> None:
        """Time every unit of the current plan on the latest inputs; `report` shows it.

        background   give way to inferences, those that are expected soon included
        """
        self._check_alive()
        current = self._current
        if current is not None:
            await current.profile(current.id, repeat, background)
        self._stats = await self._session.stats()

    async def profile_if_stale(self) -> None:
        """Profile if what runs has changed since the last time."""
        if self._current is not None and self._current.stale:
            await self.profile(background=True)

    def report(self) -> Report:
        """What runs and how fast, as far as it was measured: a dict that prints as a table.

        Kernels have times once the model has run and been profiled: `run` and `tune` see to that, `profile` at once.
        """
        self._check_alive()
        return make_report(self.facts, self.timings, self._current, self._stats)

    def export_kernels(self) -> str:
        """What tuning found for this model's kernels on this device, now and on earlier visits, as a kernel file.

        Another browser takes it with `import_kernels`; its form: nnjit/tune/kernel_file.py. It holds schedules and times,
        no code, and nothing of the model but digests of its kernels.
        """
        self._check_alive()
        records: dict[str, dict] = {}
        for plan in self._plans.values():
            tasks = plan.tuner.tasks
            records |= {task: self._memory[task] for task in tasks if task in self._memory}
            records |= plan.tuner.records()
        group = {"generator": __version__, "device": device_class(self.facts), "tasks": findings_of(records)}
        return kernel_file.dump([group] if group["tasks"] else [])

    def source(self, kernel: str) -> str:
        """The emitted code of a kernel that `report` names: readable WebAssembly text, or WGSL. Raises InputError."""
        self._check_alive()
        if self._current is None:
            raise InputError("No kernels yet: this model is compiled at its first run.")
        return self._current.source(kernel)

    def dispose(self) -> None:
        """Give back all memory; calls under way fail."""
        if self._disposed:
            return
        self._disposed = True
        for task in (self._tuning, self._profiling):
            if task is not None:
                task.cancel()
        self._session.dispose()

    async def _compile(self, inputs: dict[str, InputSpec]) -> None:
        """Compile a plan for these inputs and add it to the executor."""
        self._on_progress({"stage": "kernels"})
        # Let the message out: from here on Python is busy.
        await asyncio.sleep(0)
        started = time.perf_counter()
        compiled = self._compiled(inputs)
        self.timings["compile"] += _since(started)
        for stage, ms in compiled.stages.items():
            self.timings[stage] = self.timings.get(stage, 0.0) + ms
        self._on_progress({"stage": "weights"})
        added = await self._session.add_plan(compiled.json, compiled.blobs)
        self.timings["modules"] += added["compileMs"]
        self.timings["init"] += added["initMs"]
        loaded = LoadedPlan(
            added["plan"],
            compiled,
            self._session,
            self._tune_event,
            self._memory,
            self._hints,
            self._cost_model,
            self._fatal,
        )
        self._plans[loaded.id] = self._current = loaded
        self._inputs = inputs
        asyncio.ensure_future(self._keep(compiled))
        self._tune_in_background()

    @property
    def _complete(self) -> bool:
        """Whether the code generator does all it can; what an incomplete one finds best says nothing about others."""
        return self._target.passes == ALL_PASSES

    def _compiled(self, inputs: dict[str, InputSpec]) -> CompiledPlan:
        """A plan with the best schedules known."""
        known = {task: record["schedule"] for task, record in self._memory.items()}
        for plan in self._plans.values():
            known |= plan.tuner.schedules()
        return compile_model(self._graph, inputs, self._target, known)

    async def _keep(self, compiled: CompiledPlan) -> None:
        """Leave the current inputs' plan to later visits."""
        await self._session.keep_plan(compiled.json, compiled.blobs, _described(self._inputs))

    async def _recall(self) -> None:
        if not self._complete:
            return
        store = self._session.store
        key = device_key(self.facts)
        self._memory = await store.tuned(key)
        self._cost_model = CostModel.of(await store.cost_model(key))
        hardware = await store.hardware(self.facts)
        if hardware is not None:
            self._use_hardware(Hardware.of(hardware))
        self._hints = await store.hints(self.facts)
        if self.device == "webgpu":
            self._fatal = await store.fatal(device_key(self.facts))
            self._session.keep_journal(device_key(self.facts))
        for task, findings in hints_for(
            _shared_groups(await self._session.shared_kernels()), self.facts
        ).items():
            self._hints[task] = [*self._hints.get(task, ()), *findings]

    async def _know_device(self, background: bool) -> None:
        """Run the microbenchmarks, unless they have run in this browser before."""
        if self._target.hardware is not None:
            return
        self._on_event({"event": "microbench", "status": "microbench"})
        times = await self._session.microbench(*microbench.request(self._target), background)
        try:
            hardware = microbench.interpret(self._target, times, self.facts["limits"].get("subgroupSize"))
        except ValueError as error:
            self.facts["notes"].append(f"The microbenchmarks gave no result: {error}.")
            return
        self._use_hardware(hardware)
        await self._session.store.keep_hardware(self.facts, asdict(hardware))

    def _use_hardware(self, hardware: Hardware) -> None:
        self._target = self._target.measured(hardware)
        self.facts["hardware"] = asdict(hardware)
        for plan in self._plans.values():
            plan.tuner.retarget(self._target)

    async def _remember(self) -> None:
        """Leave what the plans' tuners found to later visits."""
        if not self._complete:
            return
        await self._session.store.keep_cost_model(device_key(self.facts), self._cost_model.record())
        for plan in self._plans.values():
            await self._session.store.remember(self.facts, plan.tuner.records())

    def _tune_event(self, event: dict) -> None:
        kind = event.get("event")
        if event.get("status") in ("lost", "endless"):
            self._fatal.add(f"{event['task']} {event['schedule']}")
        if kind != "candidate" and not self._disposed:
            asyncio.ensure_future(self._remember())
        if kind == "paused":
            return  # Whoever paused it knows, and it is not over.
        if kind == "swap":
            self._swapped = True
        elif kind == "idle" and self._swapped and not self._disposed:
            # Tuned to the end: so will the next visit begin.
            self._swapped = False
            asyncio.ensure_future(self._keep(self._compiled(self._inputs)))
        if kind != "candidate":
            event = {**event, "status": "swapped" if kind == "swap" else "done"}
        self._on_event(event)

    def _tune_in_background(self) -> None:
        busy = self._tuning is not None and not self._tuning.done()
        if self._tune_mode == "background" and self._current and not (busy or self._paused or self._disposed):
            self._tuning = asyncio.ensure_future(self._tune_all())

    async def _tune_all(self) -> None:
        """Tune plans until nothing promising is left in any, the latest first; what fails ends it, not the model."""
        try:
            await self._know_device(background=True)
            while not self._paused:
                waiting = [p for p in self._plans.values() if not p.tuner.finished]
                if not waiting:
                    break
                await waiting[-1].tune(_BACKGROUND_SLICE, background=True)
                if waiting[-1].tuner.stopped:
                    break
        except Exception as error:
            if not self._disposed:
                if not isinstance(error, NnjitError):
                    # Nobody awaits this task: a mistake in it must not go unseen.
                    traceback.print_exception(error)
                self._on_event({"event": "failed", "status": "failed", "message": str(error)})

    async def _profile_quietly(self) -> None:
        try:
            await self.profile(background=True)
        except DeviceError:
            pass  # Disposed of meanwhile; an inference that fails says so itself.
        finally:
            self._profiling = None

    def _check_alive(self) -> None:
        if self._disposed:
            raise DeviceError("The model was disposed of.")
