"""Earlier selves of learners, which other learners meet in part of the training episodes.

Vinyals et al. 2019, "Grandmaster level in StarCraft II using multi-agent reinforcement learning",
Methods: fictitious self-play and its prioritised form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from f110_fl.config.opponents import OpponentsConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import Learner, Transitions
from f110_fl.learners.state import entry
from f110_fl.tensors import prefixed, unprefixed
from f110_fl.training.checkpoint import policy_format
from f110_fl.training.collector import Player
from f110_fl.training.records import EpisodeResult
from sim.episodes import Outcome
from sim.layout import COMMAND_SIZE
from sim.policy import Actor, PolicyFormat, make_policy
from sim.race import Race

Array = NDArray[np.float32]
Index = NDArray[np.int64]
Tensors = dict[str, torch.Tensor]

_SUCCESS: Final = Outcome.SUCCESS.name.lower()

# Weight of the episodes before, per episode: about the last hundred against an opponent count.
_DECAY: Final = 0.99


class Tally:
    """How a learner fares against one opponent.

    Attributes:
        games: Weighted number of episodes against it.
        wins: Weighted number of successes among them.
    """

    def __init__(self) -> None:
        self.games = self.wins = 0.0

    @property
    def success_rate(self) -> float:
        """Expected rate of successes against it, by the rule of succession: 1/2 before any."""
        return (self.wins + 1.0) / (self.games + 2.0)

    def count(self, *, won: bool) -> None:
        """Count an episode against it."""
        self.games = _DECAY * self.games + 1.0
        self.wins = _DECAY * self.wins + won


def draw(tallies: Sequence[Tally], power: float, rng: np.random.Generator) -> int:
    """Draw an opponent's index, with probabilities in proportion to (1 - success rate)^power."""
    rates = np.array([tally.success_rate for tally in tallies])
    weights = (1.0 - rates) ** power
    return int(rng.choice(len(rates), p=weights / weights.sum()))


