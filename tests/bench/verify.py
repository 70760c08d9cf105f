"""Is a contestant's answer onnxruntime's? Nothing is timed in earnest, and no number printed, unless it is."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from models.reference import Reference


class Wrong(Exception):
    """An answer that is not the reference's; says which output and how far off."""


def decode(tensor: dict[str, Any]) -> np.ndarray:
    """The array that tensors.js encoded."""
    return np.frombuffer(base64.b64decode(tensor["base64"]), tensor["type"]).reshape(tensor["dims"])


@dataclass(frozen=True)
class Error:
    """How far an answer is off: the largest absolute error over all outputs, in two measures.

    of_tolerance  relative to what is allowed for that output: at most 1
    relative      relative to the root mean square of that output
    """

    of_tolerance: float = 0.0
    relative: float = 0.0

    def worse(self, other: Error) -> Error:
        """The larger of each."""
        return Error(max(self.of_tolerance, other.of_tolerance), max(self.relative, other.relative))


def error(answer: dict[str, dict[str, Any]], expected: Reference) -> Error:
    """The error of an answer that is right.

    Raises Wrong for a missing output, a shape or dtype that differs, NaN or infinity where the reference has another
    value, and an error above the tolerance.
    """
    worst = Error()
    for name, wanted in expected.outputs.items():
        if name not in answer:
            raise Wrong(f"the output {name} is missing")
        found = decode(answer[name])
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            kinds = f"{found.dtype}{list(found.shape)}, not {wanted.dtype}{list(wanted.shape)}"
            raise Wrong(f"the output {name} is {kinds}")
        difference, allowed = _difference(found, wanted), expected.tolerance[name]
        if not difference <= allowed:
            raise Wrong(f"the output {name} is off by {difference:.2e}; allowed is {allowed:.2e}")
        size = _root_mean_square(wanted)
        worst = worst.worse(
            Error(difference / allowed if allowed else 0.0, difference / size if size else 0.0)
        )
    return worst


def _root_mean_square(array: np.ndarray) -> float:
    values = array.astype(np.float64)
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest absolute difference; infinite where only one is NaN or infinite, or they are different infinities."""
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0))
