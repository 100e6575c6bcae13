"""How an agent's episode can end, and what a batch of episodes returns."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


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


@njit(cache=True, nogil=True, error_model="numpy")
def world_outcome(crashed: bool, finished: bool, late: bool) -> int:
    """Outcome of an agent that follows from the world alone, most weighty first."""
    if crashed:
        return CRASH
    if finished:
        return FINISHED
    return TIME_LIMIT if late else NONE
