"""Learning algorithms behind one protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from f110_fl.learner_config import LearnerConfig
from f110_fl.learners.base import Learner, LearningError
from f110_fl.learners.td3 import TD3

__all__ = ["TD3", "Learner", "LearningError", "make_learner"]


def make_learner(
    config: LearnerConfig,
    observation_size: int,
    action_size: int,
    seed: np.random.SeedSequence,
    *,
    num_envs: int = 1,  # noqa: ARG001 - TD3 keeps nothing by environment
    replay_path: Path | None = None,
) -> Learner:
    """Build the learner that ``config.algorithm`` names.

    Args:
        config: Its hyperparameters.
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from together.
        replay_path: File in which its experience survives a restart; None: in memory only.

    Raises:
        ValueError: If the file exists with another layout.
    """
    return TD3(config, observation_size, action_size, seed, replay_path=replay_path)
