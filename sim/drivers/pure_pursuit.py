"""A driver that follows a line: pure pursuit (Coulter, CMU-RI-TR-92-01, 1992)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import PurePursuitConfig
from sim.drivers.base import Seat
from sim.drivers.line import LineDriver, Routes, entry_at, route_on
from sim.layout import TARGET_SPEED, TARGET_STEER, YAW, V, X, Y
from sim.native import record
from sim.settings import numbers
from sim.tracks.centerline import Centerline, point_at, project


@njit(cache=True, nogil=True, error_model="numpy")
def pursue(
    line: Centerline,
    ahead: float,
    aside: float,
    own: NDArray[np.float64],
    rear_axle: float,
    wheelbase: float,
) -> float:
    """Steering angle that leads the rear axle along a circle to a point; see `PurePursuit`.

    Args:
        line: The line that the point is given by; straight on past the end of an open one.
        ahead: Arc length of the point, m.
        aside: Its distance to the left of the line, m.
        own: (7,) state of the car, columns of `sim.layout`.
        rear_axle: Distance of the rear axle behind the centre of gravity, m.
        wheelbase: Between the axles, m.

    Returns:
        rad, without the car's limit.
    """
    cos, sin = math.cos(own[YAW]), math.sin(own[YAW])
    goal_x, goal_y, course = point_at(line, ahead, aside)
    beyond = 0.0 if line.closed else max(ahead - line.length, 0.0)
    dx = goal_x + beyond * math.cos(course) - (own[X] - rear_axle * cos)
    dy = goal_y + beyond * math.sin(course) - (own[Y] - rear_axle * sin)
    left = cos * dy - sin * dx
    return math.atan(wheelbase * 2.0 * left / max(dx * dx + dy * dy, 1e-9))


@njit(cache=True, nogil=True, error_model="numpy")
def _pure_pursuit(
    settings: NDArray[np.void],
    state: NDArray[np.float64],
    track: NDArray[np.int64],
    routes: Routes,
    difficulty: NDArray[np.float64],
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car, on = driver.car, track[first]
    line, speeds = route_on(routes, on)
    for e in range(first, last):
        if track[e] != on:
            on = track[e]
            line, speeds = route_on(routes, on)
        own = state[e, car]
        x = own[X] - driver.rear_axle * math.cos(own[YAW])
        y = own[Y] - driver.rear_axle * math.sin(own[YAW])
        s, _ = project(line, x, y)
        ahead = s + driver.lookahead + driver.lookahead_time * abs(own[V])
        steer = pursue(line, ahead, 0.0, own, driver.rear_axle, driver.wheelbase)
        commands[e, car, TARGET_STEER] = min(max(steer, -driver.steer_max), driver.steer_max)
        speed = speeds[entry_at(line, s, len(speeds))]
        commands[e, car, TARGET_SPEED] = difficulty[e] * speed


class PurePursuit(LineDriver):
    """Steer for a point on a line ahead, at the speed that the line's bends allow.

    The steering angle is atan(wheelbase * 2 l / d^2) for a point at distance d from the rear
    axle, l to the left of it: that of a circle through the axle, tangent to the car's heading,
    and the point. Unlike Coulter's, the point is a distance along the line ahead of the nearest
    point, not the line's intersection with a circle.

    Past the end of an open line it goes on straight.

    The arguments are those of `LineDriver`, without its kernel and settings.
    """

    def __init__(self, config: PurePursuitConfig, seat: Seat) -> None:
        vehicle = seat.vehicle
        settings = record(
            car=seat.car,
            steer_max=vehicle.steer_max,  # rad
            wheelbase=vehicle.front_axle + vehicle.rear_axle,  # m
            rear_axle=vehicle.rear_axle,  # m behind the centre of gravity
            **numbers(config),
        )
        super().__init__(config, seat, _pure_pursuit, settings)
