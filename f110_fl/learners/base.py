"""What every learning algorithm offers to the training loop and to the federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from f110_fl.config.common import AlgorithmConfig
from sim.config import ObservationPart
from sim.observation import Mirror
from sim.policy import PolicyFormat

Array = NDArray[np.float32]
CPU: Final = torch.device("cpu")
ObservationParts = tuple[tuple[ObservationPart, int], ...]  # names and sizes


class LearningError(RuntimeError):
    """Learning diverged: a value that must be finite is not."""


@dataclass(frozen=True)
class LearnerSetup:
    """What a learner is made with, besides its settings.

    Attributes:
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; it is not advanced.
        num_envs: Environments that it collects from together, N.
        replay_path: File in which its experience survives a restart; None keeps it in memory
            only. A learner that keeps its experience in ``local_state`` ignores it.
        device: Device of networks, moments and batches.
        observation: Names and sizes of the parts of an observation, in order, which encoders
            need; empty if they are not known.
        mirror: Exchanges left and right in an observation; None if that is not possible or known.
    """

    observation_size: int
    action_size: int
    seed: np.random.SeedSequence
    num_envs: int = 1
    replay_path: Path | None = None
    device: torch.device = CPU
    observation: ObservationParts = ()
    mirror: Mirror | None = None

    def streams(self, count: int) -> list[np.random.SeedSequence]:
        """Return the roots of ``count`` independent random streams, the same at every call."""
        root = self.seed
        return [
            np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, stream))
            for stream in range(count)
        ]


class Transitions(NamedTuple):
    """What one step did to one agent in M of the environments that it collects from.

    The arrays are read before the next step, which may overwrite them.
    """

    envs: NDArray[np.int64]  # (M,) the environments, ascending
    observation: Array  # (M, D)
    action: Array  # (M, A) in [-1, 1], as `Learner.act` chose it
    reward: NDArray[np.float64]  # (M,)
    next_observation: Array  # (M, D), the last of its episode where the step ended it
    terminated: NDArray[np.bool_]  # (M,) the task ended: what follows is worth 0
    truncated: NDArray[np.bool_]  # (M,) cut off: the value of what follows is estimated; never both

    def rows(self, chosen: NDArray[np.bool_]) -> Transitions:
        """Return copies of some of the M rows, those where ``chosen`` (M,) is true."""
        parts: tuple[Any, ...] = self
        return Transitions(*(part[chosen] for part in parts))


class Policy(Protocol):
    """Acts deterministically, without learning, in a batch of environments of its own."""

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Forget what it remembers of these environments: an episode begins there."""

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:
        """Choose actions.

        Args:
            observations: (M, D).
            envs: (M,) the environments observed, ascending.

        Returns:
            (M, A), each in [-1, 1], owned by the caller.
        """


class Learner(Protocol):
    """One agent that acts, collects its own experience and learns from it.

    A class that implements this protocol needs nothing else to take part: an entry in
    `f110_fl.learners.factory` leads to it from its settings, an `AlgorithmConfig`, and
    ``LearnerClass(config, setup)`` with a `LearnerSetup` makes a learner.

    The training loop steps ``num_envs`` environments together and calls ``act``, ``observe`` and
    ``update`` once each per step, for those M environments in which the agent's episode runs.
    An environment's episode begins with the first ``act`` in it, and again with the first after
    a transition that ended one; between two calls of the loop none runs.

    A learner's state has two parts. ``tensors`` are what a federation averages and a server
    stores. ``local_state`` is whatever else this learner needs to continue bit for bit: with both
    loaded into a new learner of the same settings, the same calls give the same bytes. A commit
    of both to disk takes three steps: ``write_journal``, which changes neither; a file of the
    caller's own with both takes its name, atomically and durably; ``apply_journal``.
    After a kill at any point, ``load_local_state`` agrees with the caller's file. A learner
    whose ``local_state`` leaves nothing out does nothing in ``write_journal``,
    ``apply_journal`` and ``use_file``.

    All randomness comes from ``LearnerSetup.seed``; the global generators of torch and NumPy are
    left alone. Several learners live in one process and are called in turn.
    """

    updates: int  # done so far, those before a restart included

    def __init__(self, config: Any, setup: LearnerSetup) -> None: ...

    @property
    def config(self) -> AlgorithmConfig:
        """Its settings; their ``acting`` names networks of ``tensors``."""

    @staticmethod
    def policy_format(config: Any, observation: ObservationParts) -> PolicyFormat | None:
        """Say which of ``tensors`` choose actions without exploration, and how.

        Args:
            config: Settings of this learner.
            observation: Names and sizes of the parts of an observation, in order.

        Returns:
            The format with which scripted cars drive, and exported files act, as ``policy`` does;
            None if a format cannot describe it, as for an encoder of another package.
        """

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:
        """Choose actions with exploration.

        Args:
            observations: (M, D).
            envs: (M,) the environments observed, ascending, each below ``num_envs``.

        Returns:
            (M, A), each in [-1, 1], owned by the caller.
        """

    def observe(self, transitions: Transitions) -> None:
        """Take in what the actions of the latest ``act`` led to, in the same order.

        Whatever is kept of the arrays is copied: they are overwritten by the next step.

        Raises:
            LearningError: If a reward is not finite.
        """

    def policy(self, num_envs: int) -> Policy:
        """Return the policy without exploration; it follows the learner's tensors as they change.

        Args:
            num_envs: Environments that it will act in.
        """

    def update(self) -> None:
        """Do the learning that is due after this step, if any.

        Raises:
            LearningError: If a loss is not finite; no optimizer has used it.
        """

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of the learning metrics since the last call; empty without an update."""

    def tensors(self) -> dict[str, Tensor]:
        """Return networks and optimizer moments, float32, on the CPU, without gradients.

        They are only to be read: views of what is on the CPU, copies of what is not.
        `load_tensors` changes them. The names are ``model/<network>/<parameter>`` and
        ``optimizer/<network>/<parameter>/<slot>``, the same before and after any update. A
        layer's parameters carry its number, ``weights.0``: the highest is the output layer's.
        Those of a network's encoder start with ``encoder.``; their numbers do not count.
        Slots that a federation knows are Adam's, ``exp_avg``, ``exp_avg_sq`` and ``step``.
        The target of a network has its name with ``_target``. The statistics that normalise
        observations are network ``normaliser``, those of rewards ``reward_normaliser``.
        """

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy any subset of ``tensors()`` in.

        Raises:
            ValueError: If a name is unknown or a shape is wrong; then nothing is loaded.
        """

    def set_proximal(self, mu: float) -> None:
        """Pull the trained networks towards what they are now, until the next call.

        Every loss gets the proximal term mu / 2 * |w - w_now|^2 (FedProx, Li et al. 2020,
        equation 2).

        Args:
            mu: Weight of the term; 0 for none.
        """

    def local_state(self) -> dict[str, Tensor]:
        """Return copies of counters, random generators and whatever else continuing needs."""

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or does not fit this learner or its files.
        """

    def use_file(self, replay_path: Path) -> None:
        """Keep experience in another file, of the same layout; `load_local_state` must follow."""

    def write_journal(self) -> None:
        """First step of a commit: make durable what ``local_state`` leaves out."""

    def apply_journal(self) -> None:
        """Last step of a commit, once the caller's own file is durable."""
