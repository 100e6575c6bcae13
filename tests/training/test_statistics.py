"""Statistics of few runs, against scipy, by brute force, and by how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import ttest_rel

from f110_fl.training.statistics import (
    LEVEL,
    bootstrap,
    interquartile_mean,
    judge,
    student,
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


def test_a_single_run_has_no_interval() -> None:
    found = bootstrap(np.array([0.5]), np.random.default_rng(0), np.zeros(1, np.int64))
    assert found.value == 0.5
    assert np.isnan([found.low, found.high]).all()
    assert judge(*map(float, found[1:])) == "indistinguishable"


def test_differences_are_those_of_the_paired_t_test() -> None:
    ours, theirs = RNG.normal(1.0, size=6), RNG.normal(size=6)
    found, known = student(ours - theirs), ttest_rel(ours, theirs)
    low, high = known.confidence_interval(LEVEL)
    np.testing.assert_allclose([found.low, found.high], [low, high])
    assert (judge(*map(float, found[1:])) != "indistinguishable") == (known.pvalue < 1 - LEVEL)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(1000):
        found = student(rng.normal(0.3, 1.0, 5))
        held += bool(found.low <= 0.3 <= found.high)
    assert held == pytest.approx(950, abs=30)
