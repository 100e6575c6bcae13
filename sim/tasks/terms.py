"""The terms that shape a reward: each pays one agent at each step, by a formula of its own.

A term is a function of the world's arrays, one environment and one car, and returns the reward of
the step. Where the settings give a weight for a second, ``term.weight`` here is for a step, the
setting times the control period, so that returns do not depend on the period. Before and after
are the ends of the step; what was before is in the term's memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import EnvConfig
from sim.config.terms import TermConfig
from sim.layout import STEER, YAW, V, X, Y
from sim.tasks.measures import Course, Float, along, distance_between, follow_lead, pressing
from sim.tracks import Track
from sim.tracks.centerline import Centerline, point_at
from sim.tracks.distance_field import Grid, to_cells, wall_distance

Record = Any  # one of the table below
Memory = NDArray[np.float64]  # of the term, in one environment
Flags = NDArray[np.bool_]

# Settings of a term as compiled code takes them; a term reads those that its formula names.
TERM: Final = np.dtype(
    [
        ("term", np.int64),  # which, by the names below
        ("weight", np.float64),
        ("target", np.int64),  # index among the cars
        ("distance", np.float64),  # m
        ("speed", np.float64),  # m/s
        ("discount", np.float64),
        ("lane", np.bool_),  # heading: along the lane, not to the target
        ("cap", np.float64),  # steps
        ("bonus", np.float64),
        ("margin", np.float64),  # m
        ("par_speed", np.float64),  # m/s
    ]
)
PROGRESS: Final = 0
SPEED: Final = 1
TIME: Final = 2
LATERAL: Final = 3
WALL_CLEARANCE: Final = 4
SMOOTHNESS: Final = 5
PRESSURE: Final = 6
DISTANCE: Final = 7
HEADING: Final = 8
ESCAPE: Final = 9
STREAK: Final = 10
OVERTAKE: Final = 11
LAP_TIME: Final = 12
TERMS: Final = {
    "progress": PROGRESS,
    "speed": SPEED,
    "time": TIME,
    "lateral": LATERAL,
    "wall_clearance": WALL_CLEARANCE,
    "smoothness": SMOOTHNESS,
    "pressure": PRESSURE,
    "distance": DISTANCE,
    "heading": HEADING,
    "escape": ESCAPE,
    "streak": STREAK,
    "overtake": OVERTAKE,
    "lap_time": LAP_TIME,
}
TERM_MEMORY: Final = 2  # numbers that a term may remember
_NEED_LINE: Final = ("progress", "lateral", "overtake", "lap_time")  # a centre line
# Stages of passing, the second number that `overtake` remembers.
_AHEAD, _BEHIND, _PASSED = 0.0, 1.0, 2.0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def progress(
    arc_length: Float, length: float, term: Record, memory: Memory, e: int, car: int
) -> float:
    """Pay weight * (s after - s before), s the arc length along the centre line, m.

    The shorter way round on a closed line, so crossing its seam counts like any other metre.
    """
    gained = along(length, arc_length[e, car] - memory[0])
    memory[0] = arc_length[e, car]
    return float(term.weight * gained)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def speed(state: Float, term: Record, e: int, car: int) -> float:
    """Pay weight * v / speed_max, v m/s along the body, negative backwards."""
    return float(term.weight * state[e, car, V] / term.speed)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def time(term: Record) -> float:
    """Pay weight."""
    return float(term.weight)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def lateral(lateral_offset: Float, term: Record, e: int, car: int) -> float:
    """Pay weight * abs(d), d m from the centre line."""
    return float(term.weight * abs(lateral_offset[e, car]))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def wall_clearance(state: Float, grid: Grid, term: Record, e: int, car: int) -> float:
    """Pay weight * max(0, 1 - w / distance), w m from the car's centre to the nearest wall."""
    column, row = to_cells(grid, state[e, car, X], state[e, car, Y])
    return float(term.weight * max(0.0, 1.0 - wall_distance(grid, column, row) / term.distance))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def smoothness(state: Float, term: Record, memory: Memory, e: int, car: int) -> float:
    """Pay weight * abs(steering angle after - before), rad."""
    turned = abs(state[e, car, STEER] - memory[0])
    memory[0] = state[e, car, STEER]
    return float(term.weight * turned)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def pressure(state: Float, term: Record, e: int, car: int) -> float:
    """Pay weight while within ``distance`` of the target at ``speed`` or faster, else 0."""
    pressed = pressing(state, e, car, term.target, term.distance, term.speed)
    return float(term.weight) if pressed else 0.0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def distance(state: Float, term: Record, memory: Memory, e: int, car: int) -> float:
    """Pay weight * (D before - discount * D after), D m to the target, centre to centre.

    It is F = discount * P(after) - P(before) of the potential P = -weight * D (Ng, Harada and
    Russell, "Policy invariance under reward transformations", ICML 1999, equation 2).
    """
    apart = distance_between(state, e, car, term.target)
    closed = memory[0] - term.discount * apart
    memory[0] = apart
    return float(term.weight * closed)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def heading(state: Float, term: Record, e: int, car: int) -> float:
    """Pay weight * cos(angle from the car's heading to the target)."""
    dx = state[e, term.target, X] - state[e, car, X]
    dy = state[e, term.target, Y] - state[e, car, Y]
    apart = math.hypot(dx, dy)
    if apart == 0.0:
        return 0.0
    yaw = state[e, car, YAW]
    return float(term.weight * (math.cos(yaw) * dx + math.sin(yaw) * dy) / apart)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def lane_heading(
    state: Float, arc_length: Float, line: Centerline, term: Record, e: int, car: int
) -> float:
    """Pay weight * cos(angle from the car's heading to the lane's direction)."""
    lane_yaw = point_at(line, arc_length[e, car], 0.0)[2]
    return float(term.weight * math.cos(lane_yaw - state[e, car, YAW]))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def escape(state: Float, term: Record, e: int, car: int) -> float:
    """Pay weight while the target is farther away than ``distance``, else 0."""
    far = distance_between(state, e, car, term.target) > term.distance
    return float(term.weight) if far else 0.0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def streak(state: Float, term: Record, memory: Memory, e: int, car: int) -> float:
    """Pay weight * min(n / cap, 1), the n-th step of pressure in a row; cap is in steps here."""
    pressed = pressing(state, e, car, term.target, term.distance, term.speed)
    memory[0] = memory[0] + 1.0 if pressed else 0.0
    return float(term.weight * min(memory[0] / term.cap, 1.0))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def overtake(
    arc_length: Float,
    length: float,
    crashed: NDArray[np.bool_],
    term: Record,
    memory: Memory,
    e: int,
    car: int,
) -> float:
    """Pay weight * (lead after - lead before), and once ``bonus``; the lead is m along the line.

    The bonus is for the first step that finds the lead at ``margin`` or more after it was
    negative, with neither car crashed.
    """
    reward = term.weight * follow_lead(arc_length, length, memory, e, car, term.target)
    if memory[1] == _AHEAD and memory[0] < 0.0:
        memory[1] = _BEHIND
    clean = not (crashed[e, car] or crashed[e, term.target])
    if memory[1] == _BEHIND and memory[0] >= term.margin and clean:
        memory[1] = _PASSED
        reward += term.bonus
    return float(reward)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def lap_time(
    laps: NDArray[np.int32],
    lap_steps: NDArray[np.int64],
    course: Course,
    term: Record,
    memory: Memory,
    e: int,
    car: int,
) -> float:
    """Pay weight * max(0, par - T) for a lap that took T s, when it is completed.

    par is what the length of the centre line takes at ``par_speed``, s.
    """
    reward, par = 0.0, course.line.length / term.par_speed
    done = min(laps[e, car], lap_steps.shape[2])
    for lap in range(int(memory[0]), done):
        took = lap_steps[e, car, lap] * course.physics_step
        reward += term.weight * max(0.0, par - took)
    memory[0] = done
    return float(reward)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def start_term(
    state: Float,
    arc_length: Float,
    length: float,
    term: Record,
    memory: Memory,
    e: int,
    car: int,
) -> None:
    """Forget the last episode of a term: what was before is now."""
    memory[:] = 0.0
    if term.term == PROGRESS:
        memory[0] = arc_length[e, car]
    elif term.term == SMOOTHNESS:
        memory[0] = state[e, car, STEER]
    elif term.term == DISTANCE:
        memory[0] = distance_between(state, e, car, term.target)
    elif term.term == OVERTAKE:
        follow_lead(arc_length, length, memory, e, car, term.target)
        memory[1] = _BEHIND if memory[0] < 0.0 else _AHEAD


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def shaping(
    state: Float,
    crashed: Flags,
    arc_length: Float,
    lateral_offset: Float,
    laps: NDArray[np.int32],
    lap_steps: NDArray[np.int64],
    length: float,
    course: Course,
    term: Record,
    memory: Memory,
    e: int,
    car: int,
) -> float:
    """What a term pays for a step.

    Args:
        state: Of the world after it, see `WorldArrays`; so are the next five.
        crashed: (E, C).
        arc_length: (E, C) m.
        lateral_offset: (E, C) m.
        laps: (E, C).
        lap_steps: (E, C, L).
        length: Of a closed centre line, m; 0 for an open one.
        course: The track.
        term: Of `TERM`.
        memory: (TERM_MEMORY,) of the term in this environment, updated.
        e: Index of the environment.
        car: Index of the agent's car.
    """
    which, reward = term.term, 0.0
    if which == PROGRESS:
        reward = progress(arc_length, length, term, memory, e, car)
    elif which == SPEED:
        reward = speed(state, term, e, car)
    elif which == TIME:
        reward = time(term)
    elif which == LATERAL:
        reward = lateral(lateral_offset, term, e, car)
    elif which == WALL_CLEARANCE:
        reward = wall_clearance(state, course.grid, term, e, car)
    elif which == SMOOTHNESS:
        reward = smoothness(state, term, memory, e, car)
    elif which == PRESSURE:
        reward = pressure(state, term, e, car)
    elif which == DISTANCE:
        reward = distance(state, term, memory, e, car)
    elif which == HEADING and not term.lane:
        reward = heading(state, term, e, car)
    elif which == HEADING:
        reward = lane_heading(state, arc_length, course.line, term, e, car)
    elif which == ESCAPE:
        reward = escape(state, term, e, car)
    elif which == STREAK:
        reward = streak(state, term, memory, e, car)
    elif which == OVERTAKE:
        reward = overtake(arc_length, length, crashed, term, memory, e, car)
    elif which == LAP_TIME:
        reward = lap_time(laps, lap_steps, course, term, memory, e, car)
    return reward


