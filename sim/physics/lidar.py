"""Planar range finder: walls by sphere tracing, other cars by exact intersection.

Readings are in single precision, and so is the sensor's range that caps them. Settings are in
double precision: code that compares readings, or their difference, with one does so in double
precision, so that compiled code and NumPy, which promote differently, agree where both are equal.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import LidarConfig
from sim.physics.collision import Pose, Size
from sim.tracks.distance_field import DistanceField, to_cells, wall_distance
from sim.vectors import CAN_PACK, LANES, above_zero, count_bits, pack

_BLOCK: Final = 32  # entries the compiler handles at once
_MANY: Final = 4096  # rays that are worth tracing together
_TILE: Final = 256  # rays that the first cache holds, with the cells that they look up
_LINE: Final = 16  # entries in a cache line
_FEW: Final = 64  # rays that are better moved one by one
_ADVANCES: Final = 5  # steps taken before the rays that have arrived are sorted out
_TINY: Final = 1e-12  # keeps a beam along a car's side from dividing 0 by 0

Ranges = NDArray[np.float32]


class Beams(NamedTuple):
    """A range finder's geometry, for kernels."""

    cos: NDArray[np.float32]  # (B,) of each beam's angle to the car's heading
    sin: NDArray[np.float32]  # (B,)
    first: float  # rad, angle of the first beam
    spacing: float  # rad, between beams; 0 for a single beam
    max_range: float  # m
    mount_x: float  # m ahead of the centre of gravity


class Rays(NamedTuple):
    """Rays under way, for kernels: views of the working memory, one entry a ray."""

    columns: Ranges  # direction, cells per metre
    rows: Ranges
    column: Ranges  # origin, cells
    row: Ranges
    lengths: Ranges  # so far, m
    steps: Ranges  # the latest, m
    readings: NDArray[np.int32]  # index of the reading that the ray is for
    tips: NDArray[np.int32]  # index of the cell to look up


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
        config.mount_x,
    )


