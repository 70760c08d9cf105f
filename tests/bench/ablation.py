"""What each pass of the code generator is worth: every one is left out in turn.

Three prices, each as (without the pass) ÷ (with it): the time of the kernels, profiled in turns with the complete
generator's; Python's time for the whole compilation in Pyodide; the browser's time to compile the modules. Chromium is
started so that it compiles them completely, with its optimising compiler only, before they run, and each time anew.

The complete generator takes part in every case twice: what the second of the two differs by is noise.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nnjit.codegen_passes import NAMES

from .cases import Case
from .kernels import named_cases
from .match import OURS, Arena, Match
from .rows import Column, Row, geometric_mean, heading, line, ms
from .session import BenchSession

CHROMIUM_FLAGS = ("--js-flags=--no-liftoff --no-wasm-lazy-compilation --no-wasm-native-module-cache",)
SECONDS = 0.0
"""Of tuning, each: the default schedules of both tell what the pass is worth, and no luck of the tuner's is in it."""
THREADS = 1
"""The speed of the code is asked for, not the machine's way with threads."""
TELLING = {
    "matmul-384x768x768": (
        "packing", "register_tiles", "vectors", "relaxed_simd", "hoisting", "pointers", "immediates", "splat_loads",
    ),
    "matmul-197x197x197": ("packing", "pointers"),
    "matmul-7x768x3072": ("packing", "streaming", "splat_loads"),
    "conv-3x3-64-64-56": ("register_tiles", "constants", "immediates", "sharing"),
    "conv-7x7-s2-3-64-224": ("unrolling", "streaming", "pointers", "splat_loads"),
    "depthwise-3x3-144-56": ("register_tiles", "unrolling", "streaming", "hoisting", "immediates", "splat_loads"),
    "softmax-12x128x128": ("row_fusion", "vectors", "unrolling", "constants", "sharing", "quick_limits"),
    "layernorm-384x768": ("row_fusion", "unrolling", "hoisting", "pointers", "immediates", "sharing"),
    "gelu-384x3072": ("chains", "vectors", "relaxed_simd", "constants", "sharing", "quick_limits"),
    "attention-12x128x64": ("attention", "relaxed_simd", "constants", "quick_limits"),
    "reduce-columns-1024x1024": ("register_tiles", "hoisting", "pointers"),
    "resize-64x56": ("hoisting", "pointers", "splat_loads"),
    "bert-mini": (
        "row_fusion", "chains", "epilogues", "attention", "hoisting", "pointers", "immediates", "sharing",
    ),
    "mobilenet-v2": ("epilogues", "streaming", "pointers", "quick_limits"),
    "llama-mini-q4": ("packing", "hoisting", "pointers", "splat_loads"),
}  # fmt: skip
"""The passes that each case is asked about: those that change its code, and that it could gain from."""
_ORDERS = (1, -1)
"""Everything is loaded twice, the second time in the opposite order: where memory happened to lie is in the noise, too."""
_ALL = "(all on)"
_AGAIN = "(all on, again)"

COLUMNS = (
    Column("kernels", "ms", "kernel_ms", ms),
    Column("", "÷ all", "ratio", "{:.2f}".format),
    Column("Python", "ms", "generation_ms", ms),
    Column("", "÷ all", "generation_ratio", "{:.2f}".format),
    Column("browser", "ms", "modules_ms", ms),
    Column("", "÷ all", "modules_ratio", "{:.2f}".format),
)
_RATIOS = {"kernel_ms": "ratio", "generation_ms": "generation_ratio", "modules_ms": "modules_ratio"}
_NAME_WIDTH = max(map(len, (*NAMES, _AGAIN)))


def ablation(session: BenchSession) -> None:
    """A row for each case and pass, then the means over the cases of each pass.

    Without arguments TELLING says which passes each case is asked about; cases that are named are asked about all.
    Passes may be named as well: then only those are left out.
    """
    named = session.options.models
    passes = [name for name in NAMES if name in named] or NAMES
    chosen = [name for name in named if name not in NAMES]
    telling = {case: [name for name in asked if name in passes] for case, asked in TELLING.items()}
    models, operators = named_cases(chosen or [case for case, asked in telling.items() if asked])
    cases = (*operators, *models)
    asked = {case.title: passes if chosen else telling[case.title] for case in cases}
    width = max(len(case.title) for case in cases)
    print(heading(COLUMNS, width, "without", _NAME_WIDTH), flush=True)
    with session.arena() as arena:
        arena.join(_AGAIN, {})
        for name in passes:
            arena.join(name, {"without": [name]})
        for case in cases:
            for row in _rows(arena, case, asked[case.title], session.options.tune, session.options.repeat):
                print(line(COLUMNS, session.keep(row), width, "without", _NAME_WIDTH), flush=True)
    print()
    for name in (_AGAIN, *NAMES):
        rows = [row for row in session.rows if row["without"] == name and row["status"] == "ok"]
        if rows:
            kernels, python, browser = (geometric_mean(rows, ratio) for ratio in _RATIOS.values())
            means = f"kernels ×{kernels:.2f}, Python ×{python:.2f}, browser ×{browser:.2f}"
            print(
                f"{name if name == _AGAIN else f'without {name}'}: {means} (geometric means of {len(rows)})"
            )


def _rows(arena: Arena, case: Case, passes: Sequence[str], seconds: float, repeat: int) -> list[Row]:
    """The rows of the complete generator, twice, and of each of `passes` left out, all loaded and run in turns."""
    match = Match(arena, case)
    names = [OURS, _AGAIN, *passes]
    timings: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    for order in _ORDERS:
        for name in names[::order]:
            match.load(name)
            if match.results[name].problem is None:
                timings[name].append(arena.call("timings", name))
            if seconds > 0:
                match.tune(name, seconds)
        standing = [name for name in names if match.results[name].problem is None]
        for name, found in arena.call("kernels", standing, -(-repeat // len(_ORDERS))).items():
            samples[name] += found
    rows: list[Row] = []
    for name in names:
        row: Row = {"model": case.title, "without": _ALL if name == OURS else name}
        if problem := match.results[OURS].problem or match.results[name].problem:
            rows.append(row | {"status": "failed", "reason": problem})
            continue
        row |= {
            "status": "ok",
            "kernel_ms": _middle(samples[name]),
            "generation_ms": min(one["compile"] for one in timings[name]),
            "modules_ms": min(one["modules"] for one in timings[name]),
        }
        if name != OURS:
            row |= {ratio: row[price] / rows[0][price] for price, ratio in _RATIOS.items()}
        rows.append(row)
    for name in names:
        arena.drop(name)
    return rows


def _middle(samples: list[float]) -> float:
    """The mean of the middle half: like a median, but finer than the clock's steps."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return statistics.fmean(ordered[quarter : len(ordered) - quarter])
