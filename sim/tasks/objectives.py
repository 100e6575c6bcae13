"""Objectives: what decides an agent's outcome, and what is paid for it.

An objective is a `sim.tasks.terms.Term`, run after the shaping terms. Its ``pay`` finds in
``step.outcomes[e]`` the outcome that follows from the world alone and leaves the agent's own there;
what that pays it adds to ``step.rewards[e]``. Settings that are times are in steps here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from numba import njit

from sim.config import (
    ConvoyLockConfig,
    EvadeConfig,
    GapLockConfig,
    OvertakeConfig,
    PursuitConfig,
    RaceConfig,
    SoloLapConfig,
)
from sim.episodes import CRASH, FAILED, FINISHED, IDLE, NONE, SUCCESS, TIME_LIMIT
from sim.layout import V
from sim.settings import Config
from sim.tasks.measures import (
    Float,
    Lane,
    Step,
    along,
    follow_lead,
    lap_length,
    next_pass,
    pressing,
)
from sim.tasks.terms import Record, Situation, Term

# What an objective remembers of an environment: of a lock, in steps,
_SINCE_PRESSURE: Final = 0  # since pressure was last applied
_IDLE_STEPS: Final = 1  # idle in a row
# of a race,
_LOST: Final = 0  # 1 once another car was first
# of an overtake,
_LEAD: Final = 0  # m
_TO_PASS: Final = 1  # lead at which it is level with the target that it passes next, m
# of a pursuit.
_HELD: Final = 0  # steps in a row


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _end_reward(task: Record, outcome: int) -> float:
    """What a success, a crash or the time limit pays."""
    reward = 0.0
    if outcome == SUCCESS:
        reward = task.success_reward
    elif outcome == CRASH:
        reward = task.crash_reward
    elif outcome == TIME_LIMIT:
        reward = task.truncation_reward
    return reward


@njit(cache=True, nogil=True, error_model="numpy")
def _start_lock(task: Record, step: Step, lane: Lane, memory: Float, e: int) -> None:
    memory[e, _SINCE_PRESSURE] = task.pressure_steps


@njit(cache=True, nogil=True, error_model="numpy")
def lock(task: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Press the target into a wall or out of its lane.

    * Success: the agent has not crashed, and the target either crashes within
      ``pressure_window`` of the agent's pressure or is at least ``forced_offset`` off the lane
      centre. Pressure is applied at each step that finds the agent within
      ``pressure_distance``, centre to centre, at ``pressure_speed`` or faster forwards. A
      contact between the two crashes both, so it is a crash and not a success.
    * The target's crash without success ends the agent's episode (``FAILED``), unpaid.
    * Of the steps in a row below ``idle_speed``, each after ``idle_grace`` pays
      ``idle_reward``, on top of whatever else that step pays. The one at ``idle_limit`` pays
      ``idle_limit_reward`` alone and truncates the agent.
    """
    state, crashed = step.world.state, step.world.crashed
    lateral_offset, car, target = step.world.lateral_offset, task.car, task.target
    for e in range(first, last):
        if pressing(state, e, car, target, task.pressure_distance, task.pressure_speed):
            memory[e, _SINCE_PRESSURE] = 0
        else:
            memory[e, _SINCE_PRESSURE] += 1
        idle = abs(state[e, car, V]) < task.idle_speed
        memory[e, _IDLE_STEPS] = memory[e, _IDLE_STEPS] + 1 if idle else 0

        outcome, idle_steps = step.outcomes[e], memory[e, _IDLE_STEPS]
        pressed = crashed[e, target] and memory[e, _SINCE_PRESSURE] <= task.pressure_steps
        forced = abs(lateral_offset[e, target]) >= task.forced_offset
        if outcome != CRASH and (pressed or forced):
            outcome = SUCCESS
        elif outcome in (NONE, TIME_LIMIT) and idle_steps >= task.idle_limit:
            outcome = IDLE
        elif outcome == NONE and crashed[e, target]:
            outcome = FAILED  # a standing defender can no longer be pressed into anything

        reward = _end_reward(task, outcome)
        if outcome == IDLE:
            reward += task.idle_limit_reward
        elif idle_steps > task.idle_grace:
            reward += task.idle_reward
        step.outcomes[e] = outcome
        step.rewards[e] += reward


def _lock_steps(config: ConvoyLockConfig | GapLockConfig, situation: Situation) -> dict[str, float]:
    steps: dict[str, float] = {"pressure_steps": situation.whole_steps(config.pressure_window)}
    if isinstance(config, GapLockConfig):
        steps["idle_grace"] = situation.whole_steps(config.idle_grace)
        steps["idle_limit"] = situation.steps_until(config.idle_limit)
        steps["idle_reward"] = config.idle_reward * situation.step_time
    return steps


