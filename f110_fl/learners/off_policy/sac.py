"""Soft actor-critic, SAC, with automatic temperature (Haarnoja et al. 2018b, arXiv 1812.05905).

``docs/deviations.md`` lists what differs from the paper.
"""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from f110_fl.config.learners import OptimizerConfig, SACConfig
from f110_fl.learners.base import Array, LearnerSetup, ObservationParts
from f110_fl.learners.device import to_array, to_device
from f110_fl.learners.networks.actor_critic import SquashedActor, TwinCritic
from f110_fl.learners.networks.encoder import make_encoder
from f110_fl.learners.off_policy.learner import OffPolicyLearner, relu_policy
from f110_fl.learners.off_policy.recorded import make_pass
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.learners.optimizer import Adam
from sim.policy import PolicyFormat


class Temperature(nn.Module):
    """The logarithm of alpha, so that alpha stays positive.

    Args:
        initial: First alpha.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((1,), math.log(initial)))


class SAC(OffPolicyLearner):
    """A SAC agent; implements ``f110_fl.learners.base.Learner``.

    Args:
        config: Hyperparameters.
        setup: What else it is made with.
    """

    config: SACConfig

    def __init__(self, config: SACConfig, setup: LearnerSetup) -> None:
        super().__init__(config, setup)
        sizes, generator = (setup.observation_size, setup.action_size), self._generator
        encoder = partial(make_encoder, config.encoder, setup.observation, generator)
        self.actor = SquashedActor(*sizes, config.hidden, generator, encoder()).to(setup.device)
        self.critic = TwinCritic(
            *sizes, config.hidden, generator, encoder(), layer_norm=config.layer_norm
        ).to(setup.device)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.temperature = Temperature(config.temperature.initial).to(setup.device)
        self.actor_optimizer = Adam([self.actor], config.actor_learning_rate, config.optimizer)
        self.critic_optimizer = Adam([self.critic], config.critic_learning_rate, config.optimizer)
        # A lone number is neither decayed nor clipped.
        self.temperature_optimizer = Adam(
            [self.temperature],
            config.temperature.learning_rate,
            OptimizerConfig(schedule=config.optimizer.schedule),
        )
        optimizers = {"actor": self.actor_optimizer, "critic": self.critic_optimizer}
        if config.temperature.automatic:
            optimizers["temperature"] = self.temperature_optimizer
        self._register(
            {
                "actor": self.actor,
                "critic": self.critic,
                "critic_target": self.critic_target,
                "temperature": self.temperature,
            },
            optimizers,
        )
        self._action_size = setup.action_size
        self._critic_pass, self._actor_pass = make_pass(setup.device), make_pass(setup.device)
        target = config.temperature.target_entropy
        self._target_entropy = -float(setup.action_size) if target is None else target

    @staticmethod
    def policy_format(config: SACConfig, observation: ObservationParts) -> PolicyFormat | None:
        """Name the actor's layers, whose means come first; see ``Learner.policy_format``."""
        return relu_policy("actor", config, observation, output="tanh")

    @property
    def alpha(self) -> float:
        """The temperature now."""
        return self.temperature.log_alpha.exp().item()

    def _explore(self, observations: Array) -> Array:
        """Draw actions from the policy; during warm-up draw uniform ones."""
        shape = (len(observations), self._action_size)
        if self.steps < self.config.warmup_steps:
            return self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        noise = self._rng.standard_normal(shape, np.float32)
        with torch.inference_mode():
            seen = torch.tensor(observations, device=self._device)
            action: Array = to_array(self.actor.draw(seen, to_device(noise, self._device)))
        return action

    def _best(self, observations: Tensor) -> Tensor:
        return self.actor.mode(observations)

    def _learn(self, batch: Batch) -> None:
        """Take a gradient step of algorithm 1."""
        noise = self._normal(len(batch.reward), self._action_size)
        loss, td_error, value = self._critic_pass(self._critic_loss, batch, noise)
        self._step(self.critic_optimizer, loss, batch)
        self.replay.update_priorities(batch.indices, td_error)
        self._metrics.add("critic_loss", loss.item())
        self._metrics.add("value", value.item())

        noise = self._normal(len(batch.reward), self._action_size)
        loss, entropy = self._actor_pass(self._actor_loss, batch, noise)
        self._step(self.actor_optimizer, loss, batch)
        self._metrics.add("actor_loss", loss.item())
        self._metrics.add("entropy", entropy.item())

        if self.config.temperature.automatic:
            # Raises alpha where the entropy is below its target (equation 18, in log alpha).
            shortfall = self._target_entropy - entropy
            temperature_loss = -(self.temperature.log_alpha * shortfall).sum()
            self.temperature_optimizer.zero_grad()
            temperature_loss.backward()
            self._step(self.temperature_optimizer, temperature_loss, batch)
        self._follow(self.config.tau)

    # What a `Pass` calls: losses, with their gradients. The noise is (B, A), standard normal.

    def _critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, the larger absolute error of the two critics (B,), the mean value."""
        target = self._target_value(batch, noise)
        value = self.critic(batch.observation_action)
        td_error = value - target
        loss = (batch.weights * td_error.square()).mean(1).sum()
        self.critic_optimizer.zero_grad()
        loss.backward(inputs=self.critic_optimizer.parameters)
        return loss.detach(), td_error.detach().abs().amax(0), value.detach().mean()

    def _actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of alpha log pi - min Q (equation 9), and the entropy."""
        action, log_prob = self.actor.sample(batch.observation, noise)
        value = self.critic(torch.cat((batch.observation, action), 1)).amin(0)
        alpha = self.temperature.log_alpha.detach().exp()
        loss = (alpha * log_prob - value).mean()
        self.actor_optimizer.zero_grad()
        loss.backward(inputs=self.actor_optimizer.parameters)
        return loss.detach(), -log_prob.detach().mean()

    @torch.no_grad()
    def _target_value(self, batch: Batch, noise: Tensor) -> Tensor:
        """Soft value of what follows, from the lesser of both targets (equations 3 and 5): (B,)."""
        action, log_prob = self.actor.sample(batch.next_observation, noise)
        value: Tensor = self.critic_target(torch.cat((batch.next_observation, action), 1)).amin(0)
        alpha = self.temperature.log_alpha.exp()
        return batch.reward + batch.discount * value.addcmul_(alpha, log_prob, value=-1.0)

    def _present(self) -> dict[str, float]:
        return {"temperature": self.alpha, **super()._present()}
