"""From an algorithm's settings to its learner.

A new algorithm is an `AlgorithmConfig`, a class that implements `Learner`, and an entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from f110_fl.config.learners import AlgorithmConfig, DQNConfig, PPOConfig, SACConfig, TD3Config
from f110_fl.learners.base import Learner, LearnerSetup
from sim.config import Config

# Where the learner of each kind of settings is, "module:class", imported when it is needed.
LEARNERS: Final[Mapping[type[Config], str]] = {
    TD3Config: "f110_fl.learners.off_policy.td3:TD3",
    SACConfig: "f110_fl.learners.off_policy.sac:SAC",
    DQNConfig: "f110_fl.learners.off_policy.dqn:DQN",
    PPOConfig: "f110_fl.learners.ppo.ppo:PPO",
}


def learner_class(config: AlgorithmConfig) -> type[Learner]:
    """Return the class that learns as these settings say.

    Raises:
        TypeError: If there is none.
    """
    where = LEARNERS.get(type(config))
    if where is None:
        known = ", ".join(kind.__name__ for kind in LEARNERS)
        raise TypeError(f"no learner takes {type(config).__name__}; there are those of: {known}")
    module, name = where.split(":")
    found: type[Learner] = getattr(import_module(module), name)
    return found


def make_learner(config: AlgorithmConfig, setup: LearnerSetup) -> Learner:
    """Build the learner that ``config.algorithm`` names.

    Args:
        config: Its hyperparameters.
        setup: What else it is made with.

    Raises:
        TypeError: If no learner takes such settings.
        ValueError: If its replay file exists with another layout.
    """
    return learner_class(config)(config, setup)
