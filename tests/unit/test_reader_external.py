"""External data: where tensors lie outside the model file, and locations that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import ExternalDataError
from nnjit.graph.graph import Graph, Location
from nnjit.onnx.external import check_files
from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from nnjit.onnx.tensors import load


def model_with_location(location: str | None, **entries: object) -> bytes:
    """A model whose float32 [4] weight is external."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    stated = {} if location is None else {"location": location}
    for key, value in (stated | entries).items():
        weight.external_data.add(key=key, value=str(value))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def read(location: str | None, **entries: object) -> Graph:
    return read_model(model_with_location(location, **entries))


def test_location_offset_and_length_are_read() -> None:
    assert read("m.data", offset=64, length=16).initializers["w"].data == Location("m.data", 64, 16)


def test_a_missing_length_follows_from_the_shape() -> None:
    assert read("m.data").initializers["w"].data == Location("m.data", 0, 16)


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("./m.data", "m.data"),
        ("a/b.bin", "a/b.bin"),
        ("a\\b.bin", "a/b.bin"),
        ("a/../b.bin", "b.bin"),
        ("50%.bin", "50%.bin"),
    ],
)
def test_locations_within_the_folder(location: str, path: str) -> None:
    assert read(location).external_files() == [path]


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../m.data",
        "a/../../m.data",
        "..",
        "\\\\server\\share",
        "..\\m.data",
        "C:\\m.data",
        "c:m.data",
        "https://example.com/m.data",
        "file:///m.data",
        "//example.com/m.data",
        "%2e%2e/m.data",
        "%2E%2E%2Fm.data",
        "%252e%252e/m.data",
        "..%5cm.data",
        "%2fetc/passwd",
        "a\0b",
    ],
)
def test_locations_that_leave_the_folder_are_refused(location: str) -> None:
    with pytest.raises(ExternalDataError, match=r"'w'.*leaves the model's folder"):
        read(location)


@pytest.mark.parametrize("location", [None, "", ".", "a/.."])
def test_locations_that_name_no_file_are_refused(location: str | None) -> None:
    with pytest.raises(ExternalDataError, match="'w'"):
        read(location)


@pytest.mark.parametrize(
    "entries", [{"offset": -4}, {"offset": "x"}, {"length": 12}, {"length": "9" * 40}], ids=str
)
def test_wrong_numbers_are_refused(entries: dict[str, object]) -> None:
    with pytest.raises(ExternalDataError, match="'w'"):
        read("m.data", **entries)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ExternalDataError, match=r"'w'.*'m.data' is missing"):
        check_files(read("m.data"), {})


def test_a_short_file_is_named() -> None:
    with pytest.raises(ExternalDataError, match=r"'w'.*'m.data'.*only 20"):
        check_files(read("m.data", offset=8), {"m.data": 20})


def test_a_long_enough_file_passes() -> None:
    check_files(read("m.data", offset=8), {"m.data": 24})


def test_contents_equal_what_the_onnx_package_wrote(tmp_path: Path) -> None:
    model = onnx.load_from_string(model_with_location("unused"))
    weights = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0
    )
    graph = read_model((tmp_path / "m.onnx").read_bytes())
    assert graph.external_files() == ["m.onnx.data"]
    contents = load(graph.initializers["w"], lambda file: BytesSource((tmp_path / str(file)).read_bytes()))
    np.testing.assert_array_equal(contents, weights)
