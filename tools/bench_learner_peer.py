"""Stable-Baselines3's learners, as ``bench_learner.py --peer`` times them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sim.envs import F110VectorEnv

Update = Callable[[], float]


class _Spaces(gymnasium.Env[Any, Any]):
    """An environment with two actions, or 15 to choose from, which is never stepped."""

    def __init__(self, size: int, *, discrete: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = (
            gymnasium.spaces.Discrete(15)
            if discrete
            else gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        )


def off_policy(algorithm: str, size: int, hidden: Sequence[int], batch: int, rows: int) -> Update:
    """Return an update of td3, sac or dqn with ``rows`` transitions in its replay buffer."""
    model = getattr(stable_baselines3, algorithm.upper())(
        "MlpPolicy",
        _Spaces(size, discrete=algorithm == "dqn"),
        buffer_size=rows,
        batch_size=batch,
        policy_kwargs={"net_arch": list(hidden)},
        device="cpu",
        seed=0,
    )
    model.set_logger(Logger(None, []))
    rng = np.random.default_rng(0)
    for _ in range(rows):
        observation, following = rng.standard_normal((2, 1, size), dtype=np.float32)
        action = np.asarray(model.action_space.sample()).reshape(1, -1)
        reward, ends = rng.standard_normal(1), rng.random(1) < 0.01
        model.replay_buffer.add(observation, following, action, reward, ends, [{}])

    def update() -> float:
        begin = time.perf_counter()
        model.train(gradient_steps=1, batch_size=batch)
        return time.perf_counter() - begin

    return update


def _ppo(env: VecEnv, hidden: Sequence[int], batch: int, steps: int) -> Any:
    """PPO with separate networks; its other defaults equal ours."""
    nets = {"pi": list(hidden), "vf": list(hidden)}
    return stable_baselines3.PPO(
        "MlpPolicy",
        env,
        n_steps=steps,
        batch_size=batch,
        policy_kwargs={"net_arch": nets},
        device="cpu",
        seed=0,
    )


def on_policy(size: int, hidden: Sequence[int], batch: int, envs: int, steps: int) -> Update:
    """Return an update of PPO, advantages included, on a rollout of random numbers."""
    model = _ppo(DummyVecEnv([lambda: _Spaces(size)] * envs), hidden, batch, steps)
    model.set_logger(Logger(None, []))
    rng, buffer = np.random.default_rng(0), model.rollout_buffer

    def update() -> float:
        buffer.reset()
        for _ in range(steps):
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


class _Racing(VecEnv):  # type: ignore[misc]  # it need not be installed
    """Our environments as Stable-Baselines3 steps them."""

    def __init__(self, env: F110VectorEnv) -> None:
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.env = env

    def reset(self) -> Any:
        return self.env.reset(seed=0)[0]

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        rows: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if "final_obs" in infos:
            for row in np.flatnonzero(infos["_final_obs"]):
                rows[row]["terminal_observation"] = infos["final_obs"][row]
                rows[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        return observation, reward, terminated | truncated, rows

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def loop(env: F110VectorEnv, hidden: Sequence[int], batch: int, steps: int) -> Update:
    """Return a rollout of PPO in the racing environment, and the update on it."""
    model = _ppo(_Racing(env), hidden, batch, steps)
    model.set_logger(Logger(None, []))

    def update() -> float:
        begin = time.perf_counter()
        model.learn(env.num_envs * steps, reset_num_timesteps=False)
        return time.perf_counter() - begin

    return update
