"""Small leagues: drivers of different speeds on small tracks, and games drawn by lot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from f110_fl.evaluation.race import Game

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
    return Game(
        entries=(first, second),
        track=track,
        seed=seed,
        winner=winner,
        why="draw" if winner is None else "time",
        ends=("finished", "finished"),
        times=(1.0, 1.0),
        distances=(1.0, 1.0),
        contact=False,
        hit=(False, False),
        overtakes=(0, 0),
    )


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


def elo_chance(ratings: Sequence[float]) -> Callable[[int, int], float]:
    """Returns what entries with such ratings score against each other, by definition of Elo's."""
    return lambda i, j: 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400))
