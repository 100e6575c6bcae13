"""Open-loop predictions: the simulator's own motion, from any moment of it on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.config import CircleTrack, LidarConfig, VehicleConfig
from sim.layout import STEER
from sim.physics.prediction import (
    PREDICTED,
    STARTS,
    held_means,
    predict,
    pursued_speeds,
    steered,
    trembled,
)
from sim.physics.vehicle import COMMAND_DELAY, vehicle_vector
from sim.physics.world import World
from sim.tracks.factory import make_track

DT = 0.01
FIELD = CircleTrack(radius=100.0, width=190.0, resolution=0.5)
TURN = 0.032  # rad, a step's: the simulator's servo reaches its multiples without trembling


@pytest.mark.parametrize("kind", ["linear", "saturating"])
def test_predictions_are_what_the_simulator_does(kind: str) -> None:
    car = VehicleConfig.model_validate(
        {"tyre": {"kind": kind}, "speed_lag": 0.1, "speed_gain": 0.9, "steer_delay": 0}
    )
    rng = np.random.default_rng(3)
    commands = np.repeat(
        np.column_stack([TURN * rng.integers(-8, 9, 12), rng.uniform(1.0, 6.0, 12)]), 25, axis=0
    )
    world = World(make_track(FIELD), [car], LidarConfig(beams=1), physics_step=DT)
    world.place(0, np.array([[100.0, 0.0, 3.0]]), 0)
    states = [world.arrays.state[0, 0].copy()]
    for command in commands:
        world.step(command[None, None])
        states.append(world.arrays.state[0, 0].copy())
    seen, vector = np.array(states), vehicle_vector(car)
    # First straight, at rest, as the simulator; the car's steps begin with those of the windows.
    targets = np.vstack([np.zeros((2, 2)), commands])
    edges = DT * (np.arange(len(targets) + 1) - 2.0)
    pursued, steer = np.empty(len(targets)), np.empty(len(edges))
    pursued_speeds(targets[:, 1], vector, DT, pursued)
    steered(edges[:-1], targets[:, 0], vector, edges, steer)
    assert steer[2:] == pytest.approx(seen[:, STEER], abs=1e-9)
    first = np.array([0, 60, 150])
    steps = np.tile(np.arange(0, 140, 7), (3, 1))
    predicted = np.empty((*steps.shape, 6))
    car_now = pursued, steer, vector
    predict(seen[first][:, STARTS], first + 1, 1.0 * steps, 0.0, *car_now, DT, predicted)
    wanted = seen[first[:, None] + steps][..., PREDICTED]
    turned = predicted[..., 2] - wanted[..., 2]
    predicted[..., 2] -= 2 * np.pi * np.round(turned / (2 * np.pi))
    np.testing.assert_allclose(predicted, wanted, atol=1e-9)


@pytest.mark.parametrize("stop", [0.4189, 0.13])
def test_the_trembling_servo_is_the_simulators(stop: float) -> None:
    """From its first step on, with delays, a trim, and a stop that cuts a step's turn short."""
    car = VehicleConfig(
        steer_gain=0.97, steer_trim=0.013, steer_max=stop, steer_delay=2, command_delay=3
    )
    commands = np.repeat(np.random.default_rng(4).uniform(-0.35, 0.35, 20), 9)
    world = World(make_track(FIELD), [car], LidarConfig(beams=1), physics_step=DT)
    world.place(0, np.array([[100.0, 0.0, 3.0]]), 0)
    seen = [0.0]
    for command in commands:
        world.step(np.array([[[command, 2.0]]]))
        seen.append(float(world.arrays.state[0, 0, STEER]))
    vector = vehicle_vector(car)
    vector[COMMAND_DELAY] = 0.0
    angles = np.empty(len(commands) + 1)
    arrivals = np.arange(len(commands)) + car.command_delay
    trembled(arrivals, commands, car.steer_delay, vector, DT, angles)
    np.testing.assert_allclose(angles, seen, atol=1e-12)


