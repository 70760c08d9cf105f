"""Third-party browser code that the page uses: the chart library uPlot (MIT licence), with its types for the check."""

from __future__ import annotations

from pathlib import Path

from .fetch import gather, npm_package, url_folder, write_atomically
from .paths import CACHE

FOLDER = CACHE / "vendor" / "vendor"

_UPLOT = "uplot@1.6.32"
_FILES = {
    "dist/uPlot.esm.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
    "dist/uPlot.d.ts": "af44374f6e808be4f7f3fa5888b9c7574dca9f8a15a66d54b6763535802c8080",
    "dist/uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
# Where each file lies in the site; TypeScript looks for a module's types beside it, under the module's name.
_NAMES = {
    "dist/uPlot.esm.js": "uPlot.esm.js",
    "dist/uPlot.d.ts": "uPlot.esm.d.ts",
    "dist/uPlot.min.css": "uPlot.min.css",
    "LICENSE": "uPlot.LICENSE.txt",
}
_SOURCES = (npm_package(_UPLOT), url_folder(f"https://cdn.jsdelivr.net/npm/{_UPLOT}/"))


def ensure() -> Path:
    """The folder that the site serves at vendor/, fetched and checked when it is not there yet."""
    package = CACHE / "vendor" / _UPLOT
    gather(_FILES, package, _SOURCES)
    for inside, name in _NAMES.items():
        data = (package / inside).read_bytes()
        target = FOLDER / name
        if not target.exists() or target.read_bytes() != data:
            write_atomically(target, data)
    return FOLDER
