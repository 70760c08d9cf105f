"""A small model to try, on the page and in the notebook: a classifier of three dense layers, made with `onnx` when it is asked for."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FILE_NAME = "classifier.onnx"
NOTE = "three dense layers with random weights"
WIDTHS = (256, 512, 512, 10)


@cache
def build() -> bytes:
    """The model's bytes: features float32 [batch, 256] -> probabilities float32 [batch, 10]."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "features"
    for layer, (inner, outer) in enumerate(zip(WIDTHS, WIDTHS[1:]), start=1):
        scale = np.sqrt(2 / inner)  # He initialisation keeps the variance through ReLU
        matrix = rng.normal(0, scale, (inner, outer)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"dense{layer}.weight"))
        weights.append(numpy_helper.from_array(np.zeros(outer, np.float32), f"dense{layer}.bias"))
        inputs = [value, f"dense{layer}.weight", f"dense{layer}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [f"dense{layer}"], name=f"dense{layer}"))
        value = f"dense{layer}"
        if outer != WIDTHS[-1]:
            nodes.append(helper.make_node("Relu", [value], [f"relu{layer}"], name=f"relu{layer}"))
            value = f"relu{layer}"
    nodes.append(helper.make_node("Softmax", [value], ["probabilities"], name="softmax", axis=-1))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WIDTHS[0]])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", WIDTHS[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
