"""Where things lie in the working tree."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
CACHE = ROOT / ".cache"
DOWNLOADS = CACHE / "downloads"
MODELS = CACHE / "models"
DIST = ROOT / "dist"
