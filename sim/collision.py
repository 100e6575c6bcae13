"""Contacts of cars, which are oriented rectangles, with walls and with each other."""

from __future__ import annotations

import math

from numba import njit

from sim.tracks.grid import Grid, to_cells, wall_distance

# Two points of a cell are at most this far from its centre each, in cells, so that the
# distance between a point and a wall's surface is above the field's value less this.
_DIAGONAL = math.sqrt(2.0)


@njit(cache=True, nogil=True, error_model="numpy")
def segment_hits_wall(grid: Grid, x0: float, y0: float, x1: float, y1: float) -> bool:
    """Whether a segment, m, meets a wall cell.

    Visits every cell the segment passes (Amanatides and Woo, Eurographics 1987). Everything
    outside the grid is wall.
    """
    column, row = to_cells(grid, x0, y0)
    end_column, end_row = to_cells(grid, x1, y1)
    dx, dy = end_column - column, end_row - row
    length = math.sqrt(dx * dx + dy * dy) * grid.resolution
    clear = wall_distance(grid, column, row)
    if not clear > 0.0:
        return True
    if clear - _DIAGONAL * grid.resolution > length:
        return False
    # Times, as fractions of the segment, of the next crossing of a column's and a row's edge.
    step_x, step_y = math.copysign(1.0, dx), math.copysign(1.0, dy)
    cell_x, cell_y = float(math.floor(column)), float(math.floor(row))
    next_x = (cell_x + max(step_x, 0.0) - column) / dx if dx != 0.0 else math.inf
    next_y = (cell_y + max(step_y, 0.0) - row) / dy if dy != 0.0 else math.inf
    while True:
        if next_x < next_y:
            if not next_x <= 1.0:
                return False
            cell_x += step_x
            next_x = (cell_x + max(step_x, 0.0) - column) / dx
        else:
            if not next_y <= 1.0:
                return False
            cell_y += step_y
            next_y = (cell_y + max(step_y, 0.0) - row) / dy
        if not wall_distance(grid, cell_x, cell_y) > 0.0:
            return True


@njit(cache=True, nogil=True, error_model="numpy")
def touches_wall(grid: Grid, x: float, y: float, yaw: float, length: float, width: float) -> bool:
    """Whether a car's rectangle meets a wall.

    Its outline is tested exactly against the wall cells; inside it, walls that the outline
    does not meet, such as a thin post between two steps, are found by the distance field
    along its axis.

    Args:
        grid: The track.
        x: Centre, m.
        y: m.
        yaw: Heading, rad.
        length: Extent along the heading, m.
        width: Extent across, m.
    """
    column, row = to_cells(grid, x, y)
    clear = wall_distance(grid, column, row)
    half_length, half_width = length / 2, width / 2
    slack = _DIAGONAL * grid.resolution
    if clear - slack > math.sqrt(half_length * half_length + half_width * half_width):
        return False
    if not clear > 0.0:
        return True
    cos, sin = math.cos(yaw), math.sin(yaw)
    # Offsets from the centre to the middle of the front, and to that of the left side.
    fx, fy = half_length * cos, half_length * sin
    lx, ly = -half_width * sin, half_width * cos
    if (
        segment_hits_wall(grid, x + fx + lx, y + fy + ly, x + fx - lx, y + fy - ly)
        or segment_hits_wall(grid, x + fx - lx, y + fy - ly, x - fx - lx, y - fy - ly)
        or segment_hits_wall(grid, x - fx - lx, y - fy - ly, x - fx + lx, y - fy + ly)
        or segment_hits_wall(grid, x - fx + lx, y - fy + ly, x + fx + lx, y + fy + ly)
    ):
        return True
    return _wall_inside(grid, x, y, cos, sin, half_length, half_width)


@njit(cache=True, nogil=True, error_model="numpy")
def _wall_inside(
    grid: Grid, x: float, y: float, cos: float, sin: float, half_length: float, half_width: float
) -> bool:
    """Whether a wall cell's centre is certainly within half the smaller side of the axis."""
    reach = min(half_length, half_width)
    count = math.ceil((half_length - reach) / reach)
    for i in range(-count, count + 1):
        along = (half_length - reach) * i / max(count, 1)
        column, row = to_cells(grid, x + along * cos, y + along * sin)
        if wall_distance(grid, column, row) < reach - _DIAGONAL / 2 * grid.resolution:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def cars_touch(
    x: float,
    y: float,
    yaw: float,
    length: float,
    width: float,
    other_x: float,
    other_y: float,
    other_yaw: float,
    other_length: float,
    other_width: float,
) -> bool:
    """Whether two rectangles overlap (separating axes: Gottschalk et al., SIGGRAPH 1996).

    Args:
        x: Centre of the first, m.
        y: m.
        yaw: Its heading, rad.
        length: Its extent along the heading, m.
        width: Its extent across, m.
        other_x: The same of the second.
        other_y: m.
        other_yaw: rad.
        other_length: m.
        other_width: m.
    """
    dx, dy = other_x - x, other_y - y
    hl, hw = length / 2, width / 2
    ol, ow = other_length / 2, other_width / 2
    reach = math.sqrt(hl * hl + hw * hw) + math.sqrt(ol * ol + ow * ow)
    if dx * dx + dy * dy > reach * reach:
        return False
    cos, sin = math.cos(yaw), math.sin(yaw)
    other_cos, other_sin = math.cos(other_yaw), math.sin(other_yaw)
    # Projections of either rectangle's half sides on the other's axes.
    c = abs(cos * other_cos + sin * other_sin)
    s = abs(cos * other_sin - sin * other_cos)
    return (
        abs(dx * cos + dy * sin) <= hl + ol * c + ow * s
        and abs(dy * cos - dx * sin) <= hw + ol * s + ow * c
        and abs(dx * other_cos + dy * other_sin) <= ol + hl * c + hw * s
        and abs(dy * other_cos - dx * other_sin) <= ow + hl * s + hw * c
    )
