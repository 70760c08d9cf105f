"""The node test cases of the `onnx` package, compiled to Wasm and run: two slices of tasks, the later one first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from unit.conformance import cases, prepared
from unit.ir_interpreter import STORAGE as INTERPRETED
from unit.plan_interpreter import Machine
from unit.test_ops_conformance import ACCEPTED
from unit.wasm_engine import RELAXED, STORAGE, run_kernel

from nnjit import ir
from nnjit.compiler import compile_model
from nnjit.symbolic import evaluate


class WasmMachine(Machine):
    """Runs the kernels of a plan as emitted Wasm."""

    def _call(
        self, kernel: ir.Kernel, names: list[str], symbols: Mapping[str, int], seed: int, inference: bool
    ) -> None:
        # Several steps may fill one buffer: what it holds already must survive.
        buffers = [ir.Buffer(b.name, b.storage, "r" if b.access == "r" else "rw") for b in kernel.buffers]
        filled = ir.Kernel(
            kernel.name, buffers, kernel.symbols, kernel.tasks, kernel.body, shared=kernel.shared
        )
        arrays = {
            b.name: self._array(name, b.access != "r", inference)
            for name, b in zip(names, kernel.buffers, strict=True)
        }
        views = {b.name: arrays[b.name].view(STORAGE[b.storage]) for b in buffers}
        tasks = evaluate(kernel.tasks, symbols)
        slices = [(tasks // 2, tasks), (0, tasks // 2)]
        out = run_kernel(filled, views, dict(symbols), RELAXED, slices)
        for b in buffers:
            if b.access != "r":
                arrays[b.name][...] = out[b.name].view(INTERPRETED[b.storage])


@pytest.mark.slow
@pytest.mark.parametrize("extents", ["constant", "symbolic"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_node_case_compiled_to_wasm_gives_the_expected_outputs(name: str, extents: str) -> None:
    case = cases()[name]
    graph, inputs, specs = prepared(case.model, case.inputs, extents == "symbolic")
    plan = compile_model(graph, specs, RELAXED)
    machine = WasmMachine(plan, lambda source: case.model[source["offset"] :][: source["length"]])
    for value, expected in zip(machine.run(inputs), case.outputs, strict=True):
        wanted = np.asarray(expected)
        assert value.shape == wanted.shape
        np.testing.assert_allclose(
            value.astype(float), wanted.astype(float), rtol=max(case.rtol, 1e-4), atol=case.atol(wanted)
        )
