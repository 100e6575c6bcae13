"""What the games of a league say: rates, payoffs, ratings, cycles, and an equilibrium.

Intervals of payoffs and ratings are bootstrapped over starts, which all grids share: a start is
drawn anew with all its games, within its track. There must be at least two starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.evaluation.games import Game
from f110_fl.evaluation.plackett_luce import Orders, fit, orders_of
from f110_fl.evaluation.statistics import Estimate, expanded_tail, percentiles, resample
from f110_fl.seeding import Use, stream

Float = NDArray[np.float64]

ELO: Final = 400.0 / math.log(10.0)  # points of Elo's scale for odds of e
ANCHORED: Final = 1000.0  # rating of the anchor
PRIOR: Final = 0.5  # of a win for either of each pair that met: all ratings stay finite
SAMPLES: Final = 1000  # of the bootstrap
_FLAT: Final = 1e-9  # payoffs, and shares of an equilibrium, that count as none


class Cycle(NamedTuple):
    """Entries of which each beats the next, and the last the first, on average.

    ``least`` is the smallest share of points among these, above 1/2; ``sure`` says whether the
    interval of each is above 1/2.
    """

    entries: tuple[str, ...]
    least: float
    sure: bool


@dataclass(frozen=True)
class Payoffs:
    """Points of N entries against each other: 1 for coming in first, 1/2 for being level.

    Attributes:
        names: (N,) the entries.
        points: (S, N, N) of the first index against the second, from each start.
        games: (S, N, N) how many they are from.
        strata: (S,) each start's track; all the same, if a track has a single start.
        orders: In which entries came in.
        starts: (M,) the start of each of the orders.
        seed: Of the bootstrap.
        samples: Of the bootstrap, B.
    """

    names: tuple[str, ...]
    points: Float
    games: Float
    strata: NDArray[np.int64]
    orders: Orders
    starts: NDArray[np.int64]
    seed: int = 0
    samples: int = SAMPLES

    @cached_property
    def weights(self) -> Float:
        """(B, S) how often each of the bootstrap's samples has each start."""
        rng = np.random.default_rng(stream(self.seed, Use.LEAGUE_SAMPLES))
        drawn = resample(rng, self.strata, self.samples)
        count = len(self.strata)
        return np.array([np.bincount(row, minlength=count) for row in drawn], np.float64)

    @cached_property
    def sampled(self) -> tuple[Float, Float]:
        """(B, N, N) points and games of the bootstrap's samples."""
        return tuple(np.tensordot(self.weights, of, axes=1) for of in (self.points, self.games))  # type: ignore[return-value]

    @cached_property
    def shares(self) -> Estimate:
        """(N, N) points a game; NaN for those who never met."""
        value = _share(self.points.sum(axis=0), self.games.sum(axis=0))
        return percentiles(value, _share(*self.sampled), expanded_tail(self.strata))


def payoffs(
    games: Sequence[Game], names: Sequence[str], seed: int = 0, samples: int = SAMPLES
) -> Payoffs:
    """Return the points of a league's entries; the order of the games changes nothing.

    Args:
        games: The games, at least one, of equally many cars.
        names: The entries; games of others do not count.
        seed: Of the bootstrap.
        samples: Of the bootstrap.
    """
    index = {name: number for number, name in enumerate(names)}
    own = [game for game in games if all(entry in index for entry in game.entries)]
    starts = {key: s for s, key in enumerate(sorted({game.start for game in own}))}
    tracks = sorted({track for track, _ in starts})
    points, counts = np.zeros((2, len(starts), len(names), len(names)))
    own.sort(key=lambda game: (starts[game.start], game.entries))
    for game in own:
        s = starts[game.start]
        for one, other in combinations(game.entries, 2):
            i, j, won = index[one], index[other], game.points(one, other)
            points[s, i, j] += won
            points[s, j, i] += 1.0 - won
            counts[s, i, j] += 1.0
            counts[s, j, i] += 1.0
    placed = [([index[entry] for entry in game.entries], game.places) for game in own]
    orders = orders_of(placed, len(own[0].entries))
    started = np.array([starts[game.start] for game in own], np.int64)[orders.games]
    strata = np.array([tracks.index(track) for track, _ in starts], np.int64)
    if np.bincount(strata).min() < 2:
        strata[:] = 0
    return Payoffs(tuple(names), points, counts, strata, orders, started, seed, samples)


