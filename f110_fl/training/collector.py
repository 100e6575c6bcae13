"""Episodes in a batch of environments, one compiled step for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from f110_fl.evaluation.watching import Watcher
from f110_fl.learners.base import Learner, LearningError, Policy, Transitions
from f110_fl.seeding import integer
from f110_fl.training.records import EpisodeResult
from sim.episodes import NONE
from sim.race import Race

Array = NDArray[np.float32]
Index = NDArray[np.int64]


class Player(Protocol):
    """Chooses one agent's actions in every environment, and is told what they led to."""

    def begin(self, envs: Index) -> None:
        """Prepare for episodes that begin in these environments."""

    def act(self, observations: Array, envs: Index) -> Array:
        """Return the actions (M, A) for the observations (M, D) of the environments (M,)."""

    def learn(self, transitions: Transitions) -> None:
        """Take in what the actions led to."""


class Explorer:
    """A learner at work: it explores and learns.

    Args:
        agent: Its name.
        learner: The learner.
    """

    def __init__(self, agent: str, learner: Learner) -> None:
        self._agent = agent
        self._learner = learner
        self.act = learner.act

    def begin(self, envs: Index) -> None:
        """Do nothing: a learner knows from the transition that ended the episode before."""

    def learn(self, transitions: Transitions) -> None:
        """Take in transitions, and do the learning that is due.

        Raises:
            LearningError: If a reward or a loss is not finite; it names the agent.
        """
        try:
            self._learner.observe(transitions)
            self._learner.update()
        except LearningError as error:
            raise LearningError(f"{self._agent}: {error}") from error


class Greedy:
    """A policy under evaluation."""

    def __init__(self, policy: Policy) -> None:
        self.begin = policy.reset
        self.act = policy.act

    def learn(self, transitions: Transitions) -> None:
        """Do nothing."""


@dataclass
class Timings:
    """How long what took since the last episode ended, s, and how full the batch was."""

    act: float = 0.0  # choosing actions
    step: float = 0.0  # simulating
    learn: float = 0.0  # learning
    slots: int = 0  # environments times steps
    idle: int = 0  # of these, without an episode

    def summary(self) -> dict[str, float]:
        """Return the times and the idle share of the batch."""
        idle = self.idle / max(self.slots, 1)
        return {"act": self.act, "step": self.step, "learn": self.learn, "idle": idle}


class EndedEpisode(NamedTuple):
    """An episode that has just ended, in an environment that still shows its end."""

    number: int  # that of its seed
    env: int
    result: EpisodeResult


class Collector:
    """Runs episodes side by side in a race's environments.

    Environment e begins with episode e; whenever an episode ends, its environment takes the next.
    Environments are visited in their order, so what is collected depends only on the seeds and
    the number of environments.

    Args:
        race: The environments; the collector resets and steps them.
        in_flight: Largest number of episodes at the same time; by default one per environment.
    """

    def __init__(self, race: Race, in_flight: int | None = None) -> None:
        self.race = race
        self._used = min(race.num_envs, in_flight or race.num_envs)
        episodes = race.episodes
        self._before = np.empty_like(episodes.observations)
        self._actions = np.zeros((*episodes.outcome.shape, 2), np.float32)
        self._running = np.zeros(race.num_envs, np.bool_)
        self._all = np.arange(race.num_envs)

    def run(
        self,
        seeds: Iterable[np.random.SeedSequence],
        players: Mapping[str, Player],
        watcher: Watcher | None = None,
        first: int = 0,
    ) -> Iterator[EndedEpisode]:
        """Run one episode per seed, and yield each as it ends, before another takes its place.

        Args:
            seeds: Seeds of the episodes.
            players: One per agent.
            watcher: Looks on: at every beginning, step and end.
            first: Number of the first seed's episode.
        """
        race, running = self.race, self._running
        waiting = enumerate(seeds, first)
        numbers: dict[int, int] = {}
        running[:] = False
        self._start(waiting, numbers, range(self._used), players, watcher)
        timings, last = Timings(), time.perf_counter()
        while running.any():
            self._step(players, timings)
            if watcher is not None:
                watcher.step(race, np.flatnonzero(running).tolist())
            for env in np.flatnonzero(running & race.episodes.over).tolist():
                if watcher is not None:
                    watcher.end(env, numbers[env])
                result = self._result(env, time.perf_counter() - last, timings)
                yield EndedEpisode(numbers[env], env, result)
                timings, last = Timings(), time.perf_counter()  # what the caller did is its own
                running[env] = False
                self._start(waiting, numbers, [env], players, watcher)

    def _start(
        self,
        waiting: Iterator[tuple[int, np.random.SeedSequence]],
        numbers: dict[int, int],
        envs: Iterable[int],
        players: Mapping[str, Player],
        watcher: Watcher | None,
    ) -> None:
        started = []
        for env, (number, sequence) in zip(envs, waiting, strict=False):
            self.race.reset(env, integer(sequence))
            self._running[env], numbers[env] = True, number
            started.append(env)
            if watcher is not None:
                watcher.begin(self.race, env)
        for player in players.values() if started else ():
            player.begin(np.array(started))

    def _step(self, players: Mapping[str, Player], timings: Timings) -> None:
        """Let every player act, step, and let every player learn."""
        episodes = self.race.episodes
        begun = time.perf_counter()
        acting = (episodes.outcome == NONE) & self._running[:, None]
        rows = [self._rows(acting[:, a]) for a in range(acting.shape[1])]
        np.copyto(self._before, episodes.observations)
        for a, agent in enumerate(self.race.agents):
            if len(rows[a]):
                self._actions[rows[a], a] = players[agent].act(self._before[rows[a], a], rows[a])
        acted = time.perf_counter()
        self.race.step(self._actions)
        stepped = time.perf_counter()
        for a, agent in enumerate(self.race.agents):
            if len(rows[a]):
                players[agent].learn(self._transitions(a, rows[a]))
        timings.act += acted - begun
        timings.step += stepped - acted
        timings.learn += time.perf_counter() - stepped
        timings.slots += len(self._running)
        timings.idle += int(np.count_nonzero(~self._running))

    def _rows(self, acting: NDArray[np.bool_]) -> Index:
        return self._all if acting.all() else np.flatnonzero(acting)

    def _transitions(self, agent: int, rows: Index) -> Transitions:
        episodes = self.race.episodes
        return Transitions(
            envs=rows,
            observation=self._before[rows, agent],
            action=self._actions[rows, agent],
            reward=episodes.rewards[rows, agent],
            next_observation=episodes.observations[rows, agent],
            terminated=episodes.terminated[rows, agent],
            truncated=episodes.truncated[rows, agent],
        )

    def _result(self, env: int, seconds: float, timings: Timings) -> EpisodeResult:
        race, episodes = self.race, self.race.episodes
        return EpisodeResult(
            steps=int(episodes.steps[env]),
            seconds=seconds,
            returns={agent: float(episodes.returns[env, a]) for a, agent in enumerate(race.agents)},
            outcomes={car: o.name.lower() for car, o in race.outcomes(env).items()},
            lap_times={car.name: race.lap_times(env, c) for c, car in enumerate(race.config.cars)},
            collect=timings.summary(),
        )
