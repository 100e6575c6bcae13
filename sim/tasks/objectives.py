"""Objectives: what decides an agent's outcome, and what is paid for it.

An objective is a function of the world's arrays, one environment and one agent. It is given the
outcome that follows from the world alone and returns the agent's own, with the reward that this
pays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import (
    ConvoyLockConfig,
    EnvConfig,
    GapLockConfig,
    PursuitConfig,
    TaskConfig,
)
from sim.episodes import CRASH, FAILED, FINISHED, IDLE, NONE, SUCCESS, TIME_LIMIT
from sim.layout import V
from sim.tasks.measures import Float, along, follow_lead, pressing
from sim.tracks.track import Track

Record = Any  # one of the table below
Memory = NDArray[np.float64]  # of the objective, in one environment
Flags = NDArray[np.bool_]

# Settings of an objective as compiled code takes them: one record, because compiled code
# unpacks an array's header at each call, but a tuple field by field. See `sim.config.tasks`.
OBJECTIVE: Final = np.dtype(
    [
        ("kind", np.int64),  # which, by the names below
        ("agent", np.int64),  # index among the agents
        ("car", np.int64),  # index of the same car among the cars
        ("target", np.int64),  # index of the target among the cars
        ("max_steps", np.int64),
        ("success_reward", np.float64),
        ("crash_reward", np.float64),
        ("truncation_reward", np.float64),
        ("loss_reward", np.float64),
        ("attacker_crash_reward", np.float64),
        ("pressure_distance", np.float64),  # m
        ("pressure_speed", np.float64),  # m/s
        ("pressure_steps", np.int64),  # steps for which pressure counts after it was applied
        ("forced_offset", np.float64),  # m
        ("idle_speed", np.float64),  # m/s
        ("idle_grace", np.int64),  # steps
        ("idle_reward", np.float64),  # a step
        ("idle_limit", np.int64),  # steps
        ("idle_limit_reward", np.float64),
        ("margin", np.float64),  # m
        ("near", np.float64),  # m
        ("far", np.float64),  # m
        ("hold_steps", np.int64),
    ]
)
LOCK: Final = 0
SOLO_LAP: Final = 1
RACE: Final = 2
OVERTAKE: Final = 3
PURSUIT: Final = 4
EVADE: Final = 5
OBJECTIVES: Final = {
    "convoy_lock": LOCK,
    "gap_lock": LOCK,
    "solo_lap": SOLO_LAP,
    "race": RACE,
    "overtake": OVERTAKE,
    "pursuit": PURSUIT,
    "evade": EVADE,
}
OBJECTIVE_MEMORY: Final = 2  # numbers that an objective may remember
# What they are: of a lock, in steps,
_SINCE_PRESSURE: Final = 0  # since pressure was last applied
_IDLE_STEPS: Final = 1  # idle in a row
# of a race,
_LOST: Final = 0  # 1 once another car was first
# of an overtake,
_LEAD: Final = 0  # m
_BEEN_BEHIND: Final = 1  # 1 once the lead was negative
# of a pursuit.
_HELD: Final = 0  # steps in a row


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def end_reward(task: Record, outcome: int) -> float:
    """What a success, a crash or the time limit pays."""
    reward = 0.0
    if outcome == SUCCESS:
        reward = task.success_reward
    elif outcome == CRASH:
        reward = task.crash_reward
    elif outcome == TIME_LIMIT:
        reward = task.truncation_reward
    return reward


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def lock(
    state: Float,
    crashed: Flags,
    lateral_offset: Float,
    task: Record,
    memory: Memory,
    e: int,
    outcome: int,
) -> tuple[int, float]:
    """Press the target into a wall or out of its lane.

    * Success: the agent has not crashed, and the target either crashes within
      ``pressure_window`` of the agent's pressure or is at least ``forced_offset`` off the lane
      centre. Pressure is applied at each step that finds the agent within
      ``pressure_distance``, centre to centre, at ``pressure_speed`` or faster forwards. A
      contact between the two crashes both, so it is a crash and no success.
    * The target's crash without success ends the agent's episode (``FAILED``), unpaid.
    * Of the steps in a row below ``idle_speed``, each after ``idle_grace`` pays
      ``idle_reward``, on top of whatever else that step pays. The one at ``idle_limit`` pays
      ``idle_limit_reward`` alone and truncates the agent.
    """
    car, target = task.car, task.target
    if pressing(state, e, car, target, task.pressure_distance, task.pressure_speed):
        memory[_SINCE_PRESSURE] = 0
    else:
        memory[_SINCE_PRESSURE] += 1
    idle = abs(state[e, car, V]) < task.idle_speed
    memory[_IDLE_STEPS] = memory[_IDLE_STEPS] + 1 if idle else 0

    pressed = crashed[e, target] and memory[_SINCE_PRESSURE] <= task.pressure_steps
    forced = abs(lateral_offset[e, target]) >= task.forced_offset
    if outcome != CRASH and (pressed or forced):
        outcome = SUCCESS
    elif outcome in (NONE, TIME_LIMIT) and memory[_IDLE_STEPS] >= task.idle_limit:
        outcome = IDLE
    elif outcome == NONE and crashed[e, target]:
        outcome = FAILED  # a standing defender can no longer be pressed into anything

    reward = end_reward(task, outcome)
    if outcome == IDLE:
        reward += task.idle_limit_reward
    elif memory[_IDLE_STEPS] > task.idle_grace:
        reward += task.idle_reward
    return outcome, float(reward)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def solo_lap(task: Record, outcome: int) -> tuple[int, float]:
    """Drive the laps: then it is a success, where a car without a task has finished."""
    if outcome == FINISHED:
        outcome = SUCCESS
    return outcome, end_reward(task, outcome)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def race(finished: Flags, task: Record, memory: Memory, e: int, outcome: int) -> tuple[int, float]:
    """Drive the laps before any other car has: success; all that finish in one step are first.

    When another is first, ``loss_reward`` is paid, unless the agent crashes in that step. If
    the episode goes on (``end_when: all``), driving the laps later finishes it, unpaid.
    """
    first = memory[_LOST] == 0.0
    if outcome == FINISHED and first:
        outcome = SUCCESS
    reward = end_reward(task, outcome)
    if first and outcome in (NONE, TIME_LIMIT):
        for other in range(finished.shape[1]):
            if other != task.car and finished[e, other]:
                memory[_LOST] = 1.0
        if memory[_LOST] != 0.0:
            reward += task.loss_reward
    return outcome, float(reward)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def overtake(
    arc_length: Float,
    length: float,
    crashed: Flags,
    task: Record,
    memory: Memory,
    e: int,
    outcome: int,
) -> tuple[int, float]:
    """Be ``margin`` ahead of the target along the centre line, having been behind: success.

    Any contact is a crash, and not a success. Nor is passing a target that has crashed a success:
    its crash ends the agent's episode (``FAILED``), unpaid.
    """
    follow_lead(arc_length, length, memory, e, task.car, task.target)
    if memory[_LEAD] < 0.0:
        memory[_BEEN_BEHIND] = 1.0
    target_crashed = crashed[e, task.target]
    passed = memory[_BEEN_BEHIND] == 1.0 and memory[_LEAD] >= task.margin
    if outcome != CRASH and passed and not target_crashed:
        outcome = SUCCESS
    elif outcome == NONE and target_crashed:
        outcome = FAILED
    return outcome, end_reward(task, outcome)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def pursuit(
    arc_length: Float,
    length: float,
    crashed: Flags,
    task: Record,
    memory: Memory,
    e: int,
    outcome: int,
) -> tuple[int, float]:
    """Stay from ``near`` to ``far`` behind the target along the centre line for ``hold_time``.

    Any contact is a crash, and no success. The target's crash ends the
    agent's episode (``FAILED``), unpaid.
    """
    gap = along(length, arc_length[e, task.target] - arc_length[e, task.car])
    memory[_HELD] = memory[_HELD] + 1.0 if task.near <= gap <= task.far else 0.0
    target_crashed = crashed[e, task.target]
    if outcome != CRASH and memory[_HELD] >= task.hold_steps and not target_crashed:
        outcome = SUCCESS
    elif outcome == NONE and target_crashed:
        outcome = FAILED
    return outcome, end_reward(task, outcome)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def evade(
    crashed: Flags, lateral_offset: Float, task: Record, e: int, outcome: int
) -> tuple[int, float]:
    """Survive the target, an attacker, until the time limit or the finish line: success.

    `lock` mirrored: what its success pays the attacker costs the defender, and the other way
    round. So ``forced_offset`` off the lane centre counts as a crash, unless the attacker
    crashes in that step, and the attacker's crash alone is a success, which pays
    ``attacker_crash_reward``.
    """
    attacker_crashed = crashed[e, task.target]
    forced = abs(lateral_offset[e, task.car]) >= task.forced_offset
    if outcome == CRASH or (forced and not attacker_crashed):
        outcome, reward = CRASH, task.crash_reward
    elif attacker_crashed:
        outcome, reward = SUCCESS, task.attacker_crash_reward
    elif outcome in (FINISHED, TIME_LIMIT):
        outcome, reward = SUCCESS, task.success_reward
    else:
        outcome, reward = NONE, 0.0
    return outcome, float(reward)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def start_objective(arc_length: Float, length: float, task: Record, memory: Memory, e: int) -> None:
    """Forget the last episode of an objective."""
    memory[:] = 0.0
    if task.kind == LOCK:
        memory[_SINCE_PRESSURE] = task.pressure_steps
    elif task.kind == OVERTAKE:
        follow_lead(arc_length, length, memory, e, task.car, task.target)
        memory[_BEEN_BEHIND] = 1.0 if memory[_LEAD] < 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def judge(
    state: Float,
    crashed: Flags,
    finished: Flags,
    arc_length: Float,
    lateral_offset: Float,
    length: float,
    task: Record,
    memory: Memory,
    e: int,
    outcome: int,
) -> tuple[int, float]:
    """An agent's outcome after a step, and what it pays.

    Args:
        state: Of the world after it, see `WorldArrays`; so are the next four.
        crashed: (E, C).
        finished: (E, C).
        arc_length: (E, C) m.
        lateral_offset: (E, C) m.
        length: Of a closed centre line, m; 0 for an open one.
        task: Of `OBJECTIVE`.
        memory: (OBJECTIVE_MEMORY,) of the agent in this environment, updated.
        e: Index of the environment.
        outcome: That of `world_outcome`.
    """
    kind, reward = task.kind, 0.0
    if kind == LOCK:
        outcome, reward = lock(state, crashed, lateral_offset, task, memory, e, outcome)
    elif kind == SOLO_LAP:
        outcome, reward = solo_lap(task, outcome)
    elif kind == RACE:
        outcome, reward = race(finished, task, memory, e, outcome)
    elif kind == OVERTAKE:
        outcome, reward = overtake(arc_length, length, crashed, task, memory, e, outcome)
    elif kind == PURSUIT:
        outcome, reward = pursuit(arc_length, length, crashed, task, memory, e, outcome)
    elif kind == EVADE:
        outcome, reward = evade(crashed, lateral_offset, task, e, outcome)
    return outcome, reward


def objective_table(
    config: TaskConfig, env: EnvConfig, car: int, tracks: Sequence[Track]
) -> NDArray[np.void]:
    """Settings of an agent's objective, for kernels.

    Args:
        config: The task.
        env: The environment.
        car: Index of the agent's car.
        tracks: The tracks.

    Returns:
        (1,) of `OBJECTIVE`.

    Raises:
        ValueError: If it needs a centre line or a finish line and a track has none.
    """
    names = [other.name for other in env.cars]
    who = f"task {config.kind} of {names[car]!r}"
    for track in tracks:
        if config.kind in ("overtake", "pursuit") and not track.length > 0:
            raise ValueError(f"{who} needs a centre line: {track.name} has none")
        if config.kind in ("solo_lap", "race") and track.finish_line is None:
            raise ValueError(f"{who} needs a finish line: {track.name} has none")
    step_time = env.physics_step * env.physics_steps_per_action
    table = np.zeros(1, OBJECTIVE)
    row = table[0]
    for name, value in config.model_dump(exclude={"kind", "shaping", "target"}).items():
        if name in (OBJECTIVE.names or ()):
            row[name] = value
    row["kind"] = OBJECTIVES[config.kind]
    row["agent"] = sum(other.driver is None for other in env.cars[:car])
    row["car"] = row["target"] = car
    target = getattr(config, "target", None)  # not every objective has one
    if target is not None:
        row["target"] = names.index(target)
    row["max_steps"] = env.max_steps
    if isinstance(config, ConvoyLockConfig | GapLockConfig):
        row["pressure_steps"] = whole_steps(config.pressure_window, step_time)
    if isinstance(config, GapLockConfig):
        row["idle_grace"] = whole_steps(config.idle_grace, step_time)
        row["idle_reward"] = config.idle_reward * step_time
        row["idle_limit"] = math.ceil(config.idle_limit / step_time - 1e-6)
    if isinstance(config, PursuitConfig):
        row["hold_steps"] = math.ceil(config.hold_time / step_time - 1e-6)
    return table


def whole_steps(time: float, step_time: float) -> int:
    """Steps that fit into a time, s: 0.5 s are 50 of 0.01 s, whatever 0.5 / 0.01 rounds to."""
    return int(time / step_time + 1e-6)
