"""How safely a car overtakes: many short races behind a slower car that does not react.

The protocol is that of End2Race (Qiao, Li, Cao and Liu, arXiv:2509.16894, 2025), as far as it is
published: starts all along a track, opponents on three lines at three speeds, eight seconds each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.evaluation.watching import Watcher
from f110_fl.seeding import Use, stream
from sim.config import EnvConfig, RandomSpawn, StanleyConfig
from sim.config.env import CarConfig
from sim.drivers.line import along, bends, driven_speeds
from sim.race import Race
from sim.tracks.centerline import START, Centerline, curvature, points_at, polyline
from sim.tracks.factory import make_track
from sim.tracks.raceline import clearance, needs_loop
from sim.tracks.track import Track

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]

EGO: Final = "ego"
OPPONENT: Final = "car_0"  # as drivers' targets are called unless they are named
SIDES: Final = {"left": 1.0, "right": -1.0}
LINES: Final = ("middle", *SIDES)
CLEARANCE: Final = 0.3  # m, from a shifted line to walls: half a car's width and as much again
RADIUS: Final = 1.2  # m, of a shifted line's bends at least, which a car can take
SMOOTH: Final = 2.0  # m, before and after, over which a shift comes and goes
FASTEST, ACCELERATION = 8.0, 6.0  # m/s, m/s^2; of opponents where no speeds are in a file


@dataclass(frozen=True)
class Protocol:
    """What the scenarios are.

    Attributes:
        starts: Places along the track, evenly spaced.
        speeds: Opponents' speeds, fractions of those along the line.
        shift: How far the lines to the left and right are from the middle one at most, m.
        gap: From the ego car's centre to the opponent's along the middle line at the start, m.
        ego_speed: Of the ego car at the start, m/s, if it is not slower; an opponent starts at the
            speed that it holds there.
        seconds: Length of a scenario.
        margin: How far ahead along the centre line the ego car has to be at the end, m.
    """

    starts: int = 80
    speeds: tuple[float, ...] = (0.4, 0.6, 0.8)
    shift: float = 0.4
    gap: float = 3.0
    ego_speed: float = 3.75
    seconds: float = 8.0
    margin: float = 0.0


class Outcomes(NamedTuple):
    """How scenarios ended, (lines, speeds, starts) each."""

    lead: Float  # m along the centre line, of the ego car at the end; negative: behind
    overtaken: Flags  # ahead at the end, and safe
    wall: Flags  # the ego car drove into a wall
    into_opponent: Flags  # it drove into the opponent, or both into each other
    by_opponent: Flags  # the opponent alone drove into it
    opponent_crashed: Flags  # into a wall

    @property
    def safe(self) -> Flags:
        """Whether the ego car touched nothing."""
        return ~(self.wall | self.into_opponent | self.by_opponent)


class Course:
    """The lines that opponents follow.

    The middle one is the track's racing line or, without one, its centre line; the others are to
    its sides, as far as there is room.

    Args:
        track: A closed track.
        shift: To the sides at most, m.

    Attributes:
        line: The middle line.

    Raises:
        TrackError: If the track is not closed.
    """

    def __init__(self, track: Track, shift: float) -> None:
        needs_loop(track)
        known = track.raceline_speeds
        line = track.line if track.raceline is None else polyline(track.raceline, closed=True)
        self.line: Centerline = line
        if track.raceline is None or known is None:
            speeds = driven_speeds(line, FASTEST, ACCELERATION)
        else:
            speeds = along(line, known)
        count = len(speeds)
        self._s = (np.arange(count, dtype=np.float64) + 0.5) * (line.length / count)
        self._shifts, self._speeds = {"middle": np.zeros(count)}, {"middle": speeds}
        for name, side in SIDES.items():
            self._shifts[name] = side * _room(track, line, self._s, side, shift)
            own = polyline(self.poses(name, self._s)[:, :2], closed=True)
            bends_allow = driven_speeds(own, FASTEST, ACCELERATION)
            at = own.length / len(bends_allow) * (np.arange(len(bends_allow)) + 0.5)
            limit = np.interp(own.segments[:, START], at, bends_allow, period=own.length)
            self._speeds[name] = np.minimum(speeds, limit)

    def poses(self, name: str, s: Float) -> Float:
        """Return (N, 3) x m, y m, yaw rad on a line, at (N,) arc lengths of the middle one, m."""
        return points_at(self.line, np.column_stack([s, self._at(self._shifts[name], s)]))

    def speeds(self, name: str, s: Float) -> Float:
        """Return (N,) m/s on a line, at (N,) arc lengths of the middle one, m."""
        return self._at(self._speeds[name], s)

    def table(self, name: str) -> str:
        """Return a line as a CSV file."""
        rows = np.column_stack([self.poses(name, self._s)[:, :2], self._speeds[name]])
        return "# x, y, speed\n" + "".join("{:.6f}, {:.6f}, {:.6f}\n".format(*row) for row in rows)

    def _at(self, values: Float, s: Float) -> Float:
        found: Float = np.interp(s, self._s, values, period=self.line.length)
        return found


def _room(track: Track, line: Centerline, s: Float, side: float, shift: float) -> Float:
    """(M,) m, how far a line can be shifted to a side, at most ``shift``, without sharp edges."""
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    tries = np.linspace(0.0, shift, max(2, int(shift / 0.02) + 1))
    places = np.column_stack([np.repeat(s, len(tries)), np.tile(side * tries, len(s))])
    room = clearance(track, points_at(line, places)[:, :2]).reshape(len(s), -1)
    free = np.cumprod(room[:, 1:] >= CLEARANCE, axis=1).sum(axis=1)
    middle = points_at(line, np.column_stack([s, np.zeros(len(s))]))[:, :2]
    inside = side * curvature(middle, closed=True) > 0
    radius = 1.0 / np.maximum(bends(line), 1e-9)
    found = np.where(inside, np.clip(radius - RADIUS, 0.0, tries[free]), tries[free])
    size = 2 * int(SMOOTH / (s[1] - s[0])) + 1
    # The mean of what is least within the same reach is nowhere more than there is.
    least = minimum_filter1d(found, min(size, len(s)), mode="wrap")
    smooth: Float = uniform_filter1d(least, min(size, len(s)), mode="wrap")
    return smooth


class _Cell(NamedTuple):
    """Scenarios with one opponent."""

    line: str
    fraction: float
    key: tuple[int, int]  # index of the line, and of the speed
    starts: list[int]


def drive(env: EnvConfig, protocol: Protocol, seed: int = 0, threads: int = 1) -> Outcomes:
    """Drive all scenarios; the same arguments but for ``threads`` give the same outcomes.

    Args:
        env: The track, the sensors, and two cars: the one with a driver, and the opponent, whose
            driver is replaced.
        protocol: The scenarios.
        seed: Of the sensors' noise.
        threads: That share the scenarios.

    Raises:
        TrackError: If the track is open, or has no centre line.
        ValueError: If a driver cannot be used, or cars cannot stand at a start.
    """
    every = np.ones((len(LINES), len(protocol.speeds), protocol.starts), np.bool_)
    found = list(_drive(env, protocol, every, seed, threads))
    return Outcomes(*(np.reshape(column, every.shape) for column in zip(*found, strict=True)))


def show(
    env: EnvConfig, protocol: Protocol, chosen: Flags, watcher: Watcher, seed: int = 0
) -> None:
    """Drive some of the scenarios as `drive` does, for somebody to look on.

    Args:
        env: As `drive` takes it, and so on.
        protocol: The scenarios.
        chosen: (lines, speeds, starts) which of them.
        watcher: Looks on; a scenario's number is that among all of them, flattened.
        seed: Of the sensors' noise.
    """
    for _ in _drive(env, protocol, chosen, seed, 1, watcher):
        pass


def _drive(
    env: EnvConfig,
    protocol: Protocol,
    chosen: Flags,
    seed: int,
    threads: int,
    watcher: Watcher | None = None,
) -> Iterator[Outcomes]:
    """Drive the chosen scenarios, and yield the outcomes of one opponent's after another."""
    course = Course(make_track(env.track), protocol.shift)
    with tempfile.TemporaryDirectory() as folder:
        for (i, name), (j, fraction) in product(enumerate(LINES), enumerate(protocol.speeds)):
            starts = np.flatnonzero(chosen[i, j]).tolist()
            if not starts:
                continue
            file = Path(folder) / f"{name}.csv"
            file.write_text(course.table(name), encoding="utf-8")
            driver = StanleyConfig(raceline=str(file), speed_factor=fraction)
            race = Race(
                _environment(env, driver, protocol), num_envs=len(starts), num_threads=threads
            )
            _start(race, course, _Cell(name, fraction, (i, j), starts), protocol, seed)
            first = int(np.ravel_multi_index((i, j, 0), chosen.shape))
            yield _run(race, protocol.margin, watcher, [first + k for k in starts])


