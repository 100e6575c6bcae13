"""The PettingZoo environment: its API, its seeds, its errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from pettingzoo.test import parallel_api_test, parallel_seed_test

from sim.config import CarConfig, EnvConfig, LidarConfig, VehicleConfig
from sim.envs import F110ParallelEnv

VEHICLE = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=1.0)
CONVOY = EnvConfig(
    lidar=LidarConfig(beams=54),
    spawn_sets=(("spawn_3", "spawn_1"), ("spawn_5", "spawn_1"), ("spawn_2", "spawn_1")),
    cars=(
        CarConfig(
            name="car_0",
            vehicle=VEHICLE,
            reverse=False,
            task={"kind": "convoy_lock", "target": "car_1"},
        ),
        CarConfig(
            name="car_1", vehicle=VEHICLE, driver={"kind": "secondary_vicon", "target": "car_0"}
        ),
    ),
)
PAIR = EnvConfig(lidar=LidarConfig(beams=7), max_steps=300, end_when="all")


@pytest.mark.parametrize("config", [EnvConfig(), CONVOY, PAIR], ids=["default", "convoy", "pair"])
def test_passes_the_api_test(config: EnvConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(F110ParallelEnv(config), num_cycles=1000)


@pytest.mark.parametrize("config", [CONVOY, PAIR], ids=["convoy", "pair"])
def test_passes_the_seed_test(config: EnvConfig) -> None:
    parallel_seed_test(lambda: F110ParallelEnv(config))


def told(infos: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What infos tell of the agents themselves."""
    return {n: {k: v for k, v in i.items() if k not in ("car", "cars")} for n, i in infos.items()}


def of_cars(infos: dict[str, dict[str, Any]]) -> list[bytes]:
    return [array.tobytes() for info in infos.values() for array in info["cars"].values()]


def episodes(env: F110ParallelEnv, seed: int, count: int = 2) -> list[tuple[object, ...]]:
    """Everything that some episodes return under random actions, bit for bit."""
    rng = np.random.default_rng(0)
    out: list[tuple[object, ...]] = []
    for k in range(count):
        observations, infos = env.reset(seed=seed if k == 0 else None)
        out.append(({n: o.tobytes() for n, o in observations.items()}, of_cars(infos)))
        while env.agents:
            actions = {n: rng.uniform(-1, 1, 2).astype(np.float32) for n in env.agents}
            observations, *rest, infos = env.step(actions)
            rest += [told(infos), of_cars(infos)]
            out.append(({n: o.tobytes() for n, o in observations.items()}, *rest))
    return out


@pytest.mark.parametrize("config", [CONVOY, PAIR], ids=["convoy", "pair"])
def test_a_seed_fixes_every_bit_of_the_episodes_after_it(config: EnvConfig) -> None:
    env = F110ParallelEnv(config)
    first = episodes(env, 42)
    assert episodes(env, 42) == first
    assert episodes(F110ParallelEnv(config), 42) == first
    assert episodes(env, 43) != first


def test_unseeded_episodes_differ() -> None:
    env = F110ParallelEnv(PAIR)
    starts = {next(iter(env.reset()[0].values())).tobytes() for _ in range(5)}
    starts.add(next(iter(F110ParallelEnv(PAIR).reset()[0].values())).tobytes())
    assert len(starts) == 6


def test_spaces() -> None:
    env = F110ParallelEnv(CONVOY)
    assert env.possible_agents == ["car_0"]
    assert env.observation_space("car_0") is env.observation_space("car_0")
    assert env.action_space("car_0") is env.action_space("car_0")
    assert env.action_space("car_0") == Box(-1.0, 1.0, (2,), np.float32)
    assert env.observation_space("car_0").shape == (62,)
    assert env.metadata["name"] == "f110_v0"
    observations, infos = env.reset(seed=1)
    assert env.observation_space("car_0").contains(observations["car_0"])
    assert told(infos) == {"car_0": {}}


def test_observations_are_the_callers_to_keep() -> None:
    env = F110ParallelEnv(CONVOY)
    first, _ = env.reset(seed=1)
    kept = first["car_0"].copy()
    second = env.step({"car_0": np.ones(2, np.float32)})[0]
    second_kept = second["car_0"].copy()
    env.step({"car_0": np.ones(2, np.float32)})
    assert np.array_equal(first["car_0"], kept)
    assert np.array_equal(second["car_0"], second_kept)
    assert not np.array_equal(kept, second_kept)


