"""Open-loop prediction: what a car does after given moments, by the commands that it was sent.

The model is the simulator's, but for the servo. That of the simulator turns at full rate or not at
all, so around a target it goes to and fro by a step's turn, as f1tenth_gym's does; here it stops at
the target, so that predictions change smoothly with a car's parameters and can be fitted.
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
    TARGET_SPEED,
    TARGET_STEER,
    YAW,
    YAW_RATE,
    V,
    X,
    Y,
)
from sim.physics.actuators import KEPT, PURSUED, pursue
from sim.physics.dynamics import integrate, speed_control
from sim.physics.vehicle import (
    SPEED_GAIN,
    STEER_GAIN,
    STEER_MAX,
    STEER_RATE_MAX,
    STEER_TRIM,
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
def actuate(targets: Float, vehicle: Float, dt: float, pursued: Float, steer: Float) -> None:
    """Find what a car's controllers pursue, and where its wheels stand, over a whole drive.

    Args:
        targets: (K, 2) rad and m/s, those that reach the car in each step.
        vehicle: (P,) parameters, see `sim.physics.vehicle`; their delays do not count here.
        dt: Step, s.
        pursued: (K, 2) rad and m/s, written.
        steer: (K + 1,) rad, at the edges of the steps, written; first where its target wants it.
    """
    memory = np.zeros((KEPT + 1, COMMAND_SIZE))
    memory[KEPT, 0] = targets[0, TARGET_STEER]
    memory[KEPT, 1] = vehicle[SPEED_GAIN] * targets[0, TARGET_SPEED]
    limit, turn = vehicle[STEER_MAX], vehicle[STEER_RATE_MAX] * dt
    angle = vehicle[STEER_GAIN] * targets[0, TARGET_STEER] + vehicle[STEER_TRIM]
    steer[0] = min(max(angle, -limit), limit)
    for k in range(len(targets)):
        moment = k, np.uint64(0), dt
        pursue(memory, vehicle, targets[k, TARGET_STEER], targets[k, TARGET_SPEED], moment, 0)
        pursued[k, 0], pursued[k, 1] = memory[PURSUED, 0], memory[PURSUED, 1]
        steer[k + 1] = steer[k] + min(max(pursued[k, 0] - steer[k], -turn), turn)


@njit(cache=True, nogil=True, error_model="numpy")
def predict(
    starts: Float,
    first: Indices,
    steps: Indices,
    shares: Float,
    pursued: Float,
    steer: Float,
    vehicle: Float,
    dt: float,
    predicted: Float,
) -> None:
    """Predict windows of a drive, each from its own start.

    Args:
        starts: (W, 6), columns of `STARTS`, at the edges ``first``.
        first: (W,) step that each window begins with.
        steps: (W, S) steps since then at which a prediction is asked for, in ascending order.
        shares: (W, S) of the next step, by which it is asked for later, in [0, 1].
        pursued: (K, 2) rad and m/s, from `actuate`.
        steer: (K + 1,) rad, from `actuate`.
        vehicle: (P,) parameters, see `sim.physics.vehicle`; its delays do not count here.
        dt: Step, s.
        predicted: (W, S, 6), columns of `PREDICTED`, written; yaw without jumps.
    """
    state, before = np.zeros(STATE_SIZE), np.zeros(STATE_SIZE)
    for w in range(len(starts)):
        state[X], state[Y], state[YAW] = starts[w, 0], starts[w, 1], starts[w, 2]
        state[V], state[YAW_RATE], state[SLIP] = starts[w, 3], starts[w, 4], starts[w, 5]
        sample = 0
        for step in range(steps[w, -1] + 1):
            k = first[w] + step
            state[STEER] = steer[k]
            before[:] = state
            rate = (steer[k + 1] - steer[k]) / dt
            integrate(state, vehicle, rate, speed_control(state[V], pursued[k, 1], vehicle), dt)
            state[YAW] -= round((state[YAW] - before[YAW]) / math.tau) * math.tau
            while sample < steps.shape[1] and steps[w, sample] == step:
                late, row = shares[w, sample], predicted[w, sample]
                row[0] = before[X] + late * (state[X] - before[X])
                row[1] = before[Y] + late * (state[Y] - before[Y])
                row[2] = before[YAW] + late * (state[YAW] - before[YAW])
                row[3] = before[V] + late * (state[V] - before[V])
                row[4] = before[YAW_RATE] + late * (state[YAW_RATE] - before[YAW_RATE])
                row[5] = steer[k] + late * (steer[k + 1] - steer[k])
                sample += 1
