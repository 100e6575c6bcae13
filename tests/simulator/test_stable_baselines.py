"""Stable-Baselines3's interface to a batch of races, and its learners in it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from sim.config import CarConfig, EnvConfig, LidarConfig, RenderConfig, VehicleConfig
from sim.envs import F110VectorEnv
from sim.envs.stable_baselines import F110VecEnv

VEHICLE = VehicleConfig(length=0.32, width=0.225, speed_min=-1.0, speed_max=6.0)
CARS = (
    CarConfig(
        name="car_0", vehicle=VEHICLE, task={"kind": "solo_lap", "shaping": [{"term": "progress"}]}
    ),
    CarConfig(name="car_1", vehicle=VEHICLE, driver={"kind": "pure_pursuit", "speed": 1.0}),
)
ENV = EnvConfig(
    cars=CARS, lidar=LidarConfig(beams=5), max_steps=12, physics_steps_per_action=10, end_when="all"
)
ROWS = 3
GRID = np.array([[-1, 0], [-1, 0.5], [1, 0], [1, 0.5]], np.float32)


def actions(steps: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(7).uniform(-1, 1, (steps, ROWS, 2)).astype(np.float32)
    drawn[:, 0] = 0.3, 1.0  # this one hits a wall, others run out of time
    drawn[:, 1, 1] = -1.0
    return drawn


def test_steps_are_those_of_the_batch() -> None:
    ours, theirs = F110VectorEnv(ENV, ROWS), F110VecEnv(F110VectorEnv(ENV, ROWS))
    assert theirs.observation_space == ours.single_observation_space
    assert theirs.action_space == ours.single_action_space
    theirs.seed(4)
    np.testing.assert_array_equal(theirs.reset(), ours.reset(seed=4)[0])
    ends, returns = [], np.zeros(ROWS)
    for action in actions(60):
        expected, reward, terminated, truncated, infos = ours.step(action)
        observation, rewards, done, found = theirs.step(action)
        np.testing.assert_array_equal(observation, expected)
        np.testing.assert_array_equal(rewards, reward)
        np.testing.assert_array_equal(done, terminated | truncated)
        returns += reward
        for row in range(ROWS):
            if not done[row]:
                assert found[row] == {}
                continue
            last = found[row]["terminal_observation"]
            np.testing.assert_array_equal(last, infos["final_obs"][row])
            assert not np.array_equal(last, observation[row])
            assert found[row]["TimeLimit.truncated"] is bool(truncated[row])
            assert found[row]["outcome"] == infos["final_info"]["outcome"][row]
            assert found[row]["is_success"] is False
            assert found[row]["episode"]["r"] == pytest.approx(returns[row])
            assert found[row]["episode"]["l"] == infos["final_info"]["steps"][row]
            returns[row] = 0.0
            ends.append(found[row]["outcome"])
    assert set(ends) == {"crash", "time_limit"}
    np.testing.assert_array_equal(theirs.reset(), ours.reset()[0])  # without a new seed, on it goes


def test_actions_of_a_grid_are_chosen_by_their_number() -> None:
    ours, theirs = F110VectorEnv(ENV, ROWS), F110VecEnv(F110VectorEnv(ENV, ROWS), GRID)
    assert theirs.action_space.n == 4
    theirs.seed(1)
    theirs.reset()
    ours.reset(seed=1)
    for numbers in ([0, 1, 2], [3, 3, 0], [2, 1, 1]):
        expected = ours.step(GRID[numbers])
        found = theirs.step(np.array(numbers))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_several_agents_options_and_pictures() -> None:
    duel = ENV.model_copy(update={"cars": (CARS[0], CarConfig(name="b")), "end_when": "any"})
    batch = F110VectorEnv(
        duel, 4, render_mode="rgb_array", render_config=RenderConfig(width=20, height=16)
    )
    envs = F110VecEnv(batch)
    poses = np.tile(np.array([[-40.0, 0.0, 0.0], [-44.0, 0.0, 0.0]]), (2, 1, 1))
    envs.seed(3)
    envs.set_options({"poses": poses})
    first = envs.reset()
    np.testing.assert_array_equal(batch.race.world.arrays.poses[:, 1], poses)
    np.testing.assert_array_equal(
        first, F110VectorEnv(duel, 4).reset(seed=3, options={"poses": poses})[0]
    )
    assert envs.render().shape == (32, 40, 3)  # two rows and columns of frames
    envs.set_options([{"track": 0}, {}, {}, {}])
    with pytest.raises(ValueError, match="the same dict for all"):
        envs.reset()
    with pytest.raises(ValueError, match="copy must be true"):
        F110VecEnv(F110VectorEnv(ENV, ROWS, copy=False))


@pytest.mark.parametrize(
    ("kind", "grid", "settings"),
    [
        (PPO, None, {"n_steps": 16, "batch_size": 24, "n_epochs": 2}),
        (DQN, GRID, {"learning_starts": 30, "buffer_size": 300, "train_freq": 1}),
    ],
    ids=["ppo", "dqn"],
)
def test_its_learners_learn_in_it(kind: Any, grid: Any, settings: dict[str, Any]) -> None:
    envs = F110VecEnv(F110VectorEnv(ENV, ROWS), grid)
    model = kind(
        "MlpPolicy", envs, seed=1, device="cpu", policy_kwargs={"net_arch": [8]}, **settings
    )
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(150)
    assert model.num_timesteps >= 150
    assert any(
        (one != two).any() for one, two in zip(before, model.policy.parameters(), strict=True)
    )
    lengths = [episode["l"] for episode in model.ep_info_buffer]  # as its logs show
    assert lengths
    assert max(lengths) == 12
    mean, _ = evaluate_policy(model, VecMonitor(envs), n_eval_episodes=3)
    assert np.isfinite(mean)


def test_its_wrappers_take_it() -> None:
    envs = VecNormalize(F110VecEnv(gymnasium.make_vec("F110-v0", num_envs=2, config=ENV)))
    envs.seed(1)
    assert envs.reset().shape == (2, 13)
    assert np.isfinite(envs.step(np.zeros((2, 2), np.float32))[0]).all()
