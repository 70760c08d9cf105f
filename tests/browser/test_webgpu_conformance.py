"""Node test cases of the `onnx` package, one for each operator, compiled to WGSL and run on the GPU device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from unit.conformance import DTYPES, cases, prepared
from unit.test_ops_conformance import ACCEPTED

from nnjit.compiler import compile_model
from nnjit.target import Target
from nnjit_build.server import SiteServer

from .gpu_device import Gpu, device_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TARGET = Target(device="webgpu")


def chosen() -> list[str]:
    """One case for each operator, without the double precision that a GPU lacks."""
    found: dict[tuple[str, ...], str] = {}
    for name in ACCEPTED:
        case = cases()[name]
        arrays = [np.asarray(a) for a in (*case.inputs, *case.outputs)]
        if all(a.dtype in DTYPES and a.dtype != np.float64 for a in arrays):
            found.setdefault(case.operators, name)
    return sorted(found.values())


@pytest.fixture(scope="module")
def gpu(browser: Browser, site: SiteServer) -> Iterator[Gpu]:
    with device_page(browser, site) as page:
        yield Gpu(page)


@pytest.mark.parametrize("name", chosen())
def test_a_node_case_gives_the_expected_outputs(gpu: Gpu, name: str) -> None:
    case = cases()[name]
    graph, inputs, specs = prepared(case.model, case.inputs)
    compiled = compile_model(graph, specs, TARGET)
    plan = json.loads(compiled.json)
    environment = {}
    for symbol in plan["symbols"]:
        kind, port, *axis = symbol["from"]
        environment[symbol["name"]] = (
            inputs[port].shape[axis[0]] if kind == "dim" else int(inputs[port].item())
        )
    outputs = gpu.run(gpu.add(plan, compiled.blobs, case.model), environment, **inputs)
    names = [port["name"] for port in plan["outputs"] if "checks" not in port]
    for value, expected in zip((outputs[name] for name in names), case.outputs, strict=True):
        assert value.dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(value, expected, rtol=max(case.rtol, 1e-4), atol=case.atol(expected))
