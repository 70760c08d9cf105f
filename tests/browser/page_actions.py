"""What a person does on the page, for its tests."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Playwright's own five seconds are too few where several tests share two cores.
expect.set_options(timeout=20_000)


def load(page: Page, url: str, device: str = "Auto") -> None:
    """Load a model by its address and wait for it, or for the refusal."""
    page.get_by_label("Address of an ONNX file").fill(url)
    page.get_by_role("radio", name=device).check()
    page.get_by_role("button", name="Load").click()
    expect(page.get_by_role("button", name="Load")).to_be_enabled(timeout=120_000)


def run_once(page: Page) -> None:
    """Press Run and wait for the outputs, or for the refusal."""
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled(timeout=60_000)


def upload_npy(page: Page, array: np.ndarray, name: str = "x") -> None:
    """Fill an input from a .npy file."""
    buffer = BytesIO()
    np.save(buffer, array)
    group = page.get_by_role("group", name=name, exact=True)
    group.get_by_label("Fill with").select_option(".npy file")
    file = {"name": "x.npy", "mimeType": "application/octet-stream", "buffer": buffer.getvalue()}
    group.get_by_label("File", exact=True).set_input_files([file])  # type: ignore[list-item]


def saved_output(page: Page, name: str) -> np.ndarray:
    """The array in the file that the page saves for an output."""
    with page.expect_download() as download:
        page.get_by_label(f"Output {name}").get_by_role("button", name="Save .npy").click()
    return np.load(download.value.path())


def fact(page: Page, name: str, term: str) -> str:
    """What the page says of an output: its "min", "max" or "mean"."""
    return page.get_by_label(f"Output {name}").locator(f"dd[data-fact={term}]").inner_text()
