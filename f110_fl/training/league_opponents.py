"""Entries of a league as opponents: who drives another car in each episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, did_you_mean
from f110_fl.evaluation.watching import Watcher
from f110_fl.learners.state import entry
from f110_fl.loading.leagues import load_league
from f110_fl.tensors import prefixed, unprefixed
from f110_fl.training.collector import Player
from f110_fl.training.opponents import Tally, draw
from f110_fl.training.records import EpisodeResult
from sim.config.drivers import DriverConfig
from sim.episodes import Outcome
from sim.race import Race

Tensors = dict[str, torch.Tensor]
_SUCCESS = Outcome.SUCCESS.name.lower()


class Entries(NamedTuple):
    """Entries of a league that a learner may meet."""

    car: str  # which car they drive
    drivers: dict[str, DriverConfig]  # by name

    @property
    def alternatives(self) -> dict[str, list[DriverConfig]]:
        """The drivers as `Race` takes them."""
        return {self.car: list(self.drivers.values())}


def league_entries(scenario: Scenario, *, held_out: bool) -> Entries | None:
    """Read the entries that a scenario's learner meets; None if it meets no league's.

    Args:
        scenario: The scenario.
        held_out: Whether to return those that training never meets, if there are any.

    Raises:
        UserError: If the league cannot be read, an entry that is held out is not in it, or none is
            left.
    """
    if scenario.league_opponents is None:
        return None
    agent, config = scenario.league_opponents
    league = load_league(Path(config.league))
    names = [name for name, own in league.entries.items() if own.role != "attacker"]
    key = f"learners.{agent}.opponents.held_out"
    for name in config.held_out:
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f"{key}: found {name!r}; allowed: {', '.join(names)}{hint}")
    met = [name for name in names if name not in config.held_out]
    if not met:
        raise UserError(f"{key}: nobody is left to meet in training")
    if held_out and config.held_out:
        met = list(config.held_out)
    car = config.car or next(own.name for own in scenario.env.cars if own.driver is not None)
    return Entries(car, {name: _aimed(league.entries[name].driver, agent) for name in met})


def _aimed(driver: DriverConfig, agent: str) -> DriverConfig:
    """Return a driver that has the learner's car as its target, if it has any."""
    if getattr(driver, "target", None) is None:
        return driver
    return driver.model_copy(update={"target": agent})


def check_league(scenario: Scenario) -> None:
    """Build the environments with every entry once.

    Raises:
        UserError: If the league cannot be read, or an entry does not fit the car.
    """
    if scenario.league_opponents is None:
        return
    agent, config = scenario.league_opponents
    for held_out in (False, True):
        entries = league_entries(scenario, held_out=held_out)
        for name, driver in entries.drivers.items() if entries else ():
            try:
                Race(scenario.env, alternatives={entries.car: [driver]} if entries else None)
            except ValueError as error:
                where = f"learners.{agent}.opponents: {config.league}"
                raise UserError(f"{where}: {name}: {error}") from None


class LeagueOpponents:
    """Draws who drives in each training episode: an entry of the league, or the scenario's driver.

    It looks on while episodes run, as `f110_fl.training.opponents.Opponents` does. Each environment
    has an opponent of its own. An episode's draw depends on its number and, but for ``power`` 0, on
    the episodes that have ended before it begins.

    Args:
        scenario: The scenario, with ``league_opponents``.
        entries: Whom the learner meets.
        num_envs: Environments.
    """

    def __init__(self, scenario: Scenario, entries: Entries, num_envs: int) -> None:
        agent, config = scenario.league_opponents or ("", None)
        if config is None:
            raise ValueError("the scenario has no league opponents")
        self._agent, self._config = agent, config
        self.car, self._names = entries.car, list(entries.drivers)
        self.tallies = [Tally() for _ in self._names]
        self._met: list[int | None] = [None] * num_envs
        self._begun = 0
        self._seed: Callable[[int], np.random.SeedSequence] = np.random.SeedSequence

    def start(
        self,
        begun: int,
        seed: Callable[[int], np.random.SeedSequence],
        players: Mapping[str, Player],
    ) -> dict[str, Player]:
        """Prepare for training, and return who plays: the learners at work.

        Args:
            begun: Training episodes begun so far.
            seed: Maps an episode's number to the seed of its draws.
            players: The learners at work.
        """
        self._begun, self._seed = begun, seed
        return dict(players)

    def begin(self, race: Race, env: int) -> None:
        """Draw who drives in the episode that begins."""
        rng = np.random.default_rng(self._seed(self._begun))
        self._begun += 1
        met = rng.random() < self._config.fraction
        self._met[env] = draw(self.tallies, self._config.power, rng) if met else None
        race.choose_driver(env, self.car, self._met[env])

    def step(self, race: Race, envs: list[int]) -> None:
        """Do nothing."""

    def end(self, env: int, number: int) -> None:
        """Do nothing: `record` is told more."""

    def record(self, env: int, result: EpisodeResult) -> EpisodeResult:
        """Count the episode that has ended, and return its result with who drove."""
        met = self._met[env]
        if met is None:
            return result
        self.tallies[met].count(won=result.outcomes[self._agent] == _SUCCESS)
        return replace(result, opponents={self.car: self._names[met]})

    def state(self) -> Tensors:
        """Return what continuing needs: games and wins (N,), as ``AGENT/opponents/CAR/...``."""
        found = {
            name: torch.tensor([getattr(t, name) for t in self.tallies], dtype=torch.float64)
            for name in ("games", "wins")
        }
        return dict(prefixed(f"{self._agent}/opponents/{self.car}", found))

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state` among other tensors; from nothing, if there is none.

        Raises:
            ValueError: If an entry is missing or does not fit.
        """
        state = unprefixed(f"{self._agent}/opponents/{self.car}", tensors)
        self.tallies = [Tally() for _ in self._names]
        for name in ("games", "wins") if state else ():
            values = entry(state, name).tolist()
            if len(values) != len(self.tallies):
                raise ValueError(f"opponents: {len(values)} entries, found {len(self.tallies)}")
            for tally, value in zip(self.tallies, values, strict=True):
                setattr(tally, name, value)


class InTurn:
    """Lets entries drive in turn in an evaluation's episodes, and looks on for another watcher.

    Args:
        entries: Whom the policy meets: episode k the k-th, counted around.
        first: Number of the first episode.
        watcher: Told of every beginning, step and end.
    """

    def __init__(self, entries: Entries, first: int, watcher: Watcher | None) -> None:
        self._entries, self._names = entries, list(entries.drivers)
        self._next, self._watcher = first, watcher

    def begin(self, race: Race, env: int) -> None:
        """Choose who drives; episodes begin in the order of their numbers."""
        race.choose_driver(env, self._entries.car, self._next % len(self._names))
        self._next += 1
        if self._watcher is not None:
            self._watcher.begin(race, env)

    def step(self, race: Race, envs: list[int]) -> None:
        """Tell the watcher."""
        if self._watcher is not None:
            self._watcher.step(race, envs)

    def end(self, env: int, number: int) -> None:
        """Tell the watcher."""
        if self._watcher is not None:
            self._watcher.end(env, number)

    def record(self, number: int, result: EpisodeResult) -> EpisodeResult:
        """Return an episode's result with who drove."""
        name = self._names[number % len(self._names)]
        return replace(result, opponents={self._entries.car: name})
