"""What infos tell of the cars, in all three interfaces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sim.config import CarConfig, CircleTrack, EnvConfig, LidarConfig
from sim.envs import F110Env, F110ParallelEnv, F110VectorEnv
from sim.tracks.track import Track

RADIUS = 5.0
RING = EnvConfig(
    track=CircleTrack(radius=RADIUS, width=3.0),
    cars=(
        CarConfig(name="front", driver={"kind": "pure_pursuit", "speed": 2.0}),
        CarConfig(name="rear", task={"kind": "pursuit", "target": "front"}),
    ),
    lidar=LidarConfig(beams=5),
    spawn={"kind": "grid"},
    physics_steps_per_action=10,
    max_steps=40,
)
DUEL = RING.model_copy(update={"cars": tuple(CarConfig(name=name) for name in ("front", "rear"))})
FORWARD = np.array([0.16, -0.44], np.float32)  # about 2 m/s, along the ring


def check(car: int, cars: dict[str, Any], env: Any, row: int) -> None:
    """Compares them with the state and with the geometry of the ring."""
    state = env.race.world.arrays.state[row]
    assert car == 1
    np.testing.assert_array_equal(cars["pose"], state[:, [0, 1, 4]])
    np.testing.assert_array_equal(cars["speed"], state[:, 3])
    x, y = state[:, :2].T
    np.testing.assert_allclose(cars["lateral_offset"], RADIUS - np.hypot(x, y), atol=0.02)
    turn = np.diff(np.arctan2(y, x) - cars["arc_length"] / RADIUS)[0]  # whole ones
    assert math.cos(turn) > 0.9999


def test_they_tell_where_every_car_is() -> None:
    env = F110Env(RING)
    _, info = env.reset(seed=1)
    check(info["car"], info["cars"], env, 0)
    for _ in range(20):
        *_, info = env.step(FORWARD)
        check(info["car"], info["cars"], env, 0)
    poses = info["cars"]["pose"]
    assert info["cars"]["speed"][0] == pytest.approx(2.0, abs=0.1)
    assert info["cars"]["target_distance"][1] == math.dist(poses[0, :2], poses[1, :2])
    assert info["cars"]["target_distance"][0] == math.inf
    kept = poses.copy()
    env.step(FORWARD)
    np.testing.assert_array_equal(poses, kept)  # the caller's


def test_they_tell_of_contacts_and_laps() -> None:
    env = F110ParallelEnv(DUEL)
    _, infos = env.reset(seed=1)
    assert infos["front"]["car"] == 0
    assert infos["rear"]["car"] == 1
    assert not infos["rear"]["cars"]["wall_contact"].any()
    assert infos["rear"]["cars"]["car_contact"].tolist() == [-1, -1]
    assert "target_distance" not in infos["rear"]["cars"]
    while env.agents:
        actions = {"front": np.array([0.0, -0.6]), "rear": np.array([0.0, 1.0])}
        *_, infos = env.step({name: actions[name] for name in env.agents})
    cars = infos["rear"]["cars"]
    assert infos["rear"]["outcome"] == "crash"
    assert cars["wall_contact"].tolist() == [False, True]
    assert cars["car_contact"].tolist() == [-1, -1]
    assert cars["laps"].tolist() == [0, 0]


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize(("config", "agents"), [(RING, 1), (DUEL, 2)], ids=["one", "two"])
def test_a_batch_has_a_row_of_each(config: EnvConfig, agents: int, copy: bool) -> None:
    env = F110VectorEnv(config, 2 * agents, copy=copy)
    _, first = env.reset(seed=1)
    earlier = {name: array.copy() for name, array in first["cars"].items()}
    for _ in range(3):
        *_, infos = env.step(np.tile(FORWARD, (2 * agents, 1)))
    for row in range(2 * agents):
        cars = {name: array[row] for name, array in infos["cars"].items() if name[0] != "_"}
        own = env.race.agent_cars[row % agents]
        assert infos["car"][row] == own
        check(1, cars, env, row // agents)
    moved = [name for name, array in first["cars"].items() if (array != earlier[name]).any()]
    assert moved == [] or not copy
    if not copy and agents == 1:
        assert {"pose", "speed", "arc_length"} <= set(moved)
        with pytest.raises(ValueError, match="read-only"):
            infos["cars"]["pose"][0, 0, 0] = 1.0


def test_what_a_track_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    free = np.zeros((60, 60), np.bool_)
    free[1:-1, 1:-1] = True
    spawns = {"middle": (1.5, 1.5, 0.0)}
    hall = Track.from_occupancy("hall", free, 0.05, (0.0, 0.0, 0.0), spawns=spawns)
    monkeypatch.setattr("sim.race.make_tracks", lambda *_: (hall,))
    env = F110Env(EnvConfig(cars=(CarConfig(name="car_0"),), lidar=LidarConfig(beams=5)))
    _, info = env.reset(seed=1)
    assert set(info["cars"]) == {"pose", "speed", "laps", "wall_contact", "car_contact"}
