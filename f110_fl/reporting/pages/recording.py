"""What a replay shows of episodes, and the watcher that keeps it while they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.evaluation.watching import Watcher
from f110_fl.reporting.pages.outlines import Points, outlines
from sim.config import CarConfig, EnvConfig
from sim.episodes import Outcome
from sim.layout import FRONT, LEFT, REAR, RIGHT, YAW, X, Y
from sim.race import Race
from sim.tasks.decomposition import RewardTerms
from sim.tracks.track import Track

MAX_BEAMS: Final = 108  # of a scan, kept; more are thinned evenly
MAX_EPISODES: Final = 100  # kept: about 5 MB
PARTS: Final = {"front": FRONT, "rear": REAR, "left": LEFT, "right": RIGHT}


@dataclass(frozen=True)
class CarShape:
    """What does not change about a car."""

    name: str
    role: str  # "agent", or the kind of its driver
    length: float  # m
    width: float  # m
    target: int | None  # index of the car that its task or its driver is about


@dataclass(frozen=True)
class Lidar:
    """Every car's range finder, as far as its scans are kept."""

    angles: NDArray[np.float64]  # (B,) rad, from straight ahead to the left
    mount_x: float  # m ahead of the centre of gravity
    max_range: float  # m


@dataclass(frozen=True)
class TrackShape:
    """What does not change about a track."""

    name: str
    walls: tuple[Points, ...]  # closed outlines of the free space, (N, 2) m each
    centerline: Points  # (N, 2) m; (0, 2) without one
    closed: bool  # whether the centre line is a loop
    finish_line: Points  # (2, 2) m left end, right end; (0, 2) without one


@dataclass(frozen=True)
class End:
    """How an episode ended for a car, and what it touched."""

    frame: int  # the first that shows it
    outcome: str  # of `sim`'s outcomes, in lower case
    wall: bool  # it touched a wall
    touched: int | None  # index of the car it touched
    drove: bool  # into that car; else that car drove into it
    parts: tuple[str, ...]  # sides of the car that touched something: names of `PARTS`
    at: tuple[float, float]  # m, the middle of those sides; of the car without any


@dataclass(frozen=True)
class EpisodeReplay:
    """One episode of T steps: T + 1 frames of C cars, of which frame 0 is the start."""

    number: int  # its place among the seeds
    track: int  # index among the recording's tracks
    states: NDArray[np.float64]  # (T + 1, C, 7) columns of `sim.layout`
    scans: NDArray[np.float32]  # (T + 1, C, B) m
    rewards: NDArray[np.float64]  # (T + 1, A) by agent; 0 at the start
    terms: Mapping[str, NDArray[np.float64]]  # (T + 1, A) each; their sum is the rewards
    ends: tuple[End, ...]  # one a car
    returns: Mapping[str, float]  # by agent
    lap_times: tuple[tuple[float, ...], ...]  # s, by car
    lap_frames: tuple[tuple[int, ...], ...]  # the first frames after each lap, by car


@dataclass(frozen=True)
class Recording:
    """Episodes of the same cars, for example an evaluation of one policy."""

    name: str  # of the policy or the run, shown where several are compared
    scenario: str
    seed: int  # of the scenario: episodes of the same seed and number begin alike
    period: float  # s between two frames
    cars: tuple[CarShape, ...]
    agents: tuple[int, ...]  # indices of the agents among the cars
    lidar: Lidar
    tracks: tuple[TrackShape, ...]
    episodes: tuple[EpisodeReplay, ...]


@dataclass
class _Frames:
    """An episode that runs."""

    track: int
    states: list[NDArray[np.float64]] = field(default_factory=list)
    scans: list[NDArray[np.float32]] = field(default_factory=list)
    rewards: list[NDArray[np.float64]] = field(default_factory=list)
    terms: list[NDArray[np.float64]] = field(default_factory=list)  # (K, A) each
    over: list[NDArray[np.bool_]] = field(default_factory=list)  # (C,) each
    laps: list[NDArray[np.int32]] = field(default_factory=list)  # (C,) each

    def keep(self, race: Race, env: int, beams: slice, terms: RewardTerms) -> None:
        """Add a frame of what an environment shows now."""
        arrays, episodes = race.world.arrays, race.episodes
        over = arrays.crashed[env] | arrays.finished[env]
        over[list(race.agent_cars)] |= episodes.outcome[env] != 0
        self.states.append(arrays.state[env].copy())
        self.scans.append(arrays.scan[env, :, beams].copy())
        self.rewards.append(episodes.rewards[env].copy())
        self.terms.append(terms.paid[:, env].copy())
        self.over.append(over)
        self.laps.append(arrays.laps[env].copy())


