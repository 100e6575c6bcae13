"""Single-track vehicle model, its low-level controllers and their integration.

Equations: Althoff, Koschi and Manzinger, "CommonRoad: Composable benchmarks for motion
planning on roads", IV 2017, and its vehicle model report, sections 5 (constraints), 6
(kinematic single-track model) and 7 (single-track model). Controllers as in f1tenth_gym v1.0.0.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.layout import SLIP, STATE_SIZE, STEER, YAW, YAW_RATE, V
from sim.physics.vehicle import (
    A_MAX,
    BATTERY,
    C_SF,
    C_SR,
    CONTROL,
    DELAY,
    EULER,
    I_Z,
    INTEGRATOR,
    LF,
    LR,
    MASS,
    MU,
    RATES,
    SATURATING,
    STEER_MAX,
    STEER_RATE_MAX,
    TYRE,
    TYRE_SPEED,
    V_MAX,
    V_MIN,
    V_SWITCH,
    H,
)

GRAVITY: Final = 9.81  # m/s^2
STEER_TOLERANCE: Final = 1e-4  # rad
TWO_PI: Final = 2 * math.pi

Float = NDArray[np.float64]
Derivative = tuple[float, float, float, float, float, float, float]


@njit(cache=True, nogil=True, error_model="numpy")
def steering_rate(steer: float, target: float, vehicle: Float) -> float:
    """Bang-bang steering: full rate, rad/s, towards a target angle, rad."""
    error = target - steer
    if abs(error) <= STEER_TOLERANCE:
        return 0.0
    return math.copysign(float(vehicle[STEER_RATE_MAX]), error)


@njit(cache=True, nogil=True, error_model="numpy")
def speed_control(speed: float, target: float, vehicle: Float) -> float:
    """Proportional speed control: the acceleration asked for, m/s^2, unconstrained."""
    error = target - speed
    bound = vehicle[V_MAX] if error > 0.0 else -vehicle[V_MIN]
    gain = 10.0 if speed > 0.0 else 2.0
    return float(gain * vehicle[A_MAX] / bound * error)


@njit(cache=True, nogil=True, error_model="numpy")
def constrain_steering(steer: float, rate: float, vehicle: Float) -> float:
    """Steering rate within its bounds; 0 at the steering stop (CommonRoad report, section 5)."""
    limit = vehicle[STEER_MAX]
    if (steer <= -limit and rate <= 0.0) or (steer >= limit and rate >= 0.0):
        return 0.0
    bound = float(vehicle[STEER_RATE_MAX])
    return min(max(rate, -bound), bound)


@njit(cache=True, nogil=True, error_model="numpy")
def constrain_acceleration(speed: float, acceleration: float, vehicle: Float) -> float:
    """Acceleration within tyre and motor limits; 0 at top speed (CommonRoad report, section 5)."""
    battery = vehicle[BATTERY]
    if (speed <= vehicle[V_MIN] and acceleration <= 0.0) or (
        speed >= vehicle[V_MAX] * battery and acceleration >= 0.0
    ):
        return 0.0
    limit = vehicle[A_MAX] * battery
    if speed > vehicle[V_SWITCH]:
        limit *= vehicle[V_SWITCH] / speed
    return float(max(min(acceleration, limit), -vehicle[A_MAX]))


@njit(cache=True, nogil=True, error_model="numpy")
def derivative(
    steer: float,
    speed: float,
    yaw: float,
    yaw_rate: float,
    slip: float,
    rate: float,
    acceleration: float,
    vehicle: Float,
) -> Derivative:
    """Time derivative of a car's state, in the order of `sim.layout`.

    Single-track model (CommonRoad report, section 7); at low speed, where that is singular or,
    in reverse, unstable, the kinematic single-track model of the centre of gravity.

    Args:
        steer: Steering angle, rad.
        speed: Speed, m/s.
        yaw: Heading, rad.
        yaw_rate: rad/s.
        slip: Slip angle at the centre of gravity, rad.
        rate: Steering rate asked for, rad/s; constrained here.
        acceleration: Acceleration asked for, m/s^2; constrained here.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
    """
    rate = constrain_steering(steer, rate, vehicle)
    acceleration = constrain_acceleration(speed, acceleration, vehicle)
    lf, lr = vehicle[LF], vehicle[LR]
    wheelbase = lf + lr
    if speed < vehicle[TYRE_SPEED]:
        tan = math.tan(steer)
        cos = math.cos(steer)
        reach = tan * lr / wheelbase  # tangent of the slip angle that rolling without slip gives
        rolling = math.atan(reach)
        slip_rate = lr / (wheelbase * cos * cos) * rate / (1.0 + reach * reach)
        return (
            speed * math.cos(yaw + rolling),
            speed * math.sin(yaw + rolling),
            rate,
            acceleration,
            speed * math.cos(rolling) * tan / wheelbase,
            (
                acceleration * math.cos(slip) * tan
                - speed * math.sin(slip) * tan * slip_rate
                + speed * math.cos(slip) * rate / (cos * cos)
            )
            / wheelbase,
            slip_rate,
        )
    if vehicle[TYRE] == SATURATING:
        spin, drift = _sliding(steer, speed, yaw_rate, slip, acceleration, vehicle)
        return (
            speed * math.cos(slip + yaw),
            speed * math.sin(slip + yaw),
            rate,
            acceleration,
            yaw_rate,
            spin,
            drift,
        )
    mu = vehicle[MU]
    # Cornering stiffness times axle load over mass: braking loads the front.
    front = vehicle[C_SF] * (GRAVITY * lr - acceleration * vehicle[H])
    rear = vehicle[C_SR] * (GRAVITY * lf + acceleration * vehicle[H])
    inertia = mu * vehicle[MASS] / (vehicle[I_Z] * wheelbase)
    grip = mu / (speed * wheelbase)
    return (
        speed * math.cos(slip + yaw),
        speed * math.sin(slip + yaw),
        rate,
        acceleration,
        yaw_rate,
        inertia
        * (
            -(lf * lf * front + lr * lr * rear) / speed * yaw_rate
            + (lr * rear - lf * front) * slip
            + lf * front * steer
        ),
        (grip / speed * (rear * lr - front * lf) - 1.0) * yaw_rate
        - grip * (rear + front) * slip
        + grip * front * steer,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def tyre_force(stiffness: float, angle: float) -> float:
    """Sideways force of an axle's tyres over friction times load, in [-1, 1].

    Fiala's tyre, a brush on a rigid ring (Pacejka, "Tyre and Vehicle Dynamics", 2012, section
    3.2.1): its slope at 0 is the stiffness, and from 3 over the stiffness on it slides.

    Args:
        stiffness: Cornering stiffness, 1/rad.
        angle: Slip angle, rad.
    """
    share = stiffness * angle
    if abs(share) >= 3.0:
        return math.copysign(1.0, share)
    return share * (1.0 - abs(share) / 3.0 + share * share / 27.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _sliding(
    steer: float, speed: float, yaw_rate: float, slip: float, acceleration: float, vehicle: Float
) -> tuple[float, float]:
    """Yaw acceleration, rad/s^2, and slip rate, rad/s, with tyres that saturate.

    The balance of forces and moments of the linear single-track model, with the same slip angles
    and the same load transfer.
    """
    lf, lr, height = vehicle[LF], vehicle[LR], vehicle[H]
    mu, wheelbase = vehicle[MU], vehicle[LF] + vehicle[LR]
    # m/s^2: friction times axle load over mass. A wheel that is lifted pushes nothing.
    front = mu * max(GRAVITY * lr - acceleration * height, 0.0) / wheelbase
    rear = mu * max(GRAVITY * lf + acceleration * height, 0.0) / wheelbase
    front *= tyre_force(vehicle[C_SF], steer - slip - lf * yaw_rate / speed)
    rear *= tyre_force(vehicle[C_SR], lr * yaw_rate / speed - slip)
    spin = vehicle[MASS] / vehicle[I_Z] * (lf * front - lr * rear)
    return spin, (front + rear) / speed - yaw_rate


@njit(cache=True, nogil=True, error_model="numpy")
def wrap_angle(angle: float) -> float:
    """The same angle in [0, 2 pi)."""
    if 0.0 <= angle < TWO_PI:
        return angle
    wrapped = angle - TWO_PI * math.floor(angle / TWO_PI)
    return wrapped if 0.0 <= wrapped < TWO_PI else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def controls(
    state: Float, steer_buffer: Float, vehicle: Float, first: float, second: float, dt: float
) -> tuple[float, float]:
    """Steering rate, rad/s, and acceleration, m/s^2, that a command asks for, unconstrained.

    Targets go through the chain of f1tenth_gym v1.0.0: the steering target waits in a buffer,
    then the steering turns towards it at full rate; the speed has a proportional controller.
    Rates act at once, and no further than to the limits of steering angle and speed.

    Args:
        state: (7,), columns of `sim.layout`.
        steer_buffer: (D,) rad, targets given but not yet in effect, oldest last; shifted.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        first: Steering angle, rad, or steering rate, rad/s.
        second: Speed, m/s, or acceleration, m/s^2.
        dt: Step, s.
    """
    steer, speed = state[STEER], state[V]
    if vehicle[CONTROL] == RATES:
        limit, top = vehicle[STEER_MAX], vehicle[V_MAX] * vehicle[BATTERY]
        return (
            min(max(first, (-limit - steer) / dt), (limit - steer) / dt),
            min(max(second, (vehicle[V_MIN] - speed) / dt), (top - speed) / dt),
        )
    delay = int(vehicle[DELAY])
    target = steer_buffer[delay - 1] if delay > 0 else first
    for i in range(len(steer_buffer) - 1, 0, -1):
        steer_buffer[i] = steer_buffer[i - 1]
    steer_buffer[0] = first
    return steering_rate(steer, target, vehicle), speed_control(speed, second, vehicle)


@njit(cache=True, nogil=True, error_model="numpy")
def advance(
    state: Float, steer_buffer: Float, vehicle: Float, first: float, second: float, dt: float
) -> None:
    """Advance one car by one step, in place.

    Controls are computed once and held over the step (`integrate`).

    Args:
        state: (7,), columns of `sim.layout`.
        steer_buffer: (D,) rad, at least the car's delay, at least 1; see `controls`.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        first: Steering angle, rad, or steering rate, rad/s, by the car's kind of control.
        second: Speed, m/s, or acceleration, m/s^2.
        dt: Step, s.
    """
    rate, accel = controls(state, steer_buffer, vehicle, first, second, dt)
    integrate(state, vehicle, rate, accel, dt)


@njit(cache=True, nogil=True, error_model="numpy")
def integrate(state: Float, vehicle: Float, rate: float, accel: float, dt: float) -> None:
    """Advance one car by one step with controls that are held over it, in place.

    The step is one of the classical Runge-Kutta method or of Euler's.

    Args:
        state: (7,), columns of `sim.layout`.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        rate: Steering rate asked for, rad/s.
        accel: Acceleration asked for, m/s^2.
        dt: Step, s.
    """
    steer, speed, yaw = state[STEER], state[V], state[YAW]
    yaw_rate, slip = state[YAW_RATE], state[SLIP]
    k1 = derivative(steer, speed, yaw, yaw_rate, slip, rate, accel, vehicle)
    if vehicle[INTEGRATOR] == EULER:
        for i in range(STATE_SIZE):
            state[i] += dt * k1[i]
        state[YAW] = wrap_angle(state[YAW])
    else:
        k2 = _stage(state, k1, dt / 2, rate, accel, vehicle)
        k3 = _stage(state, k2, dt / 2, rate, accel, vehicle)
        k4 = _stage(state, k3, dt, rate, accel, vehicle)
        sixth = dt / 6
        for i in range(STATE_SIZE):
            state[i] += sixth * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i])
        state[YAW] = wrap_angle(state[YAW])
    if vehicle[TYRE_SPEED] == math.inf:
        _roll(state, vehicle)


@njit(cache=True, nogil=True, error_model="numpy")
def _roll(state: Float, vehicle: Float) -> None:
    """Set yaw rate and slip angle to those of rolling without slip, which leaves no choice."""
    wheelbase = vehicle[LF] + vehicle[LR]
    tan = math.tan(state[STEER])
    state[SLIP] = math.atan(tan * vehicle[LR] / wheelbase)
    state[YAW_RATE] = state[V] * math.cos(state[SLIP]) * tan / wheelbase


@njit(cache=True, nogil=True, error_model="numpy")
def _stage(
    state: Float, k: Derivative, dt: float, rate: float, accel: float, vehicle: Float
) -> Derivative:
    """The derivative at ``state + dt * k``."""
    return derivative(
        state[STEER] + dt * k[STEER],
        state[V] + dt * k[V],
        state[YAW] + dt * k[YAW],
        state[YAW_RATE] + dt * k[YAW_RATE],
        state[SLIP] + dt * k[SLIP],
        rate,
        accel,
        vehicle,
    )
