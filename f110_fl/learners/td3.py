"""Twin delayed deep deterministic policy gradient, TD3 (Fujimoto, van Hoof and Meger 2018).

Differences from the paper's algorithm 1: replay may be prioritised (Schaul et al. 2016), and
the exploration noise may fall over time. Initial weights and the uniformly random first
actions are those of the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from f110_fl.learner_config import TD3Config
from f110_fl.learners.base import (
    LearningError,
    Means,
    Transitions,
    entry,
    pack_generator,
    unpack_generator,
)
from f110_fl.learners.networks import Actor, TwinCritic, load_named, make_adam, named_tensors
from f110_fl.learners.replay import Batch, ReplayBuffer

Array = NDArray[np.float32]


class TD3:
    """A TD3 agent; implements ``f110_fl.learners.Learner``.

    Args:
        config: Hyperparameters.
        observation_size: D.
        action_size: A.
        seed: Root of all its random streams; not advanced.
        replay_path: File of the replay buffer; None keeps it in memory.
    """

    def __init__(
        self,
        config: TD3Config,
        observation_size: int,
        action_size: int,
        seed: np.random.SeedSequence,
        *,
        replay_path: Path | None = None,
    ) -> None:
        self.config = config
        self.steps = 0  # environment steps observed
        self.updates = 0  # of the critics
        explore, replay, noise = (
            np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, stream))
            for stream in range(3)
        )
        self._rng = np.random.default_rng(explore)
        self._generator = torch.Generator().manual_seed(int(noise.generate_state(1)[0]))

        self.actor = Actor(observation_size, action_size, config.hidden, self._generator)
        self.critic = TwinCritic(observation_size + action_size, config.hidden, self._generator)
        self.actor_target = deepcopy(self.actor).requires_grad_(False)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.actor_optimizer = make_adam(self.actor, config.actor_learning_rate)
        self.critic_optimizer = make_adam(self.critic, config.critic_learning_rate)
        self.replay = ReplayBuffer(
            config.replay.capacity,
            observation_size,
            action_size,
            config.replay,
            np.random.default_rng(replay),
            replay_path,
        )
        self._metrics = Means()
        self._tensors = named_tensors(
            {
                "actor": self.actor,
                "actor_target": self.actor_target,
                "critic": self.critic,
                "critic_target": self.critic_target,
            },
            {"actor": self.actor_optimizer, "critic": self.critic_optimizer},
        )
        self._actor_parameters = list(self.actor.parameters())
        self._critic_parameters = list(self.critic.parameters())
        self._networks: list[Tensor] = [*self._actor_parameters, *self._critic_parameters]
        self._mu = 0.0
        self._anchors: dict[Tensor, Tensor] = {}
        self._targets: list[Tensor] = [
            *self.actor_target.parameters(),
            *self.critic_target.parameters(),
        ]
        self._action_size = action_size
        self._policy = GreedyPolicy(self.actor)

    @property
    def exploration(self) -> float:
        """Standard deviation of the exploration noise now."""
        config = self.config.exploration
        progress = min(1.0, self.steps / config.steps)
        return config.start + progress * (config.end - config.start)

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:
        """Choose exploring actions, uniform ones during warm-up; see ``Learner.act``."""
        shape = (len(envs), self._action_size)
        if self.steps < self.config.warmup_steps:
            return self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)
        action = self._policy.act(observations, envs)
        action += np.float32(self.exploration) * self._rng.standard_normal(shape, np.float32)
        np.maximum(action, -1.0, out=action)
        np.minimum(action, 1.0, out=action)
        return action

    def policy(self, num_envs: int) -> GreedyPolicy:  # noqa: ARG002 - it remembers nothing
        """Return the actor as a policy; see ``Learner.policy``."""
        return self._policy

    def observe(self, transitions: Transitions) -> None:
        """Store transitions; a truncated one bootstraps like any other.

        Raises:
            LearningError: If a reward is not finite.
        """
        self.steps += len(transitions.envs)
        if not np.isfinite(transitions.reward).all():
            raise LearningError(f"reward is not finite at step {self.steps}")
        self.replay.add(
            transitions.observation,
            transitions.action,
            transitions.reward,
            transitions.next_observation,
            transitions.terminated,
        )

    def update(self) -> None:
        """Take the gradient steps that are due (algorithm 1).

        Raises:
            LearningError: If a loss is not finite; no optimizer has used it.
        """
        due = (self.steps - self.config.warmup_steps) // self.config.update_every
        while self.updates < due:
            self._update()

    def _update(self) -> None:
        with _flushed_denormals():
            batch = self.replay.sample(self.config.batch_size)
            self._update_critic(batch)
            self.updates += 1
            if self.updates % self.config.policy_delay == 0:
                self._update_actor(batch)
                with torch.no_grad():  # theta' <- tau theta + (1 - tau) theta'
                    torch._foreach_lerp_(self._targets, self._networks, self.config.tau)

    def _target_value(self, batch: Batch) -> Tensor:
        """Clipped double Q-learning with target policy smoothing (equations 10 and 14): (B,)."""
        config = self.config
        with torch.no_grad():
            action = self.actor_target(batch.next_observation)
            noise = torch.empty_like(action).normal_(generator=self._generator)
            noise.mul_(config.policy_noise).clamp_(-config.noise_clip, config.noise_clip)
            action.add_(noise).clamp_(-1.0, 1.0)
            observation_action = torch.cat((batch.next_observation, action), 1)
            value: Tensor = self.critic_target(observation_action).amin(0)
            return batch.reward + config.discount * (1.0 - batch.terminated) * value

    def _update_critic(self, batch: Batch) -> None:
        """Regress both critics on the target, weighted by importance; renew the priorities."""
        target = self._target_value(batch)
        value = self.critic(batch.observation_action)
        td_error = value - target
        loss = (batch.weights * td_error.square()).mean(1).sum()
        self._check(loss, batch, target=target, value=value)
        self.critic_optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._pull(self._critic_parameters)
        self.critic_optimizer.step()
        # The larger error of the two critics, as Fujimoto et al. 2020 (LAP) prioritise TD3.
        self.replay.update_priorities(batch.indices, td_error.detach().abs().amax(0))
        self._metrics.add("critic_loss", loss.item())
        self._metrics.add("value", value.detach().mean().item())

    def _update_actor(self, batch: Batch) -> None:
        """Ascend the first critic's value (algorithm 1, deterministic policy gradient)."""
        action = self.actor(batch.observation)
        loss = -self.critic.first(torch.cat((batch.observation, action), 1)).mean()
        self._check(loss, batch)
        self.actor_optimizer.zero_grad()
        torch.autograd.backward(loss, inputs=self._actor_parameters)
        self._pull(self._actor_parameters)
        self.actor_optimizer.step()
        self._metrics.add("actor_loss", loss.item())

    def _pull(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add the proximal term's gradient mu (w - w_anchor)."""
        if self._mu:
            for parameter in parameters:
                difference = parameter.detach() - self._anchors[parameter]
                assert parameter.grad is not None  # noqa: S101 - backward has just filled it
                parameter.grad.add_(difference, alpha=self._mu)

    def _check(self, loss: Tensor, batch: Batch, **values: Tensor) -> None:
        """Raise ``LearningError`` if the loss is not finite, naming the first tensor at fault."""
        if math.isfinite(loss.item()):
            return
        suspects = {**batch._asdict(), **values, **self._tensors}
        name = next((k for k, v in suspects.items() if not torch.isfinite(v).all()), "loss")
        raise LearningError(f"{name} is not finite at step {self.steps}, update {self.updates}")

    def pop_metrics(self) -> dict[str, float]:
        """Means since the last call, with the noise and beta now; see ``Learner``."""
        metrics = self._metrics.pop()
        if metrics:
            metrics["exploration"] = self.exploration
            metrics["beta"] = self.replay.beta
        return metrics

    def tensors(self) -> dict[str, Tensor]:
        """Networks and moments by name; see ``Learner.tensors``."""
        return dict(self._tensors)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy any subset of ``tensors()`` in.

        Raises:
            ValueError: If a name is unknown or a shape is wrong; then nothing is loaded.
        """
        load_named(self._tensors, tensors)

    def hold_near(self, mu: float) -> None:
        """Pull actor and critics to where they are now; see ``Learner.hold_near``."""
        self._mu = mu
        if mu:
            self._anchors = {p: p.detach().clone() for p in self._networks}

    def local_state(self) -> dict[str, Tensor]:
        """Counters, generators and the replay's state but for its rows; see ``Learner``."""
        state = {
            "steps": torch.tensor(self.steps),
            "updates": torch.tensor(self.updates),
            "rng": pack_generator(self._rng),
            "generator": self._generator.get_state(),
        }
        return state | {f"replay/{k}": v for k, v in self.replay.local_state().items()}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a ``local_state()``.

        Raises:
            ValueError: If an entry is missing or does not fit this learner or its replay file.
        """
        self.replay.load_local_state(
            {k.removeprefix("replay/"): v for k, v in state.items() if k.startswith("replay/")}
        )
        self.steps = int(entry(state, "steps"))
        self.updates = int(entry(state, "updates"))
        unpack_generator(self._rng, entry(state, "rng"))
        self._generator.set_state(entry(state, "generator"))

    def write_journal(self) -> None:
        """First step of a commit; see ``Learner`` and ``ReplayBuffer``."""
        self.replay.write_journal()

    def apply_journal(self) -> None:
        """Last step of a commit; see ``Learner`` and ``ReplayBuffer``."""
        self.replay.apply_journal()


class GreedyPolicy:
    """A deterministic actor without memory; implements ``f110_fl.learners.base.Policy``."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def reset(self, envs: NDArray[np.int64]) -> None:
        """Nothing to forget; see ``Policy.reset``."""

    def act(self, observations: Array, envs: NDArray[np.int64]) -> Array:  # noqa: ARG002
        """Choose actions (M, A) for observations (M, D); see ``Policy.act``."""
        with torch.inference_mode():
            action: Array = self._actor(torch.tensor(observations)).numpy()
        return action


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Round denormal floats to 0 in this thread.

    The moments of units that stay inactive decay into that range and would remain there, and
    arithmetic on them is slow: Adam's step takes up to 20 times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
