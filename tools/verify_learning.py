#!/usr/bin/env python3
"""Train the learners on standard tasks, and print their results as JSON.

Pendulum-v1 for TD3 and SAC, CartPole-v1 for PPO and DQN, several seeds each: the mean return of
greedy episodes after a fixed number of steps, and its standard deviation over the seeds. With
``--peer``, Stable-Baselines3, which must be importable, gets the same steps and settings.

CartPole's two actions are the two halves of a continuous one: PPO pushes right where its action
is positive; DQN chooses between -1 and 1.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser
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


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="verify_learning.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--algo", choices=tuple(TASKS), nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default: 3)")
    parser.add_argument("--episodes", type=int, default=20, help="greedy episodes (default: 20)")
    parser.add_argument("--peer", action="store_true", help="Stable-Baselines3 too")
    return parser


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


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 the peer is missing."""
    arguments = build_parser().parse_args(argv)
    if arguments.peer and importlib.util.find_spec("stable_baselines3") is None:
        print("verify_learning.py: --peer needs stable_baselines3", file=sys.stderr)  # noqa: T201
        return 2
    torch.set_num_threads(1)
    for algorithm in arguments.algo:
        task, steps = TASKS[algorithm][:2]
        found: dict[str, Any] = {"algo": algorithm, "task": task, "steps": steps}
        ours = []
        for seed in range(arguments.seeds):
            learner, seconds = train(algorithm, seed)
            ours.append((greedy_return(learner, task, arguments.episodes), seconds))
        found |= summary("", ours)
        if arguments.peer:
            peers = [peer_return(algorithm, s, arguments.episodes) for s in range(arguments.seeds)]
            found |= summary("peer_", peers)
        print(json.dumps(found), flush=True)  # noqa: T201
    return 0


def summary(prefix: str, runs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the returns by seed, their mean and deviation, and the median time."""
    returns = [value for value, _ in runs]
    return {
        f"{prefix}returns": [round(value, 1) for value in returns],
        f"{prefix}mean": round(statistics.mean(returns), 1),
        f"{prefix}sd": round(statistics.stdev(returns), 1) if len(returns) > 1 else 0.0,
        f"{prefix}seconds": round(statistics.median(seconds for _, seconds in runs), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
