"""Stable-Baselines3's learners in our environments.

Importing this module needs ``stable_baselines3``, which draws from the global random generators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import stable_baselines3
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecNormalize

from f110_fl.config.common import AlgorithmConfig
from f110_fl.config.learners import DQNConfig, PPOConfig, SACConfig, TD3Config
from parts.stable_baselines_settings import (
    HORIZON,
    Array,
    action_grid,
    default_settings,
    peer_settings,
)
from sim.envs import F110VectorEnv
from sim.envs.stable_baselines import F110VecEnv

ALGORITHMS: Final[Mapping[type[AlgorithmConfig], Any]] = {
    TD3Config: stable_baselines3.TD3,
    SACConfig: stable_baselines3.SAC,
    DQNConfig: stable_baselines3.DQN,
    PPOConfig: stable_baselines3.PPO,
}


def make_model(
    config: AlgorithmConfig,
    env: Any,
    keywords: Mapping[str, Any],
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Any:
    """Return its learner of an algorithm, silent.

    Args:
        config: Settings that name the algorithm.
        env: The environment or environments that it learns in.
        keywords: Of the algorithm's class.
        seed: Of its networks, its draws and its environments.
        device: Device of its networks.
    """
    kind = ALGORITHMS[type(config)]
    model = kind("MlpPolicy", env, seed=seed, device=device, **keywords)
    model.set_logger(Logger(None, []))
    return model


class PeerPolicy:
    """Its greedy policy; implements ``f110_fl.learners.base.Policy``.

    Args:
        model: A learner of Stable-Baselines3.
        grid: (K, 2) the actions that it chooses from by their number; None: its actions are ours.
    """

    def __init__(self, model: Any, grid: Array | None) -> None:
        self._model, self._grid = model, grid

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Do nothing: it remembers nothing."""

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:
        """Choose actions (M, 2) for observations (M, D)."""
        normaliser = self._model.get_vec_normalize_env()
        seen = observations if normaliser is None else normaliser.normalize_obs(observations)
        chosen, _ = self._model.predict(seen, deterministic=True)
        actions: Array = chosen if self._grid is None else self._grid[chosen]
        return actions


class Peer:
    """A learner of Stable-Baselines3 in our environments.

    Args:
        config: Settings of our learner, td3, sac, dqn or ppo.
        env: The environments.
        seed: Of all that is random.
        ours: Whether it takes over our settings, as far as it has them, or has its own defaults.
        device: Device of its networks.

    Attributes:
        model: The learner.

    Raises:
        UserError: If it has no such algorithm.
    """

    def __init__(
        self, config: AlgorithmConfig, env: F110VectorEnv, seed: int, *, ours: bool, device: str
    ) -> None:
        settings = peer_settings(config, env.num_envs) if ours else default_settings(config)
        self._grid = action_grid(config)
        racing: Any = F110VecEnv(env, self._grid)
        rewards = getattr(config, "normalise_rewards", False)
        if ours and (config.normalise_observations or rewards):
            racing = VecNormalize(
                racing,
                norm_obs=config.normalise_observations,
                norm_reward=rewards,
                gamma=settings.keywords["gamma"],
            )
        self.model = make_model(config, racing, settings.keywords, seed=seed, device=device)

    def policy(self, num_envs: int) -> PeerPolicy:
        """Return the greedy policy; it follows the networks as they change."""
        return PeerPolicy(self.model, self._grid)

    def run(self, check: Callable[[int], bool]) -> None:
        """Train until ``check``, told the environment steps so far after each step, is false."""
        self.model.learn(HORIZON, callback=lambda *_: check(self.model.num_timesteps))
