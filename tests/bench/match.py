"""One page with all contestants in it, and the match of one case: load, verify, warm up, alternate, tune, alternate."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from nnjit_build import demo_model
from nnjit_build.server import SiteServer

from .cases import Case
from .engines import Engine
from .remote import Failed, RemotePage
from .rivals import Rival
from .verify import Error, Wrong, error

OURS = "nnjit"
UNTUNED = "nnjit untuned"
"""Ours once more, as it was loaded: beside a tuned one in the same page, so that the machine's drift is in neither."""
PAGE = Path(__file__).with_name("page")
_PAUSE_MS = 20.0


@dataclass
class Result:
    """What one contestant did; times in milliseconds, None where it did not get so far.

    problem   why no number of it may be printed, or None
    start     the library brought up, a tiny model included
    create    the model loaded, with the library up
    first     the first inference
    samples   of the match; if there was tuning, after it
    device    ours: what the executor took in each sample
    error     the largest over all answers that were checked
    facts     see `facts` in page.js
    """

    problem: str | None = None
    start: float | None = None
    create: float | None = None
    first: float | None = None
    samples: list[float] = field(default_factory=list)
    device: list[float] = field(default_factory=list)
    error: Error = Error()
    tune_seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def median(self) -> float:
        return statistics.median(self.samples)


class Arena:
    """A page in which contestants were started; `close` gives the browser's memory back.

    Raises Failed when nnjit itself does not start; a rival that does not is left out, with the reason in `refused`.
    """

    def __init__(
        self, engine: Engine, server: SiteServer, rivals: Sequence[Rival], device: str, threads: int
    ) -> None:
        self.server = server
        scripts = server.publish_folder(PAGE)
        html = f'<!doctype html><title>bench</title><script type="module" src="{scripts}page.js"></script>'
        self.page = RemotePage(engine, server, server.publish("bench.html", html.encode()))
        self.started: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        tiny = server.publish(demo_model.FILE_NAME, demo_model.build())
        self._ours = f"{scripts}ours.js"
        self._common = {"root": server.url, "device": device, "threads": threads, "tiny": tiny}
        self._start(OURS, self._ours, self._common)
        for rival in rivals:
            folders = [package.ensure() for package in rival.packages]
            places = [server.publish_folder(folder) for folder in folders]
            setup = {"assets": places[0] + "dist/", "places": places, "entry": rival.entry}
            self._start(rival.name, scripts + rival.module, self._common | setup)

    def _start(self, name: str, module: str, setup: dict[str, Any]) -> None:
        try:
            self.started[name] = self.call("start", name, module, setup)
        except Failed as problem:
            if name == OURS:
                self.close()
                raise Failed(f"nnjit could not be started: {problem}") from None
            self.refused[name] = f"could not be started: {problem}"

    def join(self, name: str, settings: dict[str, Any]) -> None:
        """Start nnjit once more, as the contestant `name` with other settings. Raises Failed."""
        self.started[name] = self.call("start", name, self._ours, self._common | settings)

    def drop(self, name: str) -> None:
        """Dispose of a contestant's model."""
        self.call("dispose", name)

    def call(self, name: str, *parameters: object) -> Any:
        """A function of page.js. Raises Failed with what it threw, and when the page itself is gone."""
        return self.page.call(name, *parameters)

    def close(self) -> None:
        self.page.close()


