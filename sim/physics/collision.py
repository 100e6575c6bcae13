"""Contacts of cars, which are oriented rectangles, with walls and with each other."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.layout import FRONT, LEFT, REAR, RIGHT
from sim.tracks.distance_field import DistanceField, to_cells, wall_distance

# Points of two cells are nearer to each other than the cells' centres by at most this, in cells: a
# point is at least as far from any wall as the distance field says, less this.
_DIAGONAL: Final = math.sqrt(2.0)
_ALL: Final = FRONT | REAR | LEFT | RIGHT
_FLAT: Final = 0.7  # share of a side that distinguishes its contacts from those of its corners
_FINEST: Final = 1e-3  # of a step: contacts between cars that are shorter may be missed
_MOST: Final = 1e6  # poses looked at in one step, of a car that flies off

Float = NDArray[np.float64]
# What describes an oriented rectangle here; tuples or rows of arrays.
Pose = tuple[float, float, float]  # x m, y m, of its centre, and its heading, yaw rad
Size = tuple[float, float]  # length m, along the heading, and width m, across


@njit(cache=True, nogil=True, error_model="numpy")
def segment_hits_wall(field: DistanceField, x0: float, y0: float, x1: float, y1: float) -> bool:
    """Whether a segment, m, meets a wall cell.

    Visits every cell the segment passes (Amanatides and Woo, Eurographics 1987). Everything
    outside the grid is wall.
    """
    column, row = to_cells(field, x0, y0)
    end_column, end_row = to_cells(field, x1, y1)
    dx, dy = end_column - column, end_row - row
    length = math.sqrt(dx * dx + dy * dy) * field.resolution
    clear = wall_distance(field, column, row)
    if not clear > 0.0:
        return True
    if clear - _DIAGONAL * field.resolution > length:
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
        if not wall_distance(field, cell_x, cell_y) > 0.0:
            return True


@njit(cache=True, nogil=True, error_model="numpy")
def touches_wall(field: DistanceField, pose: Pose, size: Size) -> bool:
    """Whether a car's rectangle meets a wall; arguments as those of `wall_parts`."""
    return bool(wall_parts(field, pose, size) != 0)


@njit(cache=True, nogil=True, error_model="numpy")
def wall_parts(field: DistanceField, pose: Pose, size: Size) -> int:
    """Sides of a car's rectangle that meet a wall.

    The outline is tested exactly against the wall cells; inside it, walls that the outline
    does not meet, such as a thin post, are found by the distance field along the car's axis.

    Args:
        field: The track.
        pose: x m, y m, yaw rad of the car.
        size: Its length and width, m.

    Returns:
        Bits of `sim.layout`: two sides if only their common corner meets a wall; all of them if
        there is a wall inside, or the centre is in one.
    """
    (x, y, yaw), (length, width) = pose, size
    column, row = to_cells(field, x, y)
    clear = wall_distance(field, column, row)
    half_length, half_width = length / 2, width / 2
    slack = _DIAGONAL * field.resolution
    if clear - slack > math.sqrt(half_length * half_length + half_width * half_width):
        return 0
    if not clear > 0.0:
        return _ALL
    cos, sin = math.cos(yaw), math.sin(yaw)
    # Offsets from the centre to the middle of the front, and to that of the left side.
    fx, fy = half_length * cos, half_length * sin
    lx, ly = -half_width * sin, half_width * cos
    parts = _sides_at_wall(field, x, y, fx, fy, lx, ly, 1.0)
    if parts != 0:
        # A wall ahead is also met by the foremost points of the flanks: they do not count.
        flat = _sides_at_wall(field, x, y, fx, fy, lx, ly, _FLAT)
        return flat if flat != 0 else parts
    return _ALL if _wall_inside(field, x, y, cos, sin, half_length, half_width) else 0


