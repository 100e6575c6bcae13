"""What a plan costs, in metres of progress."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.drivers.line import entry_at, wrapped
from sim.drivers.mppi.model import Motion, roll
from sim.layout import SLIP, YAW, V, X, Y
from sim.tracks.centerline import Centerline, point_at, project
from sim.tracks.distance_field import DistanceField, to_cells, wall_distance

Float = NDArray[np.float64]

_CRASH: Final = 10.0  # m
_GRIP: Final = 1.0  # m a second, for twice the acceleration that is allowed
_NEAR: Final = 10.0  # m a second, in touch with a wall
_CARS: Final = 20.0  # m a second, in another car's place
_STEERING: Final = 0.05  # m, for a change of the steering angle by 1 rad in a step
_AHEAD: Final = 0.4  # m along the line to the point that pure pursuit steers for,
_AHEAD_TIME: Final = 0.12  # s, and for each m/s
_STANDING: Final = 0.3  # m/s, below which other cars are taken to stay
_LOST: Final = 1.5  # of the way driven: more progress is a mistake


class Scene(NamedTuple):
    """Where a car drives."""

    field: DistanceField
    line: Centerline
    speeds: Float  # (M,) m/s, at which places of the line, evenly spaced, can be passed
    sizes: Float  # (C, 2) m, lengths and widths of the cars


@njit(cache=True, nogil=True, error_model="numpy")
def foresee_others(driver: Any, scene: Scene, states: Float, others: Float) -> None:
    """Write where other cars will be, if they keep their speed and their distance from the line.

    Args:
        driver: The settings.
        scene: Where they drive.
        states: (C, 7) of the cars, columns of `sim.layout`.
        others: (C, N, 4) m, m, cosine and sine of yaw, written; NaN of cars that do not count: the
            own one, those behind it and those that are far away.
    """
    own = states[driver.car]
    count = others.shape[1]
    reach = 2.0 * driver.speed * driver.interval * count
    cos, sin = math.cos(own[YAW]), math.sin(own[YAW])
    for c in range(len(states)):
        others[c, 0, 0] = math.nan
        x, y, speed = states[c, X], states[c, Y], states[c, V]
        dx, dy = x - own[X], y - own[Y]
        behind = -(scene.sizes[c, 0] + driver.length) / 2.0
        if c == driver.car or dx * dx + dy * dy > reach * reach or cos * dx + sin * dy < behind:
            continue
        s, d = project(scene.line, x, y)
        for k in range(count):
            yaw = states[c, YAW]
            if speed > _STANDING:
                way = speed * driver.interval * (k + 1)
                x, y, yaw = point_at(scene.line, s + way, d)
            others[c, k, 0], others[c, k, 1] = x, y
            others[c, k, 2], others[c, k, 3] = math.cos(yaw), math.sin(yaw)


@njit(cache=True, nogil=True, error_model="numpy")
def _room(driver: Any, field: DistanceField, x: float, y: float, yaw: float) -> float:
    """Distance of a car, as three discs that cover its rectangle, from the nearest wall, m."""
    third = driver.length / 3.0
    radius = math.sqrt(third * third + driver.width * driver.width) / 2.0
    dx, dy = third * math.cos(yaw), third * math.sin(yaw)
    nearest = math.inf
    for i in range(-1, 2):
        column, row = to_cells(field, x + i * dx, y + i * dy)
        nearest = min(nearest, wall_distance(field, column, row))
    return nearest - radius - field.resolution / 2.0


@njit(cache=True, nogil=True, error_model="numpy")
def _in_the_way(driver: Any, scene: Scene, others: Float, k: int, x: float, y: float) -> float:
    """How deep a car is within the space that others need, 0 to 1 each."""
    found = 0.0
    for c in range(len(others)):
        if math.isnan(others[c, 0, 0]):
            continue
        dx, dy = x - others[c, k, 0], y - others[c, k, 1]
        along = others[c, k, 2] * dx + others[c, k, 3] * dy
        across = others[c, k, 2] * dy - others[c, k, 3] * dx
        along /= (scene.sizes[c, 0] + driver.length) / 2.0 + driver.car_margin
        across /= (scene.sizes[c, 1] + driver.width) / 2.0 + driver.car_margin
        along *= along
        across *= across
        inside = along * along + across * across
        if inside < 1.0:
            found += 1.0 - inside
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def follow_line(driver: Any, scene: Scene, motion: Motion, pace: float, controls: Float) -> None:
    """Write controls that follow the line, by pure pursuit, so that there is always such a plan.

    Args:
        driver: The settings.
        scene: Where the car drives.
        motion: Of the car now.
        pace: Factor of the line's speeds.
        controls: (N, 2) steering angles to turn to, rad, and accelerations, m/s^2; written.
    """
    line, dt, most = scene.line, driver.interval, driver.acceleration_max
    for k in range(len(controls)):
        x, y, _, speed, yaw, _, slip = motion
        s, _ = project(line, x, y)
        goal_x, goal_y, _ = point_at(line, s + _AHEAD + _AHEAD_TIME * speed, 0.0)
        cos, sin = math.cos(yaw + slip), math.sin(yaw + slip)
        dx, dy = goal_x - x, goal_y - y
        bend = 2.0 * (cos * dy - sin * dx) / max(dx * dx + dy * dy, 1e-6)
        steer = math.atan(driver.wheelbase * bend)
        controls[k, 0] = min(max(steer, -driver.steer_max), driver.steer_max)
        wanted = pace * scene.speeds[entry_at(line, s + speed * dt, len(scene.speeds))]
        controls[k, 1] = min(max((wanted - speed) / dt, -most), most)
        motion = roll(driver, motion, controls[k, 0], controls[k, 1], driver.speed, dt)


@njit(cache=True, nogil=True, error_model="numpy")
def path_cost(driver: Any, scene: Scene, motion: Motion, controls: Float, others: Float) -> float:
    """Cost of what a car does under some controls, m.

    Args:
        driver: The settings.
        scene: Where the car drives.
        motion: Of the car now.
        controls: (N, 2) steering angles to turn to, rad, and accelerations, m/s^2.
        others: From `foresee_others`.
    """
    line, dt = scene.line, driver.interval
    start, _ = project(line, motion[0], motion[1])
    cost, way, crashed = 0.0, 0.0, False
    before = controls[0, 0]
    several = len(others) > 1
    for k in range(len(controls)):
        was = motion
        motion = roll(driver, was, controls[k, 0], controls[k, 1], driver.speed, dt)
        x, y, _, speed, yaw, rate, slip = motion
        way += dt * speed
        room = _room(driver, scene.field, x, y, yaw)
        if room < 0.0:
            crashed = True
            break
        if room < driver.margin:
            short = 1.0 - room / driver.margin
            cost += _NEAR * dt * short * short
        middle = (speed + was[3]) / 2.0
        sideways = middle * ((rate + was[5]) / 2.0 + (slip - was[6]) / dt)
        lengthways = (speed - was[3]) / dt
        used = math.sqrt(sideways * sideways + lengthways * lengthways) / driver.acceleration
        if used > 1.0:
            cost += _GRIP * dt * 100.0 * (used - 1.0) * (used - 1.0)
        change = controls[k, 0] - before
        before = controls[k, 0]
        cost += _STEERING * change * change
        if several:
            cost += _CARS * dt * _in_the_way(driver, scene, others, k, x, y)
    s, d = project(line, motion[0], motion[1])
    progress = s - start
    if line.closed:
        progress = wrapped(progress, line.length)
    if abs(progress) > _LOST * way + 1.0:
        progress = 0.0
    cost -= progress
    if crashed:
        return cost + _CRASH
    _, _, along = point_at(line, s, 0.0)
    speed = motion[3]
    passing = scene.speeds[entry_at(line, s, len(scene.speeds))]
    if speed > passing:
        cost += (speed * speed - passing * passing) / driver.acceleration
    error = wrapped(motion[4] + motion[6] - along, math.tau)
    return cost + driver.line_weight * (d * d + 4.0 * error * error)
