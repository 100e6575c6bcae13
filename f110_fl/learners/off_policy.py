"""What TD3, SAC and DQN share: experience, updates that are due, optimizers, commits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from f110_fl.learner_config import OffPolicyConfig, OptimizerConfig
from f110_fl.learners.base import (
    Array,
    LearningError,
    Means,
    Transitions,
    entry,
    pack_generator,
    unpack_generator,
)
from f110_fl.learners.device import Host, Runner
from f110_fl.learners.n_step import NStep
from f110_fl.learners.networks import (
    flushed_denormals,
    load_named,
    make_optimizer,
    named_tensors,
)
from f110_fl.learners.normaliser import Normaliser
from f110_fl.learners.replay import Batch, ReplayBuffer
from f110_fl.learners.schedules import rate_factor


class OffPolicyLearner(ABC):
    """A learner with a replay buffer; subclasses act and do one update on a batch.

    Args:
        config: Hyperparameters.
        observation_size: D.
        action_size: Columns that the replay buffer keeps of an action.
        seed: Root of all its random streams; not advanced.
        num_envs: Environments that it collects from together.
        replay_path: File of the replay buffer; None keeps it in memory.
        place: Where networks, moments and batches are.
    """

    def __init__(
        self,
        config: OffPolicyConfig,
        observation_size: int,
        action_size: int,
        seed: np.random.SeedSequence,
        *,
        num_envs: int = 1,
        replay_path: Path | None = None,
        place: Host,
    ) -> None:
        self.config = config
        self._place = place
        self.steps = 0  # environment steps observed
        self.updates = 0
        explore, replay, noise = (
            np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, stream))
            for stream in range(3)
        )
        self._rng = np.random.default_rng(explore)
        self._generator = torch.Generator().manual_seed(int(noise.generate_state(1)[0]))
        self.replay = place.replay(
            config.batch_size,
            config.replay.capacity,
            observation_size,
            action_size,
            config.replay,
            np.random.default_rng(replay),
            replay_path,
        )
        self._n_step = NStep(
            config.n_step, config.discount, num_envs, observation_size, action_size
        )
        self.normaliser = Normaliser(
            observation_size,
            num_envs,
            config.discount,
            observations=config.normalise_observations,
            rewards=config.normalise_rewards,
        )
        self._metrics = Means()
        self._trained: dict[str, Trained] = {}
        self._tensors: dict[str, Tensor] = {}

    def _own(self, networks: Mapping[str, nn.Module], trained: Mapping[str, Trained]) -> None:
        """Name the networks and the optimizers of those that are trained, once and for all."""
        self._trained = dict(trained)
        self._tensors = named_tensors(
            networks, {name: each.optimizer for name, each in trained.items()}
        )
        self._tensors |= self.normaliser.tensors()

    @abstractmethod
    def _explore(self, observations: Array) -> Array:
        """Choose exploring actions (M, A) for normalised observations (M, D)."""

    @abstractmethod
    def _best(self, observations: Tensor) -> Tensor:
        """Map normalised observations (M, D) to new actions (M, A), without exploration."""

    @abstractmethod
    def _learn(self, batch: Batch) -> None:
        """Do one update on a batch, of which ``updates`` does not know yet."""

    def _stored(self, actions: Array) -> Array:
        """Return what the replay buffer keeps of actions (M, A)."""
        return actions

    def _present(self) -> dict[str, float]:
        """Metrics of the present, to report next to the means."""
        return {"beta": self.replay.beta}

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:  # noqa: ARG002
        """Choose exploring actions (M, A) for observations (M, D); see ``Learner.act``."""
        self.normaliser.count(observations)
        return self._explore(self.normaliser.observations(observations))

    def policy(self, num_envs: int) -> GreedyPolicy:  # noqa: ARG002 - it remembers nothing
        """Return the policy without exploration; see ``Learner.policy``."""
        return GreedyPolicy(self._best, self.normaliser, self._place)

    def observe(self, transitions: Transitions) -> None:
        """Store what a step of M environments completes; see ``Learner.observe``.

        Raises:
            LearningError: If a reward is not finite.
        """
        self.steps += len(transitions.envs)
        if not np.isfinite(transitions.reward).all():
            raise LearningError(f"reward is not finite at step {self.steps}")
        self.normaliser.count_rewards(transitions)
        self.replay.add(*self._n_step.push(transitions, self._stored(transitions.action)))

    def update(self) -> None:
        """Do the updates that are due, one after the other; see ``Learner.update``.

        Raises:
            LearningError: If a loss is not finite; no optimizer has used it.
        """
        due = (self.steps - self.config.warmup_steps) // self.config.update_every
        while self.updates < due and len(self.replay):
            with flushed_denormals():
                self._learn(self._sample())
            self.updates += 1

    def _sample(self) -> Batch:
        """Draw a batch. The buffer keeps what was observed: it is normalised as it is drawn."""
        batch = self.replay.sample(self.config.batch_size)
        self.normaliser.normalise(batch.reward, batch.observation, batch.next_observation)
        return batch

    def _descend(self, trained: Trained, compute: Callable[[], Loss], batch: Batch) -> Loss:
        """Take an optimizer's step down a loss.

        Args:
            trained: The network to train.
            compute: Computes the loss; see `Trained.differentiate`.
            batch: What it comes from; looked through for the cause of an error.

        Returns:
            What was computed.

        Raises:
            LearningError: If the loss or the gradient is not finite; nothing has changed then.
        """
        loss = trained.differentiate(compute)
        self._check(loss.value.item(), batch, loss)
        norm = trained.adjust()
        if norm is not None:
            self._check(norm.item(), batch, loss)
        trained.step(rate_factor(self.config.optimizer.schedule, self.updates))
        return loss

    def _check(self, value: float, batch: Batch, loss: Loss) -> None:
        """Raise ``LearningError`` if ``value`` is not finite, naming the first tensor at fault."""
        if math.isfinite(value):
            return
        suspects = {**batch._asdict(), **self._tensors, **loss.parts}
        name = next((k for k, v in suspects.items() if not torch.isfinite(v).all()), "loss")
        raise LearningError(f"{name} is not finite at step {self.steps}, update {self.updates}")

    def pop_metrics(self) -> dict[str, float]:
        """Means since the last call, and the present of what changes slowly; see ``Learner``."""
        metrics = self._metrics.pop()
        return metrics | self._present() if metrics else metrics

    def tensors(self) -> dict[str, Tensor]:
        """Networks and moments by name; see ``Learner.tensors``."""
        return self._place.fetch(self._tensors)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy any subset of ``tensors()`` in.

        Raises:
            ValueError: If a name is unknown or a shape is wrong; then nothing is loaded.
        """
        load_named(self._tensors, tensors)
        if not self.normaliser.tensors().keys().isdisjoint(tensors):
            self.normaliser.reload()

    def hold_near(self, mu: float) -> None:
        """Pull what is trained to where it is now; see ``Learner.hold_near``."""
        for trained in self._trained.values():
            trained.hold_near(mu)

    def local_state(self) -> dict[str, Tensor]:
        """Counters, generators, open returns, statistics, the replay's state but its rows."""
        state = {
            "steps": torch.tensor(self.steps),
            "updates": torch.tensor(self.updates),
            "rng": pack_generator(self._rng),
            "generator": self._generator.get_state(),
        }
        for name, part in self._parts().items():
            state |= {f"{name}/{key}": value for key, value in part.local_state().items()}
        return state

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or does not fit this learner or its replay file.
        """
        for name, part in self._parts().items():
            prefix = f"{name}/"
            part.load_local_state(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        self.steps = int(entry(state, "steps"))
        self.updates = int(entry(state, "updates"))
        unpack_generator(self._rng, entry(state, "rng"))
        self._generator.set_state(entry(state, "generator"))

    def _parts(self) -> dict[str, NStep | Normaliser | ReplayBuffer]:
        return {"n_step": self._n_step, "normaliser": self.normaliser, "replay": self.replay}

    def move(self, replay_path: Path) -> None:
        """Keep experience in another file; see ``Learner``."""
        self.replay.move(replay_path)

    def write_journal(self) -> None:
        """First step of a commit; see ``Learner`` and ``ReplayBuffer``."""
        self.replay.write_journal()

    def apply_journal(self) -> None:
        """Last step of a commit; see ``Learner`` and ``ReplayBuffer``."""
        self.replay.apply_journal()


class Loss(NamedTuple):
    """A loss, and other results of computing it, all without gradients."""

    value: Tensor  # ()
    parts: dict[str, Tensor]


class Trained:
    """A network with its optimizer, and the point that it may be held near.

    Args:
        network: What is trained, in place.
        learning_rate: Before any schedule.
        config: The optimizer.
        run: Runs forward and backward pass.

    Attributes:
        optimizer: Holds the moments; ``step`` does what its own would.
        gradient: Of every parameter, from the latest ``differentiate``.
    """

    def __init__(
        self, network: nn.Module, learning_rate: float, config: OptimizerConfig, run: Runner
    ) -> None:
        self.optimizer = make_optimizer(network, learning_rate, config)
        self.gradient: list[Tensor] = []
        self._run = run
        self._config = config
        self._learning_rate = learning_rate
        self._parameters = list(network.parameters())
        self._values = [parameter.detach() for parameter in self._parameters]
        states = [self.optimizer.state[parameter] for parameter in self._parameters]
        self._means = [state["exp_avg"] for state in states]
        self._squares = [state["exp_avg_sq"] for state in states]
        self._steps = [state["step"] for state in states]
        self._mu = 0.0
        self._anchors: list[Tensor] = []

    def hold_near(self, mu: float) -> None:
        """Add mu / 2 * |w - w_now|^2 to its losses; see ``Learner.hold_near``."""
        self._mu = mu
        self._anchors = [value.clone() for value in self._values] if mu else []

    def differentiate(self, compute: Callable[[], Loss]) -> Loss:
        """Compute a loss and its gradient.

        Args:
            compute: Returns the loss, with its graph. It must do the same at every call, with
                the same tensors, change none of them and ask for no number: on a GPU it is
                called at first only, and what it did is repeated from then on.
        """

        def both() -> tuple[Loss, list[Tensor]]:
            loss = compute()
            gradient = torch.autograd.grad(loss.value, self._parameters)
            return loss._replace(value=loss.value.detach()), list(gradient)

        loss, self.gradient = self._run(both)
        return loss

    def adjust(self) -> Tensor | None:
        """Add the proximal term's gradient; clip, if wanted, and return the norm before, ()."""
        if self._mu:
            distance = torch._foreach_sub(self._values, self._anchors)
            torch._foreach_add_(self.gradient, distance, alpha=self._mu)
        longest = self._config.max_grad_norm
        if longest is None:
            return None
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.gradient)))
        torch._foreach_mul_(self.gradient, torch.clamp(longest / (norm + 1e-6), max=1.0))
        return norm

    def step(self, factor: float) -> None:
        """Take the optimizer's step at ``factor`` times the learning rate."""
        group = self.optimizer.param_groups[0]
        decoupled = self._config.kind == "adamw"
        torch._foreach_add_(self._steps, 1.0)
        # The optimizer's own step spends as long again on looking its tensors up.
        (torch._fused_adamw_ if decoupled else torch._fused_adam_)(
            self._values,
            self.gradient,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=factor * self._learning_rate,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


class GreedyPolicy:
    """A policy without memory; implements ``f110_fl.learners.base.Policy``.

    Args:
        choose: Maps normalised observations (M, D) to new actions (M, A).
        normaliser: What it sees goes through it.
        place: Where ``choose`` computes.
    """

    def __init__(
        self, choose: Callable[[Tensor], Tensor], normaliser: Normaliser, place: Host
    ) -> None:
        self._choose = choose
        self._normaliser = normaliser
        self._device = place.device

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Nothing to forget; see ``Policy.reset``."""

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:  # noqa: ARG002
        """Choose actions (M, A) for observations (M, D); see ``Policy.act``."""
        seen = torch.tensor(self._normaliser.observations(observations), device=self._device)
        with torch.inference_mode():
            action: Array = self._choose(seen).cpu().numpy()
        return action
