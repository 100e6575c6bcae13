"""Statistics of few runs: interquartile means, bootstrap intervals, paired differences.

They are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (NeurIPS 2021).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Judgement = Literal["better", "worse", "indistinguishable"]

LEVEL: Final = 0.95  # of every interval
RESAMPLES: Final = 2000


class Estimate(NamedTuple):
    """Estimates, (...) each, and their 95 % intervals; NaN where there is nothing to estimate."""

    value: Float
    low: Float
    high: Float


def interquartile_mean(values: Float, axis: int = 0) -> Float:
    """Return the mean of the middle half of values (Agarwal et al. 2021, section 4.3).

    A quarter of the N values, rounded down, is left out at either end: with fewer than four it is
    the mean.

    Args:
        values: (..., N, ...) along ``axis``, N at least 1.
        axis: The axis that disappears.
    """
    from scipy.stats import trim_mean

    found: Float = np.asarray(trim_mean(values, 0.25, axis=axis))
    return found


def bootstrap(values: Float, rng: np.random.Generator, strata: NDArray[np.int64]) -> Estimate:
    """Return the interquartile mean with its stratified percentile bootstrap interval.

    Runs are drawn anew with replacement within each stratum (Agarwal et al. 2021, section 4.1;
    Efron 1979): runs of different tasks do not stand in for each other.

    Args:
        values: (N, ...) of N independent runs, N at least 1. With one the interval is NaN.
        rng: Draws the samples.
        strata: (N,) each run's stratum, such as its task.
    """
    if len(values) < 2:
        return _unbounded(interquartile_mean(values))
    drawn = np.empty((RESAMPLES, len(values)), np.int64)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        drawn[:, own] = rng.choice(own, (RESAMPLES, len(own)))
    means = interquartile_mean(values[drawn], axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Estimate(interquartile_mean(values), low, high)


def student(values: Float) -> Estimate:
    """Return the mean with Student's interval, for few independent values (Student 1908).

    Of differences of pairs, such as two methods' with the same seed, it is that of the paired test.
    It fits the few seeds that one can afford, for which percentiles of a bootstrap are too narrow.

    Args:
        values: (N,) N at least 1. The interval of a single one is NaN.
    """
    from scipy.special import stdtrit

    mean, count = values.mean(), len(values)
    if count < 2:
        return _unbounded(mean)
    quantile = float(stdtrit(count - 1, (1 + LEVEL) / 2))
    half = quantile * values.std(ddof=1) / np.sqrt(count)
    return Estimate(mean, mean - half, mean + half)


def judge(low: float, high: float) -> Judgement:
    """Return what the interval of a difference allows to say; NaN allows nothing."""
    if low > 0.0:
        return "better"
    return "worse" if high < 0.0 else "indistinguishable"


def _unbounded(value: Float) -> Estimate:
    nothing = np.full_like(value, np.nan)
    return Estimate(value, nothing, nothing)
