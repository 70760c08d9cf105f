"""Charts as SVG, drawn by matplotlib in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnjit_build import side_environment

from .rows import Row, geometric_mean

_PLOTTING = ("matplotlib==3.10.8",)


def draw(kind: str, data: Any, to: Path) -> None:
    """Draw `data`, which is JSON, with the function `kind` of draw.py."""
    script = Path(__file__).with_name("draw.py")
    python = side_environment.python("plot", _PLOTTING)
    subprocess.run([str(python), str(script), kind, str(to)], input=json.dumps(data), text=True, check=True)


def draw_ratios(files: Sequence[Path], to: Path) -> None:
    """Chart the ratios of rows that --json wrote: a bar for each rival, device and number of threads.

    Raises OSError or ValueError for a file that is not there or holds something else.
    """
    series: dict[str, list[Row]] = {}
    for row in (row for file in files for row in json.loads(file.read_text())):
        if not isinstance(row, dict) or "status" not in row:
            raise ValueError("not rows of a bench")
        if row["status"] == "ok" and "ratio" in row:
            series.setdefault(_title(row), []).append(row)
    if not series:
        raise ValueError("no row with a ratio")
    data = [
        {
            "title": title,
            "mean": geometric_mean(rows),
            "ratios": {_short(row["model"]): row["ratio"] for row in rows},
        }
        for title, rows in series.items()
    ]
    draw("ratios", data, to)


def _title(row: Row) -> str:
    threads = row["threads"]
    where = row["device"] if row["device"] != "wasm" else f"{threads} thread{'s' if threads > 1 else ''}"
    return f"{row['rival']}, {where}"


def _short(model: str) -> str:
    """NAME@DIM=VALUE,… without what is 1: "t5-small, 128, 32"."""
    name, _, dims = model.partition("@")
    values = [value for dim in dims.split(",") if (value := dim.partition("=")[2]) != "1"]
    return ", ".join([name, *filter(None, values)])
