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

from f110_fl.config.learners import OptimizerConfig, SACConfig
from f110_fl.learners.base import Array
from f110_fl.learners.device import Host
from f110_fl.learners.networks.actor_critic import SquashedActor, TwinCritic
from f110_fl.learners.off_policy.learner import OffPolicyLearner
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.learners.optimizer import Loss, Trained


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
        place: Where networks, moments and batches are.
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
        place: Host,
    ) -> None:
        super().__init__(
            config,
            observation_size,
            action_size,
            seed,
            num_envs=num_envs,
            replay_path=replay_path,
            place=place,
        )
        temperature, optimizer, generator = config.temperature, config.optimizer, self._generator
        self.actor = SquashedActor(observation_size, action_size, config.hidden, generator)
        self.critic = TwinCritic(observation_size + action_size, config.hidden, generator)
        self.temperature = Temperature(temperature.initial)
        for network in (self.actor, self.critic, self.temperature):
            network.to(place.device)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        run = place.runner
        self._actor = Trained(self.actor, config.actor_learning_rate, optimizer, run())
        self._critic = Trained(self.critic, config.critic_learning_rate, optimizer, run())
        trained = {"actor": self._actor, "critic": self._critic}
        if temperature.automatic:
            # A lone number is neither decayed nor clipped.
            plain = OptimizerConfig()
            rate = temperature.learning_rate
            self._temperature = Trained(self.temperature, rate, plain, run())
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
        self._feed = place.feed()
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
        device, noise = self._place.device, self._rng.standard_normal(shape, np.float32)
        with torch.inference_mode():
            seen, drawn = torch.tensor(observations, device=device), torch.from_numpy(noise)
            action: Array = self.actor.draw(seen, drawn.to(device)).cpu().numpy()
        return action

    def _best(self, observations: Tensor) -> Tensor:
        return self.actor.mode(observations)

    def _noise(self) -> Tensor:
        """Standard normal numbers (B, A)."""
        size = (self.config.batch_size, self._action_size)
        return torch.empty(size).normal_(generator=self._generator)

    def _learn(self, batch: Batch) -> None:
        """Take a gradient step of algorithm 1."""
        noises = self._feed([self._noise(), self._noise()])
        loss = self._descend(self._critic, lambda: self._critic_loss(batch, noises[0]), batch)
        self.replay.update_priorities(batch.indices, loss.parts["td_error"])
        self._metrics.add("critic_loss", loss.value.item())
        self._metrics.add("value", loss.parts["value"].mean().item())
        loss = self._descend(self._actor, lambda: self._actor_loss(batch, noises[1]), batch)
        log_prob = loss.parts["log_prob"]
        self._metrics.add("actor_loss", loss.value.item())
        self._metrics.add("entropy", -log_prob.mean().item())
        if self.config.temperature.automatic:
            self._descend(self._temperature, lambda: self._temperature_loss(log_prob), batch)
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._networks, self.config.tau)

    def _target_value(self, batch: Batch, noise: Tensor) -> Tensor:
        """Soft value of what follows, from the lesser of both targets (equations 3 and 5).

        Args:
            batch: B transitions.
            noise: (B, A), standard normal.

        Returns:
            (B,).
        """
        with torch.no_grad():
            action, log_prob = self.actor.sample(batch.next_observation, noise)
            observation_action = torch.cat((batch.next_observation, action), 1)
            value: Tensor = self.critic_target(observation_action).amin(0)
            alpha = self.temperature.log_alpha.exp()
            return batch.reward + batch.discount * value.addcmul_(alpha, log_prob, value=-1.0)

    def _critic_loss(self, batch: Batch, noise: Tensor) -> Loss:
        """Both critics' squared errors, weighted by importance."""
        target = self._target_value(batch, noise)
        value = self.critic(batch.observation_action)
        td_error = value - target
        loss = (batch.weights * td_error.square()).mean(1).sum()
        larger = td_error.detach().abs().amax(0)
        return Loss(loss, {"target": target, "value": value.detach(), "td_error": larger})

    def _actor_loss(self, batch: Batch, noise: Tensor) -> Loss:
        """Mean of alpha log pi - min Q (equation 9)."""
        action, log_prob = self.actor.sample(batch.observation, noise)
        value = self.critic(torch.cat((batch.observation, action), 1)).amin(0)
        alpha = self.temperature.log_alpha.detach().exp()
        return Loss((alpha * log_prob - value).mean(), {"log_prob": log_prob.detach()})

    def _temperature_loss(self, log_prob: Tensor) -> Loss:
        """What raises alpha where the entropy is below its target (equation 18, in log alpha)."""
        excess = log_prob.mean() + self._target_entropy
        return Loss(-(self.temperature.log_alpha * excess).sum(), {"log_prob": log_prob})

    def _present(self) -> dict[str, float]:
        return {"temperature": self.alpha, **super()._present()}
