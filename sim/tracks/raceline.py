"""Racing lines: the line of least curvature around a closed track.

Heilmeier, Wischnewski, Hermansdorfer, Betz, Lienkamp and Lohmann, "Minimum curvature trajectory
planning and control for an autonomous race car", Vehicle System Dynamics 58, 2020: the squared
curvature is minimised over shifts of the line's points along its normals, a quadratic programme.
As theirs, ours takes the second derivative by the arc length of the line before the shift for the
curvature. That also makes lines shorter: a circle's stays inside, where it is faster.

Unlike theirs, each line is the next one's reference, and how far its points may be shifted is read
from the distance field, so neither widths nor a smooth centre line are needed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, map_coordinates

from sim.tracks.quadratic import minimise
from sim.tracks.track import Track, TrackError

Float = NDArray[np.float64]

SPACING: Final = 0.25  # m, between points that are shifted
_FEWEST, _MOST = 100, 4000  # of them
_SMOOTHING: Final = 0.5  # m, of the centre line to begin with
_REACH: Final = 0.5  # m, of a shift at least
_STEPS: Final = 12  # of a search; the first few do most
_SHORTER: Final = 0.6  # from the farthest shift of a step to that of the next
_ROUNDS: Final = 8  # searches, until the clearance is kept between points, too; two are usual
_CLOSE: Final = 1e-3  # m, that may be missing
_DENSE: Final = 0.02  # m, between the points where the clearance is looked at


def minimum_curvature(track: Track, distance: float) -> Float:
    """Find the line of least curvature.

    Args:
        track: A closed track with a centre line, along which the search begins.
        distance: From the line to the walls at least, m.

    Returns:
        (N, 2) m, evenly spaced, `SPACING` or so apart, in driving direction.

    Raises:
        TrackError: If the track is open, or too narrow.
    """
    needs_loop(track)
    spacing = track.length / min(max(track.length / SPACING, _FEWEST), _MOST)
    rough = resample(track.centerline, spacing)
    smoothed = gaussian_filter1d(rough, _SMOOTHING / spacing, axis=0, mode="wrap")
    points = resample(smoothed, spacing)
    reach = max(_REACH, float(np.mean(track.widths)) / 2)
    kept = distance  # at the points; between them a little may be missing
    for _ in range(_ROUNDS):
        for step in range(_STEPS):
            # Ever shorter shifts, as walls of cells make the line go to and fro in the end.
            points = resample(_straighten(track, points, kept, reach * _SHORTER**step), spacing)
        dense = resample(points, _DENSE)
        room = clearance(track, dense)
        missing = distance - float(room.min())
        if missing <= _CLOSE:
            return points
        kept, reach = kept + missing, max(_REACH / 5, 2 * missing)
    x, y = dense[np.argmin(room)]
    raise TrackError(
        f"{track.name}: near ({x:.2f}, {y:.2f}) m no line is found that is {distance:.2f} m from "
        "the walls; a smaller margin or a wider track is needed"
    )


def needs_loop(track: Track) -> None:
    """Refuse a track without a closed centre line.

    Raises:
        TrackError: If it has none.
    """
    if not track.closed:
        what = "an open track" if len(track.centerline) else "a track without a centre line"
        raise TrackError(f"{track.name}: {what}; a racing line needs a closed one")


def resample(points: Float, spacing: float) -> Float:
    """Points of a closed line at even distances, on a cubic spline through its points.

    Args:
        points: (N, 2) m.
        spacing: m, or a little less.
    """
    ring = np.vstack([points, points[:1]])
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    count = int(np.ceil(s[-1] / spacing - 1e-6))
    even: Float = CubicSpline(s, ring, bc_type="periodic")(np.arange(count) * s[-1] / count)
    return even


def clearance(track: Track, points: Float) -> Float:
    """Distance to the nearest wall's face, interpolated between the centres of cells.

    Args:
        track: The track.
        points: (..., 2) m.

    Returns:
        (...) m; below 0 in walls.
    """
    field = track.field
    offset = (points - (field.x, field.y)) / field.resolution
    column = field.cos * offset[..., 0] + field.sin * offset[..., 1]
    row = field.cos * offset[..., 1] - field.sin * offset[..., 0]
    cells = (row - 0.5, column - 0.5)
    found: Float = map_coordinates(field.distance, cells, np.float64, order=1, mode="nearest")
    return found - field.resolution / 2


def smallest_clearance(track: Track, points: Float) -> float:
    """Distance of a closed line, also between its points, from the walls, m."""
    return float(clearance(track, resample(points, _DENSE)).min())


def _straighten(track: Track, points: Float, distance: float, reach: float) -> Float:
    """Shift a line's points so that it bends least: one step of the Gauss-Newton method."""
    count = len(points)
    along = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    along /= np.hypot(*along.T)[:, None]
    normals = np.column_stack([-along[:, 1], along[:, 0]])
    low, high = _bounds(track, points, normals, distance, reach)
    step = np.hypot(*(np.roll(points, -1, axis=0) - points).T).mean()
    bend = _second_differences(count) / step**2  # of evenly spaced points: the curvature
    shifted = sparse.vstack([bend @ sparse.diags(side) for side in normals.T])
    matrix = shifted.T @ shifted + 1e-9 * sparse.identity(count)
    vector = shifted.T @ np.concatenate([bend @ points[:, 0], bend @ points[:, 1]])
    moved: Float = points + minimise(matrix, vector, low, high)[:, None] * normals
    return moved


