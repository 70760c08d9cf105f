"""The built site on a host that serves plain files, below a path, without a single header of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from nnjit_build import demo_model, dist
from nnjit_build.server import SiteServer
from nnjit_build.site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

RUN_CLASSIFIER = """async () => {
    const { load } = await import(new URL("runtime/nnjit.js", document.baseURI));
    const model = await load("models/classifier.onnx", { device: "wasm", tune: "off" });
    const data = Float32Array.from({ length: 3 * 256 }, (_, i) => Math.sin(i));
    const { probabilities } = await model.run({ features: { data, dims: [3, 256], type: "float32" } });
    await model.dispose();
    return { data: [...probabilities.data], dims: probabilities.dims };
}"""


@pytest.fixture(scope="module")
def static_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = dist.build(tmp_path_factory.mktemp("static") / "dist")
    host = SiteServer(Site(), isolated=False)
    host.start()
    yield host.publish_folder(folder)
    host.stop()


def test_the_page_gets_shared_memory_from_its_service_worker(page: Page, static_url: str) -> None:
    page.goto(static_url)
    page.wait_for_function("self.crossOriginIsolated", timeout=20_000)


def test_a_model_url_is_resolved_against_the_page_and_its_answer_is_right(
    page: Page, static_url: str
) -> None:
    page.goto(static_url)
    page.wait_for_function("self.crossOriginIsolated", timeout=20_000)
    output = page.evaluate(RUN_CLASSIFIER)
    features = np.sin(np.arange(3 * 256, dtype=np.float64)).astype(np.float32).reshape(3, 256)
    (expected,) = onnxruntime.InferenceSession(demo_model.build()).run(None, {"features": features})
    assert output["dims"] == [3, 10]
    np.testing.assert_allclose(np.reshape(output["data"], (3, 10)), expected, atol=1e-5)


def test_the_page_itself_loads_without_an_error(page: Page, static_url: str, problems: list[str]) -> None:
    page.goto(static_url, wait_until="networkidle")
    assert problems == []


def test_no_cached_model_of_the_builder_is_in_the_site(
    static_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = {name for name, _ in Site().files() if name.endswith(".onnx")}
    assert names == {f"models/{demo_model.FILE_NAME}"}
