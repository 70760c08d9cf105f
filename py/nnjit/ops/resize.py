"""Resize and Upsample: each resized axis has a table of the input elements, and their weights, for each output element.

The tables are tensors like any others: made once where the extents are constants, at each inference where they are symbols.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, floordiv
from ..tensor.tensor import Tensor
from .elementwise import like
from .registry import Context, operator
from .window import follow_order

Index = int | IntExpr


class _Axis:
    """One resized axis: from `source` to `target` elements.

    scale   target / source as the node gives it, or None when `target` was given and the ratio is that of the extents
    roi     (start, end) in [0, 1] for the mode tf_crop_and_resize
    """

    __slots__ = ("axis", "source", "target", "scale", "roi")

    def __init__(
        self, axis: int, source: Index, target: Index, scale: float | None, roi: tuple[float, float]
    ) -> None:
        self.axis = axis
        self.source = source
        self.target = target
        self.scale = scale
        self.roi = roi

    def factor(self) -> int:
        """How many output elements each input element becomes, where that is an integer constant, else 0."""
        if self.scale is not None:
            return int(self.scale) if self.scale == int(self.scale) else 0
        ratio = floordiv(self.target, self.source)
        return ratio if isinstance(ratio, int) and ratio * self.source == self.target else 0


class _Resize:
    """What the axes of one node share."""

    def __init__(
        self, ctx: Context, mode: str, transform: str, nearest_mode: str, extrapolation: float = 0.0
    ) -> None:
        self.ctx, self.b = ctx, ctx.b
        self.mode, self.transform, self.nearest_mode = mode, transform, nearest_mode
        self.extrapolation = extrapolation
        self.antialias = ctx.attr_int("antialias", 0) == 1 and mode != "nearest"
        self.exclude_outside = ctx.attr_int("exclude_outside", 0) == 1 and mode != "nearest"
        self.crops = transform == "tf_crop_and_resize"
        if mode not in ("nearest", "linear", "cubic"):
            raise ctx.malformed(f"the mode '{mode}' is unknown")

    def apply(self, x: Tensor, axes: Sequence[_Axis]) -> Tensor:
        """x with `axes` resized."""
        axes = [a for a in axes if self.crops or a.scale not in (1.0, None) or a.source != a.target]
        if not axes:
            return x
        if self.mode == "nearest":
            return self._nearest(x, axes)
        dtype = x.dtype
        for n, a in enumerate(axes, 1):
            last = n == len(axes)
            x = self._weighted(x, a, dtype if last or dtype == "f64" else "f32")
        return x

    # -- coordinates --------------------------------------------------------------------------------------------

    def position(self, a: _Axis, i: Index) -> ir.Expr:
        """The coordinate in the input, f32, of element i of the output. Formulas: the ONNX operator Resize."""
        at = as_float(i)
        if self.transform == "asymmetric":
            return self._unscaled(a, at)
        if self.transform in ("align_corners", "tf_crop_and_resize"):
            return self._between_corners(a, at)
        half = like(at, 0.5)
        centred = ir.sub(self._unscaled(a, ir.add(at, half)), half)
        if self.transform == "half_pixel":
            return centred
        if self.transform == "pytorch_half_pixel":
            return like(at, 0.0) if self.ctx.env.eq(a.target, 1) else centred
        if self.transform == "half_pixel_symmetric":
            if a.scale is None:
                return centred
            # adjustment = target / (scale · source); the offset is source / 2 · (1 − adjustment)
            centre = ir.mul(as_float(a.source), half)
            offset = ir.sub(centre, ir.div(ir.mul(as_float(a.target), half), like(at, a.scale)))
            return ir.add(offset, centred)
        raise self.ctx.malformed(f"the coordinate_transformation_mode '{self.transform}' is unknown")

    def _unscaled(self, a: _Axis, v: ir.Expr) -> ir.Expr:
        if a.scale is not None:
            return ir.div(v, like(v, a.scale))
        return ir.div(ir.mul(v, as_float(a.source)), as_float(a.target))

    def _between_corners(self, a: _Axis, at: ir.Expr) -> ir.Expr:
        start, end = a.roi if self.crops else (0.0, 1.0)
        last = ir.mul(as_float(a.source - 1), like(at, end - start))
        if a.scale is None:
            single = self.ctx.env.eq(a.target, 1)
            steps = as_float(a.target - 1)
        else:
            length = a.scale * self.ctx.env.fix(a.source)
            single = length == 1
            steps = like(at, length - 1)
        if single:
            inner = ir.mul(last, like(at, 0.5)) if self.crops else like(at, 0.0)
        else:
            inner = ir.div(ir.mul(at, last), steps)
        return ir.add(inner, ir.mul(like(at, start), as_float(a.source - 1))) if start else inner

    def _outside(self, a: _Axis, i: Index) -> ir.Expr:
        """Whether the coordinate lies outside of the input, where the extrapolation value stands."""
        at = self.position(a, i)
        before = ir.binary("lt", at, like(at, 0.0))
        return ir.binary("or", before, ir.binary("gt", at, as_float(a.source - 1)))

    # -- nearest ------------------------------------------------------------------------------------------------

    def _nearest(self, x: Tensor, axes: Sequence[_Axis]) -> Tensor:
        maps: dict[int, Callable[[Index], Index]] = {a.axis: self._nearest_index(a) for a in axes}
        shape = list(x.shape)
        for a in axes:
            shape[a.axis] = a.target

        def element(*at: Index) -> ir.Expr:
            value = x.at(*(maps[n](c) if n in maps else c for n, c in enumerate(at)))
            if self.crops:
                for a in axes:
                    value = ir.select(self._outside(a, at[a.axis]), like(value, self.extrapolation), value)
            return value

        y = self.b.compute(shape, x.dtype, element, "resize")
        return follow_order(y, x)

    def _nearest_index(self, a: _Axis) -> Callable[[Index], Index]:
        factor = a.factor()
        floors = self.transform == "asymmetric" and self.nearest_mode == "floor"
        rounds = self.transform == "half_pixel" and self.nearest_mode.startswith("round")
        if factor and (floors or rounds):
            return lambda i: floordiv(i, factor)
        table = self.b.compute((a.target,), "i32", lambda i: self._rounded(a, i), "resize_index")
        return lambda i: ir.value_index(table.at(i))

    def _rounded(self, a: _Axis, i: Index) -> ir.Expr:
        v = self.position(a, i)
        mode = self.nearest_mode
        if mode == "simple":  # opset 10
            mode = "floor" if a.scale is not None and a.scale >= 1 else "ceil"
        half = like(v, 0.5)
        if mode == "round_prefer_floor":
            whole = ir.unary("ceil", ir.sub(v, half))
        elif mode == "round_prefer_ceil":
            whole = ir.unary("floor", ir.add(v, half))
        elif mode in ("floor", "ceil"):
            whole = ir.unary(mode, v)
        else:
            raise self.ctx.malformed(f"the nearest_mode '{mode}' is unknown")
        return clamped(ir.cast(whole, "i32"), a.source)

    # -- linear and cubic ---------------------------------------------------------------------------------------

    def _weighted(self, x: Tensor, a: _Axis, dtype: str) -> Tensor:
        """x with one axis resized, each element a weighted sum of neighbours."""
        squeeze = min(self._ratio(a), 1.0) if self.antialias else 1.0
        radius = 1 if self.mode == "linear" else 2
        first = math.floor(-radius / squeeze) + 1
        taps = 2 - 2 * first
        low = self.b.compute(
            (a.target,),
            "i32",
            lambda i: ir.cast(ir.unary("floor", self.position(a, i)), "i32"),
            "resize_index",
        )
        weights = self._weights(a, low, first, taps, squeeze)
        total: Tensor | None = None
        if self.antialias or self.exclude_outside:
            total = self.b.reduce("sum", (a.target,), (taps,), weights.at, "f32", "resize_total")
        shape = [a.target if n == a.axis else d for n, d in enumerate(x.shape)]
        cd = "f64" if x.dtype == "f64" else "f32"

        def tap(at: Sequence[Index], t: Index) -> ir.Expr:
            i = at[a.axis]
            place = ir.value_index(clamped(ir.add(low.at(i), ir.index(t + first)), a.source))
            value = ir.cast(x.at(*at[: a.axis], place, *at[a.axis + 1 :]), cd)
            return ir.mul(value, ir.cast(weights.at(i, t), cd))

        def finish(value: ir.Expr, i: Index) -> ir.Expr:
            if total is not None:
                value = ir.div(value, ir.cast(total.at(i), cd))
            if self.crops:
                value = ir.select(self._outside(a, i), like(value, self.extrapolation), value)
            return ir.cast(value, ir.COMPUTE_OF[dtype])

        if taps > 4:
            several = self.b.reduce("sum", shape, (taps,), lambda *at: tap(at[:-1], at[-1]), cd, "resize")
            follow_order(several, x)
            y = self.b.compute(shape, dtype, lambda *at: finish(several.at(*at), at[a.axis]), "resize")
        else:

            def element(*at: Index) -> ir.Expr:
                value = tap(at, 0)
                for t in range(1, taps):
                    value = ir.add(value, tap(at, t))
                return finish(value, at[a.axis])

            y = self.b.compute(shape, dtype, element, "resize")
        return follow_order(y, x)

    def _weights(self, a: _Axis, low: Tensor, first: int, taps: int, squeeze: float) -> Tensor:
        """f32 [target, taps]: weights of the input's elements from low + first on.

        squeeze   where neighbours count as so many times as far away as they are: an antialiased axis that gets shorter
        """
        cubic = self.ctx.attr_float("cubic_coeff_a", -0.75)

        def weight(i: Index, t: Index) -> ir.Expr:
            place = ir.add(low.at(i), ir.index(t + first))
            distance = ir.mul(ir.sub(ir.cast(place, "f32"), self.position(a, i)), ir.const(squeeze, "f32"))
            value = interpolation_weight(self.mode, ir.unary("abs", distance), cubic)
            if not self.exclude_outside:
                return value
            inside = ir.binary(
                "and",
                ir.binary("ge", place, ir.const(0, "i32")),
                ir.binary("lt", place, ir.index(a.source)),
            )
            return ir.select(inside, value, ir.const(0.0, "f32"))

        return self.b.compute((a.target, taps), "f32", weight, "resize_weights")

    def _ratio(self, a: _Axis) -> float:
        if a.scale is not None:
            return a.scale
        return self.ctx.env.fix(a.target) / self.ctx.env.fix(a.source)


def interpolation_weight(mode: str, distance: ir.Expr, a: float = -0.75) -> ir.Expr:
    """The weight of an element at a distance ≥ 0: a tent ("linear"), or Keys' cubic convolution kernel ("cubic").

    https://doi.org/10.1109/TASSP.1981.1163711
    """
    one, zero = like(distance, 1.0), like(distance, 0.0)
    if mode == "linear":
        return ir.binary("max", ir.sub(one, distance), zero)

    def polynomial(*coefficients: float) -> ir.Expr:
        value = like(distance, coefficients[0])
        for c in coefficients[1:]:
            value = ir.add(ir.mul(value, distance), like(distance, c))
        return value

    near = polynomial(a + 2, -(a + 3), 0, 1)
    far = polynomial(a, -5 * a, 8 * a, -4 * a)
    beyond = ir.select(ir.binary("lt", distance, like(distance, 2.0)), far, zero)
    return ir.select(ir.binary("le", distance, one), near, beyond)


def as_float(e: Index) -> ir.Expr:
    """An index as f32."""
    return ir.cast(ir.index(e), "f32")


def clamped(v: ir.Expr, extent: Index) -> ir.Expr:
    """A coordinate, i32 or f32, brought into 0 … extent − 1."""
    last = ir.index(extent - 1) if v.dtype == "i32" else as_float(extent - 1)
    return ir.binary("max", ir.binary("min", v, last), like(v, 0))


# -- the operators ----------------------------------------------------------------------------------------------------


def _scaled(ctx: Context, extent: Index, scale: float) -> Index:
    """⌊extent · scale⌋; symbolic where the scale is a fraction of small integers."""
    if isinstance(extent, int):
        return int(math.floor(float(np.float32(extent) * np.float32(scale))))
    fraction = Fraction(scale).limit_denominator(64)
    if np.float32(float(fraction)) == np.float32(scale):
        return floordiv(extent * fraction.numerator, fraction.denominator, ctx.env.bounds)
    return int(math.floor(float(np.float32(ctx.env.fix(extent)) * np.float32(scale))))


def _floats(ctx: Context, x: Tensor, what: str) -> list[float]:
    values = ctx.content(x, what).reshape(-1)
    return [float(ctx.env.fix(v)) if isinstance(v, IntExpr) else float(v) for v in values]


def _given(x: Tensor | None) -> bool:
    """Whether an optional input is there; an empty tensor stands for none."""
    return x is not None and not (x.rank == 1 and x.shape[0] == 0)


def _by_scales(
    ctx: Context, x: Tensor, axes: Sequence[int], scales: Sequence[float], roi: Sequence[float]
) -> list[_Axis]:
    if len(scales) != len(axes):
        raise ctx.malformed(f"{len(axes)} scales are needed, not {len(scales)}")
    if any(not s > 0 for s in scales):
        raise ctx.malformed(f"scales must be positive: {list(scales)}")
    return [
        _Axis(a, x.shape[a], _scaled(ctx, x.shape[a], s), s, (roi[n], roi[len(axes) + n]))
        for n, (a, s) in enumerate(zip(axes, scales, strict=True))
    ]


def _by_sizes(
    ctx: Context, x: Tensor, axes: Sequence[int], sizes: Sequence[Index], roi: Sequence[float]
) -> list[_Axis]:
    if len(sizes) != len(axes):
        raise ctx.malformed(f"{len(axes)} sizes are needed, not {len(sizes)}")
    regions = [(roi[n], roi[len(axes) + n]) for n in range(len(axes))]
    policy = ctx.attr_str("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [
            _Axis(a, x.shape[a], size, None, region)
            for a, size, region in zip(axes, sizes, regions, strict=True)
        ]
    extents = [ctx.env.fix(x.shape[a]) for a in axes]
    ratios = [ctx.env.fix(size) / d for size, d in zip(sizes, extents, strict=True)]
    if policy not in ("not_larger", "not_smaller"):
        raise ctx.malformed(f"the keep_aspect_ratio_policy '{policy}' is unknown")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [
        _Axis(a, d, math.floor(scale * d + 0.5), scale, region)
        for a, d, region in zip(axes, extents, regions, strict=True)
    ]


@operator("Resize", since=11)
def resize(
    ctx: Context,
    node: Node,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    given = ctx.attr_ints("axes")
    axes = list(range(x.rank)) if given is None else ctx.axes(given, x.rank)
    transform = ctx.attr_str("coordinate_transformation_mode", "half_pixel")
    regions = [0.0] * len(axes) + [1.0] * len(axes)
    if transform == "tf_crop_and_resize":
        if roi is None or not _given(roi):
            raise ctx.malformed("tf_crop_and_resize needs the input 'roi'")
        regions = _floats(ctx, roi, "input 'roi'")
        if len(regions) != 2 * len(axes):
            raise ctx.malformed(f"roi must have {2 * len(axes)} elements, not {len(regions)}")
    if sizes is not None and _given(sizes):
        plan = _by_sizes(ctx, x, axes, ctx.ints(sizes, "input 'sizes'"), regions)
    elif scales is not None and _given(scales):
        plan = _by_scales(ctx, x, axes, _floats(ctx, scales, "input 'scales'"), regions)
    else:
        raise ctx.malformed("it needs the input 'scales' or 'sizes'")
    work = _Resize(
        ctx,
        ctx.attr_str("mode", "nearest"),
        transform,
        ctx.attr_str("nearest_mode", "round_prefer_floor"),
        ctx.attr_float("extrapolation_value", 0.0),
    )
    return work.apply(x, plan)


@operator("Resize", since=10)
def resize_10(ctx: Context, node: Node, x: Tensor, scales: Tensor) -> Tensor:
    values = _floats(ctx, scales, "input 'scales'")
    plan = _by_scales(ctx, x, range(x.rank), values, [0.0] * (2 * x.rank))
    return _Resize(ctx, ctx.attr_str("mode", "nearest"), "asymmetric", "simple").apply(x, plan)


@operator("Upsample", since=7)
def upsample(ctx: Context, node: Node, x: Tensor, scales: Tensor | None = None) -> Tensor:
    """The scales are an attribute up to opset 8, an input from 9 on."""
    if scales is not None:
        values = _floats(ctx, scales, "input 'scales'")
    else:
        values = [float(s) for s in node.attrs.get("scales", ())]  # type: ignore[union-attr]
    plan = _by_scales(ctx, x, range(x.rank), values, [0.0] * (2 * x.rank))
    return _Resize(ctx, ctx.attr_str("mode", "nearest"), "asymmetric", "floor").apply(x, plan)
