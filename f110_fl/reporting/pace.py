"""How fast a session trains, how long the rest takes, and what would shorten it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from f110_fl.config.learners import OffPolicyConfig
from f110_fl.config.scenario import Scenario
from f110_fl.training.records import EpisodeKind, EpisodeRecord

LONG: Final = 24 * 3600.0  # s from which on a run's length is worth a warning
FIRST: Final = 60.0  # s from which on an estimate is worth saying: starting takes some of them
FEW_ENVS: Final = 32  # environments below which more of them shorten a run
NOTICEABLE: Final = 0.2  # share of the time from which on evaluations are worth mentioning


class Pace:
    """The pace of one session: this process's part of a run, which may be resumed.

    Args:
        scenario: The run's scenario.
        earlier: Training episodes that each client completed before; empty: none.
        parallel: Clients that work at the same time; None: this process does not choose.
        resumed: Whether the run is resumed, so that its settings cannot change.
        clock: Seconds from some beginning.
    """

    def __init__(
        self,
        scenario: Scenario,
        earlier: Sequence[int] = (),
        *,
        parallel: int | None = None,
        resumed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        clients = scenario.federated.clients
        self.earlier = list(earlier) or [0] * clients
        self.total = scenario.episodes * clients
        self._scenario = scenario
        self._parallel = parallel
        self.resumed = resumed
        self._clock = clock
        self._started = clock()
        self._seconds: dict[EpisodeKind, float] = {"train": 0.0, "evaluate": 0.0}
        self._said = False

    def count(self, record: EpisodeRecord) -> None:
        """Take the seconds of an episode."""
        self._seconds[record.kind] += record.result.seconds

    def elapsed(self) -> float:
        """Return the length of the session so far, s."""
        return self._clock() - self._started

    def remaining(self, done: int) -> float | None:
        """Return how long the rest takes at the session's pace, s; None before its first episode.

        Args:
            done: Training episodes of all clients together, those of earlier sessions included.
        """
        own = done - sum(self.earlier)
        return self.elapsed() * (self.total - done) / own if own > 0 else None

    def warning(self, done: int) -> list[str]:
        """Return once the lines that a long run is worth, after the session's first minute.

        Args:
            done: As for `remaining`.

        Returns:
            The lines; none if there is nothing to say, or it was said.
        """
        remaining = self.remaining(done)
        if self._said or self.elapsed() < FIRST or remaining is None or remaining < LONG:
            return []
        self._said = True
        hours = round(remaining / 3600)
        line = f"At this pace the run takes {hours // 24} d {hours % 24} h more."
        ways = self._ways()
        if not ways:
            return [line]
        line += " Shorter:" if self.resumed else " Shorter, in a new run with:"
        width = max(len(flag) for flag, _ in ways)
        return [line, *(f"  {flag:<{width}}  {why}" for flag, why in ways)]

    def _ways(self) -> list[tuple[str, str]]:
        """Return the flags that would shorten this run, each beside its present value."""
        scenario, cores = self._scenario, os.cpu_count() or 1
        clients, envs = scenario.federated.clients, scenario.collect.num_envs
        ways = []
        if self._parallel is not None and self._parallel < min(clients, cores):
            of = f"{self._parallel} of {clients} clients ({cores} cores)"
            ways.append(("--max-parallel N", f"more than {of}"))
        if self.resumed:
            return ways
        ways.append(("--episodes N", f"fewer than {scenario.episodes}"))
        if envs < FEW_ENVS:
            ways.append(("--collect-workers N", f"more than {envs} environments at a time"))
        for agent, learner in scenario.learners.items():
            if isinstance(learner, OffPolicyConfig):
                flag = f"--set learners.{agent}.update_every=N"
                ways.append((flag, f"more than {learner.update_every} steps per update"))
        share = self._seconds["evaluate"] / max(sum(self._seconds.values()), 1e-9)
        if share >= NOTICEABLE:
            episodes = scenario.evaluation.episodes
            ways.append(("--eval-episodes N", f"fewer than {episodes} ({share:.0%} of the time)"))
        return ways
