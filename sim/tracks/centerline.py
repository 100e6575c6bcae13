"""Position along and across a centre line."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.tracks.track import Track


class Centerline(NamedTuple):
    """A polyline, for kernels."""

    # (S, 6): x m, y m of the segment's start, its unit direction x and y,
    # its length m, arc length at its start m. S is 0 for a track without a centre line.
    segments: NDArray[np.float64]
    longest: float  # m, of the segments
    closed: bool


def make_centerline(track: Track) -> Centerline:
    """Split a track's centre line into segments; a closed one leads back to its start."""
    points = track.centerline
    if track.closed:
        points = np.vstack([points, points[:1]])
    segments = np.zeros((max(len(points) - 1, 0), 6))
    if len(segments):
        steps = np.diff(points, axis=0)
        lengths = np.hypot(steps[:, 0], steps[:, 1])
        segments[:, 0:2] = points[:-1]
        segments[:, 2:4] = steps / lengths[:, None]
        segments[:, 4] = lengths
        segments[1:, 5] = np.cumsum(lengths)[:-1]
    return Centerline(segments, float(segments[:, 4].max(initial=0.0)), track.closed)


@njit(cache=True, nogil=True, error_model="numpy")
def project(line: Centerline, x: float, y: float) -> tuple[float, float]:
    """Nearest point of a centre line.

    Returns:
        Arc length of the nearest point, m, and the signed distance from it, m, positive to
        the left; past the ends of an open line the distance is that from the extended line.
        Both are NaN if there is no centre line.
    """
    count = len(line.segments)
    # A bound on the distance, from every 16th point, lets the search below skip far segments.
    bound = math.inf
    for i in range(0, count, 16):
        bound = min(bound, math.hypot(x - line.segments[i, 0], y - line.segments[i, 1]))
    best = math.inf
    arc_length, offset = math.nan, math.nan
    i = 0
    while i < count:
        x0, y0, ux, uy, length, start = line.segments[i]
        along = (x - x0) * ux + (y - y0) * uy
        across = (y - y0) * ux - (x - x0) * uy
        nearest = min(max(along, 0.0), length)
        past = along - nearest
        distance = math.sqrt(past * past + across * across)
        if distance < best:
            best = distance
            bound = min(bound, best)
            arc_length = start + nearest
            beyond = (i == 0 and past < 0.0) or (i == count - 1 and past > 0.0)
            extended = beyond and not line.closed
            offset = across if extended else math.copysign(distance, across)
        # No point of the next (distance - bound) metres of the line can be nearer.
        i += max(1, int((distance - bound) / line.longest))
    return arc_length, offset
