"""The bridge to the JavaScript runtime: loading, running and tuning models. Works under Pyodide only."""

from __future__ import annotations

from .model import Model, load

__all__ = ["Model", "load"]