def test_the_last_info_holds_the_outcome() -> None:
    env = F110ParallelEnv(CONVOY.model_copy(update={"max_steps": 2}))
    env.reset(seed=1)
    go = {"car_0": np.array([0.0, 1.0], np.float32)}
    *rest, infos = env.step(go)
    assert rest[1:] == [{"car_0": 0.0}, {"car_0": False}, {"car_0": False}]
    assert told(infos) == {"car_0": {}}
    *rest, infos = env.step(go)
    assert rest[1:] == [{"car_0": -25.0}, {"car_0": False}, {"car_0": True}]
    assert told(infos) == {
        "car_0": {
            "outcome": "time_limit",
            "steps": 2,
            "return": -25.0,
            "laps": 0,
            "lap_times": [],
            "track": 0,
        }
    }
    assert env.agents == []


def test_agents_that_are_done_leave_and_stay_away() -> None:
    env = F110ParallelEnv(PAIR)
    env.reset(seed=1)
    stand = {n: np.array([0.0, -0.6], np.float32) for n in env.agents}
    env.race.world.arrays.crashed[0, 0] = True
    _, rewards, terminated, truncated, infos = env.step(stand)
    assert terminated == {"car_0": True, "car_1": False}
    assert truncated == {"car_0": False, "car_1": False}
    crash = {"outcome": "crash", "steps": 1, "return": 0.0, "laps": 0, "lap_times": [], "track": 0}
    assert told(infos) == {"car_0": crash, "car_1": {}}
    assert rewards == {"car_0": 0.0, "car_1": 0.0}
    assert env.agents == ["car_1"]
    with pytest.raises(ValueError, match=r"actions must be those of \['car_1'\]"):
        env.step(stand)
    for returned in env.step({"car_1": stand["car_1"]}):
        assert list(returned) == ["car_1"]


def test_options_choose_the_spawn_set() -> None:
    env = F110ParallelEnv(CONVOY)
    for chosen, names in enumerate(CONVOY.spawn_sets):
        env.reset(seed=1, options={"spawn_set": chosen})
        assert env.state()[0, :2].tolist() == list(env.race.track.spawns[names[0]][:2])
    with pytest.raises(ValueError, match="unknown reset option 'spawnset'"):
        env.reset(options={"spawnset": 0})
    with pytest.raises(ValueError, match=r"spawn_set must be in 0 ... 2, found -1"):
        env.reset(options={"spawn_set": -1})
    with pytest.raises(ValueError, match="spawn_set must be an integer, found 'first'"):
        env.reset(options={"spawn_set": "first"})


def test_agents_sample_from_spaces_of_their_own() -> None:
    env = F110ParallelEnv(PAIR)
    for name in env.possible_agents:
        env.action_space(name).seed(1)
    first, second = (env.action_space(name).sample() for name in env.possible_agents)
    assert np.array_equal(first, second)


def test_state_is_a_copy_of_every_cars_state() -> None:
    env = F110ParallelEnv(CONVOY)
    env.reset(seed=1)
    state = env.state()
    assert state.shape == (2, 7)
    state[:] = 0.0
    assert env.state().any()


def test_stepping_needs_a_running_episode() -> None:
    env = F110ParallelEnv(CONVOY.model_copy(update={"max_steps": 1}))
    go = {"car_0": np.zeros(2, np.float32)}
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(go)
    env.reset(seed=1)
    env.step(go)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(go)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({}, r"actions must be those of \['car_0'\], found \[\]"),
        ({"car_0": [0, 0], "car_1": [0, 0]}, r"found \['car_0', 'car_1'\]"),
        ({"car_0": [0.0, float("nan")]}, "action of 'car_0' .* is not a number"),
        ({"car_0": [0.0]}, r"action of 'car_0' must have shape \(2,\)"),
        ({"car_0": 0.0}, r"action of 'car_0' must have shape \(2,\)"),
    ],
)
def test_bad_actions_are_refused(actions: dict[str, object], message: str) -> None:
    env = F110ParallelEnv(CONVOY)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


def test_bad_constructions_are_refused() -> None:
    driven = CONVOY.cars[0].model_copy(
        update={"driver": CONVOY.cars[1].driver.model_copy(update={"target": "car_1"})}
    )
    cars = (driven.model_copy(update={"task": None}), CONVOY.cars[1])
    with pytest.raises(ValueError, match="an environment needs an agent"):
        F110ParallelEnv(CONVOY.model_copy(update={"cars": cars}))
    with pytest.raises(TypeError, match=r"EnvConfig or a dict of its settings, found list"):
        F110ParallelEnv([])
