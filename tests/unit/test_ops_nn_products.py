"""Matrix products and convolutions agree with onnxruntime, at sizes other than those that they were traced for."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, model, random, traced

from nnjit.errors import ModelFormatError
from nnjit.tensor.tensor import Compute, physical_order

INTEGERS = np.random.default_rng(0)


def bytes_(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    info = np.iinfo(dtype)
    return INTEGERS.integers(info.min, info.max + 1, shape).astype(dtype)


@pytest.mark.parametrize(
    ("left", "right", "traced_left", "traced_right"),
    [
        ((7, 5), (5, 3), (9, 5), (5, 4)),
        ((5,), (5, 3), (6,), (6, 3)),
        ((7, 5), (5,), (3, 5), (5,)),
        ((5,), (5,), (4,), (4,)),
        ((2, 3, 7, 5), (5, 3), (4, 3, 2, 5), (5, 3)),
        ((2, 1, 7, 5), (3, 5, 4), (5, 1, 7, 5), (3, 5, 4)),
        ((4, 5), (2, 3, 5, 6), (4, 5), (2, 7, 5, 6)),
        ((3, 0), (0, 4), (3, 0), (0, 4)),
    ],
)
def test_matmul(left: tuple, right: tuple, traced_left: tuple, traced_right: tuple) -> None:
    agrees_with_onnxruntime(
        "MatMul", [random(*left), random(*right)], traced_at={0: traced_left, 1: traced_right}
    )


def test_matmul_refuses_operands_that_do_not_fit() -> None:
    proto = model("MatMul", [random(2, 3), random(4, 5)], constants=(1,))
    with pytest.raises(ModelFormatError, match=r"cannot multiply \[2, 3\] by \[4, 5\]"):
        traced(proto, {"x0": (2, 3)}, {"x0": np.dtype(np.float32)})


def test_matmul_is_one_contraction_of_two_reads() -> None:
    proto = model("MatMul", [random(2, 9, 4), random(4, 5)], constants=(1,))
    (y,), _, _ = traced(proto, {"x0": (2, 9, 4)}, {"x0": np.dtype(np.float32)})
    assert isinstance(y, Compute)
    assert (y.combine, y.body.op, [a.op for a in y.body.args]) == ("sum", "mul", ["read", "read"])


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [None, (), (3,), (1, 3), (7, 1), (7, 3)])
def test_gemm(trans_a: int, trans_b: int, c: tuple | None) -> None:
    a, b = random(7, 5), random(5, 3)
    agrees_with_onnxruntime(
        "Gemm",
        [a.T.copy() if trans_a else a, b.T.copy() if trans_b else b, None if c is None else random(*c)],
        transA=trans_a,
        transB=trans_b,
        alpha=0.5,
        beta=2.0,
    )


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bqhd,bkhd->bhqk", [(2, 5, 3, 4), (2, 6, 3, 4)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 6)]),
        ("ij,jk,kl->li", [(2, 3), (3, 4), (4, 5)]),
        ("ii->i", [(4, 4)]),
        ("ii", [(4, 4)]),
        ("ijk->kj", [(2, 3, 4)]),
        ("i,j->ij", [(3,), (4,)]),
        ("ij,ik->i", [(3, 4), (3, 5)]),
        ("ji,k", [(2, 3), (4,)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple]) -> None:
    operands = [random(*shape, seed=n) for n, shape in enumerate(shapes)]
    agrees_with_onnxruntime("Einsum", operands, equation=equation, atol=1e-4)


@pytest.mark.parametrize(
    "zero_points",
    [
        [],
        [np.uint8(3)],
        [np.uint8(3), np.int8(-7)],
        [np.uint8(0), np.arange(-2, 2, dtype=np.int8)],
    ],
)
def test_matmul_integer(zero_points: list) -> None:
    operands = [bytes_(3, 6), bytes_(6, 4, dtype=np.int8), *map(np.asarray, zero_points)]
    agrees_with_onnxruntime("MatMulInteger", operands, constants=range(1, len(operands)))


# -- Conv -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "w", "attributes", "traced_at"),
    [
        ((1, 3, 9), (4, 3, 3), {}, (1, 3, 12)),
        ((2, 3, 17), (4, 3, 5), {"strides": [3], "pads": [2, 1]}, (3, 3, 20)),
        ((2, 3, 11, 13), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}, (4, 3, 6, 8)),
        ((2, 4, 11, 13), (6, 4, 1, 1), {}, (5, 4, 7, 9)),
        ((2, 4, 11, 13), (6, 4, 3, 2), {"strides": [2, 3], "pads": [0, 1, 2, 0]}, (2, 4, 16, 18)),
        ((1, 2, 12, 10), (3, 2, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}, (1, 2, 10, 11)),
        ((1, 6, 7, 8), (9, 2, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}, (1, 6, 9, 9)),
        ((2, 6, 7, 8), (6, 1, 3, 3), {"group": 6, "strides": [2, 2], "pads": [1, 1, 1, 1]}, (3, 6, 10, 9)),
        ((2, 3, 7, 8), (6, 1, 3, 3), {"group": 3}, (2, 3, 9, 8)),
        ((2, 3, 5, 6, 7), (4, 3, 2, 3, 2), {"pads": [0, 1, 0, 1, 1, 0]}, (2, 3, 5, 9, 7)),
        ((1, 2, 8, 9), (3, 2, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (1, 2, 10, 13)),
        ((1, 2, 8, 9), (3, 2, 4, 3), {"auto_pad": "SAME_LOWER"}, (1, 2, 6, 6)),
        ((1, 2, 8, 9), (3, 2, 3, 3), {"auto_pad": "VALID"}, (1, 2, 6, 6)),
    ],
)
@pytest.mark.parametrize("with_bias", [False, True])
def test_conv(x: tuple, w: tuple, attributes: dict, traced_at: tuple, with_bias: bool) -> None:
    operands = [random(*x), random(*w), *([random(w[0])] if with_bias else [])]
    agrees_with_onnxruntime("Conv", operands, range(1, len(operands)), {0: traced_at}, **attributes)


def test_a_convolution_is_laid_out_with_channels_last() -> None:
    proto = model("Conv", [random(1, 3, 8, 8), random(4, 3, 3, 3)], constants=(1,), pads=[1, 1, 1, 1])
    (y,), _, _ = traced(proto, {"x0": (1, 3, 8, 8)}, {"x0": np.dtype(np.float32)})
    assert physical_order(y) == (0, 2, 3, 1)


def test_a_padded_convolution_reads_without_conditions() -> None:
    proto = model("Conv", [random(1, 3, 8, 8), random(4, 3, 3, 3)], constants=(1,), pads=[1, 1, 1, 1])
    (y,), _, _ = traced(proto, {"x0": (1, 3, 8, 8)}, {"x0": np.dtype(np.float32)})
    assert [a.op for a in y.base.body.args] == ["read", "read"]  # type: ignore[attr-defined]


def test_conv_refuses_channels_that_do_not_fit() -> None:
    proto = model("Conv", [random(1, 3, 8, 8), random(4, 2, 3, 3)], constants=(1,))
    with pytest.raises(ModelFormatError, match="3 channels"):
        traced(proto, {"x0": (1, 3, 8, 8)}, {"x0": np.dtype(np.float32)})


def test_conv_refuses_an_input_smaller_than_the_kernel() -> None:
    proto = model("Conv", [random(1, 3, 2, 8), random(4, 3, 3, 3)], constants=(1,))
    with pytest.raises(ModelFormatError, match="does not fit an input of 2"):
        traced(proto, {"x0": (1, 3, 2, 8)}, {"x0": np.dtype(np.float32)})


@pytest.mark.parametrize(
    ("x", "w", "attributes", "traced_at"),
    [
        ((1, 3, 9), (3, 4, 3), {}, (1, 3, 12)),
        ((2, 3, 5, 6), (3, 4, 2, 2), {"strides": [2, 2]}, (3, 3, 7, 7)),
        ((2, 3, 5, 6), (3, 4, 3, 2), {"strides": [3, 2]}, (2, 3, 8, 8)),
        ((2, 3, 5, 6), (3, 4, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (2, 3, 8, 9)),
        (
            (1, 3, 5, 6),
            (3, 4, 3, 3),
            {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 1]},
            (1, 3, 7, 7),
        ),
        ((1, 4, 5, 6), (4, 2, 3, 3), {"group": 2, "strides": [2, 1]}, (1, 4, 9, 9)),
        ((1, 4, 5, 6), (4, 1, 4, 4), {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}, (1, 4, 7, 7)),
        ((1, 3, 6, 5), (3, 2, 3, 2), {"dilations": [2, 2]}, (1, 3, 8, 8)),
        ((1, 3, 5, 6), (3, 2, 4, 4), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, (1, 3, 7, 9)),
        ((1, 3, 5, 6), (3, 2, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}, (1, 3, 5, 6)),
        ((1, 2, 3, 4, 5), (2, 3, 2, 2, 2), {"strides": [2, 2, 2]}, (1, 2, 4, 4, 5)),
    ],
)
def test_conv_transpose(x: tuple, w: tuple, attributes: dict, traced_at: tuple) -> None:
    group = attributes.get("group", 1)
    operands = [random(*x), random(*w), random(w[1] * group)]
    agrees_with_onnxruntime("ConvTranspose", operands, (1, 2), {0: traced_at}, **attributes)


def test_an_upsampling_conv_transpose_multiplies_no_zeros() -> None:
    proto = model("ConvTranspose", [random(1, 3, 5, 6), random(3, 4, 2, 2)], constants=(1,), strides=[2, 2])
    _, builder, _ = traced(proto, {"x0": (1, 3, 5, 6)}, {"x0": np.dtype(np.float32)})
    assert [c.reduce_shape for c in builder.computes if c.combine] == [(3,)]


@pytest.mark.parametrize("zero_points", [(0, 0), (7, 3), (128, 5)])
def test_conv_integer(zero_points: tuple[int, int]) -> None:
    operands = [bytes_(1, 3, 6, 7), bytes_(4, 3, 3, 3), *map(np.uint8, zero_points)]
    agrees_with_onnxruntime(
        "ConvInteger", [np.asarray(o) for o in operands], (1, 2, 3), pads=[1, 1, 1, 1], strides=[2, 2]
    )


@pytest.mark.parametrize("group", [1, 2, 4])
def test_qlinear_conv_with_scales_for_each_channel(group: int) -> None:
    w = bytes_(8, 4 // group, 3, 3, dtype=np.int8)
    operands = [
        bytes_(1, 4, 6, 7),
        np.float32(0.02),
        np.uint8(120),
        w,
        np.linspace(0.01, 0.02, 8, dtype=np.float32),
        np.zeros(8, np.int8),
        np.float32(0.9),
        np.uint8(110),
        bytes_(8).astype(np.int32),
    ]
    agrees_with_onnxruntime(
        "QLinearConv",
        [np.asarray(o) for o in operands],
        range(1, 9),
        pads=[1, 1, 1, 1],
        group=group,
        atol=1.0,
    )


def test_qlinear_matmul() -> None:
    operands = [
        bytes_(5, 6),
        np.float32(0.02),
        np.uint8(120),
        bytes_(6, 4),
        np.float32(0.03),
        np.uint8(10),
        np.float32(0.9),
        np.uint8(110),
    ]
    agrees_with_onnxruntime("QLinearMatMul", [np.asarray(o) for o in operands], range(1, 8), atol=1.0)
