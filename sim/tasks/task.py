"""An agent's task: its objective and its terms, judged by one compiled call a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, TaskConfig
from sim.tasks.measures import Course
from sim.tasks.objectives import OBJECTIVE_MEMORY, judge, objective_table, start_objective
from sim.tasks.outcomes import NONE, Episodes, world_outcome
from sim.tasks.terms import TERM_MEMORY, shaping, start_term, term_table
from sim.tracks import Track
from sim.tracks.distance_field import make_grid
from sim.tracks.stack import TrackStack, grid_of, line_of
from sim.world import WorldArrays, compiled


class _Rules(NamedTuple):
    """What an agent is paid for, and what that needs to remember, for kernels."""

    objective: NDArray[np.void]  # (1,) of OBJECTIVE
    memory: NDArray[np.float64]  # (E, OBJECTIVE_MEMORY)
    terms: NDArray[np.void]  # (T,) of TERM
    term_memory: NDArray[np.float64]  # (E, T, TERM_MEMORY)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _lap_length(course: Course) -> float:
    return course.line.length if course.line.closed else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _start(world: WorldArrays, course: Course, rules: _Rules, e: int) -> None:
    objective, length = rules.objective[0], _lap_length(course)
    s = world.arc_length
    start_objective(s, length, objective, rules.memory[e], e)
    for k in range(len(rules.terms)):
        memory = rules.term_memory[e, k]
        start_term(world.state, s, length, rules.terms[k], memory, e, objective.car)


@njit(cache=True, nogil=True, error_model="numpy")
def _pay(
    world: WorldArrays, course: Course, episodes: Episodes, rules: _Rules, first: int, last: int
) -> None:
    objective, length = rules.objective[0], _lap_length(course)
    agent, car = objective.agent, objective.car
    state, crashed, finished = world.state, world.crashed, world.finished
    s, d = world.arc_length, world.lateral_offset
    laps, times = world.laps, world.lap_steps
    for e in range(first, last):
        episodes.rewards[e, agent] = 0.0
        if episodes.outcome[e, agent] != NONE:
            continue
        reward = 0.0
        for k in range(len(rules.terms)):
            term, memory = rules.terms[k], rules.term_memory[e, k]
            reward += shaping(
                state, crashed, s, d, laps, times, length, course, term, memory, e, car
            )
        late = episodes.steps[e] >= objective.max_steps
        outcome = world_outcome(crashed[e, car], finished[e, car], late)
        memory = rules.memory[e]
        outcome, paid = judge(state, crashed, finished, s, d, length, objective, memory, e, outcome)
        episodes.outcome[e, agent] = outcome
        episodes.rewards[e, agent] = reward + paid


@njit(cache=True, nogil=True, error_model="numpy")
def _pay_on_tracks(
    world: WorldArrays,
    tracks: TrackStack,
    physics_step: float,
    episodes: Episodes,
    rules: _Rules,
    first: int,
    last: int,
) -> None:
    """`_pay` for environments on several tracks."""
    begin = first
    for end in range(first + 1, last + 1):
        track = world.track[begin]
        if end == last or world.track[end] != track:
            course = Course(line_of(tracks.lines, track), grid_of(tracks, track), physics_step)
            _pay(world, course, episodes, rules, begin, end)
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
        E, T = len(episodes.steps), len(config.shaping)
        rules = _Rules(
            objective=objective_table(config, env, car, tracks),
            memory=np.zeros((E, OBJECTIVE_MEMORY)),
            terms=term_table(config.shaping, env, car, getattr(config, "target", None), tracks),
            term_memory=np.zeros((E, T, TERM_MEMORY)),
        )
        step = env.physics_step
        self._courses = [Course(track.line, make_grid(track), step) for track in tracks]
        self._world, self._rules = world, rules
        self._start = compiled(_start, world, self._courses[0], rules, 0)
        kernel: Any = _pay if stack is None else _pay_on_tracks
        where: tuple[Any, ...] = (self._courses[0],) if stack is None else (stack, step)
        self._pay_arguments = world, *where, episodes, rules
        self._pay = compiled(kernel, *self._pay_arguments, 0, 1)
        for e in range(E):
            self.reset(e)

    def reset(self, env: int) -> None:
        """Begin one environment's episode, whose cars are placed."""
        self._start(self._world, self._courses[self._world.track[env]], self._rules, env)

    def step(self, first: int, last: int) -> None:
        """Judge the environments ``first`` to ``last - 1`` after a step."""
        self._pay(*self._pay_arguments, first, last)
