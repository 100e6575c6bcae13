"""What a reward is made of, for those who look on: its terms, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.config import EnvConfig, TaskConfig
from sim.episodes import OTHER_DONE, Episodes
from sim.physics.kernels import WorldArrays
from sim.tasks.task import Task
from sim.tracks.stack import TrackStack
from sim.tracks.track import Track


class RewardTerms:
    """Splits the agents' rewards into what each term of their tasks paid.

    A second look at a race, which knows nothing of it: each term is judged by a `Task` of its own,
    which pays for nothing else and has a memory of its own. So the terms are computed by the
    functions that compute the reward, and a race that nobody asks costs what it always does.

    Args:
        env: The environment.
        tracks: Where it drives.
        world: The world that its tasks judge.
        episodes: Where their rewards and outcomes are written; only read here.
        stack: The tracks for kernels; needed if there are several.

    Attributes:
        names: Of the K terms of all agents, in the order of their settings: shaping terms by their
            words, then the objectives' rewards, unless they are 0, by their settings
            (``success_reward``). What an agent has twice is numbered: ``progress``, ``progress 2``.
        paid: (K, E, A) what each term paid each agent in the latest step. The sum over the terms
            is the reward but for rounding.
    """

    def __init__(
        self,
        env: EnvConfig,
        tracks: Sequence[Track],
        world: WorldArrays,
        episodes: Episodes,
        stack: TrackStack | None = None,
    ) -> None:
        parts = [
            (name, car, part) for car in env.agent_cars for name, part in _terms(env.cars[car].task)
        ]
        names = dict.fromkeys(name for name, _, _ in parts)
        self.names = tuple(sorted(names, key=_is_reward))
        shape = (len(self.names), *episodes.rewards.shape)
        self.paid = np.zeros(shape)
        self._true = episodes.outcome
        self._outcomes: NDArray[np.int8] = np.full(shape, OTHER_DONE, np.int8)
        self._tasks = []
        for name, car, part in parts:
            k = self.names.index(name)
            own = episodes._replace(rewards=self.paid[k], outcome=self._outcomes[k])
            self._tasks.append(Task(part, env, car, tracks, world, own, stack=stack))

    def reset(self, env: int) -> None:
        """Begin an environment's episode, after the race has begun it."""
        self.paid[:, env] = 0.0
        self._outcomes[:, env] = self._true[env]
        for task in self._tasks:
            task.reset(env)

    def step(self) -> None:
        """Judge a step that the race has just made; every step must be, and once."""
        for task in self._tasks:
            task.step(0, len(self._true))
        self._outcomes[:] = self._true


def _is_reward(name: str) -> bool:
    """Whether it names what an objective pays."""
    return name.endswith("_reward")


def _terms(task: TaskConfig | None) -> Iterator[tuple[str, TaskConfig]]:
    """Yield the terms of a task by name, each as a task that pays for nothing else."""
    if task is None:
        return
    rewards: dict[str, Any] = {
        name: value for name, value in task if _is_reward(name) and value != 0.0
    }
    unpaid = dict.fromkeys(rewards, 0.0) | {"shaping": ()}
    paying: list[tuple[str, dict[str, Any]]] = [
        *((term.term, {"shaping": (term,)}) for term in task.shaping),
        *((name, {name: value}) for name, value in rewards.items()),
    ]
    seen: Counter[str] = Counter()
    for name, pays in paying:
        seen[name] += 1
        count = seen[name]
        yield name if count == 1 else f"{name} {count}", task.model_copy(update=unpaid | pays)
