"""Tensor expressions to compile in tests: the families of kernels by hand, and random programs.

Everything takes a `Model` (plan_interpreter), which makes inputs with content.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from unit.plan_interpreter import Model

from nnjit import ir
from nnjit.symbolic import maximum, minimum, product
from nnjit.tensor.tensor import Index, Tensor


def number(value: float) -> ir.Expr:
    return ir.const(value, "f32")


def relu(x: ir.Expr) -> ir.Expr:
    return ir.binary("max", x, number(0))


def silu(x: ir.Expr) -> ir.Expr:
    return ir.mul(x, ir.unary("sigmoid", x))


def matmul(m: Model, a: Tensor, b: Tensor, transposed: bool = False) -> Tensor:
    """a[…, m, k] · b[…, k, n] (b[…, n, k] when `transposed`); b may have no batch axes."""
    n = a.rank
    depth = a.shape[-1]
    width = b.shape[-2 if transposed else -1]

    def body(*c: Index) -> ir.Expr:
        batch, row, column, k = c[: n - 2], c[n - 2], c[n - 1], c[n]
        at = (column, k) if transposed else (k, column)
        return ir.mul(a.at(*batch, row, k), b.at(*(batch if b.rank == n else ()), *at))

    return m.b.reduce("sum", (*a.shape[:-1], width), (depth,), body, a.dtype, "matmul")


def reduce_axes(
    m: Model, x: Tensor, axes: Sequence[int], combine: str = "sum", squared: bool = False
) -> Tensor:
    """Reduction over `axes`, kept with extent 1."""
    shape = [1 if n in axes else d for n, d in enumerate(x.shape)]

    def body(*c: Index) -> ir.Expr:
        at = list(c[: x.rank])
        for n, r in zip(axes, c[x.rank :], strict=True):
            at[n] = r
        e = x.at(*at)
        return ir.mul(e, e) if squared else e

    return m.b.reduce(combine, shape, [x.shape[n] for n in axes], body, x.dtype)


def softmax(m: Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """(softmax over the last axis, its numerators)."""
    highest = reduce_axes(m, x, [x.rank - 1], "pmax")
    e = m.b.elementwise(lambda a, b: ir.unary("exp_nonpositive", ir.sub(a, b)), x, highest)
    return m.b.elementwise(ir.div, e, reduce_axes(m, e, [x.rank - 1])), e


def attention(
    m: Model, heads: int, queries: int, keys: int, width: int, mask: bool = False, group: int = 1
) -> Tensor:
    """softmax(q kᵀ / 2 + mask) v, heads and positions interleaved in memory as models have them.

    `mask` hides some keys of each query, and all keys of the last one. `group` query heads share the keys of a head.
    """
    q = m.b.permute(m.input(queries, heads, group, width), (1, 2, 0, 3))
    k, v = (m.b.permute(m.input(keys, heads, width), (1, 0, 2)) for _ in range(2))
    hidden = m.input(queries, keys, dtype="bool")
    m.arrays[f"x{len(m.b.inputs) - 1}"][-1] = True
    shape = (heads, group, queries, keys)
    scores = m.b.reduce(
        "sum", shape, (width,), lambda h, g, i, j, d: ir.mul(q.at(h, g, i, d), k.at(h, j, d)), "f32", "scores"
    )
    half = m.b.elementwise(lambda s: ir.mul(s, number(0.5)), scores)
    if mask:
        half = m.b.compute(
            shape,
            "f32",
            lambda h, g, i, j: ir.select(hidden.at(i, j), number(float("-inf")), half.at(h, g, i, j)),
        )
    weights, _ = softmax(m, half)
    return m.b.reduce(
        "sum",
        (heads, group, queries, width),
        (keys,),
        lambda h, g, i, d, j: ir.mul(weights.at(h, g, i, j), v.at(h, j, d)),
        "f32",
        "attention",
    )


def layer_norm(m: Model, x: Tensor) -> Tensor:
    last, width = x.rank - 1, ir.cast(ir.index(x.shape[-1]), "f32")
    mean = m.b.elementwise(lambda a: ir.div(a, width), reduce_axes(m, x, [last]))
    centred = m.b.elementwise(ir.sub, x, mean)
    variance = reduce_axes(m, centred, [last], squared=True)
    scale = m.b.elementwise(
        lambda v: ir.div(number(1), ir.unary("sqrt", ir.add(ir.div(v, width), number(1e-3)))), variance
    )
    return m.b.elementwise(ir.mul, centred, scale)


def convolution(
    m: Model,
    channels: int,
    filters: int,
    kernel: int,
    size: tuple[int, int],
    stride: int = 1,
    groups: int = 1,
) -> Tensor:
    """NHWC convolution of a padded input, its result seen as NCHW, with bias and ReLU."""
    b, pad = m.b, kernel // 2
    height, width = size
    x, w = m.input(1, channels, height, width), m.weight(filters, channels // groups, kernel, kernel)
    rows, columns = ((d + 2 * pad - kernel) // stride + 1 for d in size)

    def padded(n: Index, c: Index, i: Index, j: Index) -> ir.Expr:
        inside = None
        for at, extent in ((i, height), (j, width)):
            for op, limit in (("ge", pad), ("lt", extent + pad)):
                test = ir.binary(op, ir.index(at), ir.const(limit, "i32"))
                inside = test if inside is None else ir.binary("and", inside, test)
        ci, cj = (minimum(maximum(at - pad, 0), d - 1) for at, d in ((i, height), (j, width)))
        return ir.select(inside, x.at(n, c, ci, cj), number(0))  # type: ignore[arg-type]

    source = b.compute((1, channels, height + 2 * pad, width + 2 * pad), "f32", padded)
    source.order = (0, 2, 3, 1)

    def tap(n: Index, c: Index, i: Index, j: Index, u: Index, v: Index) -> ir.Expr:
        return source.at(n, c, i * stride + u, j * stride + v)

    if groups == channels == filters:
        y: Tensor = b.reduce(
            "sum",
            (1, rows, columns, channels),
            (kernel, kernel),
            lambda n, i, j, c, u, v: ir.mul(tap(n, c, i, j, u, v), w.at(c, 0, u, v)),
            "f32",
        )
    else:
        inner, outer = channels // groups, filters // groups
        y = b.reduce(
            "sum",
            (1, rows, columns, groups, outer),
            (kernel, kernel, inner),
            lambda n, i, j, g, o, u, v, c: ir.mul(
                tap(n, g * inner + c, i, j, u, v), w.at(g * outer + o, c, u, v)
            ),
            "f32",
        )
        y = b.reshape(y, (1, rows, columns, filters))
    y = b.permute(y, (0, 3, 1, 2))
    return b.elementwise(lambda a, c: relu(ir.add(a, c)), y, m.weight(filters, 1, 1))


def gather(m: Model, x: Tensor, indices: Tensor) -> Tensor:
    """Rows of x at run-time positions, clamped to the valid range."""
    last = ir.const(int(x.shape[0]) - 1, "i32")  # type: ignore[arg-type]

    def body(i: Index, *rest: Index) -> ir.Expr:
        at = ir.cast(indices.at(i), "i32")
        at = ir.binary("min", ir.binary("max", at, ir.const(0, "i32")), last)
        return x.at(ir.value_index(at), *rest)

    return m.b.compute((indices.shape[0], *x.shape[1:]), x.dtype, body)


class RandomProgram:
    """A random acyclic graph of tensor expressions: `model`, `outputs`, and `random` for further choices."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.model = Model(seed)
        self.symbolic = self.random.random() < 0.4
        self.pool = [self.source() for _ in range(self.random.choice([1, 2, 3]))]
        steps = [self.unary] * 3 + [self.binary] * 4 + [self.matmul, self.permute, self.reshape] * 2
        steps += [self.reduce, self.softmax, self.norm, self.slice, self.expand, self.concat, self.gather]
        for _ in range(self.random.randint(3, 14)):
            x = self.random.choice(self.pool[-3:] if self.random.random() < 0.7 else self.pool)
            step = self.random.choice(steps)
            made = step(x) if x.rank else self.unary(x)
            if made.rank <= 5 and self.model.env.hint(product(made.shape)) <= 600:
                self.pool.append(made)
        self.outputs = [self.pool[-1], *(x for x in self.pool if self.random.random() < 0.12)]

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def source(self) -> Tensor:
        shape = [
            self.random.choice([1, 2, 3, 4, 5, 8]) for _ in range(self.random.choice([1, 2, 2, 3, 3, 4]))
        ]
        if self.chance(0.4):
            return self.model.weight(*shape)
        symbolic = [n for n, d in enumerate(shape) if self.symbolic and d > 1 and self.chance(0.3)]
        return self.model.input(*shape, symbolic=symbolic)

    def unary(self, x: Tensor) -> Tensor:
        bodies = (lambda a: ir.mul(a, number(0.5)), relu, silu, lambda a: ir.unary("abs", a))
        return self.model.b.elementwise(self.random.choice(bodies), x)

    def partner(self, x: Tensor) -> Tensor:
        """Something that broadcasts to the shape of x."""
        known = [y for y in self.pool if y.shape == x.shape and y is not x]
        if known and self.chance(0.8):
            return self.random.choice(known[-4:])
        shape = [d if isinstance(d, int) and self.chance(0.6) else 1 for d in x.shape]
        shape = shape[self.random.randrange(len(shape) + 1) :]
        return self.model.weight(*shape) if self.chance(0.5) else self.model.input(*shape)

    def binary(self, x: Tensor) -> Tensor:
        body = self.random.choice((ir.add, ir.sub, ir.mul, lambda a, b: ir.binary("max", a, b)))
        return self.model.b.elementwise(body, x, self.partner(x))

    def reduce(self, x: Tensor) -> Tensor:
        count = self.random.randint(1, min(2, x.rank))
        axes = sorted(self.random.sample(range(x.rank), count)) if self.chance(0.4) else [x.rank - 1]
        return reduce_axes(self.model, x, axes, self.random.choice(["sum", "max", "min"]), self.chance(0.3))

    def softmax(self, x: Tensor) -> Tensor:
        result, numerators = softmax(self.model, x)
        if self.chance(0.3):
            self.pool.append(numerators)
        return result

    def norm(self, x: Tensor) -> Tensor:
        return layer_norm(self.model, x)

    def matmul(self, x: Tensor) -> Tensor:
        if x.rank < 2:
            return self.unary(x)
        if isinstance(x.shape[-1], int) and self.chance(0.8):
            return matmul(self.model, x, self.model.weight(x.shape[-1], self.random.choice([1, 3, 4, 6, 8])))
        return matmul(self.model, x, x, transposed=True)

    def permute(self, x: Tensor) -> Tensor:
        return self.model.b.permute(x, self.random.sample(range(x.rank), x.rank))

    def slice(self, x: Tensor) -> Tensor:
        starts, steps, shape = [], [], []
        for d in x.shape:
            start, step, extent = 0, 1, d
            if isinstance(d, int) and d > 1 and self.chance(0.5):
                step = self.random.choice([1, 2, -1])
                extent = self.random.randint(1, (d - 1) // abs(step) + 1)
                start = d - 1 if step < 0 else self.random.randint(0, d - 1 - (extent - 1) * step)
            starts.append(start)
            steps.append(step)
            shape.append(extent)
        return self.model.b.slice_(x, starts, steps, shape)

    def reshape(self, x: Tensor) -> Tensor:
        shape = list(x.shape)
        axis = self.random.randrange(len(shape))
        d = shape[axis]
        way = self.random.random()
        if way < 0.4 and axis + 1 < len(shape):
            shape[axis : axis + 2] = [d * shape[axis + 1]]
        elif way < 0.6:
            shape = [product(shape)]
        elif way < 0.8:
            factor = next((q for q in (2, 4, 3) if isinstance(d, int) and d % q == 0), 1)
            shape[axis : axis + 1] = [factor, d // factor] if self.chance(0.5) else [d // factor, factor]
        else:
            shape.insert(axis, 1)
        return self.model.b.reshape(x, shape)

    def expand(self, x: Tensor) -> Tensor:
        shape = [self.random.choice([2, 3]) if d == 1 and self.chance(0.5) else d for d in x.shape]
        return self.model.b.expand(x, [2, *shape] if self.chance(0.2) else shape)

    def concat(self, x: Tensor) -> Tensor:
        axis = self.random.randrange(x.rank)

        def rest(y: Tensor) -> tuple[Index, ...]:
            return y.shape[:axis] + y.shape[axis + 1 :]

        fitting = [y for y in self.pool if y.rank == x.rank and rest(y) == rest(x)]
        others = self.random.sample(fitting, min(len(fitting), self.random.choice([1, 2])))
        return self.model.b.concat([x, *others], axis)

    def gather(self, x: Tensor) -> Tensor:
        if not isinstance(x.shape[0], int):
            return self.unary(x)
        indices = self.model.input(3, dtype=self.random.choice(["i32", "i64"]))
        return gather(self.model, x, indices)
