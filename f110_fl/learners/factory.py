"""From an algorithm's settings to its learner.

A new algorithm is an `AlgorithmConfig`, a class that implements `Learner`, and an entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from f110_fl.config.common import AlgorithmConfig
from f110_fl.config.learners import DQNConfig, PPOConfig, SACConfig, TD3Config
from f110_fl.learners.base import Learner, LearnerSetup
from sim.plugins import implementation
from sim.settings import Config

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
        PluginError: If another package's cannot be imported.
    """
    found: type[Learner] = implementation("learners", LEARNERS, config)
    return found


def make_learner(config: AlgorithmConfig, setup: LearnerSetup) -> Learner:
    """Build the learner that learns as these settings say.

    Raises:
        TypeError: If no learner takes such settings.
        ValueError: If its replay file exists with another layout.
    """
    return learner_class(config)(config, setup)
