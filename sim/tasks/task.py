"""An agent's task: its objective and its terms, judged by one compiled call a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, TaskConfig
from sim.episodes import NONE, Episodes, world_outcome
from sim.native import bound, call, calls, compiled
from sim.physics.kernels import WorldArrays
from sim.tasks.measures import Lane, Step
from sim.tasks.objectives import OBJECTIVES
from sim.tasks.terms import paid_term, paid_terms
from sim.tracks.stack import TrackStack, field_of, line_of
from sim.tracks.track import Track


class _Verdict(NamedTuple):
    """What a task reads and writes of `Episodes`, for kernels."""

    rewards: NDArray[np.float64]  # (E, A)
    outcome: NDArray[np.int8]  # (E, A)
    steps: NDArray[np.int64]  # (E,)


class _Rules(NamedTuple):
    """What an agent is paid for, and what that needs to remember, for kernels."""

    agent: int  # index among the agents
    car: int  # index of the same car among the cars
    max_steps: int
    parts: NDArray[np.void]  # (K,) of CALL: what the terms, and last the objective, pay
    memory: NDArray[np.float64]  # (K, E, M)


@njit(cache=True, nogil=True, error_model="numpy")
def _start(step: Step, lane: Lane, rules: _Rules, starts: NDArray[np.void], e: int) -> None:
    for k in range(len(starts)):
        memory, start = rules.memory[k], starts[k]
        memory[e] = 0.0
        if start.function != 0:
            call(start.function, start.settings, step, lane, memory, e)


@njit(cache=True, nogil=True, error_model="numpy")
def _pay(step: Step, lane: Lane, episodes: _Verdict, rules: _Rules, first: int, last: int) -> None:
    world, agent, car = step.world, rules.agent, rules.car
    for e in range(first, last):
        late = episodes.steps[e] >= rules.max_steps
        step.rewards[e] = 0.0
        step.outcomes[e] = world_outcome(world.crashed[e, car], world.finished[e, car], late)
    for k in range(len(rules.parts)):
        part = rules.parts[k]
        call(part.function, part.settings, step, lane, rules.memory[k], first, last)
    for e in range(first, last):
        episodes.rewards[e, agent] = 0.0
        if episodes.outcome[e, agent] == NONE:
            episodes.outcome[e, agent] = step.outcomes[e]
            episodes.rewards[e, agent] = step.rewards[e]


@njit(cache=True, nogil=True, error_model="numpy")
def _pay_on_tracks(
    step: Step, tracks: TrackStack, episodes: _Verdict, rules: _Rules, first: int, last: int
) -> None:
    """`_pay` for environments on several tracks."""
    begin, world = first, step.world
    for end in range(first + 1, last + 1):
        track = world.track[begin]
        if end == last or world.track[end] != track:
            lane = Lane(line_of(tracks.lines, track), field_of(tracks, track))
            _pay(step, lane, episodes, rules, begin, end)
            begin = end


class Task:
    """Pays one agent, and may end its episode.

    `Race` runs every task between the physics and the end of the step, when ``episodes.steps``
    counts the step already and ``episodes.outcome`` is that of the step before. A task sets its
    agent's reward, 0 where the outcome is no longer ``NONE``, and its outcome: the objective's,
    which follows from `world_outcome`.

    Args:
        config: The task.
        env: The environment it is part of.
        car: Index of the car it rewards, which has no driver.
        tracks: Where it drives: a track, or those of the world, in their order.
        world: The world it judges.
        episodes: Where rewards and outcomes are written.
        stack: The tracks for kernels; needed if there are several.

    Raises:
        ValueError: If a part of it needs a centre line or a finish line and a track has none, or
            a stack is missing.
    """

    def __init__(
        self,
        config: TaskConfig,
        env: EnvConfig,
        car: int,
        tracks: Track | Sequence[Track],
        world: WorldArrays,
        episodes: Episodes,
        stack: TrackStack | None = None,
    ) -> None:
        tracks = (tracks,) if isinstance(tracks, Track) else tracks
        if stack is None and len(tracks) > 1:
            raise ValueError(f"stack: needed for {len(tracks)} tracks")
        E = len(episodes.steps)
        target = getattr(config, "target", None)  # not every objective has one
        where = env, car, target, tracks
        objective = paid_term(OBJECTIVES[type(config)], f"task {config.kind}", config, *where)
        # The settings of the parts, whose addresses are in the rules, are kept here.
        self._parts = [*paid_terms(config.shaping, *where), objective]
        self._track = world.track
        self._step = Step(world, env.physics_step, np.zeros(E), np.zeros(E, np.int64))
        self._lanes = [Lane(track.line, track.field) for track in tracks]
        numbers = max(part.term.memory for part in self._parts)
        memory = np.zeros((len(self._parts), E, numbers))
        shown = self._step, self._lanes[0], memory[0]
        self._rules = _Rules(
            agent=env.agent_cars.index(car),
            car=car,
            max_steps=env.max_steps,
            parts=calls([(part.term.pay, part.settings) for part in self._parts], *shown, 0, 1),
            memory=memory,
        )
        self._starts = calls([(part.term.start, part.settings) for part in self._parts], *shown, 0)
        self._start = compiled(_start, *shown[:2], self._rules, self._starts, 0)
        kernel: Any = _pay if stack is None else _pay_on_tracks
        lanes = self._lanes[0] if stack is None else stack
        verdict = _Verdict(episodes.rewards, episodes.outcome, episodes.steps)
        self._pay = bound(kernel, (self._step, lanes, verdict, self._rules))
        for e in range(E):
            self.reset(e)

    @property
    def memory(self) -> NDArray[np.float64]:
        """What its parts remember between steps, (K, E, M)."""
        return self._rules.memory

    def reset(self, env: int) -> None:
        """Begin one environment's episode, whose cars are placed."""
        lane = self._lanes[self._track[env]]
        self._start(self._step, lane, self._rules, self._starts, env)

    def step(self, first: int, last: int) -> None:
        """Judge the environments ``first`` to ``last - 1`` after a step."""
        self._pay(first, last)
