"""What every scripted driver is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from sim.world import WorldArrays


class Driver(ABC):
    """Commands one car in every environment.

    Args:
        num_envs: Environments in the batch, E.

    Attributes:
        difficulty: (E,) factor of the speed that the driver asks for; 1 unless a curriculum
            changes it in place, which counts from the next step on. Below 1 the car is slower
            everywhere, above 1 it exceeds what its settings call the fastest, up to the car's
            own limit.
    """

    def __init__(self, num_envs: int) -> None:
        self.difficulty: NDArray[np.float64] = np.ones(num_envs)

    def reset(self, env: int) -> None:  # noqa: B027 - most drivers have no memory
        """Forget one environment's episode."""

    @abstractmethod
    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``.

        Different ranges may be written by different threads at the same time. What is written
        depends on the environment alone: its arrays, what the driver remembers of its episode,
        and its difficulty.

        Args:
            world: The world before the step.
            commands: (E, C, 2), written at the driver's car: steering angle rad, speed m/s.
            first: First environment.
            last: One past the last environment.
        """
