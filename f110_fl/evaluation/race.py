"""Games of two cars, many at once: who wins, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.config.league import LeagueConfig
from f110_fl.seeding import Use, integer, stream
from sim.config import EnvConfig
from sim.config.drivers import FrozenPolicyConfig
from sim.episodes import SUCCESS
from sim.physics.laps import LAP_START, NEXT_GATE
from sim.policy import load_policy
from sim.race import Race

Observations = NDArray[np.float32]

MAX_BATCH: Final = 64  # games of a pair side by side
LEVEL_WITHIN: Final = 0.5  # m, about a car's length: neither is ahead
MAX_STARTS: Final = 1000  # drawn for a game

End = Literal["finished", "crashed", "time_limit", "stopped"]
# In races, see `decide`; with a task, whether the attacker accomplished it.
Why = Literal["time", "finish", "contact", "distance", "draw", "success", "held"]


class Start(NamedTuple):
    """Where a game starts, whoever drives."""

    track: str
    seed: int


@dataclass(frozen=True)
class Game:
    """A game of two. What is a pair is the grid's first or the attacker's, then the other's.

    Attributes:
        entries: Who drives.
        track: Where.
        seed: Number of the start.
        winner: An entry; None: a draw.
        why: What decides it; see `decide`.
        ends: How each race ended; ``stopped`` by a car that had finished and drove into it.
        times: s from the start to the finish; None for a car that does not get there.
        distances: m along the centre line from where the second starts to where a car ends.
        contact: Whether they touched while at least one raced, but for ``stopped``.
        hit: Whether a car that raced drove into the other.
        overtakes: How often each has passed the other while both raced.
    """

    entries: tuple[str, str]
    track: str
    seed: int
    winner: str | None
    why: Why
    ends: tuple[End, End]
    times: tuple[float | None, float | None]
    distances: tuple[float, float]
    contact: bool
    hit: tuple[bool, bool]
    overtakes: tuple[int, int]


class _Course:
    """What is kept of races while they run: E environments of two cars.

    Args:
        race: The environments, whose cars are in their places.
        envs: Those that are used.
    """

    def __init__(self, race: Race, envs: int) -> None:
        self._world = race.world.arrays
        self._rows = np.arange(envs)
        lines = [track.line for track in race.tracks]
        lengths = [line.length if line.closed else np.inf for line in lines]
        self._length = np.array(lengths)[race.episode_track[:envs], None]
        self._closed = race.tracks[0].closed
        self._arc = self._world.arc_length[:envs].copy()
        self._over = race.episodes.over[:envs]
        self.racing = np.ones((envs, 2), np.bool_)
        self.crashed = np.zeros((envs, 2), np.bool_)  # while it raced
        self.finish = np.zeros((envs, 2), np.int64)  # physics steps; 0: not there
        self.contact = np.zeros(envs, np.bool_)
        self.clash = np.zeros(envs, np.bool_)  # contact while both raced
        self.hit = np.zeros((envs, 2), np.bool_)
        self.stopped = np.zeros((envs, 2), np.bool_)
        self.overtakes = np.zeros((envs, 2), np.int64)
        self.distance = np.zeros((envs, 2))
        self.distance[:, 0] = self._way(self._arc[:, :1] - self._arc[:, 1:])[:, 0]
        self._leader = np.zeros(envs, np.int64)

    def _way(self, difference: NDArray[np.float64]) -> NDArray[np.float64]:
        """The shortest way that leads to a difference of arc lengths, m."""
        with np.errstate(invalid="ignore"):
            turns = np.where(np.isinf(self._length), 0.0, np.round(difference / self._length))
            return difference - np.where(turns == 0.0, 0.0, turns * self._length)

    def see(self) -> None:
        """See what the latest step has done."""
        world, rows = self._world, slice(len(self._rows))
        arc = world.arc_length[rows]
        raced = self.racing.copy()
        self.distance += np.where(raced, self._way(arc - self._arc), 0.0)
        self._arc = arc.copy()
        done = raced & world.finished[rows]
        now = world.lap_memory[rows, :, LAP_START] if self._closed else world.lap_steps[rows, :, 0]
        self.finish[done] = now[done]
        self.crashed |= raced & world.crashed[rows]
        self.racing &= ~(world.finished[rows] | world.crashed[rows] | self._over[:, None])
        self._touch(raced)
        self._pass(raced[:, 0] & raced[:, 1])

    def _touch(self, raced: NDArray[np.bool_]) -> None:
        """Note the first contact of cars of which at least one raced."""
        world, rows = self._world, slice(len(self._rows))
        touched = raced & ~self.contact[:, None] & (world.car_contact[rows] >= 0)
        drove = world.drove_into[rows] >= 0
        others_done = (self.finish > 0)[:, ::-1]
        # A race is over at the finish, but its car goes on, and may come round.
        self.stopped |= touched & ~drove & others_done
        touched &= ~self.stopped
        self.hit |= touched & drove
        self.clash |= touched.all(axis=1)
        self.contact |= touched.any(axis=1)

    def _pass(self, both: NDArray[np.bool_]) -> None:
        """Count who has come to lead by a car's length since the other did."""
        ahead = self.distance[:, 0] - self.distance[:, 1]
        leader = np.where(ahead > LEVEL_WITHIN, 0, np.where(ahead < -LEVEL_WITHIN, 1, self._leader))
        new = both & (leader != self._leader)
        self.overtakes[self._rows[new], leader[new]] += 1
        self._leader = np.where(both, leader, self._leader)