class ReplayRecorder:
    """Keeps what a replay shows of every episode; a `Watcher` of the collector.

    It watches one race, from the first step after an episode has begun to the last.

    Args:
        max_beams: Beams of a scan that are kept at most; every second, third ... is if there are
            more, and none if this is 0.
        max_episodes: Episodes that a recording has at most: the first successes and the first
            failures by their numbers, half of each where there are enough.
        only: Number of the only episode that is kept; None: any may be.
    """

    def __init__(
        self,
        max_beams: int = MAX_BEAMS,
        max_episodes: int = MAX_EPISODES,
        only: int | None = None,
    ) -> None:
        self._max_beams, self._max_episodes, self._only = max_beams, max_episodes, only
        self._watched: tuple[Race, RewardTerms] | None = None
        self._beams = slice(0, 0)
        self._tracks: dict[int, TrackShape] = {}  # by the race's index, in the order of use
        self._open: dict[int, _Frames] = {}
        # By number; whether it succeeded tells which. As many of either as a recording may have.
        self._done: dict[bool, dict[int, EpisodeReplay]] = {True: {}, False: {}}

    def begin(self, race: Race, env: int) -> None:
        """Keep an episode's first frame."""
        terms = self._terms(race)
        terms.reset(env)
        if self._max_beams:
            self._beams = slice(None, None, -(-race.config.lidar.beams // self._max_beams))
        track = int(race.episode_track[env])
        if track not in self._tracks:
            self._tracks[track] = track_shape(race.tracks[track])
        frames = self._open[env] = _Frames(list(self._tracks).index(track))
        frames.keep(race, env, self._beams, terms)

    def step(self, race: Race, envs: list[int]) -> None:
        """Keep a frame of each environment."""
        terms = self._terms(race)
        terms.step()
        for env in envs:
            self._open[env].keep(race, env, self._beams, terms)

    def end(self, env: int, number: int) -> None:
        """Close an episode, whose environment still shows its end."""
        (race, terms), frames = self._begun(), self._open.pop(env)
        if self._only is not None and number != self._only:
            return
        done = self._done[_succeeded(race, env)]
        if len(done) == self._max_episodes:
            if not done or number > max(done):
                return
            del done[max(done)]
        over, lapped = np.array(frames.over), np.diff(np.array(frames.laps), axis=0) > 0
        cars = range(len(race.config.cars))
        done[number] = EpisodeReplay(
            number=number,
            track=frames.track,
            states=np.array(frames.states),
            scans=np.array(frames.scans),
            rewards=np.array(frames.rewards),
            terms=dict(zip(terms.names, np.moveaxis(np.array(frames.terms), 1, 0), strict=True)),
            ends=tuple(_end(race, env, car, over) for car in cars),
            returns={
                name: float(race.episodes.returns[env, a]) for a, name in enumerate(race.agents)
            },
            lap_times=tuple(tuple(race.lap_times(env, car)) for car in cars),
            lap_frames=tuple(tuple((np.flatnonzero(lapped[:, car]) + 1).tolist()) for car in cars),
        )

    def recording(self, name: str, scenario: str, seed: int) -> Recording:
        """Return what was kept, the episodes in the order of their numbers.

        Args:
            name: Of the policy or the run.
            scenario: Its name.
            seed: The scenario's.

        Raises:
            ValueError: If no episode has begun.
        """
        race, _ = self._begun()
        config = race.config
        return Recording(
            name=name,
            scenario=scenario,
            seed=seed,
            period=config.physics_step * config.physics_steps_per_action,
            cars=tuple(_car(config, car) for car in config.cars),
            agents=tuple(race.agent_cars),
            lidar=_lidar(config, self._beams),
            tracks=tuple(self._tracks.values()),
            episodes=self._chosen(),
        )

    def _chosen(self) -> tuple[EpisodeReplay, ...]:
        """Half successes, half failures, and more of one kind where the other is rare."""
        good, bad = (sorted(self._done[kind]) for kind in (True, False))
        most = self._max_episodes
        bad = bad[: max(most // 2, most - len(good))]
        chosen = sorted([*good[: most - len(bad)], *bad])
        done = self._done[True] | self._done[False]
        return tuple(done[number] for number in chosen)

    def _begun(self) -> tuple[Race, RewardTerms]:
        if self._watched is None:
            raise ValueError("no episode has begun: there is nothing to replay")
        return self._watched

    def _terms(self, race: Race) -> RewardTerms:
        """Return what splits the rewards of a race, which is made when it is first seen."""
        if self._watched is None or self._watched[0] is not race:
            world = race.world
            terms = RewardTerms(race.config, race.tracks, world.arrays, race.episodes, world.stack)
            self._watched = race, terms
        return self._watched[1]


class Watchers:
    """Several watchers of the same episodes, as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def begin(self, race: Race, env: int) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.begin(race, env)

    def step(self, race: Race, envs: list[int]) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.step(race, envs)

    def end(self, env: int, number: int) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.end(env, number)


def track_shape(track: Track) -> TrackShape:
    """What a replay shows of a track."""
    return TrackShape(
        name=track.name,
        walls=outlines(track),
        centerline=np.array(track.centerline),
        closed=track.closed,
        finish_line=np.array(track.finish_line or np.empty((0, 2)), np.float64),
    )


def _succeeded(race: Race, env: int) -> bool:
    """Whether the first agent reached its goal, or the first car if nothing learns."""
    outcome = race.outcomes(env)[race.agents[0] if race.agents else race.config.cars[0].name]
    return outcome in (Outcome.SUCCESS, Outcome.FINISHED)


def _car(config: EnvConfig, car: CarConfig) -> CarShape:
    names = [other.name for other in config.cars]
    # Not every task has a target, nor every driver.
    targets = (getattr(part, "target", None) for part in (car.task, car.driver))
    target = next((name for name in targets if name is not None), None)
    return CarShape(
        name=car.name,
        role="agent" if car.driver is None else car.driver.kind,
        length=car.vehicle.length,
        width=car.vehicle.width,
        target=None if target is None else names.index(target),
    )


def _lidar(config: EnvConfig, beams: slice) -> Lidar:
    """The beams that are kept: evenly from -fov/2 to +fov/2, a single one ahead."""
    lidar = config.lidar
    half = lidar.field_of_view / 2 if lidar.beams > 1 else 0.0
    angles = np.linspace(-half, half, lidar.beams)[beams]
    return Lidar(angles=angles, mount_x=lidar.mount_x, max_range=lidar.max_range)


def _end(race: Race, env: int, car: int, over: NDArray[np.bool_]) -> End:
    """How an episode ended for a car, from an environment that still shows it."""
    arrays, shape = race.world.arrays, race.config.cars[car]
    bits, touched = int(arrays.contact_parts[env, car]), int(arrays.car_contact[env, car])
    ahead = bool(bits & FRONT) - bool(bits & REAR)
    left = bool(bits & LEFT) - bool(bits & RIGHT)
    x, y, yaw = arrays.state[env, car, [X, Y, YAW]]
    forward, aside = ahead * shape.vehicle.length / 2, left * shape.vehicle.width / 2
    cos, sin = np.cos(yaw), np.sin(yaw)
    ended = over[:, car]
    return End(
        frame=int(np.argmax(ended)) if ended.any() else len(ended) - 1,
        outcome=race.outcomes(env)[shape.name].name.lower(),
        wall=bool(arrays.wall_contact[env, car]),
        touched=touched if touched >= 0 else None,
        drove=bool(touched >= 0 and arrays.drove_into[env, car] == touched),
        parts=tuple(name for name, bit in PARTS.items() if bits & bit),
        at=(float(x + cos * forward - sin * aside), float(y + sin * forward + cos * aside)),
    )