def scans_together(beams: int) -> int:
    """Scans that `make_scratch` has room for: many if they are short, at least one."""
    return max(1, _MANY // beams)


def make_scratch(beams: int) -> Ranges:
    """Working memory of the functions below for a number of beams; one for each thread."""
    # Rows that start a multiple of 4 KiB apart would be taken for one another by the processor.
    # Those of a tile have 8 KiB of the first cache, spread over it evenly.
    rays = -(-beams * scans_together(beams) // 1024) * 1024 + _TILE + _BLOCK
    memory = np.zeros(8 * rays + _LINE, dtype=np.float32)
    # Vectors that lie across cache lines take a quarter longer to trace.
    start = -(memory.ctypes.data // memory.itemsize) % _LINE
    return memory[start : start + 8 * rays].reshape(8, rays)


@njit(cache=True, nogil=True, error_model="numpy")
def trace_walls(
    field: DistanceField, beams: Beams, sensor: Pose, scratch: Ranges, scan: Ranges
) -> None:
    """Distances to the nearest wall along each beam.

    Sphere tracing (Hart, The Visual Computer 12, 1996): a ray advances by the distance field
    at its tip until that is 0. Readings end inside the wall cell that is hit, up to a cell's
    diagonal behind its surface, as in f1tenth_gym.

    Args:
        field: The track.
        beams: The sensor; readings are capped at its range.
        sensor: Its x m, y m, yaw rad.
        scratch: From `make_scratch`.
        scan: (B,) m, written; all 0 for a sensor in a wall or outside the grid.
    """
    count = add_rays(field, beams, sensor, scratch, 0, 0, scan)
    trace_rays(field, beams.max_range, scratch, count, scan)


@njit(cache=True, nogil=True, error_model="numpy")
def add_rays(
    field: DistanceField,
    beams: Beams,
    sensor: Pose,
    scratch: Ranges,
    count: int,
    start: int,
    readings: Ranges,
) -> int:
    """Append the rays of a scan to those to be traced.

    Args:
        field: The track.
        beams: The sensor.
        sensor: Its x m, y m, yaw rad.
        scratch: From `make_scratch`.
        count: Rays that are there already.
        start: Index of the scan's first reading.
        readings: Set to 0 at the scan, m; the rays' lengths go there later.

    Returns:
        The number of rays now; unchanged for a sensor in a wall or outside the grid.
    """
    x, y, yaw = sensor
    start_column, start_row = to_cells(field, x, y)
    clear = np.float32(wall_distance(field, start_column, start_row))
    B = len(beams.cos)
    if not clear > np.float32(0):
        readings[start : start + B] = np.float32(0)
        return count
    cos = np.float32(math.cos(yaw - field.yaw) / field.resolution)
    sin = np.float32(math.sin(yaw - field.yaw) / field.resolution)
    end = count + B
    rays = _rays(scratch)
    rays.column[count:end] = np.float32(start_column)
    rays.row[count:end] = np.float32(start_row)
    rays.lengths[count:end] = clear
    columns, rows = rays.columns[count:end], rays.rows[count:end]
    for b in range(B):
        columns[b] = beams.cos[b] * cos - beams.sin[b] * sin
        rows[b] = beams.sin[b] * cos + beams.cos[b] * sin
    indices = rays.readings[count:end]
    for b in range(B):
        indices[b] = start + b
    return end


@njit(cache=True, nogil=True, error_model="numpy")
def _rays(scratch: Ranges) -> Rays:
    return Rays(
        scratch[0],
        scratch[1],
        scratch[2],
        scratch[3],
        scratch[4],
        scratch[5],
        scratch[6].view(np.int32),
        scratch[7].view(np.int32),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def trace_rays(
    field: DistanceField, max_range: float, scratch: Ranges, count: int, readings: Ranges
) -> None:
    """Trace rays to the nearest wall.

    All rays advance a few steps, tile by tile, and then those that have arrived are dropped, so
    that the processor always has many independent rays at hand, most of them in its first cache.

    Args:
        field: The track.
        max_range: Readings are capped at it, m.
        scratch: Holds the rays, from `add_rays`.
        count: Their number.
        readings: Written where the rays say, m.
    """
    limit = np.float32(max_range)
    width = np.int32(field.distance.shape[1])
    distance = field.distance.reshape(field.distance.size)
    # Taking views is not free: once for all that follows.
    rays = _rays(scratch)
    columns, rows, column, row, lengths, steps, _, tips = rays
    for i in range(count, _whole_blocks(count)):  # they fill the last block: let them stand
        columns[i] = rows[i] = column[i] = row[i] = np.float32(0)
    while count > 0:
        if count < _FEW:
            for _ in range(_ADVANCES):
                _advance_few(distance, width, rays, limit, count)
        else:
            whole = _whole_blocks(count)
            for first in range(0, whole, _TILE):
                # What cannot be negative needs no test that keeps loops from being vectorised.
                begin, end = np.uint64(first), np.uint64(min(first + _TILE, whole))
                for _ in range(_ADVANCES):
                    _find_tips(rays, width, begin, end)
                    _look_up(distance, tips, steps, begin, end)
                    _take_steps(lengths, steps, limit, begin, end)
        count = _drop_ended(rays, limit, count, readings)


@njit(cache=True, nogil=True, error_model="numpy")
def pack_rays(rays: Rays, limit: np.float32, count: int, readings: Ranges) -> int:
    """Write the readings of rays whose latest step was 0, and close the gaps they leave.

    Args:
        rays: Those under way; changed.
        limit: Readings are capped at it, m.
        count: Number of rays.
        readings: Written where the rays say, m.

    Returns:
        How many go on.
    """
    columns, rows, column, row, lengths, steps, indices, tips = rays
    for i in range(count, _whole_blocks(count)):  # what fills the last block has ended
        steps[i] = np.float32(0)
    kept, ended = np.uint64(0), np.uint64(0)
    for first in range(0, count, LANES):
        at = np.uint64(first)
        going: np.uint16 = above_zero(steps, at)  # type: ignore[call-arg]
        others = np.uint16(~going)
        # Where the steps and the tips were is room for what has ended.
        pack(lengths, at, others, steps, ended)
        pack(indices, at, others, tips, ended)
        ended += count_bits(others)
        pack(columns, at, going, columns, kept)
        pack(rows, at, going, rows, kept)
        pack(column, at, going, column, kept)
        pack(row, at, going, row, kept)
        pack(lengths, at, going, lengths, kept)
        pack(indices, at, going, indices, kept)
        kept += count_bits(going)
    for i in range(np.uint64(count) - kept):
        readings[np.uint32(tips[i])] = min(steps[i], limit)
    return int(kept)


@njit(cache=True, nogil=True, error_model="numpy")
def move_rays(rays: Rays, limit: np.float32, count: int, readings: Ranges) -> int:
    """As `pack_rays`, for processors without such instructions."""
    columns, rows, column, row, lengths, steps, indices, tips = rays
    kept = np.uint64(0)
    for i in range(np.uint64(count)):
        tips[kept] = i
        kept += np.uint64(steps[i] > np.float32(0))
    # Those of rays that go on, too, which are overwritten later: no branches.
    for i in range(np.uint64(count)):
        readings[np.uint32(indices[i])] = min(lengths[i], limit)
    for k in range(kept):
        ray = np.uint32(tips[k])
        columns[k], rows[k], lengths[k] = columns[ray], rows[ray], lengths[ray]
        column[k], row[k], indices[k] = column[ray], row[ray], indices[ray]
    return int(kept)


_drop_ended: Final = pack_rays if CAN_PACK else move_rays


@njit(cache=True, nogil=True, error_model="numpy")
def _whole_blocks(count: int) -> int:
    return (count + _BLOCK - 1) // _BLOCK * _BLOCK


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_few(
    distance: Ranges, width: np.int32, rays: Rays, limit: np.float32, count: int
) -> None:
    """Let rays take a step, in one loop: too few for vectors to pay."""
    columns, rows, column, row, lengths, steps, _, _ = rays
    for i in range(count):
        length = lengths[i]
        tip_row = np.int32(row[i] + length * rows[i])
        tip_column = np.int32(column[i] + length * columns[i])
        step = distance[np.uint32(tip_row * width + tip_column)]
        step = step if length < limit else np.float32(0)
        steps[i] = step
        lengths[i] = length + step


@njit(cache=True, nogil=True, error_model="numpy")
def _look_up(
    distance: Ranges, tips: NDArray[np.int32], steps: Ranges, begin: np.uint64, end: np.uint64
) -> None:
    for i in range(begin, end):
        steps[i] = distance[np.uint32(tips[i])]


@njit(cache=True, nogil=True, error_model="numpy")
def _find_tips(rays: Rays, width: np.int32, begin: np.uint64, end: np.uint64) -> None:
    """First part of a step of many rays, which is vectorised, unlike the look-up after it."""
    columns, rows, column, row, lengths, _, _, tips = rays
    for i in range(begin, end):
        length = lengths[i]
        tip_row = np.int32(row[i] + length * rows[i])
        tip_column = np.int32(column[i] + length * columns[i])
        tips[i] = tip_row * width + tip_column


@njit(cache=True, nogil=True, error_model="numpy")
def _take_steps(
    lengths: Ranges, steps: Ranges, limit: np.float32, begin: np.uint64, end: np.uint64
) -> None:
    """Last part of a step of many rays: those at the sensor's range stand."""
    for i in range(begin, end):
        length = lengths[i]
        step = steps[i] if length < limit else np.float32(0)
        steps[i] = step
        lengths[i] = length + step


@njit(cache=True, nogil=True, error_model="numpy")
def cut_car(beams: Beams, sensor: Pose, car: Pose, size: Size, scan: Ranges) -> None:
    """Shorten the beams that hit a car, an oriented rectangle (slab method).

    Args:
        beams: The sensor.
        sensor: Its x m, y m, yaw rad.
        car: Pose of the rectangle.
        size: Its length and width, m.
        scan: (B,) m, lowered where the car is nearer.
    """
    (x, y, yaw), (car_x, car_y, car_yaw), (length, width) = sensor, car, size
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
    half = length / 2, width / 2
    if away <= radius or len(scan) == 1:
        _cut_range(beams, 0, len(scan), px, py, cos, sin, half, scan)
        return
    # The beams within the circle around the rectangle, whose bearing may be a full turn off.
    bearing = math.atan2(dy, dx) - yaw
    bearing -= 2 * math.pi * math.floor(bearing / (2 * math.pi) + 0.5)
    spread = math.asin(radius / away) + 1e-6
    for turn in range(-1, 2):
        centre = bearing + 2 * math.pi * turn - beams.first
        low = max(0.0, math.ceil((centre - spread) / beams.spacing))
        high = min(len(scan) - 1.0, math.floor((centre + spread) / beams.spacing))
        if low <= high:
            _cut_range(beams, int(low), int(high) + 1, px, py, cos, sin, half, scan)


@njit(cache=True, nogil=True, error_model="numpy")
def _cut_range(
    beams: Beams,
    low: int,
    high: int,
    px: float,
    py: float,
    cos: float,
    sin: float,
    half: Size,
    scan: Ranges,
) -> None:
    """Shorten beams ``low`` to ``high - 1``; the sensor is at (px, py) in the car's frame."""
    half_length, half_width = half
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


@njit(cache=True, nogil=True, error_model="numpy")
def scale_ranges(scan: Ranges, scale: float, max_range: float) -> None:
    """Multiply the readings of what is hit, in place.

    Args:
        scan: (B,) m; what reads the sensor's range, as when nothing is hit, still does.
        scale: Factor; 1 changes nothing.
        max_range: m.
    """
    if scale == 1.0:
        return
    factor, limit = np.float32(scale), np.float32(max_range)
    for b in range(len(scan)):
        scan[b] = min(scan[b] * factor, limit) if scan[b] < limit else limit
