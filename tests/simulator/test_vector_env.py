"""The vector environment: Gymnasium's same-step auto-reset, seeds, errors."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import ClipReward, DictInfoToList

from sim.config import CarConfig, EnvConfig, LidarConfig, VehicleConfig
from sim.envs import F110Env, F110ParallelEnv, F110VectorEnv

VEHICLE = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=2.0)
ATTACKER = CarConfig(name="car_0", vehicle=VEHICLE, task={"kind": "convoy_lock", "idle_grace": 1})
DEFENDER = CarConfig(name="car_1", vehicle=VEHICLE)
SCRIPTED = DEFENDER.model_copy(
    update={"driver": CarConfig(name="car", driver={"kind": "secondary_vicon"}).driver}
)
SOLO = EnvConfig(
    cars=(ATTACKER, SCRIPTED),
    lidar=LidarConfig(beams=5),
    spawn_sets=(("spawn_3", "spawn_1"), ("spawn_5", "spawn_1"), ("spawn_2", "spawn_4")),
    max_steps=25,
    physics_steps_per_action=10,
)
DUEL = SOLO.model_copy(update={"cars": (ATTACKER, DEFENDER)})


def batch_actions(rows: int, steps: int = 90) -> np.ndarray:
    return np.random.default_rng(7).uniform(-1, 1, (steps, rows, 2)).astype(np.float32)


@pytest.mark.parametrize("seed", [5, [9, 2, 2]], ids=["int", "list"])
def test_is_the_batch_that_gymnasium_makes_of_single_environments(seed: Any) -> None:
    ours = F110VectorEnv(SOLO, 3)
    reference = SyncVectorEnv([lambda: F110Env(SOLO)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    for attribute in ("single_observation_space", "single_action_space"):
        assert getattr(ours, attribute) == getattr(reference, attribute)
    for attribute in ("observation_space", "action_space", "num_envs"):
        assert getattr(ours, attribute) == getattr(reference, attribute)
    assert ours.metadata["autoreset_mode"] == reference.metadata["autoreset_mode"]
    assert data_equivalence(ours.reset(seed=seed), reference.reset(seed=seed), exact=True)
    finals = 0
    for actions in batch_actions(3):
        found, expected = ours.step(actions), reference.step(actions)
        assert data_equivalence(found, expected, exact=True)
        finals += "final_obs" in found[4]
    assert finals >= 5
    assert data_equivalence(ours.reset(), reference.reset(), exact=True)  # the streams go on


def test_threads_change_nothing() -> None:
    one, three = F110VectorEnv(SOLO, 5), F110VectorEnv(SOLO, 5, num_threads=3)
    assert three.race.world.pool.num_threads == 3
    assert data_equivalence(one.reset(seed=2), three.reset(seed=2), exact=True)
    for actions in batch_actions(5):
        assert data_equivalence(one.step(actions), three.step(actions), exact=True)


def test_last_infos_hold_the_times_of_different_numbers_of_laps() -> None:
    config = EnvConfig(cars=(DEFENDER,), lidar=LidarConfig(beams=5), physics_steps_per_action=10)
    drive, stand = [0.0, 1.0], [0.0, -1 / 3]
    single = F110Env(config)
    single.reset(seed=1)
    steps, over = 0, False
    while not over:
        _, _, over, _, info = single.step(np.array(drive, np.float32))
        steps += 1
    assert info["laps"] == 1
    (lap_time,) = info["lap_times"]
    assert (steps - 1) * 0.1 < lap_time <= steps * 0.1 + 1e-9
    limited = config.model_copy(update={"max_steps": steps})  # both rows end at once
    ours = F110VectorEnv(limited, 2)
    reference = SyncVectorEnv(
        [lambda: F110Env(limited)] * 2, autoreset_mode=AutoresetMode.SAME_STEP
    )
    for env in (ours, reference):
        env.reset(seed=1)
        for _ in range(steps):
            infos = env.step(np.array([drive, stand], np.float32))[-1]
        assert infos["final_info"]["outcome"].tolist() == ["finished", "time_limit"]
        assert infos["final_info"]["laps"].tolist() == [1, 0]
        assert infos["final_info"]["lap_times"].tolist() == [[lap_time], []]


def test_a_step_that_ends_an_episode_begins_the_next() -> None:
    env = F110VectorEnv(SOLO, 2)
    env.reset(seed=1)
    stand = np.full((2, 2), -1 / 3, np.float32)
    for _ in range(24):
        *_, truncated, infos = env.step(stand)
        assert not truncated.any()
        assert set(infos) == {"car", "_car", "cars", "_cars"}
    observations, rewards, terminated, truncated, infos = env.step(stand)
    assert truncated.tolist() == [True, True]
    assert not terminated.any()
    assert rewards.tolist() == [-25.08, -25.08]
    info = infos["final_info"]
    assert info["outcome"].tolist() == ["time_limit", "time_limit"]
    assert info["steps"].tolist() == [25, 25]
    assert info["return"] == pytest.approx([-25.0 - 24 * 0.08] * 2)
    for row in range(2):
        assert not np.array_equal(infos["final_obs"][row], observations[row])
    *_, truncated, infos = env.step(stand)  # an ordinary step: no action is lost
    assert not truncated.any()
    assert env.race.episodes.steps.tolist() == [1, 1]


def test_several_agents_are_rows_of_one_batch() -> None:
    env, parallel = F110VectorEnv(DUEL, 4), F110ParallelEnv(DUEL)
    assert env.race.num_envs == 2
    found, _ = env.reset(seed=3)
    expected, _ = parallel.reset(seed=4)  # race 1
    ends = 0
    for actions in batch_actions(4):
        assert np.array_equal(found[2:], list(expected.values()))
        found, rewards, terminated, truncated, infos = env.step(actions)
        steps = parallel.step(dict(zip(("car_0", "car_1"), actions[2:], strict=True)))
        expected = steps[0]
        for ours, theirs in zip((rewards, terminated, truncated), steps[1:4], strict=True):
            assert ours[2:].tolist() == list(theirs.values())
        if not parallel.agents:
            ends += 1
            assert infos["_final_obs"][2:].all()
            assert np.array_equal(list(infos["final_obs"][2:]), list(expected.values()))
            for row, name in enumerate(("car_0", "car_1"), start=2):
                last = {
                    key: infos["final_info"][key][row] for key in steps[4][name].keys() - {"cars"}
                }
                assert last == {key: steps[4][name][key] for key in last}
                for key, value in steps[4][name]["cars"].items():
                    assert np.array_equal(infos["final_info"]["cars"][key][row], value)
            expected, _ = parallel.reset()
        elif "final_obs" in infos:
            assert not infos["_final_obs"][2:].any()
            assert infos["final_obs"][2:].tolist() == [None, None]
    assert ends >= 3


@pytest.mark.parametrize("copy", [True, False])
def test_only_observations_may_be_reused(copy: bool) -> None:
    env = F110VectorEnv(SOLO, 2, copy=copy)
    first, _ = env.reset(seed=1)
    parts = [first]
    kept = first.copy()
    for actions in batch_actions(2, 2):
        parts.extend(env.step(actions)[:4])
    assert np.array_equal(first, kept) is copy
    assert np.shares_memory(first, parts[1]) is not copy
    rest = [part for i, part in enumerate(parts) if i not in (0, 1, 5)]
    for i, part in enumerate(rest):
        assert not any(np.shares_memory(part, other) for other in rest[:i])


def test_seeds_are_each_races_own() -> None:
    env = F110VectorEnv(SOLO, 3)
    first, _ = env.reset(seed=20)
    shifted, _ = env.reset(seed=[21, 20, 22])
    assert np.array_equal(shifted, first[[1, 0, 2]])
    partly, _ = env.reset(seed=[None, None, 20])
    assert np.array_equal(partly[2], first[0])
    assert not np.array_equal(partly[1], first[0])  # it went on
    assert np.array_equal(env.reset(seed=np.array([21, 20, 22]))[0], shifted)
    with pytest.raises(TypeError, match="integer"):
        env.reset(seed=[1, 2, 3.5])


def test_an_unseeded_start_tells_its_seed() -> None:
    env = F110VectorEnv(SOLO, 2)
    first, _ = env.reset()
    again, _ = env.reset()
    assert not np.array_equal(first, again)
    assert np.array_equal(F110VectorEnv(SOLO, 2).reset(seed=env.np_random_seed)[0], first)


def test_registered_and_fit_for_gymnasiums_wrappers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec("F110-v0", num_envs=3, config=SOLO)
        assert isinstance(env, F110VectorEnv)
        env = DictInfoToList(ClipReward(env, -1.0, 1.0))
        env.reset(seed=1)
        ends = 0
        for actions in batch_actions(3):
            _, rewards, terminated, truncated, infos = env.step(actions)
            assert (abs(rewards) <= 1.0).all()
            for row in range(3):
                done = bool(terminated[row] or truncated[row])
                assert ("final_info" in infos[row]) is done
                ends += done
        assert ends >= 5
        env.close()


def test_a_bad_action_moves_no_race() -> None:
    env = F110VectorEnv(SOLO, 3)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step\(\)"):
        env.step(np.zeros((3, 2)))
    env.reset(seed=1)
    before = [part.copy() for part in (*env.race.world.arrays, *env.race.episodes)]
    actions = np.ones((3, 2), np.float32)
    actions[1, 1] = np.nan
    with pytest.raises(ValueError, match="action of 'car_0' in environment 1 is not a number"):
        env.step(actions)
    for bad in (np.zeros((2, 2)), np.zeros((3, 3)), np.zeros(2), 0.0):
        with pytest.raises(ValueError, match=r"actions must have shape \(3, 2\), found \("):
            env.step(bad)
    for part, old in zip((*env.race.world.arrays, *env.race.episodes), before, strict=True):
        assert np.array_equal(part, old)


def test_bad_resets_are_refused_before_anything_changes() -> None:
    env = F110VectorEnv(SOLO, 3)
    env.reset(seed=1)
    twin = F110VectorEnv(SOLO, 3)
    twin.reset(seed=1)
    for arguments, message in (
        ({"seed": [1, 2]}, "2 seeds for 3 races"),
        ({"seed": [1, 2, -3]}, "non-negative"),
        ({"seed": -1}, "non-negative"),
        ({"options": {"reset_mask": np.ones(3, bool)}}, "unknown reset option 'reset_mask'"),
        ({"seed": 2, "options": {"spawn_set": 1.5}}, "spawn_set must be an integer, found 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(**arguments)
    assert np.array_equal(env.reset()[0], twin.reset()[0])


@pytest.mark.parametrize(
    ("config", "num_envs", "message"),
    [
        (SOLO, 0, "positive multiple of the 1 agents, found 0"),
        (DUEL, 3, "positive multiple of the 2 agents, found 3"),
        (DUEL.model_copy(update={"end_when": "all"}), 4, "2 agents and end_when 'all'"),
    ],
)
def test_bad_constructions_are_refused(config: EnvConfig, num_envs: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F110VectorEnv(config, num_envs)
