"""Tracks drawn as a lane of given widths along a centre line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import CenterlineTrack, OvalTrack
from sim.tracks.centerline import LENGTH, START, UX, UY, X0, Y0, Centerline, in_segment, polyline
from sim.tracks.gates import gate_across
from sim.tracks.lanefile import read_lane
from sim.tracks.track import Track, TrackError, check_cells, generated, staggered_spawns

STEP: Final = 0.2  # m, between points of drawn centre lines
RUN_OUT: Final = 2.0  # m, from an open lane's finish line to its end

Float = NDArray[np.float64]


@generated
def oval_track(config: OvalTrack) -> Track:
    """Two straights along x joined by half circles around the origin, counter-clockwise.

    The finish line is half way along the lower straight.

    Raises:
        TrackError: If the grid would have too many cells.
    """
    half, radius = config.straight / 2, config.radius
    lengths = [half, math.pi * radius, config.straight, math.pi * radius, half]
    counts = [math.ceil(length / STEP) for length in lengths]
    lower = np.linspace(0, half, counts[0], endpoint=False)
    turn = np.linspace(-np.pi / 2, np.pi / 2, counts[1], endpoint=False)
    upper = np.linspace(half, -half, counts[2], endpoint=False)
    arc = radius * np.column_stack([np.cos(turn), np.sin(turn)])
    shift = np.array([half, 0.0])
    parts = [
        np.column_stack([lower, np.full(counts[0], -radius)]),
        arc + shift,
        np.column_stack([upper, np.full(counts[2], radius)]),
        -arc - shift,
        np.column_stack([lower - half, np.full(counts[0], -radius)]),
    ]
    points = np.vstack(parts)
    widths = np.full((len(points), 2), config.width / 2)
    return lane_track("oval", points, widths, True, config.resolution)


def centerline_track(config: CenterlineTrack, base_dir: Path) -> Track:
    """The lane that a CSV file of x, y, w_right, w_left describes; see `read_lane`.

    Args:
        config: Names the file.
        base_dir: Directory that the file is relative to.

    Raises:
        TrackError: If the file is missing or wrong, if the lane touches itself, or if the grid
            would have too many cells.
    """
    path = base_dir / config.file
    lane = read_lane(path)
    if lane.widths is None:
        raise TrackError(f"{path}: no widths; columns x, y, w_right, w_left are needed")
    points, widths = config.scale * lane.points, config.scale * lane.widths
    return lane_track(str(path), points, widths, lane.closed, config.resolution)


def lane_track(name: str, points: Float, widths: Float, closed: bool, resolution: float) -> Track:
    """Draw a lane; its finish line is at the centre line's start, or before its open end.

    Args:
        name: Name for messages.
        points: (N, 2) m, of the centre line in driving direction.
        widths: (N, 2) m, of the lane left and right of the points.
        closed: Whether the last point leads back to the first.
        resolution: Edge of a grid cell, m.

    Raises:
        TrackError: If the lane touches itself or the grid would have too many cells.
    """
    line = polyline(points, closed)
    # Around corners the lane reaches farther than its widths, by at most 1 / cos of half the turn.
    reach = float(widths.max() * np.hypot(1.0, line.segments[:, -2:]).max()) + 2 * resolution
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    columns, rows = (int(n) for n in np.ceil((high - low) / resolution))
    check_cells(name, columns * rows, resolution, " or a smaller track")
    corner = (float(low[0]), float(low[1]))
    places = np.full((rows, columns), np.nan, np.float32)
    ends = np.vstack([widths, widths[:1]]) if closed else widths
    row, column = _draw(line, ends, corner, resolution, places)
    if row >= 0:
        x, y = corner[0] + (column + 0.5) * resolution, corner[1] + (row + 0.5) * resolution
        raise TrackError(
            f"{name}: the lane touches itself near ({x:g}, {y:g}) m; "
            "smaller widths or another centre line are needed"
        )
    track = Track.from_occupancy(
        name,
        ~np.isnan(places),
        resolution,
        (*corner, 0.0),
        centerline=points,
        closed=closed,
        stated_widths=widths,
    )
    finish = 0.0 if closed else track.length - min(RUN_OUT, 0.1 * track.length)
    return track.starting(finish_line=gate_across(track, finish), spawns=staggered_spawns(track))


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(
    line: Centerline,
    widths: Float,
    corner: tuple[float, float],
    resolution: float,
    places: NDArray[np.float32],
) -> tuple[int, int]:
    """Write into each free cell the arc length, m, at which the lane passes it.

    Args:
        line: The centre line, S segments.
        widths: (S + 1, 2) m, left and right at the segments' ends.
        corner: Lower left of the grid, m.
        resolution: Edge of a cell, m.
        places: (H, W) NaN, written.

    Returns:
        Row and column of a cell where the lane touches another part of itself, -1, -1 if none.
    """
    rows, columns = places.shape
    around = line.length if line.closed else math.inf
    for i in range(len(line.segments)):
        segment = line.segments[i]
        length = segment[LENGTH]
        reach = max(widths[i].max(), widths[i + 1].max())
        reach *= math.sqrt(1.0 + max(abs(segment[6]), abs(segment[7])) ** 2)
        x0, y0 = segment[X0], segment[Y0]
        x1, y1 = x0 + length * segment[UX], y0 + length * segment[UY]
        left = int((min(x0, x1) - reach - corner[0]) / resolution)
        right = int((max(x0, x1) + reach - corner[0]) / resolution) + 1
        low = int((min(y0, y1) - reach - corner[1]) / resolution)
        high = int((max(y0, y1) + reach - corner[1]) / resolution) + 1
        for row in range(max(low, 0), min(high, rows)):
            for column in range(max(left, 0), min(right, columns)):
                x = corner[0] + (column + 0.5) * resolution
                y = corner[1] + (row + 0.5) * resolution
                _, d, s, _ = in_segment(line.segments, i, x, y)
                t = s / length
                if not -1e-9 <= t <= 1.0 + 1e-9:
                    continue
                width_left = widths[i, 0] + t * (widths[i + 1, 0] - widths[i, 0])
                width_right = widths[i, 1] + t * (widths[i + 1, 1] - widths[i, 1])
                if not -width_right < d < width_left:
                    continue
                place = segment[START] + s
                if _far(place, places[row, column], around, width_left + width_right):
                    return row, column
                places[row, column] = place
    return _first_touch(places, around, widths.sum(axis=1).max())


@njit(cache=True, nogil=True, error_model="numpy")
def _first_touch(places: NDArray[np.float32], around: float, width: float) -> tuple[int, int]:
    """Row and column of a cell whose neighbour is of a far part of the lane, -1, -1 if none."""
    rows, columns = places.shape
    for row in range(1, rows):
        for column in range(1, columns - 1):
            place = places[row, column]
            if math.isnan(place):
                continue
            if (
                _far(place, places[row, column - 1], around, width)
                or _far(place, places[row - 1, column - 1], around, width)
                or _far(place, places[row - 1, column], around, width)
                or _far(place, places[row - 1, column + 1], around, width)
            ):
                return row, column
    return -1, -1


@njit(cache=True, nogil=True, error_model="numpy")
def _far(s: float, other: float, around: float, width: float) -> bool:
    """Whether places are farther apart along the line than around any bend of the lane.

    Args:
        s: Arc length, m.
        other: Of another place, m; False if it is not a number.
        around: Length of a closed line, m; infinite for an open one.
        width: Of the lane, m.
    """
    apart: float = abs(np.float64(s) - np.float64(other))
    return min(apart, around - apart) > math.pi * width
