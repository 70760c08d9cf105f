"""Random-weight models of published architectures, exported with PyTorch in a virtual environment of its own.

PyTorch and transformers are large, so they are installed (once, under `.cache/`) only when one of these models is
asked for. What is exported is seeded, hence the same for the same versions on the same kind of machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nnjit_build.paths import CACHE

REQUIREMENTS = ["torch==2.13.0", "transformers==4.57.6", "onnx==1.23.2"]
ENVIRONMENT = CACHE / "venv-torch"
NAMES = ["roberta-base", "gpt2", "t5-small", "deit-tiny", "resnet-50", "mobilenet-v2", "whisper-tiny-encoder"]


def _python() -> Path:
    """The interpreter of the export environment, made on the first call."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = ENVIRONMENT / "ready"
    wanted = "\n".join(REQUIREMENTS)
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        ready.write_text(wanted)
    return python


def export(name: str, to: Path) -> None:
    """Export the architecture `name` to `to`. Raises RuntimeError with the exporter's words when it fails."""
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f"{to.name}.{os.getpid()}.part")
    script = Path(__file__).with_name("export_torch.py")
    result = subprocess.run([str(_python()), str(script), name, str(partial)], capture_output=True, text=True)
    if result.returncode != 0:
        partial.unlink(missing_ok=True)
        raise RuntimeError(f"exporting {name} failed:\n{result.stderr[-4000:]}")
    partial.replace(to)
