"""Ratings, cycles and equilibria: by hand, and by leagues whose strengths are known."""

from __future__ import annotations

import numpy as np
import pytest
from choix import ilsr_rankings
from leagues import drawn_games, drawn_grids, elo_chance, game, placed
from scipy.optimize import minimize

from f110_fl.evaluation.plackett_luce import fit, orders_of
from f110_fl.evaluation.ratings import (
    PRIOR,
    Payoffs,
    cycles,
    nash_average,
    payoffs,
    ratings,
)

NAMES = ["a", "b", "c"]


def test_points_are_counted_by_start() -> None:
    found = payoffs(
        [
            game("a", "b", "a", "t", 0),
            game("b", "a", None, "t", 0),
            game("b", "a", "a", "u", 3),
            game("b", "a", "b", "u", 5),
            game("b", "a", "b", "t", 5),
            game("a", "z", "z", "u", 4),  # z takes no part
        ],
        ["a", "b"],
    )
    assert found.points[:, 0, 1].tolist() == [1.5, 0.0, 1.0, 0.0]
    assert found.points[:, 1, 0].tolist() == [0.5, 1.0, 0.0, 1.0]
    assert found.games[:, 0, 1].tolist() == [2.0, 1.0, 1.0, 1.0]
    assert found.strata.tolist() == [0, 0, 1, 1]
    assert found.shares.value[0, 1] == pytest.approx(2.5 / 5)


def test_two_entries_by_hand() -> None:
    games = [game("a", "b", "a", seed=k) for k in range(3)] + [game("a", "b", None, seed=3)]
    found = ratings(payoffs(games, ["a", "b"], samples=50), "b")
    odds = (3.5 + PRIOR) / (0.5 + PRIOR)
    assert found.value.tolist() == pytest.approx([1000 + 400 * np.log10(odds), 1000])
    assert found.low[1] == found.high[1] == 1000
    centred = ratings(payoffs(games, ["a", "b"], samples=50), None).value
    assert centred.mean() == pytest.approx(1000)
    assert centred[0] - centred[1] == pytest.approx(400 * np.log10(odds))


def test_strengths_are_those_of_exact_payoffs() -> None:
    true = np.array([1000.0, 1250.0, 700.0, 1100.0])
    chance = elo_chance(list(true))
    points = np.array([[[0 if i == j else 1e6 * chance(i, j) for j in range(4)] for i in range(4)]])
    points = np.repeat(points, 2, axis=0)
    orders = orders_of([((0, 1), (1, 2))], 2)  # of two cars each
    starts = np.zeros(2, np.int64)
    games = 1e6 * (points > 0)
    found = Payoffs(tuple("abcd"), points, games, starts, orders, starts, samples=10)
    assert ratings(found, "a").value == pytest.approx(true, abs=0.1)


@pytest.mark.parametrize("draws", [0.0, 0.5])
def test_intervals_hold_the_true_ratings(draws: float) -> None:
    rng, held = np.random.default_rng(6), []
    for number in range(15):
        true = np.array([1000.0, *rng.normal(1000, 200, 2)])
        games = drawn_games(NAMES, elo_chance(list(true)), rng, 15, draws)
        found = ratings(payoffs(games, NAMES, number, 200), "a")
        held += ((found.low <= true) & (true <= found.high))[1:].tolist()
    assert len(held) == 30
    assert sum(held) >= 26  # 95 %: 25 or fewer once in 60 times


def test_orders_are_rated_as_choix_does() -> None:
    rng = np.random.default_rng(3)
    ranked = [rng.permutation(6)[:4] for _ in range(60)]
    orders = orders_of([(own, (1, 2, 3, 4)) for own in ranked], 4)
    found = fit(orders, orders.weights, np.zeros((6, 6)))
    assert found == pytest.approx(ilsr_rankings(6, [own.tolist() for own in ranked]), abs=1e-5)
    twice = [own.tolist() for own in (*ranked, *ranked[:20])]
    weights = np.where(np.arange(60) < 20, 2.0, 1.0)
    found = fit(orders, weights, np.zeros((6, 6)), found)
    assert found == pytest.approx(ilsr_rankings(6, twice), abs=1e-5)


def test_strengths_of_level_cars_are_the_likeliest() -> None:
    """By maximising the likelihood itself, which choix has no ties for."""
    games = [((0, 1, 2), (1, 1, 3)), ((2, 0, 3), (1, 2, 2)), ((3, 1, 0), (1, 1, 1)),
             ((1, 2, 3), (2, 1, 3)), ((3, 0, 1), (2, 1, 3))]  # fmt: skip
    orders, met = orders_of(games, 3), np.full((4, 4), PRIOR) * (1 - np.eye(4))
    assert orders.weights.tolist() == [0.5] * 4 + [1 / 6] * 6 + [1.0, 1.0]

    def cost(x: np.ndarray) -> float:
        total = 0.0
        for own, weight in zip(orders.cars, orders.weights, strict=True):
            for k in range(2):
                total -= weight * (x[own[k]] - np.log(np.exp(x[own[k:]]).sum()))
        for i, j in np.argwhere(met):
            total -= met[i, j] * (x[i] - np.logaddexp(x[i], x[j]))
        return float(total)

    best = minimize(cost, np.zeros(4), tol=1e-12).x
    assert fit(orders, orders.weights, met) == pytest.approx(best - best.mean(), abs=1e-4)


