"""Observations and rewards brought to a common scale by running statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.learners.base import Array, Transitions
from f110_fl.learners.state import copies, load_entries
from f110_fl.tensors import TensorName, prefixed

Float = NDArray[np.float64]

BOUND: Final = 10.0  # of what is normalised
EPSILON: Final = 1e-8  # added to variances


class RunningMoments:
    """Mean and variance of each column over all rows so far.

    Batches are merged as by Chan, Golub and LeVeque 1983 (equation 1.5), in float64; before any
    row they are 0 and 1.

    Args:
        size: Columns, D.

    Attributes:
        tensors: ``count`` (), ``mean`` (D,) and ``variance`` (D,), float32; always the same
            tensors.
        exact: The same in float64, with ``squares``, the sums of squared deviations, in place of
            the variance. Whoever changes them calls `publish`.
    """

    def __init__(self, size: int) -> None:
        self._count, self._mean, self._squares = np.zeros(()), np.zeros(size), np.zeros(size)
        self._mean_now, self._variance_now = np.zeros(size, np.float32), np.ones(size, np.float32)
        self._count_now = np.zeros((), np.float32)
        self.tensors = {
            "count": torch.from_numpy(self._count_now),
            "mean": torch.from_numpy(self._mean_now),
            "variance": torch.from_numpy(self._variance_now),
        }
        self.exact = {"count": self._count, "mean": self._mean, "squares": self._squares}

    def add(self, rows: NDArray[np.floating]) -> None:
        """Take rows (M, D) into account."""
        count = len(rows)
        if count == 0:
            return
        mean = rows.mean(0, dtype=np.float64)
        squares = np.square(rows - mean).sum(0)
        total = self._count + count
        delta = mean - self._mean
        self._squares += squares + np.square(delta) * (self._count * count / total)
        self._mean += delta * (count / total)
        self._count[...] = total
        self.publish()

    def publish(self) -> None:
        """Bring ``tensors`` up to date with ``exact``."""
        self._count_now[...], self._mean_now[:] = self._count, self._mean
        if self._count:
            np.divide(self._squares, self._count, out=self._variance_now, casting="same_kind")

    def reload(self) -> None:
        """Take over what was written into ``tensors``."""
        self._count[...], self._mean[:] = self._count_now, self._mean_now
        np.multiply(self._variance_now, self._count, out=self._squares)

    def scale(self) -> Array:
        """Return the reciprocal standard deviations (D,)."""
        scale: Array = 1.0 / np.sqrt(self._variance_now + np.float32(EPSILON))
        return scale


class Normaliser:
    """Normalises observations, rewards, both or neither of one learner.

    Observations get zero mean and unit variance; rewards are divided by the standard deviation
    of the discounted return so far, without moving their mean (Engstrom et al. 2020, section 3).
    Both are then clipped to [-10, 10]. What is not to be normalised passes unchanged.

    Its statistics are tensors of the learner, under the network names ``normaliser`` and
    ``reward_normaliser``, so that a policy is stored with the former; by default a federation
    shares neither.

    Args:
        observation_size: D.
        num_envs: Environments that are collected from, N.
        discount: gamma of the return.
        observations: Whether to normalise observations.
        rewards: Whether to normalise rewards.
    """

    def __init__(
        self,
        observation_size: int,
        num_envs: int,
        discount: float,
        *,
        observations: bool,
        rewards: bool,
    ) -> None:
        self._discount = discount
        self._observation = RunningMoments(observation_size) if observations else None
        self._return = RunningMoments(1) if rewards else None
        self._returns = np.zeros(num_envs)  # of the episodes that run
        parts = {"normaliser": self._observation, "reward_normaliser": self._return}
        self._parts = {name: moments for name, moments in parts.items() if moments is not None}

    def count(self, observations: Array) -> None:
        """Take observations (M, D) into account."""
        if self._observation is not None:
            self._observation.add(observations)

    def observations(self, observations: Array) -> Array:
        """Return observations (M, D) normalised; the same array if that is off."""
        if self._observation is None:
            return observations
        found: Array = observations - self._observation.tensors["mean"].numpy()
        found *= self._observation.scale()
        np.maximum(found, -BOUND, out=found)
        np.minimum(found, BOUND, out=found)
        return found

    def count_rewards(self, transitions: Transitions) -> None:
        """Take the discounted returns after these steps into account."""
        if self._return is None:
            return
        envs = transitions.envs
        returns = self._discount * self._returns[envs] + transitions.reward
        self._return.add(returns[:, None])
        returns[transitions.terminated | transitions.truncated] = 0.0
        self._returns[envs] = returns

    def rewards(self, rewards: Float) -> Float:
        """Return rewards (M,) normalised; the same array if that is off."""
        if self._return is None:
            return rewards
        return np.clip(rewards * float(self._return.scale()[0]), -BOUND, BOUND)

    def normalise(self, rewards: Tensor, *observations: Tensor) -> None:
        """Normalise a batch's rewards (B,) and observations (B, D) in place, on the CPU."""
        if self._observation is not None:
            mean = self._observation.tensors["mean"]
            scale = torch.from_numpy(self._observation.scale())
            for part in observations:
                part.sub_(mean).mul_(scale).clamp_(-BOUND, BOUND)
        if self._return is not None:
            rewards.mul_(float(self._return.scale()[0])).clamp_(-BOUND, BOUND)

    def tensors(self) -> dict[str, Tensor]:
        """Return views of the statistics in use, by name."""
        return {
            str(TensorName("model", part, name)): tensor
            for part, moments in self._parts.items()
            for name, tensor in moments.tensors.items()
        }

    def reload(self) -> None:
        """Take over what was written into ``tensors``."""
        for moments in self._parts.values():
            moments.reload()

    def local_state(self) -> dict[str, Tensor]:
        """Return copies of the statistics in float64 and of the running episodes' returns."""
        return copies(self._exact())

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or has another shape.
        """
        load_entries(self._exact(), state, "normaliser:")
        for moments in self._parts.values():
            moments.publish()

    def _exact(self) -> dict[str, Float]:
        arrays: dict[str, Float] = {} if self._return is None else {"returns": self._returns}
        for part, moments in self._parts.items():
            arrays |= prefixed(part, moments.exact)
        return arrays


def format_entries(on: bool) -> dict[str, Any]:
    """Return the entries of a `PolicyFormat` that say whether observations are normalised."""
    if not on:
        return {}
    moments = {part: f"model/normaliser/{part}" for part in ("mean", "variance")}
    return {**moments, "limit": BOUND}
