"""LSTMs with weights of 8 bits agree with onnxruntime; a value that lies between two bytes may fall to either."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, random

STEPS, WIDTH, HIDDEN = 4, 12, 8
GATES = 4 * HIDDEN


def operands(directions: int = 1, batch: int = 3, dtype: type = np.int8) -> list[np.ndarray | None]:
    """Operands in the operator's order; the weights' parameters are of whole tensors, unsigned ones have zero points."""
    rng = np.random.default_rng((directions, batch))
    least = np.iinfo(dtype).min
    parameters = [
        np.linspace(0.004, 0.006, directions, dtype=np.float32),
        np.full(directions, least + 128, dtype),
    ]
    return [
        random(STEPS, batch, WIDTH),
        rng.integers(least + 30, least + 226, (directions, WIDTH, GATES)).astype(dtype),
        rng.integers(least + 30, least + 226, (directions, HIDDEN, GATES)).astype(dtype),
        random(directions, 2 * GATES),
        None,
        np.tanh(random(directions, batch, HIDDEN, seed=1)),
        random(directions, batch, HIDDEN, seed=2),
        None,
        *parameters,
        *parameters,
    ]


def check(given: list[np.ndarray | None], **attributes: object) -> None:
    weights = (1, 2, 3, 7, 8, 9, 10, 11)
    agrees_with_onnxruntime(
        "DynamicQuantizeLSTM",
        given,
        [n for n in weights if given[n] is not None],
        rtol=0,
        atol=4e-3,
        outputs=3,
        domain="com.microsoft",
        hidden_size=HIDDEN,
        **attributes,
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_directions(direction: str, dtype: type) -> None:
    check(operands(2 if direction == "bidirectional" else 1, dtype=dtype), direction=direction)


def test_without_a_bias_and_initial_states() -> None:
    given = operands()
    given[3] = given[5] = given[6] = None
    check(given)


def test_a_scale_for_each_column() -> None:
    given = operands(2, batch=1)
    for place in (8, 10):
        given[place] = np.abs(random(2, GATES, seed=place)) * np.float32(0.005)
        given[place + 1] = np.zeros((2, GATES), np.int8)
    check(given, direction="bidirectional")


def test_peepholes_coupled_gates_and_a_clip() -> None:
    given = operands()
    given[7] = random(1, 3 * HIDDEN)
    check(given, clip=0.7, input_forget=1)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_what_lies_behind_the_end_of_every_sequence_does_not_widen_the_range(direction: str) -> None:
    given = operands(2 if direction == "bidirectional" else 1)
    given[0][3] *= 50  # type: ignore[index]
    given[4] = np.array([2, 3, 1], np.int32)
    check(given, direction=direction)
