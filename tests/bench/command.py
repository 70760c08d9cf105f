"""`build.py bench`: ours and the rivals in one browser, in turns, on the same inputs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from nnjit_build.server import SiteServer
from nnjit_build.site import prepare

from . import ablation, candidates, curve, headline, space, stages, tables, visits
from .cases import NoCase
from .charts import draw_ratios
from .engines import NoEngine, launch
from .remote import Failed
from .rivals import NAMES
from .session import BenchSession, load_average

_TUNE_SECONDS = {
    "headline": headline.SECONDS,
    "ablation": ablation.SECONDS,
    "visits": visits.SECONDS,
    "curve": curve.SECONDS,
    "candidates": candidates.SECONDS,
}
_THREADS = {"ablation": ablation.THREADS}
_MODES: dict[str, Callable[[BenchSession], None]] = {
    "models": tables.models,
    "kernels": tables.kernels,
    "peaks": tables.peaks,
    "curve": curve.curves,
    "headline": headline.headline,
    "ablation": ablation.ablation,
    "stages": stages.stages,
    "visits": visits.visits,
    "space": space.spaces,
    "candidates": candidates.candidates,
}


def run(options: argparse.Namespace) -> int:
    """Run the command; 0 when every row could be measured, 1 when one failed, 2 when something asked for is not there."""
    if options.mode == "chart":
        return _chart(options)
    headlines = options.mode == "headline"
    if options.against is None:
        options.against = list(NAMES) if headlines else ["ort-web"]
    if options.repeat is None:
        options.repeat = headline.REPEAT if headlines else 15
    unknown = [name for name in options.against if name not in NAMES]
    if unknown:
        print(f"--against: no rival {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    options.threads = options.threads or _THREADS.get(options.mode) or os.cpu_count() or 1
    if options.tune is None:
        options.tune = _TUNE_SECONDS.get(options.mode, 10.0)
    if options.mode == "ablation" and options.browser == "chromium":
        options.browser_flag += ablation.CHROMIUM_FLAGS
    server = SiteServer(prepare())
    server.start()
    try:
        with launch(options.browser, options.browser_flag) as engine:
            session = BenchSession(options, engine, server)
            _announce(session)
            try:
                _MODES[options.mode](session)
            finally:
                session.write()
            return session.exit_code()
    except (NoCase, NoEngine) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 2
    except Failed as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    finally:
        server.stop()


def _chart(options: argparse.Namespace) -> int:
    try:
        draw_ratios([Path(name) for name in options.models], options.chart)
    except (OSError, ValueError) as problem:
        print(f"bench: --chart draws FILEs that --json wrote: {problem}", file=sys.stderr)
        return 2
    return 0


def _announce(session: BenchSession) -> None:
    print(f"{session.title()}; times in ms, ratio = rival ÷ ours\n", flush=True)
    if (busy := load_average() or 0.0) > 0.5:
        print(f"this machine is busy (load {busy:.1f}): only compare what stands in one row", file=sys.stderr)
