"""com.microsoft's operators between quantised tensors, and dynamic quantisation, agree with onnxruntime, rounding at ties aside."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from one_operator import agrees_with_onnxruntime, evaluated, model, random
from onnx import helper

MICROSOFT = "com.microsoft"


def bytes_of(*shape: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng((seed, *shape)).integers(info.min, info.max + 1, shape).astype(dtype)


def scale(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_sums_and_products(op: str, dtype: type) -> None:
    x, y = bytes_of(3, 5, dtype=dtype), bytes_of(3, 5, dtype=dtype, seed=1)
    zeros = [np.array(z, dtype) for z in (3, 100, 7)]
    agrees_with_onnxruntime(
        op,
        [x, scale(0.02), zeros[0], y, scale(0.035), zeros[1], scale(0.05), zeros[2]],
        (1, 2, 4, 5, 6, 7),
        {0: (4, 6), 3: (4, 6)},
        domain=MICROSOFT,
        atol=1,
    )


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu"])
def test_activations(op: str) -> None:
    operands = [bytes_of(4, 7), scale(0.05), np.array(128, np.uint8), scale(0.006), np.array(9, np.uint8)]
    agrees_with_onnxruntime(op, operands, (1, 2, 3, 4), {0: (2, 9)}, domain=MICROSOFT, atol=1)


def test_concatenation_requantises() -> None:
    zeros = [np.array(z, np.uint8) for z in (5, 90, 128)]
    operands = [scale(0.04), zeros[0], bytes_of(2, 3), scale(0.03), zeros[1]]
    operands += [bytes_of(2, 4, seed=1), scale(0.05), zeros[2]]
    agrees_with_onnxruntime("QLinearConcat", operands, (0, 1, 3, 4, 6, 7), domain=MICROSOFT, atol=1, axis=1)


@pytest.mark.parametrize("channels_last", [0, 1])
def test_global_average_pool(channels_last: int) -> None:
    operands = [bytes_of(2, 4, 5, 6), scale(0.02), np.array(11, np.uint8), scale(0.01), np.array(3, np.uint8)]
    agrees_with_onnxruntime(
        "QLinearGlobalAveragePool",
        operands,
        (1, 2, 3, 4),
        domain=MICROSOFT,
        atol=1,
        channels_last=channels_last,
    )


@pytest.mark.parametrize("by_column", [False, True])
def test_products_of_bytes_to_floats(by_column: bool) -> None:
    x, y = bytes_of(3, 8), bytes_of(8, 5, dtype=np.int8)
    y_scale = np.abs(random(5)) + np.float32(0.01) if by_column else scale(0.02)
    y_zero = bytes_of(5, dtype=np.int8, seed=3) if by_column else np.array(-4, np.int8)
    agrees_with_onnxruntime(
        "MatMulIntegerToFloat",
        [x, y, scale(0.03), y_scale, np.array(120, np.uint8), y_zero, random(5)],
        (1, 2, 3, 4, 5, 6),
        {0: (6, 8)},
        domain=MICROSOFT,
    )


def test_a_product_whose_operand_is_quantised_as_it_comes() -> None:
    agrees_with_onnxruntime(
        "DynamicQuantizeMatMul",
        [random(3, 16), bytes_of(16, 5, dtype=np.int8), scale(0.02), np.array(4, np.int8), random(5)],
        (1, 2, 3, 4),
        {0: (6, 16)},
        domain=MICROSOFT,
    )


@pytest.mark.parametrize("shape", [(7,), (5, 3), (130,), (9, 130), (2, 3, 5, 70), (6, 4, 5, 5), (1, 1, 384)])
def test_dynamic_quantisation(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    x.flat[-1], x.flat[x.size // 2] = 7, -5  # the extremes, whatever a split leaves out
    proto = model("DynamicQuantizeLinear", [x], outputs=3)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (codes, step, zero), expected = evaluated(proto, {"x0": x}), session.run(None, {"x0": x})
    np.testing.assert_allclose(step, expected[1], rtol=1e-6)
    assert zero == expected[2]
    np.testing.assert_allclose(codes, expected[0], rtol=0, atol=1)


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 1, 1)])
def test_average_pools(pads: tuple[int, ...]) -> None:
    agrees_with_onnxruntime(
        "QLinearAveragePool",
        [bytes_of(2, 3, 7, 9), scale(0.03), np.array(120, np.uint8), scale(0.02), np.array(90, np.uint8)],
        (1, 2, 3, 4),
        domain=MICROSOFT,
        atol=1,
        kernel_shape=[3, 2],
        strides=[2, 1],
        pads=pads,
    )


@pytest.mark.parametrize(("axis", "opset"), [(-1, 13), (1, 13), (1, 11)])
def test_softmax(axis: int, opset: int) -> None:
    proto = model(
        "QLinearSoftmax",
        [bytes_of(3, 4, 6), scale(0.03), np.array(120, np.uint8), scale(1 / 256), np.array(0, np.uint8)],
        (1, 2, 3, 4),
        domain=MICROSOFT,
        axis=axis,
    )
    proto.graph.node[0].attribute.append(helper.make_attribute("opset", opset))
    given = {"x0": bytes_of(3, 4, 6)}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(evaluated(proto, given)[0], session.run(None, given)[0], rtol=0, atol=1)


def test_a_choice_between_quantised_tensors() -> None:
    parameters = [scale(0.03), np.array(120, np.uint8)], [scale(0.05), np.array(7, np.uint8)]
    operands = [
        random(4, 1) > 0, bytes_of(4, 5), *parameters[0], bytes_of(5, seed=2), *parameters[1], scale(0.04), np.array(60, np.uint8),
    ]  # fmt: skip
    agrees_with_onnxruntime("QLinearWhere", operands, (2, 3, 5, 6, 7, 8), domain=MICROSOFT, atol=1)


@pytest.mark.parametrize("quantised", [False, True])
def test_products_with_a_bias_of_whole_numbers(quantised: bool) -> None:
    operands: list[np.ndarray | None] = [
        bytes_of(8, 3), scale(0.01), np.array(120, np.uint8), bytes_of(5, 8, dtype=np.int8), np.abs(random(5)) / 50,
        np.zeros(5, np.int8), np.arange(5, dtype=np.int32) * 100,
    ]  # fmt: skip
    if quantised:
        operands += [scale(0.5), np.array(100, np.uint8)]
    agrees_with_onnxruntime(
        "QGemm", operands, range(1, len(operands)), {0: (8, 6)}, domain=MICROSOFT, atol=1 if quantised else 1e-4, alpha=0.5,
        transA=1, transB=1,
    )  # fmt: skip
