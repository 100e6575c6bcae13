"""Whole episodes that a policy drives, and what it saw in them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from f110_fl.learners.base import Policy
from f110_fl.robot.network import Memory
from f110_fl.training.evaluation import Evaluator, ModelEvaluator
from f110_fl.training.records import EpisodeResult

Array = NDArray[np.float32]
Index = NDArray[np.int64]


class Runtime(Protocol):
    """Runs an exported policy on one observation at a time."""

    def memory(self) -> Memory:
        """What it remembers before the first observation."""

    def act(self, observation: Array, memory: Memory) -> tuple[Array, Memory]:
        """Map an observation (D,) to an action (2,), and what to remember."""


class Driven:
    """A `Runtime` as a policy of many environments; implements ``f110_fl.learners.base.Policy``.

    Args:
        runtime: Chooses the actions.
        num_envs: Environments.
    """

    def __init__(self, runtime: Runtime, num_envs: int) -> None:
        self._runtime = runtime
        self._memories = [runtime.memory() for _ in range(num_envs)]

    def reset(self, envs: Index) -> None:
        """Forget; see ``Policy.reset``."""
        for env in envs.tolist():
            self._memories[env] = self._runtime.memory()

    def act(self, observations: Array, envs: Index) -> Array:
        """Choose actions; see ``Policy.act``."""
        actions = np.empty((len(envs), 2), np.float32)
        for k, env in enumerate(envs.tolist()):
            action, self._memories[env] = self._runtime.act(observations[k], self._memories[env])
            actions[k] = action
        return actions


class Seen:
    """A policy that keeps what it is shown, and what it chooses; implements ``Policy``.

    Args:
        policy: Chooses.

    Attributes:
        steps: Observations (M, D), actions (M, 2) and environments (M,) of each call.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.steps: list[tuple[Array, Array, Index]] = []
        self._ends: list[int] = []  # steps by the time that environment 0 began an episode

    def reset(self, envs: Index) -> None:
        """See that episodes begin; see ``Policy.reset``."""
        self._policy.reset(envs)
        if 0 in envs:
            self._ends.append(len(self.steps))

    def act(self, observations: Array, envs: Index) -> Array:
        """Choose actions; see ``Policy.act``."""
        actions = self._policy.act(observations, envs)
        self.steps.append((observations.copy(), actions.copy(), envs.copy()))
        return actions

    def some(self, count: int, rng: np.random.Generator, *, in_order: bool) -> tuple[Array, Array]:
        """Return some of the observations and actions, (K, D) and (K, 2).

        Args:
            count: K at most.
            rng: Draws them.
            in_order: Whether they are the first of one episode, as a memory needs them.
        """
        envs = np.concatenate([envs for _, _, envs in self.steps])
        observations = np.concatenate([seen for seen, _, _ in self.steps])
        actions = np.concatenate([chosen for _, chosen, _ in self.steps])
        chosen = rng.permutation(len(envs))[:count]
        if in_order:
            begun, ended = (*self._ends, len(self.steps))[:2]
            chosen = np.flatnonzero(envs == 0)[begun : min(count, ended)]
        return observations[chosen], actions[chosen]


class Drives(NamedTuple):
    """What a learner did in whole episodes.

    Attributes:
        seen: What it was shown, and what it chose.
        results: How the episodes ended.
    """

    seen: Seen
    results: list[EpisodeResult]


def drive(
    evaluator: ModelEvaluator, episodes: Evaluator, agent: str, runtime: Runtime | None = None
) -> Drives:
    """Run all episodes.

    Args:
        evaluator: Has the learners of all agents.
        episodes: The episodes.
        agent: Whose actions are looked at.
        runtime: Chooses them; None: its learner.
    """
    makers = {other: learner.policy for other, learner in evaluator.learners.items()}
    if runtime is not None:
        makers[agent] = partial(Driven, runtime)
    shown = []

    def watched(num_envs: int) -> Policy:
        shown.append(Seen(makers[agent](num_envs)))
        return shown[-1]

    results = episodes.run({**makers, agent: watched})
    return Drives(shown[0], results)
