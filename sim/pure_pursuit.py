"""A driver that follows a line: pure pursuit (Coulter, CMU-RI-TR-92-01, 1992)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, PurePursuitConfig
from sim.layout import TARGET_SPEED, TARGET_STEER, YAW, V, X, Y
from sim.tracks import Track
from sim.tracks.centerline import Centerline, curvature, point_at, points_at, polyline, project
from sim.tracks.lanefile import read_lane
from sim.tracks.stack import LineStack, line_of, stack_lines
from sim.world import WorldArrays

_STEP: Final = 0.25  # m, between the entries of a speed profile at most
_CHORD: Final = 2  # steps to either side over which curvature is taken

_SETTINGS: Final = np.dtype(
    [
        ("car", np.int64),
        ("steer_max", np.float64),  # rad
        ("wheelbase", np.float64),  # m
        ("rear_axle", np.float64),  # m behind the centre of gravity
        ("lookahead", np.float64),  # m
        ("lookahead_time", np.float64),  # s
    ]
)


@njit(cache=True, nogil=True, error_model="numpy")
def _pure_pursuit(
    state: NDArray[np.float64],
    track: NDArray[np.int64],
    commands: NDArray[np.float64],
    lines: LineStack,
    profiles: NDArray[np.float64],
    starts: NDArray[np.int64],
    settings: NDArray[np.void],
    first: int,
    last: int,
) -> None:
    driver = settings[0]
    car, on = driver.car, track[first]
    line, speeds = line_of(lines, on), profiles[starts[on] : starts[on + 1]]
    for e in range(first, last):
        if track[e] != on:
            on = track[e]
            line, speeds = line_of(lines, on), profiles[starts[on] : starts[on + 1]]
        yaw = state[e, car, YAW]
        cos, sin = math.cos(yaw), math.sin(yaw)
        # Pure pursuit steers the rear axle along a circle through the point ahead.
        x = state[e, car, X] - driver.rear_axle * cos
        y = state[e, car, Y] - driver.rear_axle * sin
        s, _ = project(line, x, y)
        ahead = s + driver.lookahead + driver.lookahead_time * abs(state[e, car, V])
        goal_x, goal_y, course = point_at(line, ahead, 0.0)
        beyond = 0.0 if line.closed else max(ahead - line.length, 0.0)
        dx = goal_x + beyond * math.cos(course) - x
        dy = goal_y + beyond * math.sin(course) - y
        left = cos * dy - sin * dx
        curve = 2.0 * left / max(dx * dx + dy * dy, 1e-9)
        steer = math.atan(driver.wheelbase * curve)
        commands[e, car, TARGET_STEER] = min(max(steer, -driver.steer_max), driver.steer_max)
        entry = int(s / line.length * len(speeds))
        commands[e, car, TARGET_SPEED] = speeds[min(entry, len(speeds) - 1)]


def speed_profile(line: Centerline, fastest: float, acceleration: float) -> NDArray[np.float64]:
    """Speeds at which a line can be driven, at places 0.25 m or a little less apart.

    In bends v^2 |curvature| is at most the acceleration; before them the speed falls no faster
    than at it.

    Args:
        line: The line.
        fastest: Upper bound, m/s.
        acceleration: Sideways and braking, m/s^2.

    Returns:
        (ceil(length / 0.25),) m/s.
    """
    count = math.ceil(line.length / _STEP)
    step = line.length / count
    s = step * np.arange(-2 * _CHORD, count + 2 * _CHORD)
    points = points_at(line, np.column_stack([s, np.zeros(len(s))]))[:, :2]
    bend = np.zeros(count + 2 * _CHORD)
    for i in range(_CHORD):  # over chords, so that noise of the points counts less
        bend[i::_CHORD] = np.abs(curvature(points[i::_CHORD], closed=False))[1:-1]
    # A bend counts from where its first chord begins.
    bend = np.lib.stride_tricks.sliding_window_view(bend, 2 * _CHORD + 1).max(axis=1)
    speeds: NDArray[np.float64] = np.minimum(
        fastest, np.sqrt(acceleration / np.maximum(bend, 1e-9))
    )
    for _ in range(2):  # twice round a closed line
        for i in range(count - 1, -1, -1):
            if i + 1 < count or line.closed:
                after = speeds[(i + 1) % count]
                speeds[i] = min(speeds[i], math.sqrt(after**2 + 2 * acceleration * step))
    return speeds


class PurePursuit:
    """Steer for a point on a line ahead, at the speed that the line's bends allow.

    The steering angle is atan(wheelbase * 2 l / d^2) for a point at distance d from the rear
    axle, l to the left of it: that of a circle through the axle, tangent to the car's heading,
    and the point. Other than Coulter's, the point is a distance along the line ahead of the
    nearest point, not the line's intersection with a circle.

    Past the end of an open line it goes on straight.

    Args:
        config: The driver.
        env: The environment it is part of.
        car: Index of the car it drives.
        tracks: Give the centre lines.
        base_dir: Directory that a raceline's file is relative to.

    Raises:
        ValueError: If there is neither a centre line nor a raceline, or several tracks with one.
        TrackError: If the raceline's file is wrong.
    """

    def __init__(
        self,
        config: PurePursuitConfig,
        env: EnvConfig,
        car: int,
        tracks: Sequence[Track],
        base_dir: Path,
    ) -> None:
        name = env.cars[car].name
        lines = [track.line for track in tracks]
        if config.raceline is not None:
            if len(tracks) > 1:
                raise ValueError(
                    f"pure_pursuit of {name!r}: a raceline is that of one track, but there are "
                    f"{len(tracks)}; without it, the car follows each one's centre line"
                )
            lane = read_lane(base_dir / config.raceline)
            lines = [polyline(lane.points, lane.closed)]
        for line, track in zip(lines, tracks, strict=True):
            if not line.length > 0:
                raise ValueError(
                    f"pure_pursuit of {name!r} needs a raceline: {track.name} has no centre line"
                )
        profiles = [speed_profile(line, config.speed, config.acceleration) for line in lines]
        self._lines, self._profiles = stack_lines(lines), np.concatenate(profiles)
        self._starts = np.cumsum([0, *map(len, profiles)])
        vehicle = env.cars[car].vehicle
        row = (
            car,
            vehicle.steer_max,
            vehicle.front_axle + vehicle.rear_axle,
            vehicle.rear_axle,
            config.lookahead,
            config.lookahead_time,
        )
        self._settings = np.array([row], _SETTINGS)

    def reset(self, env: int) -> None:
        """Forget nothing: the driver has no memory."""

    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``."""
        _pure_pursuit(
            world.state,
            world.track,
            commands,
            self._lines,
            self._profiles,
            self._starts,
            self._settings,
            first,
            last,
        )
