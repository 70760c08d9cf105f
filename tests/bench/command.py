"""`build.py bench`: ours and the rivals in one browser, in turns, on the same inputs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from nnjit_build import chromium
from nnjit_build.server import SiteServer
from nnjit_build.site import prepare

from .browser import Arena, Match
from .cases import DEFAULT, NoCase, whole_model
from .rivals import NAMES, rival
from .rows import Row, geometric_mean, heading, line, make_row, skipped_row


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
        print(self._title())
        self._whole_models()
        self._summary()
        if self.options.json:
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            self.options.json.write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        return 1 if any(row["status"] == "failed" for row in self.rows) else 0

    def _title(self) -> str:
        flags = "".join(f", {flag}" for flag in self.facts["browser_flags"])
        threads = f", {self.facts['threads']} threads" if self.options.device == "wasm" else ""
        return f"{self.options.device}{threads}, {self.facts['browser']}{flags}; times in ms, ratio = rival ÷ ours\n"

    def _whole_models(self) -> None:
        names = self.options.models or DEFAULT
        width = max(map(len, names))
        print(heading(width), flush=True)
        rivals = []
        for name in self.options.against:
            found = rival(name, self.options.device)
            if found and found.models:
                rivals.append(found)
                continue
            reason = (
                "reads no ONNX models; see --kernels" if found else f"has nothing for {self.options.device}"
            )
            self._add(skipped_row("", name, reason), width)
        for name in names:
            case = whole_model(name)
            arena = Arena(self.browser, self.server, rivals, self.options.device, self.options.threads)
            try:
                results = Match(arena, case).play(self.options.repeat, self.options.tune)
            finally:
                arena.close()
            for one in rivals:
                self._add(make_row(case, one, results), width)

    def _add(self, row: dict[str, Any], width: int) -> None:
        self.rows.append(row | self.facts)
        print(line(row, width), flush=True)

    def _summary(self) -> None:
        for name in self.options.against:
            rows = [row for row in self.rows if row["rival"] == name]
            if (mean := geometric_mean(rows)) is not None:
                measured = sum(row["status"] == "ok" for row in rows)
                print(f"\n{name}: geometric mean of {measured} ratios {mean:.2f}", flush=True)
