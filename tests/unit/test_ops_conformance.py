"""Every operator against the node test cases of the `onnx` package: equal numbers, or a refusal that is listed here."""

from __future__ import annotations

import numpy as np
import pytest
from unit.conformance import Case, cases, run

from nnjit.errors import UnsupportedError

_NOT_IMPLEMENTED = {
    "Adagrad", "Adam", "ArrayFeatureExtractor", "Binarizer", "CausalConvWithState", 
    "DeformConv", "Det", "FlexAttention", "LinearAttention", "MaxUnpool", "Momentum",
    "NegativeLogLikelihoodLoss", "RoiAlign", "SoftmaxCrossEntropyLoss", "SwiGLU", "TreeEnsemble",
}  # fmt: skip

_REFUSED_OPERATORS = {
    "Bernoulli": "its results are random numbers",
    "ImageDecoder": "strings are not supported",
    "NonMaxSuppression": "depends on data",
    "OptionalGetElement": "optional",
    "OptionalHasElement": "optional",
    "TfIdfVectorizer": "strings are not supported",
    "LabelEncoder": "strings are not supported|element type str",
} | dict.fromkeys(_NOT_IMPLEMENTED, "not implemented|element type")
"""Operator → what the error says."""

_REFUSED_CASES = {
    "scan_sum": "defined from opset 9 on",
    "batchnorm_example_training_mode": "training mode",
    "batchnorm_epsilon_training_mode": "training mode",
    "training_dropout_default": "training mode",
    "training_dropout_default_mask": "training mode",
    "training_dropout": "training mode",
    "training_dropout_mask": "training mode",
    "training_dropout_zero_ratio": "training mode",
    "training_dropout_zero_ratio_mask": "training mode",
}
"""Case → what the error says."""


def _refusal(case: Case) -> str | None:
    """What the error must say, or None for a case that must give the right numbers."""
    if case.name in _REFUSED_CASES:
        return _REFUSED_CASES[case.name]
    if case.other_than_tensors:
        return "not a tensor|sequences of tensors|optional values|strings"
    if case.foreign_types:
        return "element type|cast to|elements of type|not implemented"
    return next((_REFUSED_OPERATORS[op] for op in case.operators if op in _REFUSED_OPERATORS), None)


ACCEPTED = [name for name, case in cases().items() if _refusal(case) is None]
REFUSED = [name for name, case in cases().items() if _refusal(case) is not None]


@pytest.mark.parametrize("extents", ["constant", "symbolic"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_node_case_gives_the_expected_outputs(name: str, extents: str) -> None:
    case = cases()[name]
    values = run(case.model, case.inputs, symbolic=extents == "symbolic")
    for value, expected in zip(values, case.outputs, strict=True):
        assert (value.shape, value.dtype) == (np.shape(expected), np.asarray(expected).dtype)
        exact = np.asarray(expected, float)
        np.testing.assert_allclose(value.astype(float), exact, rtol=case.rtol, atol=case.atol(exact))


@pytest.mark.parametrize("name", REFUSED)
def test_node_case_is_refused_with_the_listed_reason(name: str) -> None:
    case = cases()[name]
    with pytest.raises(UnsupportedError, match=_refusal(case)):
        run(case.model, case.inputs)
