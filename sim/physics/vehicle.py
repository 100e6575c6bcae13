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
LINEAR, SATURATING, MAGIC_FORMULA = 0.0, 1.0, 2.0

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
TYRE: Final = 22  # LINEAR or SATURATING; MAGIC_FORMULA: of the drift model
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
STEER_RATE_NOISE: Final = 35  # rad/s
POSITION_DRIFT: Final = 36  # m/sqrt(m), of its odometry
YAW_DRIFT: Final = 37  # rad/sqrt(s)
YAW_RATE_DRIFT: Final = 38  # rad/s/sqrt(s)
R_W: Final = 39  # m, of the drift model, as are all that follow
I_W: Final = 40  # kg m^2, of an axle's wheels
DRIVE_FRONT: Final = 41  # share of the driving torque
BRAKE_FRONT: Final = 42  # share of the braking torque
# Of the Magic Formula, by CommonRoad's names.
P_CX1: Final = 43
P_DX1: Final = 44
P_EX1: Final = 45
P_KX1: Final = 46
P_HX1: Final = 47
P_VX1: Final = 48
R_BX1: Final = 49
R_BX2: Final = 50
R_CX1: Final = 51
R_EX1: Final = 52
R_HX1: Final = 53
P_CY1: Final = 54
P_DY1: Final = 55
P_EY1: Final = 56
P_KY1: Final = 57
R_BY1: Final = 58
R_BY2: Final = 59
R_BY3: Final = 60
R_CY1: Final = 61
R_EY1: Final = 62
R_HY1: Final = 63
R_VY1: Final = 64
R_VY4: Final = 65
R_VY5: Final = 66
R_VY6: Final = 67
VEHICLE_SIZE: Final = 68

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
    "odometry_yaw_rate_drift": YAW_RATE_DRIFT,
    "odometry_position_drift": POSITION_DRIFT,
    "odometry_yaw_drift": YAW_DRIFT,
    "steer_rate_noise": STEER_RATE_NOISE,
}
# those of its `DriftConfig` and `MagicFormulaConfig`,
_DRIFT: Final = {
    "wheel_radius": R_W,
    "wheel_inertia": I_W,
    "drive_front": DRIVE_FRONT,
    "brake_front": BRAKE_FRONT,
}
_MAGIC: Final = {
    "p_cx1": P_CX1,
    "p_dx1": P_DX1,
    "p_ex1": P_EX1,
    "p_kx1": P_KX1,
    "p_hx1": P_HX1,
    "p_vx1": P_VX1,
    "r_bx1": R_BX1,
    "r_bx2": R_BX2,
    "r_cx1": R_CX1,
    "r_ex1": R_EX1,
    "r_hx1": R_HX1,
    "p_cy1": P_CY1,
    "p_dy1": P_DY1,
    "p_ey1": P_EY1,
    "p_ky1": P_KY1,
    "r_by1": R_BY1,
    "r_by2": R_BY2,
    "r_by3": R_BY3,
    "r_cy1": R_CY1,
    "r_ey1": R_EY1,
    "r_hy1": R_HY1,
    "r_vy1": R_VY1,
    "r_vy4": R_VY4,
    "r_vy5": R_VY5,
    "r_vy6": R_VY6,
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
    for name, column in _DRIFT.items():
        vector[column] = getattr(config.drift, name)
    for name, column in _MAGIC.items():
        vector[column] = getattr(config.drift.tyre, name)
    vector[TYRE_SPEED] = math.inf if config.model == "kinematic" else KINEMATIC_SPEED
    vector[TYRE] = LINEAR if config.tyre.kind == "linear" else SATURATING
    if config.model == "drift":
        vector[TYRE] = MAGIC_FORMULA
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
