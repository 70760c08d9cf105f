"""Attention and rotary embeddings agree with onnxruntime, at lengths other than those they were traced for."""

from __future__ import annotations

import numpy as np
import pytest
from one_operator import agrees_with_onnxruntime, random

MICROSOFT = "com.microsoft"


def lengths(n: int, past: int, total: int) -> np.ndarray:
    mask = np.ones((n, total), np.int32)
    mask[0, past + 1 :] = 0
    return mask


@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("with_bias", [False, True])
def test_multi_head_attention(unidirectional: int, with_bias: bool) -> None:
    q, k, v = (random(2, 5, 12, seed=n) for n in range(3))
    bias = random(36) if with_bias else None
    agrees_with_onnxruntime(
        "MultiHeadAttention",
        [q, k, v, bias],
        (3,) if with_bias else (),
        {n: (3, 7, 12) for n in range(3)},
        domain=MICROSOFT,
        num_heads=3,
        unidirectional=unidirectional,
    )


def test_multi_head_attention_hides_padding() -> None:
    q, k, v = random(2, 4, 12), random(2, 6, 12, seed=1), random(2, 6, 12, seed=2)
    agrees_with_onnxruntime(
        "MultiHeadAttention", [q, k, v, None, lengths(2, 2, 6)], domain=MICROSOFT, num_heads=3
    )


def test_multi_head_attention_with_a_past_and_a_bias_of_scores() -> None:
    q, k, v = (random(2, 4, 12, seed=n) for n in range(3))
    past = [random(2, 3, 5, 4, seed=n) for n in range(2)]
    agrees_with_onnxruntime(
        "MultiHeadAttention",
        [q, k, v, None, None, random(2, 3, 4, 9), *past],
        outputs=3,
        domain=MICROSOFT,
        num_heads=3,
    )


@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("mask", [None, (2,), (2, 5)])
def test_attention_of_com_microsoft(unidirectional: int, mask: tuple | None) -> None:
    given = None if mask is None else lengths(2, 2, 5) if len(mask) == 2 else np.array([3, 5], np.int32)
    agrees_with_onnxruntime(
        "Attention",
        [random(2, 5, 8), random(8, 36), random(36), given],
        (1, 2),
        {0: (2, 7, 8)} if mask is None else None,
        domain=MICROSOFT,
        num_heads=3,
        unidirectional=unidirectional,
    )


def test_attention_of_com_microsoft_with_a_past() -> None:
    agrees_with_onnxruntime(
        "Attention",
        [random(2, 3, 8), random(8, 36), random(36), None, random(2, 2, 3, 5, 4)],
        (1, 2),
        outputs=2,
        domain=MICROSOFT,
        num_heads=3,
        unidirectional=1,
    )


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_attention_of_bytes(past: bool, by_column: bool) -> None:
    rng = np.random.default_rng(3)
    scale = np.abs(random(36)) / 50 if by_column else np.array(0.02, np.float32)
    operands = [
        rng.integers(0, 256, (2, 5, 8)).astype(np.uint8), rng.integers(-128, 128, (8, 36)).astype(np.int8), random(36),
        np.array(0.01, np.float32), scale.astype(np.float32), None if past else lengths(2, 2, 5), np.array(120, np.uint8),
        np.zeros(scale.shape, np.int8), random(2, 2, 3, 6, 4) if past else None,
    ]  # fmt: skip
    constants = (1, 2, 3, 4, 6, 7)
    agrees_with_onnxruntime(
        "QAttention",
        operands[: 9 if past else 8],
        constants,
        outputs=2 if past else 1,
        domain=MICROSOFT,
        num_heads=3,
    )


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [(1,), (2, 5)])
def test_rotary_embedding_of_com_microsoft(interleaved: int, positions: tuple) -> None:
    places = np.arange(np.prod(positions)).reshape(positions).astype(np.int64)
    caches = [np.cos(random(16, 4)), np.sin(random(16, 4))]
    agrees_with_onnxruntime(
        "RotaryEmbedding",
        [random(2, 5, 24), places, *caches],
        (2, 3),
        domain=MICROSOFT,
        interleaved=interleaved,
    )


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_fused_matmul(trans_a: int, trans_b: int) -> None:
    a, b = random(2, 4, 5), random(2, 5, 3)
    agrees_with_onnxruntime(
        "FusedMatMul",
        [a.swapaxes(1, 2).copy() if trans_a else a, b.swapaxes(1, 2).copy() if trans_b else b],
        domain=MICROSOFT,
        transA=trans_a,
        transB=trans_b,
        alpha=0.25,
    )


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_attention_of_onnx(causal: int, kv_heads: int) -> None:
    agrees_with_onnxruntime(
        "Attention",
        [random(2, 5, 24), random(2, 5, 6 * kv_heads), random(2, 5, 8 * kv_heads)],
        (),
        {0: (2, 7, 24), 1: (2, 7, 6 * kv_heads), 2: (2, 7, 8 * kv_heads)},
        opset=23,
        q_num_heads=4,
        kv_num_heads=kv_heads,
        is_causal=causal,
    )
