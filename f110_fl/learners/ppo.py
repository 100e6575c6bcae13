"""Proximal policy optimisation, PPO (Schulman et al. 2017), with a clipped surrogate.

``docs/deviations.md`` lists what differs from the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.learner_config import PPOConfig
from f110_fl.learners.base import (
    Array,
    LearningError,
    Means,
    Policy,
    Transitions,
    entry,
    pack_generator,
    unpack_generator,
)
from f110_fl.learners.gaussian import LOG_SQRT_2_PI, GaussianActor, Mlp
from f110_fl.learners.networks import load_named, make_adam, named_tensors
from f110_fl.learners.rollout import Rollout, generalised_advantages

Int = NDArray[np.int64]


class Batch(NamedTuple):
    """B samples of a rollout."""

    observation: Tensor  # (B, D)
    action: Tensor  # (B, A)
    log_prob: Tensor  # (B,)
    value: Tensor  # (B,), of the critic at the start of the update
    advantage: Tensor  # (B,)


class PPO:
    """A PPO agent; implements ``f110_fl.learners.Learner``.

    Args:
        config: Hyperparameters.
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from, N.
    """

    def __init__(
        self,
        config: PPOConfig,
        observation_size: int,
        action_size: int,
        seed: np.random.SeedSequence,
        *,
        num_envs: int = 1,
    ) -> None:
        self.config = config
        self.steps = 0  # transitions observed
        self.updates = 0  # gradient steps
        explore, shuffle, initial = (
            np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, stream))
            for stream in range(3)
        )
        self._explore_rng = np.random.default_rng(explore)
        self._shuffle_rng = np.random.default_rng(shuffle)
        generator = torch.Generator().manual_seed(int(initial.generate_state(1)[0]))
        actor_sizes = (observation_size, *config.actor_hidden, action_size)
        critic_sizes = (observation_size, *config.critic_hidden, 1)
        gains = (0.01, 1.0) if config.orthogonal_init else (None, None)
        self.actor = GaussianActor(
            actor_sizes, config.activation, gains[0], config.initial_log_std, generator
        )
        self.critic = Mlp(critic_sizes, config.activation, gains[1], generator)
        self.optimizers = {
            "actor": make_adam(self.actor, config.learning_rate),
            "critic": make_adam(self.critic, config.learning_rate),
        }
        networks = {"actor": self.actor, "critic": self.critic}
        self._tensors = named_tensors(networks, self.optimizers)
        self._parameters = [p for network in networks.values() for p in network.parameters()]
        self.rollout = Rollout(config.rollout_steps, num_envs, observation_size, action_size)
        self._noise = np.zeros((num_envs, action_size), np.float32)
        self._metrics = Means()
        self._mu = 0.0
        self._anchors: list[Tensor] = []

    @property
    def learning_rate(self) -> float:
        """Step size of both optimizers now."""
        config = self.config
        if config.anneal_steps is None:
            return config.learning_rate
        return config.learning_rate * max(0.0, 1.0 - self.steps / config.anneal_steps)

    def act(self, observations: Array, envs: Int) -> Array:
        """Draw actions (M, A) for observations (M, D); see ``Learner.act``."""
        # All N rows are drawn: an environment's noise does not depend on which others run.
        self._explore_rng.standard_normal(out=self._noise, dtype=np.float32)
        noise = self._noise[envs]
        with torch.inference_mode():
            mean = self.actor(torch.tensor(observations)).numpy()
        log_std = self.actor.log_std.detach().numpy()
        action = mean + np.exp(log_std) * noise
        log_prob = -0.5 * np.square(noise).sum(1) - (log_std + LOG_SQRT_2_PI).sum()
        self.rollout.begin(envs, observations, action, log_prob)
        clipped: Array = np.clip(action, -1.0, 1.0)
        return clipped

    def observe(self, transitions: Transitions) -> None:
        """Take in what the latest actions led to; see ``Learner.observe``.

        Raises:
            LearningError: If a reward is not finite.
        """
        if not np.isfinite(transitions.reward).all():
            env = transitions.envs[~np.isfinite(transitions.reward)][0]
            raise LearningError(f"reward of environment {env} is not finite at step {self.steps}")
        self.rollout.complete(transitions, transitions.reward)
        self.steps += len(transitions.envs)

    def policy(self, num_envs: int) -> Policy:  # noqa: ARG002 - it remembers nothing
        """Return the policy of mean actions; see ``Learner.policy``."""
        return GreedyPolicy(self.actor)

    def update(self) -> None:
        """Learn from the rollout if it is full.

        Raises:
            LearningError: If a loss or a gradient is not finite; no optimizer has used it.
        """
        if not self.rollout.full:
            return
        if self.rollout.mask.any():
            self._learn(self._samples())
        self.rollout.clear()

    def _samples(self) -> Batch:
        """All present rows of the rollout, with values and advantages."""
        rollout, config = self.rollout, self.config
        present = torch.from_numpy(np.flatnonzero(rollout.mask))
        observation = torch.from_numpy(rollout.observation).flatten(0, 1)[present]
        value, beyond = np.zeros((2, *rollout.mask.shape), np.float32)
        with torch.no_grad():
            value.reshape(-1)[present] = self.critic(observation)[:, 0]
            tail = self.critic(torch.from_numpy(rollout.latest))[:, 0].numpy()
            if rollout.cut:
                t, n, last = zip(*rollout.cut, strict=True)
                beyond[t, n] = self.critic(torch.from_numpy(np.stack(last)))[:, 0]
        advantage = np.zeros_like(value)
        generalised_advantages(
            rollout.reward,
            value,
            beyond,
            tail,
            rollout.ended,
            rollout.mask,
            config.discount,
            config.gae_lambda,
            advantage,
        )
        return Batch(
            observation,
            torch.from_numpy(rollout.action).flatten(0, 1)[present],
            torch.from_numpy(rollout.log_prob).flatten()[present],
            torch.from_numpy(value).flatten()[present],
            torch.from_numpy(advantage).flatten()[present],
        )

    def _learn(self, samples: Batch) -> None:
        """Take the epochs' gradient steps (algorithm 1)."""
        config = self.config
        returns = samples.advantage + samples.value
        unexplained = samples.advantage.var(correction=0) / returns.var(correction=0)
        self._metrics.add("explained_variance", 1.0 - unexplained.item())
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = self.learning_rate
        count = len(returns)
        for _ in range(config.epochs):
            order = torch.from_numpy(self._shuffle_rng.permutation(count))
            shuffled = Batch(*(part[order] for part in samples))
            edges = np.linspace(0, count, min(config.minibatches, count) + 1).astype(int).tolist()
            for start, stop in pairwise(edges):
                if not self._step(Batch(*(part[start:stop] for part in shuffled))):
                    return

    def _step(self, batch: Batch) -> bool:
        """Take a gradient step; return False, without it, if the policy has moved too far."""
        config = self.config
        advantage = batch.advantage
        if config.normalise_advantages and len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        log_ratio = self.actor.log_prob(self.actor(batch.observation), batch.action)
        log_ratio = log_ratio - batch.log_prob
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1.0 - config.clip_range, 1.0 + config.clip_range)
        policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        value = self.critic(batch.observation)[:, 0]
        errors = (value - batch.value - batch.advantage).square()
        if config.value_clip is not None:
            change = (value - batch.value).clamp(-config.value_clip, config.value_clip)
            errors = torch.maximum(errors, (change - batch.advantage).square())
        value_loss = errors.mean()
        entropy = self.actor.entropy()
        loss = (
            policy_loss
            + config.value_coefficient * value_loss
            - config.entropy_coefficient * entropy
        )
        with torch.no_grad():
            kl = (ratio - 1.0 - log_ratio).mean().item()
        if config.target_kl is not None and kl > 1.5 * config.target_kl:
            return False
        self._descend(loss, batch)
        self.updates += 1
        self._metrics.add("policy_loss", policy_loss.item())
        self._metrics.add("value_loss", value_loss.item())
        self._metrics.add("entropy", entropy.item())
        self._metrics.add("kl", kl)
        return True

    def _descend(self, loss: Tensor, batch: Batch) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        torch.autograd.backward(loss)
        if self._mu:
            for parameter, anchor in zip(self._parameters, self._anchors, strict=True):
                assert parameter.grad is not None  # noqa: S101 - backward has just filled it
                parameter.grad.add_(parameter.detach() - anchor, alpha=self._mu)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm)
        self._check(loss.item() + norm.item(), batch)
        for optimizer in self.optimizers.values():
            optimizer.step()

    def _check(self, value: float, batch: Batch) -> None:
        """Raise ``LearningError`` if ``value`` is not finite, naming the first tensor at fault."""
        if math.isfinite(value):
            return
        suspects = {**batch._asdict(), **self._tensors}
        name = next((k for k, v in suspects.items() if not torch.isfinite(v).all()), "loss")
        raise LearningError(f"{name} is not finite at step {self.steps}, update {self.updates}")

    def pop_metrics(self) -> dict[str, float]:
        """Means since the last call; see ``Learner``."""
        return self._metrics.pop()

    def tensors(self) -> dict[str, Tensor]:
        """Networks and moments by name; see ``Learner.tensors``."""
        return dict(self._tensors)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy any subset of ``tensors()`` in; a rollout that has begun goes on.

        Raises:
            ValueError: If a name is unknown or a shape is wrong; then nothing is loaded.
        """
        load_named(self._tensors, tensors)

    def hold_near(self, mu: float) -> None:
        """Pull actor and critic to where they are now; see ``Learner.hold_near``."""
        self._mu = mu
        self._anchors = [p.detach().clone() for p in self._parameters] if mu else []

    def local_state(self) -> dict[str, Tensor]:
        """Counters, generators and the rollout that has begun; see ``Learner``."""
        state = {
            "steps": torch.tensor(self.steps),
            "updates": torch.tensor(self.updates),
            "explore_rng": pack_generator(self._explore_rng),
            "shuffle_rng": pack_generator(self._shuffle_rng),
        }
        return state | {f"rollout/{k}": v for k, v in self.rollout.local_state().items()}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or does not fit this learner.
        """
        self.rollout.load_local_state(
            {k.removeprefix("rollout/"): v for k, v in state.items() if k.startswith("rollout/")}
        )
        self.steps = int(entry(state, "steps"))
        self.updates = int(entry(state, "updates"))
        unpack_generator(self._explore_rng, entry(state, "explore_rng"))
        unpack_generator(self._shuffle_rng, entry(state, "shuffle_rng"))

    def write_journal(self) -> None:
        """Nothing: ``local_state`` is complete."""

    def apply_journal(self) -> None:
        """Nothing: ``local_state`` is complete."""


class GreedyPolicy:
    """Takes the mean action; implements ``Policy``."""

    def __init__(self, actor: GaussianActor) -> None:
        self._actor = actor

    def reset(self, envs: Int) -> None:
        """Nothing: it remembers nothing."""

    def act(self, observations: Array, envs: Int) -> Array:  # noqa: ARG002 - see ``Policy``
        """Choose actions (M, A) for observations (M, D); see ``Policy.act``."""
        with torch.inference_mode():
            action: Array = self._actor(torch.tensor(observations)).numpy()
        return np.clip(action, -1.0, 1.0, out=action)
