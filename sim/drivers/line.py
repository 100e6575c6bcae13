"""What drivers that follow a line share: the line, and how fast it can be driven."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, PurePursuitConfig, StanleyConfig
from sim.drivers.base import Driver
from sim.tracks import Track
from sim.tracks.centerline import Centerline, curvature, points_at, polyline
from sim.tracks.lanefile import read_lane
from sim.tracks.stack import LineStack, line_of, stack_lines
from sim.world import WorldArrays

_STEP: Final = 0.25  # m, between the entries of a table at most
_CHORD: Final = 2  # steps to either side over which curvature is taken


class Routes(NamedTuple):
    """Lines to follow, one a track, and how fast they can be driven; for kernels."""

    lines: LineStack
    speeds: NDArray[np.float64]  # (all lines' entries,) m/s, from `speed_profile`
    starts: NDArray[np.int64]  # (T + 1,) where a line's entries begin


def make_routes(lines: Sequence[Centerline], speeds: Sequence[NDArray[np.float64]]) -> Routes:
    """Put lines and their speeds, one a track, into one set of arrays."""
    return Routes(stack_lines(lines), np.concatenate(speeds), np.cumsum([0, *map(len, speeds)]))


@njit(cache=True, nogil=True, error_model="numpy")
def route_on(routes: Routes, track: int) -> tuple[Centerline, NDArray[np.float64]]:
    """The line to follow on a track, and its speeds."""
    speeds = routes.speeds[routes.starts[track] : routes.starts[track + 1]]
    return line_of(routes.lines, track), speeds


class LineDriver(Driver):
    """Drives along a line on each track, at the speed that the line's bends allow.

    Args:
        config: The driver.
        env: The environment it is part of.
        car: Index of the car it drives.
        tracks: Give the centre lines.
        num_envs: Environments in the batch.
        base_dir: Directory that a raceline's file is relative to.
        kernel: Writes commands: `(state, track, commands, routes, settings, difficulty, first,
            last)`, see `Driver.command`.
        settings: (1,) what else the kernel needs.

    Raises:
        ValueError: If there is neither a centre line nor a raceline, or several tracks with one.
        TrackError: If the raceline's file is wrong.
    """

    def __init__(
        self,
        config: PurePursuitConfig | StanleyConfig,
        env: EnvConfig,
        car: int,
        tracks: Sequence[Track],
        num_envs: int,
        base_dir: Path,
        kernel: Callable[..., None],
        settings: NDArray[np.void],
    ) -> None:
        super().__init__(num_envs)
        lines = read_lines(config.raceline, env, car, tracks, base_dir)
        speeds = [speed_profile(line, config.speed, config.acceleration) for line in lines]
        self._routes = make_routes(lines, speeds)
        self._kernel, self._settings = kernel, settings

    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``."""
        self._kernel(
            world.state,
            world.track,
            commands,
            self._routes,
            self._settings,
            self.difficulty,
            first,
            last,
        )


def read_lines(
    raceline: str | None, env: EnvConfig, car: int, tracks: Sequence[Track], base_dir: Path
) -> list[Centerline]:
    """Return the line that a driver follows on each track.

    Args:
        raceline: CSV file; None: the tracks' centre lines.
        env: The environment that the driver is part of.
        car: Index of the car it drives.
        tracks: Give the centre lines.
        base_dir: Directory that the file is relative to.

    Raises:
        ValueError: If there is neither a centre line nor a raceline, or several tracks with one.
        TrackError: If the raceline's file is wrong.
    """
    driver = env.cars[car].driver
    who = f"{driver.kind if driver else 'the driver'} of {env.cars[car].name!r}"
    if raceline is not None:
        if len(tracks) > 1:
            raise ValueError(
                f"{who} has a raceline, which is that of one track, but there are {len(tracks)}; "
                "without it, it follows their centre lines"
            )
        lane = read_lane(base_dir / raceline)
        return [polyline(lane.points, lane.closed)]
    for track in tracks:
        if not track.length > 0:
            needed = "a raceline" if hasattr(driver, "raceline") else "a centre line"
            raise ValueError(f"{who} needs {needed}: {track.name} has no centre line")
    return [track.line for track in tracks]


def table_size(line: Centerline) -> int:
    """Entries of a table along a line: one for each 0.25 m, or a little less."""
    return math.ceil(line.length / _STEP)


@njit(cache=True, nogil=True, error_model="numpy")
def entry_at(line: Centerline, s: float, count: int) -> int:
    """Index of the entry for arc length s, m, in a table of ``count`` along a line."""
    if line.closed:
        s %= line.length
    return min(max(int(s / line.length * count), 0), count - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def wrapped(value: float, period: float) -> float:
    """Return the number in [-period / 2, period / 2] that is whole periods away."""
    return value - period * round(value / period)


def speed_profile(
    line: Centerline,
    fastest: float,
    acceleration: float,
    aside: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Speeds at which a line can be driven, at places 0.25 m or a little less apart.

    In bends v^2 |curvature| is at most the acceleration; before them the speed falls no faster
    than at it.

    Args:
        line: The line.
        fastest: Upper bound, m/s.
        acceleration: Sideways and braking, m/s^2.
        aside: How far the car may leave the line to the inside of its bends, where they are
            tighter; one number, or (N,) m.

    Returns:
        (N,) m/s, N from `table_size`.
    """
    count = table_size(line)
    step = line.length / count
    s = step * np.arange(-2 * _CHORD, count + 2 * _CHORD)
    points = points_at(line, np.column_stack([s, np.zeros(len(s))]))[:, :2]
    bend = np.zeros(count + 2 * _CHORD)
    for i in range(_CHORD):  # over chords, so that noise of the points counts less
        bend[i::_CHORD] = np.abs(curvature(points[i::_CHORD], closed=False))[1:-1]
    # A bend counts from where its first chord begins.
    bend = np.lib.stride_tricks.sliding_window_view(bend, 2 * _CHORD + 1).max(axis=1)
    bend = bend / np.maximum(1.0 - bend * aside, 0.1)
    speeds: NDArray[np.float64] = np.minimum(
        fastest, np.sqrt(acceleration / np.maximum(bend, 1e-9))
    )
    for _ in range(2):  # twice round a closed line
        for i in range(count - 1, -1, -1):
            if i + 1 < count or line.closed:
                after = speeds[(i + 1) % count]
                speeds[i] = min(speeds[i], math.sqrt(after**2 + 2 * acceleration * step))
    return speeds
