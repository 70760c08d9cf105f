"""The commands of build.py."""

from __future__ import annotations

import argparse
import sys

from .fetch import FetchFailed


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code. What is not ours in `test` goes to pytest."""
    parser = argparse.ArgumentParser(prog="python build.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("setup", help="install everything that the other commands need")
    serve = commands.add_parser("serve", help="serve the page on this machine")
    serve.add_argument("--port", type=int, default=8000, help="0 picks a free one (default: 8000)")
    commands.add_parser("check", help="format, lint and types, without running the tests")
    commands.add_parser(
        "test", help="all checks and tests; arguments go to pytest; --models runs the large models instead"
    )
    commands.add_parser("build", help="write the site into dist/, for any static host")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        return _COMMANDS[options.command](options, rest)
    except FetchFailed as problem:
        print(f"build.py: {problem}", file=sys.stderr)
        return 1


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


_COMMANDS = {"setup": _setup, "serve": _serve, "check": _check, "test": _test, "build": _build}
