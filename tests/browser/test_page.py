"""The page with the real runtime behind it: a model from a URL or a file, right numbers, kernels, tuning, refusals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from playwright.sync_api import expect

from . import small_models
from .page_actions import load, run_once, saved_output, upload_npy

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit_build.server import SiteServer

X = np.random.default_rng(5).standard_normal((6, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def page(module_page: Page, site: SiteServer) -> Page:
    """The page, open for all tests of this module: Python starts once, and refusals must not harm what follows."""
    module_page.goto(site.url)
    return module_page


@pytest.fixture(scope="module")
def perceptron() -> onnx.ModelProto:
    return small_models.perceptron()


def check_numbers(page: Page, model: onnx.ModelProto) -> None:
    """Run on X and compare the saved output with onnxruntime's."""
    upload_npy(page, X)
    run_once(page)
    expected = small_models.reference(model, {"x": X})["y"]
    np.testing.assert_allclose(saved_output(page, "y"), expected, atol=1e-4 * np.sqrt((expected**2).mean()))


@pytest.mark.parametrize(("device", "shown"), [("CPU", "CPU (WebAssembly)"), ("GPU", "GPU (WebGPU)")])
def test_a_model_from_a_url_gives_the_right_numbers(
    page: Page, site: SiteServer, perceptron: onnx.ModelProto, device: str, shown: str
) -> None:
    load(page, site.publish("model.onnx", perceptron.SerializeToString()), device)
    check_numbers(page, perceptron)
    expect(page.locator("#facts")).to_contain_text(shown)


def test_a_model_from_files_with_its_weights_beside_it(page: Page) -> None:
    model = small_models.perceptron()
    data, weights = small_models.external(small_models.perceptron(), "weights.data")
    page.get_by_label("or choose a file").set_input_files(
        [
            {"name": "model.onnx", "mimeType": "application/octet-stream", "buffer": data},
            {"name": "weights.data", "mimeType": "application/octet-stream", "buffer": weights},
        ]
    )
    page.get_by_role("radio", name="CPU").check()
    page.get_by_role("button", name="Load").click()
    expect(page.get_by_role("button", name="Load")).to_be_enabled()
    expect(page.get_by_role("alert")).to_be_hidden()
    check_numbers(page, model)


def test_every_stage_of_loading_ends(page: Page, site: SiteServer) -> None:
    # One of which no plan is kept: nothing is left out.
    load(page, site.publish("stages.onnx", small_models.perceptron(batch=3).SerializeToString()), "CPU")
    run_once(page)
    states = page.locator("#stages li").evaluate_all("(items) => items.map((item) => item.dataset.state)")
    assert states == ["done"] * 6


def test_kernels_show_their_emitted_wasm(page: Page, site: SiteServer, perceptron: onnx.ModelProto) -> None:
    load(page, site.publish("model.onnx", perceptron.SerializeToString()), "CPU")
    run_once(page)
    page.locator("table.kernels tbody button").first.click()
    expect(page.locator("#kernel-detail pre")).to_contain_text("(func ")
    expect(page.locator("#kernel-detail pre")).to_contain_text("v128.load")


def test_kernels_show_their_emitted_wgsl(page: Page, site: SiteServer, perceptron: onnx.ModelProto) -> None:
    load(page, site.publish("model.onnx", perceptron.SerializeToString()), "GPU")
    run_once(page)
    page.locator("table.kernels tbody button").first.click()
    expect(page.locator("#kernel-detail pre")).to_contain_text("@compute")


@pytest.mark.parametrize("batch", [64, "batch"])
def test_candidates_are_measured_while_the_model_runs(page: Page, site: SiteServer, batch: int | str) -> None:
    model = small_models.perceptron(batch, width=512)
    load(page, site.publish("model.onnx", model.SerializeToString()), "CPU")
    page.get_by_role("group", name="x", exact=True).get_by_label("Fill with").select_option("Random")
    if batch == "batch":
        page.get_by_label("batch").fill("64")
    page.get_by_role("button", name="Run continuously").click()
    expect(page.locator("#tuning-text")).to_contain_text(re.compile(r"[1-9]\d* candidates? tried"))
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    page.locator("table.kernels tbody button").first.click()
    expect(page.locator(".candidates h4")).to_contain_text(re.compile(r"[1-9]\d* of \d+ tried"))


def test_another_size_gives_another_shape(page: Page, site: SiteServer, perceptron: onnx.ModelProto) -> None:
    load(page, site.publish("model.onnx", perceptron.SerializeToString()), "CPU")
    page.get_by_role("group", name="x", exact=True).get_by_label("Fill with").select_option("Random")
    for batch in (1, 5):
        page.get_by_label("batch").fill(str(batch))
        run_once(page)
        assert saved_output(page, "y").shape == (batch, 8)


def test_inputs_of_the_wrong_shape_are_refused_at_the_form(
    page: Page, site: SiteServer, perceptron: onnx.ModelProto
) -> None:
    load(page, site.publish("model.onnx", perceptron.SerializeToString()), "CPU")
    upload_npy(page, np.zeros((2, 63), np.float32))
    run_once(page)
    expect(page.get_by_role("alert")).to_contain_text("63")
    check_numbers(page, perceptron)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("unknown operator", small_models.unsupported().SerializeToString(), ["Frobnicate", "odd_one"]),
        ("not a model", b"<!doctype html><title>Sign in</title>", ["it is a web page"]),
        ("cut short", small_models.perceptron().SerializeToString()[:3000], []),
        ("missing weights", small_models.external(small_models.perceptron(), "w.data")[0], ["w.data"]),
    ],
)
def test_a_refused_model_says_why_and_the_next_one_works(
    page: Page, site: SiteServer, perceptron: onnx.ModelProto, name: str, content: bytes, says: list[str]
) -> None:
    load(page, site.publish("model.onnx", content), "CPU")
    alert = page.get_by_role("alert")
    expect(alert).to_be_visible()
    for words in says:
        expect(alert).to_contain_text(words)
    load(page, site.publish("model.onnx", perceptron.SerializeToString()), "CPU")
    expect(alert).to_be_hidden()
    check_numbers(page, perceptron)


def test_an_address_that_is_not_there_says_so(page: Page, site: SiteServer) -> None:
    load(page, f"{site.url}/nowhere.onnx")
    expect(page.get_by_role("alert")).to_contain_text("404")


def test_a_host_that_refuses_other_sites_is_named(page: Page) -> None:
    from nnjit_build.server import SiteServer
    from nnjit_build.site import Site

    other = SiteServer(Site())
    other.start()
    try:
        url = other.publish("model.onnx", small_models.perceptron().SerializeToString())
        load(page, url)
        expect(page.get_by_role("alert")).to_contain_text("CORS")
        expect(page.get_by_role("alert")).to_contain_text(url)
    finally:
        other.stop()


def test_the_page_stays_responsive_while_a_model_is_compiled_and_tuned(page: Page, site: SiteServer) -> None:
    """Compiling and tuning take seconds; the longest task of the main thread is far from that, also on a busy machine."""
    page.evaluate(
        """() => {
            globalThis.longest = 0;
            new PerformanceObserver((list) => {
                for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
            }).observe({ type: "longtask" });
        }"""
    )
    model = small_models.perceptron(batch=128, width=1024)
    load(page, site.publish("model.onnx", model.SerializeToString()), "CPU")
    page.get_by_role("button", name="Run continuously").click()
    page.wait_for_timeout(4000)
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("longest") < 1000