@njit(cache=True, nogil=True, error_model="numpy")
def _sides_at_wall(
    field: DistanceField,
    x: float,
    y: float,
    fx: float,
    fy: float,
    lx: float,
    ly: float,
    share: float,
) -> int:
    """Sides of a rectangle that meet a wall with the middle ``share`` of their length."""
    sfx, sfy, slx, sly = share * fx, share * fy, share * lx, share * ly
    parts = 0
    if segment_hits_wall(field, x + fx + slx, y + fy + sly, x + fx - slx, y + fy - sly):
        parts |= FRONT
    if segment_hits_wall(field, x + sfx - lx, y + sfy - ly, x - sfx - lx, y - sfy - ly):
        parts |= RIGHT
    if segment_hits_wall(field, x - fx - slx, y - fy - sly, x - fx + slx, y - fy + sly):
        parts |= REAR
    if segment_hits_wall(field, x - sfx + lx, y - sfy + ly, x + sfx + lx, y + sfy + ly):
        parts |= LEFT
    return parts


@njit(cache=True, nogil=True, error_model="numpy")
def sweep_wall(field: DistanceField, before: Pose, after: Pose, size: Size) -> int:
    """Sides of a car that meet a wall on its way from one pose to another.

    Looks at poses in between, so close that no point moves by more than a cell from one to the
    next: a wall of one cell is missed only if a corner grazes less than half of it.

    Args:
        field: The track.
        before: x m, y m, yaw rad.
        after: The same.
        size: Length and width of the car, m.

    Returns:
        Bits of `sim.layout`, of the first pose that meets a wall; 0 if none does.
    """
    dx, dy, turn = way = way_between(before, after)
    radius = _radius(size)
    length = math.sqrt(dx * dx + dy * dy) + abs(turn) * radius
    column, row = to_cells(field, before[0], before[1])
    if wall_distance(field, column, row) - _DIAGONAL * field.resolution > radius + length:
        return 0
    poses = min(max(math.ceil(length / field.resolution), 1.0), _MOST)
    number = 1.0
    while number < poses:
        parts = wall_parts(field, pose_on(before, way, number / poses), size)
        if parts != 0:
            return parts
        number += 1.0
    return wall_parts(field, (after[0], after[1], after[2]), size)


@njit(cache=True, nogil=True, error_model="numpy")
def way_between(before: Pose, after: Pose) -> Pose:
    """What leads from one pose to another: m, m, and the shorter turn, rad."""
    turn = after[2] - before[2]
    turn -= 2 * math.pi * math.floor(turn / (2 * math.pi) + 0.5)
    return after[0] - before[0], after[1] - before[1], turn