def term_table(
    terms: Sequence[TermConfig],
    env: EnvConfig,
    car: int,
    target: str | None,
    tracks: Sequence[Track],
) -> NDArray[np.void]:
    """Settings of an agent's terms, for kernels.

    Args:
        terms: The terms, T.
        env: The environment.
        car: Index of the agent's car.
        target: The task's target; none if it has none.
        tracks: The tracks.

    Returns:
        (T,) of `TERM`.

    Raises:
        ValueError: If a term needs a centre line or a finish line and a track has none.
    """
    names = [other.name for other in env.cars]
    step_time = env.physics_step * env.physics_steps_per_action
    table = np.zeros(len(terms), TERM)
    for row, term in zip(table, terms, strict=True):
        who = f"term {term.term} of {names[car]!r}"
        lane = getattr(term, "toward", None) == "lane"
        for track in tracks:
            if (lane or term.term in _NEED_LINE) and not track.length > 0:
                raise ValueError(f"{who} needs a centre line: {track.name} has none")
            if term.term == "lap_time" and track.finish_line is None:
                raise ValueError(f"{who} needs a finish line: {track.name} has none")
        settings = term.model_dump(include=set(TERM.names or ()) - {"term", "target"})
        for name, value in settings.items():
            row[name] = value
        row["term"] = TERMS[term.term]
        other = getattr(term, "target", None) or target
        row["target"] = names.index(other) if other is not None else car
        row["lane"] = lane
        if term.rate:
            row["weight"] *= step_time
        if term.term == "speed":
            row["speed"] = env.cars[car].vehicle.speed_max
        elif term.term == "streak":
            row["cap"] /= step_time
    return table
