"""What a plan costs, in metres of progress."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.drivers.line import entry_at, wrapped
from sim.drivers.mppi.model import Motion, roll
from sim.layout import YAW, V, X, Y
from sim.tracks.centerline import Centerline, point_at, project
from sim.tracks.distance_field import DistanceField, to_cells, wall_distance

Float = NDArray[np.float64]

_CRASH: Final = 10.0  # m
_GRIP: Final = 100.0  # m a second, for twice the acceleration that is allowed
_NEAR: Final = 10.0  # m a second, in touch with a wall
_CARS: Final = 20.0  # m a second, in another car's place
_STEERING: Final = 0.05  # m, for a change of the steering angle by 1 rad in a step
_AHEAD: Final = 0.4  # m along the line to the point that pure pursuit steers for,
_AHEAD_TIME: Final = 0.12  # s, and for each m/s
_STANDING: Final = 0.3  # m/s, below which other cars are taken to stay
_TURNED: Final = 4.0  # m^2 from the line that cost as much as 1 rad from its direction
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
def room_beside(driver: Any, field: DistanceField, x: float, y: float, yaw: float) -> float:
    """Distance of a car, as three discs that cover its rectangle, from the nearest wall, m.

    Where the disc in the middle is so far from walls that the others are beyond the margin, it
    alone decides. At most the true distance, or more than the margin.
    """
    third = driver.length / 3.0
    taken = math.sqrt(third * third + driver.width * driver.width) / 2.0 + field.resolution
    column, row = to_cells(field, x, y)
    nearest: float = wall_distance(field, column, row)
    room: float = nearest - third - taken
    if room > driver.margin:
        return room
    dx, dy = third * math.cos(yaw), third * math.sin(yaw)
    for side in (-1.0, 1.0):
        column, row = to_cells(field, x + side * dx, y + side * dy)
        nearest = min(nearest, wall_distance(field, column, row))
    return nearest - taken


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
def _step_cost(driver: Any, was: Motion, motion: Motion, room: float) -> float:
    """Cost of a step's nearness to walls, and of its acceleration, m."""
    dt, cost = driver.interval, 0.0
    if room < driver.margin:
        short = 1.0 - room / driver.margin
        cost += _NEAR * dt * short * short
    speed = (was[3] + motion[3]) / 2.0
    sideways = speed * ((was[5] + motion[5]) / 2.0 + (motion[6] - was[6]) / dt)
    lengthways = (motion[3] - was[3]) / dt
    square = sideways * sideways + lengthways * lengthways
    if square > driver.acceleration * driver.acceleration:
        excess = math.sqrt(square) / driver.acceleration - 1.0
        cost += _GRIP * dt * excess * excess
    return cost


@njit(cache=True, nogil=True, error_model="numpy")
def path_cost(driver: Any, scene: Scene, motion: Motion, controls: Float, others: Float) -> float:
    """Cost of what a car does under some controls, m; see `sim.drivers.mppi.driver.Mppi`.

    Args:
        driver: The settings.
        scene: Where the car drives.
        motion: Of the car now.
        controls: (N, 2) steering angles to turn to, rad, and accelerations, m/s^2.
        others: From `foresee_others`.
    """
    dt, count, start = driver.interval, len(controls), motion
    cost, way, steps = 0.0, 0.0, 0
    # A car that stands nearer than it may is not to come nearer still.
    least = min(room_beside(driver, scene.field, start[0], start[1], start[4]), 0.0)
    before = controls[0, 0]
    for k in range(count):
        was = motion
        motion = roll(driver, was, controls[k, 0], controls[k, 1], driver.speed, dt)
        way += dt * motion[3]
        room = room_beside(driver, scene.field, motion[0], motion[1], motion[4])
        if room < least:
            break
        steps += 1
        cost += _step_cost(driver, was, motion, room)
        change = controls[k, 0] - before
        before = controls[k, 0]
        cost += _STEERING * change * change
        if len(others) > 1:
            cost += _CARS * dt * _in_the_way(driver, scene, others, k, motion[0], motion[1])
    left = (count - steps) * dt * max(motion[3], _STANDING)
    return cost + _end_cost(driver, scene, start, motion, way, left)


@njit(cache=True, nogil=True, error_model="numpy")
def _end_cost(
    driver: Any, scene: Scene, start: Motion, end: Motion, way: float, left: float
) -> float:
    """Cost of where and how a plan ends, m, less its progress.

    Args:
        driver: The settings.
        scene: Where the car drives.
        start: Motion of the car now.
        end: Its last one.
        way: That it has driven in between, m.
        left: If it touches a wall, how much farther it would have come, m; else 0.
    """
    line = scene.line
    begun, _ = project(line, start[0], start[1])
    s, d = project(line, end[0], end[1])
    x, y, yaw = point_at(line, s, 0.0)
    progress: float = s - begun
    if line.closed:
        progress = wrapped(progress, line.length)
    elif s > line.length - driver.length:
        # Behind the finish of an open track there may be a wall: it does not matter any more.
        beyond = math.cos(yaw) * (end[0] - x) + math.sin(yaw) * (end[1] - y)
        return -progress - max(beyond, 0.0) - left
    if abs(progress) > _LOST * way + 1.0:
        progress = 0.0  # the nearest place of the line is one behind a wall
    if left > 0.0:
        return _CRASH - progress
    speed, passing = end[3], scene.speeds[entry_at(line, s, len(scene.speeds))]
    cost: float = -progress
    if speed > passing:
        cost += (speed * speed - passing * passing) / driver.acceleration
    error = wrapped(end[4] + end[6] - yaw, math.tau)
    cost += driver.line_weight * (d * d + _TURNED * error * error)
    return cost
