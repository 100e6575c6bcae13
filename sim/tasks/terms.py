"""The terms that shape a reward: each pays one agent at each step, by a formula of its own.

A term is a function of the world, one environment and one car. It returns the reward of the
step. Where the settings give a weight for a second, ``term.weight`` here is for a step, the
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
from sim.tasks.measures import Course, along, distance_between, follow_lead, pressing
from sim.tracks import Track
from sim.tracks.centerline import point_at
from sim.tracks.grid import to_cells, wall_distance
from sim.world import WorldArrays

Record = Any  # one of the table below
Memory = NDArray[np.float64]

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


@njit(cache=True, nogil=True, error_model="numpy")
def progress(
    world: WorldArrays, course: Course, term: Record, memory: Memory, e: int, car: int
) -> float:
    """Pay weight * (s after - s before), s the arc length along the centre line, m.

    The shorter way round on a closed line, so crossing its seam counts like any other metre.
    """
    gained = along(course.line, world.arc_length[e, car] - memory[0])
    memory[0] = world.arc_length[e, car]
    return float(term.weight * gained)


@njit(cache=True, nogil=True, error_model="numpy")
def speed(world: WorldArrays, term: Record, e: int, car: int) -> float:
    """Pay weight * v / speed_max, v m/s along the body, negative backwards."""
    return float(term.weight * world.state[e, car, V] / term.speed)


@njit(cache=True, nogil=True, error_model="numpy")
def time(term: Record) -> float:
    """Pay weight."""
    return float(term.weight)


@njit(cache=True, nogil=True, error_model="numpy")
def lateral(world: WorldArrays, term: Record, e: int, car: int) -> float:
    """Pay weight * abs(d), d m from the centre line."""
    return float(term.weight * abs(world.lateral_offset[e, car]))


@njit(cache=True, nogil=True, error_model="numpy")
def wall_clearance(world: WorldArrays, course: Course, term: Record, e: int, car: int) -> float:
    """Pay weight * max(0, 1 - w / distance), w m from the car's centre to the nearest wall."""
    column, row = to_cells(course.grid, world.state[e, car, X], world.state[e, car, Y])
    wall = wall_distance(course.grid, column, row)
    return float(term.weight * max(0.0, 1.0 - wall / term.distance))


@njit(cache=True, nogil=True, error_model="numpy")
def smoothness(world: WorldArrays, term: Record, memory: Memory, e: int, car: int) -> float:
    """Pay weight * abs(steering angle after - before), rad."""
    turned = abs(world.state[e, car, STEER] - memory[0])
    memory[0] = world.state[e, car, STEER]
    return float(term.weight * turned)


@njit(cache=True, nogil=True, error_model="numpy")
def pressure(world: WorldArrays, term: Record, e: int, car: int) -> float:
    """Pay weight while within ``distance`` of the target at ``speed`` or faster, else 0."""
    pressed = pressing(world, e, car, term.target, term.distance, term.speed)
    return float(term.weight) if pressed else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def distance(world: WorldArrays, term: Record, memory: Memory, e: int, car: int) -> float:
    """Pay weight * (D before - discount * D after), D m to the target, centre to centre.

    It is F = discount * P(after) - P(before) of the potential P = -weight * D (Ng, Harada and
    Russell, "Policy invariance under reward transformations", ICML 1999, equation 2).
    """
    apart = distance_between(world, e, car, term.target)
    closed = memory[0] - term.discount * apart
    memory[0] = apart
    return float(term.weight * closed)


@njit(cache=True, nogil=True, error_model="numpy")
def heading(world: WorldArrays, course: Course, term: Record, e: int, car: int) -> float:
    """Pay weight * cos(angle from the car's heading to the target, or to the lane's direction)."""
    own = world.state[e, car]
    if term.lane:
        course_yaw = point_at(course.line, world.arc_length[e, car], 0.0)[2]
        return float(term.weight * math.cos(course_yaw - own[YAW]))
    dx = world.state[e, term.target, X] - own[X]
    dy = world.state[e, term.target, Y] - own[Y]
    apart = math.hypot(dx, dy)
    if apart == 0.0:
        return 0.0
    return float(term.weight * (math.cos(own[YAW]) * dx + math.sin(own[YAW]) * dy) / apart)


