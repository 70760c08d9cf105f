"""The test models are what they claim to be, and their inputs mean something to them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from models import minilm, registry
from models.reference import reference, tolerance
from onnx import helper


@pytest.mark.parametrize("name", registry.names(marked=False))
def test_inputs_have_the_declared_names_types_and_sizes(name: str) -> None:
    graph = onnx.load(registry.path(name)).graph
    stored = {tensor.name for tensor in graph.initializer}
    declared = {info.name: info.type.tensor_type for info in graph.input if info.name not in stored}
    inputs = registry.inputs(name)
    assert set(inputs) == set(declared)
    for key, array in inputs.items():
        assert array.dtype == helper.tensor_dtype_to_np_dtype(declared[key].elem_type)
        dims = declared[key].shape.dim
        assert len(dims) == array.ndim
        assert all(d.dim_value in (0, -1, size) for d, size in zip(dims, array.shape, strict=True))


def test_inputs_follow_the_seed() -> None:
    first, again, other = (registry.inputs("minilm-l6", seed)["input_ids"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_dimensions_can_be_replaced() -> None:
    assert registry.inputs("minilm-l6", batch=3, sequence=5)["input_ids"].shape == (3, 5)


def test_minilm_puts_related_sentences_closer_than_unrelated_ones() -> None:
    session = onnxruntime.InferenceSession(registry.path("minilm-l6"))
    ids = minilm.vocabulary()

    def embed(sentence: str) -> np.ndarray:
        tokens = np.array([[ids["[CLS]"], *(ids[word] for word in sentence.split()), ids["[SEP]"]]], np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": 0 * tokens}
        (hidden,) = session.run(None, inputs)
        mean = hidden[0].mean(axis=0)
        return mean / np.linalg.norm(mean)

    cat, kitten, bank = map(
        embed,
        ("a cat sleeps on the sofa", "the kitten is resting on a couch", "the bank raised interest rates"),
    )
    assert cat @ kitten > 0.6
    assert cat @ bank < 0.2


def test_rapidocr_reads_what_is_written_on_the_page() -> None:
    letters = next(
        entry.value
        for entry in onnx.load(registry.path("rapidocr-rec")).metadata_props
        if entry.key == "character"
    ).splitlines()
    (scores,) = reference("rapidocr-rec").outputs.values()
    best = scores[0].argmax(axis=-1)
    # CTC: runs of one class are one letter, class 0 is no letter, and the class after the last letter is a space.
    found = [k for k, before in zip(best, [0, *best[:-1]], strict=True) if k not in (0, before)]
    text = "".join(letters[k - 1] if k <= len(letters) else " " for k in found)
    assert text.startswith("HELLO WOR") or text.startswith("HELLOWOR")


def test_reference_outputs_have_a_tolerance_of_their_size() -> None:
    expected = reference("minilm-l6")
    rms = np.sqrt(np.mean(expected.outputs["last_hidden_state"].astype(np.float64) ** 2))
    assert 1e-4 * rms <= expected.tolerance["last_hidden_state"] < 1e-3 * rms


def test_tolerance_is_three_times_what_optimisation_changes() -> None:
    one = np.ones(4, np.float32)
    assert tolerance(one, one) == pytest.approx(1e-4)
    assert tolerance(one, one + np.float32(2**-10)) == pytest.approx(3 * 2**-10)
    assert tolerance(np.arange(3), np.arange(3)) == 0
