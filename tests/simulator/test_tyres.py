"""Tyres that saturate: equal to the linear ones for small angles, and never beyond friction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import fsolve

from sim.config import VehicleConfig
from sim.layout import SLIP, STATE_SIZE, STEER, YAW_RATE, V
from sim.physics.dynamics import GRAVITY, advance, derivative, tyre_force
from sim.physics.vehicle import vehicle_vector

LINEAR = VehicleConfig()
SATURATING = VehicleConfig.model_validate({"tyre": {"kind": "saturating"}})
DT = 0.01


def drive(config: VehicleConfig, commands: list[tuple[float, float]], **start: float):
    """States (T, 7) under commands, from a state with what is given."""
    state, buffer = np.zeros(STATE_SIZE), np.zeros(config.steer_delay)
    state[V] = start.get("speed", 0.0)
    states = []
    for steer, speed in commands:
        advance(state, buffer, vehicle_vector(config), steer, speed, DT)
        states.append(state.copy())
    return np.array(states)


@given(st.floats(0.1, 100.0), st.floats(-2.0, 2.0))
def test_the_force_saturates(stiffness: float, angle: float) -> None:
    """Odd, monotone, at most 1, at most the linear one, and it is 1 from where it slides on."""
    force = tyre_force(stiffness, angle)
    assert force == -tyre_force(stiffness, -angle)
    assert abs(force) <= min(1.0, abs(stiffness * angle)) * (1 + 1e-12)
    assert tyre_force(stiffness, angle + 0.01) >= force - 1e-12
    sliding = abs(angle) >= 3.0 / stiffness
    assert (abs(force) == 1.0) >= sliding


def test_its_slope_at_rest_is_the_stiffness() -> None:
    for angle in (1e-4, 1e-5):
        assert tyre_force(4.718, angle) == pytest.approx(4.718 * angle, rel=2 * 4.718 * angle)


def test_gentle_driving_is_as_with_linear_tyres() -> None:
    commands = [(0.01, 3.0)] * 200 + [(-0.005, 4.0)] * 200
    one, other = (drive(config, commands) for config in (LINEAR, SATURATING))
    turning = np.abs(one[:, YAW_RATE]).max()
    assert np.abs(other[:, YAW_RATE] - one[:, YAW_RATE]).max() < 0.03 * turning
    assert not np.array_equal(other, one)


@pytest.mark.parametrize("friction", [0.5, 1.0489])
def test_on_a_skid_pad_the_car_never_corners_harder_than_friction_allows(friction: float) -> None:
    """Faster and faster at any steering angle: v (yaw rate + slip rate) stays below mu g."""
    config = SATURATING.model_copy(update={"friction": friction})
    vector = vehicle_vector(config)
    for steer, least in ((0.05, 0.0), (0.15, 0.5), (0.4, 0.85)):
        largest = 0.0
        commands = [(steer, speed) for speed in np.linspace(1.0, 12.0, 1500)]
        for state in drive(config, commands):
            rates = derivative(*state[2:], 0.0, 0.0, vector)
            largest = max(largest, state[V] * abs(state[YAW_RATE] + rates[SLIP]))
        assert least * friction * GRAVITY < largest <= friction * GRAVITY * 1.001
    linear = drive(LINEAR, [(0.15, speed) for speed in np.linspace(1.0, 12.0, 1500)])
    assert np.abs(linear[:, V] * linear[:, YAW_RATE]).max() > 1.5 * LINEAR.friction * GRAVITY


def test_fast_cornering_settles_at_the_balance_of_the_saturating_tyres() -> None:
    """Forces and moments are in balance, by the tyre curve written out by hand."""
    steer, speed = 0.064, 5.0
    state = drive(SATURATING, [(steer, speed)] * 3000, speed=speed)[-1]
    car = SATURATING
    wheelbase = car.front_axle + car.rear_axle

    def force(stiffness: float, angle: float) -> float:
        adhering = max(1.0 - stiffness * abs(angle) / 3.0, 0.0)
        return math.copysign(1.0 - adhering**3, angle)

    def balance(unknown):
        slip, yaw_rate = unknown
        front = car.friction * GRAVITY * car.rear_axle / wheelbase
        rear = car.friction * GRAVITY * car.front_axle / wheelbase
        front *= force(car.stiffness_front, steer - slip - car.front_axle * yaw_rate / speed)
        rear *= force(car.stiffness_rear, car.rear_axle * yaw_rate / speed - slip)
        moment = car.front_axle * front - car.rear_axle * rear
        return front + rear - speed * yaw_rate, moment

    slip, yaw_rate = fsolve(balance, (0.0, 0.5))
    assert state[STEER] == pytest.approx(steer, abs=1e-9)
    assert state[SLIP] == pytest.approx(slip, abs=2e-3)
    assert state[YAW_RATE] == pytest.approx(yaw_rate, rel=5e-3)


def test_braking_loads_the_front_and_a_lifted_axle_pushes_nothing() -> None:
    high = SATURATING.model_copy(update={"cg_height": 0.4})
    vector = vehicle_vector(high)
    light = derivative(0.1, 4.0, 0.0, 0.0, 0.0, 0.0, 5.0, vector)[YAW_RATE]
    loaded = derivative(0.1, 4.0, 0.0, 0.0, 0.0, 0.0, -5.0, vector)[YAW_RATE]
    assert light == 0.0
    assert loaded > 0.0
