"""Statistics of few runs, against scipy, by brute force, and by how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import binomtest, mannwhitneyu, ttest_rel
from scipy.stats import bootstrap as scipy_bootstrap

from f110_fl.evaluation.statistics import (
    LEVEL,
    bootstrap,
    expanded_tail,
    half_width,
    interquartile_mean,
    judge,
    paired_difference,
    percentiles,
    probability_of_improvement,
    resample,
    run_until,
    student,
    trials_needed,
    wilson_interval,
)

RNG = np.random.default_rng(3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
@examples(50)
def test_the_interquartile_mean_is_that_of_the_middle_half(values: list[float]) -> None:
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    assert interquartile_mean(np.array(values)) == pytest.approx(np.mean(middle), abs=1e-9)


def test_an_outlier_does_not_move_it() -> None:
    assert interquartile_mean(np.array([1.0, 2.0, 3.0, 1e9])) == pytest.approx(2.5)


def test_the_interval_is_scipys() -> None:
    values = RNG.normal(size=12)
    ours = bootstrap(values, np.random.default_rng(0), np.zeros(12, np.int64))
    theirs = scipy_bootstrap(
        (values,), interquartile_mean, n_resamples=9999, method="percentile", rng=1, axis=0
    ).confidence_interval
    spread = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * spread)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * spread)


def test_runs_of_one_stratum_do_not_stand_in_for_those_of_another() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    apart = bootstrap(values, np.random.default_rng(0), np.array([0, 0, 0, 1, 1, 1]))
    mixed = bootstrap(values, np.random.default_rng(0), np.zeros(6, np.int64))
    assert apart.low == apart.high == apart.value == pytest.approx(0.5)
    assert mixed.low < 0.3
    assert mixed.high > 0.7


def test_whole_curves_are_drawn_together() -> None:
    curves = np.array([[0.0, 5.0], [1.0, 6.0], [2.0, 7.0], [3.0, 8.0], [9.0, 14.0]])
    found = bootstrap(curves, np.random.default_rng(0), np.zeros(5, np.int64))
    np.testing.assert_allclose(found.value, [2.0, 7.0])
    np.testing.assert_allclose(found.high - found.low, [found.high[0] - found.low[0]] * 2)


def test_expanded_percentiles_of_a_mean_are_students() -> None:
    values = RNG.normal(size=8)
    strata = np.zeros(8, np.int64)
    rows = resample(np.random.default_rng(0), strata, 20_000)
    found = percentiles(values.mean(), values[rows].mean(axis=1), expanded_tail(strata))
    known = student(values)
    width = known.high - known.low
    assert found.high - found.low == pytest.approx(width, rel=0.05)
    assert found.low == pytest.approx(known.low, abs=0.05 * width)


def test_a_single_run_has_no_interval() -> None:
    found = bootstrap(np.array([0.5]), np.random.default_rng(0), np.zeros(1, np.int64))
    assert found.value == 0.5
    assert np.isnan([found.low, found.high]).all()
    assert judge(*map(float, found[1:])) == "indistinguishable"


def test_differences_are_those_of_the_paired_t_test() -> None:
    ours, theirs = RNG.normal(1.0, size=6), RNG.normal(size=6)
    others = {**dict(enumerate(theirs)), 7: 99.0}  # a seed that only one of them has
    found, known = paired_difference(dict(enumerate(ours)), others), ttest_rel(ours, theirs)
    low, high = known.confidence_interval(LEVEL)
    np.testing.assert_allclose([found.low, found.high], [low, high])
    assert (judge(*map(float, found[1:])) != "indistinguishable") == (known.pvalue < 1 - LEVEL)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(1000):
        found = student(rng.normal(0.3, 1.0, 5))
        held += bool(found.low <= 0.3 <= found.high)
    assert held == pytest.approx(950, abs=30)


def test_wilsons_interval_is_scipys() -> None:
    for successes, trials in ((0, 1), (0, 30), (7, 30), (30, 30), (150, 1000)):
        theirs = binomtest(successes, trials).proportion_ci(LEVEL, "wilson")
        assert wilson_interval(successes, trials) == pytest.approx(tuple(theirs), abs=1e-7)


def test_rates_are_held_as_often_as_their_intervals_say() -> None:
    rng = np.random.default_rng(2)
    rates = rng.uniform(0.02, 0.98, 1000)
    drawn = [(int(rng.binomial(60, rate)), rate) for rate in rates]
    held = sum(low <= p <= high for k, p in drawn for low, high in [wilson_interval(k, 60)])
    assert 935 <= held <= 965


def test_the_probability_of_improvement_is_mann_and_whitneys() -> None:
    ours = {"a": RNG.normal(0.5, 1, 7), "b": np.array([1.0, 2.0, 2.0])}
    theirs = {"a": RNG.normal(size=5), "b": np.array([2.0, 2.0, 0.0, 3.0])}
    known = [
        mannwhitneyu(ours[task], theirs[task]).statistic / (len(ours[task]) * len(theirs[task]))
        for task in ours
    ]
    found = probability_of_improvement(ours, theirs, np.random.default_rng(0))
    back = probability_of_improvement(theirs, ours, np.random.default_rng(0))
    assert found.value == pytest.approx(np.mean(known))
    assert found.value + back.value == pytest.approx(1.0)
    assert 0 <= found.low < found.value < found.high <= 1
    same = {"a": np.ones(1)}
    assert np.isnan(probability_of_improvement(same, same, np.random.default_rng(0)).low)


@pytest.mark.parametrize("half", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("rate", [0.0, 0.03, 0.5, 1.0])
def test_so_many_trials_are_needed_and_no_fewer(rate: float, half: float) -> None:
    def width(trials: int) -> float:
        low, high = wilson_interval(rate * trials, trials)  # type: ignore[arg-type]
        return (high - low) / 2

    found = trials_needed(rate, half)
    assert width(found) <= half + 1e-9
    assert found == 1 or width(found - 1) > half - 1e-9


def test_trials_go_on_until_every_interval_is_narrow() -> None:
    batches = []

    def run(first: int, last: int) -> dict[str, int]:
        batches.append((first, last))
        return {"sure": last - first, "doubtful": (last - first) // 2}

    stopped = run_until(0.08, 1000, 40, run)
    assert batches == [(0, 40), (40, 80), (80, 120), (120, 160)]
    assert stopped == (160, half_width(80, 160), True)
    assert half_width(60, 120) > 0.08 >= stopped.half_width
    assert run_until(0.08, 90, 40, run)[::2] == (90, False)
    assert batches[-1] == (80, 90)


def test_intervals_at_which_one_stops_still_hold_the_rate() -> None:
    rng, held = np.random.default_rng(4), 0
    for rate in rng.uniform(0.02, 0.98, 1000):
        total = 0

        def run(first: int, last: int, rate: float = rate) -> dict[str, int]:
            nonlocal total
            drawn = int(rng.binomial(last - first, rate))
            total += drawn
            return {"": drawn}

        stopped = run_until(0.05, 10_000, 64, run)
        low, high = wilson_interval(total, stopped.trials)
        held += low <= rate <= high
    assert held >= 930
