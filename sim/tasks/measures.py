"""What objectives and terms measure alike, for one environment and one agent.

These functions take the arrays that they read, not the whole world, and become part of the
kernel that calls them: passing a tuple of arrays costs more than what they do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.layout import V, X, Y
from sim.physics.kernels import WorldArrays
from sim.tracks.centerline import Centerline
from sim.tracks.distance_field import DistanceField

Float = NDArray[np.float64]


class Step(NamedTuple):
    """What terms and objectives see of a step, and where they pay."""

    world: WorldArrays  # after the step
    physics_step: float  # s
    rewards: Float  # (E,)
    outcomes: NDArray[np.int64]  # (E,) of `Outcome`: what follows from the world alone, at first


class Lane(NamedTuple):
    """What terms see of the track that the environments are on."""

    line: Centerline
    field: DistanceField


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def lap_length(line: Centerline) -> float:
    """Length of a closed centre line, m; 0 for an open one."""
    return line.length if line.closed else 0.0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def distance_between(state: Float, e: int, car: int, target: int) -> float:
    """Distance between two cars, centre to centre, m."""
    return float(
        np.hypot(state[e, target, X] - state[e, car, X], state[e, target, Y] - state[e, car, Y])
    )


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def pressing(state: Float, e: int, car: int, target: int, distance: float, speed: float) -> bool:
    """Whether a car is within a distance of the target, m, at a speed, m/s, or faster."""
    near = distance_between(state, e, car, target) <= distance
    return bool(near and state[e, car, V] >= speed)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def along(length: float, way: float) -> float:
    """The shortest way, m, between two arc lengths that differ by ``way``.

    On a closed line of that length that is ``way`` less the multiple of it that brings it into
    [-length/2, length/2), so that a car may cross the seam; on an open one, which has length 0
    here, ``way`` itself.
    """
    if length > 0.0:
        way -= length * math.floor(way / length + 0.5)
    return way


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def follow_lead(
    arc_length: Float, length: float, lead: Float, e: int, car: int, target: int
) -> float:
    """How far a car's lead over the target has grown, m along the centre line.

    A lead may exceed half a lap: it is followed step by step, not taken from positions alone.

    Args:
        arc_length: (E, C) m.
        length: As `along` takes it.
        lead: Its first number is the lead, m, updated.
        e: Index of the environment.
        car: Index of the car.
        target: Index of the other.
    """
    grown = along(length, arc_length[e, car] - arc_length[e, target] - lead[0])
    lead[0] += grown
    return grown


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def next_pass(length: float, lead: float) -> float:
    """The lead, m, at which a car next comes up to the target from behind.

    0 for a car that is behind. One that is ahead has to lap the target on a closed line, and
    cannot come up to it on an open one: infinity.

    Args:
        length: As `along` takes it.
        lead: As `follow_lead` updates it, m.
    """
    if length > 0.0:
        return length * (math.floor(lead / length) + 1.0)
    return 0.0 if lead < 0.0 else math.inf
