"""Proximal policy optimisation, PPO (Schulman et al. 2017), with a clipped surrogate.

``docs/deviations.md`` lists what differs from the paper.
"""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.config.learners import OptimizerConfig, PPOConfig
from f110_fl.learners.base import Array, LearnerSetup, ObservationParts, Transitions
from f110_fl.learners.common import BaseLearner, Part
from f110_fl.learners.device import to_array
from f110_fl.learners.networks.lstm import Lstm
from f110_fl.learners.networks.mlp import GaussianActor, Mlp
from f110_fl.learners.normaliser import Normaliser, format_entries
from f110_fl.learners.optimizer import FlatAdam, flushed_denormals
from f110_fl.learners.ppo.feedforward import FeedForward, FeedForwardMean
from f110_fl.learners.ppo.loss import LOG_SQRT_2_PI, Losses, Samples, Surrogate, entropy
from f110_fl.learners.ppo.recurrent import Recurrent, RecurrentMean
from f110_fl.learners.ppo.rollout import Rollout, generalised_advantages
from f110_fl.learners.state import layer_names, named_tensors
from sim.policy import MemoryFormat, PolicyFormat

Int = NDArray[np.int64]


class PPO(BaseLearner):
    """A PPO agent; implements ``f110_fl.learners.base.Learner``.

    The loss is computed on the CPU, wherever the networks are: it only needs their outputs.

    Args:
        config: Hyperparameters.
        setup: What else it is made with.
    """

    def __init__(self, config: PPOConfig, setup: LearnerSetup) -> None:
        super().__init__(config, setup, config.discount, normalise_rewards=config.normalise_rewards)
        self.config = config
        explore, shuffle, initial = setup.streams(3)
        self._explore_rng = np.random.default_rng(explore)
        self._shuffle_rng = np.random.default_rng(shuffle)
        size, action_size, num_envs = setup.observation_size, setup.action_size, setup.num_envs
        generator = torch.Generator().manual_seed(int(initial.generate_state(1)[0]))
        self.actor, self.critic, lstms = _networks(config, size, action_size, generator)
        networks = {"actor": self.actor.to(setup.device), "critic": self.critic.to(setup.device)}
        self._adam = FlatAdam(
            list(networks.values()),
            config.learning_rate,
            OptimizerConfig(schedule=config.schedule, max_grad_norm=config.max_grad_norm),
            config.adam_epsilon,
        )
        self.rollout = Rollout(config.rollout_steps, num_envs, size, action_size)
        self._tensors = named_tensors(networks, dict.fromkeys(networks, self._adam))
        self._tensors |= self.normaliser.tensors()
        self._model: FeedForward | Recurrent
        if config.lstm is None:
            self._model = FeedForward(self.actor, self.critic, self.rollout)
        else:
            length = config.lstm.sequence
            self._model = Recurrent(self.actor, self.critic, lstms, self.rollout, length)
        self._surrogate = Surrogate(config, 1, action_size)
        self._noise = np.zeros((num_envs, action_size), np.float32)
        self._log_std = self.actor.log_std.detach()

    @staticmethod
    def policy_format(config: PPOConfig, observation: ObservationParts) -> PolicyFormat | None:
        """Name the actor's layers and memory; see ``Learner.policy_format``."""
        names = {part: f"model/actor/lstm.{part}" for part in ("input", "hidden", "bias")}
        return PolicyFormat(
            memory=None if config.lstm is None else MemoryFormat(**names),
            layers=layer_names("actor", config.actor_hidden),
            activation=config.activation,
            output="clip",
            observation=observation,
            **format_entries(config.normalise_observations),
        )

    @property
    def learning_rate(self) -> float:
        """Step size of the next update."""
        return self._adam.learning_rate(self.updates)

    def act(self, observations: Array, envs: Int) -> Array:
        """Draw actions (M, A) for observations (M, D); see ``Learner.act``."""
        # All N rows are drawn: an environment's noise does not depend on which others run.
        self._explore_rng.standard_normal(out=self._noise, dtype=np.float32)
        noise = self._noise[envs]
        self.normaliser.count(observations)
        seen = self.normaliser.observations(observations)
        action = self._model.mean(seen, envs)
        log_std = to_array(self._log_std)
        action += np.exp(log_std) * noise
        log_prob = -0.5 * np.square(noise).sum(1) - (log_std + LOG_SQRT_2_PI).sum()
        self.rollout.begin(envs, seen, action, log_prob)
        return _bounded(action)

    def observe(self, transitions: Transitions) -> None:
        """Take in what the latest actions led to; see ``Learner.observe``."""
        self._count(transitions)
        self.rollout.complete(transitions, self.normaliser.rewards(transitions.reward))
        ended = transitions.terminated | transitions.truncated
        if ended.any():
            self._model.reset(transitions.envs[ended])

    def policy(self, num_envs: int) -> MeanPolicy:
        """Return the policy of mean actions; see ``Learner.policy``."""
        return MeanPolicy(self._model.policy(num_envs), self.normaliser)

    def update(self) -> None:
        """Learn from the rollout if it is full; see ``Learner.update``."""
        if self.rollout.full:
            if self.rollout.mask.any():
                with torch.inference_mode(), flushed_denormals():
                    self._learn()
                self.updates += 1
            self.rollout.clear()

    def _learn(self) -> None:
        """Take the gradient steps of all epochs (algorithm 1)."""
        config = self.config
        samples = self._samples()
        totals, taken = np.zeros(len(Losses._fields)), 0
        epochs = (
            self._model.minibatches(self._shuffle_rng, config.minibatches)
            for _ in range(config.epochs)
        )
        for chosen in chain.from_iterable(epochs):
            losses, stop = self._step(samples, chosen)
            totals += losses
            taken += 1
            if stop:
                break
        for name, total in zip(Losses._fields, totals.tolist(), strict=True):
            self._metrics.add(name, total / taken)
        self._metrics.add("entropy", entropy(to_array(self._log_std)))
        self._metrics.add("learning_rate", self.learning_rate)

    def _samples(self) -> Samples:
        """Return the rollout's T * N rows with values and advantages."""
        rollout, config = self.rollout, self.config
        value, last_value, truncated = self._model.values(
            self.normaliser.observations(rollout.last_observation),
            self.normaliser.observations(rollout.truncated_observations()),
        )
        bootstrap_value, advantage = np.zeros((2, *value.shape), np.float32)
        for (t, n, _), x in zip(rollout.truncated, truncated, strict=True):
            bootstrap_value[t, n] = x
        generalised_advantages(
            rollout.reward,
            value,
            bootstrap_value,
            last_value,
            rollout.ended,
            rollout.mask,
            config.discount,
            config.gae_lambda,
            advantage,
        )
        found, expected = advantage[rollout.mask], value[rollout.mask]
        spread = float(np.var(found + expected))
        if spread > 0.0:
            self._metrics.add("explained_variance", 1.0 - float(np.var(found)) / spread)
        action = rollout.action.reshape(-1, rollout.action.shape[-1])
        return Samples(action, *(x.reshape(-1) for x in (rollout.log_prob, value, advantage)))

    def _step(self, samples: Samples, chosen: Int) -> tuple[Losses, bool]:
        """Take a gradient step, unless the policy has moved too far, and return whether it has."""
        config, adam = self.config, self._adam
        mean, value = self._model.forward(chosen)
        if self._surrogate.rows != len(chosen):
            self._surrogate = Surrogate(config, *mean.shape)
        surrogate = self._surrogate
        log_std = to_array(self._log_std)
        losses = surrogate.evaluate(samples, chosen, mean, log_std, value)
        if config.target_kl is not None and losses.kl > 1.5 * config.target_kl:
            return losses, True
        self._model.backward(surrogate.d_mean, surrogate.d_value)
        assert self.actor.log_std.grad is not None  # noqa: S101 - `FlatAdam` has made it
        self.actor.log_std.grad.copy_(torch.from_numpy(surrogate.d_log_std))
        norm = adam.adjust_gradients()
        if not math.isfinite(norm + sum(losses)):
            self._fail(self._suspects(samples, chosen))
        adam.step(self.updates)
        return losses, False

    def _suspects(self, samples: Samples, chosen: Int) -> dict[str, Tensor]:
        """Return what may have made a loss infinite or not a number."""
        observation = self.rollout.observation.reshape(len(samples.value), -1)
        suspects = {"observation": torch.from_numpy(observation[chosen]), **self._tensors}
        suspects |= {k: torch.from_numpy(v[chosen]) for k, v in samples._asdict().items()}
        return suspects | {"gradient": self._adam.gradient}

    def set_proximal(self, mu: float) -> None:
        """Pull actor and critic towards what they are now; see ``Learner.set_proximal``."""
        self._adam.set_proximal(mu)

    def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {"rollout": self.rollout, "normaliser": self.normaliser}
        return parts | {"model": self._model} if isinstance(self._model, Recurrent) else parts

    def _generators(self) -> dict[str, np.random.Generator]:
        return {"explore_rng": self._explore_rng, "shuffle_rng": self._shuffle_rng}


