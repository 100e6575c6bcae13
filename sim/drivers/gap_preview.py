"""Follow the gap with preview: headings are judged by the path that the car would take to them.

The readings are turned into how far the car, as a disc, can drive straight in each direction,
as in VFH+ (Ulrich and Borenstein, ICRA 1998); the candidates are rolled out and scored by
clearance and by what they change, as in the dynamic window approach (Fox, Burgard and Thrun,
IEEE Robotics and Automation Magazine 4, 1997).
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import GapPreviewConfig
from sim.drivers.base import KernelDriver, Seat
from sim.drivers.follow_the_gap import beams_in_view
from sim.drivers.line import wrapped
from sim.layout import TARGET_SPEED, TARGET_STEER, YAW
from sim.native import record
from sim.physics.lidar import make_beams
from sim.settings import numbers

_SECTORS: Final = 180  # at most; beams beyond that share sectors, and the nearest counts
_STRIDE: Final = 0.2  # m, between the points of a preview at most
_SUBSTEPS: Final = 20  # integration steps from point to point


class _Previews(NamedTuple):
    """K candidate headings and J points on the path to each, the same at every step."""

    headings: NDArray[np.float64]  # (K,) rad, to the car's own
    ranges: NDArray[np.float64]  # (K, J) m, of the car's middle from the sensor
    sectors: NDArray[np.int64]  # (K, J) that it is seen in; -1 outside the field of view
    turns: NDArray[np.float64]  # (2, S) cosine and sine of multiples of a sector's angle


@njit(cache=True, nogil=True, error_model="numpy")
def free_distances(
    ranges: NDArray[np.float32], turns: NDArray[np.float64], driver: Any, depth: NDArray[np.float64]
) -> None:
    """How far a disc can move from the sensor in the middle direction of each sector.

    Args:
        ranges: (B,) m.
        turns: (2, S) cosine and sine of the angle between directions so many sectors apart.
        driver: The settings; the disc's radius is the clearance.
        depth: (2, S) m; the second row is written, the first is working memory.
    """
    nearest, free = depth[0], depth[1]
    count = len(free)
    for i in range(count):
        nearest[i] = driver.horizon
        start = driver.begin + i * driver.group
        for b in range(start, start + driver.group):
            nearest[i] = min(nearest[i], ranges[b])
        free[i] = driver.horizon
    radius = driver.clearance
    for i in range(count):
        near = max(nearest[i], 1e-3)
        if near >= driver.horizon:
            continue
        reach = math.pi / 2 if near <= radius else math.asin(radius / near)
        covered = int(reach / driver.spacing)
        for k in range(max(i - covered, 0), min(i + covered, count - 1) + 1):
            along, across = near * turns[0, abs(k - i)], near * turns[1, abs(k - i)]
            until = along - math.sqrt(max(radius * radius - across * across, 0.0))
            free[k] = min(free[k], max(until, 0.0))


@njit(cache=True, nogil=True, error_model="numpy")
def _preview(
    free: NDArray[np.float64], previews: _Previews, k: int, driver: Any
) -> tuple[float, float]:
    """Mean clearance along a candidate's path, 0 to 1, and its free length, m."""
    points = previews.ranges.shape[1]
    total, slack, length = 0.0, 0.0, 0.0
    for j in range(points):
        sector = previews.sectors[k, j]
        if sector < 0:
            break
        slack = free[sector] - previews.ranges[k, j]
        if slack <= 0.0:
            return total / points, length
        total += slack / (driver.horizon - previews.ranges[k, j])
        length += driver.stride
    # Beyond the preview the path is taken to go on as its last point is seen.
    return total / points, length + slack


