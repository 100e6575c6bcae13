"""Recorded trajectories of cars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from f110_fl.tensors import write_arrays
from sim.race import Race


class Recorder:
    """Records the states of every episode, from its first to its last.

    ``save`` writes a NumPy ``.npz`` file, without pickle: ``cars`` (C,) names; ``columns`` (7,)
    names of the state's columns (`sim.layout`); ``period`` s between two states; ``first``
    (N + 1,) int64, so that episode k is ``states[first[k]:first[k + 1]]``; ``states``
    (sum of T + 1, C, 7) float64, SI units.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[NDArray[np.float64]]] = {}
        self._done: dict[int, NDArray[np.float64]] = {}

    def begin(self, race: Race, env: int) -> None:
        """Record an episode's first states."""
        self._open[env] = [race.world.arrays.state[env].copy()]

    def step(self, race: Race, envs: list[int]) -> None:
        """Record the states after a step of these environments."""
        for env in envs:
            self._open[env].append(race.world.arrays.state[env].copy())

    def end(self, env: int, number: int) -> None:
        """End the episode of an environment: that of the seed with this number."""
        self._done[number] = np.array(self._open.pop(env))

    def save(self, path: Path, race: Race) -> None:
        """Write all episodes that have ended, in the order of their numbers.

        Raises:
            OSError: If the file cannot be written.
        """
        episodes = [self._done[number] for number in sorted(self._done)]
        config = race.config
        write_arrays(
            path,
            {
                "cars": np.array([car.name for car in config.cars]),
                "columns": np.array(["x", "y", "steer", "v", "yaw", "yaw_rate", "slip"]),
                "period": np.array(config.physics_step * config.physics_steps_per_action),
                "first": np.cumsum([0, *map(len, episodes)]),
                "states": np.concatenate(episodes),
            },
        )
