"""Integer expressions: whatever is simplified has the value that plain arithmetic gives."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable

import pytest
from unit.plan_interpreter import evaluate_json

from nnjit import symbolic
from nnjit.symbolic import (
    IntExpr,
    bounds_of,
    evaluate,
    floordiv,
    maximum,
    minimum,
    mod,
    recombine,
    substitute,
    to_json,
    var,
    variables,
)

Tree = tuple
"""An expression as plain data: an int, a name, or (operation, a, b)."""

BOUNDS = {"a": (0, 6), "b": (1, 9), "c": (2, None), "d_signed": (-7, 5)}
PLAIN: dict[str, Callable[[int, int], int]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "floordiv": lambda x, y: x // y,
    "mod": lambda x, y: x % y,
    "min": min,
    "max": max,
}


def tree(rng: random.Random, depth: int) -> Tree | int | str:
    if depth == 0 or rng.random() < 0.15:
        return rng.choice([*BOUNDS, *range(-3, 9)])
    op = rng.choice(list(PLAIN))
    if op in ("floordiv", "mod"):
        return (
            op,
            tree(rng, depth - 1),
            rng.choice([1, 2, 3, 4, 8, "b", "c", ("mul", "b", 4), ("add", "c", 1)]),
        )
    return op, tree(rng, depth - 1), tree(rng, depth - 1)


def plain(t: Tree | int | str, env: dict[str, int]) -> int:
    if isinstance(t, int):
        return t
    if isinstance(t, str):
        return env[t]
    return PLAIN[t[0]](plain(t[1], env), plain(t[2], env))


def build(t: Tree | int | str, bounds: dict) -> int | IntExpr:
    if isinstance(t, int):
        return t
    if isinstance(t, str):
        return var(t)
    a, b = build(t[1], bounds), build(t[2], bounds)
    if t[0] in ("add", "sub", "mul"):
        return PLAIN[t[0]](a, b)  # type: ignore[arg-type, return-value]
    return {"floordiv": floordiv, "mod": mod, "min": minimum, "max": maximum}[t[0]](a, b, bounds)


def values(rng: random.Random) -> dict[str, int]:
    return {name: rng.randint(low, 40 if high is None else high) for name, (low, high) in BOUNDS.items()}


def check(seed: int) -> None:
    rng = random.Random(seed)
    t = tree(rng, rng.randint(1, 5))
    bounds = BOUNDS if rng.random() < 0.7 else {}
    e = build(t, bounds)
    joined = recombine(e)
    low, high = bounds_of(e, BOUNDS)
    again = substitute(e, {name: var(name) for name in BOUNDS}, bounds)
    for _ in range(8):
        env = values(rng)
        expected = plain(t, env)
        assert evaluate(e, env) == expected
        assert evaluate(joined, env) == expected
        assert evaluate(again, env) == expected
        assert evaluate_json(to_json(e), env) == expected
        assert low is None or low <= expected
        assert high is None or expected <= high
        half = substitute(e, {"a": env["a"], "c": env["c"]}, bounds)
        assert evaluate(half, env) == expected
        assert variables(half) <= {"b", "d_signed"}


def test_random_expressions_have_the_value_of_plain_arithmetic() -> None:
    fresh = time.time_ns() % 10**9
    for seed in (*range(1500), *range(fresh, fresh + 500)):
        try:
            check(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error


def test_equal_polynomials_are_equal_and_hash_alike() -> None:
    x, y = var("x"), var("y")
    assert (x + y) * (x - y) == x * x - y * y
    assert hash((x + 1) * 2) == hash(x * 2 + 2)
    assert x - x == 0 and isinstance(x * 0, int)


@pytest.mark.parametrize("divisor", [4, var("n")])
def test_an_axis_split_in_two_divides_back(divisor: int | IntExpr) -> None:
    outer, inner = var("i"), var("j")
    last = divisor - 1
    bounds = {"j": (0, last)} if isinstance(last, int) else {"j": (0, None)}
    linear = outer * divisor + inner
    if isinstance(divisor, int):
        assert floordiv(linear, divisor, bounds) == outer
        assert mod(linear, divisor, bounds) == inner
    assert recombine(divisor * floordiv(linear, divisor) + mod(linear, divisor)) == linear


def test_the_truth_of_a_symbol_is_not_known() -> None:
    with pytest.raises(TypeError, match="compile time"):
        bool(var("n"))


def test_an_extremum_that_bounds_decide_is_no_operation() -> None:
    n = var("n")
    assert minimum(n, 5, {"n": (0, 4)}) == n
    assert maximum(n, 0, {"n": (0, None)}) == n
    assert minimum(n - 4, n) == n - 4


def test_a_symbol_that_may_be_negative_keeps_its_clamp() -> None:
    n = var("n" + symbolic.SIGNED)
    clamped = maximum(n, 0)
    assert [evaluate(substitute(clamped, {"k": 1}), {"n_signed": v}) for v in (-3, 4)] == [0, 4]


def test_bounds_of_a_quotient_hold_for_negative_dividends() -> None:
    for (alow, ahigh), (blow, bhigh) in itertools.product(
        [(-5, -2), (-5, 4), (1, 7)], [(1, 3), (2, 2), (1, None)]
    ):
        bounds = {"a_signed": (alow, ahigh), "b": (blow, bhigh)}
        low, high = bounds_of(symbolic.opaque("floordiv", var("a_signed"), var("b")), bounds)
        found = [a // b for a in range(alow, ahigh + 1) for b in range(blow, (bhigh or 30) + 1)]
        assert low is not None and high is not None and low <= min(found) and max(found) <= high
