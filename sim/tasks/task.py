"""An agent's task: its objective and its terms, judged by one compiled call a step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig, TaskConfig
from sim.tasks.objectives import OBJECTIVE_MEMORY, judge, objective_table, start_objective
from sim.tasks.outcomes import NONE, Episodes, world_outcome
from sim.tasks.terms import TERM_MEMORY, shaping, start_term, term_table
from sim.tracks import Track
from sim.tracks.centerline import Centerline
from sim.tracks.grid import Grid, make_grid
from sim.world import WorldArrays, compiled


class _Rules(NamedTuple):
    """What an agent is paid for, and what that needs to remember, for kernels."""

    objective: NDArray[np.void]  # (1,) of OBJECTIVE
    memory: NDArray[np.float64]  # (E, OBJECTIVE_MEMORY)
    terms: NDArray[np.void]  # (T,) of TERM
    term_memory: NDArray[np.float64]  # (E, T, TERM_MEMORY)


@njit(cache=True, nogil=True, error_model="numpy")
def _start(world: WorldArrays, rules: _Rules, e: int) -> None:
    objective = rules.objective[0]
    start_objective(world.arc_length, objective, rules.memory[e], e)
    for k in range(len(rules.terms)):
        memory = rules.term_memory[e, k]
        start_term(world.state, world.arc_length, rules.terms[k], memory, e, objective.car)


@njit(cache=True, nogil=True, error_model="numpy")
def _pay(
    world: WorldArrays,
    line: Centerline,
    grid: Grid,
    episodes: Episodes,
    rules: _Rules,
    first: int,
    last: int,
) -> None:
    objective = rules.objective[0]
    agent, car = objective.agent, objective.car
    state, crashed, finished = world.state, world.crashed, world.finished
    s, d = world.arc_length, world.lateral_offset
    laps, lap_steps = world.laps, world.lap_steps
    for e in range(first, last):
        episodes.rewards[e, agent] = 0.0
        if episodes.outcome[e, agent] != NONE:
            continue
        reward = 0.0
        for k in range(len(rules.terms)):
            memory = rules.term_memory[e, k]
            term = rules.terms[k]
            reward += shaping(
                state, crashed, s, d, laps, lap_steps, line, grid, term, memory, e, car
            )
        late = episodes.steps[e] >= objective.max_steps
        outcome = world_outcome(crashed[e, car], finished[e, car], late)
        memory = rules.memory[e]
        outcome, paid = judge(state, crashed, finished, s, d, objective, memory, e, outcome)
        episodes.outcome[e, agent] = outcome
        episodes.rewards[e, agent] = reward + paid


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
        track: Where it drives.
        world: The world it judges.
        episodes: Where rewards and outcomes are written.

    Raises:
        ValueError: If a part of it needs a centre line or a finish line and the track has none.
    """

    def __init__(
        self,
        config: TaskConfig,
        env: EnvConfig,
        car: int,
        track: Track,
        world: WorldArrays,
        episodes: Episodes,
    ) -> None:
        E, T = len(episodes.steps), len(config.shaping)
        rules = _Rules(
            objective=objective_table(config, env, car, track),
            memory=np.zeros((E, OBJECTIVE_MEMORY)),
            terms=term_table(config.shaping, env, car, getattr(config, "target", None), track),
            term_memory=np.zeros((E, T, TERM_MEMORY)),
        )
        self._start_arguments = world, rules
        self._pay_arguments = world, track.line, make_grid(track), episodes, rules
        self._start = compiled(_start, *self._start_arguments, 0)
        self._pay = compiled(_pay, *self._pay_arguments, 0, 1)
        for e in range(E):
            self.reset(e)

    def reset(self, env: int) -> None:
        """Begin one environment's episode, whose cars are placed."""
        self._start(*self._start_arguments, env)

    def step(self, first: int, last: int) -> None:
        """Judge the environments ``first`` to ``last - 1`` after a step."""
        self._pay(*self._pay_arguments, first, last)
