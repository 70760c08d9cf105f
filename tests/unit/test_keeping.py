"""What tuning finds is left to the next visit while it goes on: `Model` against a browser that is made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx.helper as h
import onnx.numpy_helper as nh
import pytest
from unit.test_tuner import FakeExecutor, finish

from nnjit.codegen_passes import ALL_PASSES
from nnjit.onnx.reader import read_model
from nnjit.runtime import model as runtime
from nnjit.runtime.describe import specs_of
from nnjit.runtime.model import Model
from nnjit.target import Hardware

FACTS = {
    "device": "wasm", "threads": 1, "relaxedSimd": True, "hardwareConcurrency": 2, "adapter": None, "features": [],
    "isolated": True, "maxPages": 1024, "limits": {}, "browser": "test", "notes": [],
}  # fmt: skip


def product() -> bytes:
    """x [96, 64] · w [64, 64]."""
    weight = nh.from_array(np.eye(64, dtype=np.float32), "w")
    ports = [h.make_tensor_value_info(name, 1, [96, 64]) for name in "xy"]
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w"], ["y"])], "product", ports[:1], ports[1:], [weight]
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()


class Browser(FakeExecutor):
    """Session, executor and storage. `kept`: the schedules of each plan that was kept; `swaps`: of each swap; `over`: of the
    plan that was kept last, each time when nothing was left to try for it."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(units=[]), self.time)  # type: ignore[arg-type]
        self.kept: list[list[str]] = []
        self.swaps: list[str] = []
        self.over: list[list[str]] = []
        self.records: dict[str, dict] = {}
        self.store: Any = self

    def time(self, schedule: str) -> float:
        """The first that is measured wins, and every later one loses."""
        if not hasattr(self, "default"):
            self.default = schedule
        if schedule != self.default and not hasattr(self, "winner"):
            self.winner = schedule
        return 1.0 if schedule == getattr(self, "winner", None) else 2.0

    async def add_plan(self, text: str, blobs: list[bytes]) -> dict:
        self.running = schedules_of(text)
        return {"plan": 1, "compileMs": 0.0, "initMs": 0.0}

    async def swap(self, plan: int, replacements: list[tuple[int, dict]]) -> None:
        await super().swap(plan, replacements)
        self.swaps.append(self.running[0])

    async def keep_plan(self, text: str, blobs: list[bytes], inputs: dict) -> None:
        self.kept.append(schedules_of(text))

    async def mark_tuned(self) -> None:
        self.over.append(self.kept[-1])

    async def tuned(self, device: str) -> dict:
        return {}

    cost_model = hints = tuned

    async def hardware(self, facts: dict) -> dict:
        return asdict(Hardware(gflops=50.0, bandwidth=((1 << 16, 60.0, 50.0),)))

    async def shared_kernels(self) -> str:
        return ""

    async def keep_cost_model(self, device: str, record: dict) -> None:
        pass

    async def remember(self, facts: dict, records: dict[str, dict]) -> None:
        self.records |= records

    async def stats(self) -> dict:
        return {}

    def dispose(self) -> None:
        pass


def schedules_of(plan: str) -> list[str]:
    return [unit["schedule"] for unit in json.loads(plan)["units"]]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def swapped(browser: Browser) -> Model:
    """A model whose tuner has put a winner to use and is far from its end."""

    def hold() -> None:
        if browser.swaps:
            raise RuntimeError("held")

    model = Model(read_model(product()), browser, dict(FACTS), "off", print, None, ALL_PASSES)  # type: ignore[arg-type]
    await model.recall()
    await model.compile(specs_of({"x": {"type": "float32", "dims": [96, 64], "value": None}}))
    await until(lambda: len(browser.kept) == 1)
    browser.on_measure = hold
    with pytest.raises(RuntimeError, match="held"):
        await model.tune(60)
    assert browser.swaps == [browser.winner]
    return model


def test_a_winner_is_in_the_kept_plan_soon_after_it_was_swapped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_KEEP_AFTER", 0.01)
    monkeypatch.setattr(runtime, "_KEEP_PART", 100.0)
    browser = Browser()

    async def visit() -> None:
        model = await swapped(browser)
        await until(lambda: len(browser.kept) == 2)
        assert browser.kept == [[browser.default], [browser.winner]]
        await model.keep_findings()
        assert len(browser.kept) == 2, "what is kept already is not kept again"

    finish(visit())


def test_a_page_that_is_left_keeps_what_was_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_KEEP_AFTER", 3600.0)
    browser = Browser()

    async def visit() -> None:
        model = await swapped(browser)
        assert browser.kept == [[browser.default]]
        await model.keep_findings()
        assert browser.kept[1:] == [[browser.winner]]
        (record,) = browser.records.values()
        assert record["schedule"] == browser.winner

    finish(visit())


def test_that_nothing_is_left_to_try_is_kept_with_the_plan_that_was_tuned() -> None:
    browser = Browser()

    async def visit() -> None:
        model = await swapped(browser)
        assert not browser.over, "tuning was cut off"
        browser.on_measure = lambda: None
        await model.tune(60)
        await until(lambda: bool(browser.over))
        assert browser.over == [[browser.winner]]

    finish(visit())