@njit(cache=True, nogil=True, error_model="numpy")
def solo_lap(task: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Drive the laps: this is a success, where a car without a task has finished."""
    for e in range(first, last):
        if step.outcomes[e] == FINISHED:
            step.outcomes[e] = SUCCESS
        step.rewards[e] += _end_reward(task, step.outcomes[e])


@njit(cache=True, nogil=True, error_model="numpy")
def race(task: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Drive the laps before any other car has: success; all that finish in one step are first.

    When another is first, ``loss_reward`` is paid, unless the agent crashes in that step. If
    the episode goes on (``end_when: all``), driving the laps later finishes it, unpaid.
    """
    finished = step.world.finished
    for e in range(first, last):
        outcome, ahead = step.outcomes[e], memory[e, _LOST] == 0.0
        if outcome == FINISHED and ahead:
            outcome = SUCCESS
        reward = _end_reward(task, outcome)
        if ahead and outcome in (NONE, TIME_LIMIT):
            for other in range(finished.shape[1]):
                if other != task.car and finished[e, other]:
                    memory[e, _LOST] = 1.0
            if memory[e, _LOST] != 0.0:
                reward += task.loss_reward
        step.outcomes[e] = outcome
        step.rewards[e] += reward


@njit(cache=True, nogil=True, error_model="numpy")
def _start_overtake(task: Record, step: Step, lane: Lane, memory: Float, e: int) -> None:
    length = lap_length(lane.line)
    follow_lead(step.world.arc_length, length, memory[e], e, task.car, task.target)
    memory[e, _TO_PASS] = next_pass(length, memory[e, _LEAD])


@njit(cache=True, nogil=True, error_model="numpy")
def overtake(task: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Be ``margin`` ahead of the target along the centre line, having been behind: success.

    On a closed line a car that leads is also behind, by the rest of the lap: lapping counts.
    Any contact is a crash, and not a success. Nor is passing a target that has crashed a success:
    its crash ends the agent's episode (``FAILED``), unpaid. With ``until_end`` the episode goes on,
    and the lead at the time limit counts.
    """
    arc_length, crashed, length = step.world.arc_length, step.world.crashed, lap_length(lane.line)
    for e in range(first, last):
        follow_lead(arc_length, length, memory[e], e, task.car, task.target)
        lead = memory[e, _LEAD]
        memory[e, _TO_PASS] = min(memory[e, _TO_PASS], next_pass(length, lead))
        counts = not task.until_end or step.outcomes[e] == TIME_LIMIT
        passed = counts and lead >= memory[e, _TO_PASS] + task.margin
        outcome = _unless_crashed(step.outcomes[e], passed, crashed[e, task.target])
        step.outcomes[e] = outcome
        step.rewards[e] += _end_reward(task, outcome)


@njit(cache=True, nogil=True, error_model="numpy")
def pursuit(task: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Stay from ``near`` to ``far`` behind the target along the centre line for ``hold_time``.

    Any contact is a crash, and not a success. The target's crash ends the agent's episode
    (``FAILED``), unpaid.
    """
    arc_length, crashed, length = step.world.arc_length, step.world.crashed, lap_length(lane.line)
    for e in range(first, last):
        gap = along(length, arc_length[e, task.target] - arc_length[e, task.car])
        memory[e, _HELD] = memory[e, _HELD] + 1.0 if task.near <= gap <= task.far else 0.0
        held = memory[e, _HELD] >= task.hold_steps
        outcome = _unless_crashed(step.outcomes[e], held, crashed[e, task.target])
        step.outcomes[e] = outcome
        step.rewards[e] += _end_reward(task, outcome)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _unless_crashed(outcome: int, done: bool, target_crashed: bool) -> int:
    """The outcome of what must be done without a crash of either car."""
    if target_crashed:
        return FAILED if outcome == NONE else outcome
    return SUCCESS if done and outcome != CRASH else outcome


def _hold_steps(config: PursuitConfig, situation: Situation) -> dict[str, float]:
    return {"hold_steps": situation.steps_until(config.hold_time)}


@njit(cache=True, nogil=True, error_model="numpy")
def evade(task: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Survive the target, an attacker, until the time limit or the finish line: success.

    `lock` mirrored: what its success pays the attacker costs the defender, and the other way
    round. So ``forced_offset`` off the lane centre counts as a crash, unless the attacker
    crashes in that step, and the attacker's crash alone is a success, which pays
    ``attacker_crash_reward``.
    """
    crashed, lateral_offset = step.world.crashed, step.world.lateral_offset
    for e in range(first, last):
        outcome, attacker_crashed = step.outcomes[e], crashed[e, task.target]
        forced = abs(lateral_offset[e, task.car]) >= task.forced_offset
        if outcome == CRASH or (forced and not attacker_crashed):
            outcome, reward = CRASH, task.crash_reward
        elif attacker_crashed:
            outcome, reward = SUCCESS, task.attacker_crash_reward
        elif outcome in (FINISHED, TIME_LIMIT):
            outcome, reward = SUCCESS, task.success_reward
        else:
            outcome, reward = NONE, 0.0
        step.outcomes[e] = outcome
        step.rewards[e] += reward


OBJECTIVES: Final[Mapping[type[Config], Term]] = {
    ConvoyLockConfig: Term(lock, _start_lock, memory=2, derived=_lock_steps),
    GapLockConfig: Term(lock, _start_lock, memory=2, derived=_lock_steps),
    SoloLapConfig: Term(solo_lap, finish=True),
    RaceConfig: Term(race, memory=1, finish=True),
    OvertakeConfig: Term(overtake, _start_overtake, memory=2, line=True),
    PursuitConfig: Term(pursuit, memory=1, line=True, derived=_hold_steps),
    EvadeConfig: Term(evade),
}
