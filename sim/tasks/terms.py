"""The terms that shape a reward: each pays one agent at each step, by a formula of its own.

A term is a `Term`: compiled functions, and what they need besides the term's settings. It is paid
by a function

    pay(term, step, lane, memory, first, last)

decorated with ``@njit(cache=True, nogil=True, error_model="numpy")``, which adds what it pays to
``step.rewards[e]`` of the environments ``first`` to ``last - 1``, and returns nothing:

- ``term`` has those settings that are numbers or truth values, by name, and the indices among the
  cars of the agent's, ``car``, and of the other, ``target`` (that of ``car`` if there is none).
  With ``per_second``, ``term.weight`` is for a step, the setting times the control period, so that
  returns do not depend on the period.
- ``step`` is a `sim.tasks.measures.Step`, which has the world after the step, and ``lane`` a
  `sim.tasks.measures.Lane`, which has the track that these environments are on.
- ``memory`` (E, M) is the term's own: it holds what was before the step. It is 0 at first.

``start(term, step, lane, memory, e)``, if there is one, begins the episode of environment ``e``,
whose cars are placed and whose memory is 0. What a term does in one environment must not depend on
the others: threads share them. The functions may be called for agents that are done, which are
paid nothing then.

A term of another package is this and its settings in a `sim.plugins.Part`::

    @njit(cache=True, nogil=True, error_model="numpy")
    def hurry(term, step, lane, memory, first, last):
        for e in range(first, last):
            speed = step.world.state[e, term.car, V]
            step.rewards[e] += term.weight * max(speed - memory[e, 0], 0.0)
            memory[e, 0] = speed

    HURRY = Term(hurry, memory=1)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from numba import njit

from sim.config import EnvConfig
from sim.config.terms import (
    DisplacementTerm,
    DistanceTerm,
    EscapeTerm,
    HeadingTerm,
    LapTimeTerm,
    LateralTerm,
    OvertakeTerm,
    PressureTerm,
    ProgressTerm,
    SmoothnessTerm,
    SpeedTerm,
    StreakTerm,
    TermConfig,
    TimeTerm,
    WallClearanceTerm,
)
from sim.layout import STEER, YAW, V, X, Y
from sim.native import Kernel, Settings, record
from sim.plugins import PluginError, implementation
from sim.settings import Config, numbers
from sim.tasks.measures import (
    Float,
    Lane,
    Step,
    along,
    distance_between,
    follow_lead,
    lap_length,
    next_pass,
    pressing,
)
from sim.tracks.centerline import point_at
from sim.tracks.distance_field import to_cells, wall_distance
from sim.tracks.track import Track

Record = Any  # a term's settings


class Situation(NamedTuple):
    """Where a term is paid."""

    env: EnvConfig
    car: int  # index of the agent's car
    target: int  # index of the other car; the car's own if there is none
    tracks: Sequence[Track]

    @property
    def step_time(self) -> float:
        """The control period, s."""
        return self.env.physics_step * self.env.physics_steps_per_action

    def whole_steps(self, time: float) -> int:
        """Steps that fit into a time, s: 0.5 s are 50 of 0.01 s, whatever 0.5 / 0.01 rounds to."""
        return int(time / self.step_time + 1e-6)

    def steps_until(self, time: float) -> int:
        """Steps until a time, s, has passed, rounded as in `whole_steps`."""
        return math.ceil(time / self.step_time - 1e-6)


Derived = Callable[[Any, Situation], dict[str, float]]  # of a term's settings


@dataclass(frozen=True)
class Term:
    """What a term does; see the module.

    Attributes:
        pay: Adds what it pays.
        start: Begins an episode; None: memory is 0.
        memory: How many numbers it remembers; M is at least this.
        per_second: Whether the weight is for a second.
        line: Whether it needs a centre line.
        finish: Whether it needs a finish line.
        derived: Gives settings by name that follow from others, or replace them. The message of a
            ValueError that it raises continues "term NAME of 'CAR' ...", in one line.
    """

    pay: Kernel
    start: Kernel | None = None
    memory: int = 0
    per_second: bool = False
    line: bool = False
    finish: bool = False
    derived: Derived | None = None


class PaidTerm(NamedTuple):
    """A term, or an objective, of an agent."""

    term: Term
    settings: Settings


def paid_terms(
    terms: Sequence[TermConfig],
    env: EnvConfig,
    car: int,
    target: str | None,
    tracks: Sequence[Track],
) -> list[PaidTerm]:
    """Terms of an agent and their settings.

    Args:
        terms: Their settings as configured.
        env: The environment.
        car: Index of the agent's car.
        target: The task's target; None if it has none.
        tracks: The tracks.

    Raises:
        ValueError: If a term needs a centre line or a finish line and a track has none, or cannot
            be paid for another reason.
        PluginError: If a term of another package is not a `Term` or cannot be imported.
    """
    paid = []
    for config in terms:
        term = implementation("terms", TERMS, config)
        if not isinstance(term, Term):
            found = type(term).__name__
            raise PluginError(f"term {config.term} must be a sim.tasks.terms.Term, found {found}")
        paid.append(paid_term(term, f"term {config.term}", config, env, car, target, tracks))
    return paid


def paid_term(
    term: Term,
    name: str,
    config: Config,
    env: EnvConfig,
    car: int,
    target: str | None,
    tracks: Sequence[Track],
) -> PaidTerm:
    """One term, or an objective, with its settings; arguments and errors as for `paid_terms`."""
    cars = [other.name for other in env.cars]
    who = f"{name} of {cars[car]!r}"
    for track in tracks:
        if term.line and not track.length > 0:
            raise ValueError(f"{who} needs a centre line: {track.name} has none")
        if term.finish and track.finish_line is None:
            raise ValueError(f"{who} needs a finish line: {track.name} has none")
    other = getattr(config, "target", None) or target
    situation = Situation(env, car, car if other is None else cars.index(other), tracks)
    settings = numbers(config)
    if term.per_second:
        settings["weight"] *= situation.step_time
    if term.derived is not None:
        try:
            settings |= term.derived(config, situation)
        except ValueError as error:
            raise ValueError(f"{who} {error}") from error
    return PaidTerm(term, record(**settings | {"car": car, "target": situation.target}))


@njit(cache=True, nogil=True, error_model="numpy")
def _start_progress(term: Record, step: Step, lane: Lane, memory: Float, e: int) -> None:
    memory[e, 0] = step.world.arc_length[e, term.car]


@njit(cache=True, nogil=True, error_model="numpy")
def progress(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * (s after - s before), s the arc length along the centre line, m.

    The shorter way round on a closed line, so crossing its seam counts like any other metre.
    """
    arc_length, length = step.world.arc_length, lap_length(lane.line)
    for e in range(first, last):
        s = arc_length[e, term.car]
        step.rewards[e] += term.weight * along(length, s - memory[e, 0])
        memory[e, 0] = s


