"""Single-track drift model: wheels that spin and lock, tyres that slip along and across.

Equations: Althoff and Wuersching, "CommonRoad: Vehicle models (version 2020a)", section on the
single-track drift model (STD), as in its package `commonroad-vehicle-models`. Tyres: the Magic
Formula, Pacejka, "Tyre and Vehicle Dynamics", 2012, section 4.3.2, without camber and turn slip.
Below about 0.2 m/s, and in reverse, it passes over into the kinematic model.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.layout import SLIP, STATE_SIZE, STEER, YAW, YAW_RATE, V
from sim.physics.dynamics import (
    GRAVITY,
    constrain_acceleration,
    constrain_steering,
    wrap_angle,
)
from sim.physics.vehicle import (
    BRAKE_FRONT,
    DRIVE_FRONT,
    EULER,
    I_W,
    I_Z,
    INTEGRATOR,
    LF,
    LR,
    MASS,
    MU,
    P_CX1,
    P_CY1,
    P_DX1,
    P_DY1,
    P_EX1,
    P_EY1,
    P_HX1,
    P_KX1,
    P_KY1,
    P_VX1,
    R_BX1,
    R_BX2,
    R_BY1,
    R_BY2,
    R_BY3,
    R_CX1,
    R_CY1,
    R_EX1,
    R_EY1,
    R_HX1,
    R_HY1,
    R_VY1,
    R_VY4,
    R_VY5,
    R_VY6,
    R_W,
    H,
)

Float = NDArray[np.float64]
# Of x, y, steering angle, speed, yaw, yaw rate, slip angle, and of the wheels' turning.
Derivative = tuple[float, float, float, float, float, float, float, float, float]

WHEELS: Final = 2  # whose turning a car has: the front and the rear axle's

_SWITCH_SPEED: Final = 0.2  # m/s, where both models count alike
_SWITCH_WIDTH: Final = 0.05  # m/s
_LEAST_SPEED: Final = 0.1  # m/s, below which tyres do not slip across
_ROLLING: Final = 0.02  # s, in which wheels take on the speed of the ground in the kinematic model
# Largest product of a step and the fastest rate of decay: Runge and Kutta's method is stable up
# to 2.78, Euler's to 2.
_REACH: Final = 1.5
_MOST_STEPS: Final = 1000.0  # within a physics step


@njit(cache=True, nogil=True, error_model="numpy")
def _bent(slope: float, curvature: float, slip: float) -> float:
    """Arc tangent of the Magic Formula's argument."""
    steep = slope * slip
    return math.atan(steep - curvature * (steep - math.atan(steep)))


@njit(cache=True, nogil=True, error_model="numpy")
def _lessening(slope: float, shape: float, curvature: float, shift: float, slip: float) -> float:
    """Factor of a force by slip in the other direction, 1 without any."""
    return math.cos(shape * _bent(slope, curvature, slip + shift)) / math.cos(
        shape * _bent(slope, curvature, shift)
    )


@njit(cache=True, nogil=True, error_model="numpy")
def magic_formula(along: float, across: float, load: float, vehicle: Float) -> tuple[float, float]:
    """Forces of an axle's tyres along and across its wheels, N, at combined slip.

    Args:
        along: Slip along, of a braked wheel positive: 1 where it is locked.
        across: Slip angle, rad, positive where the wheel moves to its left.
        load: Of the axle, N.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
    """
    grip = vehicle[MU]
    # Along: pure slip, then its weight at this slip angle.
    peak = vehicle[P_DX1] * (grip / vehicle[P_DY1])
    slope = vehicle[P_KX1] / (vehicle[P_CX1] * peak)
    bent = _bent(slope, vehicle[P_EX1], vehicle[P_HX1] - along)
    # The shift stands within the sine, as in the package.
    force_along = peak * load * math.sin(vehicle[P_CX1] * bent + load * vehicle[P_VX1])
    slope = vehicle[R_BX1] / math.sqrt(1.0 + (vehicle[R_BX2] * along) ** 2)
    force_along *= _lessening(slope, vehicle[R_CX1], vehicle[R_EX1], vehicle[R_HX1], across)
    # Across: the same, and a force that slip along brings about.
    slope = vehicle[P_KY1] / (vehicle[P_CY1] * grip)
    bent = _bent(slope, vehicle[P_EY1], across)
    force_across = grip * load * math.sin(vehicle[P_CY1] * bent)
    slope = vehicle[R_BY1] / math.sqrt(1.0 + (vehicle[R_BY2] * (across - vehicle[R_BY3])) ** 2)
    force_across *= _lessening(slope, vehicle[R_CY1], vehicle[R_EY1], vehicle[R_HY1], along)
    induced = grip * load * vehicle[R_VY1] / math.sqrt(1.0 + (vehicle[R_VY4] * across) ** 2)
    induced *= math.sin(vehicle[R_VY5] * math.atan(vehicle[R_VY6] * along))
    return force_along, force_across + induced


