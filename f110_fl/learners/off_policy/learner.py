"""What TD3, SAC and DQN share: experience, updates that are due, optimizer steps, commits."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from f110_fl.config.learners import ConvConfig, OffPolicyConfig
from f110_fl.learners.base import Array, LearnerSetup, ObservationParts, Transitions
from f110_fl.learners.common import BaseLearner, Part
from f110_fl.learners.device import to_array
from f110_fl.learners.networks.encoder import conv_format
from f110_fl.learners.normaliser import Normaliser, format_entries
from f110_fl.learners.off_policy.n_step import NStep
from f110_fl.learners.off_policy.replay import Batch, ReplayBuffer
from f110_fl.learners.optimizer import Adam, flushed_denormals
from f110_fl.learners.state import layer_names, named_tensors
from sim.layout import COMMAND_SIGNS
from sim.observation import Mirror
from sim.policy import PolicyFormat


class OffPolicyLearner(BaseLearner):
    """A learner with a replay buffer; subclasses act and do one update on a batch.

    Args:
        config: Hyperparameters.
        setup: What else it is made with.
        stored_size: Columns that the replay buffer keeps of an action; A by default.
    """

    def __init__(
        self, config: OffPolicyConfig, setup: LearnerSetup, stored_size: int | None = None
    ) -> None:
        super().__init__(config, setup, config.discount, normalise_rewards=config.normalise_rewards)
        self.config = config
        self._device = setup.device
        explore, replay, noise = setup.streams(3)
        self._rng = np.random.default_rng(explore)
        self._generator = torch.Generator().manual_seed(int(noise.generate_state(1)[0]))
        size, stored_size = setup.observation_size, stored_size or setup.action_size
        self.replay = ReplayBuffer(
            config.replay, size, stored_size, np.random.default_rng(replay), setup.replay_path
        )
        self._n_step = NStep(config.n_step, config.discount, setup.num_envs, size, stored_size)
        self._mirror: tuple[Tensor, Tensor] | None = None
        if config.mirror:
            if setup.mirror is None:
                raise ValueError("mirror: it is not known how these observations are mirrored")
            self._mirror = _row_mirror(setup.mirror, stored_size)
        self._optimizers: dict[str, Adam] = {}
        self._targets: list[Tensor] = []
        self._targeted: list[Tensor] = []

    # The steps of a commit (see `Learner`): only the buffer's rows are not in `local_state`.

    def use_file(self, replay_path: Path) -> None:
        """Go on with the replay buffer in a file."""
        self.replay.use_file(replay_path)

    def write_journal(self) -> None:
        """Write the buffer's new rows beside its file."""
        self.replay.write_journal()

    def apply_journal(self) -> None:
        """Move the journal's rows into the buffer's file."""
        self.replay.apply_journal()

    def _register(self, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam]) -> None:
        """Name the networks, and the optimizers of those that are trained.

        Args:
            networks: By name; the target of a network has its name with ``_target``.
            optimizers: By the name of the network that each trains.
        """
        self._optimizers = dict(optimizers)
        self._tensors = named_tensors(networks, optimizers) | self.normaliser.tensors()
        for name, network in networks.items():
            if f"{name}_target" in networks:
                self._targeted += network.parameters()
                self._targets += networks[f"{name}_target"].parameters()

    @abstractmethod
    def _explore(self, observations: Array) -> Array:
        """Choose exploring actions (M, A) for normalised observations (M, D)."""

    @abstractmethod
    def _best(self, observations: Tensor) -> Tensor:
        """Map normalised observations (M, D) to new actions (M, A), without exploration."""

    @abstractmethod
    def _learn(self, batch: Batch) -> None:
        """Do one update on a batch; ``updates`` counts it afterwards."""

    def _stored(self, actions: Array) -> Array:
        """Return what the replay buffer keeps of actions (M, A)."""
        return actions

    def _mirrored(self, stored: Tensor) -> Tensor:
        """Exchange left and right in what the replay buffer keeps of actions (M, stored size)."""
        return stored * torch.tensor(COMMAND_SIGNS)

    def _present(self) -> dict[str, float]:
        """Return metrics that are reported as they are now, beside the means."""
        return {"beta": self.replay.beta}

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:  # noqa: ARG002
        """Choose actions (M, A) for observations (M, D); see ``Learner.act``."""
        self.normaliser.count(observations)
        return self._explore(self.normaliser.observations(observations))

    def policy(self, num_envs: int) -> GreedyPolicy:  # noqa: ARG002 - it remembers nothing
        """Return the policy without exploration; see ``Learner.policy``."""
        return GreedyPolicy(self._best, self.normaliser, self._device)

    def observe(self, transitions: Transitions) -> None:
        """Store what a step of M environments completes; see ``Learner.observe``."""
        self._count(transitions)
        self.replay.add(*self._n_step.push(transitions, self._stored(transitions.action)))

    def update(self) -> None:
        """Do the updates that are due, one after the other; see ``Learner.update``."""
        due = (self.steps - self.config.warmup_steps) // self.config.update_every
        while self.updates < due and len(self.replay):
            with flushed_denormals():
                self._learn(self._sample())
            self.updates += 1

    def _sample(self) -> Batch:
        """Draw a batch. The buffer keeps what was observed: it is normalised as it is drawn."""
        batch = self.replay.sample(self.config.batch_size)
        self._mirror_some(batch)
        self.normaliser.normalise(batch.reward, batch.observation, batch.next_observation)
        return batch.to(self._device)

    def _mirror_some(self, batch: Batch) -> None:
        """Exchange left and right in half of the transitions, if that is wanted."""
        if self._mirror is None:
            return
        order, signs = self._mirror
        chosen = torch.from_numpy(np.flatnonzero(self._rng.random(len(batch.rows)) < 0.5))
        rows = batch.rows.index_select(0, chosen).index_select(1, order).mul_(signs)
        actions = rows[:, batch.observation.shape[1] :][:, : batch.action.shape[1]]
        actions.copy_(self._mirrored(actions))
        batch.rows.index_copy_(0, chosen, rows)

    def _normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        return torch.empty(shape).normal_(generator=self._generator).to(self._device)

    def _step(self, optimizer: Adam, loss: Tensor, batch: Batch) -> None:
        """Take an optimizer's step, after ``loss.backward()``.

        Args:
            optimizer: Optimizer of the network to train.
            loss: (), whose gradient it has.
            batch: What the loss was computed from; searched for the cause of an error.

        Raises:
            LearningError: If the loss or the gradient is not finite; nothing has changed then.
        """
        if not math.isfinite(loss.item()) or not math.isfinite(optimizer.adjust_gradients()):
            self._fail({**batch._asdict(), **self._tensors})
        optimizer.step(self.updates)

    def _follow(self, tau: float) -> None:
        """Move the target networks: theta' <- tau theta + (1 - tau) theta'."""
        with torch.no_grad():
            torch._foreach_lerp_(self._targets, self._targeted, tau)

    def pop_metrics(self) -> dict[str, float]:
        """Return the means since the last call, and present values; see ``Learner``."""
        metrics = super().pop_metrics()
        return metrics | self._present() if metrics else metrics

    def set_proximal(self, mu: float) -> None:
        """Pull the trained networks towards what they are now; see ``Learner.set_proximal``."""
        for optimizer in self._optimizers.values():
            optimizer.set_proximal(mu)

    def _parts(self) -> dict[str, Part]:
        return {"n_step": self._n_step, "normaliser": self.normaliser, "replay": self.replay}

    def _generators(self) -> dict[str, np.random.Generator | torch.Generator]:
        return {"rng": self._rng, "generator": self._generator}


