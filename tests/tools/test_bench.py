"""The bench prints a number only for what was verified, and its ceilings are of kernels that do what they are counted for."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bench import ceilings, curve, headline, kernels
from bench.cases import Case, NoCase, whole_model
from bench.engines import Chromium
from bench.match import OURS, UNTUNED, Arena, Match, Result
from bench.rivals import rival
from bench.rows import MODEL_COLUMNS, geometric_mean, line, make_row
from bench.verify import Wrong, error
from models.reference import Reference
from unit.wasm_engine import run_kernel

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from nnjit_build.server import SiteServer

WANTED = np.array([[1.0, 2.0, np.nan]], np.float32)
EXPECTED = Reference({}, {"y": WANTED}, {"y": 0.5})
CASE = Case("tiny", Path("tiny.onnx"), EXPECTED)
ORT = rival("ort-web", "wasm")
assert ORT is not None


def answer(array: np.ndarray) -> dict:
    text = base64.b64encode(array.tobytes()).decode()
    return {"y": {"base64": text, "dims": list(array.shape), "type": array.dtype.name}}


def result(ms: float, problem: str | None = None) -> Result:
    facts = {"peakBytes": 1, "tasks": [], "kernels": []}
    return Result(problem, ms, ms, ms, [ms, 3 * ms, ms], device=[ms], facts=facts)


def test_the_error_is_relative_to_the_tolerance() -> None:
    assert error(answer(WANTED + np.float32(0.25)), EXPECTED).of_tolerance == 0.5


def test_the_relative_error_is_relative_to_the_root_mean_square() -> None:
    found = error(answer(WANTED + np.float32(0.25)), EXPECTED)
    assert found.relative == pytest.approx(0.25 / np.sqrt((1 + 4) / 2))


@pytest.mark.parametrize(
    "found",
    [
        WANTED + np.float32(1),
        np.zeros_like(WANTED),
        np.array([[1, np.nan, np.nan]], np.float32),
        np.array([[1, np.inf, np.nan]], np.float32),
        WANTED.astype(np.float64),
        WANTED.T.copy(),
    ],
    ids=["far off", "number for NaN", "NaN for a number", "infinity for a number", "dtype", "shape"],
)
def test_a_wrong_answer_is_refused(found: np.ndarray) -> None:
    with pytest.raises(Wrong):
        error(answer(found), EXPECTED)


def test_a_missing_output_is_refused() -> None:
    with pytest.raises(Wrong, match="missing"):
        error({}, EXPECTED)


def test_the_ratio_is_the_rivals_median_over_ours() -> None:
    assert make_row(CASE, ORT, {OURS: result(2), "ort-web": result(3)})["ratio"] == 1.5


@pytest.mark.parametrize("wrong", [OURS, "ort-web"])
def test_a_row_with_a_wrong_contestant_has_no_number(wrong: str) -> None:
    results = {OURS: result(2), "ort-web": result(3)}
    results[wrong].problem = "the output y is off"
    row = make_row(CASE, ORT, results)
    assert row["status"] == "failed" and "the output y is off" in row["reason"]
    assert not [value for value in row.values() if isinstance(value, (int, float))]
    assert "FAILED" in line(MODEL_COLUMNS, row, 8)


def test_the_geometric_mean_is_of_the_rows_that_were_measured() -> None:
    rows = [{"status": "ok", "ratio": 1.0}, {"status": "failed"}, {"status": "ok", "ratio": 4.0}]
    assert geometric_mean(rows) == pytest.approx(2.0)


def test_an_unknown_dimension_is_refused_by_name() -> None:
    with pytest.raises(NoCase, match="depth"):
        whole_model("magika@depth=3")


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(NoCase, match="no-such-model"):
        whole_model("no-such-model")


@pytest.mark.parametrize("chains", ceilings.CHAINS)
def test_every_chain_of_the_arithmetic_ceiling_does_the_counted_work(chains: int) -> None:
    kernel = ceilings.chains_kernel(chains)
    arrays = {"in": np.full(12, 0.5, np.float32), "out": np.empty(4 * chains, np.float32)}
    out = run_kernel(kernel, arrays, {"tasks": 1})["out"]
    assert (out == 0.25 * ceilings.flops(chains) / (chains * 4 * 2)).all()


def test_a_match_measures_right_answers_and_refuses_wrong_ones(site: SiteServer, browser: Browser) -> None:
    (case,) = kernels.kernel_cases(["softmax-3x197x197"])
    arena = Arena(Chromium(browser), site, [], "wasm", 1)
    try:
        right = Match(arena, case).play(repeat=2, tune_seconds=0)[OURS]
        other = {name: array + 1 for name, array in case.expected.outputs.items()}
        wrong_case = replace(case, expected=replace(case.expected, outputs=other))
        wrong = Match(arena, wrong_case).play(repeat=2, tune_seconds=0)[OURS]
    finally:
        arena.close()
    assert right.problem is None and len(right.samples) == 2 and right.error.of_tolerance <= 1
    assert wrong.problem is not None and not wrong.samples


def test_the_gain_over_the_default_is_that_of_one_match() -> None:
    row = make_row(CASE, ORT, {OURS: result(4), UNTUNED: result(5), "ort-web": result(8)})
    assert (row["our_untuned_ms"], row["our_tuned_ms"], row["gain"], row["ratio"]) == (5.0, 4.0, 1.25, 2.0)


def test_the_headline_names_the_best_case_of_each_peer() -> None:
    def row(model: str, rival: str, ratio: float, operator: bool = False) -> dict:
        facts = {"status": "ok", "gain": 1.5, "operator": operator}
        return {"model": model, "rival": rival, "ratio": ratio} | facts

    rows = [row("a", "x", 2), row("b", "x", 8), row("a", "y", 3), row("k", "x", 5, True)]
    lines = headline.summary([*rows, {"model": "c", "rival": "x", "status": "failed"}], 30)
    assert lines[0] == "models: up to 8.00× faster than x within 30 s (b), geometric mean of 2: 4.00×"
    assert [line.split(" within")[0] for line in lines[1:]] == [
        "models: up to 3.00× faster than y",
        "models: up to 1.50× faster than our default",
        "operators: up to 5.00× faster than x",
        "operators: up to 1.50× faster than our default",
    ]


def checkpoint(at: float, own: list[float], untuned: list[float]) -> dict[str, Any]:
    return {"at": at, "own": own, "untuned": untuned, "tuning": [1.2 * own[0]], "alone": own}


def test_the_curve_ends_where_tuning_has_gained_what_it_gains_however_the_machine_drifts() -> None:
    slower_machine = [20.0, 20.0, 20.0]
    points = [
        checkpoint(2.0, [10.0, 10.0], [10.0, 10.0]),
        checkpoint(4.0, [10.2, 10.2, 30.0], slower_machine),
        checkpoint(7.0, [5.0, 5.0], [10.0, 10.0]),
    ]
    assert curve.seconds_to_final(points) == 4.0
    assert curve.seconds_to_final(points[:1]) == 0.0


def test_the_disturbance_compares_what_was_right_before_and_after_a_pause() -> None:
    assert curve.disturbance([checkpoint(2.0, [10.0], [10.0])]) == pytest.approx(1.2)
