"""The page with a stand-in for the runtime (fake_runtime.js): its forms, views, messages, keyboard and layout."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from playwright.sync_api import expect

from nnjit_build.server import SiteServer
from nnjit_build.site import Site

from .page_actions import fact, load, run_once, saved_output, upload_npy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

FAKE = (Path(__file__).parent / "fake_runtime.js").read_text(encoding="utf-8")
Open = Callable[[str], "Page"]


@contextmanager
def faked(site: Site, *, isolated: bool = True) -> Iterator[SiteServer]:
    """The site with the stand-in in the runtime's place."""
    server = SiteServer(site, isolated=isolated)
    server.published["runtime/nnjit.js"] = FAKE.encode()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def fake_site(site: SiteServer) -> Iterator[SiteServer]:
    with faked(site.site) as server:
        yield server


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One cache for all tests of this module: the page keeps nothing else in a browser."""
    made = browser.new_context()
    yield made
    made.close()


@pytest.fixture
def open_page(page: Page, fake_site: SiteServer) -> Open:
    """Opens the page with the given query."""
    page.set_default_timeout(30_000)

    def opened(query: str) -> Page:
        page.goto(f"{fake_site.url}/{query}")
        return page

    return opened


def test_loading_shows_the_bytes_and_the_seconds_left(open_page: Open) -> None:
    page = open_page("?model=fake:slow&autoload=1")
    stage = page.get_by_role("listitem").filter(has_text="Fetch the model")
    expect(stage).to_have_attribute("aria-current", "step")
    expect(stage).to_contain_text("30 MB of 90 MB · 2 s left")


def test_each_stage_of_loading_is_announced(open_page: Open) -> None:
    page = open_page("?model=fake:slow")
    page.get_by_role("button", name="Load").click()
    announcer = page.locator("[aria-live=polite]")
    for words in ("Start the compiler", "Fetch the model", "Read the graph", "The model is loaded."):
        expect(announcer).to_have_text(words)


def test_loading_can_be_stopped(open_page: Open) -> None:
    page = open_page("?model=fake:slow&autoload=1")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("[aria-live=polite]")).to_have_text("Loading was stopped.")
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.get_by_role("button", name="Load")).to_be_enabled()


def test_the_address_of_the_page_fills_the_form(open_page: Open) -> None:
    page = open_page("?model=fake:vector&device=wasm&threads=1")
    expect(page.get_by_label("Address of an ONNX file")).to_have_value("fake:vector")
    expect(page.get_by_role("radio", name="CPU")).to_be_checked()
    expect(page.get_by_label("Threads")).to_have_value("1")


def test_a_loaded_model_is_in_the_address_of_the_page(open_page: Open) -> None:
    page = open_page("")
    load(page, "fake:vector")
    assert page.url.endswith("/?model=fake%3Avector")


REFUSALS = {
    "model-format": "This is not a model that can be read",
    "unsupported": "The model needs something that is not supported",
    "external-data": "The weights' file is missing or does not fit",
    "fetch": "The model could not be fetched",
    "device": "The device cannot run this",
    "out-of-memory": "There is not enough memory",
    "internal": "A check inside the compiler failed",
}


def test_a_refused_model_says_what_and_where_and_the_next_one_loads(open_page: Open) -> None:
    page = open_page("")
    alert = page.get_by_role("alert")
    for code, title in REFUSALS.items():
        page.get_by_label("Address of an ONNX file").fill(f"fake:error/{code}")
        page.get_by_role("button", name="Load").click()
        expect(alert.get_by_role("heading")).to_contain_text(title)
        expect(alert).to_contain_text("Node “/encoder/Unique_3” uses Unique (opset 17)")
    load(page, "fake:vector")
    expect(alert).to_be_hidden()


def test_a_refused_model_leaves_the_one_before_usable(open_page: Open) -> None:
    page = open_page("")
    load(page, "fake:vector")
    page.get_by_label("Address of an ONNX file").fill("fake:error/fetch")
    page.get_by_role("button", name="Load").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#facts")).to_contain_text("fake:vector")
    run_once(page)
    expect(page.get_by_label("Output doubled")).to_be_visible()


def test_load_without_an_address_says_what_is_missing(open_page: Open) -> None:
    page = open_page("")
    page.get_by_role("button", name="Load").click()
    message = page.get_by_label("Address of an ONNX file").evaluate("(field) => field.validationMessage")
    assert message == "Enter the model's address, or choose its file."


def test_chosen_files_are_the_model_and_its_weights(open_page: Open) -> None:
    page = open_page("")
    files = [("vector.data", b"1234"), ("vector.onnx", b"12")]
    page.get_by_label("or choose a file").set_input_files(
        [{"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in files]
    )
    expect(page.get_by_text("vector.onnx, 2 bytes · vector.data, 4 bytes")).to_be_visible()
    page.get_by_role("button", name="Load").click()
    expect(page.get_by_label("Output doubled")).to_be_hidden()
    run_once(page)
    expect(page.get_by_label("Output doubled")).to_be_visible()


def test_a_file_can_be_dropped_anywhere_on_the_page(open_page: Open) -> None:
    page = open_page("?model=fake:slow")
    dropped = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["12345"], "vector.onnx"));
            return transfer;
        }"""
    )
    page.dispatch_event("main", "drop", {"dataTransfer": dropped})
    expect(page.get_by_text("vector.onnx, 5 bytes")).to_be_visible()
    expect(page.get_by_label("Address of an ONNX file")).to_have_value("")
    expect(page.get_by_role("button", name="Load")).to_be_focused()


