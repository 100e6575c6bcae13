"""What compiled code sees of a track's free space."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sim.tracks.track import Track


class Grid(NamedTuple):
    """A distance field and its frame, for kernels."""

    distance: NDArray[np.float32]  # (H, W) m, C-contiguous, bordered with walls
    resolution: float  # m
    x: float  # m, lower-left corner
    y: float  # m
    yaw: float  # rad
    cos: float  # of yaw
    sin: float


def make_grid(track: Track) -> Grid:
    """Prepare a track's distance field for kernels, which compile once for all tracks."""
    distance = np.ascontiguousarray(track.distance, dtype=np.float32).view()
    distance.flags.writeable = False
    x, y, yaw = track.origin
    return Grid(distance, track.resolution, x, y, yaw, math.cos(yaw), math.sin(yaw))


@njit(cache=True, nogil=True, error_model="numpy")
def to_cells(grid: Grid, x: float, y: float) -> tuple[float, float]:
    """Column and row of a point, in cells from the grid's corner (a cell is a unit square)."""
    dx = (x - grid.x) / grid.resolution
    dy = (y - grid.y) / grid.resolution
    return grid.cos * dx + grid.sin * dy, grid.cos * dy - grid.sin * dx


@njit(cache=True, nogil=True, error_model="numpy")
def wall_distance(grid: Grid, column: float, row: float) -> float:
    """Distance field, m, at a point in cells; 0 outside the grid and where not a number."""
    height, width = grid.distance.shape
    if 0.0 <= column < width and 0.0 <= row < height:
        return float(grid.distance[np.uint32(row), np.uint32(column)])
    return 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def free_way(grid: Grid, x: float, y: float, dx: float, dy: float) -> float:
    """Distance, m, from a point to the first wall in a direction; 0 in walls.

    Args:
        grid: The track.
        x: m.
        y: m.
        dx: Unit direction.
        dy: The same.
    """
    free, reached = 0.0, 0.0
    while True:  # sphere tracing, as the range finder's
        column, row = to_cells(grid, x + reached * dx, y + reached * dy)
        clear = wall_distance(grid, column, row)
        if not clear > 0.0:
            break
        free = reached
        reached += clear
    for _ in range(30):  # the wall's edge is between the last two points
        middle = (free + reached) / 2
        column, row = to_cells(grid, x + middle * dx, y + middle * dy)
        if wall_distance(grid, column, row) > 0.0:
            free = middle
        else:
            reached = middle
    return free


@njit(cache=True, nogil=True, error_model="numpy")
def free_ways(grid: Grid, rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """`free_way` of (N, 4) rays, columns x, y, dx, dy: (N,) m."""
    ways = np.empty(len(rays))
    for i in range(len(rays)):
        ways[i] = free_way(grid, rays[i, 0], rays[i, 1], rays[i, 2], rays[i, 3])
    return ways
