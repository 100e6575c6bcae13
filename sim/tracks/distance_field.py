"""What compiled code sees of a track's free space."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class DistanceField(NamedTuple):
    """A distance field and its frame, for kernels."""

    distance: NDArray[np.float32]  # (H, W) m, C-contiguous, bordered with walls
    resolution: float  # m
    x: float  # m, lower-left corner
    y: float  # m
    yaw: float  # rad
    cos: float  # of yaw
    sin: float


@njit(cache=True, nogil=True, error_model="numpy")
def wall_distances(free: NDArray[np.bool_], resolution: float) -> NDArray[np.float32]:
    """Exact Euclidean distance transform: from each cell's centre to the nearest wall cell's.

    Meijster, Roerdink and Hesselink, "A general algorithm for computing distance transforms in
    linear time", 2000: distances within columns, then in each row the lower envelope of the
    parabolas (x - i)^2 + g_i^2, all in whole numbers. Not that of scipy.ndimage, whose import
    takes 0.4 s in every process and which takes five times as long.

    Args:
        free: (H, W), its border wall.
        resolution: Edge of a cell, m.

    Returns:
        (H, W) m; 0 in walls.
    """
    height, width = free.shape
    column = np.zeros((height, width), np.int32)  # cells to the nearest wall above or below
    for y in range(1, height):
        for x in range(width):
            column[y, x] = column[y - 1, x] + 1 if free[y, x] else 0
    for y in range(height - 2, -1, -1):
        for x in range(width):
            column[y, x] = min(column[y, x], column[y + 1, x] + 1)
    found = np.empty((height, width), np.float32)
    square = np.empty(width, np.int64)
    lowest, begin = np.empty(width, np.int64), np.empty(width, np.int64)
    for y in range(height):
        for x in range(width):
            square[x] = np.int64(column[y, x]) ** 2
        last = 0  # the envelope's parts: from begin[k] on, that of column lowest[k]
        lowest[0] = begin[0] = 0
        for x in range(1, width):
            while last >= 0 and (
                (begin[last] - lowest[last]) ** 2 + square[lowest[last]]
                > (begin[last] - x) ** 2 + square[x]
            ):
                last -= 1
            if last < 0:
                last, lowest[0] = 0, x
                continue
            i = lowest[last]
            meet = 1 + (x * x - i * i + square[x] - square[i]) // (2 * (x - i))
            if meet < width:
                last += 1
                lowest[last], begin[last] = x, meet
        for x in range(width - 1, -1, -1):
            i = lowest[last]
            found[y, x] = math.sqrt((x - i) ** 2 + square[i]) * resolution
            if x == begin[last]:
                last -= 1
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def to_cells(field: DistanceField, x: float, y: float) -> tuple[float, float]:
    """Column and row of a point, in cells from the grid's corner (a cell is a unit square)."""
    dx = (x - field.x) / field.resolution
    dy = (y - field.y) / field.resolution
    return field.cos * dx + field.sin * dy, field.cos * dy - field.sin * dx


@njit(cache=True, nogil=True, error_model="numpy")
def wall_distance(field: DistanceField, column: float, row: float) -> float:
    """Distance field, m, at a point in cells; 0 outside the grid and where not a number."""
    height, width = field.distance.shape
    if 0.0 <= column < width and 0.0 <= row < height:
        return float(field.distance[np.uint32(row), np.uint32(column)])
    return 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def free_ways(field: DistanceField, rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances from points to the first wall in a direction.

    Args:
        field: The track.
        rays: (N, 4) x m, y m of the points, and x and y of unit directions.

    Returns:
        (N,) m; 0 for a point in a wall.
    """
    ways = np.empty(len(rays))
    for i in range(len(rays)):
        x, y, dx, dy = rays[i]
        free, reached = 0.0, 0.0
        while True:  # sphere tracing, as the range finder's
            column, row = to_cells(field, x + reached * dx, y + reached * dy)
            clear = wall_distance(field, column, row)
            if not clear > 0.0:
                break
            free = reached
            reached += clear
        for _ in range(30):  # the wall's edge is between the last two points
            middle = (free + reached) / 2
            column, row = to_cells(field, x + middle * dx, y + middle * dy)
            if wall_distance(field, column, row) > 0.0:
                free = middle
            else:
                reached = middle
        ways[i] = free
    return ways
