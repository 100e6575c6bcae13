"""What a car believes of its own motion and pose, and how that drifts away from the truth."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.physics.noise import DRIFT, normal_pair, stream
from sim.physics.vehicle import (
    POSITION_DRIFT,
    SPEED_SCALE,
    YAW_DRIFT,
    YAW_RATE_BIAS,
    YAW_RATE_DRIFT,
)

Float = NDArray[np.float64]

# Columns of a car's odometry.
SPEED_FACTOR: Final = 0  # what is read over the true speed
YAW_RATE_ERROR: Final = 1  # rad/s
X_ERROR: Final = 2  # m
Y_ERROR: Final = 3  # m
HEADING_ERROR: Final = 4  # rad
ODOMETRY_SIZE: Final = 5


@njit(cache=True, nogil=True, error_model="numpy")
def begin_odometry(odometry: Float, vehicle: Float) -> None:
    """Set the odometry of a car that has just been placed, and knows where.

    Args:
        odometry: (5,), columns of this module; written.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
    """
    odometry[:] = 0.0
    odometry[SPEED_FACTOR] = vehicle[SPEED_SCALE]
    odometry[YAW_RATE_ERROR] = vehicle[YAW_RATE_BIAS]


@njit(cache=True, nogil=True, error_model="numpy")
def drifts(vehicle: Float) -> bool:
    """Whether a car's odometry drifts."""
    largest: float = vehicle[POSITION_DRIFT] + vehicle[YAW_DRIFT] + vehicle[YAW_RATE_DRIFT]
    return largest > 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def drift_on(
    odometry: Float, vehicle: Float, speed: float, moment: tuple[int, np.uint64, float], car: int
) -> None:
    """Let the errors of a car's odometry take a physics step of their random walks.

    Variances grow with the way driven or with time, so that the physics step does not matter.

    Args:
        odometry: (5,), columns of this module; changed.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        speed: m/s.
        moment: Physics steps since the car was placed; key of the environment's noise; step, s.
        car: Index of the car.
    """
    step, noise_key, dt = moment
    key = stream(noise_key, step, car) ^ DRIFT
    first, second = normal_pair(key, 0)
    away = vehicle[POSITION_DRIFT] * math.sqrt(abs(speed) * dt)
    odometry[X_ERROR] += away * first
    odometry[Y_ERROR] += away * second
    first, second = normal_pair(key, 1)
    odometry[HEADING_ERROR] += vehicle[YAW_DRIFT] * math.sqrt(dt) * first
    odometry[YAW_RATE_ERROR] += vehicle[YAW_RATE_DRIFT] * math.sqrt(dt) * second
