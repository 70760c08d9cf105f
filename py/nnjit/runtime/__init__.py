"""The bridge to the JavaScript runtime: loading, running and tuning models. Works under Pyodide only."""

from __future__ import annotations

from .kernels import export_kernels, import_kernels
from .loading import load
from .model import Model

__all__ = ["Model", "export_kernels", "import_kernels", "load"]
