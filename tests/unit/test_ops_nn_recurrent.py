"""RNN, GRU and LSTM agree with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, model, random, traced

from nnjit.errors import ModelFormatError, UnsupportedError
from nnjit.tensor.tensor import Compute

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, WIDTH, HIDDEN = 4, 3, 5, 6


def operands(op: str, directions: int = 1, seed: int = 0) -> list[np.ndarray | None]:
    """x, w, r, bias, lengths (left out) and initial states."""
    gates, rng = GATES[op], seed
    states = [random(directions, BATCH, HIDDEN, seed=rng + 4)]
    if op == "LSTM":
        states.append(random(directions, BATCH, HIDDEN, seed=rng + 5))
    return [
        random(STEPS, BATCH, WIDTH, seed=rng),
        random(directions, gates * HIDDEN, WIDTH, seed=rng + 1),
        random(directions, gates * HIDDEN, HIDDEN, seed=rng + 2),
        random(directions, 2 * gates * HIDDEN, seed=rng + 3),
        None,
        *states,
    ]


def outputs(op: str) -> int:
    return 3 if op == "LSTM" else 2


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_directions(op: str, direction: str) -> None:
    given = operands(op, 2 if direction == "bidirectional" else 1)
    agrees_with_onnxruntime(
        op,
        given,
        (1, 2, 3),
        outputs=outputs(op),
        hidden_size=HIDDEN,
        direction=direction,
    )


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_sequences_of_different_lengths(op: str, direction: str) -> None:
    given = operands(op, 2 if direction == "bidirectional" else 1)
    given[4] = np.array([2, 4, 1], np.int32)
    agrees_with_onnxruntime(
        op, given, (1, 2, 3), outputs=outputs(op), hidden_size=HIDDEN, direction=direction
    )


@pytest.mark.parametrize("op", GATES)
def test_bias_and_initial_states_may_be_left_out(op: str) -> None:
    agrees_with_onnxruntime(op, operands(op)[:3], (1, 2), outputs=outputs(op), hidden_size=HIDDEN)


@pytest.mark.parametrize("op", GATES)
def test_a_batch_of_another_size_needs_no_new_plan(op: str) -> None:
    given = operands(op)
    traced_at = {
        n: (a.shape[0], 7, a.shape[2]) for n, a in enumerate(given) if n in (0, 5, 6) and a is not None
    }
    agrees_with_onnxruntime(op, given, (1, 2, 3), traced_at, outputs=outputs(op), hidden_size=HIDDEN)


@pytest.mark.parametrize("op", GATES)
def test_gates_are_clipped(op: str) -> None:
    agrees_with_onnxruntime(
        op, operands(op), (1, 2, 3), outputs=outputs(op), hidden_size=HIDDEN, clip=0.3, atol=1e-4
    )


@pytest.mark.parametrize("late", [0, 1])
def test_gru_resets_before_or_after_the_product(late: int) -> None:
    agrees_with_onnxruntime(
        "GRU", operands("GRU"), (1, 2, 3), outputs=2, hidden_size=HIDDEN, linear_before_reset=late
    )


def test_lstm_peepholes() -> None:
    given = [*operands("LSTM"), random(1, 3 * HIDDEN)]
    agrees_with_onnxruntime("LSTM", given, (1, 2, 3, 7), outputs=3, hidden_size=HIDDEN)


def test_lstm_with_coupled_gates() -> None:
    agrees_with_onnxruntime(
        "LSTM", operands("LSTM"), (1, 2, 3), outputs=3, hidden_size=HIDDEN, input_forget=1
    )


@pytest.mark.parametrize(
    ("activations", "parameters"),
    [
        (["HardSigmoid", "Tanh", "Softsign"], {"activation_alpha": [0.3], "activation_beta": [0.4]}),
        (["Sigmoid", "ScaledTanh", "Elu"], {"activation_alpha": [1.5, 0.7], "activation_beta": [0.6]}),
        (["Sigmoid", "LeakyRelu", "Softplus"], {"activation_alpha": [0.2]}),
        (["Affine", "Relu", "Tanh"], {"activation_alpha": [0.2], "activation_beta": [0.1]}),
    ],
)
def test_lstm_activations(activations: list[str], parameters: dict) -> None:
    agrees_with_onnxruntime(
        "LSTM",
        operands("LSTM"),
        (1, 2, 3),
        outputs=3,
        hidden_size=HIDDEN,
        activations=activations,
        **parameters,
        rtol=1e-3,
        atol=1e-3,
    )


def test_only_the_wanted_outputs_are_made() -> None:
    agrees_with_onnxruntime("LSTM", operands("LSTM"), (1, 2, 3), outputs=[False, True], hidden_size=HIDDEN)


def test_the_input_projection_is_one_contraction_for_all_steps() -> None:
    given = operands("LSTM")[:4]
    proto = model("LSTM", given, (1, 2, 3), outputs=3, hidden_size=HIDDEN)
    _, builder, _ = traced(proto, {"x0": given[0].shape}, {"x0": np.dtype(np.float32)})  # type: ignore[union-attr]
    sums = [c for c in builder.computes if isinstance(c, Compute) and c.combine == "sum"]
    assert len(sums) == 1 + STEPS
    assert sums[0].shape[0] == STEPS


def test_very_long_sequences_are_refused() -> None:
    given = operands("GRU")[:3]
    proto = model("GRU", given, (1, 2), outputs=2, hidden_size=HIDDEN)
    with pytest.raises(UnsupportedError, match="sequence of 5000 steps"):
        traced(proto, {"x0": (5000, 1, WIDTH)}, {"x0": np.dtype(np.float32)})


def test_weights_that_do_not_fit_are_refused() -> None:
    given = operands("GRU")[:3]
    proto = model("GRU", given, (1, 2), outputs=2, hidden_size=HIDDEN)
    with pytest.raises(ModelFormatError, match="do not fit input"):
        traced(proto, {"x0": (3, 2, WIDTH + 1)}, {"x0": np.dtype(np.float32)})
