"""`build.py bench`: ours and the rivals in one browser, in turns, on the same inputs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from nnjit_build import chromium
from nnjit_build.server import SiteServer
from nnjit_build.site import prepare

from .browser import Arena, Failed, Match
from .cases import DEFAULT, NoCase, whole_model
from .ceilings import Ceilings
from .kernels import kernel_cases
from .rivals import NAMES, Rival, rival
from .rows import (
    KERNEL_COLUMNS,
    MODEL_COLUMNS,
    Column,
    Row,
    add_rates,
    geometric_mean,
    heading,
    line,
    make_row,
    skipped_row,
)

_COPIED = (64 << 10, 1 << 20, 16 << 20, 128 << 20)


def run(options: argparse.Namespace) -> int:
    """Run the command; 0 when every row could be measured, 1 when one failed, 2 when something asked for is not there."""
    unknown = [name for name in options.against if name not in NAMES]
    if unknown:
        print(f"--against: no rival {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    options.threads = options.threads or os.cpu_count() or 1
    server = SiteServer(prepare())
    server.start()
    try:
        with sync_playwright() as playwright:
            browser = chromium.launch(playwright, extra=options.browser_flag)
            try:
                return _Bench(options, browser, server).run()
            finally:
                browser.close()
    except NoCase as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2
    except Failed as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    finally:
        server.stop()


class _Bench:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, browser: Browser, server: SiteServer) -> None:
        self.options = options
        self.browser = browser
        self.server = server
        self.facts = {
            "device": options.device,
            "threads": options.threads if options.device == "wasm" else 1,
            "browser": f"Chromium {browser.version}",
            "browser_flags": options.browser_flag,
        }
        self.rows: list[Row] = []

    def run(self) -> int:
        print(self._title(), flush=True)
        if (busy := _load_average() or 0.0) > 0.5:
            print(
                f"this machine is busy (load {busy:.1f}): only compare what stands in one row",
                file=sys.stderr,
            )
        if self.options.peaks:
            self._peaks()
            return 0
        if self.options.kernels:
            self._kernels()
        else:
            self._whole_models()
        self._summary()
        if self.options.json:
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            self.options.json.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        return 1 if any(row["status"] == "failed" for row in self.rows) else 0

    def _title(self) -> str:
        flags = "".join(f", {flag}" for flag in self.facts["browser_flags"])
        threads = f", threads: {self.facts['threads']}" if self.options.device == "wasm" else ""
        return f"{self.options.device}{threads}, {self.facts['browser']}{flags}; times in ms, ratio = rival ÷ ours\n"

    def _peaks(self) -> None:
        with self._arena([]) as arena:
            for threads in sorted({1, self.options.threads}):
                ceilings = Ceilings(arena, threads)
                print(f"threads: {threads}\n  multiply-add {ceilings.gflops():8.1f} GFLOP/s")
                for moved in _COPIED:
                    print(f"  copying {moved >> 10:7d} KiB read and written {ceilings.gbps(moved):8.1f} GB/s")

    def _whole_models(self) -> None:
        names = self.options.models or DEFAULT
        width = max(map(len, names))
        print(heading(MODEL_COLUMNS, width), flush=True)
        rivals = self._rivals(MODEL_COLUMNS, width, models=True)
        for name in names:
            case = whole_model(name)
            with self._arena(rivals) as arena:
                results = Match(arena, case).play(self.options.repeat, self.options.tune)
            for one in rivals:
                self._add(MODEL_COLUMNS, make_row(case, one, results), width)

    def _kernels(self) -> None:
        cases = kernel_cases(self.options.models)
        width = max(len(case.title) for case in cases)
        rivals = self._rivals(KERNEL_COLUMNS, width, models=False)
        with self._arena(rivals) as arena:
            ceilings = Ceilings(arena, self.options.threads) if self.options.device == "wasm" else None
            if ceilings:
                print(f"multiply-add ceiling: {ceilings.gflops():.1f} GFLOP/s")
            print(heading(KERNEL_COLUMNS, width), flush=True)
            for case in cases:
                results = Match(arena, case).play(self.options.repeat, self.options.tune)
                for one in rivals:
                    row = add_rates(make_row(case, one, results), case, ceilings)
                    self._add(KERNEL_COLUMNS, row, width)

    @contextmanager
    def _arena(self, rivals: list[Rival]) -> Iterator[Arena]:
        arena = Arena(self.browser, self.server, rivals, self.options.device, self.options.threads)
        try:
            yield arena
        finally:
            arena.close()

    def _rivals(self, columns: Sequence[Column], width: int, *, models: bool) -> list[Rival]:
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
            self._add(columns, skipped_row("", name, lacks), width)
        return able

    def _add(self, columns: Sequence[Column], row: Row, width: int) -> None:
        self.rows.append(row | self.facts | {"load_average": _load_average()})
        print(line(columns, row, width), flush=True)

    def _summary(self) -> None:
        for name in self.options.against:
            rows = [row for row in self.rows if row["rival"] == name]
            if (mean := geometric_mean(rows)) is not None:
                measured = sum(row["status"] == "ok" for row in rows)
                print(f"\n{name}: geometric mean of {measured} ratios {mean:.2f}", flush=True)


def _load_average() -> float | None:
    """How many processes wanted to run in the last minute, us included; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
