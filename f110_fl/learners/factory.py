"""Learning algorithms behind one protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from f110_fl.config.learners import DQNConfig, LearnerConfig, PPOConfig, SACConfig, TD3Config
from f110_fl.learners.base import Learner, LearningError
from f110_fl.learners.device import Host
from f110_fl.learners.off_policy.dqn import DQN
from f110_fl.learners.off_policy.sac import SAC
from f110_fl.learners.off_policy.td3 import TD3
from f110_fl.learners.ppo.ppo import PPO

__all__ = ["DQN", "PPO", "SAC", "TD3", "Learner", "LearningError", "make_learner"]


def make_learner(
    config: LearnerConfig,
    observation_size: int,
    action_size: int,
    seed: np.random.SeedSequence,
    *,
    num_envs: int = 1,
    replay_path: Path | None = None,
    place: Host | None = None,
) -> Learner:
    """Build the learner that ``config.algorithm`` names.

    Args:
        config: Its hyperparameters.
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from together.
        replay_path: File in which its experience survives a restart; None: in memory only.
            On-policy learners keep theirs, a rollout, in their local state.
        place: Where it computes; None: on the host.

    Raises:
        ValueError: If the file exists with another layout.
    """
    sizes, place = (observation_size, action_size), place or Host()
    match config:
        case TD3Config():
            return TD3(
                config, *sizes, seed, num_envs=num_envs, replay_path=replay_path, place=place
            )
        case SACConfig():
            return SAC(
                config, *sizes, seed, num_envs=num_envs, replay_path=replay_path, place=place
            )
        case DQNConfig():
            return DQN(
                config, *sizes, seed, num_envs=num_envs, replay_path=replay_path, place=place
            )
        case PPOConfig():
            return PPO(config, *sizes, seed, num_envs=num_envs, place=place)
