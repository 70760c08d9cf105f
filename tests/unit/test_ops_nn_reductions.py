"""Pools, normalizations, reductions and softmax agree with onnxruntime, at sizes other than those they were traced for."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, evaluated, model, random, traced

from nnjit.errors import UnsupportedError
from nnjit.tensor.tensor import Tensor

POOLS = [
    ((2, 3, 9), {"kernel_shape": [3]}, (2, 3, 12)),
    ((2, 3, 9, 11), {"kernel_shape": [2, 3], "strides": [2, 3]}, (3, 3, 12, 17)),
    ((1, 3, 9, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, (1, 3, 13, 7)),
    ((1, 3, 9, 12), {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1]}, (1, 3, 13, 7)),
    ((1, 3, 10, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, (1, 3, 12, 13)),
    (
        (1, 3, 8, 8),
        {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        (1, 3, 8, 8),
    ),
    ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2]}, (1, 2, 5, 8, 9)),
    ((1, 3, 9, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, (1, 3, 11, 9)),
    ((1, 3, 9, 11), {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER"}, (1, 3, 11, 9)),
]


@pytest.mark.parametrize(("x", "attributes", "traced_at"), POOLS)
def test_max_pool(x: tuple, attributes: dict, traced_at: tuple) -> None:
    agrees_with_onnxruntime("MaxPool", [random(*x)], (), {0: traced_at}, **attributes)


@pytest.mark.parametrize(("x", "attributes", "traced_at"), POOLS)
def test_max_pool_gives_places(x: tuple, attributes: dict, traced_at: tuple) -> None:
    agrees_with_onnxruntime("MaxPool", [random(*x)], (), {0: traced_at}, outputs=2, **attributes)


def test_max_pool_with_dilations_and_padding() -> None:
    x = random(1, 2, 9, 10) - 5
    agrees_with_onnxruntime(
        "MaxPool", [x], outputs=2, kernel_shape=[3, 2], dilations=[2, 3], pads=[2, 1, 2, 1], strides=[1, 2]
    )


def test_max_pool_of_bytes() -> None:
    x = np.random.default_rng(0).integers(-128, -100, (1, 2, 6, 6)).astype(np.int8)
    agrees_with_onnxruntime("MaxPool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@pytest.mark.parametrize(("x", "attributes", "traced_at"), POOLS)
@pytest.mark.parametrize("count_include_pad", [0, 1])
def test_average_pool(x: tuple, attributes: dict, traced_at: tuple, count_include_pad: int) -> None:
    agrees_with_onnxruntime(
        "AveragePool",
        [random(*x)],
        (),
        {0: traced_at},
        opset=19,
        count_include_pad=count_include_pad,
        **attributes,
    )


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(p: int) -> None:
    agrees_with_onnxruntime(
        "LpPool", [random(1, 2, 7, 8)], p=p, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]
    )


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("x", [(2, 3, 7), (2, 3, 5, 6), (1, 2, 3, 4, 5)])
def test_global_pools(op: str, x: tuple) -> None:
    agrees_with_onnxruntime(op, [random(*x)], (), {0: (3, *(d + 2 for d in x[1:]))} if x[0] > 1 else None)


# -- normalizations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [(2, 4), (2, 4, 5), (1, 4, 5, 6)])
def test_batch_normalization(x: tuple) -> None:
    vectors = [random(4, seed=n) for n in range(3)] + [np.abs(random(4)) + 0.1]
    agrees_with_onnxruntime("BatchNormalization", [random(*x), *vectors], (1, 2, 3, 4), epsilon=1e-3)


def test_batch_normalization_refuses_training_mode() -> None:
    vectors = [random(4) for _ in range(4)]
    proto = model("BatchNormalization", [random(2, 4), *vectors], (1, 2, 3, 4), training_mode=1)
    with pytest.raises(UnsupportedError, match="training mode"):
        traced(proto, {"x0": (2, 4)}, {"x0": np.dtype(np.float32)})


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization(axis: int) -> None:
    shape = (2, 5, 6)[axis:]
    agrees_with_onnxruntime(
        "LayerNormalization",
        [random(2, 5, 6) + 100, random(*shape), random(*shape, seed=1)],
        (1, 2),
        axis=axis,
        outputs=3,
        rtol=1e-3,
        atol=1e-4,
    )


def test_layer_normalization_of_a_large_mean_keeps_its_digits() -> None:
    x = random(1, 64) + 1e4
    proto = model("LayerNormalization", [x, np.ones(64, np.float32)], (1,), epsilon=0.0)
    (y,) = evaluated(proto, {"x0": x})
    exact = x.astype(np.float64)
    exact = (exact - exact.mean()) / exact.std()
    np.testing.assert_allclose(y, exact, atol=2e-3)


def test_instance_normalization() -> None:
    agrees_with_onnxruntime(
        "InstanceNormalization", [random(2, 3, 5, 7), random(3), random(3, seed=1)], (1, 2), {0: (3, 3, 4, 4)}
    )


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalization(groups: int) -> None:
    agrees_with_onnxruntime(
        "GroupNormalization",
        [random(2, 6, 5, 7), random(6), random(6, seed=1)],
        (1, 2),
        {0: (3, 6, 4, 4)},
        opset=21,
        num_groups=groups,
    )


def test_lrn() -> None:
    agrees_with_onnxruntime(
        "LRN", [random(2, 7, 4, 5)], (), {0: (3, 9, 4, 4)}, size=5, alpha=0.2, beta=0.6, bias=1.5
    )


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(p: int) -> None:
    agrees_with_onnxruntime("LpNormalization", [random(3, 4, 5)], axis=1, p=p)


def test_mean_variance_normalization() -> None:
    agrees_with_onnxruntime("MeanVarianceNormalization", [random(2, 3, 5, 4)], axes=[0, 2, 3])


MICROSOFT = {"domain": "com.microsoft", "epsilon": 1e-5}


def test_skip_layer_normalization() -> None:
    operands = [random(2, 5, 8), random(2, 5, 8, seed=1), random(8), random(8, seed=1), random(8, seed=2)]
    agrees_with_onnxruntime(
        "SkipLayerNormalization", operands, (2, 3, 4), outputs=[True, False, False, True], **MICROSOFT
    )


def test_skip_simplified_layer_normalization() -> None:
    operands = [random(2, 5, 8), random(2, 5, 8, seed=1), random(8)]
    agrees_with_onnxruntime("SkipSimplifiedLayerNormalization", operands, (2,), **MICROSOFT)


def test_embed_layer_normalization() -> None:
    ids = np.random.default_rng(0).integers(0, 11, (2, 5)).astype(np.int32)
    segments = (ids % 2).astype(np.int32)
    tables = [random(11, 8), random(9, 8), random(2, 8)]
    operands = [ids, segments, *tables, random(8), random(8, seed=1), np.ones((2, 5), np.int32)]
    agrees_with_onnxruntime("EmbedLayerNormalization", operands, range(2, 7), outputs=2, **MICROSOFT)


# -- reductions -------------------------------------------------------------------------------------------------------

REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSumExp",
]  # fmt: skip


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [[0], [-1], [0, 2], [1, 2, 3], None])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(op: str, axes: list | None, keepdims: int) -> None:
    operands = [random(2, 3, 4, 5), *([] if axes is None else [np.array(axes, np.int64)])]
    agrees_with_onnxruntime(
        op, operands, (1,)[: len(operands) - 1], {0: (3, 5, 2, 2)}, opset=18, keepdims=keepdims
    )


@pytest.mark.parametrize("op", REDUCTIONS[1:])
def test_reductions_with_axes_as_an_attribute(op: str) -> None:
    agrees_with_onnxruntime(op, [random(2, 3, 4)], opset=11, axes=[0, -1], keepdims=0)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd"])
def test_reductions_of_integers(op: str) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (3, 4)).astype(np.int32)
    agrees_with_onnxruntime(op, [x, np.array([1], np.int64)], (1,), opset=18)


def test_reduce_sum_of_nothing_is_zero() -> None:
    agrees_with_onnxruntime(
        "ReduceSum", [np.zeros((3, 0), np.float32), np.array([1], np.int64)], (1,), opset=18
    )


def test_reduce_log_sum_exp_stays_in_range() -> None:
    x = np.array([[1000.0, 999.0], [-1000.0, -1001.0]], np.float32)
    agrees_with_onnxruntime("ReduceLogSumExp", [x, np.array([1], np.int64)], (1,), opset=18)


@pytest.mark.parametrize("op", ["ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"])
def test_reductions_of_a_shape_are_known(op: str) -> None:
    import onnx
    from onnx import helper

    nodes = [helper.make_node("Shape", ["x0"], ["s"]), helper.make_node(op, ["s"], ["y0"], keepdims=0)]
    info = helper.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, ["a", "b", 4])
    graph = helper.make_graph(nodes, "g", [info], [onnx.ValueInfoProto(name="y0")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    (y,), builder, _ = traced(proto, {"x0": (2, 3, 4)}, {"x0": np.dtype(np.float32)})
    assert builder.env.hint(content(y).item()) == {"Prod": 24, "Sum": 9, "Max": 4, "Min": 2}[op[6:]]


def content(x: Tensor) -> np.ndarray:
    assert x.content is not None
    return x.content


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arg_extrema(op: str, last: int, keepdims: int, axis: int) -> None:
    x = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.float32)
    agrees_with_onnxruntime(op, [x], (), {0: (3, 7, 8)}, axis=axis, keepdims=keepdims, select_last_index=last)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax(op: str, axis: int, opset: int) -> None:
    agrees_with_onnxruntime(op, [random(3, 4, 5)], (), {0: (2, 6, 3)}, opset=opset, axis=axis)


def test_softmax_of_large_elements_stays_in_range() -> None:
    agrees_with_onnxruntime("Softmax", [np.array([[1e4, 1e4 - 1, -1e30]], np.float32)])


@pytest.mark.parametrize(
    ("op", "vectors", "attributes"),
    [
        ("LayerNormalization", 2, {}),
        ("ReduceL2", 0, {"axes": [1]}),
        ("ReduceMean", 0, {"axes": [1]}),
        ("LpNormalization", 0, {}),
    ],
)
def test_sums_over_half_precision_do_not_overflow(op: str, vectors: int, attributes: dict) -> None:
    x = (random(2, 512) * 100 + 150).astype(np.float16)
    operands = [x, *(np.ones(512, np.float16) for _ in range(vectors))]
    agrees_with_onnxruntime(op, operands, range(1, 1 + vectors), rtol=1e-2, atol=1e-2, **attributes)
