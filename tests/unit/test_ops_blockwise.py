"""Weights quantised in blocks: MatMulNBits, GatherBlockQuantized, and 4-bit initializers agree with onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from one_operator import agrees_with_onnxruntime, evaluated, random
from onnx import TensorProto, helper, numpy_helper

from nnjit.errors import UnsupportedError

MICROSOFT = "com.microsoft"


def codes(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).integers(0, 256, shape, np.uint8)


def weight(columns: int, depth: int, bits: int, block: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes, scales and the number of blocks of a random weight."""
    blocks = -(-depth // block)
    packed = codes(columns, blocks, block * bits // 8)
    return packed, (0.1 + np.abs(random(columns, blocks))).astype(np.float32), blocks


@pytest.mark.parametrize("zeros", ["default", "packed", "float"])
@pytest.mark.parametrize(
    ("bits", "block", "depth"), [(4, 32, 96), (4, 16, 48), (4, 128, 256), (4, 32, 80), (8, 32, 64)]
)
def test_matmul_nbits(bits: int, block: int, depth: int, zeros: str) -> None:
    if bits == 8 and zeros == "float":
        pytest.skip("onnxruntime takes zero points of 8-bit weights as integers only")
    packed, scales, blocks = weight(12, depth, bits, block)
    points = None
    if zeros == "packed":
        points = codes(12, -(-blocks * bits // 8))
    elif zeros == "float":
        points = np.round(8 + 2 * random(12, blocks)).astype(np.float32)
    agrees_with_onnxruntime(
        "MatMulNBits",
        [random(2, 3, depth), packed, scales.reshape(-1), points],
        (1, 2, 3),
        {0: (2, 7, depth)},
        rtol=1e-3,
        atol=1e-3,
        domain=MICROSOFT,
        K=depth,
        N=12,
        bits=bits,
        block_size=block,
    )


def test_matmul_nbits_with_a_bias() -> None:
    packed, scales, _ = weight(8, 64, 4, 32)
    agrees_with_onnxruntime(
        "MatMulNBits",
        [random(1, 64), packed, scales, None, None, random(8)],
        (1, 2, 5),
        rtol=1e-3,
        atol=1e-3,
        domain=MICROSOFT,
        K=64,
        N=8,
        bits=4,
        block_size=32,
    )


def test_matmul_nbits_with_an_order_of_rows_is_refused() -> None:
    packed, scales, _ = weight(8, 64, 4, 32)
    with pytest.raises(UnsupportedError, match="g_idx"):
        agrees_with_onnxruntime(
            "MatMulNBits",
            [random(1, 64), packed, scales, None, np.zeros(64, np.int32)],
            (1, 2, 4),
            domain=MICROSOFT,
            K=64,
            N=8,
            bits=4,
            block_size=32,
        )


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("with_zeros", [False, True])
def test_gather_block_quantized_of_bytes(bits: int, with_zeros: bool) -> None:
    rows, width, block = 11, 64, 16
    data = codes(rows, width * bits // 8)
    scales = random(rows, width // block)
    zeros = codes(rows, width // block * bits // 8, seed=1) if with_zeros else None
    agrees_with_onnxruntime(
        "GatherBlockQuantized",
        [data, np.array([[0, 10, 3], [-1, 7, 2]], np.int64), scales, zeros],
        (0, 2, 3),
        {1: (4, 5)},
        domain=MICROSOFT,
        bits=bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=1,
    )


def model_of(
    nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto], opset: int = 21, **inputs: np.ndarray
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "narrow",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in inputs.items()
        ],
        [onnx.ValueInfoProto(name="y")],
        stored,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def assert_agrees(proto: onnx.ModelProto, **inputs: np.ndarray) -> None:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString(), settings).run(None, inputs)
    (actual,) = evaluated(proto, inputs)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(actual, expected, 1e-4, 1e-4)


def narrow(name: str, kind: int, shape: tuple[int, ...], seed: int = 0) -> onnx.TensorProto:
    low, high = (-8, 8) if kind == TensorProto.INT4 else (0, 16)
    values = np.random.default_rng((seed, *shape)).integers(low, high, shape)
    return helper.make_tensor(name, kind, shape, values.reshape(-1).tolist())


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("with_zero", [False, True])
def test_four_bit_weights_are_dequantised_in_blocks(kind: int, axis: int, with_zero: bool) -> None:
    shape = (48, 35) if axis == 0 else (7, 48)
    blocks = tuple(d // 16 if a == axis else d for a, d in enumerate(shape))
    x = random(3, shape[0])
    stored = [narrow("w", kind, shape), numpy_helper.from_array(random(*blocks), "s")]
    if with_zero:
        stored.append(narrow("z", kind, blocks, seed=1))
    names = ["w", "s", "z"] if with_zero else ["w", "s"]
    nodes = [
        helper.make_node("DequantizeLinear", names, ["d"], axis=axis, block_size=16),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    assert_agrees(model_of(nodes, stored, x=x), x=x)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_quantising_to_four_bits_saturates_at_their_limits(kind: int) -> None:
    x = 20 * random(5, 32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1, block_size=16),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1, block_size=16),
    ]
    stored = [numpy_helper.from_array(np.abs(random(5, 2)) + 0.5, "s"), narrow("z", kind, (5, 2))]
    assert_agrees(model_of(nodes, stored, x=x), x=x)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_gather_block_quantized_of_four_bit_elements(kind: int) -> None:
    indices = np.array([2, -1, 0, 5], np.int64)
    node = helper.make_node(
        "GatherBlockQuantized",
        ["w", "x", "s", "z"],
        ["y"],
        domain=MICROSOFT,
        block_size=16,
        gather_axis=0,
        quantize_axis=1,
    )
    stored = [
        narrow("w", kind, (6, 48)),
        numpy_helper.from_array(random(6, 3), "s"),
        narrow("z", kind, (6, 3)),
    ]
    assert_agrees(model_of([node], stored, x=indices), x=indices)


def test_an_operator_that_does_not_know_four_bit_elements_refuses_them() -> None:
    node = helper.make_node("Reshape", ["w", "x"], ["y"])
    shape = np.array([8, 6], np.int64)
    with pytest.raises(UnsupportedError, match="u4"):
        evaluated(model_of([node], [narrow("w", TensorProto.UINT4, (6, 8))], x=shape), {"x": shape})
