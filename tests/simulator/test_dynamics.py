"""Single-track model: analytic cases, symmetries, limits, and recorded trajectories."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import VehicleConfig
from sim.layout import SLIP, STATE_SIZE, STEER, YAW, YAW_RATE, V, X, Y
from sim.physics.dynamics import advance, constrain_acceleration, constrain_steering, wrap_angle
from sim.physics.vehicle import vehicle_vector

DT = 0.01
CAR = VehicleConfig()
SMALL = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=1.0)
REFERENCE = os.environ.get("F110_REFERENCE")

controls = st.lists(
    st.tuples(st.floats(-0.4189, 0.4189), st.floats(-5.0, 20.0)), min_size=1, max_size=8
)


def drive(commands, start=None, config=CAR, dt=DT):
    """States (T + 1, 7) of a car under commands (T, 2), from rest unless told."""
    state = np.zeros(STATE_SIZE) if start is None else np.array(start, dtype=float)
    buffer = np.zeros(config.steer_delay)
    states = [state.copy()]
    for steer, speed in commands:
        advance(state, buffer, vehicle_vector(config), steer, speed, dt)
        states.append(state.copy())
    return np.array(states)


def held(commands, steps=25):
    return [command for command in commands for _ in range(steps)]


def angle_between(a, b):
    return np.abs((np.asarray(a) - b + np.pi) % (2 * np.pi) - np.pi)


def test_a_car_at_rest_stays_at_rest():
    assert np.all(drive([(0.0, 0.0)] * 100) == 0)


def test_slow_driving_is_a_circle_of_kinematic_radius():
    steer, speed = 0.16, 0.3  # a multiple of 0.032, which the steering reaches exactly
    states = drive([(steer, speed)] * 6000)[3000:]
    slip = math.atan(CAR.rear_axle / (CAR.front_axle + CAR.rear_axle) * math.tan(steer))
    radius = (CAR.front_axle + CAR.rear_axle) / (math.tan(steer) * math.cos(slip))
    assert states[:, V] == pytest.approx(speed, abs=1e-6)
    assert states[:, SLIP] == pytest.approx(slip)
    # The centre of the circle is to the left of the velocity.
    course = states[:, YAW] + states[:, SLIP]
    centres = states[:, [X, Y]] + radius * np.column_stack([-np.sin(course), np.cos(course)])
    assert np.ptp(centres, axis=0) == pytest.approx(0, abs=1e-6)
    assert angle_between(states[1:, YAW] - states[:-1, YAW], DT * speed / radius) == pytest.approx(
        0, abs=1e-7
    )


def test_fast_cornering_settles_at_the_steady_state_of_the_linear_tyres():
    steer, speed = 0.064, 4.0
    state = drive([(steer, speed)] * 2000)[-1]
    # Force and moment balance of the linear single-track model without load transfer.
    lf, lr, g = CAR.front_axle, CAR.rear_axle, 9.81
    front = CAR.friction * CAR.stiffness_front * g * lr / (lf + lr)
    rear = CAR.friction * CAR.stiffness_rear * g * lf / (lf + lr)
    matrix = np.array(
        [
            [-(front + rear), (rear * lr - front * lf) / speed - speed],
            [rear * lr - front * lf, -(front * lf**2 + rear * lr**2) / speed],
        ]
    )
    slip, yaw_rate = np.linalg.solve(matrix, [-front * steer, -front * lf * steer])
    assert state[V] == pytest.approx(speed, abs=1e-6)
    assert state[SLIP] == pytest.approx(slip, rel=1e-6)
    assert state[YAW_RATE] == pytest.approx(yaw_rate, rel=1e-6)


def test_straight_acceleration_follows_the_speed_controller():
    # dv/dt = min(a_max, 10 a_max / v_max (target - v)), a_max until v = target - 2 m/s.
    states = drive([(0.0, 6.0)] * 200)
    gain = 10 * CAR.acceleration_max / CAR.speed_max
    speed = states[1, V]
    for state in states[2:]:
        speed += DT * min(CAR.acceleration_max, gain * (6.0 - speed))
        assert state[V] == pytest.approx(speed)
    assert states[:, [Y, STEER, YAW, YAW_RATE, SLIP]] == pytest.approx(0)


def test_steering_takes_effect_two_steps_late_at_full_rate():
    states = drive([(0.2, 0.0)] * 12)
    assert states[:3, STEER] == pytest.approx(0)
    assert states[3:9, STEER] == pytest.approx(0.032 * np.arange(1, 7))


def test_motor_power_limits_acceleration_at_high_speed():
    vector = vehicle_vector(CAR)
    for speed, expected in [(5.0, 9.51), (7.319, 9.51), (14.638, 9.51 / 2), (20.0, 0.0)]:
        assert constrain_acceleration(speed, 100.0, vector) == pytest.approx(expected)
    assert constrain_acceleration(14.0, -100.0, vector) == -9.51
    assert constrain_acceleration(-5.0, -1.0, vector) == 0
    assert constrain_acceleration(-5.0, 1.0, vector) == 1


def test_steering_stops_at_its_limit():
    vector = vehicle_vector(CAR)
    assert constrain_steering(0.4189, 3.2, vector) == 0
    assert constrain_steering(0.4189, -3.2, vector) == -3.2
    assert constrain_steering(-0.4189, -3.2, vector) == 0
    assert constrain_steering(0.0, 9.0, vector) == 3.2


@examples(40)
@given(controls)
def test_mirrored_commands_give_the_mirrored_path(commands):
    states = drive(held(commands))
    mirrored = drive([(-steer, speed) for steer, speed in held(commands)])
    same, opposite = [X, V], [Y, STEER, YAW_RATE, SLIP]
    scale = 1 + np.abs(states)
    assert np.all(np.abs(states - mirrored)[:, same] <= 1e-6 * scale[:, same])
    assert np.all(np.abs(states + mirrored)[:, opposite] <= 1e-6 * scale[:, opposite])
    assert angle_between(states[:, YAW], -mirrored[:, YAW]).max() < 1e-6


@examples(40)
@given(controls, st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 6.28))
def test_the_path_moves_with_the_start_pose(commands, x, y, yaw):
    states = drive(held(commands))
    start = np.zeros(STATE_SIZE)
    start[[X, Y, YAW]] = x, y, yaw
    moved = drive(held(commands), start)
    cos, sin = math.cos(yaw), math.sin(yaw)
    turned = states[:, [X, Y]] @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    assert np.abs(moved[:, [X, Y]] - turned).max() < 1e-5
    assert angle_between(moved[:, YAW], states[:, YAW] + yaw).max() < 1e-6
    rest = [STEER, V, YAW_RATE, SLIP]
    assert np.abs(moved - states)[:, rest].max() < 1e-6


@examples(40)
@given(controls, st.sampled_from([CAR, SMALL]))
def test_speed_and_steering_stay_within_the_cars_limits(commands, config):
    clipped = [
        (steer, min(max(speed, config.speed_min), config.speed_max)) for steer, speed in commands
    ]
    states = drive(held(clipped, steps=100), config=config)
    assert np.isfinite(states).all()
    assert states[:, V].max() <= config.speed_max + 1e-9
    assert states[:, V].min() >= config.speed_min - 1e-9
    # The stop acts within a step, so that one step's travel bounds the excess.
    assert np.abs(states[:, STEER]).max() <= config.steer_max + DT * config.steer_rate_max
    assert states[:, YAW].min() >= 0
    assert states[:, YAW].max() < 2 * np.pi


def test_reversing_is_stable():
    states = drive([(0.3, -3.0)] * 500)
    assert states[-1, V] == pytest.approx(-3.0, abs=1e-3)
    assert np.abs(states[:, SLIP]).max() < 0.3
    assert np.ptp(states[:, X]) < 3.0  # it goes in circles of about a metre's radius


def test_halving_the_step_hardly_changes_a_smooth_path():
    start = np.zeros(STATE_SIZE)
    start[V], start[YAW_RATE] = 5.0, 1.0
    coarse = drive([(0.0, 5.0)] * 50, start)[-1]
    fine = drive([(0.0, 5.0)] * 500, start, dt=DT / 10)[-1]
    assert np.abs(coarse - fine).max() < 1e-5


@given(st.floats(-1e6, 1e6))
def test_wrapped_angles_are_the_same_angle(angle):
    wrapped = wrap_angle(angle)
    assert 0 <= wrapped < 2 * math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(angle), abs=1e-6)
    assert math.sin(wrapped) == pytest.approx(math.sin(angle), abs=1e-6)


def test_first_states_of_a_recorded_start():
    # f1tenth_gym v1.0.0, steering 0.1 rad and speed 3 m/s asked for from rest: state 7.
    recorded = [0.018948, 0.000877, 0.096, 0.59913, 0.004818, 0.189318, 0.058669]
    assert drive([(0.1, 3.0)] * 7)[7] == pytest.approx(recorded, abs=1e-6)


@pytest.mark.skipif(not REFERENCE, reason="F110_REFERENCE names no folder of recordings")
@pytest.mark.parametrize("name", ["constant_turn", "slalom", "accelerate_brake", "low_speed"])
def test_recorded_trajectories(name):
    with np.load(Path(str(REFERENCE)) / "dynamics_f1tenth_gym.npz") as data:
        parameters = json.loads(str(data["params_json"]))
        actions, recorded = data[f"{name}/actions"], data[f"{name}/states"]
        dt = float(data["dt"])
    assert parameters["I"] == CAR.yaw_inertia
    states = drive(actions, recorded[0], dt=dt)
    error = np.abs(states - recorded)
    error[:, YAW] = angle_between(states[:, YAW], recorded[:, YAW])
    assert error.max() < 1e-9
