"""Deep Q-network, DQN (Mnih et al. 2015), and its extensions.

Double (van Hasselt et al. 2016), duelling (Wang et al. 2016), prioritised (Schaul et al. 2016),
n-step and noisy (Fortunato et al. 2018). ``docs/deviations.md`` lists what differs from the
papers.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor

from f110_fl.config.learners import DQNConfig, EpsilonGreedy, NoisyNets, SoftTarget
from f110_fl.learners.base import Array
from f110_fl.learners.device import Host
from f110_fl.learners.networks.q_network import Noise, QNetwork
from f110_fl.learners.off_policy.learner import OffPolicyLearner
from f110_fl.learners.off_policy.replay import Batch
from f110_fl.learners.optimizer import Loss, Trained


class DQN(OffPolicyLearner):
    """A DQN agent on a grid of actions; implements ``f110_fl.learners.Learner``.

    Args:
        config: Hyperparameters.
        observation_size: D.
        action_size: A, must be 2: steering and speed.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from together.
        replay_path: File of the replay buffer, which holds the actions' numbers; None keeps it
            in memory.
        place: Where networks, moments and batches are.

    Raises:
        ValueError: If there are not two actions.
    """

    config: DQNConfig

    def __init__(
        self,
        config: DQNConfig,
        observation_size: int,
        action_size: int,
        seed: np.random.SeedSequence,
        *,
        num_envs: int = 1,
        replay_path: Path | None = None,
        place: Host,
    ) -> None:
        if action_size != 2:
            raise ValueError(f"DQN chooses steering and speed, not {action_size} actions")
        super().__init__(
            config,
            observation_size,
            1,
            seed,
            num_envs=num_envs,
            replay_path=replay_path,
            place=place,
        )
        grid = list(product(config.actions.steering, config.actions.speed))
        self.actions: Array = np.array(grid, dtype=np.float32)  # (K, 2)
        noisy = config.exploration
        self.q = QNetwork(
            observation_size,
            len(grid),
            config.hidden,
            duelling=config.duelling,
            sigma=noisy.sigma if isinstance(noisy, NoisyNets) else None,
            generator=self._generator,
        ).to(place.device)
        self.q_target = deepcopy(self.q).requires_grad_(False)
        run = place.runner()
        self._trained_q = Trained(self.q, config.learning_rate, config.optimizer, run)
        self._own(
            {"q": self.q, "q_target": self.q_target},
            {"q": self._trained_q},
        )
        self._networks: list[Tensor] = list(self.q.parameters())
        self._targets: list[Tensor] = list(self.q_target.parameters())
        self._table = torch.from_numpy(self.actions).to(place.device)
        self._feeds = [place.feed() for _ in range(3)]

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
            device = self._place.device
            with torch.inference_mode():
                noise = [part.to(device) for part in self.q.draw_noise(self._generator)]
                value = self.q(torch.tensor(observations, device=device), noise)
            chosen = np.where(random, chosen, value.argmax(1).cpu().numpy())
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

    def _noises(self) -> list[Noise]:
        """Draw the noise of the target, of what picks in double DQN, and of what learns."""
        picks = [self.q] if self.config.double else []
        networks = [self.q_target, *picks, self.q]
        pairs = zip(self._feeds, networks, strict=False)
        return [feed(network.draw_noise(self._generator)) for feed, network in pairs]

    def _target_value(self, batch: Batch, noises: list[Noise]) -> Tensor:
        """What the values should be: (B,), double DQN's if wanted (van Hasselt 2016, eq. 4)."""
        following = batch.next_observation
        with torch.no_grad():
            value: Tensor = self.q_target(following, noises[0])
            if self.config.double:
                best = self.q(following, noises[1]).argmax(1, keepdim=True)
                value = value.gather(1, best)[:, 0]
            else:
                value = value.amax(1)
            return batch.reward + batch.discount * value

    def _learn(self, batch: Batch) -> None:
        """Regress the values of the actions taken on the targets; renew the priorities."""
        noises = self._noises()
        loss = self._descend(self._trained_q, lambda: self._loss(batch, noises), batch)
        self.replay.update_priorities(batch.indices, loss.parts["td_error"])
        self._follow()
        self._metrics.add("critic_loss", loss.value.item())
        self._metrics.add("value", loss.parts["value"].mean().item())

    def _loss(self, batch: Batch, noises: list[Noise]) -> Loss:
        """Huber's loss of the values of the actions taken, weighted by importance."""
        target = self._target_value(batch, noises)
        values = self.q(batch.observation, noises[-1])
        value = values.gather(1, batch.action.long())[:, 0]
        errors = F.huber_loss(value, target, reduction="none", delta=self.config.huber)
        loss = (batch.weights * errors).mean()
        value = value.detach()
        return Loss(loss, {"target": target, "value": value, "td_error": value - target})

    def _follow(self) -> None:
        """Bring the target network nearer."""
        rule = self.config.target
        with torch.no_grad():
            if isinstance(rule, SoftTarget):
                torch._foreach_lerp_(self._targets, self._networks, rule.tau)
            elif (self.updates + 1) % rule.updates == 0:
                torch._foreach_copy_(self._targets, self._networks)

    def _present(self) -> dict[str, float]:
        return {"exploration": self.exploration, **super()._present()}
