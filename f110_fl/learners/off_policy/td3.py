"""Twin delayed deep deterministic policy gradient, TD3 (Fujimoto, van Hoof and Meger 2018).

``docs/deviations.md`` lists what differs from the paper.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from f110_fl.config.learners import TD3Config
from f110_fl.learners.base import Array, LearnerSetup, ObservationParts
from f110_fl.learners.device import to_array
from f110_fl.learners.networks.actor_critic import Actor, TwinCritic
from f110_fl.learners.networks.encoder import make_encoder
from f110_fl.learners.off_policy.learner import OffPolicyLearner, relu_policy
from f110_fl.learners.off_policy.recorded import make_pass
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.learners.optimizer import Adam
from sim.policy import PolicyFormat


class TD3(OffPolicyLearner):
    """A TD3 agent; implements ``f110_fl.learners.base.Learner``.

    Args:
        config: Hyperparameters.
        setup: What else it is made with.
    """

    config: TD3Config

    def __init__(self, config: TD3Config, setup: LearnerSetup) -> None:
        super().__init__(config, setup)
        sizes, generator = (setup.observation_size, setup.action_size), self._generator
        encoder = partial(make_encoder, config.encoder, setup.observation, generator)
        self.actor = Actor(*sizes, config.hidden, generator, encoder()).to(setup.device)
        self.critic = TwinCritic(
            *sizes, config.hidden, generator, encoder(), layer_norm=config.layer_norm
        ).to(setup.device)
        self.actor_target = deepcopy(self.actor).requires_grad_(False)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.actor_optimizer = Adam([self.actor], config.actor_learning_rate, config.optimizer)
        self.critic_optimizer = Adam([self.critic], config.critic_learning_rate, config.optimizer)
        self._register(
            {
                "actor": self.actor,
                "actor_target": self.actor_target,
                "critic": self.critic,
                "critic_target": self.critic_target,
            },
            {"actor": self.actor_optimizer, "critic": self.critic_optimizer},
        )
        self._action_size = setup.action_size
        self._critic_pass, self._actor_pass = make_pass(setup.device), make_pass(setup.device)

    @staticmethod
    def policy_format(config: TD3Config, observation: ObservationParts) -> PolicyFormat | None:
        """Name the actor's layers; see ``Learner.policy_format``."""
        return relu_policy("actor", config, observation, output="tanh")

    @property
    def exploration(self) -> float:
        """Standard deviation of the exploration noise now."""
        config = self.config.exploration
        progress = min(1.0, self.steps / config.steps)
        return config.start + progress * (config.end - config.start)

    def _explore(self, observations: Array) -> Array:
        """Add noise to the best actions; during warm-up draw uniform ones."""
        shape = (len(observations), self._action_size)
        if self.steps < self.config.warmup_steps:
            return self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        with torch.inference_mode():
            seen = torch.tensor(observations, device=self._device)
            action: Array = to_array(self.actor(seen))
        action += np.float32(self.exploration) * self._rng.standard_normal(shape, np.float32)
        np.maximum(action, -1.0, out=action)
        np.minimum(action, 1.0, out=action)
        return action

    def _best(self, observations: Tensor) -> Tensor:
        action: Tensor = self.actor(observations)
        return action

    def _learn(self, batch: Batch) -> None:
        """Take one iteration of algorithm 1's inner loop."""
        noise = self._normal(len(batch.reward), self._action_size)
        loss, td_error, value = self._critic_pass(self._critic_loss, batch, noise)
        self._step(self.critic_optimizer, loss, batch)
        self.replay.update_priorities(batch.indices, td_error)
        self._metrics.add("critic_loss", loss.item())
        self._metrics.add("value", value.item())

        if (self.updates + 1) % self.config.policy_delay == 0:
            loss = self._actor_pass(self._actor_loss, batch)
            self._step(self.actor_optimizer, loss, batch)
            self._metrics.add("actor_loss", loss.item())
            self._follow(self.config.tau)

    # What a `Pass` calls: losses, with their gradients.

    def _critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, the larger absolute error of the two critics (B,), the mean value.

        The larger one, as Fujimoto et al. 2020 (LAP) prioritise TD3.
        """
        target = self._target_value(batch, noise)
        value = self.critic(batch.observation_action)
        td_error = value - target
        loss = (batch.weights * td_error.square()).mean(1).sum()
        self.critic_optimizer.zero_grad()
        loss.backward(inputs=self.critic_optimizer.parameters)
        return loss.detach(), td_error.detach().abs().amax(0), value.detach().mean()

    def _actor_loss(self, batch: Batch) -> Tensor:
        """Return the first critic's value, negated: the deterministic policy gradient."""
        action = self.actor(batch.observation)
        loss = -self.critic.first(torch.cat((batch.observation, action), 1)).mean()
        self.actor_optimizer.zero_grad()
        loss.backward(inputs=self.actor_optimizer.parameters)
        return loss.detach()

    @torch.no_grad()
    def _target_value(self, batch: Batch, noise: Tensor) -> Tensor:
        """Clipped double Q-learning with target policy smoothing (equations 10 and 14): (B,).

        Args:
            batch: B transitions.
            noise: (B, A), standard normal.
        """
        config = self.config
        noise = (noise * config.policy_noise).clamp_(-config.noise_clip, config.noise_clip)
        action = self.actor_target(batch.next_observation).add_(noise).clamp_(-1.0, 1.0)
        value: Tensor = self.critic_target(torch.cat((batch.next_observation, action), 1)).amin(0)
        return batch.reward + batch.discount * value

    def _present(self) -> dict[str, float]:
        return {"exploration": self.exploration, **super()._present()}
