"""Every spec and every kernel of a test is verified where it was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import nnjit.units
from nnjit.ir_verify import verify
from nnjit.lower.lower import Lowered
from nnjit.lower.spec import KernelSpec
from nnjit.lower.spec_verify import verify_spec


@pytest.fixture(autouse=True, scope="session")
def verified_lowering() -> Iterator[None]:
    lower = nnjit.units.lower_scheduled

    def checked(spec: KernelSpec, *args: Any) -> Lowered:
        verify_spec(spec)
        lowered = lower(spec, *args)
        verify(lowered.kernel)
        return lowered

    nnjit.units.lower_scheduled = checked
    yield
    nnjit.units.lower_scheduled = lower
