"""A driver that needs no map: follow the gap, with the disparity extension of F1TENTH teams.

Sezer and Gokasan, "A novel obstacle avoidance algorithm: Follow the Gap Method", Robotics and
Autonomous Systems 60, 2012. Otterness, "The Disparity Extender Algorithm, and F1/Tenth", 2019,
nathanotterness.com.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import FollowTheGapConfig
from sim.config.drivers import GapDriverConfig
from sim.drivers.base import KernelDriver, Seat
from sim.layout import TARGET_SPEED, TARGET_STEER
from sim.native import record
from sim.physics.lidar import make_beams
from sim.settings import numbers

_DEEP: Final = 0.85  # a gap goes on while readings reach this part of its deepest


@njit(cache=True, nogil=True, error_model="numpy")
def extend_disparities(
    ranges: NDArray[np.float32],
    horizon: float,
    disparity: float,
    clearance: float,
    spacing: float,
    depth: NDArray[np.float32],
) -> None:
    """Shorten readings to where a car, not a point, could drive in their direction.

    Where neighbouring readings differ by more than ``disparity``, the nearer one is an edge; the
    readings beyond it that a disc of radius ``clearance`` at the edge covers are made as short.

    Args:
        ranges: (B,) m.
        horizon: Farther readings count as this far, m.
        disparity: m.
        clearance: m.
        spacing: Angle between beams, rad.
        depth: (B,) m, written.
    """
    beams = len(ranges)
    for b in range(beams):
        depth[b] = min(ranges[b], horizon)
    for b in range(beams - 1):
        if abs(np.float64(ranges[b + 1]) - np.float64(ranges[b])) > disparity:
            right_nearer = ranges[b] < ranges[b + 1]
            edge = b if right_nearer else b + 1
            near = min(ranges[edge], horizon)
            reach = math.asin(min(clearance / max(near, 1e-3), 1.0))
            covered = math.ceil(reach / spacing)
            low = edge if right_nearer else max(edge - covered, 0)
            high = min(edge + covered, beams - 1) if right_nearer else edge
            for k in range(low, high + 1):
                depth[k] = min(depth[k], near)


@njit(cache=True, nogil=True, error_model="numpy")
def _obstacle_beside(ranges: NDArray[np.float32], driver: Any, side: float) -> bool:
    """Whether anything is beside the rear half of the car, on the side it would turn to."""
    for b in range(len(ranges)):
        angle = side * (driver.first_angle + driver.spacing * b)
        if angle > math.pi / 2:
            behind, beside = -ranges[b] * math.cos(angle), ranges[b] * math.sin(angle)
            if behind < driver.rear and beside < driver.clearance:
                return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _follow_the_gap(
    settings: NDArray[np.void],
    scan: NDArray[np.float32],
    scratch: NDArray[np.float32],
    difficulty: NDArray[np.float64],
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car, begin, end = driver.car, driver.begin, driver.end
    for e in range(first, last):
        ranges, depth = scan[e, car], scratch[e]
        extend_disparities(
            ranges[begin:end],
            driver.horizon,
            driver.disparity,
            driver.clearance,
            driver.spacing,
            depth[begin:end],
        )
        deepest = begin
        for b in range(begin, end):
            if depth[b] > depth[deepest]:
                deepest = b
        right = left = deepest
        while right > begin and depth[right - 1] >= _DEEP * depth[deepest]:
            right -= 1
        while left < end - 1 and depth[left + 1] >= _DEEP * depth[deepest]:
            left += 1
        aim = driver.first_angle + driver.spacing * (right + left) / 2
        steer = min(max(aim, -driver.steer_max), driver.steer_max)
        if _obstacle_beside(ranges, driver, 1.0 if steer > 0.0 else -1.0):
            steer = 0.0
        commands[e, car, TARGET_STEER] = steer
        # Fast enough to stop before what is ahead where the wheels point.
        b = round((steer - driver.first_angle) / driver.spacing)
        free = max(depth[min(max(b, begin), end - 1)] - driver.front, 0.0)
        bend = abs(math.tan(steer)) / driver.wheelbase
        squared = driver.acceleration * min(2.0 * free, 1.0 / max(bend, 1e-9))
        commands[e, car, TARGET_SPEED] = difficulty[e] * min(driver.speed, math.sqrt(squared))


def beams_in_view(config: GapDriverConfig, seat: Seat) -> tuple[int, int]:
    """Return the first beam in a driver's field of view, and one past the last.

    Raises:
        ValueError: If there are fewer than three.
    """
    beams = make_beams(seat.env.lidar)
    angles = beams.first + beams.spacing * np.arange(seat.env.lidar.beams)
    seen = np.flatnonzero(np.abs(angles) <= config.field_of_view / 2 + 1e-9)
    if len(seen) < 3:
        raise ValueError(
            f"{config.kind} of {seat.name!r} needs at least 3 beams in its field of "
            f"view of {config.field_of_view:g} rad, found {len(seen)}"
        )
    return int(seen[0]), int(seen[-1]) + 1


class FollowTheGap(KernelDriver):
    """Steer for the middle of the deepest gap, at the speed from which the car can stop.

    Where neighbouring readings differ by more than ``disparity`` there is an edge; readings
    beside it are shortened to the edge's over half the car's width and ``margin``. The gap is
    the deepest reading left in the field of view, with its neighbours that reach 85 % of it. The
    car does not turn towards a side where anything is nearer than ``margin`` to its rear half,
    as it would cut the corner; only beams more than 90 degrees off the heading see that. The
    speed leaves room to brake before the reading ahead, and keeps v^2 tan(steer) / wheelbase to
    ``acceleration``.

    Args:
        config: The driver.
        seat: Where it sits.

    Raises:
        ValueError: If the lidar has fewer than three beams in the field of view.
    """

    def __init__(self, config: FollowTheGapConfig, seat: Seat) -> None:
        lidar, vehicle = seat.env.lidar, seat.vehicle
        beams = make_beams(lidar)
        begin, end = beams_in_view(config, seat)
        settings = record(
            car=seat.car,
            steer_max=vehicle.steer_max,  # rad
            wheelbase=vehicle.front_axle + vehicle.rear_axle,  # m
            front=vehicle.length / 2 - lidar.mount_x,  # m, from the sensor to the car's front
            rear=vehicle.length / 2 + lidar.mount_x,  # m, from the sensor to the car's rear
            clearance=vehicle.width / 2 + config.margin,  # m
            first_angle=beams.first,  # rad, of beam 0
            spacing=beams.spacing,  # rad, between beams
            begin=begin,  # first beam in the field of view
            end=end,  # one past the last
            **numbers(config),
        )
        scratch = np.zeros((seat.num_envs, lidar.beams), np.float32)
        super().__init__(seat, _follow_the_gap, ["scan"], settings, scratch)