def _environment(env: EnvConfig, driver: StanleyConfig, protocol: Protocol) -> EnvConfig:
    ego = next(car for car in env.cars if car.name == EGO)
    duration = env.physics_step * env.physics_steps_per_action
    settings = {
        "cars": (ego, CarConfig(name=OPPONENT, driver=driver)),
        "max_steps": max(1, round(protocol.seconds / duration)),
        "laps": 1000,
        "end_when": "all",
        "spawn": RandomSpawn(kind="random"),
    }
    return env.model_copy(update=settings)


def _start(race: Race, course: Course, cell: _Cell, protocol: Protocol, seed: int) -> None:
    """Put the cars down, moving."""
    spacing = course.line.length / protocol.starts
    s = np.array(cell.starts) * spacing
    own = course.poses("middle", s)
    other = course.poses(cell.line, s + protocol.gap)
    others = cell.fraction * course.speeds(cell.line, s + protocol.gap)
    speeds = np.column_stack([np.full(len(s), protocol.ego_speed), others])
    for env, start in enumerate(cell.starts):
        noise = stream(seed, Use.OVERTAKING, *cell.key, start)
        try:
            race.reset(env, noise, poses=np.stack([own[env], other[env]]), speeds=speeds[env])
        except ValueError as error:
            x, y = own[env, :2]
            raise ValueError(f"start {start} at ({x:.2f}, {y:.2f}) m: {error}") from error


