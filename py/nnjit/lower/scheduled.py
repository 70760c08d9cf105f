"""Which way of lowering a schedule asks for: the one entry for whoever has a spec and a schedule."""

from __future__ import annotations

from ..schedule.schedule import Schedule
from ..target import Target
from .blocked import lower_blocked
from .chain import Chain, lower_chain
from .coded import lower_coded
from .coded_bytes import lower_bytes
from .cooperative import lower_cooperative
from .lower import Lowered, lower
from .spec import KernelSpec
from .sweep import lower_sweep
from .winograd import lower_winograd


def lower_scheduled(spec: KernelSpec, schedule: Schedule, target: Target, name: str) -> Lowered:
    """The kernel `name` that `schedule` makes of `spec`. Raises ValueError where the schedule does not fit the spec."""
    if isinstance(spec, Chain):
        return lower_chain(spec, schedule, target, name)
    if schedule.winograd:
        return lower_winograd(spec, schedule, target, name)
    if schedule.unpack == "bytes":
        return lower_bytes(spec, schedule, target, name)
    if schedule.unpack:
        return lower_coded(spec, schedule, target, name)
    if schedule.block:
        return lower_blocked(spec, schedule, target, name)
    if schedule.sweep:
        return lower_sweep(spec, schedule, target, name)
    if schedule.group > 1:
        return lower_cooperative(spec, schedule, target, name)
    return lower(spec, schedule, target, name)
