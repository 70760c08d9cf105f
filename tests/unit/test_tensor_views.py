"""Views, reshapes and copies of a tensor see what numpy sees, whatever they are made of."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from unit.plan_interpreter import Machine, Model
from unit.tensor_programs import relu
from unit.test_fuse import groups_of

from nnjit.tensor.interpret import interpret
from nnjit.tensor.tensor import Alias, Tensor, View


def factors(rng: random.Random, size: int) -> list[int]:
    """A random shape of that many elements."""
    shape = []
    while size > 1:
        d = rng.choice([d for d in range(2, size + 1) if size % d == 0])
        shape.append(d)
        size //= d
    for _ in range(rng.randrange(2)):
        shape.insert(rng.randrange(len(shape) + 1), 1)
    return shape


def step(rng: random.Random, m: Model, x: Tensor, a: np.ndarray) -> tuple[Tensor, np.ndarray]:
    kind = rng.choice(["permute", "reshape", "reshape", "slice", "expand", "compute"])
    if kind == "permute":
        axes = rng.sample(range(a.ndim), a.ndim)
        return m.b.permute(x, axes), a.transpose(axes)
    if kind == "reshape":
        shape = factors(rng, a.size) if a.size else [*a.shape, 1]
        return m.b.reshape(x, shape), a.reshape(shape)
    if kind == "slice":
        starts, steps, cut = [], [], []
        for d in a.shape:
            s = rng.choice([1, 1, 2, -1]) if d > 1 else 1
            start = d - 1 if s < 0 else rng.randrange(max(1, d // 2))
            cut.append(np.arange(start, -1 if s < 0 else d, s))
            starts.append(start)
            steps.append(s)
        return m.b.slice_(x, starts, steps, [len(c) for c in cut]), a[np.ix_(*cut)]
    if kind == "expand":
        shape = [3 if d == 1 and rng.random() < 0.5 else d for d in a.shape]
        return m.b.expand(x, shape), np.broadcast_to(a, shape)
    return m.b.elementwise(relu, x), np.maximum(a, 0)


def check(seed: int) -> None:
    rng, m = random.Random(seed), Model(seed)
    x: Tensor = m.input(*(rng.choice([1, 2, 3, 4, 6]) for _ in range(rng.randint(1, 4))))
    a = m.arrays["x0"]
    for _ in range(rng.randint(1, 6)):
        y, b = step(rng, m, x, a)
        if b.size <= 400 and b.ndim <= 5:
            x, a = y, b
    np.testing.assert_array_equal(interpret([x], m.arrays)[0], a)
    np.testing.assert_array_equal(Machine(m.compile([x])).run(m.arrays)[0], a)


def test_random_chains_of_movements_agree_with_numpy() -> None:
    fresh = time.time_ns() % 10**9
    for seed in (*range(100), *range(fresh, fresh + 40)):
        try:
            check(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


@pytest.mark.parametrize(
    ("shape", "axes", "new"),
    [((3, 0, 2), (2, 0, 1), (0, 6)), ((0, 3), (0, 1), (3, 0)), ((3, 0, 4), (2, 1, 0), (0,))],
)
def test_a_tensor_without_elements_takes_any_empty_shape(
    shape: tuple[int, ...], axes: tuple[int, ...], new: tuple[int, ...]
) -> None:
    m = Model()
    y = m.b.elementwise(relu, m.b.reshape(m.b.permute(m.input(*shape), axes), new))
    assert Machine(m.compile([y])).run(m.arrays)[0].shape == new


def test_a_reshape_of_stored_elements_is_the_same_memory() -> None:
    m = Model()
    assert isinstance(m.b.reshape(m.input(4, 6), (2, 12)), Alias)


def test_splitting_an_axis_of_a_transpose_is_a_view() -> None:
    m = Model()
    assert isinstance(m.b.reshape(m.b.permute(m.input(4, 6), (1, 0)), (2, 3, 4)), View)


def test_the_heads_of_an_attention_are_joined_without_a_copy() -> None:
    """Transpose to (batch, row, head, width) and merge: the kernel that makes the heads writes them in that order."""
    m = Model()
    heads = m.b.elementwise(relu, m.input(2, 3, 5, 4))
    joined = m.b.reshape(m.b.permute(heads, (0, 2, 1, 3)), (2, 5, 12))
    assert len(groups_of(m, m.b.elementwise(relu, joined))) <= 2
