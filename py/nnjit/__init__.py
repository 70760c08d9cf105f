"""nnjit: a deep-learning compiler that runs inside the browser."""

from __future__ import annotations

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The interface of `nnjit.runtime`, at its first use: it needs Pyodide, the compiler does not."""
    if name in ("load", "Model", "export_kernels", "import_kernels"):
        from . import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
