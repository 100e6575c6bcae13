"""An agent's task: its objective and its terms, judged by one compiled call a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, TaskConfig
from sim.episodes import NONE, Episodes, world_outcome
from sim.native import call, calls, compiled
from sim.physics.kernels import WorldArrays
from sim.tasks.measures import Lane, Step, lap_length
from sim.tasks.objectives import OBJECTIVE_MEMORY, judge, objective_table, start_objective
from sim.tasks.terms import paid_terms
from sim.tracks.stack import TrackStack, field_of, line_of
from sim.tracks.track import Track


class _Verdict(NamedTuple):
    """What a task reads and writes of `Episodes`, for kernels."""

    rewards: NDArray[np.float64]  # (E, A)
    outcome: NDArray[np.int8]  # (E, A)
    steps: NDArray[np.int64]  # (E,)


class _Rules(NamedTuple):
    """What an agent is paid for, and what that needs to remember, for kernels."""

    objective: NDArray[np.void]  # (1,) of OBJECTIVE
    memory: NDArray[np.float64]  # (E, OBJECTIVE_MEMORY)
    terms: NDArray[np.void]  # (T,) of CALL: what they pay
    term_memory: NDArray[np.float64]  # (T, E, M)


@njit(cache=True, nogil=True, error_model="numpy")
def _start(step: Step, lane: Lane, rules: _Rules, terms: NDArray[np.void], e: int) -> None:
    objective, length = rules.objective[0], lap_length(lane.line)
    start_objective(step.world.arc_length, length, objective, rules.memory[e], e)
    for k in range(len(terms)):
        memory, term = rules.term_memory[k], terms[k]
        memory[e] = 0.0
        if term.function != 0:
            call(term.function, term.settings, step, lane, memory, e)


@njit(cache=True, nogil=True, error_model="numpy")
def _pay(step: Step, lane: Lane, episodes: _Verdict, rules: _Rules, first: int, last: int) -> None:
    step.rewards[first:last] = 0.0
    for k in range(len(rules.terms)):
        term = rules.terms[k]
        call(term.function, term.settings, step, lane, rules.term_memory[k], first, last)
    world, objective, length = step.world, rules.objective[0], lap_length(lane.line)
    agent, car = objective.agent, objective.car
    state, crashed, finished = world.state, world.crashed, world.finished
    s, d = world.arc_length, world.lateral_offset
    for e in range(first, last):
        episodes.rewards[e, agent] = 0.0
        if episodes.outcome[e, agent] != NONE:
            continue
        late = episodes.steps[e] >= objective.max_steps
        outcome = world_outcome(crashed[e, car], finished[e, car], late)
        memory = rules.memory[e]
        outcome, paid = judge(state, crashed, finished, s, d, length, objective, memory, e, outcome)
        episodes.outcome[e, agent] = outcome
        episodes.rewards[e, agent] = step.rewards[e] + paid


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
    agent's reward, 0 where the outcome is not ``NONE`` any more, and may set an outcome of its
    own; where it leaves ``NONE``, `world_outcome` follows.

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
        objective, rewards = objective_table(config, env, car, tracks), np.zeros(E)
        self._track, self._step = world.track, Step(world, env.physics_step, rewards)
        self._lanes = [Lane(track.line, track.field) for track in tracks]
        # The settings of the terms, whose addresses are in the rules, are kept here.
        target = getattr(config, "target", None)  # not every objective has one
        self._terms = paid_terms(config.shaping, env, car, target, tracks)
        numbers = max((paid.term.memory for paid in self._terms), default=0)
        memory = np.zeros((len(self._terms), E, numbers))
        shown = self._step, self._lanes[0], np.zeros((E, numbers))
        self._rules = _Rules(
            objective=objective,
            memory=np.zeros((E, OBJECTIVE_MEMORY)),
            terms=calls([(paid.term.pay, paid.settings) for paid in self._terms], *shown, 0, 1),
            term_memory=memory,
        )
        starts = [(paid.term.start, paid.settings) for paid in self._terms]
        self._starts = calls(starts, *shown, 0)
        self._start = compiled(_start, self._step, self._lanes[0], self._rules, self._starts, 0)
        kernel: Any = _pay if stack is None else _pay_on_tracks
        where = self._lanes[0] if stack is None else stack
        verdict = _Verdict(episodes.rewards, episodes.outcome, episodes.steps)
        self._pay_arguments = self._step, where, verdict, self._rules
        self._pay = compiled(kernel, *self._pay_arguments, 0, 1)
        for e in range(E):
            self.reset(e)

    def reset(self, env: int) -> None:
        """Begin one environment's episode, whose cars are placed."""
        lane = self._lanes[self._track[env]]
        self._start(self._step, lane, self._rules, self._starts, env)

    def step(self, first: int, last: int) -> None:
        """Judge the environments ``first`` to ``last - 1`` after a step."""
        self._pay(*self._pay_arguments, first, last)
