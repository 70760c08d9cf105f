"""Two visits to a page with a model: what a browser that was there before saves, and whether it is tuned at once.

Each visit begins with an empty page: the runtime's modules, Pyodide, the model, everything is fetched or found in the
browser's cache, and the clock runs from opening the page. The first one is tuned to the end; the second must run the same
schedules from its first inference on, and measure nothing.
"""

from __future__ import annotations

import statistics
from typing import Any
from urllib.parse import quote

import numpy as np

from .cases import whole_model
from .match import PAGE
from .remote import Failed, RemotePage
from .rows import Column, Row, heading, line, ms, yes_or_no
from .session import BenchSession
from .verify import Wrong, error

DEFAULT = ("mobilenet-v2", "deit-tiny", "minilm-l6@batch=1,sequence=128", "roberta-base@batch=1,sequence=128")
SECONDS = 60.0
"""Of tuning at most: it ends by itself."""

COLUMNS = (
    Column("visit 1", "first s", "first_s", "{:.2f}".format),
    Column("", "then", "soon_ms", ms),
    Column("measuring", "÷ alone", "disturbance", "{:.2f}".format),
    Column("", "cand.", "candidates", str),
    Column("", "over", "over", yes_or_no),
    Column("", "tuned", "tuned_ms", ms),
    Column("visit 2", "first s", "again_first_s", "{:.2f}".format),
    Column("", "then", "again_soon_ms", ms),
    Column("", "cand.", "again_candidates", str),
    Column("", "Python", "again_python", yes_or_no),
    Column("", "later", "again_later_ms", ms),
    Column("", "same", "same", yes_or_no),
)
"""`then`: inferences right after the first one; `÷ alone`: those without a break while microbenchmarks measure the device,
over as many right after them; `over`: nothing was left to measure, so that the second visit has to measure nothing;
`Python`: whether it was started there without being asked for; `same`: it runs the schedules that the first one found."""


def visits(session: BenchSession) -> None:
    """A row for each model."""
    names = session.options.models or DEFAULT
    width = max(map(len, names))
    print(heading(COLUMNS, width, "", 0), flush=True)
    for name in names:
        try:
            row = _visits(session, name)
        except (Failed, Wrong) as problem:
            row = {"model": name, "status": "failed", "reason": str(problem)}
        print(line(COLUMNS, session.keep(row), width, "", 0), flush=True)


def _visits(session: BenchSession, name: str) -> Row:
    case = whole_model(name)
    server, options = session.server, session.options
    scripts = server.publish_folder(PAGE)
    html = f'<!doctype html><title>bench</title><script type="module" src="{scripts}page.js"></script>'
    visited: dict[str, Any] = {
        "root": server.url,
        "device": options.device,
        "threads": session.facts["threads"],
        "url": server.publish_folder(case.model.parent) + quote(case.model.name),
        "inputs": {
            name: {
                "url": server.publish("input.bin", np.ascontiguousarray(array).tobytes()),
                "dims": list(array.shape),
                "type": array.dtype.name,
            }
            for name, array in case.expected.inputs.items()
        },
    }
    page = RemotePage(session.engine, server, server.publish("bench.html", html.encode()))
    try:
        first = page.call("visit", visited, options.tune)
        page.reload()
        second = page.call("visit", visited, 0)
    finally:
        page.close()
    for one in (first, second):
        error(one["outputs"], case.expected)
    return {
        "model": name,
        "status": "ok",
        "first_s": first["firstAt"] / 1000,
        "soon_ms": statistics.median(first["soon"]),
        "disturbance": first["disturbance"],
        "candidates": first["candidates"],
        "over": first["over"],
        "tuned_ms": statistics.median(first["later"]),
        "again_first_s": second["firstAt"] / 1000,
        "again_soon_ms": statistics.median(second["soon"]),
        "again_candidates": second["candidates"],
        "again_python": second["python"],
        "again_later_ms": statistics.median(second["later"]),
        "same": second["schedules"] == first["schedules"],
    }
