"""The layout of the site: one table, which `serve` answers requests from and `build` copies to dist/.

    index.html              the page
    sw.js                   service worker that isolates the pages of a host which sends no headers for it
    web/                    what the pages load: app/ and isolation.js
    runtime/                the JavaScript runtime; runtime/site.json tells it where the rest lies, and kernels.json, where
                            there is one, holds kernels that others tuned
    nnjit-VERSION-….whl     the compiler
    pyodide/                Python for the browser, with the wheels that the compiler needs
    vendor/                 the libraries of the page: charts, tokenisers
    lab/                    JupyterLite, where it was built
    models/                 a small model to try, and models.json that lists it; when served, also the models that
                            are cached on this machine

All links between them are relative: the site works under any path of any host. The runtime is served under one URL
only, because the same module under two URLs would be two modules with two states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import demo_model, lab, pyodide, vendor, wheel
from .paths import MODELS, ROOT, WEB

Content = Path | bytes

_EXAMPLES = "models/models.json"
KERNELS = "kernels.json"
"""Beside the runtime: kernels tuned on other devices, where the site ships some (`build.py kernels merge`)."""


@dataclass(frozen=True)
class Folder:
    """Every file below a folder, except the sub-folders left out; `kept` ones also go into dist/."""

    source: Path
    without: tuple[str, ...] = ()
    kept: bool = True

    def find(self, name: str) -> Path | None:
        """The file `name` below the folder, or None; a name that leads out of the folder finds nothing."""
        path = (self.source / name).resolve()
        if not path.is_relative_to(self.source.resolve()) or name.split("/")[0] in self.without:
            return None
        if path.is_dir():
            path = path / "index.html"
        return path if path.is_file() else None

    def files(self) -> Iterator[tuple[str, Path]]:
        """Every file as (name below the folder, path)."""
        for path in sorted(self.source.rglob("*")):
            name = path.relative_to(self.source).as_posix()
            if path.is_file() and name.split("/")[0] not in self.without:
                yield name, path


class Site:
    """The table, and what has to be made for it.

    A site that is not `live` keeps the wheel it built first: a visit that takes it in two steps, first its digest and
    then its bytes, gets one and the same while the sources are being edited.
    """

    def __init__(self, live: bool = True) -> None:
        self._live = live
        self._wheel: tuple[object, bytes] | None = None
        self.made: dict[str, Callable[[], Content]] = {
            "": lambda: ROOT / "index.html",
            "index.html": lambda: ROOT / "index.html",
            "sw.js": lambda: WEB / "sw.js",
            "runtime/site.json": self._site_json,
            wheel.file_name(): self._wheel_bytes,
            f"lab/{lab.NNJIT_INDEX}": lambda: lab.nnjit_index(self._wheel_bytes()),
            f"models/{demo_model.FILE_NAME}": demo_model.build,
            _EXAMPLES: _examples,
        }
        self.folders = {
            "web/": Folder(WEB, without=("runtime", "notebooks", "sw.js")),
            "runtime/": Folder(WEB / "runtime"),
            "pyodide/": Folder(pyodide.FOLDER),
            "vendor/": Folder(vendor.FOLDER),
            "lab/": Folder(lab.SITE),
            "models/": Folder(MODELS, kept=False),
        }

    def find(self, name: str) -> Content | None:
        """What lies at `name` (a URL path without its leading slash), or None."""
        if name in self.made:
            content = self.made[name]()
            return content if isinstance(content, bytes) or content.is_file() else None
        for prefix, folder in self.folders.items():
            if f"{name}/".startswith(prefix):
                return folder.find(name.removeprefix(prefix))
        return None

    def files(self) -> Iterator[tuple[str, Content]]:
        """Everything that belongs into dist/, as (name, content)."""
        for name, make in self.made.items():
            if name == _EXAMPLES:
                yield name, _examples(cached=False)
            elif name:
                yield name, make()
        for prefix, folder in self.folders.items():
            if folder.kept:
                for name, path in folder.files():
                    yield prefix + name, path

    def _wheel_bytes(self) -> bytes:
        signature = wheel.signature() if self._live else None
        if self._wheel is None or self._wheel[0] != signature:
            self._wheel = (signature, wheel.build())
        return self._wheel[1]

    def _site_json(self) -> bytes:
        """Where the runtime finds the compiler and Python, URLs relative to this file; `generator` changes with the wheel and
        with the kernels that the site ships."""
        kernels = WEB / "runtime" / KERNELS
        shared = kernels.read_bytes() if kernels.is_file() else b""
        where = {
            "version": wheel.metadata()["version"],
            "generator": hashlib.sha256(self._wheel_bytes() + shared).hexdigest()[:20],
            "wheel": f"../{wheel.file_name()}",
            "pyodide": "../pyodide/",
            "examples": f"../{_EXAMPLES}",
        }
        if (lab.SITE / "lab" / "index.html").is_file():
            where["notebook"] = "../lab/lab/index.html?path=nnjit.ipynb"
        if kernels.is_file():
            where["kernels"] = KERNELS
        return json.dumps(where).encode()


def prepare(live: bool = True) -> Site:
    """The site with everything fetched that it serves; raises FetchFailed when something cannot be had."""
    pyodide.ensure()
    vendor.ensure()
    return Site(live)


def _examples(cached: bool = True) -> bytes:
    """The models that the page offers to try; URLs relative to this list; `beside`: the JSON files there."""
    size = len(demo_model.build())
    entries: list[dict[str, object]] = [
        {"title": "Classifier", "url": demo_model.FILE_NAME, "bytes": size, "note": demo_model.NOTE}
    ]
    if cached:
        files = sorted(MODELS.glob("*.onnx"))
        entries += [
            {"title": path.stem, "url": path.name, "bytes": path.stat().st_size, "note": ""} for path in files
        ]
    beside = sorted(path.name for path in MODELS.glob("*.json")) if cached else []
    return json.dumps([entry | {"beside": beside} for entry in entries]).encode()
