"""Operators at the edges of what ONNX allows, against onnxruntime: ends of axes, NaN, remainders that nearly vanish."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper
from unit.one_operator import agrees_with_onnxruntime, evaluated, model, random

from nnjit.errors import ModelFormatError


@pytest.mark.parametrize("start, end", [(-5, -9), (-4, -9), (9, -9), (-9, 9), (-1, -9)])
def test_a_slice_backwards_clamps_its_start_to_the_first_element(start: int, end: int) -> None:
    numbers = [np.array([n]) for n in (start, end, 0, -1)]
    agrees_with_onnxruntime("Slice", [random(4, 3), *numbers], [1, 2, 3, 4])


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_pads_many_times_as_long_as_the_axis_go_on_periodically(mode: str) -> None:
    x, pads = random(3, 2), np.array([0, 141, 0, 300])
    (y,) = evaluated(model("Pad", [x, pads], [1], opset=19, mode=mode), {"x0": x})
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (141, 300)), mode))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_remainders_of_floats_are_exact(dtype: type) -> None:
    rng = np.random.default_rng(2)
    a = (rng.standard_normal(4000) * 10 ** rng.uniform(-3, 4, 4000)).astype(dtype)
    b = np.asarray([0.1, -0.3, 0.7, np.inf], dtype)[np.arange(4000) % 4]
    a[:8] = b[:8] * np.arange(8, dtype=dtype)
    a[3] = np.nan
    agrees_with_onnxruntime("Mod", [a, b], fmod=1, rtol=0, atol=0)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_ranks_nan_above_all_numbers_and_gives_each_place_once(largest: int) -> None:
    x = np.array([[2, np.nan, 1, np.nan, np.inf, 1]], np.float32)
    values, places = evaluated(
        model("TopK", [x, np.array([6])], [1], outputs=2, largest=largest), {"x0": x}
    )  # fmt: skip
    order = [1, 3, 4, 0, 2, 5] if largest else [2, 5, 0, 4, 1, 3]
    np.testing.assert_array_equal(places, [order])
    np.testing.assert_array_equal(values, x[:, order])


@pytest.mark.parametrize(
    "op, index, options",
    [
        ("Gather", [0, 4], {}),
        ("Gather", [-5, 1], {}),
        ("GatherElements", [[0, 4, 0]], {}),
        ("GatherND", [[0, 3]], {}),
        ("ScatterElements", [[-5, 0, 0]], {}),
        ("ScatterND", [[4]], {}),
    ],
)
def test_a_stored_index_beyond_its_axis_is_refused(op: str, index: list, options: dict) -> None:
    x, at = random(4, 3), np.array(index)
    operands = [x, at] + ([random(1, 3)] if op.startswith("Scatter") else [])
    proto = model(op, operands, [1], **options)
    inputs = {f"x{n}": a for n, a in enumerate(operands) if n != 1}
    with pytest.raises(ModelFormatError, match="is out of range for an axis of"):
        evaluated(proto, inputs)


def test_a_tensor_without_elements_can_be_repeated() -> None:
    (y,) = evaluated(model("Tile", [random(0, 2), np.array([3, 2])], [1]), {"x0": random(0, 2)})
    assert y.shape == (0, 4)


def test_of_equal_elements_of_a_window_the_first_in_row_major_order_is_placed() -> None:
    x = np.random.default_rng(4).integers(0, 3, (2, 3, 4, 5, 6)).astype(np.float32)
    agrees_with_onnxruntime(
        "MaxPool", [x], outputs=2, kernel_shape=[2, 3, 2], pads=[1, 0, 0, 0, 1, 0], storage_order=1
    )


def test_the_place_of_a_maximum_that_is_nan_lies_in_its_window() -> None:
    x = np.array([1, np.nan, 3, 2, np.nan, 0], np.float32).reshape(1, 1, 6)
    _, places = evaluated(model("MaxPool", [x], outputs=2, kernel_shape=[2]), {"x0": x})
    np.testing.assert_array_equal(places, [[[1, 1, 2, 4, 4]]])


def test_one_query_of_a_causal_attention_sees_all_keys() -> None:
    options = {"domain": "com.microsoft", "num_heads": 2, "unidirectional": 1}
    agrees_with_onnxruntime("MultiHeadAttention", [random(2, 1, 8), *[random(2, 5, 8)] * 2], **options)


def test_an_axis_that_a_reshape_leaves_with_one_element_is_broadcast() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["columns"]),
        helper.make_node("Add", ["columns", "y"], ["z"]),
    ]
    shape = numpy_helper.from_array(np.array([6, -1]), "shape")
    infos = [
        helper.make_tensor_value_info(n, 1, d) for n, d in (("x", ["n", "m"]), ("y", [6, 4]), ("z", None))
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", infos[:2], infos[2:], [shape]))
    inputs = {"x": random(2, 3), "y": random(6, 4)}
    (z,) = evaluated(proto, inputs)
    np.testing.assert_allclose(z, inputs["x"].reshape(6, 1) + inputs["y"], rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_bias_of_unknown_length_is_added_to_the_channels(op: str, groups: int) -> None:
    operands = [random(2, 4, 5, 6), random(4, 4 // groups, 2, 2), random(4)]
    agrees_with_onnxruntime(op, operands, [1], group=groups)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_moments_of_a_layer_norm_are_stashed_as_f32(dtype: type) -> None:
    operands = [random(3, 4).astype(dtype), random(4).astype(dtype), random(4).astype(dtype)]
    agrees_with_onnxruntime("LayerNormalization", operands, outputs=3)


@pytest.mark.parametrize(
    ("op", "shapes", "options"),
    [
        ("GatherElements", [(4, 2), (5, 2)], {"axis": 1}),
        ("BatchNormalization", [(2, 5, 3), (5,), (5,), (4,), (5,)], {}),
        ("GatherND", [(4, 6), (5, 2, 1)], {"batch_dims": 1}),
    ],
)
def test_operands_that_end_before_their_elements_are_refused(op: str, shapes: list, options: dict) -> None:
    operands = [
        np.zeros(s, np.int64 if op.startswith("Gather") and n else np.float32) for n, s in enumerate(shapes)
    ]
    with pytest.raises(ModelFormatError, match=rf"{op}.*(elements are taken|do not broadcast)"):
        evaluated(model(op, operands, range(1, len(shapes)), **options), {"x0": operands[0]})


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_an_empty_axis_is_padded_to_an_empty_one_only(mode: str) -> None:
    x = random(0, 3)
    (y,) = evaluated(model("Pad", [x, np.array([0, 1, 0, 1])], [1], opset=18, mode=mode), {"x0": x})
    assert y.shape == (0, 5)
    with pytest.raises(ModelFormatError, match="axis 0 has no elements"):
        evaluated(model("Pad", [x, np.array([1, 0, 0, 0])], [1], opset=18, mode=mode), {"x0": x})


def test_an_odd_negative_power_of_a_stored_negative_zero_is_minus_infinity() -> None:
    operands = [np.float32([-0.0, 0.0]), np.float32(-1)]
    agrees_with_onnxruntime("Pow", operands, [0, 1])


def test_a_convolution_of_nothing_but_padding_gives_the_bias() -> None:
    operands = [random(1, 2, 0), random(3, 2, 3), random(3)]
    (y,) = evaluated(model("Conv", operands, [1, 2], pads=[2, 2]), {"x0": operands[0]})
    np.testing.assert_array_equal(y, np.broadcast_to(operands[2][:, None], (1, 3, 2)))
