"""What becomes of targets on their way to a car's controllers: latency, calibration, lag."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.physics.noise import is_late, steering_noise, stream
from sim.physics.vehicle import (
    COMMAND_DELAY,
    COMMAND_JITTER,
    CONTROL,
    SPEED_GAIN,
    SPEED_LAG,
    STEER_DEADBAND,
    STEER_GAIN,
    STEER_MAX,
    STEER_RATE_NOISE,
    STEER_TRIM,
    TARGETS,
    V_MAX,
    V_MIN,
)

Float = NDArray[np.float64]

PURSUED: Final = 0  # rows of a car's memory, of angles and speeds
KEPT: Final = 1


@njit(cache=True, nogil=True, error_model="numpy")
def receive(
    buffer: Float,
    vehicle: Float,
    steer: float,
    speed: float,
    step: int,
    noise_key: np.uint64,
    car: int,
) -> tuple[float, float]:
    """The targets that reach a car at a physics step, while others are sent.

    They were sent the car's delay ago or, with the probability of its jitter, a step earlier, for
    each step independently. So none overtake others, and those that are new to the car are a step
    late with that probability. Until the first ones arrive, both are 0.

    Args:
        buffer: (K, 2) rad and m/s, the latest sent, those of step s at s modulo K, which is at
            least the delay and 2; changed.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        steer: Steering angle sent, rad.
        speed: Speed sent, m/s.
        step: Physics steps since the car was placed.
        noise_key: Of the environment.
        car: Index of the car.
    """
    delay, jitter = int(vehicle[COMMAND_DELAY]), vehicle[COMMAND_JITTER]
    slot = step % len(buffer)
    buffer[slot, 0], buffer[slot, 1] = steer, speed
    if jitter > 0.0 and is_late(stream(noise_key, step, car), jitter):
        delay += 1
    slot -= delay
    if slot < 0:
        slot += len(buffer)
    return buffer[slot, 0], buffer[slot, 1]


@njit(cache=True, nogil=True, error_model="numpy")
def is_ideal(vehicle: Float) -> bool:
    """Whether a car's controllers pursue at once what they are told."""
    prompt: bool = vehicle[COMMAND_DELAY] + vehicle[COMMAND_JITTER] + vehicle[SPEED_LAG] == 0.0
    exact: bool = vehicle[STEER_GAIN] == 1.0 and vehicle[SPEED_GAIN] == 1.0
    straight: bool = vehicle[STEER_TRIM] == 0.0 and vehicle[STEER_DEADBAND] == 0.0
    return prompt and exact and straight


@njit(cache=True, nogil=True, error_model="numpy")
def aim(memory: Float, vehicle: Float, first: float, second: float) -> bool:
    """Find what a car's controllers pursue if they do so at once, for all physics steps to come.

    Args:
        memory: (2 + K, 2) as of `pursue`; what the controllers pursue is written.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        first: Steering angle that is asked for, rad, or steering rate, rad/s.
        second: Speed, m/s, or acceleration, m/s^2.

    Returns:
        Whether they do; if not, `pursue` tells at each physics step.
    """
    if vehicle[CONTROL] == TARGETS:
        if not is_ideal(vehicle):
            return False
        limit = vehicle[STEER_MAX]
        first = min(max(first, -limit), limit)
        second = min(max(second, vehicle[V_MIN]), vehicle[V_MAX])
    memory[PURSUED, 0], memory[PURSUED, 1] = first, second
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def turn(
    rate: float, steer: float, vehicle: Float, moment: tuple[int, np.uint64, float], car: int
) -> float:
    """The steering rate, rad/s, of a servo that does not turn evenly; see `pursue`."""
    step, noise_key, dt = moment
    limit = vehicle[STEER_MAX]
    rate += vehicle[STEER_RATE_NOISE] * steering_noise(stream(noise_key, step, car))
    return float(min(max(rate, (-limit - steer) / dt), (limit - steer) / dt))


@njit(cache=True, nogil=True, error_model="numpy")
def pursue(
    memory: Float,
    vehicle: Float,
    steer: float,
    speed: float,
    moment: tuple[int, np.uint64, float],
    car: int,
) -> None:
    """Find the steering angle and speed that a car's controllers pursue when told others.

    Args:
        memory: (2 + K, 2) rad and m/s: what they pursue, written; the steering target held and
            the speed target after its lag, changed; the ring of `receive`.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        steer: Steering angle that is asked for, rad.
        speed: Speed, m/s.
        moment: Physics steps since the car was placed; key of the environment's noise; step, s.
        car: Index of the car.
    """
    step, noise_key, dt = moment
    if vehicle[COMMAND_DELAY] > 0.0 or vehicle[COMMAND_JITTER] > 0.0:
        steer, speed = receive(memory[KEPT + 1 :], vehicle, steer, speed, step, noise_key, car)
    limit = vehicle[STEER_MAX]
    steer = min(max(steer, -limit), limit)
    speed = min(max(speed, vehicle[V_MIN]), vehicle[V_MAX])
    gain, trim, deadband = vehicle[STEER_GAIN], vehicle[STEER_TRIM], vehicle[STEER_DEADBAND]
    if deadband > 0.0:
        if abs(steer - memory[KEPT, 0]) >= deadband:
            memory[KEPT, 0] = steer
        steer = memory[KEPT, 0]
    if gain != 1.0 or trim != 0.0:  # else not even the sign of a 0 changes
        steer = min(max(gain * steer + trim, -limit), limit)
    if vehicle[SPEED_GAIN] != 1.0:
        speed = min(max(vehicle[SPEED_GAIN] * speed, vehicle[V_MIN]), vehicle[V_MAX])
    if vehicle[SPEED_LAG] > 0.0:  # exact for a target that is held over the step
        speed += (memory[KEPT, 1] - speed) * math.exp(-dt / vehicle[SPEED_LAG])
        memory[KEPT, 1] = speed
    memory[PURSUED, 0], memory[PURSUED, 1] = steer, speed