def test_a_grid_of_two_is_a_pair() -> None:
    games = drawn_games(NAMES, elo_chance([1000, 1200, 900]), np.random.default_rng(8), 6, 0.4)
    found = payoffs(games, NAMES, samples=20)
    orders = found.orders
    strengths = fit(orders, orders.weights, PRIOR * (found.games.sum(axis=0) > 0))
    assert 1000 + 400 / np.log(10) * strengths == pytest.approx(
        ratings(found, None).value, abs=0.01
    )


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_intervals_hold_the_true_ratings_of_grids(level: float) -> None:
    rng, held, off = np.random.default_rng(6), [], []
    for number in range(10):
        true = np.array([1000.0, *rng.normal(1000, 150, 3)])
        games = drawn_grids([*NAMES, "d"], true, rng, 5, 3, level)
        found = ratings(payoffs(games, [*NAMES, "d"], number, 100), "a")
        held += ((found.low <= true) & (true <= found.high))[1:].tolist()
        off += (found.value - true)[1:].tolist()
    assert sum(held) >= 25  # of 30; 95 %: 24 or fewer once in 300 times
    assert abs(np.mean(off)) < 30


def test_points_of_a_grid() -> None:
    games = [placed("abc", (2, 1, 2), seed=0), placed("cab", (3, 1, 2), seed=1)]
    found = payoffs(games, NAMES, samples=10)
    assert found.points[:, 0, 1].tolist() == [0.0, 1.0]  # a against b
    assert found.points[:, 2, 0].tolist() == [0.5, 0.0]  # c against a
    assert found.games.sum() == 2 * 6


def test_who_won_everything_has_a_rating() -> None:
    games = [game(*pair, "a", seed=k) for k in range(5) for pair in (("a", "b"), ("a", "c"))]
    games += [game("b", "c", None, seed=k) for k in range(5)]
    found = ratings(payoffs(games, NAMES, samples=50), None)
    assert np.isfinite(found.value).all()
    assert found.value[0] > found.value[1] == pytest.approx(found.value[2])


def test_the_order_of_games_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    games = drawn_games(NAMES, elo_chance([1000, 1100, 900]), rng, 4, 0.3)
    shuffled = [games[k] for k in rng.permutation(len(games))]
    one, other = (payoffs(found, NAMES, 5, 100) for found in (games, shuffled))
    for ours, theirs in zip(ratings(one, "a"), ratings(other, "a"), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert cycles(one) == cycles(other)


def test_a_planted_cycle_is_reported() -> None:
    beats = {(0, 1): 0.9, (1, 2): 0.8, (2, 0): 0.85}

    def chance(i: int, j: int) -> float:
        if 3 in (i, j):
            return 0.99 if j == 3 else 0.01
        return beats.get((i, j), 1 - beats.get((j, i), 0.0))

    games = drawn_games([*NAMES, "d"], chance, np.random.default_rng(2), 20)
    (found,) = cycles(payoffs(games, [*NAMES, "d"]))
    assert found.entries == ("a", "b", "c")
    assert found.sure
    assert found.least == pytest.approx(0.8, abs=0.1)
    level = drawn_games(NAMES, lambda *_: 0.5, np.random.default_rng(2), 3)
    assert not any(cycle.sure for cycle in cycles(payoffs(level, NAMES)))
    ranked = drawn_games(NAMES, elo_chance([1400, 1000, 600]), np.random.default_rng(2), 10)
    assert cycles(payoffs(ranked, NAMES)) == []
    open_end = [game("a", "b", "a", seed=k) for k in range(4)]
    open_end += [game("b", "c", "b", seed=k) for k in range(4)]  # c and a never met
    assert cycles(payoffs(open_end, NAMES)) == []


def test_equilibria_by_hand() -> None:
    game_of_three = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
    assert nash_average(game_of_three).shares == pytest.approx([1 / 3] * 3)
    # Who beats everybody is the equilibrium; what others earn against it is their score.
    found = nash_average(np.array([[np.nan, 0.9, 0.7], [0.1, np.nan, 0.9], [0.3, 0.1, np.nan]]))
    assert found.shares == pytest.approx([1, 0, 0], abs=1e-6)
    assert found.scores == pytest.approx([0, -0.4, -0.2], abs=1e-6)
    # Wins by w and by 2 w and 3 w: each is chosen in proportion to the win that it has no part in.
    skewed = 0.5 + np.array([[0.0, 0.1, -0.2], [-0.1, 0.0, 0.3], [0.2, -0.3, 0.0]])
    assert nash_average(skewed).shares == pytest.approx([1 / 2, 1 / 3, 1 / 6], abs=1e-6)


def test_a_copy_changes_no_score() -> None:
    share = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])
    rows = [0, 1, 2, 2]
    alone, copied = nash_average(share), nash_average(share[np.ix_(rows, rows)])
    assert copied.scores == pytest.approx(alone.scores[rows], abs=1e-6)
    assert copied.shares[2:] == pytest.approx([alone.shares[2] / 2] * 2, abs=1e-4)
