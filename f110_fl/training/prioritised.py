"""Whom to meet next: those against whom success is rare are likelier.

Vinyals et al. 2019, "Grandmaster level in StarCraft II using multi-agent reinforcement learning",
Methods: fictitious self-play and its prioritised form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

# Weight of the episodes before, per episode: about the last hundred against an opponent count.
_DECAY: Final = 0.99


class Tally:
    """How a learner fares against one opponent.

    Attributes:
        games: Weighted number of episodes against it.
        wins: Weighted number of successes among them.
    """

    def __init__(self) -> None:
        self.games = self.wins = 0.0

    @property
    def success_rate(self) -> float:
        """Expected rate of successes against it, by the rule of succession: 1/2 before any."""
        return (self.wins + 1.0) / (self.games + 2.0)

    def count(self, *, won: bool) -> None:
        """Count an episode against it."""
        self.games = _DECAY * self.games + 1.0
        self.wins = _DECAY * self.wins + won


def draw(tallies: Sequence[Tally], power: float, rng: np.random.Generator) -> int:
    """Draw an opponent's index, with probabilities in proportion to (1 - success rate)^power."""
    rates = np.array([tally.success_rate for tally in tallies])
    weights = (1.0 - rates) ** power
    return int(rng.choice(len(rates), p=weights / weights.sum()))
