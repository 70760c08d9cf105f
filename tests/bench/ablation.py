"""What each pass of the code generator is worth: every one is left out in turn, and all that is left is tuned.

Three prices, each as (without the pass) ÷ (with it): the time of the kernels, profiled in turns with the complete
generator's; Python's time for the whole compilation in Pyodide; the browser's time to compile the modules. Chromium is
started so that it compiles them completely, with its optimising compiler only, before they run.
"""

from __future__ import annotations

import statistics

from nnjit.codegen_passes import NAMES

from .cases import Case
from .kernels import named_cases
from .match import OURS, Arena, Match
from .rows import Column, Row, geometric_mean, heading, line, ms
from .session import BenchSession

CHROMIUM_FLAGS = ("--js-flags=--no-liftoff --no-wasm-lazy-compilation",)
CASES = (
    "matmul-384x768x768",
    "matmul-197x197x197",
    "conv-3x3-64-64-56",
    "depthwise-3x3-144-56",
    "softmax-12x128x128",
    "layernorm-384x768",
    "gelu-384x3072",
    "attention-12x128x64",
    "resize-64x56",
    "bert-mini",
    "mobilenet-v2",
)
SECONDS = 2.0
"""Of tuning, each."""
_LOADS = 3
_ALL = "(all on)"

COLUMNS = (
    Column("kernels", "ms", "kernel_ms", ms),
    Column("", "÷ all", "ratio", "{:.2f}".format),
    Column("Python", "ms", "generation_ms", ms),
    Column("", "÷ all", "generation_ratio", "{:.2f}".format),
    Column("browser", "ms", "modules_ms", ms),
    Column("", "÷ all", "modules_ratio", "{:.2f}".format),
)
_NAME_WIDTH = max(map(len, NAMES))


def ablation(session: BenchSession) -> None:
    """A row for each case and pass, where leaving it out changes the code; then the means over the cases of each pass."""
    models, operators = named_cases(session.options.models or CASES)
    width = max(len(case.title) for case in (*operators, *models))
    print(heading(COLUMNS, width, "without", _NAME_WIDTH), flush=True)
    for case in (*operators, *models):
        with session.arena() as arena:
            for row in _Ablation(session, arena, case).rows():
                print(line(COLUMNS, session.keep(row), width, "without", _NAME_WIDTH), flush=True)
    print()
    for name in NAMES:
        rows = [row for row in session.rows if row["without"] == name and row["status"] == "ok"]
        if rows:
            keys = {"kernels": "ratio", "Python": "generation_ratio", "browser": "modules_ratio"}
            means = ", ".join(f"{what} ×{geometric_mean(rows, key):.2f}" for what, key in keys.items())
            print(f"without {name}: {means} (geometric means of {len(rows)})")


class _Ablation:
    """One case with all passes, and again with each left out, in one page."""

    def __init__(self, session: BenchSession, arena: Arena, case: Case) -> None:
        self.options = session.options
        self.arena = arena
        self.match = Match(arena, case)
        self.case = case

    def rows(self) -> list[Row]:
        """The row of the complete generator, and those of the passes that change the code."""
        base = self._measure(OURS)
        if base["status"] != "ok":
            return [base | {"without": _ALL}]
        found = [base | {"without": _ALL}]
        for name in NAMES:
            self.match.join(name, {"without": [name]})
            row = self._measure(name, base) | {"without": name}
            self.arena.drop(name)
            if row["status"] != "same":
                found.append(row)
        self.arena.drop(OURS)
        for row in found:
            row.pop("code", None)
        return found

    def _measure(self, name: str, base: Row | None = None) -> Row:
        row: Row = {"model": self.case.title, "status": "ok"}
        timings: list[dict[str, float]] = []
        for _ in range(_LOADS):
            self.match.load(name)
            if problem := self.match.results[name].problem:
                return row | {"status": "failed", "reason": problem}
            timings.append(self.arena.call("facts", name)["timings"])
        row["code"] = self.arena.call("code", name)
        if base is not None and row["code"] == base["code"]:
            return row | {"status": "same"}
        if self.options.tune > 0:
            self.match.tune(name, self.options.tune)
        if problem := self.match.results[name].problem:
            return row | {"status": "failed", "reason": problem}
        samples = self.arena.call("kernels", [OURS, name] if base else [OURS], self.options.repeat)
        row |= {
            "kernel_ms": statistics.median(samples[name]),
            "generation_ms": statistics.median(one["compile"] for one in timings),
            "modules_ms": statistics.median(one["modules"] for one in timings),
        }
        if base is None:
            return row
        return row | {
            "ratio": row["kernel_ms"] / statistics.median(samples[OURS]),
            "generation_ratio": row["generation_ms"] / base["generation_ms"],
            "modules_ratio": row["modules_ms"] / base["modules_ms"],
        }
