"""What objectives and terms measure alike, for one environment and one agent."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.layout import V, X, Y
from sim.tracks.centerline import Centerline
from sim.tracks.grid import Grid
from sim.world import WorldArrays


class Course(NamedTuple):
    """What tasks need to know of a track, for kernels."""

    line: Centerline
    grid: Grid
    physics_step: float  # s


@njit(cache=True, nogil=True, error_model="numpy")
def distance_between(world: WorldArrays, e: int, car: int, target: int) -> float:
    """Distance between two cars, centre to centre, m."""
    state = world.state
    return float(
        np.hypot(state[e, target, X] - state[e, car, X], state[e, target, Y] - state[e, car, Y])
    )


@njit(cache=True, nogil=True, error_model="numpy")
def pressing(
    world: WorldArrays, e: int, car: int, target: int, distance: float, speed: float
) -> bool:
    """Whether a car is within a distance of the target, m, at a speed, m/s, or faster."""
    near = distance_between(world, e, car, target) <= distance
    return bool(near and world.state[e, car, V] >= speed)


@njit(cache=True, nogil=True, error_model="numpy")
def along(line: Centerline, way: float) -> float:
    """The shortest way, m, between two arc lengths that differ by ``way``.

    On a closed line of length L that is ``way`` less the multiple of L that brings it into
    [-L/2, L/2), so that a car may cross the seam; on an open one ``way`` itself.
    """
    if line.closed:
        way -= line.length * math.floor(way / line.length + 0.5)
    return way


@njit(cache=True, nogil=True, error_model="numpy")
def follow_lead(
    world: WorldArrays,
    line: Centerline,
    memory: NDArray[np.float64],
    column: int,
    e: int,
    car: int,
    target: int,
) -> float:
    """How far a car's lead over the target has grown, m along the centre line; minds the lead.

    A lead may exceed half a lap: it is followed step by step, not taken from positions alone.

    Args:
        world: The world.
        line: The track's centre line.
        memory: Holds the lead, m, updated.
        column: Where.
        e: Index of the environment.
        car: Index of the car.
        target: Index of the other.
    """
    ahead = world.arc_length[e, car] - world.arc_length[e, target]
    grown = along(line, ahead - memory[column])
    memory[column] += grown
    return grown
