"""The vector of a car's parameters that compiled code reads."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.config import CarConfig, LidarConfig, VehicleConfig

KINEMATIC_SPEED: Final = 0.5  # m/s, below which f1tenth_gym does not use the tyre model
RK4, EULER = 0.0, 1.0
TARGETS, RATES = 0.0, 1.0
LINEAR, SATURATING = 0.0, 1.0

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
TYRE_SPEED: Final = 16  # m/s, below which the kinematic model is used; infinite: always
INTEGRATOR: Final = 17  # RK4 or EULER
CONTROL: Final = 18  # TARGETS or RATES
DELAY: Final = 19  # steps until a steering target takes effect
NOISE_STD: Final = 20  # m, of its range finder
DROPOUT: Final = 21  # probability of a beam of it
TYRE: Final = 22  # LINEAR or SATURATING
VEHICLE_SIZE: Final = 23

# Columns of the settings that are numbers: those of `VehicleConfig`,
_VEHICLE: Final = {
    "friction": MU,
    "stiffness_front": C_SF,
    "stiffness_rear": C_SR,
    "front_axle": LF,
    "rear_axle": LR,
    "cg_height": H,
    "mass": MASS,
    "yaw_inertia": I_Z,
    "steer_max": STEER_MAX,
    "steer_rate_max": STEER_RATE_MAX,
    "switch_speed": V_SWITCH,
    "acceleration_max": A_MAX,
    "speed_min": V_MIN,
    "speed_max": V_MAX,
    "length": LENGTH,
    "width": WIDTH,
    "steer_delay": DELAY,
}
# and all that `HeterogeneityConfig` lets cars draw some of.
COLUMNS: Final = {**_VEHICLE, "lidar_noise_std": NOISE_STD, "lidar_dropout": DROPOUT}


def vehicle_vector(config: VehicleConfig, lidar: LidarConfig | None = None) -> NDArray[np.float64]:
    """Parameters of a car, in SI units, in the order of this module's constants.

    Args:
        config: The car.
        lidar: Its range finder; None: one without noise.

    Returns:
        (VEHICLE_SIZE,)
    """
    vector = np.empty(VEHICLE_SIZE)
    for name, column in _VEHICLE.items():
        vector[column] = getattr(config, name)
    vector[TYRE_SPEED] = KINEMATIC_SPEED if config.model == "single_track" else math.inf
    vector[TYRE] = LINEAR if config.tyre.kind == "linear" else SATURATING
    vector[INTEGRATOR] = RK4 if config.integrator == "rk4" else EULER
    vector[CONTROL] = TARGETS if config.control == "targets" else RATES
    vector[NOISE_STD] = lidar.noise_std if lidar else 0.0
    vector[DROPOUT] = lidar.dropout if lidar else 0.0
    return vector


def action_scale(car: CarConfig) -> tuple[float, float, float]:
    """How a car's actions in [-1, 1]^2 become its commands.

    Returns:
        First command of action 1; second command of action 0; second command of action 1 less
        that of action 0. Angle rad and speed m/s, or rates rad/s and m/s^2, by its control.
    """
    vehicle = car.vehicle
    if vehicle.control == "rates":
        return vehicle.steer_rate_max, 0.0, vehicle.acceleration_max
    slowest = vehicle.speed_min if car.reverse else 0.0
    middle, half = (vehicle.speed_max + slowest) / 2, (vehicle.speed_max - slowest) / 2
    return vehicle.steer_max, middle, half
