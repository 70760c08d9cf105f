"""A plan in the executor, as Python remembers it: which kernels each unit runs now, and how long they take."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import cached_property

from ..compiler import CompiledPlan
from ..emit.wasm import emit_module
from ..emit.wgsl import emit_shader
from ..errors import InputError
from ..tune.cost_model import CostModel
from ..tune.kernel_file import Findings
from ..tune.tuner import Tuner
from .session import Session


class LoadedPlan:
    """One plan. It is the executor of its tuner, because it must know of what is swapped in.

    units     the plan's, those swapped in included
    times     the latest profile, in the order of the units; `first_ms` are those of the first one
    stale     what runs has changed since
    """

    def __init__(
        self,
        id: int,
        compiled: CompiledPlan,
        session: Session,
        on_event: Callable[[dict], None],
        remembered: Mapping[str, dict],
        hints: Findings,
        model: CostModel,
        fatal: Collection[str],
    ) -> None:
        self.id = id
        self.compiled = compiled
        self._session = session
        self._make_tuner = lambda: Tuner(compiled, id, self, on_event, remembered, hints, model, fatal)
        self.times: list[dict] = []
        self.first_ms: list[float] = []
        self.stale = True

    @cached_property
    def tuner(self) -> Tuner:
        """Made when it is first wanted: the first inference does not wait for it."""
        return self._make_tuner()

    @cached_property
    def units(self) -> list[dict]:
        """See the class; read from the plan when they are first wanted."""
        body = json.loads(self.compiled.json)
        _name_kernels(body["units"], body["kernels"])
        return body["units"]

    async def tune(self, seconds: float, background: bool = False) -> None:
        """Run the tuner for at most `seconds`; `tuner.stopped` ends it earlier. `background`: inferences come first."""
        self.tuner.stopped = False
        await self.tuner.run(seconds, background)

    async def measure(
        self, plan: int, unit: int, candidates: list[dict], samples: int, tolerance: float, background: bool
    ) -> dict:
        """Time and check candidates of a unit: see Session.measure."""
        return await self._session.measure(plan, unit, candidates, samples, tolerance, background)

    async def swap(self, plan: int, replacements: list[tuple[int, dict]]) -> None:
        """Replace units, (index, candidate as Scheduler.candidate() makes it), between two inferences."""
        await self._session.swap(plan, replacements)
        for unit, candidate in replacements:
            body = json.loads(candidate["json"])
            _name_kernels([body["unit"]], body["kernels"])
            self.units[unit] = body["unit"]
        self.stale = True

    async def profile(self, plan: int, repeat: int, background: bool = False) -> list[dict]:
        """Time every unit on the latest inputs: [{"unit", "ms", "flops", "read", "written"}], bytes.."""
        self.times = await self._session.profile(plan, repeat, background)
        self.first_ms = self.first_ms or [entry["ms"] for entry in self.times]
        self.stale = False
        return self.times

    def source(self, kernel: str) -> str:
        """The code of a kernel, as text. Raises InputError for a name that the plan does not have."""
        found = self.tuner.kernel(kernel)
        if found is None:
            raise InputError(f"The plan has no kernel {kernel!r}; report() lists them.")
        if self.compiled.target.device == "webgpu":
            return emit_shader(found, self.compiled.target)
        from ..emit.wat import disassemble

        # Emitted once more, because the module that runs leaves out the names of locals.
        return disassemble(emit_module([found], self.compiled.target, names=True), kernel)


def _name_kernels(units: list[dict], kernels: list[dict]) -> None:
    """Let each unit list the names of the kernels of its steps, and of its init steps."""
    for unit in units:
        for name, steps in (("kernels", unit["steps"]), ("init_kernels", unit["init"])):
            unit[name] = list(dict.fromkeys(kernels[step["kernel"]]["name"] for step in steps))
