"""Whether a schedule that did not come out of the space may be lowered: one that somebody shared, or an earlier version.

A space only holds schedules that fit their kernel. One from elsewhere is only text: it may name axes that the kernel
does not have, or ask for so much unrolling that lowering or the browser's compiler never ends. What passes here lowers
in bounded time to a kernel of bounded size; whether that kernel is right and fast, only a measurement says.
"""

from __future__ import annotations

from ..ir import LANES, uncast
from ..lower.blocked import roles_of, shared_bytes
from ..lower.chain import Chain
from ..lower.coded import coded, panel_bytes
from ..lower.pairs import paired
from ..lower.spec import KernelSpec, depends
from ..lower.sweep import run_of, scratch_bytes
from ..lower.winograd import winograd_buffers
from ..target import Target
from .schedule import Schedule, parse

MAX_TEXT = 400
"""Characters of a schedule's text."""
MAX_TILE = 64
MAX_POINTS = 128
"""Points of a tile that are computed together, a vector counting as one: each is text in the kernel."""
MAX_UNROLL = 64
MAX_BODY = 1024
"""Points times unrolled iterations."""
MAX_SERIAL = 1 << 24
MAX_GROUP = 1024
MAX_BLOCK_TERMS = 64
"""Terms of the sum that a block brings into workgroup memory at a time."""
MAX_PACKED = 1 << 26
"""Elements of an operand that is laid out anew: 256 MiB of floats."""
MAX_WINOGRAD = 16


