"""Whatever looks on while episodes run."""

from __future__ import annotations

from typing import Protocol

from sim.race import Race


class Watcher(Protocol):
    """Looks on while episodes run."""

    def begin(self, race: Race, env: int) -> None:
        """See that an episode has begun."""

    def step(self, race: Race, envs: list[int]) -> None:
        """See a step of these environments, in which episodes run."""

    def end(self, env: int, number: int) -> None:
        """See the end of the episode of an environment: that of the seed with this number."""
