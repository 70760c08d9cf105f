"""Third-party browser code that the page uses, pinned: the chart library uPlot with its types, and Hugging Face's tokenisers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .fetch import gather, npm_package, url_folder, write_atomically
from .paths import CACHE

FOLDER = CACHE / "vendor" / "vendor"


@dataclass(frozen=True)
class _File:
    """A file of a package: where it lies in the site, and its digest."""

    name: str
    sha256: str


# TypeScript looks for a module's types beside it, under the module's name.
_PACKAGES = {
    "uplot@1.6.32": {
        "dist/uPlot.esm.js": _File(
            "uPlot.esm.js", "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba"
        ),
        "dist/uPlot.d.ts": _File(
            "uPlot.esm.d.ts", "af44374f6e808be4f7f3fa5888b9c7574dca9f8a15a66d54b6763535802c8080"
        ),
        "dist/uPlot.min.css": _File(
            "uPlot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"
        ),
        "LICENSE": _File(
            "uPlot.LICENSE.txt", "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd"
        ),
    },
    "@huggingface/tokenizers@0.2.0": {
        "dist/tokenizers.min.mjs": _File(
            "tokenizers.min.js", "258e46332101335ce8d95aed7745b19ac3b46d37f3e159a89cf894c2ea9b1d3a"
        ),
        "LICENSE": _File(
            "tokenizers.LICENSE.txt", "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"
        ),
    },
}


def ensure() -> Path:
    """The folder that the site serves at vendor/, fetched and checked when it is not there yet."""
    for package, files in _PACKAGES.items():
        folder = CACHE / "vendor" / package
        sources = (npm_package(package), url_folder(f"https://cdn.jsdelivr.net/npm/{package}/"))
        gather({inside: file.sha256 for inside, file in files.items()}, folder, sources)
        for inside, file in files.items():
            data = (folder / inside).read_bytes()
            target = FOLDER / file.name
            if not target.exists() or target.read_bytes() != data:
                write_atomically(target, data)
    return FOLDER
