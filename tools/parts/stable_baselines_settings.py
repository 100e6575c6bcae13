"""Our settings of a learner as Stable-Baselines3 takes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.noise import NormalActionNoise

from f110_fl.config.common import AlgorithmConfig
from f110_fl.config.learners import (
    ConstantSchedule,
    DQNConfig,
    EpsilonGreedy,
    ExplorationConfig,
    HardTarget,
    OffPolicyConfig,
    PPOConfig,
    SACConfig,
    ScheduleConfig,
    SoftTarget,
    TD3Config,
)
from f110_fl.errors import UserError
from f110_fl.learners.optimizer import rate_factor
from sim.layout import COMMAND_SIZE

Array = NDArray[np.float32]
# The steps that `learn` is told, more than any training takes. What falls with training is, over
# there, a function of the part of them that is left.
HORIZON: Final = 10**9


def action_grid(config: AlgorithmConfig) -> Array | None:
    """Return the actions (K, 2) that a DQN chooses from, in our order; None for other learners."""
    if not isinstance(config, DQNConfig):
        return None
    return np.array([*product(config.actions.steering, config.actions.speed)], np.float32)


class PeerSettings(NamedTuple):
    """Our settings as Stable-Baselines3 takes them."""

    keywords: dict[str, Any]  # of the algorithm's class
    left_out: list[str]  # keys of ours that it has nothing for


class FallingNoise(NormalActionNoise):  # type: ignore[misc, unused-ignore]
    """Normal noise on the actions of one environment, whose deviation falls linearly.

    Args:
        config: Its deviation over the steps of all environments.
        num_envs: How many these are.
    """

    def __init__(self, config: ExplorationConfig, num_envs: int) -> None:
        super().__init__(np.zeros(COMMAND_SIZE), np.full(COMMAND_SIZE, config.start))
        self._config, self._num_envs, self._steps = config, num_envs, 0

    def __call__(self) -> Array:
        """Return the noise of the next action, (2,)."""
        config, progress = self._config, min(1.0, self._steps / self._config.steps)
        self._sigma = np.full(COMMAND_SIZE, config.start + progress * (config.end - config.start))
        self._steps += self._num_envs
        noise: Array = super().__call__()
        return noise


def peer_settings(config: AlgorithmConfig, num_envs: int) -> PeerSettings:
    """Return our settings of a learner as Stable-Baselines3 takes them, and what it has not.

    Settings that are off, or at the value that is fixed over there, do not count as left out.

    Args:
        config: Settings of td3, sac, dqn or ppo.
        num_envs: Environments that it collects from together.

    Raises:
        UserError: If it has no such algorithm.
    """
    match config:
        case PPOConfig():
            return _ppo(config, num_envs)
        case TD3Config():
            return _td3(config, num_envs)
        case SACConfig():
            return _sac(config, num_envs)
        case DQNConfig():
            return _dqn(config, num_envs)
    raise UserError(f"Stable-Baselines3 has no {config.algorithm!r}; allowed: td3, sac, dqn, ppo")


def default_settings(config: AlgorithmConfig) -> PeerSettings:
    """Return what Stable-Baselines3's own defaults need to be told about the task.

    DQN's exploration falls over a tenth of the steps that training is told to take: here, over as
    many steps as ours, since training ends when it is good enough.

    Raises:
        UserError: If it has no such algorithm.
    """
    peer_settings(config, 1)
    if not isinstance(config, DQNConfig):
        return PeerSettings({}, [])
    return PeerSettings({"exploration_fraction": _epsilon(config).steps / HORIZON}, [])


def _left_out(config: AlgorithmConfig, **given: bool) -> list[str]:
    """Return the keys, with ``__`` for a dot, that are given, and those of an encoder."""
    given["encoder"] = getattr(config, "encoder", None) is not None
    return [key.replace("__", ".") for key, used in given.items() if used]


def _rate(rate: float, schedule: ScheduleConfig, updates: Callable[[int], int]) -> Any:
    """Return a learning rate: a number, or a function of the part of `HORIZON` that is left.

    Args:
        rate: The first one.
        schedule: How it changes.
        updates: Maps environment steps to the updates that were done before.
    """
    if isinstance(schedule, ConstantSchedule):
        return rate

    def at(remaining: float) -> float:
        steps = round(HORIZON * (1.0 - remaining))
        return rate * rate_factor(schedule, max(0, updates(steps)))

    return at


def _ppo(config: PPOConfig, num_envs: int) -> PeerSettings:
    rollout = config.rollout_steps * num_envs
    found = {
        "learning_rate": _rate(
            config.learning_rate, config.schedule, lambda steps: steps // rollout - 1
        ),
        "n_steps": config.rollout_steps,
        "batch_size": max(1, rollout // config.minibatches),
        "n_epochs": config.epochs,
        "gamma": config.discount,
        "gae_lambda": config.gae_lambda,
        "clip_range": config.clip_range,
        "clip_range_vf": config.value_clip,
        "normalize_advantage": config.normalise_advantages,
        "ent_coef": config.entropy_coefficient,
        "vf_coef": config.value_coefficient,
        "max_grad_norm": config.max_grad_norm,
        "target_kl": config.target_kl,
        "policy_kwargs": {
            "net_arch": {"pi": list(config.actor_hidden), "vf": list(config.critic_hidden)},
            "activation_fn": torch.nn.Tanh if config.activation == "tanh" else torch.nn.ReLU,
            "ortho_init": config.orthogonal_init,
            "log_std_init": config.initial_log_std,
            "optimizer_kwargs": {"eps": config.adam_epsilon},
        },
    }
    return PeerSettings(found, _left_out(config, lstm=config.lstm is not None))


def _off_policy(config: OffPolicyConfig, num_envs: int, rate: float) -> dict[str, Any]:
    """Return what TD3, SAC and DQN share: an update in every ``update_every`` transitions."""
    optimizer, every = config.optimizer, config.update_every
    common = math.gcd(every, num_envs)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return {
        "learning_rate": _rate(
            rate, optimizer.schedule, lambda steps: (steps - config.warmup_steps) // every
        ),
        "buffer_size": config.replay.capacity,
        "learning_starts": config.warmup_steps,
        "batch_size": config.batch_size,
        "gamma": config.discount,
        "train_freq": every // common,
        "gradient_steps": num_envs // common,
        "n_steps": config.n_step,
        "policy_kwargs": {
            "net_arch": list(config.hidden),
            "optimizer_class": kinds[optimizer.kind],
            "optimizer_kwargs": {"weight_decay": optimizer.weight_decay},
        },
    }


def _td3(config: TD3Config, num_envs: int) -> PeerSettings:
    found = _off_policy(config, num_envs, config.critic_learning_rate) | {
        "tau": config.tau,
        "policy_delay": config.policy_delay,
        "target_policy_noise": config.policy_noise,
        "target_noise_clip": config.noise_clip,
        "action_noise": FallingNoise(config.exploration, num_envs),
    }
    left_out = _left_out(
        config,
        actor_learning_rate=config.actor_learning_rate != config.critic_learning_rate,
        replay__alpha=config.replay.alpha > 0,
        optimizer__max_grad_norm=config.optimizer.max_grad_norm is not None,
    )
    return PeerSettings(found, left_out)


def _sac(config: SACConfig, num_envs: int) -> PeerSettings:
    temperature, rate = config.temperature, config.critic_learning_rate
    target = temperature.target_entropy
    first = temperature.initial
    found = _off_policy(config, num_envs, rate) | {
        "tau": config.tau,
        "ent_coef": f"auto_{first}" if temperature.automatic else first,
        "target_entropy": "auto" if target is None else target,
    }
    left_out = _left_out(
        config,
        actor_learning_rate=config.actor_learning_rate != rate,
        temperature__learning_rate=temperature.automatic and temperature.learning_rate != rate,
        replay__alpha=config.replay.alpha > 0,
        optimizer__max_grad_norm=config.optimizer.max_grad_norm is not None,
    )
    return PeerSettings(found, left_out)


def _epsilon(config: DQNConfig) -> EpsilonGreedy:
    """Return the random actions of a DQN; the default ones in place of noisy networks."""
    chosen = config.exploration
    return chosen if isinstance(chosen, EpsilonGreedy) else EpsilonGreedy()


def _dqn(config: DQNConfig, num_envs: int) -> PeerSettings:
    epsilon, every = _epsilon(config), config.update_every
    found = _off_policy(config, num_envs, config.learning_rate) | {
        "exploration_initial_eps": epsilon.start,
        "exploration_final_eps": epsilon.end,
        "exploration_fraction": epsilon.steps / HORIZON,
        "max_grad_norm": config.optimizer.max_grad_norm or math.inf,
    }
    match config.target:
        case HardTarget(updates=updates):
            found |= {"tau": 1.0, "target_update_interval": updates * every}
        case SoftTarget(tau=tau):  # it follows once a step of all environments, not once an update
            together = 1.0 - (1.0 - tau) ** (num_envs / every)
            found |= {"tau": together, "target_update_interval": num_envs}
    left_out = _left_out(
        config,
        double=config.double,
        duelling=config.duelling,
        huber=config.huber != 1.0,
        exploration=config.exploration is not epsilon,
        replay__alpha=config.replay.alpha > 0,
    )
    return PeerSettings(found, left_out)
