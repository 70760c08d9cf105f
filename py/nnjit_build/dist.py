"""`build`: the site as plain files, for any static host and any path on it."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import lab
from .paths import DIST
from .site import Content, prepare


def build(into: Path = DIST) -> Path:
    """Write the whole site into the folder `into`, replacing what was there, and return the folder."""
    lab.ensure()
    site = prepare(live=False)
    partial = into.with_name(into.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, content in site.files():
        _write(content, partial / name)
    (partial / ".nojekyll").touch()  # GitHub Pages serves the files as they are
    shutil.rmtree(into, ignore_errors=True)
    partial.replace(into)
    return into


def _write(content: Content, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        to.write_bytes(content)
    else:
        shutil.copyfile(content, to)
