"""Products with an activation behind them agree with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, random

MICROSOFT = "com.microsoft"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.2]), ("Clip", [-0.4, 1.5]), ("HardSigmoid", [0.3, 0.4]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("added", [False, True])
def test_convolutions(name: str, parameters: list[float], added: bool) -> None:
    operands = [random(2, 4, 7, 6), random(6, 2, 3, 3), random(6), random(2, 6, 7, 6, seed=1)]
    options = {"activation_params": parameters} if parameters else {}
    agrees_with_onnxruntime(
        "FusedConv", operands if added else operands[:3], (1, 2), domain=MICROSOFT, activation=name, group=2,
        pads=[1, 1, 1, 1], **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["Relu", "LeakyRelu", "Sigmoid"])
def test_products(name: str) -> None:
    operands: list[np.ndarray | None] = [random(3, 8), random(5, 8), random(5)]
    options = {"activation_alpha": 0.3} if name == "LeakyRelu" else {}
    agrees_with_onnxruntime(
        "FusedGemm", operands, (1, 2), {0: (6, 8)}, domain=MICROSOFT, activation=name, alpha=0.7, beta=1.3, transB=1,
        **options,
    )  # fmt: skip