def decide(
    finish: tuple[int, int], clash: bool, hit: tuple[bool, bool], distances: tuple[float, float]
) -> tuple[int | None, Why]:
    """Return which car wins, 0 or 1, None for a draw, and why.

    The first that holds decides. Both finish: the earlier wins (``time``); one does: it wins
    (``finish``); they collide while both race: one that alone drove into the other loses
    (``contact``), otherwise it is a draw; the one farther ahead wins, by half a metre at least
    (``distance``).

    Args:
        finish: Physics steps to the finish; 0 for a car that does not get there.
        clash: Whether they touched while both raced.
        hit: Whether each drove into the other.
        distances: How far each came, m.
    """
    if all(finish):
        return (None, "draw") if finish[0] == finish[1] else (int(finish[1] < finish[0]), "time")
    if any(finish):
        return int(finish[1] > 0), "finish"
    if clash:
        return (None, "draw") if hit[0] == hit[1] else (int(hit[0]), "contact")
    ahead = distances[0] - distances[1]
    return (None, "draw") if abs(ahead) <= LEVEL_WITHIN else (int(ahead < 0), "distance")


def play(
    league: LeagueConfig, first: str, second: str, starts: Sequence[Start], threads: int = 1
) -> list[Game]:
    """Play games of a pair, which depend on nothing but the league, the entries and the start.

    Args:
        league: The league.
        first: The entry that leads the grid.
        second: The other.
        starts: Where.
        threads: Threads that share the games.

    Returns:
        The games, in the order of the starts.

    Raises:
        ValueError: If a driver cannot be used, or a grid finds no room.
    """
    found: list[Game] = []
    config, act = _prepared(league, first, second)
    for begin in range(0, len(starts), MAX_BATCH):
        batch = starts[begin : begin + MAX_BATCH]
        race = Race(config, num_envs=len(batch), num_threads=threads)
        for env, start in enumerate(batch):
            _place(race, env, league, start)
        course = _Course(race, len(batch))
        while not race.episodes.over.all():
            race.step(act(race.episodes.observations))
            course.see()
        found += [_game(course, race, env, (first, second), s) for env, s in enumerate(batch)]
    return found


def check(league: LeagueConfig, first: str, second: str) -> None:
    """Check that a pair can play.

    Raises:
        ValueError: If a driver cannot be used, or the league's tracks or starts.
    """
    config, act = _prepared(league, first, second)
    act(Race(config).episodes.observations)


def _prepared(
    league: LeagueConfig, first: str, second: str
) -> tuple[EnvConfig, Callable[[Observations], Observations]]:
    """Return a pair's environment, and what maps observations (E, A, D) to actions (E, A, 2)."""
    config = league.environment(first, second)
    driver = league.entries[first].driver
    if league.task is None or not isinstance(driver, FrozenPolicyConfig):
        return config, lambda seen: np.zeros((len(seen), 0, 2), np.float32)
    policy = load_policy(Path(driver.checkpoint), driver.agent)
    stated = tuple(part for part, _ in policy.form.observation)

    def act(seen: Observations) -> Observations:
        if seen.shape[-1] != policy.observation_size:
            raise ValueError(
                f"{driver.agent!r} in {driver.checkpoint} observes {policy.observation_size} "
                f"numbers, the car {seen.shape[-1]}"
            )
        return policy.act(seen[:, 0])[:, None]

    return config.model_copy(update={"observation": stated or config.observation}), act


def _place(race: Race, env: int, league: LeagueConfig, start: Start) -> None:
    """Put the cars down where no finish line is between them: the rear one would gain a lap."""
    track = list(league.tracks).index(start.track)
    for attempt in range(MAX_STARTS):
        seed = stream(league.seed, Use.LEAGUE_GAME, track, start.seed, attempt)
        race.reset(env, integer(seed), track=track)
        gates = race.world.arrays.lap_memory[env, :, NEXT_GATE]
        if abs(int(gates[0] - gates[1])) < 2:  # of many more
            return
    raise ValueError(f"track {start.track!r}: no start without the finish line between the cars")


def _game(course: _Course, race: Race, env: int, entries: tuple[str, str], start: Start) -> Game:
    finish = int(course.finish[env, 0]), int(course.finish[env, 1])
    hit = bool(course.hit[env, 0]), bool(course.hit[env, 1])
    clash, distances = bool(course.clash[env]), course.distance[env].tolist()
    winner, why = decide(finish, clash, hit, (distances[0], distances[1]))
    if race.agents:
        done = race.episodes.outcome[env, 0] == SUCCESS
        winner, why = (0, "success") if done else (1, "held")
    crashed = course.crashed[env]
    ends: list[End] = ["crashed" if crashed[c] else "time_limit" for c in range(2)]
    for c in range(2):
        if course.stopped[env, c]:
            ends[c] = "stopped"
        if finish[c]:
            ends[c] = "finished"
    times = [finish[c] * race.config.physics_step if finish[c] else None for c in range(2)]
    return Game(
        entries=entries,
        track=start.track,
        seed=start.seed,
        winner=None if winner is None else entries[winner],
        why=why,
        ends=(ends[0], ends[1]),
        times=(_rounded(times[0]), _rounded(times[1])),
        distances=(round(distances[0], 3), round(distances[1], 3)),
        contact=bool(course.contact[env]),
        hit=hit,
        overtakes=(int(course.overtakes[env, 0]), int(course.overtakes[env, 1])),
    )


def _rounded(time: float | None) -> float | None:
    return None if time is None else round(time, 6)  # 9.56, not 9.560000000000001
