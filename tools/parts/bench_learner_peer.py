"""Stable-Baselines3's learners, as ``bench_learner.py --peer`` times them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from f110_fl.config.learners import OffPolicyConfig, PPOConfig
from parts.stable_baselines_peer import make_model
from parts.stable_baselines_settings import Array, action_grid, peer_settings
from sim.envs import F110VectorEnv
from sim.envs.stable_baselines import F110VecEnv

Update = Callable[[], float]


class _Spaces(gymnasium.Env[Any, Any]):
    """An environment with two actions, or a grid to choose from, which is never stepped."""

    def __init__(self, size: int, grid: Array | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = (
            gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
            if grid is None
            else gymnasium.spaces.Discrete(len(grid))
        )


def off_policy(config: OffPolicyConfig, size: int) -> Update:
    """Return an update of td3, sac or dqn with a full replay buffer.

    Args:
        config: Settings of our learner.
        size: Numbers observed.
    """
    space, rows = _Spaces(size, action_grid(config)), config.replay.capacity
    model = make_model(config, space, peer_settings(config, 1).keywords)
    rng = np.random.default_rng(0)
    for _ in range(rows):
        observation, following = rng.standard_normal((2, 1, size), dtype=np.float32)
        action = np.asarray(model.action_space.sample()).reshape(1, -1)
        reward, ends = rng.standard_normal(1), rng.random(1) < 0.01
        model.replay_buffer.add(observation, following, action, reward, ends, [{}])

    def update() -> float:
        begin = time.perf_counter()
        model.train(gradient_steps=1, batch_size=config.batch_size)
        return time.perf_counter() - begin

    return update


def on_policy(config: PPOConfig, size: int, envs: int) -> Update:
    """Return an update of PPO, advantages included, on a rollout of random numbers.

    Args:
        config: Settings of our learner.
        size: Numbers observed.
        envs: Environments side by side.
    """
    spaces = DummyVecEnv([lambda: _Spaces(size)] * envs)
    model = make_model(config, spaces, peer_settings(config, envs).keywords)
    rng, buffer = np.random.default_rng(0), model.rollout_buffer

    def update() -> float:
        buffer.reset()
        for _ in range(config.rollout_steps):
            observation = rng.standard_normal((envs, size), dtype=np.float32)
            with torch.no_grad():
                action, value, log_prob = model.policy(torch.from_numpy(observation))
            reward, starts = rng.standard_normal(envs), rng.random(envs) < 0.01
            buffer.add(observation, action.numpy(), reward, starts, value, log_prob)
        begin = time.perf_counter()
        buffer.compute_returns_and_advantage(value, np.zeros(envs))
        model.train()
        return time.perf_counter() - begin

    return update


def loop(config: PPOConfig, env: F110VectorEnv) -> Update:
    """Return a rollout of PPO in the racing environment, and the update on it."""
    settings = peer_settings(config, env.num_envs)
    model = make_model(config, F110VecEnv(env), settings.keywords)

    def update() -> float:
        begin = time.perf_counter()
        model.learn(env.num_envs * config.rollout_steps, reset_num_timesteps=False)
        return time.perf_counter() - begin

    return update