class Match:
    """All contestants on one case. Whoever fails or answers wrongly is out, and the others go on."""

    def __init__(self, arena: Arena, case: Case) -> None:
        self.arena = arena
        self.case = case
        self.results = {name: Result(start=ms) for name, ms in arena.started.items()}
        self.results |= {name: Result(problem=problem) for name, problem in arena.refused.items()}

    def play(self, repeat: int, tune_seconds: float) -> dict[str, Result]:
        """Results by contestant; with `tune_seconds` ours has tuned itself before, and UNTUNED takes part."""
        inputs = self._publish_inputs()
        tuning = tune_seconds > 0
        if tuning:
            self._join_untuned()
        for name in self._standing():
            self._attempt(name, self._load, inputs)
        if tuning and OURS in self._standing():
            self._attempt(OURS, self._tune, tune_seconds)
        self._compete(repeat)
        for name in self._standing():
            self._attempt(name, self._look)
        for name in self.arena.started:
            self._attempt(name, lambda name: self.arena.call("dispose", name))
        return self.results

    def _join_untuned(self) -> None:
        if UNTUNED not in self.results:
            self.join(UNTUNED, {})

    def join(self, name: str, settings: dict[str, Any]) -> None:
        """Let nnjit take part once more, with other settings."""
        self.arena.join(name, settings)
        self.results[name] = Result(start=self.arena.started[name])

    def load(self, name: str) -> None:
        """Give a contestant the case, in place of what it had, and check its first answer."""
        self.arena.drop(name)
        self._attempt(name, self._load, self._publish_inputs())

    def tune(self, name: str, seconds: float) -> None:
        """Let a contestant tune itself, and check its answer."""
        self._attempt(name, self._tune, seconds)

    def tuned_in_background(self, seconds: float) -> dict[str, Any] | None:
        """Ours, tuning itself while it runs without a break for at most `seconds`, beside UNTUNED: see `curve` in
        background.js. None where an answer was wrong or something failed: see `results`."""
        found = None
        inputs = self._publish_inputs()

        def look(name: str) -> None:
            nonlocal found
            result = self.results[name]
            result.create = self.arena.call("create", name, self._task(inputs, "background"))
            found = self.arena.call("curve", name, UNTUNED, seconds)
            result.first = found["first"]
            self._check(name)
            self._look(name)

        self._join_untuned()
        self._attempt(UNTUNED, self._load, inputs)
        if UNTUNED in self._standing():
            self._attempt(OURS, look)
        for name in (OURS, UNTUNED):
            self._attempt(name, lambda name: self.arena.call("dispose", name))
        return found if len(self._standing()) == len(self.results) else None

    def _standing(self) -> list[str]:
        return [name for name, result in self.results.items() if result.problem is None]

    def _attempt(self, name: str, action: Callable[..., object], *parameters: object) -> None:
        try:
            action(name, *parameters)
        except (Failed, Wrong) as problem:
            if self.results[name].problem is None:
                self.results[name].problem = str(problem)

    def _publish_inputs(self) -> dict[str, Any]:
        return {
            name: {
                "url": self.arena.server.publish("input.bin", np.ascontiguousarray(array).tobytes()),
                "dims": list(array.shape),
                "type": array.dtype.name,
            }
            for name, array in self.case.expected.inputs.items()
        }

    def _task(self, inputs: dict[str, Any], tune: str = "off") -> dict[str, Any]:
        # A folder of its own for each contestant: none may find what another one left in the browser's cache.
        folder = self.arena.server.publish_folder(self.case.model.parent)
        url = folder + quote(self.case.model.name)
        return {"url": url, "operator": self._operator(), "inputs": inputs, "tune": tune}

    def _load(self, name: str, inputs: dict[str, Any]) -> None:
        result = self.results[name]
        result.create = self.arena.call("create", name, self._task(inputs))
        result.first = self.arena.call("first", name)
        self._check(name)
        self.arena.call("warm", name)

    def _operator(self) -> dict[str, Any] | None:
        operator = self.case.operator
        if operator is None:
            return None
        constants = {
            name: {
                "url": self.arena.server.publish("constant.bin", np.ascontiguousarray(array).tobytes()),
                "dims": list(array.shape),
                "type": array.dtype.name,
            }
            for name, array in operator["constants"].items()
        }
        return operator | {"constants": constants}

    def _compete(self, repeat: int) -> None:
        names = self._standing()
        if OURS not in names:
            return
        samples = self.arena.call("alternate", names, repeat, _PAUSE_MS)
        for name in names:
            self.results[name].samples = samples[name]["wall"]
            self.results[name].device = [ms for ms in samples[name]["device"] if ms is not None]
            self._attempt(name, self._check)

    def _tune(self, name: str, seconds: float) -> None:
        self.results[name].tune_seconds = self.arena.call("tune", name, seconds)
        self.arena.call("warm", name)
        self._check(name)

    def _check(self, name: str) -> None:
        result = self.results[name]
        result.error = result.error.worse(error(self.arena.call("outputs", name), self.case.expected))

    def _look(self, name: str) -> None:
        self.results[name].facts = self.arena.call("facts", name)
