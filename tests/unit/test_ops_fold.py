"""Col2Im agrees with onnxruntime, and refuses columns that are not those of the image."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, evaluated, model, random

from nnjit.errors import ModelFormatError


@pytest.mark.parametrize(
    ("blocks", "options"),
    [
        (20, {}),
        (6, {"strides": [2, 2]}),
        (30, {"pads": [1, 0, 1, 1], "dilations": [1, 2]}),
        (12, {"pads": [1, 0, 1, 1], "strides": [2, 1], "dilations": [2, 3]}),
    ],
)
def test_blocks_that_overlap_or_leave_gaps(blocks: int, options: dict[str, list[int]]) -> None:
    shapes = [np.array([5, 6]), np.array([2, 2])]
    agrees_with_onnxruntime(
        "Col2Im", [random(2, 12, blocks), *shapes], (1, 2), {0: (3, 12, blocks)}, opset=18, **options
    )


def test_another_number_of_blocks_is_an_error() -> None:
    x = random(1, 12, 19)
    with pytest.raises(ModelFormatError, match=r"Col2Im.*does not hold the blocks"):
        evaluated(model("Col2Im", [x, np.array([5, 6]), np.array([2, 2])], (1, 2), opset=18), {"x0": x})
