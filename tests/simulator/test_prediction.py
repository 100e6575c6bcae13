"""Open-loop predictions: the simulator's own motion, from any moment of it on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.config import CircleTrack, LidarConfig, VehicleConfig
from sim.layout import STEER
from sim.physics.prediction import PREDICTED, STARTS, actuate, held_means, predict
from sim.physics.vehicle import vehicle_vector
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
    targets = np.vstack([np.zeros((1, 2)), commands])  # first straight, at rest, as the simulator
    pursued, steer = np.empty_like(targets), np.empty(len(targets) + 1)
    actuate(targets, vector, DT, pursued, steer)
    pursued, steer = pursued[1:], steer[1:]
    assert steer == pytest.approx(seen[:, STEER], abs=1e-9)
    first = np.array([0, 60, 150])
    steps = np.tile(np.arange(0, 140, 7), (3, 1))
    predicted = np.empty((*steps.shape, 6))
    shares = np.zeros(steps.shape)
    predict(seen[first][:, STARTS], first, steps, shares, pursued, steer, vector, DT, predicted)
    wanted = seen[first[:, None] + steps][..., PREDICTED]
    turned = predicted[..., 2] - wanted[..., 2]
    predicted[..., 2] -= 2 * np.pi * np.round(turned / (2 * np.pi))
    np.testing.assert_allclose(predicted, wanted, atol=1e-9)


def test_between_steps_predictions_are_on_a_line_and_yaw_does_not_jump() -> None:
    vector = vehicle_vector(VehicleConfig())
    targets = np.tile([0.3, 3.0], (400, 1))
    pursued, steer = np.empty_like(targets), np.empty(401)
    actuate(targets, vector, DT, pursued, steer)
    steps, shares = np.sort(np.tile(np.arange(390), 2))[None], np.tile([0.0, 0.5], 390)[None]
    predicted = np.empty((1, 780, 6))
    start = np.array([[0.0, 0.0, 6.0, 3.0, 0.0, 0.0]])
    predict(start, np.array([0]), steps, shares, pursued, steer, vector, DT, predicted)
    rows = predicted[0]
    np.testing.assert_allclose(rows[1:-1:2], (rows[0:-2:2] + rows[2::2]) / 2, atol=1e-12)
    assert rows[-1, 2] > 10.0  # more than a turn
    assert np.abs(np.diff(rows[:, 2])).max() < 0.1


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
