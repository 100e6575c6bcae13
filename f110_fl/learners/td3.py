"""Twin delayed deep deterministic policy gradient, TD3 (Fujimoto, van Hoof and Meger 2018).

``docs/deviations.md`` lists what differs from the paper.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from f110_fl.learner_config import TD3Config
from f110_fl.learners.base import Array
from f110_fl.learners.networks import Actor, TwinCritic
from f110_fl.learners.off_policy import OffPolicyLearner, Trained
from f110_fl.learners.replay import Batch


class TD3(OffPolicyLearner):
    """A TD3 agent; implements ``f110_fl.learners.Learner``.

    Args:
        config: Hyperparameters.
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from together.
        replay_path: File of the replay buffer; None keeps it in memory.
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
    ) -> None:
        super().__init__(
            config,
            observation_size,
            action_size,
            seed,
            num_envs=num_envs,
            replay_path=replay_path,
        )
        self.actor = Actor(observation_size, action_size, config.hidden, self._generator)
        self.critic = TwinCritic(observation_size + action_size, config.hidden, self._generator)
        self.actor_target = deepcopy(self.actor).requires_grad_(False)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self._actor = Trained(self.actor, config.actor_learning_rate, config.optimizer)
        self._critic = Trained(self.critic, config.critic_learning_rate, config.optimizer)
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
            action: Array = self.actor(torch.tensor(observations)).numpy()
        action += np.float32(self.exploration) * self._rng.standard_normal(shape, np.float32)
        np.maximum(action, -1.0, out=action)
        np.minimum(action, 1.0, out=action)
        return action

    def _best(self, observations: Tensor) -> Tensor:
        action: Tensor = self.actor(observations)
        return action

    def _learn(self, batch: Batch) -> None:
        """Take one iteration of algorithm 1's inner loop."""
        self._update_critic(batch)
        if (self.updates + 1) % self.config.policy_delay == 0:
            self._update_actor(batch)
            with torch.no_grad():  # theta' <- tau theta + (1 - tau) theta'
                torch._foreach_lerp_(self._targets, self._networks, self.config.tau)

    def _target_value(self, batch: Batch) -> Tensor:
        """Clipped double Q-learning with target policy smoothing (equations 10 and 14): (B,)."""
        config = self.config
        with torch.no_grad():
            action = self.actor_target(batch.next_observation)
            noise = torch.empty_like(action).normal_(generator=self._generator)
            noise.mul_(config.policy_noise).clamp_(-config.noise_clip, config.noise_clip)
            action.add_(noise).clamp_(-1.0, 1.0)
            observation_action = torch.cat((batch.next_observation, action), 1)
            value: Tensor = self.critic_target(observation_action).amin(0)
            return batch.reward + batch.discount * value

    def _update_critic(self, batch: Batch) -> None:
        """Regress both critics on the target, weighted by importance; renew the priorities."""
        target = self._target_value(batch)
        value = self.critic(batch.observation_action)
        td_error = value - target
        loss = (batch.weights * td_error.square()).mean(1).sum()
        self._descend(self._critic, loss, batch, target=target, value=value)
        # The larger error of the two critics, as Fujimoto et al. 2020 (LAP) prioritise TD3.
        self.replay.update_priorities(batch.indices, td_error.detach().abs().amax(0))
        self._metrics.add("critic_loss", loss.item())
        self._metrics.add("value", value.detach().mean().item())

    def _update_actor(self, batch: Batch) -> None:
        """Ascend the first critic's value (algorithm 1, deterministic policy gradient)."""
        action = self.actor(batch.observation)
        loss = -self.critic.first(torch.cat((batch.observation, action), 1)).mean()
        self._descend(self._actor, loss, batch)
        self._metrics.add("actor_loss", loss.item())

    def _present(self) -> dict[str, float]:
        return {"exploration": self.exploration, **super()._present()}
