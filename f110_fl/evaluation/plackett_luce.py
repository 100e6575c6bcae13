"""Plackett and Luce's model of finishing orders, fitted to many weighted samples of the same games.

The strength of a car decides how likely it is to come in next among those that are not in yet
(Luce 1959, Plackett 1975); of two cars this is Bradley and Terry's model. The fit is by Luce
spectral ranking (Maystre and Grossglauser 2015, "Fast and accurate inference of Plackett-Luce
models", algorithm 2), as `choix.ilsr_rankings`, which knows no weights and takes a hundred times as
long: a bootstrap needs both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float64]
Index = NDArray[np.int64]

_MOST: Final = 10_000  # iterations
_CLOSE: Final = 1e-6  # sum of the changes of all strengths that ends them


class Orders(NamedTuple):
    """Finishing orders without ties; a game with level cars is several of them.

    ``cars`` (M, C) entries, the first to come in first; ``weights`` (M,) their sum is 1 for each
    game; ``games`` (M,) which game each is of.
    """

    cars: Index
    weights: Float
    games: Index


def orders_of(games: Sequence[tuple[Sequence[int], Sequence[int]]], cars: int) -> Orders:
    """Return the finishing orders of games.

    Cars that are level came in in each order, equally often.

    Args:
        games: Entries and places of each game's cars.
        cars: C of them.
    """
    rows: list[tuple[int, ...]] = []
    weights: list[float] = []
    numbers: list[int] = []
    for number, (entries, places) in enumerate(games):
        own = list(_untied(entries, places))
        rows += own
        weights += [1.0 / len(own)] * len(own)
        numbers += [number] * len(own)
    found = np.array(rows, np.int64).reshape(-1, cars)
    return Orders(found, np.array(weights), np.array(numbers, np.int64))


def _untied(entries: Sequence[int], places: Sequence[int]) -> Iterator[tuple[int, ...]]:
    level = [
        [entry for entry, own in zip(entries, places, strict=True) if own == place]
        for place in sorted(set(places))
    ]
    for parts in product(*(permutations(rank) for rank in level)):
        yield tuple(entry for part in parts for entry in part)


def fit(orders: Orders, weights: Float, pairs: Float, start: Float | None = None) -> Float:
    """Return the strengths of N entries, the logarithms of their odds; their mean is 0.

    Args:
        orders: Of C cars each.
        weights: (M,) how often each of them counts.
        pairs: (N, N) further wins of the first index against the second, in games of two.
        start: (N,) strengths to begin with; None: all the same.
    """
    from choix.utils import exp_transform, log_transform, statdist

    strengths = np.zeros(len(pairs)) if start is None else start
    for _ in range(_MOST):
        odds = exp_transform(strengths)
        chain = pairs.T / (odds[:, None] + odds[None, :])
        _count(orders.cars, weights, odds, chain)
        chain -= np.diag(chain.sum(axis=1))
        before, strengths = strengths, log_transform(statdist(chain))
        if np.abs(strengths - before).sum() < _CLOSE:
            break
    return np.asarray(strengths, np.float64)


@njit(cache=True, nogil=True, error_model="numpy")
def _count(cars: Index, weights: Float, odds: Float, chain: Float) -> None:
    """Add to the chain's rates, from who came in later to who came in earlier."""
    M, C = cars.shape
    for m in range(M):
        if weights[m] == 0.0:
            continue
        rest = 0.0
        for k in range(C):
            rest += odds[cars[m, k]]
        for k in range(C - 1):
            first = cars[m, k]
            rate = weights[m] / rest
            for later in range(k + 1, C):
                chain[cars[m, later], first] += rate
            rest -= odds[first]
