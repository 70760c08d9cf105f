"""`bench`: hands over to tests/bench, which runs us against other libraries with the models that the tests have."""

from __future__ import annotations

import argparse
import importlib
import sys

from .paths import ROOT


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code is that of bench.command.run."""
    sys.path.insert(0, str(ROOT / "tests"))
    code: int = importlib.import_module("bench.command").run(options)
    return code
