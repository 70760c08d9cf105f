"""GroupQueryAttention agrees with onnxruntime: prompts, growing and fixed caches, rotation, windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from one_operator import evaluated, random
from onnx import helper, numpy_helper

from nnjit.errors import UnsupportedError

MICROSOFT = "com.microsoft"
HEADS, GROUPS, WIDTH = 4, 2, 16
LIMIT = 32
"""Rows of the caches of angles."""


def decoder_step(inputs: Mapping[str, np.ndarray], **attributes: object) -> onnx.ModelProto:
    """The operator with the lengths made from an attention mask, as exporters write it; all extents are symbols."""
    names = ("query", "key", "value", "past_key", "past_value")
    given = [name if name in inputs else "" for name in names]
    rotary = ["cos", "sin"] if attributes.get("do_rotary") else ["", ""]
    more = ["positions" if "positions" in inputs else "", "bias" if "bias" in inputs else ""]
    nodes = [
        helper.make_node("ReduceSum", ["mask", "axis"], ["used"], keepdims=0),
        helper.make_node("Sub", ["used", "one"], ["last"]),
        helper.make_node("Cast", ["last"], ["lengths"], to=onnx.TensorProto.INT32),
        helper.make_node("Shape", ["mask"], ["extents"]),
        helper.make_node("Gather", ["extents", "second"], ["extent"]),
        helper.make_node("Cast", ["extent"], ["total"], to=onnx.TensorProto.INT32),
        helper.make_node(
            "GroupQueryAttention",
            [*given, "lengths", "total", *rotary, *more],
            ["y", "present_key", "present_value"],
            domain=MICROSOFT,
            num_heads=HEADS,
            kv_num_heads=GROUPS,
            **attributes,
        ),
    ]
    constants: dict[str, np.ndarray] = {
        "axis": np.array([1], np.int64),
        "one": np.array(1, np.int64),
        "second": np.array(1, np.int64),
    }
    if attributes.get("do_rotary"):
        angles = np.arange(LIMIT)[:, None] / 10 ** (np.arange(WIDTH // 2) / 4)
        constants |= {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    graph = helper.make_graph(
        nodes,
        "step",
        [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(a.dtype),
                [
                    # Widths are those of the model; the others are symbols.
                    d if n == a.ndim - 1 and name != "mask" else f"{name}_{n}"
                    for n, d in enumerate(a.shape)
                ],
            )
            for name, a in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in ("y", "present_key", "present_value")],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def step(
    batch: int, new: int, past: int, capacity: int | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Inputs of a step that adds `new` positions to `past` ones, in a cache of `capacity` (default: that are in use)."""
    kept = past if capacity is None else capacity
    return {
        "query": random(batch, new, HEADS * WIDTH, seed=seed),
        "key": random(batch, new, GROUPS * WIDTH, seed=seed + 1),
        "value": random(batch, new, GROUPS * WIDTH, seed=seed + 2),
        "past_key": random(batch, GROUPS, kept, WIDTH, seed=seed + 3),
        "past_value": random(batch, GROUPS, kept, WIDTH, seed=seed + 4),
        "mask": np.ones((batch, past + new), np.int64),
    }


def assert_agrees(
    inputs: dict[str, np.ndarray],
    traced_at: dict[str, np.ndarray] | None = None,
    used: Sequence[int] | None = None,
    **attributes: object,
) -> None:
    """`used`: positions of each batch that are compared; default: all."""
    proto = decoder_step(inputs, **attributes)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    expected = onnxruntime.InferenceSession(proto.SerializeToString(), settings).run(None, inputs)
    shapes = None if traced_at is None else {name: a.shape for name, a in traced_at.items()}
    actual = evaluated(proto, inputs, shapes)
    for n, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        for row, (one, other) in enumerate(zip(a, e, strict=True)):
            limit = None if used is None else used[row]
            parts = (one[:limit], other[:limit]) if n == 0 else (one[:, :limit], other[:, :limit])
            np.testing.assert_allclose(*parts, 1e-4, 1e-5)


@pytest.mark.parametrize("do_rotary", [0, 1])
def test_a_prompt_without_a_past(do_rotary: int) -> None:
    assert_agrees(step(1, 6, 0), step(1, 9, 0), do_rotary=do_rotary)


@pytest.mark.parametrize("do_rotary", [0, 1])
def test_a_token_after_a_past_of_any_length(do_rotary: int) -> None:
    assert_agrees(step(1, 1, 7), step(1, 1, 12), do_rotary=do_rotary)


def test_several_tokens_after_a_past() -> None:
    assert_agrees(step(1, 3, 7), step(1, 4, 12), do_rotary=1)


def test_a_token_of_each_of_several_sequences() -> None:
    assert_agrees(step(3, 1, 5), step(2, 1, 8), do_rotary=1)


def test_prompts_of_several_lengths() -> None:
    inputs = step(2, 6, 0)
    inputs["mask"][1, 4:] = 0
    assert_agrees(inputs, used=[6, 4], do_rotary=1)


def test_a_cache_of_fixed_capacity() -> None:
    assert_agrees(step(1, 1, 7, capacity=16), step(1, 1, 5, capacity=16), used=[8], do_rotary=1)


@pytest.mark.parametrize("new", [1, 6])
def test_a_local_window(new: int) -> None:
    assert_agrees(step(1, new, 9 if new == 1 else 0), local_window_size=4)


def test_rotation_of_neighbours_scale_and_softcap() -> None:
    assert_agrees(step(1, 1, 7), do_rotary=1, rotary_interleaved=1, scale=0.5, softcap=1.5)


def test_a_bias_of_the_scores() -> None:
    assert_agrees(step(1, 1, 7) | {"bias": random(1, HEADS, 1, 8)})


def test_queries_keys_and_values_in_one_operand() -> None:
    inputs = step(1, 1, 7)
    packed = np.concatenate([inputs.pop("query"), inputs.pop("key"), inputs.pop("value")], 2)
    assert_agrees({"query": packed, **inputs}, do_rotary=1)


def test_a_softmax_with_a_sink_is_refused() -> None:
    inputs = step(1, 1, 7)
    with pytest.raises(UnsupportedError, match="sink"):
        evaluated(decoder_step(inputs, smooth_softmax=1), inputs)
