"""`Model`: the Python interface to a model that is loaded. The page's compiler worker uses the same object (page.py)."""

from __future__ import annotations

import asyncio
import gc
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
from ..compiler import CompiledPlan, InputSpec, compile_model
from ..errors import DeviceError, InputError, KernelFileError, NnjitError
from ..graph.graph import Graph
from ..stopwatch import ms_since
from ..target import Hardware
from ..tune import kernel_file, microbench
from ..tune.cost_model import CostModel
from ..tune.device_class import device_class
from ..tune.kernel_file import Findings
from .describe import described, model_signature, target_of
from .kernel_store import device_key, findings_of, hints_for
from .loaded_plan import LoadedPlan
from .report import Report, make_report
from .session import Session

Progress = Callable[[dict], Any]
"""Takes {"stage", "message"?, "loaded"?, "total"?, "secondsLeft"?}; stages: download, graph, kernels, weights."""


@lru_cache(maxsize=1)
def _shared_groups(text: str) -> list[dict]:
    """The groups of the kernel file that the site ships; none when it is not one, which is the site's mistake."""
    try:
        return kernel_file.parse(text).groups if text else []
    except KernelFileError as error:
        print(f"kernels of this site: {error}")
        return []


_COLLECT_AFTER = 0.1
"""Seconds from a compilation until garbage is looked for again: not before the inference that waits for the plan begins."""


@contextmanager
def collecting_later() -> Iterator[None]:
    """Look for no garbage meanwhile, and for a moment more: among all that a compilation leaves, the search takes long."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            asyncio.get_running_loop().call_later(_COLLECT_AFTER, gc.enable)


_KEEP_AFTER = 1.0
"""Seconds from a swap until the plan is kept for later visits: other winners may follow at once."""
_KEEP_PART = 0.1
"""Part of the time that making plans for later visits may take while tuning goes on."""

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
        self._keeping: asyncio.TimerHandle | None = None
        """Set when kernels were exchanged since a plan was kept for later visits: when the next one will be."""
        self._compile_ms = 0.0
        """Of the latest plan."""
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
        await plan.tune(max(0.0, seconds - ms_since(started) / 1000))

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
        for task in (self._tuning, self._profiling, self._keeping):
            if task is not None:
                task.cancel()
        self._session.dispose()

    async def compile(self, inputs: dict[str, InputSpec]) -> None:
        """Compile a plan for these inputs and add it to the executor."""
        self._on_progress({"stage": "kernels"})
        # Let the message out: from here on Python is busy.
        await asyncio.sleep(0)
        with collecting_later():
            started = time.perf_counter()
            compiled = self._compiled(inputs)
            self.timings["compile"] += ms_since(started)
            for stage, ms in compiled.stages.items():
                self.timings[stage] = self.timings.get(stage, 0.0) + ms
            self._on_progress({"stage": "weights"})
            added = await self._session.add_plan(compiled.json, compiled.blobs)
            self._on_progress({"stage": "weights", "done": True})
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
        started = time.perf_counter()
        compiled = compile_model(self._graph, inputs, self._target, known)
        self._compile_ms = ms_since(started)
        return compiled

    async def _keep(self, compiled: CompiledPlan) -> None:
        """Leave the current inputs' plan to later visits."""
        if self._disposed:
            return
        await self._session.keep_plan(compiled.json, compiled.blobs, described(self._inputs))

    def _keep_soon(self) -> None:
        """Leave what was swapped in to later visits, with what follows in the next moments; compiling takes a core."""
        if self._keeping is None and not self._disposed:
            wait = max(_KEEP_AFTER, self._compile_ms / 1000 / _KEEP_PART)
            loop = asyncio.get_running_loop()
            self._keeping = loop.call_later(wait, lambda: asyncio.ensure_future(self._keep_tuned()))

    async def _keep_tuned(self) -> None:
        """Leave the plan with all that was swapped in to later visits, if it is not kept yet."""
        if self._keeping is None or self._disposed:
            return
        self._keeping.cancel()
        self._keeping = None
        await self._keep(self._compiled(self._inputs))

    async def _tuning_ended(self) -> None:
        """Leave the plan to later visits, and that nothing is left to try for it, if that is so: they need no Python then."""
        await self._keep_tuned()
        if self._current is not None and not self._disposed and self._current.tuner.finished:
            await self._session.mark_tuned()

    async def keep_findings(self) -> None:
        """Leave what tuning found so far to later visits at once: the page may be gone soon."""
        if self._disposed:
            return
        await self._remember()
        await self._keep_tuned()

    async def recall(self) -> None:
        """Take over what earlier visits, and others with devices like this one, found; before anything is compiled."""
        if not self._complete:
            return
        store = self._session.store
        key = device_key(self.facts)
        self._memory, cost_model, hardware, self._hints, shared = await asyncio.gather(
            store.tuned(key),
            store.cost_model(key),
            store.hardware(self.facts),
            store.hints(self.facts),
            self._session.shared_kernels(),
        )
        self._cost_model = CostModel.of(cost_model)
        kept = hardware and Hardware.of(hardware)
        if kept:
            self._use_hardware(kept)
        if self.device == "webgpu":
            self._fatal = await store.fatal(device_key(self.facts))
            await self._session.keep_journal(device_key(self.facts))
        for task, findings in hints_for(_shared_groups(shared), self.facts).items():
            self._hints[task] = [*self._hints.get(task, ()), *findings]

    async def _know_device(self, background: bool) -> None:
        """Run the microbenchmarks, unless they have run in this browser before."""
        if self._target.hardware is not None:
            return
        self._on_event({"event": "microbench", "status": "microbench"})
        times = await self._session.microbench(*microbench.request(self._target), background)
        self._on_event({"event": "measured", "status": "measured"})
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
            self._keep_soon()
        elif kind == "idle":
            asyncio.ensure_future(self._tuning_ended())
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
