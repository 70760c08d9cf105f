"""`test`: format, lint, types of Python and JavaScript, then pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import vendor
from .fetch import FetchFailed, tool
from .paths import CACHE, ROOT, WEB

_TYPESCRIPT = ("typescript@7.0.2", "@webgpu/types@0.1.74")
_NODE = CACHE / "node"


def check() -> list[str]:
    """Run every static check and return the names of those that failed; each prints what it found."""
    checks: dict[str, Callable[[], bool]] = {
        "ruff format": lambda: _passes("ruff", "format", "--check", "--quiet", "."),
        "ruff check": lambda: _passes("ruff", "check", "--quiet", "."),
        "mypy": lambda: _passes("mypy", "--no-error-summary"),
        "tsc": _javascript_types,
    }
    return [name for name, run in checks.items() if not run()]


def test(arguments: Sequence[str]) -> int:
    """All static checks, then pytest with `arguments`; 0 when everything passed."""
    failed = check()
    status = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT).returncode
    if failed:
        print(f"failed before pytest: {', '.join(failed)}", file=sys.stderr)
    return status or (1 if failed else 0)


def _passes(module: str, *arguments: str) -> bool:
    environment = {**os.environ, "RUFF_CACHE_DIR": str(CACHE / "ruff")}
    return (
        subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment).returncode == 0
    )


def _javascript_types() -> bool:
    """Check the JSDoc types of everything under web/ with TypeScript."""
    try:
        compiler = _typescript()
        vendor.ensure()
    except FetchFailed as problem:
        print(f"cannot check JavaScript: {problem}", file=sys.stderr)
        return False
    service_worker = str(WEB / "sw.js")
    everything_else = {"include": [str(WEB / "**" / "*.js")], "exclude": [service_worker]}
    results = [
        _types_fit(compiler, "page", everything_else, ["esnext", "dom", "dom.iterable"]),
        _types_fit(compiler, "service-worker", {"include": [service_worker]}, ["esnext", "webworker"]),
    ]
    return all(results)


def _types_fit(compiler: Path, name: str, files: dict[str, list[str]], libraries: list[str]) -> bool:
    options: dict[str, object] = {
        "allowJs": True,
        "checkJs": True,
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
        "target": "esnext",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": libraries,
        "types": ["@webgpu/types"],
        # The site has the runtime at /runtime, the tree at web/runtime: `../../runtime/…` from web/app finds both.
        "rootDirs": [str(WEB), str(ROOT), str(vendor.FOLDER.parent)],
    }
    config = _NODE / f"tsconfig.{name}.json"
    config.write_text(json.dumps({"compilerOptions": options, **files}), encoding="utf-8")
    command = ["node", str(compiler), "--project", str(config), "--pretty", "false"]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def _typescript() -> Path:
    """TypeScript's compiler, installed with npm into the cache when it is not there."""
    installed = _NODE / "installed.txt"
    wanted = "\n".join(_TYPESCRIPT)
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        _NODE.mkdir(parents=True, exist_ok=True)
        options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        tool("npm", "install", "--silent", *options, "--prefix", str(_NODE), *_TYPESCRIPT)
        installed.write_text(wanted, encoding="utf-8")
    return _NODE / "node_modules" / "typescript" / "bin" / "tsc"