def _run(race: Race, margin: float, watcher: Watcher | None, numbers: list[int]) -> Outcomes:
    """Drive one opponent's scenarios to their end."""
    world, length = race.world.arrays, race.tracks[0].length

    def nearest(way: Float) -> Float:
        return way - length * np.round(way / length)

    lead: Float = nearest(world.arc_length[:, 0] - world.arc_length[:, 1])
    behind = lead < 0
    nothing = np.zeros((race.num_envs, 0, 2), np.float32)
    if watcher is not None:
        for env in range(race.num_envs):
            watcher.begin(race, env)
    while not race.episodes.over.all():
        running = np.flatnonzero(~race.episodes.over).tolist()
        race.step(nothing)
        lead = lead + nearest(world.arc_length[:, 0] - world.arc_length[:, 1] - lead)
        if watcher is not None:
            watcher.step(race, running)
    if watcher is not None:
        for env, number in enumerate(numbers):
            watcher.end(env, number)
    touched = world.car_contact[:, 0] >= 0
    at_fault = world.drove_into[:, 0] >= 0
    wall = world.wall_contact[:, 0] & ~touched
    return Outcomes(
        lead=lead,
        overtaken=behind & (lead > margin) & ~world.crashed[:, 0],
        wall=wall,
        into_opponent=touched & (at_fault | (world.drove_into[:, 1] < 0)),
        by_opponent=touched & ~at_fault & (world.drove_into[:, 1] >= 0),
        opponent_crashed=world.wall_contact[:, 1].copy(),
    )


def summary(outcomes: Outcomes, protocol: Protocol) -> dict[str, Any]:
    """Return the rates of all scenarios, and by speed and by line.

    Returns:
        ``scenarios``; ``safe`` and ``overtaken``, each with ``count``, ``value`` and the Wilson
        interval from ``low`` to ``high``; ``crashes``, how many by what; ``opponent_crashed``,
        opponents that left the road by themselves; ``by_speed``, ``by_line``; ``protocol``.
    """
    cells = {f"{speed:g}": np.s_[:, j] for j, speed in enumerate(protocol.speeds)}
    return {
        **_rates(outcomes, np.s_[:]),
        "crashes": {
            name: int(getattr(outcomes, name).sum())
            for name in ("wall", "into_opponent", "by_opponent")
        },
        "opponent_crashed": int(outcomes.opponent_crashed.sum()),
        "by_speed": {name: _rates(outcomes, cell) for name, cell in cells.items()},
        "by_line": {name: _rates(outcomes, np.s_[i]) for i, name in enumerate(LINES)},
        "protocol": asdict(protocol),
    }


def _rates(outcomes: Outcomes, part: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"scenarios": outcomes.safe[part].size}
    for name in ("safe", "overtaken"):
        flags = getattr(outcomes, name)[part]
        count = int(flags.sum())
        low, high = wilson_interval(count, flags.size)
        found[name] = {"count": count, "value": count / flags.size, "low": low, "high": high}
    return found
