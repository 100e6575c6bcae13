"""Planar range finder: walls by sphere tracing, other cars by exact intersection."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import LidarConfig
from sim.tracks.grid import Grid, to_cells, wall_distance

# Beams traced in lock step, so that the compiler turns them into vector instructions.
LANES: Final = 16
# Rows of the scratch array: directions in cells per metre, ranges and last steps in metres.
_COLUMNS, _ROWS, _RANGE, _STEP = range(4)
_TINY: Final = 1e-12  # keeps a beam along a car's side from dividing 0 by 0

Ranges = NDArray[np.float32]


class Beams(NamedTuple):
    """A range finder's geometry, for kernels."""

    cos: NDArray[np.float32]  # (B,) of each beam's angle to the car's heading
    sin: NDArray[np.float32]  # (B,)
    first: float  # rad, angle of the first beam
    spacing: float  # rad, between beams; 0 for a single beam
    max_range: float  # m
    noise_std: float  # m
    mount_x: float  # m ahead of the centre of gravity


def make_beams(config: LidarConfig) -> Beams:
    """Beams evenly from -fov/2 to +fov/2, counter-clockwise; a single beam looks ahead."""
    first = -config.field_of_view / 2 if config.beams > 1 else 0.0
    spacing = config.field_of_view / (config.beams - 1) if config.beams > 1 else 0.0
    angles = first + spacing * np.arange(config.beams)
    return Beams(
        np.cos(angles).astype(np.float32),
        np.sin(angles).astype(np.float32),
        first,
        spacing,
        config.max_range,
        config.noise_std,
        config.mount_x,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def make_scratch() -> Ranges:
    """Working memory of `trace_walls`; one for each thread."""
    return np.empty((4, LANES), dtype=np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def trace_walls(
    grid: Grid, beams: Beams, x: float, y: float, yaw: float, scratch: Ranges, scan: Ranges
) -> None:
    """Distances to the nearest wall along each beam.

    Sphere tracing (Hart, The Visual Computer 12, 1996): a ray advances by the distance field
    at its tip until that is 0. Readings end inside the wall cell that is hit, up to a cell's
    diagonal behind its surface, as in f1tenth_gym.

    Args:
        grid: The track.
        beams: The sensor; readings are capped at its range.
        x: Position of the sensor, m.
        y: m.
        yaw: Heading, rad.
        scratch: From `make_scratch`.
        scan: (B,) m, written; all 0 for a sensor in a wall or outside the grid.
    """
    start_column, start_row = to_cells(grid, x, y)
    if not wall_distance(grid, start_column, start_row) > 0.0:
        scan[:] = 0.0
        return
    column, row = np.float32(start_column), np.float32(start_row)
    cos = np.float32(math.cos(yaw - grid.yaw) / grid.resolution)
    sin = np.float32(math.sin(yaw - grid.yaw) / grid.resolution)
    max_range = np.float32(beams.max_range)
    count = len(scan)
    for first in range(0, count, LANES):
        for lane in range(LANES):
            b = min(first + lane, count - 1)
            scratch[_COLUMNS, lane] = beams.cos[b] * cos - beams.sin[b] * sin
            scratch[_ROWS, lane] = beams.sin[b] * cos + beams.cos[b] * sin
        _trace_lanes(grid.distance, column, row, max_range, scratch)
        for lane in range(min(LANES, count - first)):
            scan[first + lane] = min(scratch[_RANGE, lane], max_range)


@njit(cache=True, nogil=True, error_model="numpy")
def _trace_lanes(
    distance: Ranges, column: np.float32, row: np.float32, max_range: np.float32, scratch: Ranges
) -> None:
    """Trace `LANES` beams from a point in cells, directions and ranges in ``scratch``.

    Rays need no bounds check: none passes the first of the border's two wall cells.
    """
    width = np.int32(distance.shape[1])
    flat = distance.reshape(distance.size)
    columns, rows = scratch[_COLUMNS], scratch[_ROWS]
    ranges, steps = scratch[_RANGE], scratch[_STEP]
    ranges[:] = np.float32(0)
    moving = True
    while moving:
        for lane in range(LANES):
            tip_row = np.int32(row + ranges[lane] * rows[lane])
            tip_column = np.int32(column + ranges[lane] * columns[lane])
            steps[lane] = flat[np.uint32(tip_row * width + tip_column)]
        any_moved = np.int32(0)
        for lane in range(LANES):
            step = steps[lane] if ranges[lane] < max_range else np.float32(0)
            ranges[lane] += step
            any_moved |= np.int32(step > np.float32(0))
        moving = any_moved != 0


@njit(cache=True, nogil=True, error_model="numpy")
def cut_car(
    beams: Beams,
    x: float,
    y: float,
    yaw: float,
    car_x: float,
    car_y: float,
    car_yaw: float,
    length: float,
    width: float,
    scan: Ranges,
) -> None:
    """Shorten the beams that hit a car, an oriented rectangle (slab method).

    Args:
        beams: The sensor.
        x: Position of the sensor, m.
        y: m.
        yaw: Heading of the sensor, rad.
        car_x: Centre of the rectangle, m.
        car_y: m.
        car_yaw: Its heading, rad.
        length: Its extent along the heading, m.
        width: Its extent across, m.
        scan: (B,) m, lowered where the car is nearer.
    """
    dx, dy = car_x - x, car_y - y
    away = math.sqrt(dx * dx + dy * dy)
    radius = math.sqrt(length * length + width * width) / 2
    if not away - radius < beams.max_range:
        return
    # The sensor in the rectangle's frame, and the rotation of beams into it.
    cos_car, sin_car = math.cos(car_yaw), math.sin(car_yaw)
    px = -(dx * cos_car + dy * sin_car)
    py = -(dy * cos_car - dx * sin_car)
    cos, sin = math.cos(yaw - car_yaw), math.sin(yaw - car_yaw)
    if away <= radius or len(scan) == 1:
        _cut_range(beams, 0, len(scan), px, py, cos, sin, length / 2, width / 2, scan)
        return
    # The beams within the circle around the rectangle; its bearing may count a turn more
    # or less.
    bearing = math.atan2(dy, dx) - yaw
    bearing -= 2 * math.pi * math.floor(bearing / (2 * math.pi) + 0.5)
    spread = math.asin(radius / away) + 1e-6
    for turn in range(-1, 2):
        centre = bearing + 2 * math.pi * turn - beams.first
        low = max(0.0, math.ceil((centre - spread) / beams.spacing))
        high = min(len(scan) - 1.0, math.floor((centre + spread) / beams.spacing))
        if low <= high:
            _cut_range(
                beams, int(low), int(high) + 1, px, py, cos, sin, length / 2, width / 2, scan
            )


@njit(cache=True, nogil=True, error_model="numpy")
def _cut_range(
    beams: Beams,
    low: int,
    high: int,
    px: float,
    py: float,
    cos: float,
    sin: float,
    half_length: float,
    half_width: float,
    scan: Ranges,
) -> None:
    """Shorten beams ``low`` to ``high - 1``; the sensor is at (px, py) in the car's frame."""
    for b in range(low, high):
        ux = beams.cos[b] * cos - beams.sin[b] * sin
        uy = beams.sin[b] * cos + beams.cos[b] * sin
        ux = math.copysign(max(abs(ux), _TINY), ux)
        uy = math.copysign(max(abs(uy), _TINY), uy)
        x1, x2 = (-half_length - px) / ux, (half_length - px) / ux
        y1, y2 = (-half_width - py) / uy, (half_width - py) / uy
        enter = max(min(x1, x2), min(y1, y2))
        leave = min(max(x1, x2), max(y1, y2))
        if enter <= leave and leave >= 0.0:
            scan[b] = min(scan[b], max(enter, 0.0))
