"""Where the time from the load call to the first output goes, with the library up: stages of ours in the browser."""

from __future__ import annotations

import statistics

from .cases import DEFAULT, whole_model
from .match import OURS, Match
from .rows import Column, Row, heading, line, ms
from .session import BenchSession

LOADS = 5
_OF_COMPILE = ("trace", "fuse", "specify", "schedule", "lower", "emit", "plan")

COLUMNS = (
    Column("to first", "output", "total_ms", ms),
    Column("", "load", "load_ms", ms),
    Column("", "first", "first_ms", ms),
    Column("Python", "graph", "graph_ms", ms),
    Column("", "compile", "compile_ms", ms),
    *(Column("of it" if name == "trace" else "", name, f"{name}_ms", ms) for name in _OF_COMPILE),
    Column("browser", "modules", "modules_ms", ms),
    Column("", "weights", "init_ms", ms),
)
"""`load` holds what needs no shapes: download and graph; a model of constant shapes is compiled there too, another one in `first`."""


def stages(session: BenchSession) -> None:
    """A row for each model: medians of `LOADS` loads, each with its first inference, in one page."""
    names = session.options.models or DEFAULT
    width = max(map(len, names))
    print(heading(COLUMNS, width, "", 0), flush=True)
    for name in names:
        row: Row = {"model": name, "status": "ok"}
        with session.arena() as arena:
            match = Match(arena, whole_model(name))
            samples: list[dict[str, float]] = []
            for _ in range(LOADS):
                match.load(OURS)
                result = match.results[OURS]
                if result.problem or result.create is None or result.first is None:
                    row |= {"status": "failed", "reason": result.problem}
                    break
                timings = arena.call("facts", OURS)["timings"]
                samples.append(
                    {f"{stage}_ms": one for stage, one in timings.items()}
                    | {
                        "load_ms": result.create,
                        "first_ms": result.first,
                        "total_ms": result.create + result.first,
                    }
                )
            else:
                row |= {key: statistics.median(one[key] for one in samples) for key in samples[0]}
        print(line(COLUMNS, session.keep(row), width, "", 0), flush=True)
