"""What every learning algorithm offers to the training loop and to the federation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]


class LearningError(RuntimeError):
    """Learning diverged: a value that must be finite is not."""


class Transitions(NamedTuple):
    """What one step did to one agent in M of the environments that it collects from.

    The arrays are read before the next step, which may overwrite them.
    """

    envs: NDArray[np.int64]  # (M,) the environments, ascending
    observation: Array  # (M, D)
    action: Array  # (M, A) in [-1, 1], as `Learner.act` chose it
    reward: NDArray[np.float64]  # (M,)
    next_observation: Array  # (M, D), the last of its episode where the step ended it
    terminated: NDArray[np.bool_]  # (M,) the task ended, the value beyond is 0
    truncated: NDArray[np.bool_]  # (M,) cut off: the value beyond is still estimated; never both


class Policy(Protocol):
    """Acts deterministically, without learning, in a batch of environments of its own."""

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Forget what it remembers of these environments: an episode begins there."""
        ...

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:
        """Choose actions.

        Args:
            observations: (M, D).
            envs: (M,) the environments that they are of, ascending.

        Returns:
            (M, A), each in [-1, 1], owned by the caller.
        """
        ...


class Learner(Protocol):
    """One agent that acts, collects its own experience and learns from it.

    The training loop steps ``num_envs`` environments together and calls ``act``, ``observe`` and
    ``update`` once each per step, for those M environments in which the agent's episode runs.
    An environment's episode begins with the first ``act`` in it, and again with the first after
    a transition that ended one; between two calls of the loop none runs.

    A learner's state has two parts. ``tensors`` are what a federation averages and a server
    stores. ``local_state`` is what else this learner needs to continue bit by bit. A commit of
    both to disk is three steps: ``write_journal``; the caller makes its own file with the
    tensors and the local state durable under its final name, at one stroke; ``apply_journal``.
    After a kill at any point, ``load_local_state`` agrees with the caller's file.
    """

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:
        """Choose exploring actions.

        Args:
            observations: (M, D).
            envs: (M,) the environments that they are of, ascending, each below ``num_envs``.

        Returns:
            (M, A), each in [-1, 1], owned by the caller.
        """
        ...

    def observe(self, transitions: Transitions) -> None:
        """Take in what the actions of the latest ``act`` led to, in the same order.

        Raises:
            LearningError: If a reward is not finite.
        """
        ...

    def policy(self, num_envs: int) -> Policy:
        """Return the policy without exploration; it follows the learner's tensors as they change.

        Args:
            num_envs: Environments that it will act in.
        """
        ...

    def update(self) -> None:
        """Do the learning that is due after this step, if any.

        Raises:
            LearningError: If a loss is not finite; no optimizer has used it.
        """
        ...

    def pop_metrics(self) -> dict[str, float]:
        """Means of the learning metrics since the last call; empty without an update."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Networks and optimizer moments, float32, on the CPU, without gradients.

        They are to be read: views where the learner computes on the CPU, else copies. What they
        are changes through `load_tensors`. The names are ``model/<network>/<parameter>`` and
        ``optimizer/<optimizer>/<parameter>/<slot>``, the same before and after any update.
        """
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy any subset of ``tensors()`` in.

        Raises:
            ValueError: If a name is unknown or a shape is wrong; then nothing is loaded.
        """
        ...

    def hold_near(self, mu: float) -> None:
        """Pull the trained networks to where they are now, until told otherwise.

        Every loss gets the proximal term mu / 2 * |w - w_now|^2 (FedProx, Li et al. 2020,
        equation 2).

        Args:
            mu: Weight of the term; 0 for none.
        """
        ...

    def local_state(self) -> dict[str, Tensor]:
        """Counters, random generators and whatever else continuing needs, as copies."""
        ...

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or does not fit this learner or its files.
        """
        ...

    def move(self, replay_path: Path) -> None:
        """Keep experience in another file, of the same layout; `load_local_state` must follow."""
        ...

    def write_journal(self) -> None:
        """First step of a commit: make durable what ``local_state`` leaves out."""
        ...

    def apply_journal(self) -> None:
        """Last step of a commit, once the caller's own file is durable."""
        ...


class Means:
    """Running means of named values."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: float) -> None:
        """Count ``value`` in."""
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1

    def pop(self) -> dict[str, float]:
        """Return the means and start again."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means
