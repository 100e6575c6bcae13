"""Policy and value networks that see one observation, as PPO uses them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from f110_fl.learners.base import Array
from f110_fl.learners.device import to_array, to_device
from f110_fl.learners.networks.mlp import GaussianActor, Mlp, MlpPass
from f110_fl.learners.ppo.rollout import Rollout, minibatches

Int = NDArray[np.int64]


class FeedForwardMean:
    """Means of a policy's actions in N environments."""

    def __init__(self, actor: GaussianActor, num_envs: int) -> None:
        self._pass = MlpPass(actor, num_envs)
        self._device = actor.log_std.device
        self._rows = np.zeros((num_envs, actor.weights[0].shape[1]), np.float32)

    def reset(self, envs: Int) -> None:
        """Do nothing: it remembers nothing."""

    def __call__(self, observations: Array, envs: Int) -> Array:
        """Return the means (M, A) for observations (M, D) of the environments (M,)."""
        # All N rows, always: what one environment gets does not depend on which others run.
        self._rows[envs] = observations
        mean: Array = to_array(self._pass.forward(to_device(self._rows, self._device)))[envs]
        return mean


class FeedForward:
    """Actor and critic on the samples of a rollout, on the device where they are.

    Args:
        actor: Policy; its parameters have gradients to write to, as have the critic's.
        critic: Value of the same observations.
        rollout: What to learn from.
    """

    def __init__(self, actor: GaussianActor, critic: Mlp, rollout: Rollout) -> None:
        self._actor, self._critic, self._rollout = actor, critic, rollout
        self._device = actor.log_std.device
        self._collected = torch.from_numpy(rollout.observation).flatten(0, 1)
        self._observations = self._collected.to(self._device)  # as of the latest `values`
        self._resize(1)
        self.mean = FeedForwardMean(actor, len(rollout.last_observation))
        self.reset = self.mean.reset

    def _resize(self, rows: int) -> None:
        self._actor_pass = MlpPass(self._actor, rows)
        self._critic_pass = MlpPass(self._critic, rows)
        self._batch = self._observations.new_empty(rows, self._observations.shape[1])

    def policy(self, num_envs: int) -> FeedForwardMean:
        """Return the action means for ``num_envs`` environments of their own."""
        return FeedForwardMean(self._actor, num_envs)

    def values(self, last: Array, truncated: Array) -> tuple[Array, Array, Array]:
        """Return the critic's values now.

        Args:
            last: (N, D), what follows each environment's last step.
            truncated: (K, D), what follows the steps in ``Rollout.truncated``.

        Returns:
            Values of the rollout's observations (T, N), of ``last`` (N,) and ``truncated`` (K,).
        """
        self._observations = self._collected.to(self._device)
        value = self._critic(self._observations).view(self._rollout.mask.shape)
        last_value, bootstrap = (
            to_array(self._critic(to_device(x, self._device))[:, 0]) for x in (last, truncated)
        )
        return to_array(value), last_value, bootstrap

    def minibatches(self, rng: np.random.Generator, count: int) -> Iterator[Int]:
        """Partition the present samples at random; see `f110_fl.learners.ppo.rollout.minibatches`.

        Args:
            rng: Shuffles the samples.
            count: Minibatches, if there are as many samples.

        Yields:
            Indices (B,) into the rollout's T * N rows.
        """
        parts = minibatches(rng.permutation(np.flatnonzero(self._rollout.mask)), count)
        if parts.shape[1] != self._actor_pass.rows:
            self._resize(parts.shape[1])
        yield from parts

    def forward(self, chosen: Int) -> tuple[Array, Array]:
        """Return the means (B, A) and values (B, 1) of a minibatch."""
        rows = to_device(chosen, self._device)
        torch.index_select(self._observations, 0, rows, out=self._batch)
        mean = self._actor_pass.forward(self._batch)
        value = self._critic_pass.forward(self._batch)
        return to_array(mean), to_array(value)

    def backward(self, d_mean: Array, d_value: Array) -> None:
        """Write the gradients of all weights and biases.

        Args:
            d_mean: (B, A), of the loss with respect to the latest `forward`'s means.
            d_value: (B, 1), with respect to its values.
        """
        self._actor_pass.backward(to_device(d_mean, self._device))
        self._critic_pass.backward(to_device(d_value, self._device))
