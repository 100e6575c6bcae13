"""Statistics of few runs and of many episodes: estimates, and how far they can be trusted.

Those of runs are of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (NeurIPS 2021). All intervals are of 95 %.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Index = NDArray[np.int64]
Judgement = Literal["better", "worse", "indistinguishable"]

LEVEL: Final = 0.95  # of every interval
RESAMPLES: Final = 2000
Z_95: Final = 1.959964  # of a standard normal, two-sided 95 %


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


def resample(rng: np.random.Generator, strata: Index, count: int = RESAMPLES) -> Index:
    """Return (count, N) indices of samples drawn with replacement, within each stratum.

    Runs of different tasks do not stand in for each other (Agarwal et al. 2021, section 4.1;
    Efron 1979).

    Args:
        rng: Draws them.
        strata: (N,) each one's stratum, such as a run's task.
        count: Number of samples.
    """
    drawn = np.empty((count, len(strata)), np.int64)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        drawn[:, own] = rng.choice(own, (count, len(own)))
    return drawn


def percentiles(value: Float, samples: Float, tail: float = (1 - LEVEL) / 2) -> Estimate:
    """Return an estimate with the percentile interval of its bootstrap samples (R, ...).

    ``tail`` is the share of the samples that is left out at either end.
    """
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return Estimate(value, low, high)


def expanded_tail(strata: Index) -> float:
    """Return the ``tail`` for which percentiles are as wide as Student's interval of a mean.

    Those of a bootstrap are too narrow for few draws: within a stratum of n, they miss a factor of
    sqrt(n / (n - 1)) and the wider tails of Student's distribution (Hesterberg 2015, "What
    teachers should know about the bootstrap", section 5.3).

    Args:
        strata: (N,) as in `resample`; fewer strata than N.
    """
    from scipy.special import ndtr, stdtrit

    count, groups = len(strata), len(np.unique(strata))
    quantile = float(stdtrit(count - groups, (1 - LEVEL) / 2))
    return float(ndtr(quantile * np.sqrt(count / (count - groups))))


def bootstrap(values: Float, rng: np.random.Generator, strata: Index) -> Estimate:
    """Return the interquartile mean with its stratified percentile bootstrap interval.

    Args:
        values: (N, ...) of N independent runs, N at least 1. With one the interval is NaN.
        rng: Draws the samples.
        strata: (N,) each run's stratum; see `resample`.
    """
    if len(values) < 2:
        return _unbounded(interquartile_mean(values))
    means = interquartile_mean(values[resample(rng, strata)], axis=1)
    return percentiles(interquartile_mean(values), means)


def probability_of_improvement(
    ours: Mapping[str, Float], theirs: Mapping[str, Float], rng: np.random.Generator
) -> Estimate:
    """Return how likely a run of ours is better than one of theirs (Agarwal et al. 2021, 4.3).

    It is the mean over tasks of the share of pairs of runs that ours wins, of which a tie is half
    (Mann and Whitney's U over the number of pairs), with a bootstrap interval, for which runs are
    drawn anew within each task.

    Args:
        ours: By task, (N,) scores, the greater the better, N at least 1.
        theirs: By task, (M,); of the same tasks. With one run each on each task the interval is
            NaN.
        rng: Draws the samples.
    """
    value, samples, most = 0.0, np.zeros(RESAMPLES), 1
    for task, own in ours.items():
        other = theirs[task]
        wins = np.sign(own[:, None] - other[None, :]) / 2 + 0.5
        value += float(wins.mean()) / len(ours)
        rows, columns = (resample(rng, np.zeros(len(runs), np.int64)) for runs in (own, other))
        samples += wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2)) / len(ours)
        most = max(most, len(own), len(other))
    return percentiles(np.asarray(value), samples) if most > 1 else _unbounded(np.asarray(value))


def student(values: Float) -> Estimate:
    """Return the mean with Student's interval, for few independent values (Student 1908).

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


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate:
    """Return the mean of ours minus theirs over the seeds that both have, as the paired t-test.

    Args:
        ours: By seed.
        theirs: By seed; they share at least one. With one the interval is NaN.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    return student(np.array([ours[seed] - theirs[seed] for seed in seeds], np.float64))


def judge(low: float, high: float) -> Judgement:
    """Return what the interval of a difference allows to say; NaN allows nothing."""
    if low > 0.0:
        return "better"
    return "worse" if high < 0.0 else "indistinguishable"


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the confidence interval of a rate (Wilson 1927).

    It is scipy's ``binomtest(...).proportion_ci(method="wilson")``, which also computes a test and
    takes a thousand times as long.

    Args:
        successes: Number of successes.
        trials: Number of trials, at least 1.
    """
    rate, z2 = successes / trials, Z_95**2 / trials
    centre = (rate + z2 / 2) / (1 + z2)
    half = Z_95 / (1 + z2) * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def half_width(successes: int, trials: int) -> float:
    """Return half the width of Wilson's interval; 1 without trials."""
    if not trials:
        return 1.0
    low, high = wilson_interval(successes, trials)
    return (high - low) / 2


def trials_needed(rate: float, half: float) -> int:
    """Return the least number of trials whose Wilson interval has half this width, or less.

    Args:
        rate: The share of successes that is expected, 0 to 1.
        half: Largest half width, above 0.
    """
    # Squared, (1 + z2 / n)^2 half^2 = z2 (rate (1 - rate) / n + z2 / (4 n^2)) is quadratic in n.
    z2, variance = Z_95**2, rate * (1 - rate)
    b, c = z2 * (2 * half**2 - variance), z2**2 * (half**2 - 0.25)
    root = (-b + math.sqrt(max(b**2 - 4 * half**2 * c, 0.0))) / (2 * half**2)
    return max(1, math.ceil(root - 1e-9))


class Sequential(NamedTuple):
    """How a sequence of trials ended that was to go on until an interval is narrow enough."""

    trials: int
    half_width: float  # of the widest interval
    enough: bool  # whether it is narrow enough


def run_until(
    half: float, most: int, batch: int, run: Callable[[int, int], Mapping[str, int]]
) -> Sequential:
    """Run trials in batches until the Wilson interval of each of several rates is narrow enough.

    Whether to go on is decided between batches, each of which is run whole: otherwise trials that
    end early would count more.

    Args:
        half: Largest half width, above 0.
        most: Trials at most, at least 1.
        batch: Trials at a time, at least 1.
        run: Runs the trials from the first number to below the second, and returns the successes
            among them, by the name of a rate, always the same names.
    """
    total: Counter[str] = Counter()
    done, widest = 0, 1.0
    while done < most and widest > half:
        last = min(done + batch, most)
        total.update(run(done, last))
        done = last
        widest = max((half_width(count, done) for count in total.values()), default=0.0)
    return Sequential(done, widest, widest <= half)


def _unbounded(value: Float) -> Estimate:
    nothing = np.full_like(value, np.nan)
    return Estimate(value, nothing, nothing)
