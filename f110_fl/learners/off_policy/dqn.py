"""Deep Q-network, DQN (Mnih et al. 2015), and its extensions.

Double (van Hasselt et al. 2016), duelling (Wang et al. 2016), prioritised (Schaul et al. 2016),
n-step and noisy (Fortunato et al. 2018). ``docs/deviations.md`` lists what differs from the
papers.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor

from f110_fl.config.learners import DQNConfig, EpsilonGreedy, HardTarget, NoisyNets, SoftTarget
from f110_fl.learners.base import Array, LearnerSetup, ObservationParts
from f110_fl.learners.device import to_array, to_device
from f110_fl.learners.networks.encoder import make_encoder
from f110_fl.learners.networks.q_network import Noise, QNetwork
from f110_fl.learners.off_policy.learner import OffPolicyLearner, relu_policy
from f110_fl.learners.off_policy.recorded import make_pass
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.learners.optimizer import Adam
from sim.layout import COMMAND_SIGNS
from sim.policy import PolicyFormat


class DQN(OffPolicyLearner):
    """A DQN agent on a grid of actions; implements ``f110_fl.learners.base.Learner``.

    The replay buffer holds the actions' numbers in the grid.

    Args:
        config: Hyperparameters.
        setup: What else it is made with; there must be two actions, steering and speed.

    Raises:
        ValueError: If there are not two actions.
    """

    config: DQNConfig

    def __init__(self, config: DQNConfig, setup: LearnerSetup) -> None:
        if setup.action_size != 2:
            raise ValueError(f"DQN chooses steering and speed, not {setup.action_size} actions")
        super().__init__(config, setup, stored_size=1)
        self.actions: Array = np.array(_grid(config), dtype=np.float32)  # (K, 2)
        noisy = config.exploration
        self.q = QNetwork(
            setup.observation_size,
            len(self.actions),
            config.hidden,
            duelling=config.duelling,
            sigma=noisy.sigma if isinstance(noisy, NoisyNets) else None,
            generator=self._generator,
            encoder=make_encoder(config.encoder, setup.observation, self._generator),
        ).to(setup.device)
        self.q_target = deepcopy(self.q).requires_grad_(False)
        self.optimizer = Adam([self.q], config.learning_rate, config.optimizer)
        self._register({"q": self.q, "q_target": self.q_target}, {"q": self.optimizer})
        self._table = to_device(self.actions, setup.device)
        self._pass = make_pass(setup.device)
        if config.mirror:
            self._mirror_table = torch.from_numpy(self._mirror_numbers())

    @staticmethod
    def policy_format(config: DQNConfig, observation: ObservationParts) -> PolicyFormat | None:
        """Name the mean weights of the layers; see ``Learner.policy_format``."""
        how = {"output": "argmax", "actions": tuple(_grid(config)), "duelling": config.duelling}
        return relu_policy("q", config, observation, **how)

    @property
    def exploration(self) -> float:
        """Probability of a random action now."""
        config = self.config.exploration
        if self.steps < self.config.warmup_steps:
            return 1.0
        if not isinstance(config, EpsilonGreedy):
            return 0.0
        progress = min(1.0, self.steps / config.steps)
        return config.start + progress * (config.end - config.start)

    def _explore(self, observations: Array) -> Array:
        """Choose the best actions, of noisy weights if wanted, or random ones."""
        count, choices = len(observations), len(self.actions)
        random = self._rng.random(count) < self.exploration
        chosen = self._rng.integers(0, choices, count)
        if not random.all():
            with torch.inference_mode():
                seen = torch.tensor(observations, device=self._device)
                value = self.q(seen, self.q.draw_noise(self._generator))
            chosen = np.where(random, chosen, to_array(value.argmax(1)))
        return self.actions.take(chosen, axis=0)

    def _best(self, observations: Tensor) -> Tensor:
        """Best actions of the mean weights."""
        return self._table[self.q(observations).argmax(1)]

    def _stored(self, actions: Array) -> Array:
        """Numbers of actions (M, 2) in the grid: (M, 1).

        Raises:
            ValueError: If one is not in the grid.
        """
        equal = (actions[:, None] == self.actions).all(2)
        if not equal.any(1).all():
            wrong = actions[~equal.any(1)][0].tolist()
            raise ValueError(f"action {wrong} is not one that DQN chooses from")
        numbers: Array = equal.argmax(1).astype(np.float32)[:, None]
        return numbers

    def _mirror_numbers(self) -> Array:
        """Return the number of each action's mirror image: (K, 1)."""
        return self._stored(self.actions * np.array(COMMAND_SIGNS, np.float32))

    def _mirrored(self, stored: Tensor) -> Tensor:
        return self._mirror_table[stored[:, 0].long()]

    def _learn(self, batch: Batch) -> None:
        """Regress the values of the actions taken on the targets; renew the priorities."""
        uses = 3 if self.config.double else 2  # of networks in the loss, each with other noise
        noises = [self.q.draw_noise(self._generator) for _ in range(uses)]
        loss, td_error, value = self._pass(self._loss, batch, *noises)
        self._step(self.optimizer, loss, batch)
        self.replay.update_priorities(batch.indices, td_error)
        self._metrics.add("critic_loss", loss.item())
        self._metrics.add("value", value.item())
        self._renew_target()

    def _loss(self, batch: Batch, *noises: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, the errors (B,) and the mean value; a `Pass` calls it.

        Args:
            batch: B transitions.
            *noises: Of the networks, in `_target_value` and then here.
        """
        target = self._target_value(batch, *noises[:-1])
        values = self.q(batch.observation, noises[-1])
        value = values.gather(1, batch.action.long())[:, 0]
        errors = F.huber_loss(value, target, reduction="none", delta=self.config.huber)
        loss = (batch.weights * errors).mean()
        self.optimizer.zero_grad()
        loss.backward(inputs=self.optimizer.parameters)
        value = value.detach()
        return loss.detach(), value - target, value.mean()

    @torch.no_grad()
    def _target_value(self, batch: Batch, *noises: Noise) -> Tensor:
        """What the values should be: (B,), double DQN's if wanted (van Hasselt 2016, eq. 4)."""
        following = batch.next_observation
        value: Tensor = self.q_target(following, noises[0])
        if self.config.double:
            choice = self.q(following, noises[1])
            value = value.gather(1, choice.argmax(1, keepdim=True))[:, 0]
        else:
            value = value.amax(1)
        return batch.reward + batch.discount * value

    def _renew_target(self) -> None:
        """Bring the target network nearer, or make it a copy when that is due."""
        match self.config.target:
            case SoftTarget(tau=tau):
                self._follow(tau)
            case HardTarget(updates=updates):
                if (self.updates + 1) % updates == 0:
                    self.q_target.load_state_dict(self.q.state_dict())

    def _present(self) -> dict[str, float]:
        return {"exploration": self.exploration, **super()._present()}


def _grid(config: DQNConfig) -> list[tuple[float, float]]:
    """Return every steering with every speed."""
    return list(product(config.actions.steering, config.actions.speed))
