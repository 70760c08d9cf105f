"""Every kernel that a test lowers is verified where it was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import nnjit.plan
from nnjit.ir_verify import verify


@pytest.fixture(autouse=True, scope="session")
def verified_lowering() -> Iterator[None]:
    lower = nnjit.plan.lower

    def checked(*args: Any, **options: Any) -> Any:
        lowered = lower(*args, **options)
        verify(lowered.kernel)
        return lowered

    nnjit.plan.lower = checked
    yield
    nnjit.plan.lower = lower
