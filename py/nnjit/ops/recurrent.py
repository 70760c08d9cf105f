"""Recurrent layers: RNN, GRU, LSTM, with their steps unrolled.

The product of the input with its weights is one contraction for all steps; each step then has the product of the state
with its weights, and elementwise gates. Shapes in comments: T steps, B batch, I input, H hidden, D directions, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import ir
from ..graph.graph import Node
from ..symbolic import IntExpr, maximum, minimum
from ..tensor.tensor import Tensor
from .contraction import contraction
from .gates import Activation, activation
from .registry import Context, operator

Index = int | IntExpr
MAX_STEPS = 1024
"""Longer sequences would make more kernels than a page can compile."""


class Layer:
    """What the directions of a recurrent node share."""

    def __init__(
        self,
        ctx: Context,
        x: Tensor,
        w: Tensor,
        r: Tensor,
        bias: Tensor | None,
        lengths: Tensor | None,
        gates: int,
        default_activations: Sequence[str],
    ) -> None:
        self.ctx, self.b, self.gates = ctx, ctx.b, gates
        self.batch_first = ctx.attr_int("layout", 0) == 1
        if x.rank != 3 or w.rank != 3 or r.rank != 3:
            raise ctx.malformed("the input and its weights must have rank 3")
        self.x = self.b.permute(x, (1, 0, 2)) if self.batch_first else x  # [T, B, I]
        self.w, self.r, self.bias = w, r, bias  # [D, G·H, I], [D, G·H, H], [D, 2·G·H]
        self.hidden = ctx.env.fix(r.shape[2])
        direction = ctx.attr_str("direction", "forward")
        if direction not in ("forward", "reverse", "bidirectional"):
            raise ctx.malformed(f"direction '{direction}' is unknown")
        self.reverse = [False, True] if direction == "bidirectional" else [direction == "reverse"]
        self.directions = len(self.reverse)
        fits = (
            ctx.env.eq(w.shape[2], self.x.shape[2])
            and all(ctx.env.eq(t.shape[0], self.directions) for t in (w, r))
            and all(ctx.env.eq(t.shape[1], gates * self.hidden) for t in (w, r))
        )
        if not fits:
            raise ctx.malformed(
                f"weights {ctx.extents(w)} and {ctx.extents(r)} do not fit input {ctx.extents(x)}"
            )
        self.steps = ctx.env.fix(self.x.shape[0])
        if self.steps > MAX_STEPS:
            raise ctx.unsupported(f"a sequence of {self.steps} steps (at most {MAX_STEPS})")
        self.lengths = self._useful(lengths)
        self.clip = ctx.attr_float("clip", 0.0)
        self.activations = self._activations(list(default_activations))

    def _useful(self, lengths: Tensor | None) -> Tensor | None:
        """None where every sequence is known to be as long as the input."""
        if lengths is not None and lengths.content is not None:
            if all(self.ctx.env.eq(n, self.steps) for n in lengths.content.reshape(-1)):
                return None
        return lengths

    def _activations(self, defaults: list[str]) -> list[list[Activation]]:
        names = self.ctx.node.attrs.get("activations")
        per = len(defaults)
        texts = (
            [n.decode() if isinstance(n, bytes) else str(n) for n in names]  # type: ignore[union-attr]
            if names
            else defaults * self.directions
        )
        if len(texts) != per * self.directions:
            raise self.ctx.malformed(f"{per * self.directions} activations are needed, not {len(texts)}")
        alphas = self._floats("activation_alpha", texts)
        betas = self._floats("activation_beta", texts)
        made = [activation(self.ctx, *given) for given in zip(texts, alphas, betas, strict=True)]
        return [made[d * per : (d + 1) * per] for d in range(self.directions)]

    def _floats(self, name: str, texts: list[str]) -> list[float | None]:
        """The attribute's values, handed in order to the activations that take such a parameter."""
        takes = _WITH_ALPHA if name == "activation_alpha" else _WITH_BETA
        values = list(self.ctx.node.attrs.get(name, ()))  # type: ignore[arg-type]
        if len(values) == len(texts):
            return values
        rest = iter(values)
        return [next(rest, None) if text.lower() in takes else None for text in texts]

    # -- pieces -------------------------------------------------------------------------------------------------

    def project(self, d: int, biased: Callable[[int], bool]) -> Tensor:
        """[T, B, G·H]: the input times its weights, plus its bias, plus the state's bias for the gates in `biased`."""
        product, bias = self.input_product(d), self.bias
        if bias is None:
            return product
        size = self.gates * self.hidden
        own = self.b.slice_(bias, (d, 0), (1, 1), (1, size))
        rows = [self.b.elementwise(ir.add, own, self.b.slice_(bias, (d, size), (1, 1), (1, size)))]
        if not all(biased(g) for g in range(self.gates)):
            h = self.hidden

            def total(_: Index, n: Index) -> ir.Expr:
                value = bias.at(d, n)
                for g in range(self.gates):
                    if biased(g):
                        inside = ir.binary(
                            "and",
                            ir.binary("ge", ir.index(n), ir.const(g * h, "i32")),
                            ir.binary("lt", ir.index(n), ir.const((g + 1) * h, "i32")),
                        )
                        value = ir.select(inside, ir.add(bias.at(d, n), bias.at(d, size + n)), value)
                return value

            rows = [self.b.compute((1, size), bias.dtype, total, "bias")]
        return self.b.elementwise(ir.add, product, rows[0], label="bias")

    def input_product(self, d: int) -> Tensor:
        """[T, B, G·H]: the input times its weights."""
        x, w = self.x, self.w
        return contraction(
            self.b,
            (self.steps, x.shape[1], self.gates * self.hidden),
            (x.shape[2],),
            lambda at, k: x.at(at[0], at[1], k[0]),
            lambda at, k: w.at(d, at[2], k[0]),
            x.dtype,
            "input_projection",
        )

    def recur(self, d: int, step: int, state: Tensor, first: int, count: int) -> Tensor:
        """[B, count·H]: the state before `step` times its weights for `count` gates from `first` on."""
        r, h = self.r, self.hidden
        return contraction(
            self.b,
            (state.shape[0], count * h),
            (h,),
            lambda at, k: state.at(at[0], k[0]),
            lambda at, k: r.at(d, first * h + at[1], k[0]),
            state.dtype,
            "recurrence",
        )

    def clipped(self, v: ir.Expr) -> ir.Expr:
        """What enters an activation, within ± clip where the node says so."""
        if self.clip <= 0:
            return v
        low, high = ir.const(-self.clip, v.dtype), ir.const(self.clip, v.dtype)
        return ir.binary("min", ir.binary("max", v, low), high)

    def initial(self, given: Tensor | None, d: int) -> Tensor:
        """[B, H]: the initial state of direction `d`, zeros by default."""
        shape = (self.x.shape[1], self.hidden)
        if given is None:
            cd = ir.COMPUTE_OF[self.x.dtype]
            return self.b.compute(shape, self.x.dtype, lambda *_: ir.const(0.0, cd), "zeros")
        if given.rank != 3:
            raise self.ctx.malformed("an initial state must have rank 3")
        if self.batch_first:
            return self.b.view(given, shape, lambda n, j: (n, d, j))
        return self.b.view(given, shape, lambda n, j: (d, n, j))

    def state(self, f: Callable[[Index, Index], ir.Expr], label: str) -> Tensor:
        """[B, H] by its elements."""
        return self.b.compute((self.x.shape[1], self.hidden), self.x.dtype, f, label)

    # -- time ---------------------------------------------------------------------------------------------------

    def input_at(self, projected: Tensor, d: int, step: int) -> Callable[[Index, Index], ir.Expr]:
        """(n, j) → the projected input that direction `d` sees at its step `step`."""
        if not self.reverse[d]:
            return lambda n, j: projected.at(step, n, j)
        if self.lengths is None:
            return lambda n, j: projected.at(self.steps - 1 - step, n, j)
        return lambda n, j: projected.at(self._mirrored(n, step), n, j)

    def _mirrored(self, n: Index, step: Index) -> Index:
        """length − 1 − step, kept within the sequence."""
        length = ir.value_index(self.lengths.at(n))  # type: ignore[union-attr]
        return maximum(minimum(length - 1 - step, self.steps - 1), 0)

    def running(self, n: Index, step: Index) -> ir.Expr:
        """Whether sequence `n` has a step `step`."""
        length = self.lengths.at(n)  # type: ignore[union-attr]
        return ir.binary("gt", length, ir.cast(ir.index(step), length.dtype))

    def held(self, new: Tensor, old: Tensor, step: int) -> Tensor:
        """The new state where the sequence still runs, else the old one."""
        if self.lengths is None:
            return new
        return self.state(lambda n, j: ir.select(self.running(n, step), new.at(n, j), old.at(n, j)), "hold")

    def outputs(self, states: list[list[Tensor]]) -> Tensor:
        """Y from the states of each direction after each of its steps: [T, D, B, H], or batch first [B, T, D, H]."""
        wanted = self.ctx.node.outputs
        batch, h = self.x.shape[1], self.hidden
        if not wanted[0] or not self.steps:
            cd = ir.COMPUTE_OF[self.x.dtype]
            return self._placed(
                self.b.compute(
                    (0, self.directions, batch, h), self.x.dtype, lambda *_: ir.const(0, cd), "empty"
                )
            )
        sides = []
        for d, own in enumerate(states):
            ordered = own[::-1] if self.reverse[d] and self.lengths is None else own
            rows = [self.b.reshape(s, (1, 1, batch, h)) for s in ordered]
            side = rows[0] if len(rows) == 1 else self.b.concat(rows, 0)
            sides.append(side if self.lengths is None else self._masked(side, self.reverse[d]))
        return self._placed(sides[0] if len(sides) == 1 else self.b.concat(sides, 1))

    def _placed(self, y: Tensor) -> Tensor:
        return self.b.permute(y, (2, 0, 1, 3)) if self.batch_first else y

    def _masked(self, side: Tensor, reverse: bool) -> Tensor:
        """[T, 1, B, H] with zeros after the end of each sequence, and reversed in time where it ran backwards."""

        def element(t: Index, d: Index, n: Index, j: Index) -> ir.Expr:
            value = side.at(self._mirrored(n, t) if reverse else t, d, n, j)
            return ir.select(self.running(n, t), value, ir.const(0.0, value.dtype))

        return self.b.compute(side.shape, side.dtype, element, "mask")

    def last(self, states: list[Tensor]) -> Tensor:
        """The states of each direction after the last step: [D, B, H], or batch first [B, D, H]."""
        batch, h = self.x.shape[1], self.hidden
        rows = [self.b.reshape(s, (1, batch, h)) for s in states]
        y = rows[0] if len(rows) == 1 else self.b.concat(rows, 0)
        return self.b.permute(y, (1, 0, 2)) if self.batch_first else y


