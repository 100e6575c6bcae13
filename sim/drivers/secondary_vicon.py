"""The defender of ``convoy_lock``: it holds its speed and turns away from the attacker."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import SecondaryViconConfig
from sim.drivers.base import KernelDriver, Seat
from sim.layout import TARGET_SPEED, TARGET_STEER, YAW, X, Y
from sim.native import record
from sim.settings import numbers

Float = NDArray[np.float64]


@njit(cache=True, nogil=True, error_model="numpy")
def _secondary_vicon(
    settings: NDArray[np.void],
    state: Float,
    lateral_offset: Float,
    difficulty: Float,
    commands: Float,
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car, target, steer_max = driver.car, driver.target, driver.steer_max
    for e in range(first, last):
        steer, speed = 0.0, driver.speed
        offset = lateral_offset[e, car]
        dx = state[e, target, X] - state[e, car, X]
        dy = state[e, target, Y] - state[e, car, Y]
        if abs(offset) > driver.recover_offset:
            steer = -steer_max if offset > 0.0 else steer_max
            speed = 0.0 if abs(offset) > driver.stop_offset else 0.5 * driver.speed
        elif np.hypot(dx, dy) < driver.avoid_distance:
            cos, sin = math.cos(state[e, car, YAW]), math.sin(state[e, car, YAW])
            # The direction away from the target, in the car's frame.
            away = math.atan2(sin * dx - cos * dy, -cos * dx - sin * dy)
            steer = driver.avoid_gain * away
        commands[e, car, TARGET_STEER] = min(max(steer, -steer_max), steer_max)
        commands[e, car, TARGET_SPEED] = difficulty[e] * speed


class SecondaryVicon(KernelDriver):
    """Hold a speed, turn away from a near car, recover towards the lane centre.

    It has no memory: at each step the first rule that applies decides.

    1. More than ``stop_offset`` off the centre line: stop, wheels turned fully back to it.
    2. More than ``recover_offset`` off it: half speed, wheels turned fully back.
    3. Target nearer than ``avoid_distance``, centre to centre: steer by ``avoid_gain`` times the
       angle from the heading to the direction straight away from the target, which is
       pi - abs(bearing), to the side the target is not on. (Steering only until the target is
       abeam, pi/2 - abs(bearing), would keep the defender of ``convoy_lock`` in its lane
       whatever the attacker does beside it.)
    4. Otherwise hold ``speed``, wheels straight.

    Rules 1 and 2 assume that the car heads along the lane; without a centre line there is neither.

    Args:
        config: The driver.
        seat: Where it sits.
    """

    def __init__(self, config: SecondaryViconConfig, seat: Seat) -> None:
        settings = record(
            car=seat.car,
            target=seat.car_named(config.target),
            steer_max=seat.vehicle.steer_max,  # rad
            **numbers(config),
        )
        super().__init__(seat, _secondary_vicon, ["state", "lateral_offset"], settings)
