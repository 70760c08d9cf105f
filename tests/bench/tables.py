"""The tables of whole models and of single operators: every rival's row beside ours, and the geometric means; the ceilings alone."""

from __future__ import annotations

from .cases import DEFAULT, whole_model
from .ceilings import Ceilings
from .kernels import kernel_cases
from .match import Match
from .rows import KERNEL_COLUMNS, MODEL_COLUMNS, add_rates, geometric_mean, heading, make_row
from .session import BenchSession

_TOUCHED = (64 << 10, 1 << 20, 16 << 20, 128 << 20)


def models(session: BenchSession) -> None:
    """A row for each model and rival."""
    options = session.options
    names = options.models or DEFAULT
    width = max(map(len, names))
    print(heading(MODEL_COLUMNS, width), flush=True)
    rivals = session.rivals(MODEL_COLUMNS, width, models=True)
    for name in names:
        case = whole_model(name)
        with session.arena(rivals) as arena:
            results = Match(arena, case).play(options.repeat, options.tune)
        for one in rivals:
            session.add(MODEL_COLUMNS, make_row(case, one, results), width)
    _means(session)


def kernels(session: BenchSession) -> None:
    """A row for each operator and rival, with rates and their share of the ceilings."""
    options = session.options
    cases = kernel_cases(options.models)
    width = max(len(case.title) for case in cases)
    rivals = session.rivals(KERNEL_COLUMNS, width, models=False)
    with session.arena(rivals) as arena:
        ceilings = Ceilings(arena, options.threads) if options.device == "wasm" else None
        if ceilings:
            print(f"multiply-add ceiling: {ceilings.gflops():.1f} GFLOP/s")
        print(heading(KERNEL_COLUMNS, width), flush=True)
        for case in cases:
            results = Match(arena, case).play(options.repeat, options.tune)
            for one in rivals:
                session.add(KERNEL_COLUMNS, add_rates(make_row(case, one, results), case, ceilings), width)
    _means(session)


def peaks(session: BenchSession) -> None:
    """Only the ceilings, for one thread and for all."""
    with session.arena() as arena:
        for threads in sorted({1, session.facts["threads"]}):
            ceilings = Ceilings(arena, threads)
            print(f"threads: {threads}\n  multiply-add {ceilings.gflops():8.1f} GFLOP/s")
            for touched in _TOUCHED:
                rates = [f"{how} {ceilings.gbps(how, touched):8.1f} GB/s" for how in ("read", "copy")]
                print(f"  {touched >> 10:7d} KiB touched {'  '.join(rates)}")


def _means(session: BenchSession) -> None:
    for name in session.options.against:
        rows = [row for row in session.rows if row["rival"] == name]
        if (mean := geometric_mean(rows)) is not None:
            measured = sum(row["status"] == "ok" for row in rows)
            print(f"\n{name}: geometric mean of {measured} ratios {mean:.2f}", flush=True)
