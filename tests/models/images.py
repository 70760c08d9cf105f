"""Synthetic pictures with text on them, so that the text models have something to find."""

from __future__ import annotations

import numpy as np

# 5 x 7 dots a letter, one row per string.
_GLYPHS = {
    "A": ".###. #...# #...# ##### #...# #...# #...#",
    "D": "####. #...# #...# #...# #...# #...# ####.",
    "E": "##### #.... #.... ####. #.... #.... #####",
    "H": "#...# #...# #...# ##### #...# #...# #...#",
    "L": "#.... #.... #.... #.... #.... #.... #####",
    "O": ".###. #...# #...# #...# #...# #...# .###.",
    "R": "####. #...# #...# ####. #.#.. #..#. #...#",
    "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
    "W": "#...# #...# #...# #.#.# #.#.# ##.## #...#",
    " ": "..... ..... ..... ..... ..... ..... .....",
}


def text(line: str, scale: int) -> np.ndarray:
    """A bool mask [7 * scale, 6 * scale * letters] of the letters of `line`."""
    rows = [
        [glyph == "#" for letter in line for glyph in f"{_GLYPHS[letter].split()[row]}."] for row in range(7)
    ]
    return np.kron(np.array(rows), np.ones((scale, scale), bool))


def page(lines: list[str], height: int, width: int, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Dark text on light, slightly noisy paper: float32 [3, height, width], normalised to about -1 .. 1."""
    image = np.full((height, width), 0.92)
    step = height // len(lines)
    for number, line in enumerate(lines):
        mask = text(line, scale)[:height, : width - scale]
        top = number * step + max(0, (step - mask.shape[0]) // 2)
        image[top : top + mask.shape[0], scale : scale + mask.shape[1]][mask] = 0.12
    image = np.clip(image + rng.normal(0, 0.01, image.shape), 0, 1)
    return np.repeat((image[None] - 0.5) / 0.5, 3, axis=0).astype(np.float32)