def ratings(payoff: Payoffs, anchor: str | None) -> Estimate:
    """Fit Plackett and Luce's model to the orders, and return its strengths on Elo's scale.

    Of two cars it is Bradley and Terry's (1952). An entry rated 400 points higher has odds of 10 to
    1 to come in first of the two. Cars that are level count half for either order, as a draw in
    chess. Each pair that met has one more draw, without which an entry that has won all its games
    would be rated infinitely high; it moves ratings towards each other, the less the more games
    there are.

    Args:
        payoff: Of the games.
        anchor: The entry rated 1000, whose interval has no width; None: the mean of all is 1000.

    Returns:
        (N,) ratings with intervals.
    """
    orders = payoff.orders
    if orders.cars.shape[1] == 2:
        value = _bradley_terry(payoff.points.sum(axis=0), payoff.games.sum(axis=0))
        pairs = zip(*payoff.sampled, strict=True)
        samples = np.array([_bradley_terry(*own, value) for own in pairs])
    else:
        met = PRIOR * (payoff.games.sum(axis=0) > 0)
        value = fit(orders, orders.weights, met)
        counted = (orders.weights * drawn[payoff.starts] for drawn in payoff.weights)
        samples = np.array([fit(orders, own, met, value) for own in counted])

    def scaled(strengths: Float) -> Float:
        if anchor is None:
            zero = strengths.mean(axis=-1, keepdims=True)
        else:
            zero = strengths[..., [payoff.names.index(anchor)]]
        return np.asarray(ANCHORED + ELO * (strengths - zero), np.float64)

    return percentiles(scaled(value), scaled(samples), expanded_tail(payoff.strata))


def _bradley_terry(points: Float, games: Float, start: Float | None = None) -> Float:
    """Return the strengths of (N, N) points in so many games."""
    from choix import ilsr_pairwise_dense

    wins = points + PRIOR * (games > 0)
    found = ilsr_pairwise_dense(wins, initial_params=start, max_iter=10_000, tol=1e-6)
    return np.asarray(found, np.float64)


def cycles(payoff: Payoffs) -> list[Cycle]:
    """Return all cycles of three, those that are sure first, then the clearest."""
    value, low = payoff.shares.value, payoff.shares.low
    found = []
    for three in combinations(range(len(payoff.names)), 3):
        for i, j, k in (three, three[::-1]):
            edges = ((i, j), (j, k), (k, i))
            least = float(np.min([value[edge] for edge in edges]))  # NaN: two never met
            if least > 0.5:
                sure = all(low[edge] > 0.5 for edge in edges)
                entries = tuple(payoff.names[n] for n in (i, j, k))
                found.append(Cycle(entries, least, bool(sure)))
    return sorted(found, key=lambda cycle: (not cycle.sure, -cycle.least, cycle.entries))


class Equilibrium(NamedTuple):
    """An equilibrium of the game in which two players each choose an entry to race for them.

    ``shares`` (N,) how often a player of the equilibrium chooses each entry; ``scores`` (N,) what
    each entry earns against such a player, points a game less 1/2: 0 for those that are chosen,
    at most 0 for others.
    """

    shares: Float
    scores: Float


def nash_average(share: Float) -> Equilibrium:
    """Return the equilibrium of the largest entropy (Balduzzi et al. 2018).

    Their "Re-evaluating evaluation" (NeurIPS 2018) calls it the Nash average. Copies of an entry
    change no other's score, nor do many weak entries that one beats, both of which move ratings.

    Args:
        share: (N, N) points a game, of which the diagonal does not matter; NaN counts as 1/2.
    """
    from scipy.optimize import LinearConstraint, linprog, minimize

    payoff = np.nan_to_num(share, nan=0.5) - 0.5
    payoff = (payoff - payoff.T) / 2
    count = len(payoff)
    # Of a symmetric game of value 0: no entry earns more than 0 against the equilibrium.
    corners = [
        linprog(-row, A_ub=payoff, b_ub=np.full(count, _FLAT), A_eq=np.ones((1, count)), b_eq=[1.0])
        for row in np.eye(count)
    ]  # each entry's largest share in any equilibrium
    middle = np.mean([corner.x for corner in corners], axis=0)
    used = np.flatnonzero(np.array([-corner.fun for corner in corners]) > 1e-6)
    shares = np.zeros(count)
    shares[used] = middle[used] / middle[used].sum()
    if len(used) > 1:
        own = payoff[:, used]
        found = minimize(
            lambda p: float(np.sum(p * np.log(np.maximum(p, 1e-12)))),
            shares[used],
            jac=lambda p: np.log(np.maximum(p, 1e-12)) + 1.0,
            method="SLSQP",
            bounds=[(0.0, 1.0)] * len(used),
            constraints=[
                LinearConstraint(np.ones((1, len(used))), 1.0, 1.0),
                LinearConstraint(own, -np.inf, _FLAT),
            ],
            options={"ftol": 1e-12, "maxiter": 1000},
        )
        best = np.clip(found.x, 0.0, None)
        if found.success and np.max(own @ (best / best.sum())) < 1e-6:
            shares[used] = best / best.sum()
    return Equilibrium(shares, payoff @ shares)


def _share(points: Float, games: Float) -> Float:
    with np.errstate(invalid="ignore"):
        found: Float = points / np.where(games > 0, games, np.nan)
    return found
