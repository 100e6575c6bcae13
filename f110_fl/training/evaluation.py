"""Greedy episodes on fixed seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter

import torch

from f110_fl.config.scenario import Scenario
from f110_fl.evaluation.watching import Watcher
from f110_fl.learners.base import Policy
from f110_fl.learners.device import use_threads
from f110_fl.seeding import Use, stream
from f110_fl.tensors import owned
from f110_fl.training.agents import make_learners
from f110_fl.training.collector import Collector, Greedy
from f110_fl.training.league_opponents import InTurn, league_entries
from f110_fl.training.records import EpisodeResult
from sim.race import Race
from sim.tracks.track import Track

MAX_BATCH = 64  # environments of an evaluation stepped together


class Evaluator:
    """The environments that a scenario's policies are evaluated in.

    Episode k has the same seed at every evaluation, so that evaluations can be compared.

    Args:
        scenario: The scenario, whose evaluation may have a track of its own.
        episodes: Episodes per evaluation.
        tracks: Its tracks, if they are built already; see `Race`.
        held_out: Of a learner that meets a league's entries, whether to meet those that training
            never meets, if there are any. Episodes meet them in turn.
    """

    def __init__(
        self,
        scenario: Scenario,
        episodes: int,
        tracks: tuple[Track, ...] | None = None,
        *,
        held_out: bool = False,
    ) -> None:
        self._entries = league_entries(scenario, held_out=held_out)
        self.race = Race(
            scenario.evaluation_env,
            num_envs=min(episodes, MAX_BATCH),
            num_threads=scenario.threads,
            tracks=tracks,
            alternatives=self._entries.alternatives if self._entries else None,
        )
        self.episodes = episodes
        self._seeds = [
            stream(scenario.shared_seed, Use.EVALUATION_EPISODE, index) for index in range(episodes)
        ]
        self._collector = Collector(self.race)

    def run(
        self,
        make_policy: Mapping[str, Callable[[int], Policy]],
        watcher: Watcher | None = None,
        part: slice = slice(None),
    ) -> list[EpisodeResult]:
        """Run every episode once.

        Args:
            make_policy: By agent, makes its policy for a number of environments.
            watcher: Told of every beginning, step and end.
            part: Which episodes, if not all; each is the same whichever others are run.

        Returns:
            The episodes, in the order of their seeds.
        """
        players = {a: Greedy(make(self.race.num_envs)) for a, make in make_policy.items()}
        first, _, _ = part.indices(len(self._seeds))
        turns = InTurn(self._entries, first, watcher) if self._entries else None
        ended = self._collector.run(self._seeds[part], players, turns or watcher, first)
        found = sorted(ended, key=itemgetter(0))
        return [turns.record(n, result) if turns else result for n, _, result in found]


class ModelEvaluator:
    """Learners that never learn: they hold the models that are evaluated.

    Args:
        scenario: The scenario, whose ``evaluation.episodes`` are run on their fixed seeds.
        evaluator: Environments to run them in; by default its own.

    Attributes:
        learners: By agent.
        race: The environments.
    """

    def __init__(self, scenario: Scenario, evaluator: Evaluator | None = None) -> None:
        use_threads(scenario.threads)
        self._evaluator = evaluator or Evaluator(scenario, scenario.evaluation.episodes)
        self.race = self._evaluator.race
        seed = partial(stream, scenario.shared_seed, Use.MODEL)
        self.learners = make_learners(scenario, self.race, seed)

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over the models among ``AGENT/...`` tensors; those that are missing stay.

        Raises:
            ValueError: If a name or shape is not the learner's.
        """
        for agent, learner in self.learners.items():
            learner.load_tensors(owned(tensors, agent, "model"))

    def run(self, watcher: Watcher | None = None, part: slice = slice(None)) -> list[EpisodeResult]:
        """Run every episode once, greedily; see `Evaluator.run`."""
        policies = {agent: learner.policy for agent, learner in self.learners.items()}
        return self._evaluator.run(policies, watcher, part)
