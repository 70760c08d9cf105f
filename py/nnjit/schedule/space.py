"""The lite space: the schedules worth measuring for a KernelSpec on a Target, the most promising first.

The first one is the default: what runs until something better has been measured. A family's constraints come from the
web and the device: register tiles must fill, and not much exceed, the vector registers that the browser leaves; tiles
must waste little of the actual extents; what the tile reads should be contiguous (or gets packed).
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

from .. import ir
from ..ir import LANES
from ..lower.chain import KEY, LEAST_BLOCK, Chain
from ..lower.coded import coded
from ..lower.spec import KernelSpec
from ..lower.tiling import fits_vectors
from ..target import Target
from .coded import coded_schedules
from .gpu import gpu_contraction, gpu_rows
from .maps import elementwise, is_rows
from .products import MAX_ACCUMULATORS, contraction, tile_cost
from .roles import Roles
from .schedule import MAX_CANDIDATES, Schedule

MAX_CHAINS = 16
ENOUGH_ACCUMULATORS = 8
"""Two multiply-adds a cycle, four cycles until their results can be added to."""
LEAST_TILE_ROWS = 4
"""With so many rows there is a tile with enough accumulators in each width."""


def space(spec: KernelSpec, target: Target, constant: Collection[str] = ()) -> list[Schedule]:
    """Distinct schedules, best guess first, never empty, at most MAX_CANDIDATES. `constant` names buffers that never change,
    as weights do not: laying them out anew costs nothing at an inference."""
    if any(d == 0 for _, d in (*spec.outer, *(axis for s in spec.stages for axis in s.axes))):
        found = []  # There is nothing to choose where there is nothing to compute.
    elif isinstance(spec, Chain):
        found = _chain(spec, target)
    # Rows that a kernel reads again after writing them are not cut into tiles.
    elif spec.contraction is not None and not any(b.access == "rw" for b in spec.buffers):
        found = _contraction(spec, target, constant)
        if not fits_vectors(spec):
            found = [s for s in found if not s.pack] or elementwise(spec, target.threads)
    elif target.device == "webgpu":
        found = gpu_rows(spec, target)
    elif (weights := coded(spec)) is not None:
        found = coded_schedules(spec, weights, target)
    elif is_rows(spec):
        found = [Schedule(vector="inner", unroll=u) for u in (4, 2, 1)]
        found.append(Schedule())
    else:
        found = elementwise(spec, target.threads)
    found = [s.restricted(target.passes) for s in found]
    return list(dict.fromkeys(found))[:MAX_CANDIDATES] or [Schedule()]


def _contraction(spec: KernelSpec, target: Target, constant: Collection[str]) -> list[Schedule]:
    """Tiles of scalars where there are no vectors of the dtype, as on a GPU."""
    if target.device == "webgpu" or spec.stages[0].reduces[0].value.dtype not in ("f32", "i32"):
        return gpu_contraction(spec, target, Roles(spec))
    return contraction(spec, target, constant) or elementwise(spec, target.threads)


def _chain(spec: Chain, target: Target) -> list[Schedule]:
    """Tiles that both contractions use, and blocks of rows that waste little and whose scratch memory fits: the better
    half by cost, then the best block of each tile shape that is not among it, as in `products`.

    All blocks of a kernel have one size, and the last is moved back: 128 rows in blocks of 24 would be 144.
    """
    whole = spec.hint(spec.extent(spec.row))
    widths = [spec.hint(spec.extent(axis)) for axis in (KEY, spec.column)]
    heads = 1
    for _, d in spec.batch:
        heads *= spec.hint(d)
    capacity = target.scratch_bytes // ir.STORAGE_BYTES["f32"]
    stride = spec.hint(spec.stride)
    if not isinstance(spec.stride, int) and 2 * stride * LEAST_BLOCK <= capacity:
        stride *= 2  # so that a longer sequence needs no other plan
    ranked: list[tuple[float, int, int, int]] = []
    columns = [n for n in (8, 16, 32) if n <= min(widths)] or [LANES]
    for m, n in product((6, 4, 2, 5, 8, 3), columns):
        accumulators = m * n // LANES
        if m > whole or accumulators > MAX_ACCUMULATORS:
            continue
        if accumulators < ENOUGH_ACCUMULATORS and n > LANES and whole >= LEAST_TILE_ROWS:
            continue
        cost = tile_cost(m, n, target, target.relaxed_simd)
        cost *= sum(-(-width // n) * n / width for width in widths) / 2
        count = -(-whole // m)
        for each in range(1, min(count, max(1, capacity // (m * stride)), 96 // m) + 1):
            blocks = -(-count // each)
            waste = blocks * each * m / whole
            idle = heads * blocks < 2 * target.threads
            ranked.append((cost * waste * (1 + 0.6 / (each * m)) * (1.5 if idle else 1), m, n, each))
    ranked.sort()
    chosen = ranked[: MAX_CHAINS // 2]
    for one in ranked[len(chosen) :]:
        if all(one[1:3] != other[1:3] for other in chosen):
            chosen.append(one)
    chosen += [one for one in ranked if one not in chosen]
    return [
        Schedule(
            tiles=((spec.row, m), (KEY, n)),
            vector=KEY,
            serial=((spec.row, each),),
            unroll=2,
        )
        for _, m, n, each in chosen[:MAX_CHAINS]
    ]
