"""Small leagues: drivers of different speeds on small tracks, and games drawn by lot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from f110_fl.evaluation.games import Game, Why

ENTRIES: dict[str, Any] = {
    "slow": {"driver": {"kind": "pure_pursuit", "speed": 2.5}},
    "fast": {"driver": {"kind": "pure_pursuit", "speed": 4.0}},
    "follow_the_gap": {"driver": {"kind": "follow_the_gap", "speed": 3.0}},
}
LEAGUE: dict[str, Any] = {
    "entries": ENTRIES,
    "tracks": {
        "oval": {"kind": "oval", "straight": 5.0, "radius": 3.0},
        "circle": {"kind": "circle", "radius": 5.0},
    },
    "seeds": 2,
    "time_limit": 40.0,
    "lidar": {"beams": 54, "max_range": 10.0},
}


def write_league(folder: Path, **changes: Any) -> Path:
    """Writes the small league, with other values for some keys, and returns its path."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**LEAGUE, **changes}, sort_keys=False))
    return path


def game(first: str, second: str, winner: str | None, track: str = "t", seed: int = 0) -> Game:
    """Returns a game of which nothing but the winner matters."""
    places = (1, 1) if winner is None else (1, 2) if winner == first else (2, 1)
    return placed((first, second), places, track, seed)


def placed(
    entries: Sequence[str], places: Sequence[int], track: str = "t", seed: int = 0, **changes: Any
) -> Game:
    """Returns a game of which nothing but the places matters, and what is changed."""
    first = [name for name, place in zip(entries, places, strict=True) if place == 1]
    why: Why = "time" if len(first) == 1 else "draw"
    count = len(entries)
    settings = {
        "entries": tuple(entries),
        "track": track,
        "seed": seed,
        "winner": first[0] if len(first) == 1 else None,
        "why": why,
        "places": tuple(places),
        "ends": ("finished",) * count,
        "times": (1.0,) * count,
        "distances": (1.0,) * count,
        "duration": 1.0,
        "contact": (False,) * count,
        "hit": (False,) * count,
        "overtakes": (0,) * count,
    }
    return Game(**(settings | changes))


def drawn_games(
    names: Sequence[str],
    chance: Callable[[int, int], float],
    rng: np.random.Generator,
    seeds: int,
    draws: float = 0.0,
) -> list[Game]:
    """Returns games of each with each in both orders, on two tracks with so many seeds.

    ``chance(i, j)`` is what i scores against j; ``draws`` from 0 to 1 makes games draws.
    """
    found = []
    for track in ("a", "b"):
        for seed in range(seeds):
            for i, first in enumerate(names):
                for j, second in enumerate(names):
                    if i == j:
                        continue
                    score, luck = chance(i, j), rng.random()
                    drawn = draws * 2 * min(score, 1 - score)
                    won = score - drawn / 2
                    winner = first if luck < won else None if luck < won + drawn else second
                    found.append(game(first, second, winner, track, seed))
    return found


def drawn_grids(
    names: Sequence[str],
    ratings: Sequence[float],
    rng: np.random.Generator,
    seeds: int,
    cars: int,
    level: float = 0.0,
) -> list[Game]:
    """Returns games of so many cars, each combination in its rotations, on two tracks.

    Cars come in as Plackett and Luce say: their strengths and Gumbel's noise, the greatest first.
    Those that are less than ``level`` apart are level.
    """
    strengths = dict(zip(names, np.array(ratings) * np.log(10) / 400, strict=True))
    found = []
    for track in ("a", "b"):
        for seed in range(seeds):
            for chosen in combinations(names, cars):
                for k in range(cars):
                    lineup = chosen[k:] + chosen[:k]
                    scores = np.array([strengths[name] for name in lineup]) + rng.gumbel(size=cars)
                    places = [1 + int(np.sum(scores > own + level)) for own in scores]
                    found.append(placed(lineup, places, track, seed))
    return found


def elo_chance(ratings: Sequence[float]) -> Callable[[int, int], float]:
    """Returns what entries with such ratings score against each other, by definition of Elo's."""
    return lambda i, j: 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400))