def test_the_sizes_of_symbolic_dimensions_make_the_shapes(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    page.get_by_label("sequence").fill("7")
    expect(page.get_by_role("group", name="input_ids")).to_contain_text("int64 · 1 × 7")
    run_once(page)
    assert saved_output(page, "logits").shape == (1, 7)


def test_random_ids_stay_below_their_bound(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    page.get_by_role("group", name="input_ids").get_by_label("Ids below").fill("5")
    page.get_by_label("sequence").fill("400")
    run_once(page)
    ids = saved_output(page, "logits") / 2
    assert set(np.unique(ids)) == {0, 1, 2, 3, 4}


def test_random_numbers_are_normal_and_the_same_for_the_same_seed(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    page.get_by_label("n", exact=True).fill("20000")
    run_once(page)
    first = saved_output(page, "doubled") / 2
    page.get_by_label("Seed").fill("1")
    run_once(page)
    other = saved_output(page, "doubled") / 2
    page.get_by_label("Seed").fill("0")
    run_once(page)
    assert abs(first.mean()) < 0.03
    assert abs(first.std() - 1) < 0.03
    assert (first != other).mean() > 0.99
    np.testing.assert_array_equal(saved_output(page, "doubled") / 2, first)


def test_outputs_show_what_numpy_computes(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    values = [0.5, -3, 12.25, 7, 0.125]
    page.get_by_label("n", exact=True).fill(str(len(values)))
    page.get_by_label("Fill with").select_option("Numbers")
    page.get_by_label("List, flat or nested").fill(json.dumps(values))
    run_once(page)
    expected = 2 * np.array(values)
    np.testing.assert_array_equal(saved_output(page, "doubled"), expected)
    assert float(fact(page, "doubled", "min")) == expected.min()
    assert float(fact(page, "doubled", "max")) == expected.max()
    assert float(fact(page, "doubled", "mean")) == pytest.approx(expected.mean(), rel=1e-3)
    highest = page.get_by_label("Output doubled").locator("tbody td:first-child").all_inner_texts()
    assert highest == [str(index) for index in np.argsort(-expected)]


def test_numbers_that_are_not_numbers_are_counted(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    array = np.array([1, np.nan, 3], np.float32)
    upload_npy(page, array)
    run_once(page)
    expect(page.get_by_label("Output doubled")).to_contain_text("1 element of 3 are not numbers (NaN).")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_a_npy_file_of_any_number_type_is_converted(open_page: Open, dtype: str) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    array = np.array([0, 1, 2.5, 100], np.float64).astype(dtype)
    upload_npy(page, array)
    run_once(page)
    np.testing.assert_array_equal(saved_output(page, "doubled"), 2 * array.astype(np.float32))


def test_a_file_that_is_not_npy_is_refused_at_its_field(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    page.get_by_label("Fill with").select_option(".npy file")
    field = page.get_by_label("File", exact=True)
    field.set_input_files([{"name": "x.npy", "mimeType": "text/plain", "buffer": b"nothing like an array"}])
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Input “x”: This is not a .npy file.")
    expect(field).to_be_focused()
    page.get_by_label("Fill with").select_option("Zeros")
    run_once(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_run_that_fails_says_why_and_the_next_one_works(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    page.get_by_label("n", exact=True).fill("13")
    run_once(page)
    expect(page.get_by_role("alert")).to_contain_text("this model does not take 13")
    page.get_by_label("n", exact=True).fill("12")
    run_once(page)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.get_by_label("Output doubled")).to_be_visible()


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of an array of bytes, height × width × 3."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(np.uint8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_a_picture_becomes_normalised_channels(open_page: Open) -> None:
    page = open_page("?model=fake:image&autoload=1")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3))
    page.get_by_label("height").fill("6")
    page.get_by_label("width").fill("4")
    page.get_by_label("Fill with").select_option("Picture")
    page.get_by_role("group", name="pixel_values").get_by_label("Picture").set_input_files(
        [{"name": "x.png", "mimeType": "image/png", "buffer": png(pixels)}]
    )
    run_once(page)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(saved_output(page, "doubled") / 2, expected, atol=1e-5)


def test_given_ids_tell_the_sizes_of_the_other_inputs(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    ids = page.get_by_role("group", name="input_ids")
    ids.get_by_label("Fill with").select_option("Numbers")
    ids.get_by_label("List, flat or nested").fill("101 2023, 102")
    run_once(page)
    np.testing.assert_array_equal(saved_output(page, "logits") / 2, [[101, 2023, 102]])
    expect(page.get_by_label("sequence")).to_have_value("3")
    expect(page.get_by_role("group", name="attention_mask")).to_contain_text("1 × 3")


def drop_picture(page: Page) -> None:
    """Drop a small picture called cat.png on the page."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3))
    dropped = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "cat.png", { type: "image/png" }));
            return transfer;
        }""",
        list(png(pixels)),
    )
    page.dispatch_event("main", "drop", {"dataTransfer": dropped})


def test_a_dropped_picture_that_no_input_takes_is_not_taken_for_a_model(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    drop_picture(page)
    expect(page.get_by_role("status")).to_contain_text(
        "cat.png is a picture, and no model is loaded that takes one"
    )
    expect(page.get_by_label("Address of an ONNX file")).to_have_value("fake:vector")


def test_a_dropped_picture_fills_the_input_that_takes_one(open_page: Open) -> None:
    page = open_page("?model=fake:image&autoload=1")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    drop_picture(page)
    expect(page.get_by_label("Fill with")).to_have_value("image")
    expect(page.get_by_role("img", name="The picture as the model gets it")).to_be_visible()
    expect(page.get_by_label("Address of an ONNX file")).to_have_value("fake:image")
    run_once(page)
    assert saved_output(page, "doubled").std() > 0


def test_latency_falls_on_the_page_while_kernels_are_tuned(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    page.get_by_role("button", name="Run continuously").click()
    gain = page.locator("#latency-gain")
    expect(gain).to_have_text(re.compile(r"1\.[1-9]\d×"))
    expect(page.locator("#tuning-text")).to_contain_text("5 kernels replaced")
    expect(page.locator("#chart canvas")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()


def figures(page: Page) -> dict[str, str]:
    """The figures of the latency that are shown, by what they are called."""
    shown = page.locator("#figures div:visible").all()
    return {div.locator("dt").inner_text(): div.locator("dd").inner_text() for div in shown}


def test_one_run_shows_its_time_and_nothing_that_is_not_known(open_page: Open) -> None:
    page = open_page("?model=fake:vector")
    page.get_by_role("button", name="Load").click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    assert figures(page) == {}
    run_once(page)
    shown = figures(page)
    assert list(shown) == ["now", "first run", "so far"]
    assert shown["now"] == shown["first run"]
    assert re.fullmatch(r"[\d.]+ ms", shown["now"])


def test_runs_of_another_size_are_counted_apart(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    run_once(page)
    run_once(page)
    assert figures(page)["so far"] == "2 runs"
    page.get_by_label("n", exact=True).fill("5")
    run_once(page)
    assert list(figures(page)) == ["now", "first run", "so far"]
    assert figures(page)["so far"] == "1 run"


def test_the_focus_stays_at_the_button_that_was_pressed(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    run = page.get_by_role("button", name="Run", exact=True)
    expect(run).to_be_focused()
    run.press("Enter")
    expect(page.get_by_label("Output doubled")).to_be_visible()
    expect(run).to_be_focused()
    page.get_by_label("Address of an ONNX file").fill("fake:error/fetch")
    page.get_by_role("button", name="Load").press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("button", name="Load")).to_be_focused()


def test_many_outputs_are_folded_away_and_stay_open_once_opened(open_page: Open) -> None:
    page = open_page("?model=fake:decoder&autoload=1")
    run_once(page)
    last = page.get_by_label("Output present.2.value")
    expect(page.get_by_label("Output present.1.value")).to_be_hidden()
    page.get_by_text("3 more outputs").click()
    expect(last).to_be_visible()
    run_once(page)
    expect(last).to_be_visible()


@pytest.mark.parametrize(
    ("pasted", "address"),
    [
        ("host.example/a/model.onnx", "https://host.example/a/model.onnx"),
        ("localhost:8000/model.onnx", "http://localhost:8000/model.onnx"),
        (" https://host.example/m.onnx ", "https://host.example/m.onnx"),
        ("models/classifier.onnx", "models/classifier.onnx"),
        ("model.onnx", "model.onnx"),
        (
            "https://huggingface.co/a/b/blob/main/onnx/model.onnx",
            "https://huggingface.co/a/b/resolve/main/onnx/model.onnx",
        ),
        ("github.com/a/b/blob/main/m.onnx", "https://raw.githubusercontent.com/a/b/main/m.onnx"),
    ],
)
def test_what_is_pasted_becomes_an_address(
    module_page: Page, site: SiteServer, pasted: str, address: str
) -> None:
    if not module_page.url.startswith(site.url):
        module_page.goto(site.publish("empty.html", b"<!doctype html><title>test</title>"))
    script = "async ([root, text]) => (await import(root + '/web/app/address.js')).addressOf(text)"
    assert module_page.evaluate(script, [site.url, pasted]) == address


def test_a_model_can_be_replaced_while_it_runs(open_page: Open) -> None:
    page = open_page("?model=fake:vector&autoload=1")
    page.get_by_role("button", name="Run continuously").click()
    expect(page.locator("#latency-count")).to_have_text(re.compile("[1-9] runs"))
    load(page, "fake:transformer")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#latency-count")).to_have_text("0 runs")


def test_tuning_can_be_paused_and_resumed(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    run_once(page)
    page.get_by_role("button", name="Pause tuning").click()
    expect(page.locator("#tuning-text")).to_contain_text("Tuning is paused")
    page.get_by_role("button", name="Resume tuning").click()
    expect(page.locator("#tuning-text")).to_contain_text("tried")


def test_when_tuning_is_over_the_table_shows_all_that_was_tried(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    run_once(page)
    page.locator("table.kernels tbody button").first.click()
    expect(page.locator("#tuning-text")).to_contain_text("Tuning is done: 80 candidates tried")
    expect(page.locator(".candidates h4")).to_have_text("Candidates: 16 of 16 tried", timeout=2000)


def test_kernels_are_listed_by_share_with_candidates_and_source(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    run_once(page)
    rows = page.locator("table.kernels tbody tr")
    expect(rows).to_have_count(8)
    shares = [float(text.removeprefix("< ").split()[0]) for text in rows.locator(".share").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    rows.first.get_by_role("button").click()
    detail = page.get_by_role("region", name="Chosen kernel")
    expect(detail).to_contain_text("in use")
    expect(detail.locator("pre")).to_contain_text('(export "matmul_0")')


def test_the_report_is_saved_as_json(open_page: Open) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    run_once(page)
    expect(page.locator("table.kernels tbody tr")).not_to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export report (JSON)").click()
    saved = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert saved["report"]["tasks"][0]["schedule"] == "tile 6×8 k4 pack"
    assert saved["latency"]["first"] > 0


def test_tuned_kernels_are_exported_and_imported_with_the_keyboard(open_page: Open, tmp_path: Path) -> None:
    page = open_page("")
    said = page.get_by_role("status")
    page.get_by_role("button", name="Export kernels").press("Enter")
    expect(said).to_have_text("Nothing was tuned in this browser yet.")
    content = '{"format": "nnjit-kernels", "version": 1, "groups": [{"tasks": {"0123": []}}]}'
    (tmp_path / "kernels.json").write_text(content, encoding="utf-8")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Import kernels").press("Enter")
    chooser.value.set_files(tmp_path / "kernels.json")
    expect(said).to_have_text("1 schedule for 1 kernel imported. 1 record left out: groups[0]: no.")
    expect(page.get_by_role("button", name="Import kernels")).to_be_focused()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export kernels").press("Enter")
    assert json.loads(Path(download.value.path()).read_text(encoding="utf-8")) == json.loads(content)


def test_a_file_that_holds_no_kernels_is_refused_where_it_was_chosen(open_page: Open) -> None:
    page = open_page("")
    file = {"name": "notes.md", "mimeType": "text/markdown", "buffer": b"# Notes"}
    page.get_by_label("File of tuned kernels").set_input_files([file])  # type: ignore[list-item]
    error = page.locator("#exchange-error")
    expect(error).to_contain_text("This is no file of tuned kernels")
    expect(error).to_contain_text("it begins with #")


def test_everything_works_with_the_keyboard_alone(open_page: Open) -> None:
    page = open_page("")
    page.get_by_label("Address of an ONNX file").focus()
    page.keyboard.type("fake:transformer")
    page.keyboard.press("Enter")
    run = page.get_by_role("button", name="Run", exact=True)
    expect(run).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Output logits")).to_be_visible()
    first = page.locator("table.kernels tbody button").first
    expect(first).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        if first.evaluate("(element) => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(first).to_have_attribute("aria-expanded", "true")
    expect(first).to_be_focused()


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_needs_no_sideways_scrolling(
    browser: Browser, fake_site: SiteServer, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(f"{fake_site.url}/?model=fake:transformer&autoload=1")
    run_once(page)
    page.locator("table.kernels tbody button").first.click()
    expect(page.locator("#kernel-detail pre")).to_contain_text("module")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Browser, fake_site: SiteServer, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{fake_site.url}/?model=fake:error/fetch&autoload=1")
    expect(page.get_by_role("alert")).to_be_visible()
    pairs = [
        ("--ink", "--paper"),
        ("--ink-soft", "--paper"),
        ("--ink-soft", "--bad-soft"),
        ("--warn", "--paper"),
        ("--bad", "--bad-soft"),
        ("--accent", "--paper"),
        ("--accent-ink", "--accent"),
        ("--accent", "--accent-soft"),
    ]
    low = {pair: ratio for pair in pairs if (ratio := contrast(page, *pair)) < 4.5}
    context.close()
    assert not low


def contrast(page: Page, ink: str, paper: str) -> float:
    """The contrast ratio of two of the style sheet's colours, as WCAG 2 defines it."""

    def luminance(name: str) -> float:
        script = "(name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
        channels = np.frombuffer(bytes.fromhex(page.evaluate(script, name).lstrip("#")), np.uint8) / 255
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_without_isolation_the_page_says_that_there_is_one_thread(browser: Browser) -> None:
    context = browser.new_context(service_workers="block")
    with faked(Site(), isolated=False) as host:
        page = context.new_page()
        page.goto(host.url)
        expect(page.get_by_label("About this device")).to_contain_text("Threads are unavailable")
        expect(page.get_by_label("Threads")).to_be_disabled()
        context.close()


def test_without_webgpu_the_page_says_so(open_page: Open, page: Page) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'gpu', { value: undefined })")
    open_page("")
    expect(page.get_by_label("About this device")).to_contain_text("WebGPU is not available in this browser")


def test_a_software_gpu_is_called_one(open_page: Open) -> None:
    page = open_page("")
    expect(page.get_by_label("About this device")).to_contain_text("software adapter")


def test_nothing_on_the_page_goes_wrong_unseen(open_page: Open, problems: list[str]) -> None:
    page = open_page("?model=fake:transformer&autoload=1")
    run_once(page)
    page.wait_for_timeout(500)
    assert problems == []
