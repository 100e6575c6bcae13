"""Batched physics: ``num_envs`` worlds of ``num_cars`` cars each, stepped by one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.config import LidarConfig, VehicleConfig
from sim.tracks import Track

Float = NDArray[np.float64]


class WorldArrays(NamedTuple):
    """Everything that changes while a world runs; kernels take this whole.

    E environments, C cars, B beams.
    """

    state: Float  # (E, C, 7), columns of sim.layout
    steer_buffer: Float  # (E, C, 2) rad, oldest last
    scan: NDArray[np.float32]  # (E, C, B) m
    wall_contact: NDArray[np.bool_]  # (E, C) touches a wall
    car_contact: NDArray[np.int32]  # (E, C) index of the car touched, -1 for none
    crashed: NDArray[np.bool_]  # (E, C) has touched anything since it was placed; then it stands
    finished: NDArray[np.bool_]  # (E, C) has crossed the finish line forwards since it was placed
    arc_length: Float  # (E, C) m along the centre line
    lateral_offset: Float  # (E, C) m left of the centre line
    steps: NDArray[np.int64]  # (E,) physics steps since the cars were placed
    noise_key: NDArray[np.uint64]  # (E,) key of the environment's noise


class World:
    """Cars on a track, without rewards or episodes."""

    def __init__(
        self,
        track: Track,
        vehicles: Sequence[VehicleConfig],
        lidar: LidarConfig,
        *,
        num_envs: int = 1,
        physics_step: float = 0.01,
    ) -> None:
        self.track = track
        self.arrays: WorldArrays
        raise NotImplementedError

    def place(self, env: int, poses: Float, noise_key: int) -> None:
        """Put the cars of one environment down at rest and sense.

        Args:
            env: Index of the environment.
            poses: (C, 3), x m, y m, yaw rad.
            noise_key: Selects the environment's noise stream.

        Raises:
            ValueError: If a pose is outside the free space or two cars overlap.
        """
        raise NotImplementedError

    def step(self, commands: Float, physics_steps: int = 1) -> None:
        """Advance every environment and sense once, at the end.

        Args:
            commands: (E, C, 2), steering angle rad and speed m/s; clipped to the car's limits.
            physics_steps: Integration steps to take with these commands.
        """
        raise NotImplementedError
