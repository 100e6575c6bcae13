"""What drivers that follow a line share: the line, and how fast it can be driven."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sim.config.drivers import LineDriverConfig
from sim.drivers.base import KernelDriver, Seat
from sim.native import Kernel, Settings
from sim.tracks.centerline import START, Centerline, curvature, points_at, polyline
from sim.tracks.lanefile import read_raceline
from sim.tracks.speeds import Limits, speed_profile
from sim.tracks.stack import LineStack, line_of, stack_lines
from sim.tracks.track import Track, TrackError

_MARGIN: Final = 0.3  # m, from the sides of the car on a line that is found to walls
_STEP: Final = 0.25  # m, between the entries of a table at most
_CHORD: Final = 2  # steps to either side over which curvature is taken


class Routes(NamedTuple):
    """Lines to follow, one a track, and how fast they can be driven; for kernels."""

    lines: LineStack
    speeds: NDArray[np.float64]  # (all lines' entries,) m/s, from `driven_speeds` or a file
    starts: NDArray[np.int64]  # (T + 1,) where a line's entries begin


def make_routes(lines: Sequence[Centerline], speeds: Sequence[NDArray[np.float64]]) -> Routes:
    """Put lines and their speeds, one a track, into one set of arrays."""
    return Routes(stack_lines(lines), np.concatenate(speeds), np.cumsum([0, *map(len, speeds)]))


@njit(cache=True, nogil=True, error_model="numpy")
def route_on(routes: Routes, track: int) -> tuple[Centerline, NDArray[np.float64]]:
    """The line to follow on a track, and its speeds."""
    speeds = routes.speeds[routes.starts[track] : routes.starts[track + 1]]
    return line_of(routes.lines, track), speeds


class LineDriver(KernelDriver):
    """Drives along a line on each track.

    Args:
        seat: Where it sits.
        kernel: As that of a `KernelDriver`, with the arrays ``state`` and ``track`` and the table
            `Routes`, before its own tables.
        settings: Its settings.
        lines: One a track, with tables of their speeds, as those of `followed`.
        tables: Its own tables.
    """

    def __init__(
        self,
        seat: Seat,
        kernel: Kernel,
        settings: Settings,
        lines: Sequence[tuple[Centerline, NDArray[np.float64]]],
        *tables: Any,
    ) -> None:
        routes = make_routes([line for line, _ in lines], [speeds for _, speeds in lines])
        super().__init__(seat, kernel, ["state", "track"], settings, routes, *tables)


def followed(
    config: LineDriverConfig,
    seat: Seat,
    by_bends: Callable[[Centerline], NDArray[np.float64]] | None = None,
) -> list[tuple[Centerline, NDArray[np.float64]]]:
    """Lines that a driver follows, one a track, with tables of their speeds, m/s.

    The line is the driver's raceline, otherwise those of the tracks if all have one, otherwise
    their centre lines or lines of least curvature, as the driver says. Its speeds are those of its
    file, or what its bends allow.

    Args:
        config: The driver.
        seat: Where it sits; the tracks give the centre lines.
        by_bends: Table of the speeds that a line's bends allow; by default `driven_speeds`.

    Raises:
        ValueError: If there is neither a centre line nor a raceline, or several tracks with one.
        TrackError: If the raceline's file is wrong.
    """
    bent = by_bends or partial(
        driven_speeds, fastest=config.speed, acceleration=config.acceleration
    )
    factor = config.speed_factor
    routes = racelines(seat, config.raceline)
    if not routes:
        lines = least_curvature_lines(seat) if config.least_curvature else read_lines(seat)
        routes = [(line, None) for line in lines]
    return [
        (line, bent(line) if factor is None or own is None else factor * along(line, own))
        for line, own in routes
    ]


def read_lines(seat: Seat) -> list[Centerline]:
    """Return the centre line of each track.

    Raises:
        ValueError: If there is a track without one.
    """
    driver = seat.env.cars[seat.car].driver
    for track in seat.tracks:
        if not track.length > 0:
            needed = "a raceline" if hasattr(driver, "raceline") else "a centre line"
            raise ValueError(
                f"{driver.kind if driver else 'the driver'} of {seat.name!r} needs {needed}: "
                f"{track.name} has no centre line"
            )
    return [track.line for track in seat.tracks]


def least_curvature_lines(seat: Seat) -> list[Centerline]:
    """Find the line of least curvature of each track; the centre line where there is none.

    There is none on open and on very narrow tracks.

    Raises:
        ValueError: If there is a track without a centre line.
    """
    read_lines(seat)
    return [_least_curvature(track, seat.vehicle.width) for track in seat.tracks]


@lru_cache(maxsize=256)
def _least_curvature(track: Track, width: float) -> Centerline:
    """The line of least curvature for a car of a width, m."""
    from sim.tracks.raceline import minimum_curvature  # imports a solver

    try:
        return polyline(minimum_curvature(track, width / 2 + _MARGIN), closed=True)
    except TrackError:
        return track.line


def racelines(
    seat: Seat, raceline: str | None
) -> list[tuple[Centerline, NDArray[np.float64] | None]]:
    """Racing lines, one a track, with speeds, m/s at their points; none if there are none.

    Args:
        seat: Where the driver sits.
        raceline: File of its own line; None: those of the tracks, if all have one.

    Raises:
        ValueError: If there are several tracks for one file.
        TrackError: If the file is wrong.
    """
    if raceline is None:
        found = [(track.raceline, track.raceline_speeds) for track in seat.tracks]
        kept = [(polyline(line, seat.tracks[0].closed), v) for line, v in found if line is not None]
        return kept if len(kept) == len(found) else []
    if len(seat.tracks) > 1:
        driver = seat.env.cars[seat.car].driver
        raise ValueError(
            f"{driver.kind if driver else 'the driver'} of {seat.name!r} has a raceline, which is "
            f"that of one track, but there are {len(seat.tracks)}; without it, it follows their "
            "centre lines"
        )
    lane = read_raceline(seat.base_dir / raceline)
    return [(polyline(lane.points, lane.closed), lane.speeds)]


def along(line: Centerline, speeds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put speeds that are known at a line's points into a table as that of `driven_speeds`.

    Args:
        line: The line.
        speeds: (N,) m/s at its points.

    Returns:
        (M,) m/s, M from `table_size`.
    """
    count = table_size(line)
    s = line.length / count * (np.arange(count) + 0.5)
    known = np.append(line.segments[:, START], [] if line.closed else [line.length])
    period = line.length if line.closed else None
    table: NDArray[np.float64] = np.interp(s, known, speeds, period=period)
    return table


