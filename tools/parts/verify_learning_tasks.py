"""What ``verify_learning.py`` trains: our learners and the peer's on standard tasks."""

from __future__ import annotations

import importlib
import time
from typing import Any, Final

import gymnasium
import numpy as np
from numpy.typing import NDArray

from f110_fl.config.learners import DQNConfig, LearnerConfig, PPOConfig, SACConfig, TD3Config
from f110_fl.learners.base import Learner, LearnerSetup, Transitions
from f110_fl.learners.factory import make_learner

NETS: Final = {"hidden": (64, 64)}
REPLAY: Final = {"capacity": 100_000}
# By algorithm: the task, its steps, ours and the peer's settings.
TASKS: Final[dict[str, tuple[str, int, LearnerConfig, dict[str, Any]]]] = {
    "td3": (
        "Pendulum-v1",
        15_000,
        TD3Config.model_validate(
            NETS
            | {
                "actor_learning_rate": 1e-3,
                "critic_learning_rate": 1e-3,
                "warmup_steps": 1000,
                "discount": 0.98,
                "replay": REPLAY,
            }
        ),
        {"learning_rate": 1e-3, "learning_starts": 1000, "gamma": 0.98, "train_freq": 1},
    ),
    "sac": (
        "Pendulum-v1",
        15_000,
        SACConfig.model_validate(
            NETS
            | {
                "actor_learning_rate": 1e-3,
                "critic_learning_rate": 1e-3,
                "warmup_steps": 1000,
                "discount": 0.98,
                "replay": REPLAY,
            }
        ),
        {"learning_rate": 1e-3, "learning_starts": 1000, "gamma": 0.98, "train_freq": 1},
    ),
    "ppo": (
        "CartPole-v1",
        100_000,
        PPOConfig(rollout_steps=256, minibatches=32, epochs=10, learning_rate=1e-3, discount=0.98),
        {"n_steps": 256, "batch_size": 64, "n_epochs": 10, "learning_rate": 1e-3, "gamma": 0.98},
    ),
    "dqn": (
        "CartPole-v1",
        50_000,
        DQNConfig.model_validate(
            {
                "hidden": (256, 256),
                "learning_rate": 5e-4,
                "optimizer": {"schedule": {"kind": "linear", "updates": 49_000, "end": 0.02}},
                "batch_size": 64,
                "warmup_steps": 1000,
                "actions": {"steering": (-1.0, 1.0), "speed": (0.0,)},
                "exploration": {"kind": "epsilon", "end": 0.04, "steps": 8000},
                "target": {"kind": "soft", "tau": 0.005},
                "replay": REPLAY,
            }
        ),
        {
            "learning_rate": 5e-4, "learning_starts": 1000, "batch_size": 64, "train_freq": 1,
            "gradient_steps": 1, "tau": 0.005, "target_update_interval": 1,
            "exploration_fraction": 0.16, "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
    ),
}  # fmt: skip
NUM_ENVS: Final = {"td3": 1, "sac": 1, "dqn": 1, "ppo": 8}


def to_task(env: gymnasium.Env[Any, Any], action: NDArray[np.float32]) -> Any:
    """Return the task's action for an action in [-1, 1]."""
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return int(action[0] > 0)
    assert isinstance(env.action_space, gymnasium.spaces.Box)  # noqa: S101
    return action[: env.action_space.shape[0]] * env.action_space.high


def train(algorithm: str, seed: int) -> tuple[Learner, float]:
    """Return the trained learner, and the duration of its training, s."""
    task, steps, config, _ = TASKS[algorithm]
    envs = [gymnasium.make(task) for _ in range(NUM_ENVS[algorithm])]
    everywhere = np.arange(len(envs))
    size = envs[0].observation_space.shape[0]  # type: ignore[index]
    actions = 2 if algorithm == "dqn" else 1
    setup = LearnerSetup(size, actions, np.random.SeedSequence(seed), num_envs=len(envs))
    learner = make_learner(config, setup)
    sight = np.stack([env.reset(seed=1000 * seed + k)[0] for k, env in enumerate(envs)])
    sight = sight.astype(np.float32)
    begun = time.perf_counter()
    for _ in range(steps // len(envs)):
        action = learner.act(sight, everywhere)
        results = [env.step(to_task(env, a)) for env, a in zip(envs, action, strict=True)]
        after = np.stack([result[0] for result in results]).astype(np.float32)
        learner.observe(
            Transitions(
                envs=everywhere,
                observation=sight,
                action=action,
                reward=np.array([float(result[1]) for result in results]),
                next_observation=after,
                terminated=np.array([result[2] for result in results]),
                truncated=np.array([result[3] and not result[2] for result in results]),
            )
        )
        learner.update()
        sight = after.copy()
        for k, result in enumerate(results):
            if result[2] or result[3]:
                sight[k] = envs[k].reset()[0]
    return learner, time.perf_counter() - begun


def greedy_return(learner: Learner, task: str, episodes: int) -> float:
    """Return the mean return of greedy episodes on fixed seeds."""
    env, policy, total = gymnasium.make(task), learner.policy(1), 0.0
    only = np.array([0])
    for episode in range(episodes):
        sight, _ = env.reset(seed=10_000 + episode)
        policy.reset(only)
        over = False
        while not over:
            action = policy.act(np.asarray(sight, np.float32)[None], only)[0]
            sight, reward, terminated, truncated, _ = env.step(to_task(env, action))
            total += float(reward)
            over = terminated or truncated
    return total / episodes


def peer_return(algorithm: str, seed: int, episodes: int) -> tuple[float, float]:
    """Return Stable-Baselines3's mean return, and the duration of its training, s."""
    library: Any = importlib.import_module("stable_baselines3")
    evaluation: Any = importlib.import_module("stable_baselines3.common.evaluation")
    vectors: Any = importlib.import_module("stable_baselines3.common.env_util")
    task, steps, _, settings = TASKS[algorithm]
    settings = {"policy_kwargs": {"net_arch": [64, 64]}} | settings
    if algorithm == "td3":
        noise: Any = importlib.import_module("stable_baselines3.common.noise")
        settings |= {"action_noise": noise.NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))}
    env = vectors.make_vec_env(task, n_envs=NUM_ENVS[algorithm], seed=1000 * seed)
    model = getattr(library, algorithm.upper())("MlpPolicy", env, seed=seed, **settings)
    begun = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - begun
    fresh = vectors.make_vec_env(task, n_envs=1, seed=10_000)
    mean, _ = evaluation.evaluate_policy(model, fresh, n_eval_episodes=episodes)
    return float(mean), seconds