def read(text: str) -> Schedule:
    """The schedule that prints as `text`, within the limits that hold for any kernel. Raises ValueError."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"a schedule has at most {MAX_TEXT} characters, not {len(text)}")
    try:
        schedule = parse(text)
    except ValueError as error:
        raise ValueError(f"not a schedule: {text!r}") from error
    if str(schedule) != text:
        raise ValueError(f"{text!r} is not how a schedule is written; it would be {str(schedule)!r}")
    _check_numbers(schedule)
    return schedule


def check(schedule: Schedule, spec: KernelSpec, target: Target) -> None:
    """Raise ValueError, with the reason, unless `schedule` fits the kernel and the device."""
    _check_numbers(schedule)
    if any(spec.hint(extent) == 0 for _, extent in (*spec.outer, *(a for s in spec.stages for a in s.axes))):
        raise ValueError("the kernel has nothing to compute, so there is nothing to choose")
    axes = [axis for axis, _ in spec.outer]
    for axis in (*(a for a, _ in schedule.tiles), *(a for a, _ in schedule.serial), *schedule.order):
        if axis not in axes:
            raise ValueError(f"the kernel has no outer axis {axis}; it has {', '.join(axes) or 'none'}")
    if schedule.order and sorted(schedule.order) != sorted(axes):
        raise ValueError(f"order names {len(schedule.order)} of {len(axes)} outer axes")
    if schedule.vector not in ("", "inner", *axes):
        raise ValueError(f"the kernel has no axis {schedule.vector} for vectors")
    if schedule.pack:
        _check_pack(schedule, spec)
    if schedule.pairs:
        paired(spec, schedule.pack)
    if schedule.group > 1 or schedule.block:
        _check_workgroup(schedule, spec, target)
    if schedule.winograd:
        _check_winograd(schedule, spec, target)
    if schedule.unpack:
        _check_unpack(schedule, spec, target)
    if schedule.sweep:
        _check_sweep(schedule, spec, target)


def _check_numbers(schedule: Schedule) -> None:
    """What holds whatever the kernel is."""
    for what, pairs in (("tile", schedule.tiles), ("serial", schedule.serial)):
        if len({axis for axis, _ in pairs}) != len(pairs):
            raise ValueError(f"{what} names an axis twice")
    if len(set(schedule.order)) != len(schedule.order):
        raise ValueError("order names an axis twice")
    if not all(1 <= tile <= MAX_TILE for _, tile in schedule.tiles):
        raise ValueError(f"a tile has 1 to {MAX_TILE} points along an axis")
    if not all(0 <= chunk <= MAX_SERIAL for _, chunk in schedule.serial):
        raise ValueError(f"serial takes numbers from 0 to {MAX_SERIAL}")
    if len(set(schedule.pack)) != len(schedule.pack) or not set(schedule.pack) <= {0, 1}:
        raise ValueError("pack takes operands 0 and 1, each once")
    points = 1
    for axis, tile in schedule.tiles:
        points *= -(-tile // LANES) if axis == schedule.vector else tile
    if points > MAX_POINTS:
        raise ValueError(f"the tile has {points} points, more than {MAX_POINTS}")
    if not 1 <= schedule.unroll <= MAX_UNROLL or points * schedule.unroll > MAX_BODY:
        raise ValueError(f"unroll takes 1 to {MAX_UNROLL}, and at most {MAX_BODY} points in all")
    if not 1 <= schedule.group <= MAX_GROUP or schedule.group & (schedule.group - 1):
        raise ValueError(f"group takes a power of two up to {MAX_GROUP}")
    if schedule.group > 1 and schedule != Schedule(group=schedule.group):
        raise ValueError("group stands alone")
    if schedule.block:
        _check_block(schedule)
    if not 0 <= schedule.winograd <= MAX_WINOGRAD:
        raise ValueError(f"winograd takes 1 to {MAX_WINOGRAD} rows")
    if schedule.unpack and schedule != Schedule(
        tiles=schedule.tiles, vector=schedule.vector, unroll=schedule.unroll, unpack=schedule.unpack
    ):
        raise ValueError("unpack goes with tile, vector and unroll alone")
    if schedule.sweep and schedule != Schedule(
        tiles=schedule.tiles,
        vector=schedule.vector,
        serial=schedule.serial,
        unroll=schedule.unroll,
        sweep=True,
    ):
        raise ValueError("sweep goes with tile, vector, serial and unroll alone")
    if schedule.winograd and schedule != Schedule(
        tiles=schedule.tiles, vector=schedule.vector, winograd=schedule.winograd
    ):
        raise ValueError("winograd goes with tile and vector alone")


def _check_unpack(schedule: Schedule, spec: KernelSpec, target: Target) -> None:
    found = coded(spec)
    if target.device != "wasm" or found is None:
        raise ValueError("unpack is for sums of products with coded weights, on the CPU")
    columns = schedule.tile(found.column)
    if schedule.vector != found.column or columns % LANES or columns > spec.hint(spec.extent(found.column)):
        raise ValueError("unpack needs vectors, and tiles in fours, along the columns of the weights")
    if schedule.unpack == "bytes" and found.bits >= 8:
        raise ValueError("unpack bytes needs codes of less than 8 bits")
    if schedule.unpack == "panel" and panel_bytes(found, columns) > target.scratch_bytes:
        raise ValueError(f"the weights of {columns} columns do not fit the scratch memory of a thread")


def _check_sweep(schedule: Schedule, spec: KernelSpec, target: Target) -> None:
    if target.device != "wasm":
        raise ValueError("sweep is for the CPU")
    if isinstance(spec, Chain) or len(schedule.tiles) > 1 or len(schedule.serial) > 1:
        raise ValueError("sweep takes tiles of one axis")
    if scratch_bytes(spec, schedule) > target.scratch_bytes:
        raise ValueError(
            f"the sums of {run_of(spec, schedule)} columns do not fit the scratch memory of a thread"
        )


def _check_winograd(schedule: Schedule, spec: KernelSpec, target: Target) -> None:
    if target.device != "wasm":
        raise ValueError("winograd is for the CPU")
    sizes = winograd_buffers(spec, schedule)
    if max(map(spec.hint, sizes)) > MAX_PACKED:
        raise ValueError(f"winograd needs a buffer of more than {MAX_PACKED} elements")


def _check_block(schedule: Schedule) -> None:
    if schedule != Schedule(block=schedule.block):
        raise ValueError("block stands alone")
    if len(schedule.block) != 5 or min(schedule.block) < 1:
        raise ValueError("block takes five positive numbers")
    r, c, m, n, k = schedule.block
    if n % LANES or k % LANES:
        raise ValueError("block takes its last two numbers in fours")
    if r * c == 1:
        raise ValueError("a block needs more than one invocation")
    if r * c > MAX_GROUP or m * n > MAX_POINTS or k > MAX_BLOCK_TERMS:
        raise ValueError(
            f"a block has at most {MAX_GROUP} invocations, {MAX_POINTS} results each, and {MAX_BLOCK_TERMS} terms"
        )


def _check_workgroup(schedule: Schedule, spec: KernelSpec, target: Target) -> None:
    if target.device != "webgpu":
        raise ValueError("group and block are for a GPU")
    if schedule.block:
        if roles_of(spec) is None:
            raise ValueError("block needs a contraction with rows and columns")
        invocations, shared = schedule.block[0] * schedule.block[1], shared_bytes(schedule.block)
    else:
        if not any(s.reduces and s.axes for s in spec.stages):
            raise ValueError("group needs a reduction to share")
        invocations = schedule.group
        shared = invocations * 4 * sum(len(s.reduces) for s in spec.stages)
    if invocations > target.max_workgroup or shared > target.shared_bytes:
        raise ValueError(f"a workgroup of {invocations} with {shared} bytes does not fit this GPU")


def _check_pack(schedule: Schedule, spec: KernelSpec) -> None:
    operands = spec.contraction
    if operands is None or schedule.vector not in (axis for axis, _ in spec.outer):
        raise ValueError("pack needs a contraction with a vector axis among its outer axes")
    for number in schedule.pack:
        at = uncast(operands[number]).attr[1]
        elements = 1
        for axis, extent in (*spec.outer, *spec.stages[0].axes):
            elements *= spec.hint(extent) if depends(at, axis) else 1
        if elements > MAX_PACKED:
            raise ValueError(f"operand {number} packed has {elements} elements, more than {MAX_PACKED}")
