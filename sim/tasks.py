"""How episodes are judged: outcomes, and the rewards of tasks."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import ConvoyLockConfig, EnvConfig, TaskConfig
from sim.layout import V, X, Y
from sim.world import WorldArrays


class Outcome(IntEnum):
    """How an agent's episode ended: 1 to 3 terminate it, 4 to 6 truncate it."""

    NONE = 0  # it has not ended
    SUCCESS = 1  # the agent's task is accomplished
    CRASH = 2  # the agent touched a wall or a car
    FINISHED = 3  # the agent crossed the finish line
    IDLE = 4  # the agent's task gave up on a standing car
    TIME_LIMIT = 5  # max_steps
    OTHER_DONE = 6  # what ended the episode happened to another car


# Plain integers, because arrays of int8 take no enum members inside compiled code.
NONE: Final = int(Outcome.NONE)
SUCCESS: Final = int(Outcome.SUCCESS)
CRASH: Final = int(Outcome.CRASH)
FINISHED: Final = int(Outcome.FINISHED)
IDLE: Final = int(Outcome.IDLE)
TIME_LIMIT: Final = int(Outcome.TIME_LIMIT)
OTHER_DONE: Final = int(Outcome.OTHER_DONE)


class Episodes(NamedTuple):
    """What a batch of episodes returns at each step; kernels take this whole.

    E environments, A agents (the cars without a driver, in order), D numbers an observation.
    An agent that is done keeps its outcome and flags, and earns 0, until its environment is
    reset.
    """

    observations: NDArray[np.float32]  # (E, A, D)
    rewards: NDArray[np.float64]  # (E, A) of the latest step
    returns: NDArray[np.float64]  # (E, A) sum of this episode's rewards
    terminated: NDArray[np.bool_]  # (E, A) ended in a state from which nothing more is earned
    truncated: NDArray[np.bool_]  # (E, A) cut off: the state has a value; never both
    outcome: NDArray[np.int8]  # (E, A) of `Outcome`
    steps: NDArray[np.int64]  # (E,) actions taken in this episode
    over: NDArray[np.bool_]  # (E,) the episode has ended for every agent


class Task(Protocol):
    """Pays one agent, and may end its episode.

    `Race` runs every task between the physics and the end of the step, when ``steps`` counts
    the step already and ``outcome`` is that of the step before. A task sets its agent's reward,
    0 where the outcome is not ``NONE`` any more, and may set an outcome of its own; where it
    leaves ``NONE``, `world_outcome` follows.
    """

    def reset(self, env: int) -> None:
        """Forget one environment's episode."""

    def step(self, world: WorldArrays, episodes: Episodes, first: int, last: int) -> None:
        """Judge the environments ``first`` to ``last - 1`` after a step."""


@njit(cache=True, nogil=True, error_model="numpy")
def world_outcome(crashed: bool, finished: bool, late: bool) -> int:
    """Outcome of an agent that follows from the world alone, most weighty first."""
    if crashed:
        return CRASH
    if finished:
        return FINISHED
    return TIME_LIMIT if late else NONE


# Settings of `ConvoyLock` as its kernel takes them: one record, because compiled code
# unpacks an array's header at each call, but a tuple field by field. See `ConvoyLockConfig`.
_CONVOY_LOCK: Final = np.dtype(
    [
        ("agent", np.int64),  # index among the agents
        ("car", np.int64),  # index of the same car among the cars
        ("target", np.int64),  # index of the defender among the cars
        ("max_steps", np.int64),
        ("success_reward", np.float64),
        ("crash_reward", np.float64),
        ("truncation_reward", np.float64),
        ("pressure_distance", np.float64),  # m
        ("pressure_speed", np.float64),  # m/s
        ("pressure_steps", np.int64),  # steps for which pressure counts after it was applied
        ("forced_offset", np.float64),  # m
        ("idle_speed", np.float64),  # m/s
        ("idle_grace", np.int64),
        ("idle_reward", np.float64),
        ("idle_limit", np.int64),
        ("idle_limit_reward", np.float64),
    ]
)
# Columns of its memory, in steps.
_SINCE_PRESSURE: Final = 0  # since pressure was last applied
_IDLE_STEPS: Final = 1  # idle in a row


