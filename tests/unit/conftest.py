"""Every spec, every kernel and every plan of a test is verified where it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import nnjit.units
from nnjit.compiler import CompiledPlan, _Assembly
from nnjit.ir_verify import verify
from nnjit.lower.lower import Lowered
from nnjit.lower.spec import KernelSpec
from nnjit.lower.spec_verify import verify_spec
from nnjit.plan_verify import verify_plan


@pytest.fixture(autouse=True, scope="session")
def verified_stages() -> Iterator[None]:
    lower, assemble = nnjit.units.lower_scheduled, _Assembly.run

    def lowered(spec: KernelSpec, *args: Any) -> Lowered:
        verify_spec(spec)
        made = lower(spec, *args)
        verify(made.kernel)
        return made

    def assembled(assembly: _Assembly) -> CompiledPlan:
        made = assemble(assembly)
        verify_plan(json.loads(made.json), made.blobs)
        return made

    nnjit.units.lower_scheduled, _Assembly.run = lowered, assembled  # type: ignore[method-assign]
    yield
    nnjit.units.lower_scheduled, _Assembly.run = lower, assemble  # type: ignore[method-assign]