class MeanPolicy:
    """Takes the mean action; implements ``f110_fl.learners.base.Policy``."""

    def __init__(self, mean: FeedForwardMean | RecurrentMean, normaliser: Normaliser) -> None:
        self._mean = mean
        self._normaliser = normaliser
        self.reset = mean.reset

    def act(self, observations: Array, envs: Int) -> Array:
        """Choose actions (M, A) for observations (M, D); see ``Policy.act``."""
        return _bounded(self._mean(self._normaliser.observations(observations), envs))


def _bounded(action: Array) -> Array:
    """Return the actions within [-1, 1]."""
    return np.minimum(np.maximum(action, -1.0), 1.0)  # np.clip takes three times as long


def _networks(
    config: PPOConfig, observation_size: int, action_size: int, generator: torch.Generator
) -> tuple[GaussianActor, Mlp, list[Lstm]]:
    """Return actor and critic with their initial weights, and the memories of both, if any."""
    inputs = observation_size if config.lstm is None else config.lstm.units
    gains = (0.01, 1.0) if config.orthogonal_init else (None, None)
    actor = GaussianActor(
        (inputs, *config.actor_hidden, action_size),
        config.activation,
        gains[0],
        config.initial_log_std,
        generator,
    )
    critic = Mlp((inputs, *config.critic_hidden, 1), config.activation, gains[1], generator)
    if config.lstm is None:
        return actor, critic, []
    orthogonal = config.orthogonal_init
    lstms = [
        Lstm(observation_size, inputs, orthogonal=orthogonal, generator=generator)
        for _ in (actor, critic)
    ]
    actor.lstm, critic.lstm = lstms
    return actor, critic, lstms
