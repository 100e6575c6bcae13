"""Planar range finder: walls by sphere tracing, other cars by exact intersection."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import LidarConfig
from sim.tracks.grid import Grid, to_cells, wall_distance

# Rows of the scratch array, one entry a beam under way.
_COLUMNS, _ROWS, _RANGES, _STEPS, _BEAMS, _TIPS = range(6)
_BLOCK: Final = 32  # entries the compiler handles at once
_ADVANCES: Final = 4  # steps taken before the beams that have arrived are sorted out
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


def make_scratch(beams: int) -> Ranges:
    """Working memory of `trace_walls` for a number of beams; one for each thread."""
    return np.zeros((6, -(-beams // _BLOCK) * _BLOCK), dtype=np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def trace_walls(
    grid: Grid, beams: Beams, x: float, y: float, yaw: float, scratch: Ranges, scan: Ranges
) -> None:
    """Distances to the nearest wall along each beam.

    Sphere tracing (Hart, The Visual Computer 12, 1996): a ray advances by the distance field
    at its tip until that is 0. Readings end inside the wall cell that is hit, up to a cell's
    diagonal behind its surface, as in f1tenth_gym. All beams advance together, and those that
    have arrived are dropped after every few steps, so that the processor always has many
    independent rays at hand.

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
    clear = np.float32(wall_distance(grid, start_column, start_row))
    if not clear > np.float32(0):
        scan[:] = 0.0
        return
    column, row = np.float32(start_column), np.float32(start_row)
    cos = np.float32(math.cos(yaw - grid.yaw) / grid.resolution)
    sin = np.float32(math.sin(yaw - grid.yaw) / grid.resolution)
    max_range = np.float32(beams.max_range)
    columns, rows, ranges = scratch[_COLUMNS], scratch[_ROWS], scratch[_RANGES]
    steps, index = scratch[_STEPS], scratch[_BEAMS].view(np.int32)
    count = len(scan)
    for b in range(count):
        columns[b] = beams.cos[b] * cos - beams.sin[b] * sin
        rows[b] = beams.sin[b] * cos + beams.cos[b] * sin
        ranges[b] = clear
        index[b] = b
    for b in range(count, scratch.shape[1]):  # they fill the last block, and stand still
        columns[b] = rows[b] = np.float32(0)
        ranges[b] = max_range
    while count > 0:
        _advance_rays(grid.distance, column, row, max_range, scratch, count)
        kept = 0
        for i in range(count):
            scan[index[i]] = min(ranges[i], max_range)
            columns[kept], rows[kept], ranges[kept] = columns[i], rows[i], ranges[i]
            index[kept] = index[i]
            kept += steps[i] > np.float32(0)
        count = kept


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_rays(
    distance: Ranges,
    column: np.float32,
    row: np.float32,
    max_range: np.float32,
    scratch: Ranges,
    count: int,
) -> None:
    """Let the first ``count`` rays of ``scratch`` take some steps from a point in cells.

    Rays need no bounds check: none passes the first of the border's two wall cells. Only the
    look-up cannot be done with vector instructions, so it has a loop of its own; few rays go
    faster without, and are not worth filling a block.
    """
    width = np.int32(distance.shape[1])
    flat = distance.reshape(distance.size)
    columns, rows, ranges = scratch[_COLUMNS], scratch[_ROWS], scratch[_RANGES]
    steps, tips = scratch[_STEPS], scratch[_TIPS].view(np.int32)
    zero = np.float32(0)
    if count < _BLOCK:
        for _ in range(_ADVANCES):
            for i in range(count):
                tip_row = np.int32(row + ranges[i] * rows[i])
                tip_column = np.int32(column + ranges[i] * columns[i])
                step = flat[np.uint32(tip_row * width + tip_column)]
                steps[i] = step if ranges[i] < max_range else zero
                ranges[i] += steps[i]
        return
    count = (count + _BLOCK - 1) // _BLOCK * _BLOCK
    for _ in range(_ADVANCES):
        for i in range(count):
            tip_row = np.int32(row + ranges[i] * rows[i])
            tip_column = np.int32(column + ranges[i] * columns[i])
            tips[i] = tip_row * width + tip_column
        for i in range(count):
            steps[i] = flat[np.uint32(tips[i])]
        for i in range(count):
            steps[i] = steps[i] if ranges[i] < max_range else zero
            ranges[i] += steps[i]


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
