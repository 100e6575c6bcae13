"""Position along and across a centre line: Frenet coordinates on a polyline.

Between two points of the line, a point is given by the arc length s of the segment and the
perpendicular distance d from it, positive to the left. At a vertex the line of constant s is the
bisector of the two segments, in between it turns linearly (it passes through corresponding
points of the line and of its parallel, as drawn with mitred corners). So lines of constant d are
parallel to the centre line without gaps or overlaps, and (x, y) -> (s, d) can be inverted in
closed form up to the medial axis, where two places of the line are equally near.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Columns of `Centerline.segments`.
X0: Final = 0  # m, of the segment's start
Y0: Final = 1  # m
UX: Final = 2  # its unit direction
UY: Final = 3
LENGTH: Final = 4  # m
START: Final = 5  # m, arc length at its start
# How far the line of constant s moves along the segment for each metre to the left.
SLANT_START: Final = 6  # at its start
SLANT_END: Final = 7  # at its end

_FEW: Final = 24  # as many segments are searched faster without buckets
_MAX_BUCKETS: Final = 1_000_000


class Centerline(NamedTuple):
    """A polyline of S segments, for kernels; S is 0 for a track without a centre line."""

    segments: NDArray[np.float64]  # (S, 8), columns above
    longest: float  # m, of the segments
    length: float  # m, of the line
    closed: bool
    # The plane near the line in square buckets, each with the segments that can be the nearest
    # of one of its points: those of bucket k are members[first[k]:first[k + 1]], ascending. A
    # bucket without members, and all there is outside, is far from the line.
    corner: tuple[float, float]  # m, lower left
    edge: float  # m
    columns: int
    rows: int
    first: NDArray[np.int32]  # (columns * rows + 1,)
    members: NDArray[np.int32]


def polyline(points: NDArray[np.float64], closed: bool, reach: float = 4.0) -> Centerline:
    """Prepare a line for kernels.

    Args:
        points: (N, 2) m, no two in a row the same.
        closed: Whether the last point leads back to the first.
        reach: Distance from the line within which searches are fast, m.
    """
    if closed:
        points = np.vstack([points, points[:1]])
    count = max(len(points) - 1, 0)
    segments = np.zeros((count, 8))
    if count:
        steps = np.diff(points, axis=0)
        lengths = np.hypot(steps[:, 0], steps[:, 1])
        segments[:, X0 : Y0 + 1] = points[:-1]
        segments[:, UX : UY + 1] = steps / lengths[:, None]
        segments[:, LENGTH] = lengths
        segments[1:, START] = np.cumsum(lengths)[:-1]
        slant = _slants(segments[:, UX : UY + 1], closed)
        segments[:, SLANT_START], segments[:, SLANT_END] = slant[:-1], -slant[1:]
    longest = float(segments[:, LENGTH].max(initial=0.0))
    length = float(segments[-1, START] + segments[-1, LENGTH]) if count else 0.0
    if count <= _FEW:
        none = np.zeros(1, np.int32)
        return Centerline(segments, longest, length, closed, (0.0, 0.0), 1.0, 0, 0, none, none[:0])
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    edge = max(reach / 8, math.sqrt(float(np.prod(high - low)) / _MAX_BUCKETS))
    columns, rows = (int(n) for n in np.ceil((high - low) / edge))
    corner = (float(low[0]), float(low[1]))
    first, members = _fill_buckets(segments, corner, edge, columns, rows, reach)
    return Centerline(
        segments, longest, length, closed, corner, edge, columns, rows, first, members
    )


def _slants(directions: NDArray[np.float64], closed: bool) -> NDArray[np.float64]:
    """(S + 1,) tangents of half the turn at each vertex; none at the ends of an open line."""
    turn = np.zeros(len(directions) + 1)
    before, after = directions[:-1], directions[1:]
    if closed:
        before, after = np.vstack([directions[-1:], before]), directions
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    angle = np.arctan2(cross, np.sum(before * after, axis=1))
    if closed:
        turn[:-1], turn[-1] = angle, angle[0]
    else:
        turn[1:-1] = angle
    tangents: NDArray[np.float64] = np.tan(turn / 2)
    return tangents


@njit(cache=True, nogil=True, error_model="numpy")
def _fill_buckets(
    segments: NDArray[np.float64],
    corner: tuple[float, float],
    edge: float,
    columns: int,
    rows: int,
    reach: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sort segments into buckets.

    A segment can be the nearest of a point in a bucket only if, from the bucket's centre, it is
    at most a diagonal farther than the nearest one.
    """
    diagonal = math.sqrt(2.0) * edge
    least = np.full(columns * rows, math.inf)
    first = np.zeros(columns * rows + 1, np.int32)
    members = np.empty(0, np.int32)
    for stage in range(3):  # find the least distances, count members, write members
        if stage == 2:
            first[1:] = np.cumsum(first[1:])
            members = np.empty(first[-1], np.int32)
        filled = first[:-1].copy()
        margin = reach + 2.0 * diagonal
        for i in range(len(segments)):
            x0, y0, length = segments[i, X0], segments[i, Y0], segments[i, LENGTH]
            x1, y1 = x0 + segments[i, UX] * length, y0 + segments[i, UY] * length
            left = int((min(x0, x1) - margin - corner[0]) / edge)
            right = int((max(x0, x1) + margin - corner[0]) / edge)
            low = int((min(y0, y1) - margin - corner[1]) / edge)
            high = int((max(y0, y1) + margin - corner[1]) / edge)
            for row in range(max(low, 0), min(high + 1, rows)):
                for column in range(max(left, 0), min(right + 1, columns)):
                    k = row * columns + column
                    x = corner[0] + (column + 0.5) * edge
                    y = corner[1] + (row + 0.5) * edge
                    distance = _distance(segments, i, x, y)
                    if stage == 0:
                        least[k] = min(least[k], distance)
                    elif least[k] <= reach and distance <= least[k] + 1.001 * diagonal:
                        if stage == 1:
                            first[k + 1] += 1
                        else:
                            members[filled[k]] = i
                            filled[k] += 1
    return first, members


