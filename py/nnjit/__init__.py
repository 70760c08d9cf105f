"""nnjit: a deep-learning compiler that runs inside the browser."""

from __future__ import annotations

__version__ = "0.1.0"
