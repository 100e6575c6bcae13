"""What compiled code sees of a track's free space."""

from __future__ import annotations

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
