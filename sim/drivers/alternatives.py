"""Several drivers of one car, of which each environment has another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.drivers.base import Driver, Seat
from sim.physics.kernels import WorldArrays


class Alternatives(Driver):
    """One of several drivers in each environment.

    Args:
        seat: Where all of them sit.
        drivers: The drivers, at least one. The first drives where none was chosen.

    Attributes:
        chosen: (E,) index of the driver in each environment; see `choose`.
    """

    def __init__(self, seat: Seat, drivers: Sequence[Driver]) -> None:
        super().__init__(seat)
        self.chosen: NDArray[np.int64] = np.zeros(seat.num_envs, np.int64)
        self._drivers = tuple(drivers)
        for driver in self._drivers:
            driver.difficulty = self.difficulty

    def choose(self, env: int, index: int) -> None:
        """Let a driver drive in an environment, from the next step on.

        Args:
            env: The environment, whose episode begins.
            index: Index of the driver.

        Raises:
            ValueError: If there is no such driver.
        """
        if not 0 <= index < len(self._drivers):
            raise ValueError(f"driver {index}: there are {len(self._drivers)}, from 0")
        self.chosen[env] = index

    def reset(self, env: int) -> None:
        """Forget one environment's episode; another driver may be chosen afterwards."""
        for driver in self._drivers:
            driver.reset(env)

    def memory(self) -> list[NDArray[Any]]:
        """Who drives where, and what all drivers remember."""
        own = [array for driver in self._drivers for array in driver.memory()]
        return [self.difficulty, self.chosen, *own]

    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``."""
        chosen = self.chosen[first:last]
        # Neighbours with the same driver are one call.
        starts = [first, *(np.flatnonzero(np.diff(chosen)) + first + 1).tolist(), last]
        for begin, end in pairwise(starts):
            self._drivers[self.chosen[begin]].command(world, commands, begin, end)
