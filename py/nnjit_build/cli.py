"""The commands of build.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .fetch import FetchFailed


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code. What `test` does not know goes to pytest."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        return _COMMANDS[options.command](options, rest)
    except FetchFailed as problem:
        print(f"build.py: {problem}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python build.py", description="Build, serve, check and run nnjit.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("setup", help="install everything that the other commands need")
    serve = commands.add_parser("serve", help="serve the page on this machine")
    serve.add_argument("--port", type=int, default=8000, help="0 picks a free one (default: 8000)")
    commands.add_parser("build", help="write the site into dist/, for any static host")
    commands.add_parser("check", help="format, lint and types, without running the tests")
    test = "all checks and tests; arguments go to pytest; --models runs the large models instead"
    commands.add_parser("test", help=test)
    run = commands.add_parser("run", help="run a model in a headless Chromium")
    add = run.add_argument
    add("model", metavar="MODEL", help="path or URL of an ONNX model")
    add("--input", action="append", default=[], metavar="NAME=FILE.npy", help="may be repeated; else made up")
    add("--dim", action="append", default=[], metavar="NAME=VALUE", help="of inputs that are made up; else 1")
    add("--device", choices=["auto", "wasm", "webgpu"], default="auto")
    add("--threads", type=int, metavar="N", help="of the CPU (default: what the machine has)")
    add("--tune", type=float, default=0, metavar="SECONDS", help="tune for so long (default: not at all)")
    add("--out", type=Path, metavar="DIR", help="write each output there as .npy")
    add("--json", type=Path, metavar="FILE", help="write the report there (default: standard output)")
    kernels = commands.add_parser("kernels", help="kernels that were tuned elsewhere")
    actions = kernels.add_subparsers(dest="action", required=True, metavar="ACTION")
    merge = actions.add_parser("merge", help="merge exported kernel files into the one that the site ships")
    add = merge.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="as the page exports them; each is one contributor",
    )
    add("--base", type=Path, metavar="FILE", help="a file merged earlier, whose counts are believed")
    add("--out", type=Path, metavar="FILE", help="default: web/runtime/kernels.json")
    _add_bench(commands.add_parser("bench", help="time nnjit and its rivals side by side in one Chromium"))
    return parser


def _add_bench(bench: argparse.ArgumentParser) -> None:
    add = bench.add_argument
    models = "names of test models, or paths; NAME@DIM=VALUE,… sets dimensions (default: the large set); with --kernels, patterns of operators"
    add("models", nargs="*", metavar="MODEL", help=models)
    add("--device", choices=["wasm", "webgpu"], default="wasm")
    add("--threads", type=int, metavar="N", help="of the CPU (default: what the machine has; --ablation: 1)")
    add(
        "--against",
        type=lambda text: text.split(","),
        metavar="RIVAL,…",
        help="ort-web, tfjs, jax-js (default: ort-web; --headline: all)",
    )
    add("--repeat", type=int, metavar="N", help="inferences of each in a match (default: 15, --headline: 9)")
    add(
        "--tune",
        type=float,
        metavar="SECONDS",
        help="per model; 0: not at all (default: 10, --headline: 30, --curve and --visits: 60, --ablation: 0)",
    )
    add("--json", type=Path, metavar="FILE", help="write the rows there")
    add(
        "--browser",
        choices=["chromium", "firefox", "webkit"],
        default="chromium",
        help="default: chromium; the others, WebKitGTK's MiniBrowser one of them, must be installed",
    )
    add(
        "--browser-flag", action="append", default=[], metavar="FLAG", help="for the browser; may be repeated"
    )
    modes = bench.add_mutually_exclusive_group()
    bench.set_defaults(mode="models")
    for mode, what in _BENCH_MODES.items():
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=what)
    curve = "draw latency over time while tuning goes on in the background, a chart per model into DIR"
    modes.add_argument("--curve", type=Path, metavar="DIR", help=curve)
    chart = "measure nothing: draw the ratios of rows that --json wrote into FILEs, given instead of MODELs"
    modes.add_argument("--chart", type=Path, metavar="SVG", help=chart)


_BENCH_MODES = {
    "kernels": "single operators instead of models, with the share of the ceiling that they reach",
    "headline": "models and operators: up to how many times faster than each peer, and than untuned, within 30 s; "
    "with no MODEL some of each, in less than 9 minutes; '*' and the names of models for more",
    "ablation": "each pass of the code generator left out: kernel speed, Python's and the browser's time to compile; "
    "with no MODEL what tells the most about each pass, in less than 4 minutes; names of passes: only these",
    "stages": "from the load call to the first output: milliseconds of each stage of ours, the median of 5 loads",
    "visits": "a first visit, tuned to the end, and a second one: from opening the page to the first output",
    "space": "measure all schedules of kernels and a sample of a far larger space; MODEL: operators or models",
    "candidates": "Python's and the browser's time for a candidate, by kind of kernel; MODEL: operators or models",
    "peaks": "only measure this machine's ceilings",
}


def _setup(options: argparse.Namespace, rest: list[str]) -> int:
    from playwright.sync_api import sync_playwright

    from . import chromium, lab, site

    site.prepare()
    lab.ensure()
    with sync_playwright() as playwright:
        chromium.ensure(playwright)
    return 0


def _serve(options: argparse.Namespace, rest: list[str]) -> int:
    from .server import SiteServer
    from .site import prepare

    site = prepare()
    try:
        server = SiteServer(site, options.port)
    except OSError as problem:
        print(
            f"build.py: cannot listen on port {options.port}: {problem.strerror}; try --port 0",
            file=sys.stderr,
        )
        return 1
    print(f"nnjit is at {server.url}/  (Ctrl+C stops it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    return 0


def _check(options: argparse.Namespace, rest: list[str]) -> int:
    from .check import check

    failed = check()
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def _test(options: argparse.Namespace, rest: list[str]) -> int:
    from .check import test

    return test(rest)


def _build(options: argparse.Namespace, rest: list[str]) -> int:
    from . import dist

    folder = dist.build()
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB")
    return 0


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from .run_model import run

    return run(options)


def _kernels(options: argparse.Namespace, rest: list[str]) -> int:
    from .merge_kernels import run

    return run(options)


def _bench(options: argparse.Namespace, rest: list[str]) -> int:
    from .bench import run

    for mode in ("curve", "chart"):
        if getattr(options, mode):
            options.mode = mode
    return run(options)


_COMMANDS = {
    "setup": _setup,
    "serve": _serve,
    "build": _build,
    "check": _check,
    "test": _test,
    "run": _run,
    "kernels": _kernels,
    "bench": _bench,
}