@njit(cache=True, nogil=True, error_model="numpy")
def _contact(speed: float, slip: float, turning: float, steer: float) -> tuple[float, float]:
    """How an axle's wheels meet the ground: its speed along them, m/s, and their slip angle, rad.

    The speed is negative only where the car slides backwards.

    Args:
        speed: Speed of the centre of gravity, m/s.
        slip: Its slip angle, rad.
        turning: Speed to the left that turning adds at the axle, m/s.
        steer: Steering angle of the wheels, rad.
    """
    forward, left = speed * math.cos(slip), speed * math.sin(slip) + turning
    along = forward * math.cos(steer) + left * math.sin(steer)
    if forward < 0.0 < speed:
        # Beyond 90 degrees the model's arc tangent turns about, and forces would push the car on.
        return along, math.atan2(left * math.cos(steer) - forward * math.sin(steer), abs(along))
    return max(along, 0.0), math.atan(left / forward) - steer


@njit(cache=True, nogil=True, error_model="numpy")
def _slip_along(ground: float, tread: float) -> float:
    """Slip along, from the speeds of the ground and of the tread, m/s."""
    if ground < 0.0:
        return (ground - tread) / max(-ground, _LEAST_SPEED)
    return 1.0 - tread / max(ground, _LEAST_SPEED)


@njit(cache=True, nogil=True, error_model="numpy")
def _kinematic(
    steer: float, speed: float, slip: float, rate: float, acceleration: float, vehicle: Float
) -> tuple[float, float, float]:
    """Yaw rate, rad/s, yaw acceleration, rad/s^2, and slip rate, rad/s, of rolling wheels."""
    wheelbase = vehicle[LF] + vehicle[LR]
    tan, cos = math.tan(steer), math.cos(steer)
    reach = tan * vehicle[LR] / wheelbase
    # The report has `reach` for `bend`, which is a few per cent less at full steering, too.
    bend = tan * reach
    slip_rate = vehicle[LR] * rate / (wheelbase * cos * cos * (1.0 + bend * bend))
    turning = (
        acceleration * math.cos(slip) * tan
        - speed * math.sin(slip) * slip_rate * tan
        + speed * math.cos(slip) * rate / (cos * cos)
    )
    yaw_rate = speed * math.cos(math.atan(reach)) * tan / wheelbase
    return yaw_rate, turning / wheelbase, slip_rate


