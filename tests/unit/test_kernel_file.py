"""Kernel files: what is read, what is refused and why, and what becomes of it in a browser's store."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest

from nnjit import __version__
from nnjit.errors import KernelFileError
from nnjit.runtime.kernel_store import KernelStore, device_key
from nnjit.target import Hardware
from nnjit.tune.device_class import alike, check_class, device_class
from nnjit.tune.kernel_file import MAX_FINDINGS, dump, parse

KEY = "0123456789abcdef0123"
CPU = {"device": "wasm", "threads": 2, "relaxedSimd": True}
GPU = {
    "device": "webgpu", "vendor": "acme", "architecture": "a1", "software": False,
    "maxComputeInvocationsPerWorkgroup": 256, "maxComputeWorkgroupStorageSize": 16384,
    "maxStorageBuffersPerShaderStage": 8,
}  # fmt: skip
FINDING = {"schedule": "tile o0=6 o1=8; vector o1; pack 1", "ms": 0.5, "default": 0.75, "count": 3}


def group(**changes: Any) -> dict:
    return {"generator": __version__, "device": CPU, "tasks": {KEY: [FINDING]}, **changes}


def text(*groups: Any, **changes: Any) -> str:
    return json.dumps({"format": "nnjit-kernels", "version": 1, "groups": list(groups), **changes})


def test_a_good_file_is_taken_whole() -> None:
    groups = [group(), group(device={**GPU, "measured": {"flops": 900.5}})]
    parsed = parse(text(*groups))
    assert parsed.groups == groups
    assert parsed.refused == []
    assert parsed.count == 2


def test_what_is_dumped_is_parsed_and_does_not_depend_on_order() -> None:
    other = group(device=GPU, tasks={"f" * 20: [FINDING], KEY: [FINDING]})
    assert dump([group(), other]) == dump([other, group()])
    parsed = parse(dump([group(), other]))
    assert sorted(parsed.groups, key=str) == sorted([group(), other], key=str)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"format": NaN}', "NaN is not a number"),
        ("[]", 'no "format"'),
        ('{"format": "other"}', 'no "format"'),
        (text(version=2), "version 2; this nnjit reads version 1"),
        (text(version=True), "version True"),
        (text(groups={}), "not a list"),
        (text(*[{}] * 1001), "at most 1000 groups"),
        (" " * (17 << 20), "at most 16 are read"),
    ],
)  # fmt: skip
def test_what_is_no_kernel_file_is_an_error_that_says_so(content: str, message: str) -> None:
    with pytest.raises(KernelFileError, match=message):
        parse(content)


def finding(**changes: Any) -> dict:
    return {name: value for name, value in {**FINDING, **changes}.items() if value is not None}


BAD_FINDINGS = [
    ([], "not an object"),
    ("tile o0=4", "not an object"),
    (finding(schedule=None), "schedule is missing"),
    (finding(schedule=7), "schedule is not a string"),
    (finding(schedule="tile"), "is not how a schedule is written"),
    (finding(schedule="tile  o0=4"), "not a schedule"),
    (finding(schedule="tile o0=4; tile o0=2"), "is not how a schedule is written"),
    (finding(schedule="unroll 1_0"), "is not how a schedule is written"),
    (finding(schedule="rm -rf"), "not a schedule"),
    (finding(schedule="tile o0=4 " + "o" * 400 + "=1"), "at most 400 characters"),
    (finding(schedule="tile o0=65"), "1 to 64 points"),
    (finding(schedule="tile o0=0"), "1 to 64 points"),
    (finding(schedule="tile o0=-4"), "1 to 64 points"),
    (finding(schedule="tile o0=64 o1=64"), "4096 points"),
    (finding(schedule="tile o0=4 o0=2"), "names an axis twice"),
    (finding(schedule="unroll 1000000"), "unroll takes 1 to"),
    (finding(schedule="tile o0=64; unroll 64"), "at most 1024 points"),
    (finding(schedule="serial o0=-1"), "serial takes"),
    (finding(schedule="pack 2"), "operands 0 and 1"),
    (finding(schedule="pack 1 1"), "operands 0 and 1"),
    (finding(schedule="group 3"), "power of two"),
    (finding(schedule="group 4096"), "power of two"),
    (finding(schedule="unroll 2; group 4"), "group stands alone"),
    (finding(schedule="unroll 2; block 8 8 4 4 8"), "block stands alone"),
    (finding(schedule="block 8 8 4 4"), "five positive numbers"),
    (finding(schedule="block 8 8 4 4 -8"), "five positive numbers"),
    (finding(schedule="block 8 8 4 3 8"), "in fours"),
    (finding(schedule="block 1 1 4 4 8"), "more than one invocation"),
    (finding(schedule="block 8 8 64 64 8"), "at most 1024 invocations"),
    (finding(schedule="block 8 8 4 4 4096"), "at most 1024 invocations"),
    (finding(ms=None), "ms is missing"),
    (finding(ms="0.5"), "ms is not a number"),
    (finding(ms=True), "ms is not a number"),
    (finding(ms=0), "ms is not a number"),
    (finding(ms=-1.0), "ms is not a number"),
    (finding(ms=1e400), "ms is not a number"),
    (finding(default=[]), "default is not a number"),
    (finding(count=0), "count is not an integer"),
    (finding(count=1.5), "count is not an integer"),
    (finding(code="AGFzbQ"), "'code' is not a field"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_FINDINGS, ids=[reason for _, reason in BAD_FINDINGS])
def test_a_bad_record_is_refused_with_place_and_reason_and_the_others_kept(bad: Any, reason: str) -> None:
    content = text(group(tasks={KEY: [FINDING, bad]})).replace("Infinity", "1e400")
    parsed = parse(content)
    assert parsed.groups == [group()]
    (refusal,) = parsed.refused
    assert refusal.startswith(f'groups[0].tasks["{KEY}"][1]: ')
    assert reason in refusal


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (7, "groups[0]: not an object"),
        ({"generator": "1"}, "groups[0]: device is missing"),
        (group(wasm="AGFzbQ"), "'wasm' is not a field"),
        (group(generator=1), "generator is not a version"),
        (group(device="wasm"), "device is an object"),
        (group(device={**CPU, "device": "tpu"}), 'whose "device" is one of'),
        (group(device={**CPU, "threads": 2.5}), "device.threads is not an integer"),
        (group(device={**CPU, "threads": True}), "device.threads is not an integer"),
        (group(device={**CPU, "browser": "x"}), "device.browser is not a field"),
        (group(device={**CPU, "measured": {"flops": 0}}), "device.measured takes positive numbers"),
        (group(device={**GPU, "vendor": "x" * 101}), "longer than 100 characters"),
        (group(tasks=[]), "tasks is not an object"),
        (group(tasks={"matmul": [FINDING]}), "20 hexadecimal digits"),
        (group(tasks={KEY.upper(): [FINDING]}), "20 hexadecimal digits"),
        (group(tasks={KEY: FINDING}), "not a list"),
        (group(tasks={KEY: [FINDING] * (MAX_FINDINGS + 1)}), "not a list of at most"),
    ],
)  # fmt: skip
def test_a_bad_group_or_task_is_refused_and_the_other_groups_kept(bad: Any, reason: str) -> None:
    parsed = parse(text(bad, group()))
    assert parsed.groups == [group()]
    (refusal,) = parsed.refused
    assert reason in refusal


# Devices


FACTS = {
    "device": "wasm", "threads": 2, "relaxedSimd": True, "hardwareConcurrency": 8, "adapter": None, "limits": {},
    "features": [], "isolated": True, "maxPages": 65536, "notes": [],
}  # fmt: skip


def test_devices_are_alike_by_what_decides_about_kernels() -> None:
    assert device_class(FACTS) == CPU
    assert alike(CPU, device_class({**FACTS, "hardwareConcurrency": 64, "notes": ["a note"]}))
    assert not alike(CPU, {**CPU, "threads": 1})
    assert not alike(CPU, {**CPU, "relaxedSimd": False})
    assert not alike(CPU, GPU)
    assert not alike(GPU, {**GPU, "vendor": "other"})


def test_what_microbenchmarks_found_belongs_to_the_class() -> None:
    hardware = asdict(
        Hardware(gflops=110.0, bandwidth=((1 << 16, 110.0, 90.0), (1 << 26, 31.0, 21.5)), vector_registers=15)
    )
    found = device_class({**FACTS, "hardware": hardware})
    assert found == {**CPU, "measured": {"flops": 110.0, "bandwidth": 21.5, "registers": 15}}
    assert check_class(found) == found
    without = asdict(Hardware(gflops=900.0, bandwidth=((1 << 26, 310.0, 300.0),)))
    assert device_class({**FACTS, "hardware": without})["measured"] == {"flops": 900.0, "bandwidth": 300.0}


def test_devices_of_another_speed_or_register_count_are_not_alike() -> None:
    fast = {**CPU, "measured": {"flops": 60.0, "registers": 15}}
    assert alike(fast, {**CPU, "measured": {"flops": 45.0, "registers": 15}})
    assert alike(fast, CPU)
    assert not alike(fast, {**CPU, "measured": {"flops": 20.0}})
    assert not alike(fast, {**CPU, "measured": {"flops": 60.0, "registers": 31}})


# The store


class FakeStore:
    """kernel-store.js, in a dict."""

    def __init__(self) -> None:
        self.records: dict[tuple, str] = {}

    async def read(self, *prefix: str) -> str:
        return json.dumps([(k, v) for k, v in self.records.items() if k[: len(prefix)] == prefix])

    async def write(self, entries: str) -> bool:
        self.records |= {tuple(key): value for key, value in json.loads(entries)}
        return True


def finish(work: Any) -> Any:
    """Run a coroutine to its end, in a thread of its own: a browser's event loop may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_imported_schedules_are_hints_for_devices_like_theirs_and_nothing_is_tuned() -> None:
    store = KernelStore(FakeStore())
    imported = finish(store.add(text(group(), group(device={**CPU, "threads": 8}))))
    assert (imported["schedules"], imported["kernels"], imported["refused"]) == (2, 1, [])
    assert str(imported) == (
        "2 schedules for 1 kernel imported, tuned on WebAssembly with 2 threads, relaxed SIMD; WebAssembly with "
        "8 threads, relaxed SIMD. They are tried first when a model with these kernels is loaded."
    )
    assert finish(store.hints(FACTS)) == {KEY: [FINDING]}
    assert finish(store.hints({**FACTS, "threads": 1})) == {}
    assert finish(store.tuned(device_key(FACTS))) == {}


