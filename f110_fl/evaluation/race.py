"""Games of several cars, many at once: who drives, where they start, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.config.league import LeagueConfig
from f110_fl.evaluation.course import Course
from f110_fl.evaluation.games import End, Game, Start, classify, decide
from f110_fl.evaluation.watching import Watcher
from f110_fl.seeding import Use, integer, stream
from sim.config import EnvConfig
from sim.config.drivers import FrozenPolicyConfig
from sim.episodes import SUCCESS
from sim.physics.laps import NEXT_GATE
from sim.policy import Policy, load_policy
from sim.race import Race
from sim.tracks.gates import GATES

Observations = NDArray[np.float32]

MAX_BATCH: Final = 64  # games of the same cars side by side
MAX_STARTS: Final = 1000  # drawn for a game


def play(
    league: LeagueConfig,
    lineup: Sequence[str],
    starts: Sequence[Start],
    threads: int = 1,
    watcher: Watcher | None = None,
) -> list[Game]:
    """Play games, which depend on nothing but the league, the entries and the start.

    Args:
        league: The league.
        lineup: The entries, the first of the grid first, or the attacker.
        starts: Where.
        threads: Threads that share the games.
        watcher: Told of every beginning, step and end; a game's number is that of its start.

    Returns:
        The games, in the order of the starts.

    Raises:
        ValueError: If a driver cannot be used, or a grid finds no room.
    """
    found: list[Game] = []
    config, policy = _prepared(league, lineup)
    for begin in range(0, len(starts), MAX_BATCH):
        batch = starts[begin : begin + MAX_BATCH]
        race = Race(config, num_envs=len(batch), num_threads=threads)
        for env, start in enumerate(batch):
            _place(race, env, league, start)
        course = Course(race, len(batch))
        act = _agents(policy, len(batch))
        running = list(range(len(batch)))
        for env in running if watcher else ():
            watcher.begin(race, env)  # type: ignore[union-attr]
        while running:
            race.step(act(race.episodes.observations))
            course.see()
            over = [env for env in running if race.episodes.over[env]]
            if watcher:
                watcher.step(race, running)
                for env in over:
                    watcher.end(env, begin + env)
            running = [env for env in running if env not in over]
        found += [_game(course, race, env, lineup, start) for env, start in enumerate(batch)]
    return found


def check(league: LeagueConfig, lineup: Sequence[str]) -> None:
    """Check that entries can play.

    Raises:
        ValueError: If a driver cannot be used, or the league's tracks or starts.
    """
    config, policy = _prepared(league, lineup)
    _agents(policy, 1)(Race(config).episodes.observations)


def _prepared(league: LeagueConfig, lineup: Sequence[str]) -> tuple[EnvConfig, Policy | None]:
    """Return the environment of some entries, and the policy of its agent, an attacker."""
    config = league.environment(lineup)
    driver = league.entries[lineup[0]].driver
    if league.task is None or not isinstance(driver, FrozenPolicyConfig):
        return config, None
    policy = load_policy(Path(driver.checkpoint), driver.agent)
    stated = tuple(part for part, _ in policy.form.observation)
    return config.model_copy(update={"observation": stated or config.observation}), policy


def _agents(policy: Policy | None, envs: int) -> Callable[[Observations], Observations]:
    """Return what maps observations (E, A, D) to actions (E, A, 2)."""
    if policy is None:
        return lambda seen: np.zeros((len(seen), 0, 2), np.float32)
    actor, size = policy.actor(envs), policy.observation_size

    def act(seen: Observations) -> Observations:
        if seen.shape[-1] != size:
            raise ValueError(f"it observes {size} numbers, the attacker's car {seen.shape[-1]}")
        return actor.act(seen[:, 0])[:, None]

    return act


def _place(race: Race, env: int, league: LeagueConfig, start: Start) -> None:
    """Put the cars down where no finish line is between them: the rear one would gain a lap."""
    track = list(league.tracks).index(start.track)
    for attempt in range(MAX_STARTS):
        seed = stream(league.seed, Use.LEAGUE_GAME, track, start.seed, attempt)
        race.reset(env, integer(seed), track=track)
        gates = race.world.arrays.lap_memory[env, :, NEXT_GATE]
        if int(gates.max() - gates.min()) < GATES // 2:
            return
    raise ValueError(f"track {start.track!r}: no start without the finish line between the cars")


def _game(course: Course, race: Race, env: int, lineup: Sequence[str], start: Start) -> Game:
    finish, fault, distances = (
        list(of[env].tolist()) for of in (course.finish, course.fault, course.distance)
    )
    places = classify(finish, fault, distances)
    winner, why = decide(finish, fault, places)
    if race.agents:
        done = race.episodes.outcome[env, 0] == SUCCESS
        winner, why, places = (0, "success", (1, 2)) if done else (1, "held", (2, 1))
    ends: list[End] = ["crashed" if crashed else "time_limit" for crashed in course.crashed[env]]
    for car in range(len(lineup)):
        if course.stopped[env, car]:
            ends[car] = "stopped"
        if finish[car]:
            ends[car] = "finished"
    config = race.config
    period = config.physics_step * config.physics_steps_per_action
    return Game(
        entries=tuple(lineup),
        track=start.track,
        seed=start.seed,
        winner=None if winner is None else lineup[winner],
        why=why,
        places=places,
        ends=tuple(ends),
        times=tuple(_rounded(steps * config.physics_step) if steps else None for steps in finish),
        distances=tuple(round(distance, 3) for distance in distances),
        duration=_rounded(int(race.episodes.steps[env]) * period),
        contact=tuple(course.contact[env].tolist()),
        hit=tuple(course.hit[env].tolist()),
        overtakes=tuple(course.overtakes[env].tolist()),
    )


def _rounded(time: float) -> float:
    return round(time, 6)  # 9.56, not 9.560000000000001
