"""What agents see, against the documented table recomputed in plain numpy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from sim.config import CarConfig, EnvConfig, LidarConfig, VehicleConfig
from sim.config.env import ObservationPart
from sim.layout import SLIP, STATE_SIZE, STEER, YAW, YAW_RATE, V, X, Y
from sim.observation import PARTS, free_box
from sim.race import Race
from sim.tracks.track import Track

VEHICLE = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=2.0, steer_max=0.4)
DRIVER = {"kind": "secondary_vicon", "target": "car_0"}


def started(
    *drivers: dict | None, num_envs: int = 1, beams: int = 9, parts: tuple[str, ...] = ()
) -> Race:
    cars = tuple(
        CarConfig(name=f"car_{i}", vehicle=VEHICLE, driver=driver)
        for i, driver in enumerate(drivers)
    )
    changes = {"observation": parts} if parts else {}
    race = Race(EnvConfig(cars=cars, lidar=LidarConfig(beams=beams), **changes), num_envs=num_envs)
    for e in range(num_envs):
        race.reset(e, e)
    return race


def expected_observation(race: Race, e: int, car: int, parts: tuple[str, ...]) -> np.ndarray:
    """The documented table, in plain numpy."""
    world, C = race.world.arrays, len(race.config.cars)
    x, y, steer, speed, yaw, rate, slip = world.state[e, car]
    vehicle = race.config.cars[car].vehicle
    others, velocities = [], []

    def velocity(state: np.ndarray) -> np.ndarray:
        way = state[YAW] + state[SLIP]
        return state[V] * np.array([np.cos(way), np.sin(way)])

    for k in range(1, C):
        there = world.state[e, (car + k) % C]
        turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        p = turn @ (there[[X, Y]] - (x, y))
        turned = there[YAW] - yaw
        others += [*(p / (np.abs(p) + 2.0)), np.sin(turned), np.cos(turned)]
        velocities += list(turn @ (velocity(there) - velocity(world.state[e, car])))
    values = {
        "lidar": world.scan[e, car] / race.config.lidar.max_range,
        "pose": [(x + 1.95) / 48.95, (y + 0.725) / 1.275, np.sin(yaw), np.cos(yaw)],
        "motion": [
            speed / vehicle.speed_max,
            steer / vehicle.steer_max,
            rate / (2 * np.pi),
            slip / (np.pi / 4),
        ],
        "others": others,
        "others_velocity": np.array(velocities) / vehicle.speed_max,
    }
    low = {"lidar": 0.0}
    return np.concatenate([np.clip(values[part], low.get(part, -1.0), 1.0) for part in parts])


def test_every_part_is_in_the_table() -> None:
    assert set(PARTS) == set(get_args(ObservationPart))


@pytest.mark.parametrize(
    "parts",
    [
        ("lidar", "pose", "others"),
        ("motion",),
        ("others_velocity", "others", "motion", "pose", "lidar", "pose"),
    ],
)
def test_observations_follow_their_table(parts: tuple[str, ...]) -> None:
    race = started(None, DRIVER, None, parts=parts, num_envs=2)
    world, rng = race.world.arrays, np.random.default_rng(1)
    state = rng.uniform(-1.2, 1.2, world.state.shape)
    scale = np.ones(STATE_SIZE)
    scale[[X, Y, STEER, V, YAW, YAW_RATE, SLIP]] = 49.0, 1.3, 0.4, 2.0, 2.6, 6.3, 0.8
    world.state[:] = state * scale
    world.scan[:] = rng.uniform(-0.1, 31.0, world.scan.shape)
    race._observer.observe(world, race.episodes.observations, 0, 2)
    observations = race.episodes.observations
    assert observations.dtype == np.float32
    for e in range(2):
        for agent, car in enumerate((0, 2)):
            expected = expected_observation(race, e, car, parts)
            assert observations[e, agent] == pytest.approx(expected, abs=1e-6)
    assert (observations >= race.observation_low).all()
    assert (observations <= race.observation_high).all()
    assert observations.shape[2] == len(race.observation_low)


def test_observations_after_a_step_are_those_of_the_new_state() -> None:
    race = started(None, None, parts=("lidar", "motion", "others"))
    race.step(np.ones((1, 2, 2)))
    for agent in range(2):
        expected = expected_observation(race, 0, agent, ("lidar", "motion", "others"))
        assert race.episodes.observations[0, agent] == pytest.approx(expected, abs=1e-6)


def test_the_scenario_observes_62_numbers() -> None:
    race = started(None, DRIVER, beams=54)
    assert race.episodes.observations.shape == (1, 1, 62)
    assert race.observation_low.tolist() == [0.0] * 54 + [-1.0] * 8
    assert race.observation_high.tolist() == [1.0] * 62


def test_the_free_box_follows_a_turned_grid() -> None:
    free = np.zeros((30, 50), np.bool_)
    free[10:20, 5:45] = True  # 4 m by 1 m at 0.1 m, from (0.5, 1.0) of the grid's frame
    low, high = free_box(Track.from_occupancy("box", free, 0.1, (7.0, -3.0, 0.0)))
    assert low == pytest.approx([7.5, -2.0])
    assert high == pytest.approx([11.5, -1.0])
    low, high = free_box(Track.from_occupancy("box", free, 0.1, (7.0, -3.0, np.pi / 2)))
    assert low == pytest.approx([5.0, -2.5])  # a quarter turn maps (x, y) to (-y, x)
    assert high == pytest.approx([6.0, 1.5])


def test_a_car_ahead_that_is_slower_comes_nearer() -> None:
    race = started(None, None, parts=("others_velocity",))
    race.reset(0, 0, speeds=np.array([2.0, 0.5]))
    np.testing.assert_allclose(
        race.episodes.observations[0], [[-0.75, 0.0], [0.75, 0.0]], atol=1e-6
    )