def test_records_of_another_generator_are_left_out_and_named() -> None:
    store = KernelStore(FakeStore())
    imported = finish(store.add(text(group(generator="0.0.1"))))
    assert str(imported).startswith("Nothing was imported. 1 record left out: 1 schedule made by nnjit 0.0.1")
    assert finish(store.hints(FACTS)) == {}


def test_a_second_import_adds_to_the_first() -> None:
    store = KernelStore(FakeStore())
    other = finding(schedule="tile o0=4 o1=8; vector o1", ms=0.25)
    finish(store.add(text(group())))
    finish(store.add(text(group(tasks={KEY: [other], "f" * 20: [FINDING]}))))
    assert finish(store.hints(FACTS)) == {KEY: [other, FINDING], "f" * 20: [FINDING]}


def test_what_one_browser_exports_another_imports() -> None:
    here, there = KernelStore(FakeStore()), KernelStore(FakeStore())
    record = {"schedule": FINDING["schedule"], "ms": 0.5, "default": 0.75, "done": True, "tried": ["plain"]}
    finish(here.remember(FACTS, {KEY: record, "f" * 20: {**record, "ms": None}}))
    exported = finish(here.export())
    assert json.loads(exported)["groups"] == [group(tasks={KEY: [finding(count=None)]})]
    finish(there.add(exported))
    assert finish(there.hints(FACTS)) == {KEY: [finding(count=None)]}
