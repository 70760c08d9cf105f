"""Resize, Upsample and GridSample agree with onnxruntime, at sizes other than those they were traced for."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, model, random, traced

from nnjit.errors import ModelFormatError

EMPTY = np.zeros(0, np.float32)


def scales(*values: float) -> list[np.ndarray | None]:
    return [None, np.array(values, np.float32)]


def sizes(*values: int) -> list[np.ndarray | None]:
    return [None, None, np.array(values, np.int64)]


TRANSFORMS = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("to", [sizes(1, 2, 9, 5), sizes(1, 2, 3, 14), sizes(1, 2, 1, 8)])
def test_resize_to_sizes(mode: str, transform: str, to: list) -> None:
    agrees_with_onnxruntime(
        "Resize",
        [random(1, 2, 6, 7), *to],
        (1, 2, 3)[2 : 1 + len(to)],
        opset=19,
        mode=mode,
        coordinate_transformation_mode=transform,
    )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("by", [scales(1, 1, 2, 2), scales(1, 1, 3, 0.5), scales(1, 1, 1.5, 2.25)])
def test_resize_by_scales(mode: str, transform: str, by: list) -> None:
    agrees_with_onnxruntime(
        "Resize",
        [random(1, 2, 6, 8), *by],
        (2,),
        {0: (1, 2, 10, 4)},
        opset=13,
        mode=mode,
        coordinate_transformation_mode=transform,
    )


@pytest.mark.parametrize("nearest_mode", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric", "align_corners"])
def test_nearest_modes(nearest_mode: str, transform: str) -> None:
    agrees_with_onnxruntime(
        "Resize",
        [random(1, 1, 4, 5), *sizes(1, 1, 8, 3)],
        (3,),
        opset=13,
        nearest_mode=nearest_mode,
        coordinate_transformation_mode=transform,
    )


def test_cubic_without_the_outside() -> None:
    agrees_with_onnxruntime(
        "Resize",
        [random(1, 1, 6, 7), *sizes(1, 1, 9, 5)],
        (3,),
        opset=13,
        mode="cubic",
        exclude_outside=1,
        cubic_coeff_a=-0.5,
    )


def test_crop_and_resize() -> None:
    roi = np.array([0, 0, 0.2, -0.1, 1, 1, 0.7, 1.2], np.float32)
    agrees_with_onnxruntime(
        "Resize",
        [random(1, 1, 6, 7), roi, None, np.array([1, 1, 5, 9], np.int64)],
        (1, 3),
        opset=13,
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.0,
    )


def test_axes_and_aspect_ratio() -> None:
    agrees_with_onnxruntime(
        "Resize",
        [random(1, 2, 6, 7), None, None, np.array([12, 10], np.int64)],
        (3,),
        opset=18,
        mode="linear",
        axes=[2, 3],
        keep_aspect_ratio_policy="not_larger",
    )


def test_doubling_is_index_arithmetic() -> None:
    proto = model(
        "Resize",
        [random(1, 2, 6, 7), *scales(1, 1, 2, 2)],
        (2,),
        opset=13,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    _, builder, _ = traced(proto, {"x0": (1, 2, 6, 7)}, {"x0": np.dtype(np.float32)})
    (only,) = builder.computes
    assert only.body.op == "read"


def test_resize_of_opset_10() -> None:
    agrees_with_onnxruntime(
        "Resize",
        [random(1, 2, 4, 6), np.array([1, 1, 2, 0.5], np.float32)],
        (1,),
        {0: (1, 2, 5, 8)},
        opset=10,
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    agrees_with_onnxruntime(
        "Upsample",
        [random(1, 2, 4, 6), np.array([1, 1, 2, 3], np.float32)],
        (1,),
        {0: (1, 2, 5, 8)},
        opset=9,
        mode=mode,
    )


def test_resize_needs_as_many_scales_as_axes() -> None:
    proto = model("Resize", [random(1, 2, 4, 4), *scales(2, 2)], (2,), opset=13)
    with pytest.raises(ModelFormatError, match="4 scales are needed"):
        traced(proto, {"x0": (1, 2, 4, 4)}, {"x0": np.dtype(np.float32)})


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_grid_sample(mode: str, padding: str, aligned: int) -> None:
    grid = np.random.default_rng(0).uniform(-1.6, 1.6, (2, 4, 3, 2)).astype(np.float32)
    agrees_with_onnxruntime(
        "GridSample",
        [random(2, 3, 5, 6), grid],
        (),
        {0: (2, 4, 7, 9), 1: (2, 6, 7, 2)},
        opset=16,
        mode=mode,
        padding_mode=padding,
        align_corners=aligned,
        atol=1e-4,
    )


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 5, 4), (2, 3, 4, 2, 6)])
def test_affine_grids(size: tuple[int, ...], aligned: int) -> None:
    rank = len(size) - 2
    agrees_with_onnxruntime(
        "AffineGrid", [random(2, rank, rank + 1), np.array(size)], (1,), {0: (3, rank, rank + 1)}, opset=20,
        align_corners=aligned,
    )  # fmt: skip