LSTM_ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")
_WITH_ALPHA = ("leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu", "affine")
_WITH_BETA = ("scaledtanh", "hardsigmoid", "affine")


@operator("RNN", since=7)
def rnn(
    ctx: Context,
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """H = f(X·W + H·R + bias)."""
    layer = Layer(ctx, x, w, r, bias, lengths, 1, ("Tanh",))
    states: list[list[Tensor]] = []
    finals: list[Tensor] = []
    for d in range(layer.directions):
        (f,) = layer.activations[d]
        projected = layer.project(d, lambda g: True)
        h = layer.initial(initial_h, d)
        own: list[Tensor] = []
        for step in range(layer.steps):
            given, product = layer.input_at(projected, d, step), layer.recur(d, step, h, 0, 1)
            new = layer.state(
                lambda n, j, given=given, product=product, f=f: f(  # type: ignore[misc]
                    layer.clipped(ir.add(given(n, j), product.at(n, j)))
                ),
                "rnn",
            )
            h = layer.held(new, h, step)
            own.append(h)
        states.append(own)
        finals.append(h)
    return layer.outputs(states), layer.last(finals)


@operator("GRU", since=7)
def gru(
    ctx: Context,
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gates in the order z, r, h:

    z, r = f(X·W + H·R + biases)
    h    = g(X·W + (r ∘ H)·R + biases), or with linear_before_reset g(X·W + bias + r ∘ (H·R + bias of the state))
    H    = (1 − z) ∘ h + z ∘ H
    """
    layer = Layer(ctx, x, w, r, bias, lengths, 3, ("Sigmoid", "Tanh"))
    late = ctx.attr_int("linear_before_reset", 0) == 1
    states: list[list[Tensor]] = []
    finals: list[Tensor] = []
    for d in range(layer.directions):
        projected = layer.project(d, lambda g: g < 2 or not late)
        h = layer.initial(initial_h, d)
        own: list[Tensor] = []
        for step in range(layer.steps):
            h = layer.held(_gru_step(layer, d, projected, h, step, late), h, step)
            own.append(h)
        states.append(own)
        finals.append(h)
    return layer.outputs(states), layer.last(finals)


def _gru_step(layer: Layer, d: int, projected: Tensor, h: Tensor, step: int, late: bool) -> Tensor:
    f, g = layer.activations[d]
    size = layer.hidden
    given = layer.input_at(projected, d, step)
    product = layer.recur(d, step, h, 0, 3 if late else 2)

    def gate(n: Index, j: Index, which: int) -> ir.Expr:
        at = j + which * size
        return f(layer.clipped(ir.add(given(n, at), product.at(n, at))))

    if late:
        bias = layer.bias

        def candidate(n: Index, j: Index) -> ir.Expr:
            at = j + 2 * size
            inner = product.at(n, at)
            if bias is not None:
                inner = ir.add(inner, bias.at(d, at + 3 * size))
            return g(layer.clipped(ir.add(given(n, at), ir.mul(gate(n, j, 1), inner))))
    else:
        reset = layer.state(lambda n, j: ir.mul(gate(n, j, 1), h.at(n, j)), "reset")
        again = layer.recur(d, step, reset, 2, 1)

        def candidate(n: Index, j: Index) -> ir.Expr:
            return g(layer.clipped(ir.add(given(n, j + 2 * size), again.at(n, j))))

    def new(n: Index, j: Index) -> ir.Expr:
        z = gate(n, j, 0)
        kept = ir.mul(z, h.at(n, j))
        return ir.add(ir.mul(ir.sub(ir.const(1.0, z.dtype), z), candidate(n, j)), kept)

    return layer.state(new, "gru")


@operator("LSTM", since=7)
def lstm(
    ctx: Context,
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    layer = Layer(ctx, x, w, r, bias, lengths, 4, LSTM_ACTIVATIONS)
    return run_lstm(layer, initial_h, initial_c, peepholes)


def run_lstm(
    layer: Layer, initial_h: Tensor | None, initial_c: Tensor | None, peepholes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gates in the order i, o, f, c; peepholes P in the order i, o, f:

    i, f = f(X·W + H·R + P ∘ C + biases)        c = g(X·W + H·R + biases)        C' = f ∘ C + i ∘ c
    o    = f(X·W + H·R + P ∘ C' + biases)       H = o ∘ h(C')
    """
    states: list[list[Tensor]] = []
    last_h: list[Tensor] = []
    last_c: list[Tensor] = []
    for d in range(layer.directions):
        projected = layer.project(d, lambda g: True)
        h, c = layer.initial(initial_h, d), layer.initial(initial_c, d)
        own: list[Tensor] = []
        for step in range(layer.steps):
            new_h, new_c = _lstm_step(layer, d, projected, h, c, step, peepholes)
            h, c = layer.held(new_h, h, step), layer.held(new_c, c, step)
            own.append(h)
        states.append(own)
        last_h.append(h)
        last_c.append(c)
    return layer.outputs(states), layer.last(last_h), layer.last(last_c)


def _lstm_step(
    layer: Layer, d: int, projected: Tensor, h: Tensor, c: Tensor, step: int, peepholes: Tensor | None
) -> tuple[Tensor, Tensor]:
    f, g, squash = layer.activations[d]
    size = layer.hidden
    coupled = layer.ctx.attr_int("input_forget", 0) == 1
    given = layer.input_at(projected, d, step)
    product = layer.recur(d, step, h, 0, 4)

    def gate(n: Index, j: Index, which: int, act: Activation, cell: Tensor | None = None) -> ir.Expr:
        at = j + which * size
        value = ir.add(given(n, at), product.at(n, at))
        if peepholes is not None and cell is not None:
            value = ir.add(value, ir.mul(peepholes.at(d, at), cell.at(n, j)))
        return act(layer.clipped(value))

    def new_cell(n: Index, j: Index) -> ir.Expr:
        i = gate(n, j, 0, f, c)
        forget = ir.sub(ir.const(1.0, i.dtype), i) if coupled else gate(n, j, 2, f, c)
        return ir.add(ir.mul(forget, c.at(n, j)), ir.mul(i, gate(n, j, 3, g)))

    cell = layer.state(new_cell, "lstm_cell")
    hidden = layer.state(lambda n, j: ir.mul(gate(n, j, 1, f, cell), squash(cell.at(n, j))), "lstm")
    return hidden, cell