@njit(cache=True, nogil=True, error_model="numpy")
def drift_derivative(
    steer: float,
    speed: float,
    yaw: float,
    yaw_rate: float,
    slip: float,
    wheels: tuple[float, float],
    rate: float,
    acceleration: float,
    vehicle: Float,
) -> Derivative:
    """Time derivative of a car's state, in the order of `sim.layout`, and of its wheels' turning.

    Args:
        steer: Steering angle, rad.
        speed: Speed, m/s.
        yaw: Heading, rad.
        yaw_rate: rad/s.
        slip: Slip angle at the centre of gravity, rad.
        wheels: Turning of the front and rear wheels, rad/s.
        rate: Steering rate asked for, rad/s; constrained here.
        acceleration: Acceleration asked for, m/s^2; constrained here. Mass and wheel radius make
            a torque of it.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
    """
    rate = constrain_steering(steer, rate, vehicle)
    acceleration = constrain_acceleration(speed, acceleration, vehicle)
    mass, lf, lr, radius = vehicle[MASS], vehicle[LF], vehicle[LR], vehicle[R_W]
    sliding = speed > _LEAST_SPEED
    ground_f, angle_f = _contact(speed, slip, lf * yaw_rate, steer)
    ground_r, angle_r = _contact(speed, slip, -lr * yaw_rate, 0.0)
    if not sliding:
        angle_f = angle_r = 0.0
    # Forces of both axles. A wheel that is lifted pushes nothing.
    per_load = mass / (lf + lr)
    load_f = per_load * max(GRAVITY * lr - acceleration * vehicle[H], 0.0)
    load_r = per_load * max(GRAVITY * lf + acceleration * vehicle[H], 0.0)
    slip_f = _slip_along(ground_f, radius * wheels[0])
    slip_r = _slip_along(ground_r, radius * wheels[1])
    along_f, across_f = magic_formula(slip_f, angle_f, load_f, vehicle)
    along_r, across_r = magic_formula(slip_r, angle_r, load_r, vehicle)
    # Their balance with those of the car's and the wheels' inertia.
    sin_f, cos_f = math.sin(steer - slip), math.cos(steer - slip)
    sin_r, cos_r = math.sin(slip), math.cos(slip)
    speed_rate = (-across_f * sin_f + across_r * sin_r + along_r * cos_r + along_f * cos_f) / mass
    spin = (
        lf * (across_f * math.cos(steer) + along_f * math.sin(steer)) - lr * across_r
    ) / vehicle[I_Z]
    drift = across_f * cos_f + across_r * cos_r - along_r * sin_r + along_f * sin_f
    drift = drift / (mass * speed) - yaw_rate if sliding else 0.0
    front = vehicle[DRIVE_FRONT] if acceleration > 0.0 else vehicle[BRAKE_FRONT]
    torque = mass * radius * acceleration
    # No wheel turns backwards.
    wheel_f = (front * torque - radius * along_f) / vehicle[I_W] if wheels[0] >= 0.0 else 0.0
    wheel_r = (torque - front * torque - radius * along_r) / vehicle[I_W]
    wheel_r = wheel_r if wheels[1] >= 0.0 else 0.0
    # The kinematic model, and how much either counts.
    rolled, rolled_spin, rolled_drift = _kinematic(steer, speed, slip, rate, acceleration, vehicle)
    share = 0.5 * (math.tanh((speed - _SWITCH_SPEED) / _SWITCH_WIDTH) + 1.0)
    rest = 1.0 - share
    return (
        speed * math.cos(slip + yaw),
        speed * math.sin(slip + yaw),
        rate,
        share * speed_rate + rest * acceleration,
        share * yaw_rate + rest * rolled,
        share * spin + rest * rolled_spin,
        share * drift + rest * rolled_drift,
        share * wheel_f + rest * (max(ground_f, 0.0) / radius - max(wheels[0], 0.0)) / _ROLLING,
        share * wheel_r + rest * (max(ground_r, 0.0) / radius - max(wheels[1], 0.0)) / _ROLLING,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def fastest_decay(speed: float, acceleration: float, time: float, vehicle: Float) -> float:
    """Bound of the rates at which slip decays, 1/s: tyres are the stiffer the slower the car.

    Args:
        speed: Speed, m/s.
        acceleration: Acceleration of the car's limits, m/s^2.
        time: For how long the bound is to hold, s.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
    """
    mass, longer = vehicle[MASS], max(vehicle[LF], vehicle[LR])
    load = GRAVITY * longer + abs(acceleration) * vehicle[H]
    load *= mass / (vehicle[LF] + vehicle[LR])
    wheels = vehicle[P_KX1] * load * vehicle[R_W] ** 2 / vehicle[I_W]
    body = -vehicle[P_KY1] * GRAVITY * (1.0 + mass * longer * longer / vehicle[I_Z])
    ahead = speed + abs(acceleration) * time
    share = 0.5 * (math.tanh((ahead - _SWITCH_SPEED) / _SWITCH_WIDTH) + 1.0)
    return float(share * max(wheels, body) / max(speed, _LEAST_SPEED) + 1.0 / _ROLLING)


@njit(cache=True, nogil=True, error_model="numpy")
def integrate_drift(
    state: Float, wheels: Float, vehicle: Float, rate: float, acceleration: float, dt: float
) -> None:
    """Advance one car by one step in which its controls are held, in place.

    Slow wheels and tyres are stiff: the step is taken in as many as they need.

    Args:
        state: (7,), columns of `sim.layout`.
        wheels: (2,) turning of the front and rear wheels, rad/s.
        vehicle: (P,) parameters, see `sim.physics.vehicle`.
        rate: Steering rate asked for, rad/s.
        acceleration: Acceleration asked for, m/s^2.
        dt: Step, s.
    """
    left, steps = dt, 2
    while steps > 1:
        allowed = constrain_acceleration(state[V], acceleration, vehicle)
        bound = fastest_decay(state[V], allowed, left, vehicle)
        longest = max(_REACH / bound, dt / _MOST_STEPS)
        steps = math.ceil(left / longest)
        h = left / steps if steps > 1 else left
        left -= h
        _step(state, wheels, vehicle, rate, acceleration, h)
        if 0.0 < state[V] < _SWITCH_SPEED and math.cos(state[SLIP]) < 0.0:
            # A spin has ended backwards: what is left of it rolls on in reverse.
            state[V] *= math.cos(state[SLIP])
            state[SLIP] = math.atan(
                math.tan(state[STEER]) * vehicle[LR] / (vehicle[LF] + vehicle[LR])
            )
            rolling = _kinematic(state[STEER], state[V], state[SLIP], 0.0, 0.0, vehicle)
            state[YAW_RATE] = rolling[0]
    state[YAW] = wrap_angle(state[YAW])
    if abs(state[SLIP]) > math.pi:
        state[SLIP] = wrap_angle(state[SLIP] + math.pi) - math.pi


@njit(cache=True, nogil=True, error_model="numpy")
def _step(
    state: Float, wheels: Float, vehicle: Float, rate: float, acceleration: float, h: float
) -> None:
    """One step of Runge and Kutta's or of Euler's method."""
    k1 = drift_derivative(
        state[STEER],
        state[V],
        state[YAW],
        state[YAW_RATE],
        state[SLIP],
        (wheels[0], wheels[1]),
        rate,
        acceleration,
        vehicle,
    )
    if vehicle[INTEGRATOR] != EULER:
        k2 = _stage(state, wheels, k1, h / 2, rate, acceleration, vehicle)
        k3 = _stage(state, wheels, k2, h / 2, rate, acceleration, vehicle)
        k4 = _stage(state, wheels, k3, h, rate, acceleration, vehicle)
        for i in range(STATE_SIZE):
            state[i] += h / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i])
        for i in range(WHEELS):
            j = STATE_SIZE + i
            wheels[i] += h / 6 * (k1[j] + 2 * k2[j] + 2 * k3[j] + k4[j])
    else:
        for i in range(STATE_SIZE):
            state[i] += h * k1[i]
        for i in range(WHEELS):
            wheels[i] += h * k1[STATE_SIZE + i]
    for i in range(WHEELS):
        wheels[i] = max(wheels[i], 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _stage(
    state: Float,
    wheels: Float,
    k: Derivative,
    h: float,
    rate: float,
    acceleration: float,
    vehicle: Float,
) -> Derivative:
    """The derivative at ``state + h * k``."""
    return drift_derivative(
        state[STEER] + h * k[STEER],
        state[V] + h * k[V],
        state[YAW] + h * k[YAW],
        state[YAW_RATE] + h * k[YAW_RATE],
        state[SLIP] + h * k[SLIP],
        (wheels[0] + h * k[STATE_SIZE], wheels[1] + h * k[STATE_SIZE + 1]),
        rate,
        acceleration,
        vehicle,
    )
