"""One run of the bench: the browser, the server, what was asked for, and the rows that came out."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nnjit_build.server import SiteServer

from .engines import Engine
from .match import Arena
from .rivals import Rival, rival
from .rows import Column, Row, line, skipped_row


class BenchSession:
    """What every mode of the command needs.

    options  the command line's
    facts    go into every row: device, threads, browser and its flags
    """

    def __init__(self, options: argparse.Namespace, engine: Engine, server: SiteServer) -> None:
        self.options = options
        self.engine = engine
        self.server = server
        self.facts = {
            "device": options.device,
            "threads": options.threads if options.device == "wasm" else 1,
            "browser": engine.title,
            "browser_flags": options.browser_flag,
        }
        self.rows: list[Row] = []

    def title(self) -> str:
        """A line that says what is measured on what."""
        flags = "".join(f", {flag}" for flag in self.options.browser_flag)
        threads = f", threads: {self.facts['threads']}" if self.options.device == "wasm" else ""
        return f"{self.options.device}{threads}, {self.engine.title}{flags}"

    @contextmanager
    def arena(self, rivals: Sequence[Rival] = (), threads: int | None = None) -> Iterator[Arena]:
        """A page with us and the rivals in it, closed in the end."""
        arena = Arena(self.engine, self.server, rivals, self.options.device, threads or self.facts["threads"])
        try:
            yield arena
        finally:
            arena.close()

    def rivals(self, columns: Sequence[Column], width: int, *, models: bool) -> list[Rival]:
        """Those asked for that can do it; the others get a row that says why not."""
        able = []
        for name in self.options.against:
            found = rival(name, self.options.device)
            if found and (found.models or not models):
                able.append(found)
                continue
            lacks = (
                "reads no ONNX models (see --kernels)" if found else f"has no {self.options.device} backend"
            )
            self.add(columns, skipped_row("", name, lacks), width)
        return able

    def add(self, columns: Sequence[Column], row: Row, width: int) -> None:
        """Keep a row and print it."""
        self.keep(row)
        print(line(columns, row, width), flush=True)

    def keep(self, row: Row) -> Row:
        """The row with the facts of the run, kept for --json."""
        self.rows.append(row | self.facts | {"load_average": load_average()})
        return self.rows[-1]

    def write(self) -> None:
        """Write the rows where --json says."""
        path = self.options.json
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")

    def exit_code(self) -> int:
        """1 when something failed."""
        return 1 if any(row.get("status") == "failed" for row in self.rows) else 0


def load_average() -> float | None:
    """How many processes wanted to run in the last minute, us included; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
