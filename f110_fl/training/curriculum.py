"""A curriculum: training episodes get harder as an agent succeeds, and easier as it fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from f110_fl.config.curriculum import CurriculumConfig
from sim.config import EnvConfig
from sim.episodes import Outcome
from sim.race import Race

_SUCCESS = Outcome.SUCCESS.name.lower()


class Curriculum:
    """The stage that training is at, and when it changes.

    The success rate is that of the stage's latest ``window`` episodes, once there are as many.
    When it has been above ``raise_above`` after each of ``patience`` episodes in a row, the next
    stage begins; when below ``lower_below``, the one before. A new stage has an empty window.

    Stages depend on the outcomes alone; an episode depends on its seed and on the stage at which
    it began. Call `apply` once before the first episode, and whenever `observe` says that the
    stage has changed::

        if curriculum.observe(outcome, env):
            curriculum.apply(race)

    Args:
        config: The curriculum.
        env: The environment that it is for.

    Attributes:
        config: The curriculum.
        number: Index of the stage.

    Raises:
        ValueError: If a stage names a spawn set that the environment does not have.
    """

    def __init__(self, config: CurriculumConfig, env: EnvConfig) -> None:
        self.config = config
        self._spawn_sets = [stage.indices(env) for stage in config.stages]
        self.number = 0
        self._outcomes: deque[bool] = deque(maxlen=config.window)
        self._high = self._low = 0  # episodes in a row with a rate out of bounds
        self._old: set[int] = set()  # environments whose episode began at another stage

    @property
    def success_rate(self) -> float | None:
        """Success rate over the window; None while the stage has had fewer episodes."""
        full = len(self._outcomes) == self.config.window
        return sum(self._outcomes) / self.config.window if full else None

    def apply(self, race: Race) -> None:
        """Let the episodes that begin from now on in a race be those of the stage.

        Episodes that are under way stay as they are, and will not count.
        """
        race.allow_spawn_sets(self._spawn_sets[self.number])
        race.set_difficulty(*self.config.stages[self.number].difficulties)
        self._old = set(np.flatnonzero(~race.episodes.over).tolist())

    def observe(self, outcome: str | None, env: int = 0) -> bool:
        """Count a training episode that has ended.

        Args:
            outcome: The agent's outcome as in episode records, such as "success"; None: its learner
                did not drive, and the episode does not count.
            env: Index of the environment that it ran in.

        Returns:
            Whether the stage has changed.
        """
        if env in self._old:
            self._old.remove(env)
            return False
        if outcome is None:
            return False
        self._outcomes.append(outcome == _SUCCESS)
        rate = self.success_rate
        if rate is None:
            return False
        self._high = self._high + 1 if rate > self.config.raise_above else 0
        self._low = self._low + 1 if rate < self.config.lower_below else 0
        number = self.number
        if self._high >= self.config.patience:
            number = min(number + 1, len(self.config.stages) - 1)
        elif self._low >= self.config.patience:
            number = max(number - 1, 0)
        if number == self.number:
            return False
        self.number = number
        self._outcomes.clear()
        self._high = self._low = 0
        return True

    def state(self) -> dict[str, Any]:
        """Return what continuing between episodes needs, for JSON."""
        return {
            "stage": self.number,
            "outcomes": [int(success) for success in self._outcomes],
            "high": self._high,
            "low": self._low,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` while no episode is under way; call `apply` afterwards.

        Raises:
            ValueError: If it is not the state of a curriculum of these settings.
        """
        try:
            number, outcomes = int(state["stage"]), [bool(item) for item in state["outcomes"]]
            high, low = int(state["high"]), int(state["low"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a curriculum: {error!r}") from error
        if not 0 <= number < len(self.config.stages) or len(outcomes) > self.config.window:
            raise ValueError(
                f"state of another curriculum: stage {number}, {len(outcomes)} outcomes; this one "
                f"has {len(self.config.stages)} stages and a window of {self.config.window}"
            )
        self.number, self._high, self._low = number, high, low
        self._outcomes = deque(outcomes, maxlen=self.config.window)
        self._old = set()
