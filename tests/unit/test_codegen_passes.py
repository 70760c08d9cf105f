"""Whichever pass of the code generator is left out, the answers stay right; and each pass changes some code."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from unit.plan_interpreter import Machine, Model
from unit.tensor_programs import convolution
from unit.test_wasm_conformance import WasmMachine
from unit.wasm_engine import RELAXED

from nnjit.codegen_passes import NAMES, Passes
from nnjit.compiler import CompiledPlan, InputSpec, compile_model
from nnjit.onnx.protobuf import BytesSource
from nnjit.onnx.reader import read_model
from nnjit.tensor.interpret import interpret

RNG = np.random.default_rng(5)
X = RNG.standard_normal((1, 6, 11, 13)).astype(np.float32)
A = RNG.standard_normal((21, 33)).astype(np.float32)


@cache
def model() -> bytes:
    """Two convolutions, one depthwise, one with a clipped result, a dense layer with GELU, LayerNorm and softmax, and
    attention of the dense layer's input to itself, and a dense layer with more weights; no size is a multiple of 4."""
    weights = {
        "w": RNG.standard_normal((10, 6, 3, 3)).astype(np.float32),
        "each": RNG.standard_normal((6, 1, 3, 3)).astype(np.float32),
        "b": RNG.standard_normal((33, 27)).astype(np.float32),
        "wide": RNG.standard_normal((33, 501)).astype(np.float32),
        "bias": RNG.standard_normal(27).astype(np.float32),
        "scale": RNG.standard_normal(27).astype(np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
        "root": np.array(2**0.5, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "low", "high"], ["y"]),
        helper.make_node("Conv", ["x", "each"], ["d"], pads=[1, 1, 1, 1], group=6),
        helper.make_node("MatMul", ["a", "b"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["biased"]),
        helper.make_node("Div", ["biased", "root"], ["divided"]),
        helper.make_node("Erf", ["divided"], ["erf"]),
        helper.make_node("Mul", ["erf", "biased"], ["gelu"]),
        helper.make_node("LayerNormalization", ["gelu", "scale", "bias"], ["normal"]),
        helper.make_node("Softmax", ["normal"], ["z"], axis=-1),
        helper.make_node("Transpose", ["a"], ["keys"], perm=[1, 0]),
        helper.make_node("MatMul", ["a", "keys"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "a"], ["mixed"]),
        helper.make_node("MatMul", ["a", "wide"], ["far"]),
        # A chain that no contraction begins and no row ends, and that adds up what it moves.
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("Tanh", ["squares"], ["v"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, t.shape) for n, t in (("x", X), ("a", A))]
    results = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None)
        for n in ("y", "d", "z", "v", "mixed", "far")
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "all", ports, results, stored)
    opset = helper.make_opsetid("", 17)
    data: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return data


def compiled(*without: str) -> CompiledPlan:
    inputs = {"x": InputSpec("f32", X.shape, None), "a": InputSpec("f32", A.shape, None)}
    target = replace(RELAXED, passes=Passes.without(without))
    return compile_model(read_model(BytesSource(model())), inputs, target)


def candidates(plan: CompiledPlan) -> list[list[bytes]]:
    """The modules of all that the tuner would try."""
    scheduler = plan.scheduler
    return [
        scheduler.candidate(scheduler.unit(item, schedule))["blobs"]
        for item in plan.items
        if item.task is not None
        for schedule in scheduler.candidates(item)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_pass_the_code_is_another_and_the_answers_are_right(name: str) -> None:
    plan = compiled(name)
    assert plan.blobs[-1] != compiled().blobs[-1] or candidates(plan) != candidates(compiled())
    machine = WasmMachine(plan, lambda source: model()[source["offset"] :][: source["length"]])
    expected = onnxruntime.InferenceSession(model()).run(None, {"x": X, "a": A})
    for found, wanted in zip(machine.run({"x": X, "a": A}), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["vectors", "register_tiles"])
def test_without_its_tiles_a_convolution_goes_without_winograd_s_method(name: str) -> None:
    m = Model(5)
    out = convolution(m, 64, 16, 3, (10, 12))
    assert any(unit.schedule.winograd for unit in m.compile([out], RELAXED).units)
    plan = m.compile([out], replace(RELAXED, passes=Passes.without([name])))
    np.testing.assert_allclose(
        Machine(plan).run(m.arrays)[0], interpret([out], m.arrays)[0], rtol=1e-4, atol=1e-4
    )


def test_an_unknown_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="no pass magic"):
        Passes.without(["magic"])
