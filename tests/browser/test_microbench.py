"""Microbenchmarks in Chromium: plausible figures on the CPU and on the (software) GPU, while inferences go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from nnjit.runtime.describe import target_of
from nnjit.tune import microbench

from . import hand_plans as hand
from .gpu_device import Gpu, device_page
from .test_runtime_executor import Session

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from nnjit_build.server import SiteServer


@pytest.fixture(params=[1, 2])
def session(request: pytest.FixtureRequest, site: SiteServer, page: Page) -> Session:
    return Session(site, page, request.param)


X = [1.0, -2.0, 0.5, 4.0, 8.0, -0.25]

PROBE = """
  const probing = t.executor.microbench({ ...JSON.parse(a[0]), blobs: a[1].map(t.bytes) });
  const served = [];
  let over = false;
  probing.finally(() => { over = true; });
  while (!over && a[2]) {
    served.push(await t.run(a[2]));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const times = await probing;
  return { times, served };
"""


def test_the_facts_of_the_cpu_are_plausible(session: Session) -> None:
    request, blobs = microbench.request(session.target)
    times = session.js(PROBE, [request, [hand.encode(b) for b in blobs], None])["times"]
    hardware = microbench.interpret(session.target, times)
    assert hardware.gflops > 0.5
    assert hardware.vector_registers is not None and 8 <= hardware.vector_registers <= 64
    assert 1 <= hardware.cores <= min(session.threads, session.facts["hardwareConcurrency"])
    assert all(rate > 0.1 for _, *rates in hardware.bandwidth for rate in rates)
    assert list(hardware.cache_bytes) == sorted(hardware.cache_bytes)
    assert (hardware.barrier_us > 0) == (session.threads > 1)


def test_inferences_are_served_while_microbenchmarks_run(session: Session) -> None:
    session.add_plan()
    request, blobs = microbench.request(session.target)
    result = session.js(PROBE, [request, [hand.encode(b) for b in blobs], X])
    assert len(result["served"]) > 1
    assert all(y == hand.expected(X) for y in result["served"])
    assert all(ms > 0 for ms in result["times"])


@pytest.fixture
def gpu(site: SiteServer, browser: Browser) -> Iterator[Gpu]:
    with device_page(browser, site) as page:
        yield Gpu(page)


def test_the_facts_of_the_gpu_are_plausible(gpu: Gpu) -> None:
    target = target_of(gpu.facts)
    request, _ = microbench.request(target)
    times = gpu.call("microbench", json.loads(request))
    hardware = microbench.interpret(target, times)
    assert hardware.gflops > 0.01
    assert all(rate > 0 for _, *rates in hardware.bandwidth for rate in rates)
    assert hardware.barrier_us >= 0
    assert hardware.shared_bandwidth is not None and hardware.shared_bandwidth > 0
    assert hardware.dispatch_us is not None and hardware.dispatch_us > 0