@njit(cache=True, nogil=True, error_model="numpy")
def _distance(segments: NDArray[np.float64], i: int, x: float, y: float) -> float:
    """Distance of a point from segment i, m."""
    dx, dy = x - segments[i, X0], y - segments[i, Y0]
    ux, uy = segments[i, UX], segments[i, UY]
    along = dx * ux + dy * uy
    across = dy * ux - dx * uy
    past = along - min(max(along, 0.0), segments[i, LENGTH])
    return math.sqrt(past * past + across * across)


# Inlined: handing the line on to another function costs as much as the search.
@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def nearest_segment(line: Centerline, x: float, y: float) -> int:
    """Index of the nearest segment, the first of equally near ones; -1 if there is none."""
    segments = line.segments
    column, row = (x - line.corner[0]) / line.edge, (y - line.corner[1]) / line.edge
    best, nearest = math.inf, -1
    if 0.0 <= column < line.columns and 0.0 <= row < line.rows:
        k = int(row) * line.columns + int(column)
        for m in range(line.first[k], line.first[k + 1]):
            i = line.members[m]
            distance = _distance(segments, i, x, y)
            if distance < best:
                best, nearest = distance, i
        if nearest >= 0:
            return nearest
    count = len(segments)
    # A bound on the distance, from every 16th point, lets the search below skip far segments.
    bound = math.inf
    for i in range(0, count, 16):
        bound = min(bound, math.hypot(x - segments[i, X0], y - segments[i, Y0]))
    i = 0
    while i < count:
        distance = _distance(segments, i, x, y)
        if distance < best:
            best, nearest = distance, i
            bound = min(bound, best)
        # No point of the next (distance - bound) metres of the line can be nearer.
        i += max(1, int((distance - bound) / line.longest))
    return nearest


@njit(cache=True, nogil=True, error_model="numpy")
def project(line: Centerline, x: float, y: float) -> tuple[float, float]:
    """Frenet coordinates of a point, m.

    Returns:
        s in [0, length), or [0, length] of an open line, and d, positive to the left: the
        distance from the nearest segment, taken as extended past the ends of an open line and
        up to the bisector outside a corner. Both are NaN if there is no centre line, or for
        coordinates that are not numbers.
    """
    i = nearest_segment(line, x, y)
    if i < 0:
        return math.nan, math.nan
    count = len(line.segments)
    along, d, s, length = in_segment(line.segments, i, x, y)
    # Outside a corner both segments are equally near: its bisector decides.
    step = 0
    if along > length and s > length and (line.closed or i < count - 1):
        step = 1
    elif along < 0.0 and s < 0.0 and (line.closed or i > 0):
        step = -1
    if step != 0:
        i = (i + step + count) % count
        along, d, s, length = in_segment(line.segments, i, x, y)
    s = line.segments[i, START] + min(max(s, 0.0), length)
    if line.closed and s >= line.length:
        s = 0.0
    return s, d


