"""How agents' episodes proceed and end, and the compiled parts of a step around the physics."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig
from sim.layout import STEER, TARGET_SPEED, TARGET_STEER, V
from sim.physics.vehicle import action_scale


class Outcome(IntEnum):
    """How an agent's episode ended: 1 to 4 terminate it, 5 to 7 truncate it."""

    NONE = 0  # it has not ended
    SUCCESS = 1  # the agent's task is accomplished
    CRASH = 2  # the agent touched a wall or a car
    FINISHED = 3  # the agent crossed the finish line
    FAILED = 4  # the agent's task can no longer be accomplished
    IDLE = 5  # the agent's task gave up on a standing car
    TIME_LIMIT = 6  # max_steps
    OTHER_DONE = 7  # what ended the episode happened to another car


# Plain integers, because arrays of int8 take no enum members inside compiled code.
NONE: Final = int(Outcome.NONE)
SUCCESS: Final = int(Outcome.SUCCESS)
CRASH: Final = int(Outcome.CRASH)
FINISHED: Final = int(Outcome.FINISHED)
FAILED: Final = int(Outcome.FAILED)
IDLE: Final = int(Outcome.IDLE)
TIME_LIMIT: Final = int(Outcome.TIME_LIMIT)
OTHER_DONE: Final = int(Outcome.OTHER_DONE)


class Episodes(NamedTuple):
    """What a batch of episodes returns at each step; kernels take this whole.

    E environments, A agents (the cars without a driver, in order), D numbers in an observation.
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


@njit(cache=True, nogil=True, error_model="numpy")
def world_outcome(crashed: bool, finished: bool, late: bool) -> int:
    """Outcome of an agent that follows from the world alone, the weightiest first."""
    if crashed:
        return CRASH
    if finished:
        return FINISHED
    return TIME_LIMIT if late else NONE


# What the kernels below know about a car, one record a car.
CAR: Final = np.dtype(
    [
        ("agent", np.int64),  # its index among the agents, -1 for a scripted car
        ("rates", np.bool_),  # its commands are rates: rad/s and m/s^2, not rad and m/s
        ("steer_max", np.float64),  # first command of action 1
        ("speed_middle", np.float64),  # second command of action 0
        ("speed_half", np.float64),  # second command of action 1 less that of action 0
    ]
)


@njit(cache=True, nogil=True, error_model="numpy")
def begin(
    actions: NDArray[np.float32],
    episodes: Episodes,
    cars: NDArray[np.void],
    state: NDArray[np.float64],
    duration: float,
    commands: NDArray[np.float64],
    first: int,
    last: int,
) -> int:
    """Count the step and turn actions into commands, to be held for ``duration`` seconds.

    Agents that are done are told to stand, wheels straight, whatever their action. If the action
    of another is not a number, nothing is written and its index e * A + a is returned; otherwise
    -1.
    """
    A: int = episodes.outcome.shape[1]
    for e in range(first, last):
        for a in range(A):
            bad = np.isnan(actions[e, a, 0]) or np.isnan(actions[e, a, 1])
            if bad and episodes.outcome[e, a] == NONE:
                return e * A + a
    for e in range(first, last):
        if not episodes.over[e]:
            episodes.steps[e] += 1
        for c in range(len(cars)):
            car = cars[c]
            if car.agent < 0:
                continue
            if episodes.outcome[e, car.agent] != NONE:
                commands[e, c, TARGET_STEER] = commands[e, c, TARGET_SPEED] = 0.0
                if car.rates:
                    commands[e, c, TARGET_STEER] = -state[e, c, STEER] / duration
                    commands[e, c, TARGET_SPEED] = -state[e, c, V] / duration
                continue
            steer = min(max(actions[e, car.agent, 0], -1.0), 1.0)
            speed = min(max(actions[e, car.agent, 1], -1.0), 1.0)
            commands[e, c, TARGET_STEER] = car.steer_max * steer
            commands[e, c, TARGET_SPEED] = car.speed_middle + car.speed_half * speed
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def conclude(
    crashed: NDArray[np.bool_],
    finished: NDArray[np.bool_],
    episodes: Episodes,
    cars: NDArray[np.void],
    max_steps: int,
    end_when_any: bool,
    first: int,
    last: int,
) -> None:
    """Add up the rewards, complete the outcomes, end episodes, and derive the flags."""
    A = episodes.outcome.shape[1]
    S = len(cars) - A
    for e in range(first, last):
        if episodes.over[e]:
            continue
        late = episodes.steps[e] >= max_steps
        agents_done = scripted_done = 0
        for c in range(len(cars)):
            a = cars[c].agent
            if a < 0:
                scripted_done += crashed[e, c] or finished[e, c]
            else:
                if episodes.outcome[e, a] == NONE:
                    episodes.outcome[e, a] = world_outcome(crashed[e, c], finished[e, c], late)
                agents_done += episodes.outcome[e, a] != NONE
        if end_when_any:
            over = late or agents_done + scripted_done > 0
        else:
            over = late or (agents_done == A if A > 0 else scripted_done == S)
        for a in range(A):
            episodes.returns[e, a] += episodes.rewards[e, a]
            if over and episodes.outcome[e, a] == NONE:
                episodes.outcome[e, a] = OTHER_DONE
            outcome = episodes.outcome[e, a]
            episodes.terminated[e, a] = NONE < outcome <= FAILED
            episodes.truncated[e, a] = outcome > FAILED
        episodes.over[e] = over


def car_table(config: EnvConfig) -> NDArray[np.void]:
    """What kernels know about the cars, (C,) of `CAR`."""
    rows, agents = [], config.agent_cars
    for i, car in enumerate(config.cars):
        agent = agents.index(i) if i in agents else -1
        rows.append((agent, car.vehicle.control == "rates", *action_scale(car)))
    return np.array(rows, CAR)
