"""Outlines of a track's free space, as closed polylines in metres."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.tracks.track import Track

Points = NDArray[np.float64]
_Mask = NDArray[np.bool_]
_Vertices = NDArray[np.int64]

SLACK: Final = 0.5  # cells that a point may move: the wall is somewhere in there
TOLERANCE: Final = 0.04  # cells that a simplified outline may be off
_PASSES: Final = 400  # of smoothing: a step each 20 cells becomes a slope


def outlines(track: Track) -> tuple[Points, ...]:
    """Trace where a track's free space meets its walls.

    The points are those of marching squares (Lorensen and Cline, SIGGRAPH 1987, in the plane):
    the middles of the cells' edges between free space and wall. A track's walls never meet only
    at a corner (see `Track.from_occupancy`), so no square is ambiguous. The stairs of the cells
    are then pulled straight, and what is nearly straight is simplified (Douglas and Peucker,
    Cartographica 10, 1973). Of a track with a centre line, only the free space around it is
    traced, not what is free beyond the walls, as most of a map is.

    Args:
        track: The track.

    Returns:
        Closed outlines, (N, 2) m each, N at least 3, without repeating the first point; free
        space lies to the left of each. Filled by the even-odd rule together they are the free
        space.
    """
    free = _driven(track)
    x, y, yaw = track.origin
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    found = []
    for loop in _loops(*_edges(free), free.shape[1] + 1):
        middles = (loop + np.roll(loop, -1, axis=0)) / 2
        points = simplify(_taut(middles), TOLERANCE)
        if len(points) >= 3:
            found.append(points * track.resolution @ turn + (x, y))
    return tuple(found)


def _driven(track: Track) -> _Mask:
    """The free cells (H, W) that are connected with the centre line; all without one."""
    from scipy.ndimage import label  # takes 0.4 s, before a run could be told to begin

    free: _Mask = track.distance > 0
    x, y, yaw = track.origin
    cos, sin = np.cos(yaw), np.sin(yaw)
    across, along = ((track.centerline - (x, y)) / track.resolution).T
    columns = np.floor(cos * across + sin * along).astype(np.intp)
    rows = np.floor(cos * along - sin * across).astype(np.intp)
    inside = (rows >= 0) & (rows < free.shape[0]) & (columns >= 0) & (columns < free.shape[1])
    parts, _ = label(free)
    driven = np.unique(parts[rows[inside], columns[inside]])
    driven = driven[driven > 0]  # 0 are the walls
    return np.isin(parts, driven) if len(driven) else free


def _edges(free: _Mask) -> tuple[_Vertices, _Vertices]:
    """Cells' edges between free space and wall, as (K,) first and last corners of each.

    Corner (row r, column c) has the number r * (W + 1) + c. Free space is on the left.
    """
    stride = free.shape[1] + 1
    wall = ~free
    ways = (  # (free cells, the corner where their edge begins, where it ends), row 0 lowest
        (free[1:] & wall[:-1], (1, 0), (1, 1)),  # wall below: to the right
        (free[:-1] & wall[1:], (1, 1), (1, 0)),  # wall above: to the left
        (free[:, 1:] & wall[:, :-1], (1, 1), (0, 1)),  # wall to the left: downwards
        (free[:, :-1] & wall[:, 1:], (0, 1), (1, 1)),  # wall to the right: upwards
    )
    first, last = [], []
    for where, begin, end in ways:
        rows, columns = np.nonzero(where)
        first.append((rows + begin[0]) * stride + columns + begin[1])
        last.append((rows + end[0]) * stride + columns + end[1])
    return np.concatenate(first), np.concatenate(last)


def _loops(first: _Vertices, last: _Vertices, stride: int) -> list[Points]:
    """Chain edges into loops of corners, (N, 2) columns x, y in cells each."""
    following = dict(zip(first.tolist(), last.tolist(), strict=True))
    loops = []
    while following:
        start, corner = following.popitem()
        loop = [start]
        while corner != start:
            loop.append(corner)
            corner = following.pop(corner)
        rows, columns = np.divmod(np.array(loop), stride)
        loops.append(np.column_stack([columns, rows]).astype(np.float64))
    return loops


def _taut(points: Points) -> Points:
    """Pull a closed polyline straight; no coordinate moves by more than `SLACK`."""
    low, high = points - SLACK, points + SLACK
    for _ in range(_PASSES):
        middles = (np.roll(points, 1, axis=0) + np.roll(points, -1, axis=0)) / 2
        points = np.clip((points + middles) / 2, low, high)
    return points


def simplify(points: Points, tolerance: float) -> Points:
    """Leave out points of a closed polyline that the others' chords pass near by.

    Args:
        points: (N, 2).
        tolerance: Largest distance of a point left out from the chord that replaces it.

    Returns:
        (M, 2), M at most N.
    """
    count = len(points)
    closed = np.vstack([points, points[:1]])
    opposite = int(np.argmax(np.hypot(*(points - points[0]).T)))
    keep = np.zeros(count + 1, np.bool_)
    keep[[0, opposite, count]] = True
    spans = [(0, opposite), (opposite, count)]
    while spans:
        begin, end = spans.pop()
        if end - begin < 2:
            continue
        away = _from_chord(closed[begin + 1 : end], closed[begin], closed[end])
        furthest = int(np.argmax(away))
        if away[furthest] > tolerance:
            middle = begin + 1 + furthest
            keep[middle] = True
            spans += [(begin, middle), (middle, end)]
    return points[keep[:-1]]


def _from_chord(points: Points, begin: Points, end: Points) -> Points:
    """Distances (N,) of points from the chord between two."""
    chord = end - begin
    length = np.hypot(*chord)
    away = points - begin
    distances: Points
    if length > 0.0:
        distances = np.abs(chord[0] * away[:, 1] - chord[1] * away[:, 0]) / length
    else:
        distances = np.hypot(away[:, 0], away[:, 1])
    return distances
