"""How fast a line can be driven: the fastest speeds within the limits of tyres and motor.

The speed at each point is first what its bend allows, then lowered backwards along the line, so
that the car can brake for what follows, and forwards, so that the motor can reach it. Tyres that
push sideways push less along the line: with exponent 2 both accelerations together stay within an
ellipse (Kapania, Subosits and Gerdes, "A Sequential Two-Step Algorithm for Fast Generation of
Vehicle Racing Trajectories", Journal of Dynamic Systems, Measurement, and Control 138, 2016).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Limits(NamedTuple):
    """What a car can do; for kernels."""

    lateral: float  # m/s^2, of the tyres sideways: friction coefficient times gravity
    longitudinal: float = math.inf  # m/s^2, of the tyres lengthways
    braking: float = math.inf  # m/s^2, of the brakes
    acceleration: float = math.inf  # m/s^2, of the motor
    switch_speed: float = math.inf  # m/s, above which the motor's power is all it gives
    fastest: float = math.inf  # m/s
    # p of (sideways / lateral)^p + (lengthways / longitudinal)^p <= 1; infinite: each by itself.
    exponent: float = 2.0


def speed_profile(curvature: Float, steps: Float | float, limits: Limits, *, closed: bool) -> Float:
    """Return the fastest speeds along a line.

    At both ends of each step, v^2 |curvature| and the acceleration over the step, which is taken
    as constant, are within the limits. An open line is entered as fast as they allow.

    Args:
        curvature: (N,) 1/m, at points of the line.
        steps: (N,) m from each point to the next, or one number for all.
        limits: Of the car.
        closed: Whether the last point leads back to the first; otherwise its step is not used.

    Returns:
        (N,) m/s, infinite where nothing limits them.
    """
    lengths = np.broadcast_to(np.asarray(steps, np.float64), curvature.shape).copy()
    squares = _profile(np.abs(curvature), lengths, Limits(*map(float, limits)), closed)
    speeds: Float = np.minimum(np.sqrt(squares), limits.fastest)
    return speeds


def travel_time(speeds: Float, steps: Float | float, *, closed: bool) -> float:
    """Return the time, s, along a line whose speed squared changes linearly between points.

    Args:
        speeds: (N,) m/s.
        steps: (N,) m, as those of `speed_profile`.
        closed: Whether the last point leads back to the first.
    """
    times = 2 * np.broadcast_to(steps, speeds.shape) / (speeds + np.roll(speeds, -1))
    return float(times.sum() if closed else times[:-1].sum())


@njit(cache=True, nogil=True, error_model="numpy")
def _profile(bends: Float, steps: Float, limits: Limits, closed: bool) -> Float:
    """(N,) squares of the speeds, m^2/s^2."""
    count = len(bends)
    squares = np.minimum(limits.fastest**2, limits.lateral / np.maximum(bends, 1e-12))
    # Nothing lowers the slowest point, so that what follows from it is final. Going round twice
    # instead would not do: a point that is lowered later leaves its neighbour more grip.
    first = int(np.argmin(squares)) if closed else 0
    for k in range(first + count - 1, first - 1, -1):
        i, j = k % count, (k + 1) % count
        if j > 0 or closed:
            ends = squares[j], bends[j], squares[i], bends[i]
            squares[i] = _next(ends, steps[i], limits.braking, math.inf, limits)
    for k in range(first, first + count):
        i, j = k % count, (k + 1) % count
        if j > 0 or closed:
            ends = squares[i], bends[i], squares[j], bends[j]
            squares[j] = _next(ends, steps[i], limits.acceleration, limits.switch_speed, limits)
    return squares


@njit(cache=True, nogil=True, error_model="numpy")
def _next(
    ends: tuple[float, float, float, float], step: float, peak: float, switch: float, limits: Limits
) -> float:
    """Largest square of the speed a step away.

    Args:
        ends: Square of the speed and curvature at the point that is left, and those at the other,
            where the square is an upper bound.
        step: m between them.
        peak: Largest acceleration, m/s^2.
        switch: Speed above which it falls with the speed, m/s.
        limits: Of the car; of these, the tyres'.
    """
    known, bend, bound, bend_there = ends
    most = min(bound, known + 2.0 * step * _available(known, bend, peak, switch, limits))
    if not most > known:
        return most
    low, high = known, most  # more speed there needs more acceleration, and leaves less
    if most - known <= 2.0 * step * _available(most, bend_there, peak, switch, limits):
        return most
    for _ in range(60):
        middle = (low + high) / 2.0
        if middle - known <= 2.0 * step * _available(middle, bend_there, peak, switch, limits):
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True, error_model="numpy")
def _available(square: float, bend: float, peak: float, switch: float, limits: Limits) -> float:
    """Acceleration, m/s^2, that motor or brakes, and the tyres in a bend, have left at a speed."""
    if square > switch * switch:
        peak *= switch / math.sqrt(square)
    if limits.exponent == math.inf:
        return min(peak, limits.longitudinal)
    used = square * bend / limits.lateral
    if used >= 1.0:
        return 0.0
    left = (1.0 - used**limits.exponent) ** (1.0 / limits.exponent)
    return float(min(peak, limits.longitudinal * left))