@njit(cache=True, nogil=True, error_model="numpy")
def _convoy_lock(
    state: NDArray[np.float64],
    crashed: NDArray[np.bool_],
    finished: NDArray[np.bool_],
    lateral_offset: NDArray[np.float64],
    episodes: Episodes,
    settings: NDArray[np.void],
    memory: NDArray[np.int64],
    first: int,
    last: int,
) -> None:
    task = settings[0]
    agent, car, target = task.agent, task.car, task.target
    for e in range(first, last):
        episodes.rewards[e, agent] = 0.0
        if episodes.outcome[e, agent] != NONE:
            continue
        distance = np.hypot(
            state[e, target, X] - state[e, car, X], state[e, target, Y] - state[e, car, Y]
        )
        speed = state[e, car, V]
        if distance <= task.pressure_distance and speed >= task.pressure_speed:
            memory[e, _SINCE_PRESSURE] = 0
        else:
            memory[e, _SINCE_PRESSURE] += 1
        memory[e, _IDLE_STEPS] = memory[e, _IDLE_STEPS] + 1 if abs(speed) < task.idle_speed else 0

        late = episodes.steps[e] >= task.max_steps
        outcome = world_outcome(crashed[e, car], finished[e, car], late)
        pressed = crashed[e, target] and memory[e, _SINCE_PRESSURE] <= task.pressure_steps
        forced = abs(lateral_offset[e, target]) >= task.forced_offset
        if outcome != CRASH and (pressed or forced):
            outcome = SUCCESS
        elif outcome in (NONE, TIME_LIMIT) and memory[e, _IDLE_STEPS] >= task.idle_limit:
            outcome = IDLE
        elif outcome == NONE and crashed[e, target]:
            outcome = OTHER_DONE  # a standing defender can no longer be pressed into anything
        episodes.outcome[e, agent] = outcome

        reward = 0.0
        if outcome == SUCCESS:
            reward += task.success_reward
        elif outcome == CRASH:
            reward += task.crash_reward
        elif outcome == TIME_LIMIT:
            reward += task.truncation_reward
        if outcome == IDLE:
            reward += task.idle_limit_reward
        elif memory[e, _IDLE_STEPS] > task.idle_grace:
            reward += task.idle_reward
        episodes.rewards[e, agent] = reward


class ConvoyLock:
    """An attacker presses a defender into a wall or out of its lane; see `ConvoyLockConfig`.

    * Success, paid once and ending the episode: the attacker has not crashed, and the defender
      either crashes within ``pressure_window`` of the attacker's pressure or is at least
      ``forced_offset`` off the lane centre. Pressure is applied at each step that finds the
      attacker within ``pressure_distance``, centre to centre, at ``pressure_speed`` or faster
      forwards. A contact between the two crashes both, so it is a crash and no success.
    * The defender's crash without success truncates the attacker (``OTHER_DONE``), unpaid.
    * Of the steps in a row below ``idle_speed``, each after the first ``idle_grace`` pays
      ``idle_reward``, on top of whatever else that step pays. Number ``idle_limit`` pays
      ``idle_limit_reward`` alone and truncates the attacker.

    Args:
        config: The task.
        env: The environment it is part of.
        car: Index of the attacker among the cars.
        num_envs: Environments in the batch, E.
    """

    def __init__(self, config: ConvoyLockConfig, env: EnvConfig, car: int, num_envs: int) -> None:
        step_time = env.physics_step * env.physics_steps_per_action
        settings = {
            "agent": sum(other.driver is None for other in env.cars[:car]),
            "car": car,
            "target": [other.name for other in env.cars].index(config.target),
            "max_steps": env.max_steps,
            # A window of 0.5 s is 50 steps of 0.01 s, whatever 0.5 / 0.01 rounds to.
            "pressure_steps": int(config.pressure_window / step_time + 1e-6),
            **config.model_dump(exclude={"kind", "target", "pressure_window"}),
        }
        names = _CONVOY_LOCK.names or ()
        self._settings = np.array([tuple(settings[name] for name in names)], _CONVOY_LOCK)
        self._memory = np.empty((num_envs, 2), np.int64)
        for e in range(num_envs):
            self.reset(e)

    def reset(self, env: int) -> None:
        """Forget one environment's pressure and idle steps."""
        self._memory[env, _SINCE_PRESSURE] = self._settings["pressure_steps"][0]
        self._memory[env, _IDLE_STEPS] = 0

    def step(self, world: WorldArrays, episodes: Episodes, first: int, last: int) -> None:
        """Judge the environments ``first`` to ``last - 1`` after a step."""
        _convoy_lock(
            world.state,
            world.crashed,
            world.finished,
            world.lateral_offset,
            episodes,
            self._settings,
            self._memory,
            first,
            last,
        )


def make_task(config: TaskConfig, env: EnvConfig, car: int, num_envs: int) -> Task:
    """Build the task of a car that has no driver.

    Args:
        config: The task.
        env: The environment it is part of.
        car: Index of the car it rewards.
        num_envs: Environments in the batch.
    """
    return ConvoyLock(config, env, car, num_envs)
