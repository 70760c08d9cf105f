"""`run`: a model through the page's own runtime in a headless Chromium, with arrays from and to .npy files."""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from playwright.sync_api import ConsoleMessage, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

from . import chromium
from .server import SiteServer
from .site import prepare

SEED = 0
_TIMED_RUNS = 30
_TIMED_SECONDS = 5.0
_LONGEST_WAIT_MS = 30 * 60 * 1000.0


class Refused(Exception):
    """A typed error of nnjit: `code` is its stable name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def run(options: argparse.Namespace) -> int:
    """Run the command; 0 when the model ran, 2 with the typed error on standard error when it was refused."""
    try:
        report = _run(options)
    except Refused as refusal:
        print(f"{refusal.code}: {refusal}", file=sys.stderr)
        return 2
    text = json.dumps(report, indent=2)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: _read_array(name, file) for name, file in map(_split, options.input)}
    dims = {name: _integer(name, value) for name, value in map(_split, options.dim)}
    server = SiteServer(prepare(live=False))
    server.start()
    try:
        url = _model_url(options.model, server)
        with sync_playwright() as playwright:
            browser = chromium.launch(playwright)
            try:
                return _drive(_Shell(browser.new_page(), server), url, options, given, dims)
            finally:
                browser.close()
    finally:
        server.stop()


class _Shell:
    """The functions of web/shell/shell.js."""

    def __init__(self, page: Page, server: SiteServer) -> None:
        self.page = page
        self.server = server
        page.set_default_timeout(_LONGEST_WAIT_MS)
        page.on("console", _show_stage)
        page.goto(f"{server.url}/web/shell/index.html")
        page.wait_for_function("'call' in globalThis", timeout=60_000)

    def __call__(self, name: str, *parameters: object) -> Any:
        """Call one function; raises Refused for a typed error, and for a page that ran out of memory."""
        try:
            answer = self.page.evaluate("([name, parameters]) => call(name, parameters)", [name, parameters])
        except BrowserError as problem:
            if "crash" in problem.message.lower():
                raise Refused(
                    "out-of-memory", "the browser's page crashed: the model needs too much memory"
                ) from None
            raise
        if refusal := answer.get("refusal"):
            raise Refused(refusal["code"], refusal["message"])
        return answer["value"]

    def set_input(self, name: str, array: np.ndarray) -> None:
        """Hand an input over as raw bytes."""
        url = self.server.publish("input.bin", np.ascontiguousarray(array).tobytes())
        self("setInput", name, url, list(array.shape), array.dtype.name)


def _drive(
    shell: _Shell, url: str, options: argparse.Namespace, given: dict[str, np.ndarray], dims: dict[str, int]
) -> dict[str, Any]:
    loaded = shell("load", url, options.device, options.threads)
    rng = np.random.default_rng(SEED)
    made = {port["name"]: _made_up(port, dims, rng) for port in loaded["inputs"] if port["name"] not in given}
    for name, array in (given | made).items():
        shell.set_input(name, array)
    first_ms = shell("run", 1, 0)[0]
    untuned_ms = median_ms = statistics.median(shell("run", _TIMED_RUNS, _TIMED_SECONDS))
    if options.tune > 0:
        shell("tune", options.tune)
        median_ms = statistics.median(shell("run", _TIMED_RUNS, _TIMED_SECONDS))
    report = shell("report")
    return {
        "device": report["device"],
        "load_ms": loaded["ms"],
        "compile_ms": report["timings"]["compile"],
        "first_ms": first_ms,
        "untuned_ms": untuned_ms,
        "median_ms": median_ms,
        "kernels": report["kernels"],
        "candidates": [
            {"task": task["key"], **one} for task in report["tasks"] for one in task["candidates"]
        ],
        "peak_wasm_bytes": report["memory"]["peakWasmBytes"],
        "outputs": {name: _output(name, tensor, options.out) for name, tensor in shell("outputs").items()},
    }


def _show_stage(message: ConsoleMessage) -> None:
    if message.type == "info":
        print(message.text, file=sys.stderr)


def _made_up(port: dict[str, Any], dims: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    """A seeded input of the declared type: normal floats, and 0 or 1 for the rest, which is a valid id and mask."""
    if port["shape"] is None:
        raise Refused("input", f"the input {port['name']!r} declares no shape; pass it with --input")
    shape = [size if isinstance(size, int) else dims.get(size or "", 1) for size in port["shape"]]
    unset = [size for size in port["shape"] if isinstance(size, str) and size not in dims]
    if unset:
        print(f"{port['name']}: {', '.join(unset)} = 1; set it with --dim NAME=VALUE", file=sys.stderr)
    dtype = np.dtype(port["dtype"])
    try:
        if dtype.kind == "f":
            return rng.normal(size=shape).astype(dtype)
        return rng.integers(0, 2, size=shape).astype(dtype)
    except (MemoryError, ValueError):
        raise Refused(
            "out-of-memory",
            f"the input {port['name']!r} of {shape} does not fit into memory; choose smaller dimensions with --dim",
        ) from None


def _output(name: str, tensor: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    array = np.frombuffer(base64.b64decode(tensor["base64"]), dtype=tensor["type"]).reshape(tensor["dims"])
    file = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).lstrip(".")
        file = folder / f"{safe or 'output'}.npy"
        np.save(file, array)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "file": str(file) if file else None}


def _model_url(model: str, server: SiteServer) -> str:
    """A URL as it is; of a path, its URL on our server, where its external data lies beside it."""
    if urlsplit(model).scheme in ("http", "https"):
        return model
    path = Path(model).resolve()
    if not path.is_file():
        raise Refused("fetch", f"there is no file {model}; MODEL is the path or the URL of an ONNX model")
    return server.publish_folder(path.parent) + quote(path.name)


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Refused("input", f"{text!r} must be NAME=VALUE")
    return name, value


def _integer(name: str, value: str) -> int:
    if not value.isdigit():
        raise Refused("input", f"the dimension {name} must be a whole number, not {value!r}")
    return int(value)


def _read_array(name: str, file: str) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise Refused(
            "input", f"the input {name} cannot be read from {file}: {problem}; it must be a .npy file"
        ) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        what = f"of {array.dtype}" if isinstance(array, np.ndarray) else "several arrays"
        raise Refused(
            "input", f"the input {name} in {file} is {what}; it must be one array of numbers or booleans"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)
