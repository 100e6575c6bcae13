"""What a driver reckons with who follows a line at the limits of the car."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import VehicleConfig
from sim.config.drivers import RacingLineConfig
from sim.drivers.base import Seat
from sim.drivers.line import bends, followed
from sim.layout import SLIP, YAW, YAW_RATE, V, X, Y
from sim.physics.dynamics import GRAVITY
from sim.physics.vehicle import KINEMATIC_SPEED
from sim.tracks.centerline import Centerline, point_at
from sim.tracks.speeds import Limits, speed_profile

Float = NDArray[np.float64]

_SHARE: Final = 0.9  # of the tyres' grip that steering may ask for
_STEP: Final = 0.1  # m, between lookaheads that are tried
_CHORDS: Final = 100  # of them


def compensation(config: RacingLineConfig, seat: Seat) -> dict[str, float]:
    """Settings by which a kernel compensates, or does not, by name, for `sim.native.record`."""
    if not config.compensate:
        return {"compensate": False, "lead": 0.0, "grip": math.inf, "understeer": 0.0}
    vehicle, env = seat.vehicle, seat.env
    period = env.physics_step * env.physics_steps_per_action
    grip = vehicle.friction * GRAVITY
    slipping = vehicle.model == "single_track"
    return {
        "compensate": True,
        "lead": period / 2 + env.physics_step * vehicle.steer_delay + config.response,  # s
        "grip": _SHARE * grip,  # m/s^2, sideways at most
        # Slip angle of the front tyres less that of the rear ones, for each m/s^2 sideways, rad.
        "understeer": slipping
        * (1.0 / vehicle.stiffness_front - 1.0 / vehicle.stiffness_rear)
        / grip,
    }


def raced(config: RacingLineConfig, seat: Seat) -> list[tuple[Centerline, Float]]:
    """Lines that a driver follows, and the speeds that it asks for along each.

    Those of `sim.drivers.line.followed`; for a driver that compensates, as `raced_speeds` and
    `asked_speeds` say.

    Raises:
        ValueError: As `followed`.
        TrackError: As `followed`.
    """
    if not config.compensate:
        return followed(config, seat)
    speeds = partial(raced_speeds, config=config, vehicle=seat.vehicle)
    return [
        (line, asked_speeds(line, fastest, seat.vehicle))
        for line, fastest in followed(config, seat, speeds)
    ]


@njit(cache=True, nogil=True, error_model="numpy")
def foreseen(own: Float, time: float) -> tuple[float, float, float]:
    """Pose of a car, x m, y m, yaw rad, if it goes on turning for so long, s, as it does now."""
    turn = own[YAW_RATE] * time
    course = own[YAW] + own[SLIP] + turn / 2
    x = own[X] + own[V] * time * math.cos(course)
    y = own[Y] + own[V] * time * math.sin(course)
    return x, y, own[YAW] + turn


@njit(cache=True, nogil=True, error_model="numpy")
def slip_behind(own: Float, rear_axle: float) -> float:
    """Angle from a car's heading to where its rear axle moves, rad.

    Args:
        own: (7,) state of the car, columns of `sim.layout`.
        rear_axle: Distance of the axle behind the centre of gravity, m.
    """
    if own[V] < KINEMATIC_SPEED:
        return 0.0
    across = own[V] * math.sin(own[SLIP]) - rear_axle * own[YAW_RATE]
    return math.atan2(across, own[V] * math.cos(own[SLIP]))


@njit(cache=True, nogil=True, error_model="numpy")
def reaches(line: Centerline, count: int, cut: float) -> Float:
    """How far ahead of places on a line the straight way to it stays near it.

    Args:
        line: The line.
        count: Number of places, N, evenly spaced from its start.
        cut: Distance from the line at most, m.

    Returns:
        (N,) m along the line, 10 m at most.
    """
    found = np.full(count, _CHORDS * _STEP)
    points = np.empty((_CHORDS + 1, 2))
    for i in range(count):
        for k in range(_CHORDS + 1):
            s = line.length * i / count + k * _STEP
            points[k, 0], points[k, 1], _ = point_at(line, s, 0.0)
            dx, dy = points[k, 0] - points[0, 0], points[k, 1] - points[0, 1]
            area = 0.0
            for j in range(1, k):
                x, y = points[j, 0] - points[0, 0], points[j, 1] - points[0, 1]
                area = max(area, abs(x * dy - y * dx))
            if area > cut * math.hypot(dx, dy):
                found[i] = k * _STEP
                break
    return found


def raced_speeds(line: Centerline, config: RacingLineConfig, vehicle: VehicleConfig) -> Float:
    """As `sim.drivers.line.driven_speeds`, within an ellipse and as the car's motor can."""
    limits = Limits(
        lateral=config.acceleration,
        longitudinal=config.acceleration,
        acceleration=vehicle.acceleration_max,
        switch_speed=vehicle.switch_speed,
        fastest=config.speed,
    )
    bend = bends(line)
    return speed_profile(bend, line.length / len(bend), limits, closed=line.closed)


def asked_speeds(line: Centerline, speeds: Float, vehicle: VehicleConfig) -> Float:
    """Speeds to ask for, so that the car's speed controller gives the acceleration of others.

    The controller's acceleration is a gain times the speed that is missing, another gain for too
    much of it; see `sim.physics.dynamics.speed_control`.

    Args:
        line: The line.
        speeds: (N,) m/s, at places evenly spaced along the line.
        vehicle: The car.
    """
    after = np.roll(speeds, -1)
    if not line.closed:
        after[-1] = speeds[-1]
    gained = (after**2 - speeds**2) / (2 * line.length / len(speeds))
    gained = np.clip(gained, -vehicle.acceleration_max, vehicle.acceleration_max)
    bound = np.where(gained > 0, vehicle.speed_max, -vehicle.speed_min)
    return np.maximum(speeds + gained * bound / (10.0 * vehicle.acceleration_max), 0.0)
