"""The cost model: features that say what they claim, weights that follow measurements, gains that are expected rightly."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from unit.plan_interpreter import Model
from unit.tensor_programs import attention, matmul, softmax

from nnjit.lower.chain import Chain
from nnjit.lower.spec import KernelSpec
from nnjit.schedule.schedule import Schedule, parse
from nnjit.schedule.space import space
from nnjit.target import Hardware, Target
from nnjit.tune.cost_model import NAMES, Analysis, CostModel, expected_gain, spearman

RELAXED = Target(relaxed_simd=True, threads=2)


def product(m: int = 96, k: int = 64, n: int = 96) -> KernelSpec:
    made = Model()
    compiled = made.compile([matmul(made, made.input(m, k), made.weight(k, n))])
    return compiled.items[0].spec


def feature(name: str, spec: KernelSpec, text: str, target: Target = RELAXED) -> float:
    return float(Analysis(spec, target).features(parse(text))[NAMES.index(name)])


def test_waste_is_the_part_of_a_tile_that_is_computed_twice() -> None:
    spec = product(m=96, n=96)
    assert feature("waste", spec, "tile o0=6 o1=8; vector o1") == 0
    assert feature("waste", spec, "tile o0=7 o1=8; vector o1") == pytest.approx(math.log(98 / 96))


def test_values_spill_beyond_the_registers_that_were_measured() -> None:
    spec = product()
    wide = RELAXED.measured(Hardware(100.0, ((1, 1.0, 1.0),), vector_registers=29))
    for text, fits, fits_wide in (
        ("tile o0=6 o1=8; vector o1; pack 1", True, True),
        ("tile o0=6 o1=16; vector o1; pack 1", False, True),
        ("tile o0=8 o1=16; vector o1; pack 1", False, False),
    ):
        assert (feature("spill", spec, text) == 0) == fits
        assert (feature("spill", spec, text, wide) == 0) == fits_wide


def test_a_larger_tile_loads_less_for_each_product() -> None:
    spec = product()
    small, large = (feature("work", spec, f"tile o0={m} o1=8; vector o1; pack 1") for m in (2, 6))
    assert large < small


def test_a_single_task_leaves_other_threads_idle() -> None:
    spec = product(m=6, n=8)
    assert feature("idle", spec, "tile o0=6 o1=8; vector o1") == pytest.approx(math.log(2))
    assert feature("idle", spec, "tile o0=3 o1=8; vector o1") == 0


def attention_kernel() -> KernelSpec:
    made = Model()
    compiled = made.compile([attention(made, 2, 24, 40, 8)], RELAXED)
    return max((item.spec for item in compiled.items), key=lambda spec: isinstance(spec, Chain))


def test_blocks_of_attention_are_told_apart() -> None:
    spec = attention_kernel()
    analysis = Analysis(spec, RELAXED)
    schedules = space(spec, RELAXED)
    assert len({tuple(analysis.features(s)) for s in schedules}) > len(schedules) // 2


def test_every_schedule_of_a_space_has_finite_features() -> None:
    made = Model()
    rows, _ = softmax(made, made.input(7, 33))
    compiled = made.compile([rows])
    chain = attention_kernel()
    assert isinstance(chain, Chain)
    for spec in (product(), compiled.items[0].spec, chain):
        for target in (RELAXED, Target(device="webgpu")):
            if spec is chain and target.device == "webgpu":
                continue
            analysis = Analysis(spec, target)
            schedules = space(spec, target)
            vectors = [analysis.features(s, n, len(schedules)) for n, s in enumerate(schedules)]
            assert np.isfinite(vectors).all()


def law(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Candidates on a device that obeys other weights than those that are assumed at first."""
    rng = np.random.default_rng(seed)
    differences = rng.normal(size=(count, len(NAMES))) * 0.5
    weights = rng.normal(size=len(NAMES)) * 0.5
    return differences, differences @ weights + rng.normal(size=count) * 0.02


@pytest.mark.parametrize("seed", range(4))
def test_measurements_correct_the_order(seed: int) -> None:
    differences, ratios = law(seed)
    model = CostModel()
    before = spearman(list(model.predict(differences[30:])[0]), list(ratios[30:]))
    for difference, ratio in zip(differences[:30], ratios[:30], strict=True):
        model.learn(difference, float(ratio))
    after = spearman(list(model.predict(differences[30:])[0]), list(ratios[30:]))
    assert after > 0.9 and after > before


def test_what_was_measured_is_predicted_with_less_doubt() -> None:
    differences, ratios = law(0)
    model = CostModel()
    _, before = model.predict(differences)
    for difference, ratio in zip(differences, ratios, strict=True):
        model.learn(difference, float(ratio))
    _, after = model.predict(differences)
    assert (after < before).all() and (after > 0).all()


def test_before_any_measurement_the_order_of_the_space_counts() -> None:
    schedules = [Schedule(unroll=n) for n in (1, 2, 3)]
    analysis = Analysis(product(), RELAXED)
    same = [analysis.features(schedules[0], n, 3) for n in range(3)]
    mean, _ = CostModel().predict(np.array(same) - same[0])
    assert mean[0] < mean[1] < mean[2]


def test_a_later_visit_goes_on_from_what_was_learned() -> None:
    differences, ratios = law(1)
    model = CostModel()
    for difference, ratio in zip(differences, ratios, strict=True):
        model.learn(difference, float(ratio))
    again = CostModel.of(json.loads(json.dumps(model.record())))
    np.testing.assert_allclose(again.weights(), model.weights())
    assert again.count == model.count == len(ratios)


@pytest.mark.parametrize(
    "record",
    [{}, {"names": ["other"], "precision": [[1.0]], "moment": [1.0]}, {"names": list(NAMES), "moment": []}],
)
def test_a_record_of_other_features_is_of_no_use(record: dict) -> None:
    np.testing.assert_allclose(CostModel.of(record).weights(), CostModel().weights())


@pytest.mark.parametrize(("mean", "spread", "best"), [(0.0, 0.1, 0.0), (-0.2, 0.05, 0.0), (0.3, 0.2, -0.1)])
def test_the_expected_gain_is_that_of_many_draws(mean: float, spread: float, best: float) -> None:
    draws = np.random.default_rng(0).normal(mean, spread, 400_000)
    assert expected_gain(mean, spread, best) == pytest.approx(np.maximum(best - draws, 0).mean(), rel=0.05)


def test_rank_correlation() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [9, 7, 5, 1]) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert spearman([1, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman([1, 1], [1, 2]) == 0
