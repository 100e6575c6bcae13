"""A driver that follows a line: pure pursuit (Coulter, CMU-RI-TR-92-01, 1992)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import PurePursuitConfig
from sim.drivers.base import Seat
from sim.drivers.line import LineDriver, Routes, entry_at, route_on
from sim.drivers.racing import compensation, foreseen, raced, reaches, slip_behind
from sim.layout import TARGET_SPEED, TARGET_STEER, YAW, V, X, Y
from sim.native import record
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
    x = own[X] - rear_axle * math.cos(own[YAW])
    y = own[Y] - rear_axle * math.sin(own[YAW])
    left, square = _sight(line, ahead, aside, x, y, own[YAW])
    return math.atan(wheelbase * 2.0 * left / square)


@njit(cache=True, nogil=True, error_model="numpy")
def _sight(
    line: Centerline, ahead: float, aside: float, x: float, y: float, course: float
) -> tuple[float, float]:
    """Where a point of a line is, seen from another: m to the left of a course, rad, and m^2."""
    cos, sin = math.cos(course), math.sin(course)
    goal_x, goal_y, heading = point_at(line, ahead, aside)
    beyond = 0.0 if line.closed else max(ahead - line.length, 0.0)
    dx = goal_x + beyond * math.cos(heading) - x
    dy = goal_y + beyond * math.sin(heading) - y
    return cos * dy - sin * dx, max(dx * dx + dy * dy, 1e-9)


@njit(cache=True, nogil=True, error_model="numpy")
def _pure_pursuit(
    settings: NDArray[np.void],
    state: NDArray[np.float64],
    track: NDArray[np.int64],
    routes: Routes,
    longest: NDArray[np.float64],
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
        x, y, yaw = foreseen(own, driver.lead)
        x -= driver.rear_axle * math.cos(yaw)
        y -= driver.rear_axle * math.sin(yaw)
        s, _ = project(line, x, y)
        entry = entry_at(line, s, len(speeds))
        ahead = driver.lookahead + driver.lookahead_time * abs(own[V])
        if driver.compensate:
            ahead = min(ahead, longest[routes.starts[on] + entry])
            yaw += slip_behind(own, driver.rear_axle)
        left, square = _sight(line, s + ahead, 0.0, x, y, yaw)
        bend = 2.0 * left / square
        steer = math.atan(driver.wheelbase * 2.0 * left / square)
        steer += driver.understeer * own[V] * own[V] * bend
        commands[e, car, TARGET_STEER] = min(max(steer, -driver.steer_max), driver.steer_max)
        fastest = math.sqrt(driver.grip / max(abs(bend), 1e-9))
        commands[e, car, TARGET_SPEED] = min(difficulty[e] * speeds[entry], fastest)


class PurePursuit(LineDriver):
    """Steer for a point on a line ahead, at the speed that the line's bends allow.

    The steering angle is atan(wheelbase * 2 l / d^2) for a point at distance d from the rear
    axle, l to the left of it: that of a circle through the axle, tangent to the car's heading,
    and the point. Unlike Coulter's, the point is a distance along the line ahead of the nearest
    point, not the line's intersection with a circle.

    Past the end of an open line it goes on straight.

    One that compensates, to race,

    - steers from where the car will be when its steering takes effect: after half a period of
      control, the steering's delay, and ``response``;
    - takes the way that the rear axle moves, which slipping tyres turn from the car's heading, as
      tangent to the circle, and adds to the steering angle the difference of the axles' slip
      angles on it;
    - keeps the point so near that the straight way to it cuts no bend by more than ``cut``;
    - asks for so much more speed, or less, that the car's proportional speed controller gives the
      acceleration of the line's speeds; without a file of speeds, these are within an ellipse of
      ``acceleration`` and what the motor can (`sim.tracks.speeds`);
    - slows down where the circle needs more than 0.9 of the tyres' grip, as away from the line.

    Args:
        config: The driver.
        seat: Where it sits.

    Raises:
        ValueError: As `followed`.
        TrackError: As `followed`.
    """

    def __init__(self, config: PurePursuitConfig, seat: Seat) -> None:
        vehicle = seat.vehicle
        settings = record(
            car=seat.car,
            steer_max=vehicle.steer_max,  # rad
            wheelbase=vehicle.front_axle + vehicle.rear_axle,  # m
            rear_axle=vehicle.rear_axle,  # m behind the centre of gravity
            lookahead=config.lookahead,
            lookahead_time=config.lookahead_time,
            **compensation(config, seat),
        )
        lines = raced(config, seat)
        longest = np.zeros(0)
        if config.compensate:
            longest = np.concatenate(
                [reaches(line, len(speeds), config.cut) for line, speeds in lines]
            )
        super().__init__(seat, _pure_pursuit, settings, lines, longest)
