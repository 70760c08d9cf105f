"""Operators that are not supported on purpose, and why."""

from __future__ import annotations

from .registry import refuse

refuse(
    "its results are random numbers", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    "Multinomial", "Bernoulli",
)  # fmt: skip
refuse("functions of sequences are not supported", "SequenceMap")
refuse(
    "optional values are not supported", "Optional", "OptionalGetElement", "OptionalHasElement",
)  # fmt: skip
refuse(
    "strings are not supported", "StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch",
    "TfIdfVectorizer", "LabelEncoder", "ImageDecoder",
)  # fmt: skip
refuse("the number of boxes that it gives depends on data", "NonMaxSuppression")
