"""Emitted Wasm in the browser itself: relaxed SIMD and shared memory included."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest
from unit.kernels import gemm
from unit.wasm_engine import RUN, Calls, map_kernel, request_for, run_kernel

from nnjit import ir
from nnjit.lower.mathlib import expand
from nnjit.target import Target
from nnjit_build.server import SiteServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

RNG = np.random.default_rng(5)
TARGETS = {
    "plain": Target(),
    "relaxed": Target(relaxed_simd=True),
    "shared": Target(relaxed_simd=True, shared_memory=True, max_pages=64),
}


class ChromiumEngine:
    """Runs modules in an isolated page."""

    def __init__(self, page: Page, site: SiteServer) -> None:
        self.page = page
        page.goto(site.publish("wasm.html", b"<!doctype html><title>wasm</title>"))

    def call(self, module: bytes, memory: bytes, calls: Calls, shared: int) -> bytes:
        return base64.b64decode(self.page.evaluate(RUN, request_for(module, memory, calls, shared)))


@pytest.fixture
def chromium(page: Page, site: SiteServer) -> ChromiumEngine:
    return ChromiumEngine(page, site)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_gemm_in_chromium(chromium: ChromiumEngine, target: Target) -> None:
    a, b = RNG.standard_normal((18, 64), np.float32), RNG.standard_normal((64, 24), np.float32)
    packed = b.reshape(64, 3, 8).transpose(1, 0, 2).copy()
    arrays = {"A": a, "B": packed, "C": np.empty((18, 24), np.float32)}
    out = run_kernel(gemm(18, 24, 64), arrays, target=target, call=chromium.call)
    np.testing.assert_allclose(out["C"], a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, reference", [("exp", np.exp), ("tanh", np.tanh), ("sin", np.sin)])
def test_elementary_functions_in_chromium(chromium: ChromiumEngine, name: str, reference) -> None:  # type: ignore[no-untyped-def]
    target = TARGETS["relaxed"]
    x = np.linspace(-20, 20, 4096, dtype=np.float32)
    kernel = map_kernel(lambda v: expand(ir.unary(name, v), target), {"x": x}, "f32")
    out = run_kernel(kernel, {"x": x, "y": np.empty_like(x)}, target=target, call=chromium.call)
    np.testing.assert_allclose(out["y"], reference(x.astype(np.float64)), rtol=4e-7, atol=1e-7)


def test_half_precision_in_chromium(chromium: ChromiumEngine) -> None:
    x = RNG.standard_normal(4096).astype(np.float16)
    kernel = map_kernel(lambda v: ir.add(v, v), {"x": x}, "f16")
    out = run_kernel(kernel, {"x": x, "y": np.empty_like(x)}, call=chromium.call)
    np.testing.assert_array_equal(out["y"], x + x)