def table_size(line: Centerline) -> int:
    """Number of entries of a table along a line: one for each 0.25 m, or a little less."""
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


def driven_speeds(
    line: Centerline, fastest: float, acceleration: float, aside: NDArray[np.float64] | float = 0.0
) -> NDArray[np.float64]:
    """Speeds at which a line can be driven, at places 0.25 m or a little less apart.

    In bends v^2 |curvature| is at most the acceleration; before them the speed falls at most at
    that rate.

    Args:
        line: The line.
        fastest: Upper bound, m/s.
        acceleration: Sideways and braking, m/s^2.
        aside: How far the car may leave the line to the inside of its bends, where they are
            tighter; one number, or (N,) m.

    Returns:
        (N,) m/s, N from `table_size`.
    """
    limits = Limits(acceleration, braking=acceleration, fastest=fastest, exponent=math.inf)
    bend = bends(line)
    bend = bend / np.maximum(1.0 - bend * aside, 0.1)
    return speed_profile(bend, line.length / len(bend), limits, closed=line.closed)


def bends(line: Centerline) -> NDArray[np.float64]:
    """Curvature of a line at places 0.25 m or a little less apart, (N,) 1/m, N from `table_size`.

    Without its sign, and as large as anywhere within half a metre.
    """
    count = table_size(line)
    s = line.length / count * np.arange(-2 * _CHORD, count + 2 * _CHORD)
    points = points_at(line, np.column_stack([s, np.zeros(len(s))]))[:, :2]
    found = np.zeros(count + 2 * _CHORD)
    for i in range(_CHORD):  # over chords, so that noise of the points counts less
        found[i::_CHORD] = np.abs(curvature(points[i::_CHORD], closed=False))[1:-1]
    # A bend counts from where its first chord begins.
    widest: NDArray[np.float64] = sliding_window_view(found, 2 * _CHORD + 1).max(axis=1)
    return widest
