"""Models quantised to 8 bits with onnxruntime's own tools, in the two ways that published models are.

dynamic  weights int8, one scale for each; activations are quantised as they come: DynamicQuantizeLinear, MatMulInteger
static   QuantizeLinear and DequantizeLinear around each operator, with scales from calibration; weights per channel
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]


def dynamic(source: Path, to: Path) -> None:
    """Write the model `source` to `to` with the weights of its products in int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _in_place(to) as partial:
        quantize_dynamic(source, partial, weight_type=QuantType.QInt8)


def static(source: Path, samples: Iterable[Arrays], to: Path) -> None:
    """Write the model `source` to `to` with weights in int8 and activations in uint8, calibrated on the inputs `samples`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> Arrays | None:  # type: ignore[override]
            return next(self.left, None)

    with _in_place(to) as partial:
        quantize_static(
            source,
            partial,
            Reader(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


@contextmanager
def _in_place(to: Path) -> Iterator[Path]:
    """A path to write to, whose file is moved to `to` when it is complete."""
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f"{to.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(to)
    finally:
        partial.unlink(missing_ok=True)
