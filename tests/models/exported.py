"""Random-weight models of published architectures, exported with PyTorch in a virtual environment of its own.

PyTorch and transformers are large, so they are installed (once, under `.cache/`) only when one of these models is
asked for. What is exported is seeded, hence the same for the same versions on the same kind of machine.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nnjit_build import side_environment

REQUIREMENTS = ["torch==2.13.0", "transformers==4.57.6", "onnx==1.23.2"]


def export(name: str, to: Path) -> None:
    """Export the architecture `name` to `to`. Raises RuntimeError with the exporter's words when it fails."""
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f"{to.name}.{os.getpid()}.part")
    script = Path(__file__).with_name("export_torch.py")
    result = subprocess.run(
        [str(side_environment.python("torch", REQUIREMENTS)), str(script), name, str(partial)],
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        partial.unlink(missing_ok=True)
        raise RuntimeError(f"exporting {name} failed:\n{result.stderr[-4000:]}")
    partial.replace(to)
