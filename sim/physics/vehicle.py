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
STEER_GAIN: Final = 23  # of steering targets
STEER_TRIM: Final = 24  # rad
STEER_DEADBAND: Final = 25  # rad
SPEED_GAIN: Final = 26  # of speed targets
SPEED_LAG: Final = 27  # s
COMMAND_DELAY: Final = 28  # steps until a command reaches the car
COMMAND_JITTER: Final = 29  # probability of one more
BATTERY: Final = 30  # factor of the motor's limits
SPEED_SCALE: Final = 31  # of its odometry
YAW_RATE_BIAS: Final = 32  # rad/s, of its odometry
YAW_ERROR: Final = 33  # rad, of its range finder
RANGE_SCALE: Final = 34  # of its range finder
VEHICLE_SIZE: Final = 35

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
    "steer_gain": STEER_GAIN,
    "steer_trim": STEER_TRIM,
    "steer_deadband": STEER_DEADBAND,
    "speed_gain": SPEED_GAIN,
    "speed_lag": SPEED_LAG,
    "command_delay": COMMAND_DELAY,
    "command_jitter": COMMAND_JITTER,
    "battery": BATTERY,
    "odometry_speed_scale": SPEED_SCALE,
    "odometry_yaw_rate_bias": YAW_RATE_BIAS,
}
# those of its `LidarConfig`,
_LIDAR: Final = {
    "noise_std": NOISE_STD,
    "dropout": DROPOUT,
    "mount_yaw_error": YAW_ERROR,
    "range_scale": RANGE_SCALE,
}
# and all that `HeterogeneityConfig` lets cars draw some of.
COLUMNS: Final = {**_VEHICLE, **{f"lidar_{name}": column for name, column in _LIDAR.items()}}
# Those of them that are whole numbers.
WHOLE: Final = frozenset({"steer_delay", "command_delay"})


def vehicle_vector(config: VehicleConfig, lidar: LidarConfig | None = None) -> NDArray[np.float64]:
    """Parameters of a car, in SI units, in the order of this module's constants.

    Args:
        config: The car.
        lidar: Its range finder; None: one without errors.

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
    sensor = lidar or LidarConfig(noise_std=0.0)
    for name, column in _LIDAR.items():
        vector[column] = getattr(sensor, name)
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
