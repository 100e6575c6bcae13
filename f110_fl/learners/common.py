"""What learners share: counters, statistics, metrics and saved state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

from f110_fl.config.common import AlgorithmConfig
from f110_fl.learners.base import LearnerSetup, LearningError, Transitions
from f110_fl.learners.normaliser import Normaliser
from f110_fl.learners.state import entry, load_entries, pack_generator, unpack_generator
from f110_fl.tensors import prefixed, unprefixed


class Part(Protocol):
    """A part of a learner that has a state of its own."""

    def local_state(self) -> dict[str, Tensor]:
        """Return copies of whatever continuing needs."""

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``."""


class BaseLearner(ABC):
    """The part of `f110_fl.learners.base.Learner` that is the same for every algorithm.

    Args:
        config: Hyperparameters.
        setup: What else it is made with.
        discount: gamma of the return by whose deviation rewards are divided.
        normalise_rewards: Whether they are.

    Attributes:
        steps: Environment steps observed.
        updates: Updates done; an on-policy learner does one per rollout.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        setup: LearnerSetup,
        discount: float = 1.0,
        *,
        normalise_rewards: bool = False,
    ) -> None:
        self.steps = 0
        self.updates = 0
        self.normaliser = Normaliser(
            setup.observation_size,
            setup.num_envs,
            discount,
            observations=config.normalise_observations,
            rewards=normalise_rewards,
        )
        self._metrics = Means()
        self._tensors: dict[str, Tensor] = {}  # what `tensors` returns, on its device

    @abstractmethod
    def _parts(self) -> Mapping[str, Part]:
        """Return the parts whose states belong to the local state, by their names in it."""

    @abstractmethod
    def _generators(self) -> Mapping[str, np.random.Generator | torch.Generator]:
        """Return the random generators, by their names in the local state."""

    def _count(self, transitions: Transitions) -> None:
        """Count a step of M environments.

        Raises:
            LearningError: If a reward is not finite.
        """
        self.steps += len(transitions.envs)
        if not np.isfinite(transitions.reward).all():
            raise LearningError(f"reward is not finite at step {self.steps}")
        self.normaliser.count_rewards(transitions)

    def _fail(self, suspects: Mapping[str, Tensor]) -> NoReturn:
        """Raise ``LearningError`` for a loss, naming the first tensor that is not finite."""
        name = next((k for k, v in suspects.items() if not torch.isfinite(v).all()), "loss")
        raise LearningError(f"{name} is not finite at step {self.steps}, update {self.updates}")

    def pop_metrics(self) -> dict[str, float]:
        """Return the means since the last call; see ``Learner.pop_metrics``."""
        return self._metrics.pop()

    def tensors(self) -> dict[str, Tensor]:
        """Return networks and moments by name; see ``Learner.tensors``."""
        return {name: tensor.cpu() for name, tensor in self._tensors.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy any subset of ``tensors()`` in; see ``Learner.load_tensors``. Experience stays."""
        for name in tensors:
            if name not in self._tensors:
                raise ValueError(f"unknown tensor {name!r}")
        load_entries({name: self._tensors[name] for name in tensors}, tensors, "tensor")
        if not self.normaliser.tensors().keys().isdisjoint(tensors):
            self.normaliser.reload()

    def local_state(self) -> dict[str, Tensor]:
        """Return counters, generators and every part's state; see ``Learner.local_state``."""
        state = {"steps": torch.tensor(self.steps), "updates": torch.tensor(self.updates)}
        for name, generator in self._generators().items():
            state[name] = pack_generator(generator)
        for name, part in self._parts().items():
            state |= prefixed(name, part.local_state())
        return state

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``; see ``Learner.load_local_state``."""
        for name, part in self._parts().items():
            part.load_local_state(unprefixed(name, state))
        self.steps = int(entry(state, "steps"))
        self.updates = int(entry(state, "updates"))
        for name, generator in self._generators().items():
            unpack_generator(generator, entry(state, name))

    def use_file(self, replay_path: Path) -> None:  # noqa: B027 - not every learner has a file
        """Do nothing: ``local_state`` leaves nothing out."""

    def write_journal(self) -> None:  # noqa: B027
        """Do nothing: ``local_state`` leaves nothing out."""

    def apply_journal(self) -> None:  # noqa: B027
        """Do nothing: ``local_state`` leaves nothing out."""


class Means:
    """Running means of named values."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: float) -> None:
        """Include a value in the mean of its name."""
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1

    def pop(self) -> dict[str, float]:
        """Return the means and start again."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means