class Snapshot(Tally):
    """What a learner was, as a policy that acts without noise, and how another fares against it.

    Args:
        episode: Training episodes begun before it was taken.
        form: How its tensors make up a policy.
        tensors: The learner's, those that the format names and others.

    Attributes:
        episode: See above.
        tensors: Copies of those that the format names.
        games: Weighted number of episodes against it.
        wins: Weighted number of successes among them.

    Raises:
        PolicyError: If a tensor is missing or does not fit.
    """

    def __init__(
        self, episode: int, form: PolicyFormat, tensors: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__()
        policy = make_policy(form, {name: x.numpy() for name, x in tensors.items()})
        self.episode = episode
        self.tensors = policy.tensors
        self._actor = Actor(policy, 1)

    def act(self, observations: Array, row: int, actions: Array) -> None:
        """Write the action (A,) for a row of observations (M, D) into that of actions (M, A)."""
        self._actor.write(observations[row:], actions[row:], 0, 1)


class Pool:
    """The latest snapshots of one learner, which another one meets.

    Args:
        config: Settings of the learner that meets them.
        form: Format of their policies.
    """

    def __init__(self, config: OpponentsConfig, form: PolicyFormat) -> None:
        self._config = config
        self._form = form
        self.snapshots: list[Snapshot] = []

    def due(self, episode: int) -> bool:
        """Return whether a snapshot is to be taken before the training episode of this number."""
        return episode % self._config.every == 0 or not self.snapshots

    def add(self, episode: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take a snapshot; when there are too many, the oldest goes.

        Args:
            episode: Training episodes begun so far.
            tensors: The learner's.
        """
        self.snapshots.append(Snapshot(episode, self._form, tensors))
        del self.snapshots[: -self._config.keep]

    def draw(self, rng: np.random.Generator) -> Snapshot:
        """Draw a snapshot; the rarer success against it, the likelier (``OpponentsConfig``)."""
        return self.snapshots[draw(self.snapshots, self._config.power, rng)]

    def state(self) -> Tensors:
        """Return copies of what continuing needs: each tensor of all S snapshots, (S, ...)."""
        if not self.snapshots:
            return {}
        found = {
            name: np.stack([snapshot.tensors[name] for snapshot in self.snapshots])
            for name in self._form.names
        }
        for name in ("episode", "games", "wins"):
            found[name] = np.array([getattr(snapshot, name) for snapshot in self.snapshots])
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state`; empty, if that is.

        Raises:
            ValueError: If an entry is missing or does not fit.
        """
        self.snapshots = []
        for row, episode in enumerate(entry(state, "episode").tolist() if state else ()):
            tensors = {name: entry(state, name)[row] for name in self._form.names}
            snapshot = Snapshot(episode, self._form, tensors)
            snapshot.games = float(entry(state, "games")[row])
            snapshot.wins = float(entry(state, "wins")[row])
            self.snapshots.append(snapshot)


@dataclass
class _Match:
    """Who drives in an episode: the snapshots by agent, and who learns against them."""

    learner: str = ""
    snapshots: dict[str, Snapshot] = field(default_factory=dict)


class Opponents:
    """Decides who drives in each training episode: all learners, or one against snapshots.

    It looks on while episodes run (``Watcher``), and stands between learners and collector::

        players = opponents.start(episodes, seed, explorers)
        for ended in collector.run(seeds, players, opponents):
            result = opponents.record(ended.env, ended.result)

    An episode's draws depend on its number; those of prioritised play on the episodes that have
    ended before it begins, too.

    Args:
        scenario: The scenario, in which a learner has ``opponents``.
        learners: By agent.
        num_envs: Environments.

    Raises:
        UserError: If a learner that is to be met has a policy that no format can describe.
    """

    def __init__(self, scenario: Scenario, learners: Mapping[str, Learner], num_envs: int) -> None:
        self._learners = learners
        self._pools: dict[str, dict[str, Pool]] = {}
        self._fractions: dict[str, float] = {}
        for agent, config in scenario.learners.items():
            if isinstance(config.opponents, OpponentsConfig):
                self._fractions[agent] = config.opponents.fraction
                self._pools[agent] = {
                    other: Pool(config.opponents, _format(scenario, agent, other))
                    for other in learners
                    if other != agent
                }
        self._matches = [_Match() for _ in range(num_envs)]
        self._begun = 0
        self._seed: Callable[[int], np.random.SeedSequence] = np.random.SeedSequence

    def start(
        self,
        begun: int,
        seed: Callable[[int], np.random.SeedSequence],
        players: Mapping[str, Player],
    ) -> dict[str, Player]:
        """Prepare for training, and return who plays.

        Args:
            begun: Training episodes begun so far.
            seed: Maps an episode's number to the seed of its draws.
            players: The learners at work.
        """
        self._begun, self._seed = begun, seed
        return {agent: Substituted(self, agent, player) for agent, player in players.items()}

    def begin(self, race: Race, env: int) -> None:  # noqa: ARG002 - it is a watcher's
        """Take the snapshots that are due, and draw who drives in the episode that begins."""
        number = self._begun
        for pools in self._pools.values():
            for other, pool in pools.items():
                if pool.due(number):
                    pool.add(number, self._learners[other].tensors())
        self._matches[env] = self._draw(np.random.default_rng(self._seed(number)))
        self._begun += 1

    def _draw(self, rng: np.random.Generator) -> _Match:
        left = rng.random()
        for agent, pools in self._pools.items():
            left -= self._fractions[agent]
            if left < 0.0:
                return _Match(agent, {other: pool.draw(rng) for other, pool in pools.items()})
        return _Match()

    def step(self, race: Race, envs: list[int]) -> None:
        """Do nothing."""

    def end(self, env: int, number: int) -> None:
        """Do nothing: `count` is told more."""

    def count(self, env: int, outcomes: Mapping[str, str]) -> dict[str, int]:
        """Count the episode that has ended in an environment.

        Args:
            env: The environment.
            outcomes: By car.

        Returns:
            By agent that a snapshot drove, that snapshot's episode.
        """
        match = self._matches[env]
        for snapshot in match.snapshots.values():
            snapshot.count(won=outcomes[match.learner] == _SUCCESS)
        return {agent: snapshot.episode for agent, snapshot in match.snapshots.items()}

    def record(self, env: int, result: EpisodeResult) -> EpisodeResult:
        """Count the episode that has ended, and return its result with who drove; see `count`."""
        return replace(result, snapshots=self.count(env, result.outcomes))

    def drivers(self, agent: str, envs: Index) -> list[Snapshot | None]:
        """Return which snapshots drive an agent in environments (M,); None: its learner does."""
        return [self._matches[env].snapshots.get(agent) for env in envs.tolist()]

    def state(self) -> Tensors:
        """Return what continuing between episodes needs, as ``AGENT/opponents/OTHER/...``."""
        found: Tensors = {}
        for agent, other, pool in self._each():
            found |= prefixed(f"{agent}/opponents/{other}", pool.state())
        return found

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state` among other tensors.

        Raises:
            ValueError: If an entry is missing or does not fit.
        """
        for agent, other, pool in self._each():
            pool.load_state(unprefixed(f"{agent}/opponents/{other}", tensors))

    def _each(self) -> Iterator[tuple[str, str, Pool]]:
        for agent, pools in self._pools.items():
            for other, pool in pools.items():
                yield agent, other, pool


class Substituted:
    """A learner at work, except where a snapshot of it drives; implements ``Player``.

    Args:
        opponents: Knows where that is.
        agent: The learner's agent.
        player: The learner at work.
    """

    def __init__(self, opponents: Opponents, agent: str, player: Player) -> None:
        self._opponents = opponents
        self._agent = agent
        self._player = player

    def begin(self, envs: Index) -> None:
        """Prepare for episodes that begin; see ``Player.begin``."""
        own = self._own(envs)
        if own.any():
            self._player.begin(envs[own])

    def act(self, observations: Array, envs: Index) -> Array:
        """Choose actions (M, A) for observations (M, D); see ``Player.act``."""
        own = self._own(envs)
        actions = np.empty((len(envs), COMMAND_SIZE), np.float32)
        if own.any():
            actions[own] = self._player.act(observations[own], envs[own])
        for row, snapshot in enumerate(self._opponents.drivers(self._agent, envs)):
            if snapshot is not None:
                snapshot.act(observations, row, actions)
        return actions

    def learn(self, transitions: Transitions) -> None:
        """Let the learner take in its own transitions; see ``Player.learn``."""
        own = self._own(transitions.envs)
        if own.any():
            self._player.learn(transitions.rows(own))

    def _own(self, envs: Index) -> NDArray[np.bool_]:
        drivers = self._opponents.drivers(self._agent, envs)
        return np.array([snapshot is None for snapshot in drivers])


def check_opponents(scenario: Scenario) -> None:
    """Check that all learners that are to be met have policies that can be kept.

    Raises:
        UserError: For the first that has not.
    """
    for agent, config in scenario.learners.items():
        for other in scenario.learners if isinstance(config.opponents, OpponentsConfig) else ():
            if other != agent:
                _format(scenario, agent, other)


def _format(scenario: Scenario, agent: str, other: str) -> PolicyFormat:
    """Return the format of the snapshots of ``other`` that ``agent`` meets."""
    form = policy_format(other, scenario)
    if form is None or form.memory is not None:
        raise UserError(
            f"learners.{agent}.opponents: no snapshots can be kept of {other!r}, whose network has "
            "a memory or an encoder of another package; allowed: neither of them"
        )
    return form