@njit(cache=True, nogil=True, error_model="numpy")
def pose_on(before: Pose, way: Pose, t: float) -> Pose:
    """The pose at the fraction t of a way that starts at ``before``."""
    return before[0] + t * way[0], before[1] + t * way[1], before[2] + t * way[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _radius(size: Size) -> float:
    """Radius of the circle around a rectangle, m."""
    length, width = size
    return math.sqrt(length * length + width * width) / 2


@njit(cache=True, nogil=True, error_model="numpy")
def _wall_inside(
    field: DistanceField,
    x: float,
    y: float,
    cos: float,
    sin: float,
    half_length: float,
    half_width: float,
) -> bool:
    """Whether a wall cell's centre is certainly within half the smaller side of the axis."""
    reach = min(half_length, half_width)
    count = math.ceil((half_length - reach) / reach)
    for i in range(-count, count + 1):
        along = (half_length - reach) * i / max(count, 1)
        column, row = to_cells(field, x + along * cos, y + along * sin)
        if wall_distance(field, column, row) < reach - _DIAGONAL / 2 * field.resolution:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def is_inside(point: Pose, car: Pose, size: Size) -> bool:
    """Whether a point, whose heading does not matter, is within a car's rectangle."""
    dx, dy = point[0] - car[0], point[1] - car[1]
    cos, sin = math.cos(car[2]), math.sin(car[2])
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    return bool(abs(along) <= size[0] / 2 and abs(across) <= size[1] / 2)


@njit(cache=True, nogil=True, error_model="numpy")
def cars_touch(pose: Pose, size: Size, other: Pose, other_size: Size) -> bool:
    """Whether two rectangles overlap; arguments as those of `car_gap`."""
    gap, _, _ = car_gap(pose, size, other, other_size)
    return bool(gap <= 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def car_gap(pose: Pose, size: Size, other: Pose, other_size: Size) -> tuple[float, float, float]:
    """Gap between two rectangles along the side's normal for which it is widest.

    Separating axes (Gottschalk, Lin and Manocha, SIGGRAPH 1996).

    Args:
        pose: x m, y m, yaw rad of the first.
        size: Its length and width, m.
        other: Pose of the second.
        other_size: Its length and width, m.

    Returns:
        The gap, m, at most the distance between the two and not positive if they overlap; and
        x and y of that normal, of length 1, from the first to the other.
    """
    (x, y, yaw), (length, width) = pose, size
    (other_x, other_y, other_yaw), (other_length, other_width) = other, other_size
    dx, dy = other_x - x, other_y - y
    hl, hw = length / 2, width / 2
    ol, ow = other_length / 2, other_width / 2
    cos, sin = math.cos(yaw), math.sin(yaw)
    other_cos, other_sin = math.cos(other_yaw), math.sin(other_yaw)
    # Projections of either rectangle's half sides on the other's axes.
    c = abs(cos * other_cos + sin * other_sin)
    s = abs(cos * other_sin - sin * other_cos)
    best, nx, ny = -math.inf, 0.0, 0.0
    for ax, ay, reach in (
        (cos, sin, hl + ol * c + ow * s),
        (-sin, cos, hw + ol * s + ow * c),
        (other_cos, other_sin, ol + hl * c + hw * s),
        (-other_sin, other_cos, ow + hl * s + hw * c),
    ):
        away = dx * ax + dy * ay
        gap = abs(away) - reach
        if gap > best:
            side = math.copysign(1.0, away)
            best, nx, ny = gap, side * ax, side * ay
    return best, nx, ny


@njit(cache=True, nogil=True, error_model="numpy")
def sweep_cars(
    before: Pose, after: Pose, size: Size, other_before: Pose, other_after: Pose, other_size: Size
) -> float:
    """When two cars first touch on their ways from one pose to another.

    Conservative advancement (Mirtich, PhD thesis, Berkeley 1996, section 2.3): no point can
    cross the present gap before the time that the ways' lengths allow.

    Args:
        before: x m, y m, yaw rad of the first car; positions and headings between are
            interpolated.
        after: The same.
        size: Its length and width, m.
        other_before: Pose of the other car.
        other_after: The same.
        other_size: Its length and width, m.

    Returns:
        The time as a fraction of the step; -1 if they do not touch.
    """
    way, other_way = way_between(before, after), way_between(other_before, other_after)
    radius, other_radius = _radius(size), _radius(other_size)
    length = math.sqrt((way[0] - other_way[0]) ** 2 + (way[1] - other_way[1]) ** 2)
    length += abs(way[2]) * radius + abs(other_way[2]) * other_radius
    far_x, far_y = other_before[0] - before[0], other_before[1] - before[1]
    reach = radius + other_radius + length
    if far_x * far_x + far_y * far_y > reach * reach:
        return -1.0
    t = 0.0
    while True:
        pose, other = pose_on(before, way, t), pose_on(other_before, other_way, t)
        gap, _, _ = car_gap(pose, size, other, other_size)
        if gap <= 0.0:
            return t
        if t >= 1.0 or gap > length * (1.0 - t):
            return -1.0
        t = min(t + max(gap / length, _FINEST), 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def sides_facing(yaw: float, nx: float, ny: float) -> int:
    """Sides of a car that face a direction to within 60 degrees: two at a corner.

    Args:
        yaw: Its heading, rad.
        nx: x of the direction, of length 1.
        ny: y

    Returns:
        Bits of `sim.layout`.
    """
    cos, sin = math.cos(yaw), math.sin(yaw)
    ahead, left = nx * cos + ny * sin, ny * cos - nx * sin
    parts = 0
    if abs(ahead) > 0.5:
        parts |= FRONT if ahead > 0.0 else REAR
    if abs(left) > 0.5:
        parts |= LEFT if left > 0.0 else RIGHT
    return parts