@njit(cache=True, nogil=True, error_model="numpy")
def in_segment(
    segments: NDArray[np.float64], i: int, x: float, y: float
) -> tuple[float, float, float, float]:
    """Distances along and across segment i, arc length from its start, and its length, m."""
    dx, dy = x - segments[i, X0], y - segments[i, Y0]
    ux, uy, length = segments[i, UX], segments[i, UY], segments[i, LENGTH]
    along = dx * ux + dy * uy
    across = dy * ux - dx * uy
    slant = segments[i, SLANT_START]
    stretch = 1.0 + across * (segments[i, SLANT_END] - slant) / length
    # Past the centre of curvature there is no parallel line: take the nearest point.
    s = (along - across * slant) / stretch if stretch > 0.0 else along
    return along, across, s, length


@njit(cache=True, nogil=True, error_model="numpy")
def point_at(line: Centerline, s: float, d: float) -> tuple[float, float, float]:
    """Point at Frenet coordinates, and the heading of the line there; inverts `project`.

    Args:
        line: A line with at least one segment.
        s: Arc length, m; taken modulo the length of a closed line, up to the ends of an open.
        d: Distance to the left, m.

    Returns:
        x m, y m, yaw rad. The heading is perpendicular to the line of constant s.
    """
    s = s % line.length if line.closed else min(max(s, 0.0), line.length)
    low, high = 0, len(line.segments) - 1
    while low < high:  # the last segment that starts at s or before
        middle = (low + high + 1) // 2
        if line.segments[middle, START] <= s:
            low = middle
        else:
            high = middle - 1
    segment = line.segments[low]
    ux, uy, length = segment[UX], segment[UY], segment[LENGTH]
    t = min(s - segment[START], length)
    slant = segment[SLANT_START] + (segment[SLANT_END] - segment[SLANT_START]) * t / length
    along = t + d * slant
    yaw = math.atan2(uy, ux) - math.atan(slant)
    x0, y0 = segment[X0], segment[Y0]
    return x0 + along * ux - d * uy, y0 + along * uy + d * ux, yaw


@njit(cache=True, nogil=True, error_model="numpy")
def project_all(line: Centerline, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """`project` of (N, 2) points, (N, 2)."""
    sd = np.empty((len(xy), 2))
    for i in range(len(xy)):
        sd[i, 0], sd[i, 1] = project(line, xy[i, 0], xy[i, 1])
    return sd


@njit(cache=True, nogil=True, error_model="numpy")
def points_at(line: Centerline, sd: NDArray[np.float64]) -> NDArray[np.float64]:
    """`point_at` of (N, 2) coordinates, (N, 3)."""
    poses = np.empty((len(sd), 3))
    for i in range(len(sd)):
        poses[i, 0], poses[i, 1], poses[i, 2] = point_at(line, sd[i, 0], sd[i, 1])
    return poses


def curvature(points: NDArray[np.float64], closed: bool) -> NDArray[np.float64]:
    """Curvature of a line at its points.

    That of the circle through a point and its two neighbours (Menger curvature), so exact for
    points of a circle. The ends of an open line take that of their neighbours.

    Args:
        points: (N, 2) m.
        closed: Whether the last point leads back to the first.

    Returns:
        (N,) 1/m, positive where the line turns left; 0 for fewer than three points.
    """
    if len(points) < 3:
        return np.zeros(len(points))
    before = points - np.roll(points, 1, axis=0)
    after = np.roll(points, -1, axis=0) - points
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    sides = np.hypot(*before.T) * np.hypot(*after.T) * np.hypot(*(before + after).T)
    found: NDArray[np.float64] = np.divide(
        2 * cross, sides, out=np.zeros(len(points)), where=sides > 0
    )
    if not closed:
        found[0], found[-1] = found[1], found[-2]
    return found
