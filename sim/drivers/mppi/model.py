"""The car that plans are rolled out with: a single-track model in few, long steps.

The equations are those of `sim.physics.dynamics`. Yaw rate and slip angle are integrated by the
implicit midpoint rule, since at low speeds they settle faster than a step: an explicit rule would
not be stable. What is nonlinear in the tyres enters as their stiffness at the start of the step.
"""

from __future__ import annotations

import math
from typing import Any, Final

from numba import njit

from sim.config import VehicleConfig
from sim.physics.dynamics import GRAVITY

# x m, y m, steering angle rad, speed m/s, yaw rad, yaw rate rad/s, slip angle rad.
Motion = tuple[float, float, float, float, float, float, float]

_ROLLING: Final = 1.0  # m/s, below which tyres are taken not to slip


def car_settings(vehicle: VehicleConfig) -> dict[str, float]:
    """What the model needs of a car, by name, for `sim.native.record`."""
    wheelbase = vehicle.front_axle + vehicle.rear_axle
    return {
        "steer_max": vehicle.steer_max,  # rad
        "steer_rate_max": vehicle.steer_rate_max,  # rad/s
        "acceleration_max": vehicle.acceleration_max,  # m/s^2
        "switch_speed": vehicle.switch_speed,  # m/s
        "front_axle": vehicle.front_axle,  # m
        "rear_axle": vehicle.rear_axle,  # m
        "wheelbase": wheelbase,  # m
        "height": vehicle.cg_height,  # m
        "slipping": vehicle.model == "single_track",
        "saturating": vehicle.tyre.kind == "saturating",
        "stiffness_front": vehicle.stiffness_front,  # 1/rad
        "stiffness_rear": vehicle.stiffness_rear,  # 1/rad
        "friction": vehicle.friction / wheelbase,  # 1/m
        "leverage": vehicle.mass / vehicle.yaw_inertia,  # 1/m^2
    }


@njit(cache=True, nogil=True, error_model="numpy")
def roll(
    car: Any, motion: Motion, target: float, acceleration: float, fastest: float, dt: float
) -> Motion:
    """Advance a car by one step.

    Args:
        car: A record with the fields of `car_settings`.
        motion: Before the step.
        target: Steering angle to turn to, rad, at the steering's full rate.
        acceleration: Asked for, m/s^2; within what the motor can and between standing and fastest.
        fastest: m/s; a car that is faster brakes to it.
        dt: s.

    Returns:
        The motion after the step.
    """
    x, y, steer, speed, yaw, rate, slip = motion
    turn = car.steer_rate_max * dt
    turned = steer + min(max(target - steer, -turn), turn)
    limit = car.acceleration_max
    if speed > car.switch_speed:
        limit *= car.switch_speed / speed
    gained = min(max(acceleration, -car.acceleration_max), limit) * dt
    after = max(min(speed + gained, max(fastest, speed - car.acceleration_max * dt)), 0.0)
    middle, angle = (speed + after) / 2.0, (steer + turned) / 2.0
    if car.slipping and middle > _ROLLING:
        spun, slipped = _slide(car, middle, angle, rate, slip, (after - speed) / dt, dt)
    else:
        reach = math.tan(turned) / car.wheelbase
        slipped = math.atan(reach * car.rear_axle)
        spun = after * math.cos(slipped) * reach
    turned_yaw = yaw + dt * (rate + spun) / 2.0
    course = (yaw + turned_yaw + slip + slipped) / 2.0
    x += dt * middle * math.cos(course)
    y += dt * middle * math.sin(course)
    return x, y, turned, after, turned_yaw, spun, slipped


@njit(cache=True, nogil=True, error_model="numpy")
def _slide(
    car: Any, speed: float, steer: float, rate: float, slip: float, gained: float, dt: float
) -> tuple[float, float]:
    """Yaw rate and slip angle after a step, rad/s and rad: the implicit midpoint rule."""
    lf, lr = car.front_axle, car.rear_axle
    # m/s^2 a radian: stiffness times friction times axle load over mass.
    front = car.friction * car.stiffness_front * max(GRAVITY * lr - gained * car.height, 0.0)
    rear = car.friction * car.stiffness_rear * max(GRAVITY * lf + gained * car.height, 0.0)
    if car.saturating:
        front *= _softened(car.stiffness_front * (steer - slip - lf * rate / speed))
        rear *= _softened(car.stiffness_rear * (lr * rate / speed - slip))
    # Rates of change: (p rate + q slip + m, u rate + w slip + n).
    lever = car.leverage
    excess = lr * rear - lf * front
    p, q = -lever * (lf * lf * front + lr * lr * rear) / speed, lever * excess
    u, w = excess / (speed * speed) - 1.0, -(front + rear) / speed
    change_rate = p * rate + q * slip + lever * lf * front * steer
    change_slip = u * rate + w * slip + front * steer / speed
    half = dt / 2.0
    a, b, c, d = 1.0 - half * p, -half * q, -half * u, 1.0 - half * w
    scale = dt / (a * d - b * c)
    return (
        rate + scale * (d * change_rate - b * change_slip),
        slip + scale * (a * change_slip - c * change_rate),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _softened(share: float) -> float:
    """Force of a tyre that saturates over that of a linear one; `share` is stiffness times angle.

    See `sim.physics.dynamics.tyre_force`.
    """
    share = abs(share)
    return 1.0 / share if share >= 3.0 else 1.0 - share / 3.0 + share * share / 27.0
