"""Open-loop prediction: what a car does after given moments, by the commands that it was sent.

The model is the simulator's, and the servo one of two. That of the simulator turns at full rate or
not at all, so around a target it goes to and fro by a step's turn, as f1tenth_gym's does
(`trembled`); a real one stops at the target (`steered`), which changes smoothly with a car's
parameters and can be fitted.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.layout import (
    COMMAND_SIZE,
    SLIP,
    STATE_SIZE,
    STEER,
    YAW,
    YAW_RATE,
    V,
    X,
    Y,
)
from sim.physics.actuators import KEPT, PURSUED, pursue
from sim.physics.dynamics import constrain_steering, integrate, speed_control, steering_rate
from sim.physics.vehicle import (
    SPEED_GAIN,
    STEER_RATE_MAX,
)

Float = NDArray[np.float64]
Indices = NDArray[np.int64]

# Columns of a moment's start (`STARTS`: x m, y m, yaw rad, speed m/s, yaw rate rad/s, slip rad) and
# of a prediction (`PREDICTED`: the same, with the steering angle, rad, instead of the slip).
STARTS: Final = (X, Y, YAW, V, YAW_RATE, SLIP)
PREDICTED: Final = (X, Y, YAW, V, YAW_RATE, STEER)


def held_means(times: Float, values: Float, edges: Float, delay: float) -> Float:
    """Return the means, over steps, of commands that are held until the next and come late.

    Means make predictions change smoothly with the delay. Where it is a whole number of steps, and
    commands change at their edges, they are the commands themselves.

    Args:
        times: (M,) s, in ascending order.
        values: (M,) at these times; before the first, its value holds.
        edges: (K + 1,) s, of the steps.
        delay: s.

    Returns:
        (K,)
    """
    held = np.concatenate([[0.0], np.cumsum(np.diff(times) * values[:-1])])
    late = edges - delay
    area = np.interp(late, times, held)
    area += np.minimum(late - times[0], 0.0) * values[0]
    area += np.maximum(late - times[-1], 0.0) * values[-1]
    means: Float = np.diff(area) / np.diff(edges)
    return means


@njit(cache=True, nogil=True, error_model="numpy")
def pursued_speeds(targets: Float, vehicle: Float, dt: float, pursued: Float) -> None:
    """Find what a car's speed controller pursues over a whole drive.

    Args:
        targets: (K,) m/s, those that reach the car in each step.
        vehicle: (P,) parameters, see `sim.physics.vehicle`; their delays do not count here.
        dt: Step, s.
        pursued: (K,) m/s, written.
    """
    memory = np.zeros((KEPT + 1, COMMAND_SIZE))
    memory[KEPT, 1] = vehicle[SPEED_GAIN] * targets[0]
    for k in range(len(targets)):
        pursue(memory, vehicle, 0.0, targets[k], (k, np.uint64(0), dt), 0)
        pursued[k] = memory[PURSUED, 1]


@njit(cache=True, nogil=True, error_model="numpy")
def steered(times: Float, targets: Float, vehicle: Float, at: Float, angles: Float) -> None:
    """Find where a car's wheels stand, by targets that are held until the next.

    Between targets they turn at full rate until they are there, which is exact at any time, so
    that angles change smoothly with a delay.

    Args:
        times: (M,) s, at which targets reach the servo, in ascending order.
        targets: (M,) rad; before the first, the wheels stand where it wants them.
        vehicle: (P,) parameters, see `sim.physics.vehicle`; their delays do not count here.
        at: (N,) s, in ascending order.
        angles: (N,) rad, written.
    """
    memory = np.zeros((KEPT + 1, COMMAND_SIZE))
    memory[KEPT, 0] = targets[0]
    moment = 0, np.uint64(0), 1.0
    pursue(memory, vehicle, targets[0], 0.0, moment, 0)
    angle, since, place = memory[PURSUED, 0], times[0], 0
    for n in range(len(at)):
        while place + 1 < len(times) and times[place + 1] <= at[n]:
            reach = vehicle[STEER_RATE_MAX] * (times[place + 1] - since)
            angle += min(max(memory[PURSUED, 0] - angle, -reach), reach)
            place += 1
            since = times[place]
            pursue(memory, vehicle, targets[place], 0.0, moment, 0)
        reach = vehicle[STEER_RATE_MAX] * max(at[n] - since, 0.0)
        angles[n] = angle + min(max(memory[PURSUED, 0] - angle, -reach), reach)


@njit(cache=True, nogil=True, error_model="numpy")
def trembled(
    arrivals: Indices, targets: Float, delay: int, vehicle: Float, dt: float, angles: Float
) -> None:
    """Find where the wheels of a simulated car stand, whose servo trembles around its target.

    As in the simulator from the moment at which a car is placed: the servo turns for whole steps,
    at full rate or not at all, and not beyond the stop, with the stages of Runge and Kutta.

    Args:
        arrivals: (M,) steps at which targets reach the car, in ascending order; before the first,
            it is told 0.
        targets: (M,) rad.
        delay: Steps until a target takes effect, before which the wheels stand straight.
        vehicle: (P,) parameters, see `sim.physics.vehicle`; their delays do not count here.
        dt: Step, s.
        angles: (K + 1,) rad, at the edges of the steps, written.
    """
    memory = np.zeros((KEPT + 1, COMMAND_SIZE))
    moment = 0, np.uint64(0), dt
    pursue(memory, vehicle, 0.0, 0.0, moment, 0)
    angle, place = 0.0, 0
    angles[0] = angle
    for k in range(len(angles) - 1):
        while place < len(targets) and arrivals[place] + delay <= k:
            pursue(memory, vehicle, targets[place], 0.0, moment, 0)
            place += 1
        if k >= delay:
            rate = steering_rate(angle, memory[PURSUED, 0], vehicle)
            first = constrain_steering(angle, rate, vehicle)
            second = constrain_steering(angle + dt / 2 * first, rate, vehicle)
            third = constrain_steering(angle + dt / 2 * second, rate, vehicle)
            fourth = constrain_steering(angle + dt * third, rate, vehicle)
            angle += dt / 6 * (first + 2 * second + 2 * third + fourth)
        angles[k + 1] = angle


@njit(cache=True, nogil=True, error_model="numpy")
def predict(
    starts: Float,
    first: Indices,
    samples: Float,
    phase: float,
    pursued: Float,
    steer: Float,
    vehicle: Float,
    dt: float,
    predicted: Float,
) -> None:
    """Predict windows of a drive, each from its own start.

    The car's own steps, at whose edges commands reach it, need not be those of the windows: the
    first is cut short. So predictions change smoothly with a delay of any number of steps.

    Args:
        starts: (W, 6), columns of `STARTS`, ``phase`` steps before the end of the ``first``.
        first: (W,) step of the car in which each window begins.
        samples: (W, S) steps since the start, of predictions, in ascending order.
        phase: In [0, 1), of a step.
        pursued: (K,) m/s, from `pursued_speeds`.
        steer: (K + 1,) rad, at the edges of the car's steps, from `steered`.
        vehicle: (P,) parameters, see `sim.physics.vehicle`; its delays do not count here.
        dt: Step, s.
        predicted: (W, S, 6), columns of `PREDICTED`, written; yaw without jumps.
    """
    state, before = np.zeros(STATE_SIZE), np.zeros(STATE_SIZE)
    count = samples.shape[1]
    for w in range(len(starts)):
        state[X], state[Y], state[YAW] = starts[w, 0], starts[w, 1], starts[w, 2]
        state[V], state[YAW_RATE], state[SLIP] = starts[w, 3], starts[w, 4], starts[w, 5]
        k, sample = first[w], 0
        angle, begin, end = steer[k + 1] - phase * (steer[k + 1] - steer[k]), 0.0, phase
        if phase == 0.0:
            k, end = k + 1, 1.0
        while sample < count:
            state[STEER] = angle
            before[:] = state
            span = end - begin
            rate = (steer[k + 1] - angle) / (span * dt)
            asked = speed_control(state[V], pursued[k], vehicle)
            integrate(state, vehicle, rate, asked, span * dt)
            state[YAW] -= round((state[YAW] - before[YAW]) / math.tau) * math.tau
            while sample < count and samples[w, sample] <= end:
                late, row = (samples[w, sample] - begin) / span, predicted[w, sample]
                row[0] = before[X] + late * (state[X] - before[X])
                row[1] = before[Y] + late * (state[Y] - before[Y])
                row[2] = before[YAW] + late * (state[YAW] - before[YAW])
                row[3] = before[V] + late * (state[V] - before[V])
                row[4] = before[YAW_RATE] + late * (state[YAW_RATE] - before[YAW_RATE])
                row[5] = angle + late * (steer[k + 1] - angle)
                sample += 1
            k, angle, begin, end = k + 1, steer[k + 1], end, end + 1.0