def _row_mirror(mirror: Mirror, stored_size: int) -> tuple[Tensor, Tensor]:
    """Return order and signs (2 D + A + 2,) that mirror a row's observations, and nothing else."""
    size = len(mirror.order)
    between = np.arange(stored_size + 2)  # action, reward and discount
    following = size + len(between)
    order = np.concatenate([mirror.order, size + between, following + mirror.order])
    signs = np.concatenate([mirror.signs, np.ones(len(between), np.float32), mirror.signs])
    return torch.from_numpy(order), torch.from_numpy(signs)


class GreedyPolicy:
    """A policy without memory; implements ``f110_fl.learners.base.Policy``.

    Args:
        choose: Maps normalised observations (M, D) to new actions (M, A).
        normaliser: Normalises what it sees.
        device: Device that ``choose`` computes on.
    """

    def __init__(
        self, choose: Callable[[Tensor], Tensor], normaliser: Normaliser, device: torch.device
    ) -> None:
        self._choose = choose
        self._normaliser = normaliser
        self._device = device

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Nothing to forget; see ``Policy.reset``."""

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:  # noqa: ARG002
        """Choose actions (M, A) for observations (M, D); see ``Policy.act``."""
        seen = torch.tensor(self._normaliser.observations(observations), device=self._device)
        with torch.inference_mode():
            action: Array = to_array(self._choose(seen))
        return action


def relu_policy(
    network: str, config: OffPolicyConfig, observation: ObservationParts, **output: Any
) -> PolicyFormat | None:
    """Return the format of a network with ReLU hidden layers as a policy.

    None with an encoder of another package, which no format describes.

    Args:
        network: Name of the network.
        config: Settings of the learner.
        observation: See ``Learner.policy_format``.
        **output: Entries of the `PolicyFormat` for what comes after the last layer.
    """
    encoder = None
    if config.encoder is not None:
        if not isinstance(config.encoder, ConvConfig):
            return None
        encoder = conv_format(network, config.encoder)
    return PolicyFormat(
        encoder=encoder,
        layers=layer_names(network, config.hidden),
        activation="relu",
        observation=observation,
        **output,
        **format_entries(config.normalise_observations),
    )