def test_between_steps_predictions_are_on_a_line_and_yaw_does_not_jump() -> None:
    vector = vehicle_vector(VehicleConfig())
    car = np.full(400, 3.0), np.full(401, 0.3), vector
    samples, predicted = 0.5 * np.arange(780.0)[None], np.empty((1, 780, 6))
    start = np.array([[0.0, 0.0, 6.0, 3.0, 0.0, 0.0]])
    predict(start, np.array([0]), samples, 0.0, *car, DT, predicted)
    rows = predicted[0]
    np.testing.assert_allclose(rows[1:-1:2], (rows[0:-2:2] + rows[2::2]) / 2, atol=1e-12)
    assert rows[-1, 2] > 10.0  # more than a turn
    assert np.abs(np.diff(rows[:, 2])).max() < 0.1


def test_the_step_in_which_a_window_begins_may_be_cut_anywhere() -> None:
    """Next to its end it is the next step, next to its begin it is whole, and evenly between."""
    rng = np.random.default_rng(0)
    vector = vehicle_vector(VehicleConfig(acceleration_max=3.0))
    pursued, steer = 4.0 + rng.normal(size=9), 0.1 + np.cumsum(0.02 * rng.normal(size=10))
    start, samples = np.array([[1.0, 2.0, 3.0, 4.0, 1.0, 0.0]]), np.linspace(0.0, 5.0, 11)[None]
    ends = []
    for first, phase in ((1, 0.0), (1, 1e-9), (1, 0.5), (1, 1.0 - 1e-9), (0, 0.0)):
        found = np.empty((1, 11, 6))
        predict(start, np.array([first]), samples, phase, pursued, steer, vector, DT, found)
        assert found[0, 0, :5] == pytest.approx(start[0, :5], abs=1e-8)
        ends.append(found)
    assert ends[1] == pytest.approx(ends[0], abs=1e-7)
    assert ends[3] == pytest.approx(ends[4], abs=1e-7)
    assert ends[2][0, -1, 3] == pytest.approx((ends[0] + ends[4])[0, -1, 3] / 2, abs=2e-3)


@given(
    st.lists(st.tuples(st.floats(0.05, 0.5), st.floats(-0.4, 0.4)), min_size=1, max_size=6),
    st.floats(0.0, 0.1),
)
def test_wheels_turn_at_full_rate_until_they_are_there(held, delay: float) -> None:
    """As in small steps; and exactly as far as a gain, a trim and a limit ask for."""
    car = VehicleConfig(steer_gain=1.1, steer_trim=0.02, steer_rate_max=2.0, steer_max=0.4)
    times = np.cumsum([gap for gap, _ in held])
    targets = np.array([target for _, target in held])
    wanted = np.clip(1.1 * targets + 0.02, -0.4, 0.4)
    at = np.linspace(0.0, times[-1] + 1.0, 40)
    found = np.empty(len(at))
    steered(times + delay, targets, vehicle_vector(car), at, found)
    fine, angle = 1e-3, wanted[0]
    angles = []
    moments = np.arange(0.0, at[-1] + fine, fine)
    for moment in moments:
        angles.append(angle)
        place = max(int(np.searchsorted(times + delay, moment, side="right")) - 1, 0)
        angle += min(max(wanted[place] - angle, -2.0 * fine), 2.0 * fine)
    assert found == pytest.approx(np.interp(at, moments, angles), abs=2.1 * 2.0 * fine)
    assert found[-1] == pytest.approx(wanted[-1], abs=1e-12)


@given(
    st.lists(st.tuples(st.floats(0.05, 1.0), st.floats(-3, 3)), min_size=1, max_size=8),
    st.floats(0.0, 0.5),
)
def test_means_of_held_commands_are_their_integrals(held, delay: float) -> None:
    times = np.cumsum([gap for gap, _ in held])
    values = np.array([value for _, value in held])
    edges = np.linspace(0.0, times[-1] + 1.0, 9)
    fine = np.linspace(0.0, 1.0, 4001)[:-1] + 0.5 / 4000
    wanted = []
    for low, high in itertools.pairwise(edges):
        at = low + fine * (high - low) - delay
        place = np.maximum(np.searchsorted(times, at, side="right") - 1, 0)
        wanted.append(values[place].mean())
    means = held_means(times, values, edges, delay)
    assert means == pytest.approx(np.array(wanted), abs=0.02)


def test_a_delay_of_whole_steps_shifts_commands() -> None:
    values = np.array([1.0, -2.0, 3.0, 0.5])
    times, edges = DT * np.arange(4), DT * np.arange(8)
    means = held_means(times, values, edges, 2 * DT)
    assert means == pytest.approx([1.0, 1.0, 1.0, -2.0, 3.0, 0.5, 0.5])
