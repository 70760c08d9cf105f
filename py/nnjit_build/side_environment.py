"""Virtual environments beside `.venv`, for large packages that only some commands need: made when they are first asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .paths import CACHE


def python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of the environment `.cache/venv-NAME`, which holds the pinned requirements and what they need.

    Raises subprocess.CalledProcessError when it cannot be made.
    """
    folder = CACHE / f"venv-{name}"
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    wanted = "\n".join(requirements)
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *requirements], check=True)
        ready.write_text(wanted)
    return interpreter
