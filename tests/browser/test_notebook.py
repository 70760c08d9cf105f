"""The notebook of the site's JupyterLite, run cell by cell as a visitor would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

from nnjit_build import demo_model, lab
from nnjit_build.server import SiteServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

NOTEBOOK_IS_OPEN = "globalThis.jupyterapp?.shell?.currentWidget?.context?.isReady"
RUN_ALL = "jupyterapp.commands.execute('notebook:run-all-cells')"
CODE_CELLS = """jupyterapp.shell.currentWidget.context.model.toJSON().cells
    .filter((cell) => cell.cell_type === "code")
    .map((cell) => ({ id: cell.id, outputs: cell.outputs }))"""


@pytest.fixture(scope="module")
def outputs(module_page: Page, site: SiteServer) -> dict[str, list[dict[str, Any]]]:
    """The outputs of every code cell, by the cell's id, after one run of all of them."""
    lab.ensure()
    page = module_page
    page.set_default_timeout(300_000)
    page.goto(f"{site.url}/lab/lab/index.html?path=nnjit.ipynb")
    page.wait_for_function(NOTEBOOK_IS_OPEN)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.ready")
    page.evaluate(RUN_ALL)
    cells = page.evaluate(CODE_CELLS)
    return {cell["id"]: cell["outputs"] for cell in cells}


def text(outputs: list[dict[str, Any]]) -> str:
    """What a cell printed."""
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def test_no_cell_fails(outputs: dict[str, list[dict[str, Any]]]) -> None:
    errors = [output for cell in outputs.values() for output in cell if output["output_type"] == "error"]
    assert errors == []


def test_loading_shows_progress_in_bytes(outputs: dict[str, list[dict[str, Any]]]) -> None:
    assert str(len(demo_model.build())) in text(outputs["load"])


def test_the_answer_is_that_of_onnxruntime(outputs: dict[str, list[dict[str, Any]]]) -> None:
    features = np.random.default_rng(1).normal(size=(128, 256)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(demo_model.build()).run(None, {"features": features})
    printed = re.search(r"first row \[(.*)\]", text(outputs["run"]))
    assert printed is not None
    np.testing.assert_allclose([float(one) for one in printed[1].split(",")], expected[0], atol=1e-4)


def test_tuning_does_not_change_the_answer(outputs: dict[str, list[dict[str, Any]]]) -> None:
    difference = re.search(r"largest difference (\S+)", text(outputs["tune"]))
    assert difference is not None
    assert float(difference[1]) < 1e-4


def test_the_report_is_shown(outputs: dict[str, list[dict[str, Any]]]) -> None:
    assert any("kernels" in str(output.get("data")) for output in outputs["report"])