@njit(cache=True, nogil=True, error_model="numpy")
def _gap_preview(
    settings: NDArray[np.void],
    state: NDArray[np.float64],
    scan: NDArray[np.float32],
    previews: _Previews,
    last_course: NDArray[np.float64],
    scratch: NDArray[np.float64],
    difficulty: NDArray[np.float64],
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car = driver.car
    for e in range(first, last):
        free_distances(scan[e, car], previews.turns, driver, scratch[e])
        yaw = state[e, car, YAW]
        before = yaw if math.isnan(last_course[e]) else last_course[e]
        best, score, length = 0, -math.inf, 0.0
        for k in range(len(previews.headings)):
            clearance, reached = _preview(scratch[e, 1], previews, k, driver)
            change = wrapped(yaw + previews.headings[k] - before, math.tau)
            clearance -= driver.continuity * abs(change)
            if clearance > score:
                best, score, length = k, clearance, reached
        aim = previews.headings[best]
        last_course[e] = yaw + aim
        steer = min(max(aim, -driver.steer_max), driver.steer_max)
        commands[e, car, TARGET_STEER] = steer
        # Fast enough to stop before the first thing on the path that was chosen.
        room = max(length + driver.clearance - driver.front, 0.0)
        bend = abs(math.tan(steer)) / driver.wheelbase
        squared = driver.acceleration * min(2.0 * room, 1.0 / max(bend, 1e-9))
        commands[e, car, TARGET_SPEED] = difficulty[e] * min(driver.speed, math.sqrt(squared))


class GapPreview(KernelDriver):
    """Steer for the heading whose path ahead is the freest, and change it reluctantly.

    Each of ``candidates`` headings is a path: what the rear axle does in the kinematic model
    while the front wheels point to that heading, as far as they turn, over ``preview`` metres.
    At each point of the path the clearance is how much farther than the point the car, as a disc
    of half its width and ``margin``, could drive straight from where it is now in the point's
    direction, as a fraction of what it could if nothing were nearer than ``horizon``; 0 from the
    first point that it could not reach so. The score of a candidate is the mean clearance,
    less ``continuity`` for each radian that it differs from the heading chosen before, which is
    kept in the world's frame and is the car's own at first. Wheels and speed follow the best: the
    speed leaves room to brake on the path, and keeps v^2 tan(steer) / wheelbase to
    ``acceleration``.

    Args:
        config: The driver.
        seat: Where it sits.

    Raises:
        ValueError: If the lidar has fewer than three beams in the field of view.
    """

    def __init__(self, config: GapPreviewConfig, seat: Seat) -> None:
        beams, vehicle = make_beams(seat.env.lidar), seat.vehicle
        begin, end = beams_in_view(config, seat)
        group = -(-(end - begin) // _SECTORS)
        count = (end - begin) // group
        begin += (end - begin) % group // 2  # the few that are left over lie at the edges
        stride = config.preview / math.ceil(config.preview / _STRIDE)
        angle = beams.first + beams.spacing * (begin + (group - 1) / 2)
        spacing = beams.spacing * group
        settings = record(
            car=seat.car,
            steer_max=vehicle.steer_max,  # rad
            wheelbase=vehicle.front_axle + vehicle.rear_axle,  # m
            front=vehicle.length / 2,  # m, from the centre of gravity to the car's front
            clearance=vehicle.width / 2 + config.margin,  # m
            spacing=spacing,  # rad, between the middles of sectors
            begin=begin,  # first beam in the field of view
            group=group,  # beams a sector
            **numbers(config),
            stride=stride,  # m, between the points of a preview
        )
        headings = angle + np.linspace(0.0, spacing * (count - 1), config.candidates)
        paths = _paths(headings, seat, stride, round(config.preview / stride))
        ranges = np.hypot(paths[..., 0], paths[..., 1])
        bearings = np.arctan2(paths[..., 1], paths[..., 0])
        sectors = np.rint((bearings - angle) / spacing).astype(np.int64)
        sectors[(sectors < 0) | (sectors >= count)] = -1
        angles = spacing * np.arange(count, dtype=np.float64)
        turns = np.array([np.cos(angles), np.sin(angles)])
        previews = _Previews(headings, ranges, sectors, turns)
        self._last_course = np.full(seat.num_envs, np.nan)
        scratch = np.zeros((seat.num_envs, 2, count))
        tables = previews, self._last_course, scratch
        super().__init__(seat, _gap_preview, ["state", "scan"], settings, *tables)

    def reset(self, env: int) -> None:
        """Forget the heading chosen last."""
        self._last_course[env] = np.nan


def _paths(
    headings: NDArray[np.float64], seat: Seat, stride: float, points: int
) -> NDArray[np.float64]:
    """(K, J, 2) m: where the car's middle would be, from the sensor and along its beam ahead."""
    vehicle = seat.vehicle
    x = np.full(len(headings), -vehicle.rear_axle)  # of the rear axle
    y, yaw = np.zeros(len(headings)), np.zeros(len(headings))
    paths = np.zeros((len(headings), points, 2))
    step = stride / _SUBSTEPS
    for j in range(points):
        for _ in range(_SUBSTEPS):
            steer = np.clip(headings - yaw, -vehicle.steer_max, vehicle.steer_max)
            x += step * np.cos(yaw)
            y += step * np.sin(yaw)
            yaw += step * np.tan(steer) / (vehicle.front_axle + vehicle.rear_axle)
        paths[:, j, 0] = x + vehicle.rear_axle * np.cos(yaw) - seat.env.lidar.mount_x
        paths[:, j, 1] = y + vehicle.rear_axle * np.sin(yaw)
    return paths
