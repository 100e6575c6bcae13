"""Twin delayed deep deterministic policy gradient, TD3 (Fujimoto, van Hoof and Meger 2018).

``docs/deviations.md`` lists what differs from the paper.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from f110_fl.config.learners import TD3Config
from f110_fl.learners.base import Array
from f110_fl.learners.device import Host
from f110_fl.learners.networks.actor_critic import Actor, TwinCritic
from f110_fl.learners.off_policy.learner import OffPolicyLearner
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.learners.optimizer import Loss, Trained


class TD3(OffPolicyLearner):
    """A TD3 agent; implements ``f110_fl.learners.Learner``.

    Args:
        config: Hyperparameters.
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from together.
        replay_path: File of the replay buffer; None keeps it in memory.
        place: Where networks, moments and batches are.
    """

    config: TD3Config

    def __init__(
        self,
        config: TD3Config,
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
        generator, optimizer = self._generator, config.optimizer
        self.actor = Actor(observation_size, action_size, config.hidden, generator)
        self.critic = TwinCritic(observation_size + action_size, config.hidden, generator)
        for network in (self.actor, self.critic):
            network.to(place.device)
        self.actor_target = deepcopy(self.actor).requires_grad_(False)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        run = place.runner
        self._actor = Trained(self.actor, config.actor_learning_rate, optimizer, run())
        self._critic = Trained(self.critic, config.critic_learning_rate, optimizer, run())
        self._own(
            {
                "actor": self.actor,
                "actor_target": self.actor_target,
                "critic": self.critic,
                "critic_target": self.critic_target,
            },
            {"actor": self._actor, "critic": self._critic},
        )
        self._networks: list[Tensor] = [*self.actor.parameters(), *self.critic.parameters()]
        self._targets: list[Tensor] = [
            *self.actor_target.parameters(),
            *self.critic_target.parameters(),
        ]
        self._action_size = action_size
        self._feed = place.feed()

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
            seen = torch.tensor(observations, device=self._place.device)
            action: Array = self.actor(seen).cpu().numpy()
        action += np.float32(self.exploration) * self._rng.standard_normal(shape, np.float32)
        np.maximum(action, -1.0, out=action)
        np.minimum(action, 1.0, out=action)
        return action

    def _best(self, observations: Tensor) -> Tensor:
        action: Tensor = self.actor(observations)
        return action

    def _learn(self, batch: Batch) -> None:
        """Take one iteration of algorithm 1's inner loop."""
        size = (len(batch.reward), self._action_size)
        (noise,) = self._feed([torch.empty(size).normal_(generator=self._generator)])
        loss = self._descend(self._critic, lambda: self._critic_loss(batch, noise), batch)
        self.replay.update_priorities(batch.indices, loss.parts["td_error"])
        self._metrics.add("critic_loss", loss.value.item())
        self._metrics.add("value", loss.parts["value"].mean().item())
        if (self.updates + 1) % self.config.policy_delay == 0:
            loss = self._descend(self._actor, lambda: self._actor_loss(batch), batch)
            self._metrics.add("actor_loss", loss.value.item())
            with torch.no_grad():  # theta' <- tau theta + (1 - tau) theta'
                torch._foreach_lerp_(self._targets, self._networks, self.config.tau)

    def _target_value(self, batch: Batch, noise: Tensor) -> Tensor:
        """Clipped double Q-learning with target policy smoothing (equations 10 and 14).

        Args:
            batch: B transitions.
            noise: (B, A), standard normal.

        Returns:
            (B,).
        """
        config = self.config
        with torch.no_grad():
            action = self.actor_target(batch.next_observation)
            smoothing = (noise * config.policy_noise).clamp_(-config.noise_clip, config.noise_clip)
            action.add_(smoothing).clamp_(-1.0, 1.0)
            observation_action = torch.cat((batch.next_observation, action), 1)
            value: Tensor = self.critic_target(observation_action).amin(0)
            return batch.reward + batch.discount * value

    def _critic_loss(self, batch: Batch, noise: Tensor) -> Loss:
        """Both critics' squared errors, weighted by importance."""
        target = self._target_value(batch, noise)
        value = self.critic(batch.observation_action)
        td_error = value - target
        loss = (batch.weights * td_error.square()).mean(1).sum()
        # The larger error of the two critics, as Fujimoto et al. 2020 (LAP) prioritise TD3.
        larger = td_error.detach().abs().amax(0)
        return Loss(loss, {"target": target, "value": value.detach(), "td_error": larger})

    def _actor_loss(self, batch: Batch) -> Loss:
        """The first critic's value, negated (algorithm 1, deterministic policy gradient)."""
        action = self.actor(batch.observation)
        value = self.critic.first(torch.cat((batch.observation, action), 1))
        return Loss(-value.mean(), {})

    def _present(self) -> dict[str, float]:
        return {"exploration": self.exploration, **super()._present()}