def _second_differences(count: int) -> sparse.csr_matrix:
    """(N, N) matrix of the differences p[i - 1] - 2 p[i] + p[i + 1] around a loop."""
    i = np.arange(count)
    rows, columns = np.tile(i, 3), np.concatenate([(i - 1) % count, i, (i + 1) % count])
    return sparse.csr_matrix((np.repeat([1.0, -2.0, 1.0], count), (rows, columns)))


def _bounds(
    track: Track, points: Float, normals: Float, distance: float, reach: float
) -> tuple[Float, Float]:
    """How far points can be shifted to the right and left without coming too near to a wall.

    A point that is too near by itself is shifted to where the nearest clear way begins.

    Args:
        track: The track.
        points: (N, 2) m.
        normals: (N, 2), to the left.
        distance: From the walls, m.
        reach: Farthest shift, m.

    Returns:
        (N,) m and (N,) m, positive to the left.
    """
    half = int(np.ceil(reach / (track.resolution / 2)))
    shifts = np.linspace(-reach, reach, 2 * half + 1)
    room = clearance(track, points[:, None] + shifts[:, None] * normals[:, None]) - distance
    return _clear_ways(room, shifts)


@njit(cache=True, nogil=True, error_model="numpy")
def _clear_ways(room: Float, shifts: Float) -> tuple[Float, Float]:
    """The clear shifts of each point that are connected with the one nearest to no shift.

    Args:
        room: (N, K) m, what is left of the clearance at each shift; clear if not below 0.
        shifts: (K,) m, ascending, K odd, 0 in the middle.

    Returns:
        (N,) m and (N,) m, where they begin and end; of a point that has none, where it is best.
    """
    count, half = len(room), len(shifts) // 2
    low, high = np.zeros(count), np.zeros(count)
    for i in range(count):
        start = -1
        for away in range(half, -1, -1):
            for k in (half - away, half + away):
                if room[i, k] >= 0.0:
                    start = k
        if start < 0:
            low[i] = high[i] = shifts[np.argmax(room[i])]
            continue
        for step in (-1, 1):
            k = start
            while 0 <= k + step < len(shifts) and room[i, k + step] >= 0.0:
                k += step
            edge = shifts[k]
            if 0 <= k + step < len(shifts):
                share = room[i, k] / (room[i, k] - room[i, k + step])
                edge += share * (shifts[k + step] - shifts[k])
            if step < 0:
                low[i] = edge
            else:
                high[i] = edge
    return low, high