@njit(cache=True, nogil=True, error_model="numpy")
def escape(world: WorldArrays, term: Record, e: int, car: int) -> float:
    """Pay weight while the target is farther away than ``distance``, else 0."""
    far = distance_between(world, e, car, term.target) > term.distance
    return float(term.weight) if far else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def streak(world: WorldArrays, term: Record, memory: Memory, e: int, car: int) -> float:
    """Pay weight * min(n / cap, 1), the n-th step of pressure in a row; cap is in steps here."""
    pressed = pressing(world, e, car, term.target, term.distance, term.speed)
    memory[0] = memory[0] + 1.0 if pressed else 0.0
    return float(term.weight * min(memory[0] / term.cap, 1.0))


@njit(cache=True, nogil=True, error_model="numpy")
def overtake(
    world: WorldArrays, course: Course, term: Record, memory: Memory, e: int, car: int
) -> float:
    """Pay weight * (lead after - lead before), and once ``bonus``; the lead is m along the line.

    The bonus is for the first step that finds the lead at ``margin`` or more after it was
    negative, with neither car crashed.
    """
    reward = term.weight * follow_lead(world, course.line, memory, 0, e, car, term.target)
    if memory[1] == _AHEAD and memory[0] < 0.0:
        memory[1] = _BEHIND
    clean = not (world.crashed[e, car] or world.crashed[e, term.target])
    if memory[1] == _BEHIND and memory[0] >= term.margin and clean:
        memory[1] = _PASSED
        reward += term.bonus
    return float(reward)


@njit(cache=True, nogil=True, error_model="numpy")
def lap_time(
    world: WorldArrays, course: Course, term: Record, memory: Memory, e: int, car: int
) -> float:
    """Pay weight * max(0, par - T) for a lap that took T s, when it is completed.

    par is what the length of the centre line takes at ``par_speed``, s.
    """
    reward, par = 0.0, course.line.length / term.par_speed
    laps = min(world.laps[e, car], world.lap_steps.shape[2])
    for lap in range(int(memory[0]), laps):
        took = world.lap_steps[e, car, lap] * course.physics_step
        reward += term.weight * max(0.0, par - took)
    memory[0] = laps
    return float(reward)


@njit(cache=True, nogil=True, error_model="numpy")
def start_term(
    world: WorldArrays, course: Course, term: Record, memory: Memory, e: int, car: int
) -> None:
    """Forget the last episode of a term: what was before is now."""
    memory[:] = 0.0
    if term.term == PROGRESS:
        memory[0] = world.arc_length[e, car]
    elif term.term == SMOOTHNESS:
        memory[0] = world.state[e, car, STEER]
    elif term.term == DISTANCE:
        memory[0] = distance_between(world, e, car, term.target)
    elif term.term == OVERTAKE:
        follow_lead(world, course.line, memory, 0, e, car, term.target)
        memory[1] = _BEHIND if memory[0] < 0.0 else _AHEAD


@njit(cache=True, nogil=True, error_model="numpy")
def shaping(
    world: WorldArrays, course: Course, term: Record, memory: Memory, e: int, car: int
) -> float:
    """What a term pays for a step.

    Args:
        world: The world after it.
        course: The track.
        term: Of `TERM`.
        memory: (TERM_MEMORY,) of the term in this environment, updated.
        e: Index of the environment.
        car: Index of the agent's car.
    """
    which = term.term
    if which == PROGRESS:
        return progress(world, course, term, memory, e, car)
    if which == SPEED:
        return speed(world, term, e, car)
    if which == TIME:
        return time(term)
    if which == LATERAL:
        return lateral(world, term, e, car)
    if which == WALL_CLEARANCE:
        return wall_clearance(world, course, term, e, car)
    if which == SMOOTHNESS:
        return smoothness(world, term, memory, e, car)
    if which == PRESSURE:
        return pressure(world, term, e, car)
    if which == DISTANCE:
        return distance(world, term, memory, e, car)
    if which == HEADING:
        return heading(world, course, term, e, car)
    if which == ESCAPE:
        return escape(world, term, e, car)
    if which == STREAK:
        return streak(world, term, memory, e, car)
    if which == OVERTAKE:
        return overtake(world, course, term, memory, e, car)
    return lap_time(world, course, term, memory, e, car)


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
