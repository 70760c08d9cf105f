"""com.microsoft's LSTM with weights of 8 bits, as dynamic quantisation writes it."""

from __future__ import annotations

from .. import ir
from ..graph.graph import Node
from ..tensor.tensor import Tensor
from .qlinear import MICROSOFT, dynamic_product
from .recurrent import LSTM_ACTIVATIONS, Index, Layer, run_lstm
from .reduction import reduced_to_one
from .registry import Context, operator


class _Quantized(Layer):
    """A layer whose products are of bytes: the input is quantised once, the state before every step, each as a whole.

    Only sequences that still run have a part in the range of the values to quantise, as in onnxruntime.
    """

    def __init__(
        self,
        ctx: Context,
        x: Tensor,
        w: Tensor,
        r: Tensor,
        bias: Tensor | None,
        lengths: Tensor | None,
        parameters: tuple[Tensor, Tensor | None, Tensor, Tensor | None],
    ) -> None:
        if w.rank != 3 or r.rank != 3:
            raise ctx.malformed("the weights must have rank 3")
        w, r = (ctx.b.permute(t, (0, 2, 1)) for t in (w, r))  # [D, I, G·H] as LSTM has them: [D, G·H, I]
        super().__init__(ctx, x, w, r, bias, lengths, 4, LSTM_ACTIVATIONS)
        self.w_scale, self.w_zero, self.r_scale, self.r_zero = parameters

    def input_product(self, d: int) -> Tensor:
        x = self.x
        if self.lengths is not None:
            longest = reduced_to_one(self.ctx, "max", self.lengths)

            def inside(t: Index, n: Index, i: Index) -> ir.Expr:
                end = longest.at()
                within = ir.binary("gt", end, ir.cast(ir.index(t), end.dtype))
                value = self.x.at(t, n, i)
                return ir.select(within, value, ir.const(0.0, value.dtype))

            x = self.b.compute(x.shape, x.dtype, inside, "mask")
        return self._product(d, x, self.w, self.w_scale, self.w_zero)

    def recur(self, d: int, step: int, state: Tensor, first: int, count: int) -> Tensor:
        if self.lengths is not None:
            held = state
            state = self.state(
                lambda n, j: ir.select(self.running(n, step), held.at(n, j), ir.const(0.0, "f32")), "mask"
            )
        return self._product(d, state, self.r, self.r_scale, self.r_zero)

    def _product(self, d: int, x: Tensor, weights: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """x times the weights of direction `d`."""
        matrix = self.b.view(weights, (weights.shape[2], weights.shape[1]), lambda k, n: (d, n, k))
        return dynamic_product(
            self.ctx, x, matrix, self._own(scale, d), None if zero is None else self._own(zero, d)
        )

    def _own(self, parameter: Tensor, d: int) -> Tensor:
        """The part of direction `d`: a scalar, or one element for each column."""
        if parameter.rank not in (1, 2):
            raise self.ctx.malformed(f"a scale or a zero point has rank {parameter.rank}")
        return self.b.view(parameter, parameter.shape[1:], lambda *c: (d, *c))


@operator("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_quantize_lstm(
    ctx: Context,
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None,
    lengths: Tensor | None,
    initial_h: Tensor | None,
    initial_c: Tensor | None,
    peepholes: Tensor | None,
    w_scale: Tensor,
    w_zero: Tensor,
    r_scale: Tensor,
    r_zero: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """LSTM; weights [D, I, 4·H] and [D, H, 4·H] of i8 or u8, their scales and zero points [D] or [D, 4·H]."""
    layer = _Quantized(ctx, x, w, r, bias, lengths, (w_scale, w_zero, r_scale, r_zero))
    return run_lstm(layer, initial_h, initial_c, peepholes)
