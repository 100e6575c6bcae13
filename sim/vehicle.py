"""The vector of a car's parameters that compiled code reads."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.config import VehicleConfig

MU: Final = 0  # -
C_SF: Final = 1  # 1/rad
C_SR: Final = 2  # 1/rad
LF: Final = 3  # m
LR: Final = 4  # m
H: Final = 5  # m
MASS: Final = 6  # kg
I_Z: Final = 7  # kg m^2
STEER_MAX: Final = 8  # rad
STEER_RATE_MAX: Final = 9  # rad/s
V_SWITCH: Final = 10  # m/s
A_MAX: Final = 11  # m/s^2
V_MIN: Final = 12  # m/s
V_MAX: Final = 13  # m/s
LENGTH: Final = 14  # m
WIDTH: Final = 15  # m
VEHICLE_SIZE: Final = 16


def vehicle_vector(config: VehicleConfig) -> NDArray[np.float64]:
    """Parameters of a car, (16,) in SI units, in the order of this module's constants."""
    vector = np.empty(VEHICLE_SIZE)
    vector[MU] = config.friction
    vector[C_SF] = config.stiffness_front
    vector[C_SR] = config.stiffness_rear
    vector[LF] = config.front_axle
    vector[LR] = config.rear_axle
    vector[H] = config.cg_height
    vector[MASS] = config.mass
    vector[I_Z] = config.yaw_inertia
    vector[STEER_MAX] = config.steer_max
    vector[STEER_RATE_MAX] = config.steer_rate_max
    vector[V_SWITCH] = config.switch_speed
    vector[A_MAX] = config.acceleration_max
    vector[V_MIN] = config.speed_min
    vector[V_MAX] = config.speed_max
    vector[LENGTH] = config.length
    vector[WIDTH] = config.width
    return vector
