"""A driver that was trained: it acts as a network from a file does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import FrozenPolicyConfig
from sim.drivers.base import Driver, Seat
from sim.layout import COMMAND_SIZE, TARGET_SPEED, TARGET_STEER
from sim.native import record
from sim.observation import Observer
from sim.physics.kernels import WorldArrays
from sim.physics.vehicle import action_scale
from sim.policy import Actor, load_policy


@njit(cache=True, nogil=True, error_model="numpy")
def _obey(
    settings: NDArray[np.void],
    actions: NDArray[np.float32],
    difficulty: NDArray[np.float64],
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    for e in range(first, last):
        speed = driver.speed_middle + driver.speed_half * actions[e, 1]
        commands[e, driver.car, TARGET_STEER] = driver.steer_max * actions[e, 0]
        commands[e, driver.car, TARGET_SPEED] = difficulty[e] * speed


class FrozenPolicy(Driver):
    """Observe as an agent does, and act as a trained policy does, without noise.

    The policy is of the format in `sim.policy`. Its actions mean what an agent's do: steering
    angle and speed, by the limits of the car that it drives now.

    Args:
        config: The driver.
        seat: Where it sits.

    Raises:
        PolicyError: If the checkpoint cannot be used.
        ValueError: If it observes something other than its car can.
    """

    def __init__(self, config: FrozenPolicyConfig, seat: Seat) -> None:
        super().__init__(seat)
        path = seat.base_dir / config.checkpoint
        policy = load_policy(path, config.agent)
        stated = policy.form.observation
        parts = [part for part, _ in stated] or None
        self._observer = Observer(seat.env, seat.tracks, (seat.car,), parts)
        size = len(self._observer.low)
        if policy.observation_size != size or stated not in ((), self._observer.parts):
            trained = _told(stated) if stated else "its parts are not stated"
            whose = path if config.agent is None else f"{config.agent!r} in {path}"
            raise ValueError(
                f"frozen_policy of {seat.name!r}: {whose} observes "
                f"{policy.observation_size} numbers ({trained}), the car {size} "
                f"({_told(self._observer.parts)})"
            )
        self._actor = Actor(policy, seat.num_envs)
        self._observations = np.zeros((seat.num_envs, 1, size), np.float32)
        self._actions = np.zeros((seat.num_envs, COMMAND_SIZE), np.float32)
        steer_max, speed_middle, speed_half = action_scale(seat.env.cars[seat.car])
        self._settings = record(
            car=seat.car,
            steer_max=steer_max,  # first command of action 1, rad
            speed_middle=speed_middle,  # second command of action 0, m/s
            speed_half=speed_half,  # second command of action 1 less that of action 0, m/s
        )

    def reset(self, env: int) -> None:
        """Forget one environment's episode."""
        self._actor.reset(env)

    def memory(self) -> list[NDArray[Any]]:
        """What it remembers, beside the difficulty."""
        return [*super().memory(), self._actor.memory]

    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``."""
        self._observer.observe(world, self._observations, first, last)
        self._actor.write(self._observations[:, 0], self._actions, first, last)
        _obey(self._settings, self._actions, self.difficulty, commands, first, last)


def _told(parts: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{part} {size}" for part, size in parts)
