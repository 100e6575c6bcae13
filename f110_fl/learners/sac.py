"""Soft actor-critic, SAC, with automatic temperature (Haarnoja et al. 2018b, arXiv 1812.05905).

``docs/deviations.md`` lists what differs from the paper.
"""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from f110_fl.learner_config import OptimizerConfig, SACConfig
from f110_fl.learners.base import Array
from f110_fl.learners.networks import SquashedActor, TwinCritic
from f110_fl.learners.off_policy import OffPolicyLearner, Trained
from f110_fl.learners.replay import Batch


class Temperature(nn.Module):
    """The logarithm of alpha, so that alpha stays positive.

    Args:
        initial: First alpha.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((1,), math.log(initial)))


class SAC(OffPolicyLearner):
    """A SAC agent; implements ``f110_fl.learners.Learner``.

    Args:
        config: Hyperparameters.
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from together.
        replay_path: File of the replay buffer; None keeps it in memory.
    """

    config: SACConfig

    def __init__(
        self,
        config: SACConfig,
        observation_size: int,
        action_size: int,
        seed: np.random.SeedSequence,
        *,
        num_envs: int = 1,
        replay_path: Path | None = None,
    ) -> None:
        super().__init__(
            config,
            observation_size,
            action_size,
            seed,
            num_envs=num_envs,
            replay_path=replay_path,
        )
        temperature = config.temperature
        self.actor = SquashedActor(observation_size, action_size, config.hidden, self._generator)
        self.critic = TwinCritic(observation_size + action_size, config.hidden, self._generator)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.temperature = Temperature(temperature.initial)
        self._actor = Trained(self.actor, config.actor_learning_rate, config.optimizer)
        self._critic = Trained(self.critic, config.critic_learning_rate, config.optimizer)
        trained = {"actor": self._actor, "critic": self._critic}
        if temperature.automatic:
            # A lone number is neither decayed nor clipped.
            plain = OptimizerConfig()
            self._temperature = Trained(self.temperature, temperature.learning_rate, plain)
            trained["temperature"] = self._temperature
        self._own(
            {
                "actor": self.actor,
                "critic": self.critic,
                "critic_target": self.critic_target,
                "temperature": self.temperature,
            },
            trained,
        )
        self._networks: list[Tensor] = list(self.critic.parameters())
        self._targets: list[Tensor] = list(self.critic_target.parameters())
        self._action_size = action_size
        target = temperature.target_entropy
        self._target_entropy = -float(action_size) if target is None else target

    @property
    def alpha(self) -> float:
        """The temperature now."""
        return self.temperature.log_alpha.exp().item()

    def _explore(self, observations: Array) -> Array:
        """Draw actions from the policy; during warm-up draw uniform ones."""
        shape = (len(observations), self._action_size)
        if self.steps < self.config.warmup_steps:
            return self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        noise = torch.from_numpy(self._rng.standard_normal(shape, np.float32))
        with torch.inference_mode():
            action: Array = self.actor.draw(torch.tensor(observations), noise).numpy()
        return action

    def _best(self, observations: Tensor) -> Tensor:
        return self.actor.mode(observations)

    def _noise(self) -> Tensor:
        """Standard normal numbers (B, A)."""
        size = (self.config.batch_size, self._action_size)
        return torch.empty(size).normal_(generator=self._generator)

    def _learn(self, batch: Batch) -> None:
        """Take a gradient step of algorithm 1."""
        alpha = self.alpha
        self._update_critic(batch, alpha)
        log_prob = self._update_actor(batch, alpha)
        if self.config.temperature.automatic:
            self._update_temperature(batch, log_prob)
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._networks, self.config.tau)

    def _target_value(self, batch: Batch, alpha: float) -> Tensor:
        """Soft value of what follows, from the lesser of both targets (equations 3 and 5): (B,)."""
        with torch.no_grad():
            action, log_prob = self.actor.sample(batch.next_observation, self._noise())
            observation_action = torch.cat((batch.next_observation, action), 1)
            value: Tensor = self.critic_target(observation_action).amin(0)
            return batch.reward + batch.discount * value.sub_(log_prob, alpha=alpha)

    def _update_critic(self, batch: Batch, alpha: float) -> None:
        """Regress both critics on the target, weighted by importance; renew the priorities."""
        target = self._target_value(batch, alpha)
        value = self.critic(batch.observation_action)
        td_error = value - target
        loss = (batch.weights * td_error.square()).mean(1).sum()
        self._descend(self._critic, loss, batch, target=target, value=value)
        self.replay.update_priorities(batch.indices, td_error.detach().abs().amax(0))
        self._metrics.add("critic_loss", loss.item())
        self._metrics.add("value", value.detach().mean().item())

    def _update_actor(self, batch: Batch, alpha: float) -> Tensor:
        """Descend alpha log pi - min Q (equation 9); return log pi (B,) without gradient."""
        action, log_prob = self.actor.sample(batch.observation, self._noise())
        value = self.critic(torch.cat((batch.observation, action), 1)).amin(0)
        loss = (alpha * log_prob - value).mean()
        self._descend(self._actor, loss, batch, log_prob=log_prob)
        self._metrics.add("actor_loss", loss.item())
        log_prob = log_prob.detach()
        self._metrics.add("entropy", -log_prob.mean().item())
        return log_prob

    def _update_temperature(self, batch: Batch, log_prob: Tensor) -> None:
        """Raise alpha where the entropy is below its target (equation 18, in log alpha)."""
        excess = log_prob.mean() + self._target_entropy
        loss = -(self.temperature.log_alpha * excess).sum()
        self._descend(self._temperature, loss, batch, log_prob=log_prob)

    def _present(self) -> dict[str, float]:
        return {"temperature": self.alpha, **super()._present()}