@njit(cache=True, nogil=True, error_model="numpy")
def speed(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * v / speed_max, v m/s along the body, negative backwards."""
    state = step.world.state
    for e in range(first, last):
        step.rewards[e] += term.weight * state[e, term.car, V] / term.speed_max


def _fastest(_: SpeedTerm, situation: Situation) -> dict[str, float]:
    return {"speed_max": situation.env.cars[situation.car].vehicle.speed_max}


@njit(cache=True, nogil=True, error_model="numpy")
def time(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight."""
    for e in range(first, last):
        step.rewards[e] += term.weight


@njit(cache=True, nogil=True, error_model="numpy")
def lateral(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * abs(d), d m from the centre line."""
    lateral_offset = step.world.lateral_offset
    for e in range(first, last):
        step.rewards[e] += term.weight * abs(lateral_offset[e, term.car])


@njit(cache=True, nogil=True, error_model="numpy")
def wall_clearance(
    term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int
) -> None:
    """Pay weight * max(0, 1 - w / distance), w m from the car's centre to the nearest wall."""
    state, field = step.world.state, lane.field
    for e in range(first, last):
        column, row = to_cells(field, state[e, term.car, X], state[e, term.car, Y])
        near = 1.0 - wall_distance(field, column, row) / term.distance
        step.rewards[e] += term.weight * max(0.0, near)


@njit(cache=True, nogil=True, error_model="numpy")
def _start_smoothness(term: Record, step: Step, lane: Lane, memory: Float, e: int) -> None:
    memory[e, 0] = step.world.state[e, term.car, STEER]


@njit(cache=True, nogil=True, error_model="numpy")
def smoothness(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * abs(steering angle after - before), rad."""
    state = step.world.state
    for e in range(first, last):
        steer = state[e, term.car, STEER]
        step.rewards[e] += term.weight * abs(steer - memory[e, 0])
        memory[e, 0] = steer


@njit(cache=True, nogil=True, error_model="numpy")
def pressure(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight while within ``distance`` of the target at ``speed`` or faster, else 0."""
    state = step.world.state
    for e in range(first, last):
        if pressing(state, e, term.car, term.target, term.distance, term.speed):
            step.rewards[e] += term.weight


@njit(cache=True, nogil=True, error_model="numpy")
def _start_distance(term: Record, step: Step, lane: Lane, memory: Float, e: int) -> None:
    memory[e, 0] = distance_between(step.world.state, e, term.car, term.target)


@njit(cache=True, nogil=True, error_model="numpy")
def distance(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * (D before - discount * D after), D m to the target, centre to centre.

    It is F = discount * P(after) - P(before) of the potential P = -weight * D (Ng, Harada and
    Russell, "Policy invariance under reward transformations", ICML 1999, equation 2).
    """
    state = step.world.state
    for e in range(first, last):
        apart = distance_between(state, e, term.car, term.target)
        step.rewards[e] += term.weight * (memory[e, 0] - term.discount * apart)
        memory[e, 0] = apart


@njit(cache=True, nogil=True, error_model="numpy")
def _start_displacement(term: Record, step: Step, lane: Lane, memory: Float, e: int) -> None:
    memory[e, 0] = abs(step.world.lateral_offset[e, term.target])


@njit(cache=True, nogil=True, error_model="numpy")
def displacement(
    term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int
) -> None:
    """Pay weight * (discount * L after - L before), L m from the lane centre to the target.

    The potential is P = weight * L; see `distance`.
    """
    lateral_offset = step.world.lateral_offset
    for e in range(first, last):
        off = abs(lateral_offset[e, term.target])
        step.rewards[e] += term.weight * (term.discount * off - memory[e, 0])
        memory[e, 0] = off


@njit(cache=True, nogil=True, error_model="numpy")
def heading(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * cos(angle from the car's heading to the target or, by ``lane``, the lane's)."""
    state, arc_length, line = step.world.state, step.world.arc_length, lane.line
    for e in range(first, last):
        yaw = state[e, term.car, YAW]
        if term.lane:
            lane_yaw = point_at(line, arc_length[e, term.car], 0.0)[2]
            step.rewards[e] += term.weight * math.cos(lane_yaw - yaw)
            continue
        dx = state[e, term.target, X] - state[e, term.car, X]
        dy = state[e, term.target, Y] - state[e, term.car, Y]
        apart = math.hypot(dx, dy)
        if apart > 0.0:
            ahead = math.cos(yaw) * dx + math.sin(yaw) * dy
            step.rewards[e] += term.weight * ahead / apart


def _toward(config: HeadingTerm, situation: Situation) -> dict[str, float]:
    lane = config.toward == "lane"
    for track in situation.tracks:
        if lane and not track.length > 0:
            raise ValueError(f"needs a centre line: {track.name} has none")
    return {"lane": lane}


@njit(cache=True, nogil=True, error_model="numpy")
def escape(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight while the target is farther away than ``distance``, else 0."""
    state = step.world.state
    for e in range(first, last):
        if distance_between(state, e, term.car, term.target) > term.distance:
            step.rewards[e] += term.weight


@njit(cache=True, nogil=True, error_model="numpy")
def streak(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * min(n / cap, 1), the n-th step of pressure in a row; cap is in steps here."""
    state = step.world.state
    for e in range(first, last):
        pressed = pressing(state, e, term.car, term.target, term.distance, term.speed)
        memory[e, 0] = memory[e, 0] + 1.0 if pressed else 0.0
        step.rewards[e] += term.weight * min(memory[e, 0] / term.cap, 1.0)


def _in_steps(config: StreakTerm, situation: Situation) -> dict[str, float]:
    return {"cap": config.cap / situation.step_time}


@njit(cache=True, nogil=True, error_model="numpy")
def _start_overtake(term: Record, step: Step, lane: Lane, memory: Float, e: int) -> None:
    length = lap_length(lane.line)
    follow_lead(step.world.arc_length, length, memory[e], e, term.car, term.target)
    memory[e, 1] = next_pass(length, memory[e, 0])


@njit(cache=True, nogil=True, error_model="numpy")
def overtake(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * (lead after - lead before), and once ``bonus``; the lead is m along the line.

    The bonus is for the first step that finds the car ``margin`` or more ahead after it was
    behind, with neither car crashed. On a closed line a car that leads is also behind, by the
    rest of the lap.
    """
    arc_length, crashed, length = step.world.arc_length, step.world.crashed, lap_length(lane.line)
    for e in range(first, last):
        gained = follow_lead(arc_length, length, memory[e], e, term.car, term.target)
        reward = term.weight * gained
        if memory[e, 2] == 0.0:  # not paid yet
            memory[e, 1] = min(memory[e, 1], next_pass(length, memory[e, 0]))
            clean = not (crashed[e, term.car] or crashed[e, term.target])
            if memory[e, 0] >= memory[e, 1] + term.margin and clean:
                memory[e, 2] = 1.0
                reward += term.bonus
        step.rewards[e] += reward


@njit(cache=True, nogil=True, error_model="numpy")
def lap_time(term: Record, step: Step, lane: Lane, memory: Float, first: int, last: int) -> None:
    """Pay weight * max(0, par - T) for a lap that took T s, when it is completed.

    par is what the length of the centre line takes at ``par_speed``, s.
    """
    laps, lap_steps = step.world.laps, step.world.lap_steps
    par = lane.line.length / term.par_speed
    for e in range(first, last):
        reward, done = 0.0, min(laps[e, term.car], lap_steps.shape[2])
        for lap in range(int(memory[e, 0]), done):
            took = lap_steps[e, term.car, lap] * step.physics_step
            reward += term.weight * max(0.0, par - took)
        memory[e, 0] = done
        step.rewards[e] += reward


TERMS: Final[Mapping[type[Config], Term]] = {
    ProgressTerm: Term(progress, _start_progress, memory=1, line=True),
    SpeedTerm: Term(speed, per_second=True, derived=_fastest),
    TimeTerm: Term(time, per_second=True),
    LateralTerm: Term(lateral, per_second=True, line=True),
    WallClearanceTerm: Term(wall_clearance, per_second=True),
    SmoothnessTerm: Term(smoothness, _start_smoothness, memory=1),
    PressureTerm: Term(pressure, per_second=True),
    DistanceTerm: Term(distance, _start_distance, memory=1),
    DisplacementTerm: Term(displacement, _start_displacement, memory=1, line=True),
    HeadingTerm: Term(heading, per_second=True, derived=_toward),
    EscapeTerm: Term(escape, per_second=True),
    StreakTerm: Term(streak, memory=1, per_second=True, derived=_in_steps),
    OvertakeTerm: Term(overtake, _start_overtake, memory=3, line=True),
    LapTimeTerm: Term(lap_time, memory=1, line=True, finish=True),
}
