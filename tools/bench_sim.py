#!/usr/bin/env python3
"""Time the simulator under random actions, and print steps per second.

Episodes are reset as they end, and the resets are part of the time; compilation is not. Every
figure is the median of ``--repeats`` measurements of ``--seconds`` each. ``--interface`` selects
what is timed: ``world``, physics and sensing alone; ``race``, with rewards and observations;
``parallel``, the PettingZoo environment (one environment); ``vector``, Gymnasium's batch.

``--peer`` also times f1tenth_gym v1.0.0, which must be importable, on the same track with the
same number of cars, in turns with the simulator, and adds its rate and the ratio of the two.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.runs.startup import KERNEL_CACHE

# Before numba is imported, whose own cache does not see what has changed in another module.
os.environ.update(KERNEL_CACHE)

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError
from sim.config import (
    CarConfig,
    CircleTrack,
    EnvConfig,
    LidarConfig,
    Line2Track,
    MapTrack,
    RandomTrack,
)
from sim.envs import F110ParallelEnv, F110VectorEnv
from sim.race import Race
from sim.tracks.track import Track, TrackError

ACTIONS: Final = 256  # drawn before the clock starts, and used repeatedly
PEER_BEAMS: Final = 1080  # fixed in f1tenth_gym

Step = Callable[[int], None]  # one step of every environment, with the i-th actions


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="bench_sim.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cars", type=int, default=2, help="cars per environment (default: 2)")
    parser.add_argument("--beams", type=int, default=1080, help="LiDAR beams (default: 1080)")
    parser.add_argument("--envs", type=int, default=1, help="environments (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    parser.add_argument("--map", default="line2", help="line2, circle, random or a ROS map's .yaml")
    parser.add_argument("--tracks", type=int, default=1, help="tracks of --map random (default: 1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="per measurement (default: 1)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements (default: 3)")
    parser.add_argument(
        "--interface", choices=("world", "race", "parallel", "vector"), default="race"
    )
    parser.add_argument("--peer", action="store_true", help="also time f1tenth_gym v1.0.0")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def make_config(cars: int, beams: int, track: str, tracks: int = 1) -> EnvConfig:
    """Return the environment that is timed: every car is an agent, and the noise is on.

    Raises:
        UserError: If the environment is invalid.
    """
    if tracks != 1 and track != "random":
        raise UserError(f"--tracks {tracks}: several are of --map random, found --map {track}")
    try:
        kinds = {
            "line2": Line2Track(),
            "circle": CircleTrack(),
            "random": RandomTrack(count=tracks),
        }
        return EnvConfig(
            track=kinds.get(track) or MapTrack(file=track),
            cars=tuple(CarConfig(name=f"car_{i}") for i in range(cars)),
            lidar=LidarConfig(beams=beams),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {first['msg']}, found {first['input']!r}") from error


def race_step(race: Race) -> Step:
    """Return a step of a `Race`, which resets the environments whose episode ends."""
    rng = np.random.default_rng(0)
    shape = (ACTIONS, race.num_envs, len(race.agents), 2)
    actions = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    for env in range(race.num_envs):
        race.reset(env, env)

    def step(i: int) -> None:
        over = race.step(actions[i % ACTIONS]).over
        if np.count_nonzero(over):  # a tenth of what any() takes
            for env in np.flatnonzero(over):
                race.reset(int(env), i)

    return step


def world_step(race: Race) -> Step:
    """Return a step of a race's `World`, which places the cars again after a crash."""
    world, rng = race.world, np.random.default_rng(0)
    vehicle = race.config.cars[0].vehicle
    scale = np.array([vehicle.steer_max, (vehicle.speed_max - vehicle.speed_min) / 2])
    middle = np.array([0.0, (vehicle.speed_max + vehicle.speed_min) / 2])
    shape = (ACTIONS, race.num_envs, len(race.agents), 2)
    commands = middle + scale * rng.uniform(-1.0, 1.0, shape)
    names = race.spawn_sets[0]
    poses = [np.array([track.spawns[name] for name in names]) for track in race.tracks]
    for env in range(race.num_envs):
        world.place(env, poses[env % len(poses)], env, env % len(poses))

    def step(i: int) -> None:
        world.step(commands[i % ACTIONS])
        crashed = world.arrays.crashed
        if crashed.any():
            for env in np.flatnonzero(crashed.any(axis=1)):
                track = int(race.episode_track[env])
                world.place(int(env), poses[track], i, track)

    return step


def parallel_step(config: EnvConfig) -> Step:
    """Return a step of the PettingZoo environment."""
    env = F110ParallelEnv(config)
    rng = np.random.default_rng(0)
    names = env.possible_agents
    draws = rng.uniform(-1.0, 1.0, (ACTIONS, len(names), 2)).astype(np.float32)
    actions = [dict(zip(names, draw, strict=True)) for draw in draws]
    env.reset(seed=0)

    def step(i: int) -> None:
        env.step(actions[i % ACTIONS])
        if not env.agents:
            env.reset()

    return step


def vector_step(config: EnvConfig, envs: int, threads: int) -> Step:
    """Return a step of Gymnasium's batch."""
    rows = envs * len(config.cars)
    env = F110VectorEnv(config, rows, num_threads=threads)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (ACTIONS, rows, 2)).astype(np.float32)
    env.reset(seed=0)

    def step(i: int) -> None:
        env.step(actions[i % ACTIONS])

    return step


def peer_step(track: Track, poses: np.ndarray[Any, np.dtype[np.float64]]) -> Step:
    """Return a step of f1tenth_gym v1.0.0 on the same walls, from the same poses.

    Raises:
        UserError: If f1tenth_gym cannot be imported, or the track has no centre line, which
            it needs.
    """
    try:
        env_class = importlib.import_module("f1tenth_gym.envs").F110Env
        tracks = importlib.import_module("f1tenth_gym.envs.track.track")
    except (ImportError, AttributeError) as error:
        raise UserError(f"--peer: f1tenth_gym v1.0.0 cannot be imported: {error}") from error
    if not len(track.centerline):
        raise UserError("--peer: f1tenth_gym needs a track with a centre line")
    line = np.vstack([track.centerline, track.centerline[: int(track.closed)]])
    # Its spline needs more than two points.
    fine = np.linspace(0, len(line) - 1, max(len(line), 10))
    x, y = (np.interp(fine, np.arange(len(line)), column) for column in line.T)
    peer_track = tracks.Track.from_refline(x, y, np.ones_like(x))
    peer_track.occupancy_map = np.where(track.distance > 0, 255.0, 0.0).astype(np.float32)
    peer_track.spec.resolution, peer_track.spec.origin = track.resolution, track.origin
    peer = env_class(config={"map": peer_track, "num_agents": len(poses)})
    rng = np.random.default_rng(0)
    low, high = peer.action_space.low, peer.action_space.high
    actions = rng.uniform(low, high, (ACTIONS, len(poses), 2)).astype(np.float32)
    peer.reset(options={"poses": poses})

    def step(i: int) -> None:
        if peer.step(actions[i % ACTIONS])[2]:
            peer.reset(options={"poses": poses})

    return step


def rate(step: Step, seconds: float) -> float:
    """Return calls per second, measured for at least ``seconds``."""
    count, chunk, begin = 0, 1, time.perf_counter()
    while True:
        for i in range(count, count + chunk):
            step(i)
        count += chunk
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            return count / elapsed
        # Look at the clock about every fiftieth of the time.
        chunk = max(1, int(count / elapsed * seconds / 50))


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the figures by name.

    Raises:
        UserError: If the measurement is not possible.
    """
    if arguments.seconds <= 0 or arguments.repeats < 1:
        raise UserError("--seconds and --repeats must be positive")
    if arguments.peer and arguments.tracks != 1:
        raise UserError("--peer: f1tenth_gym has one track")
    config = make_config(arguments.cars, arguments.beams, arguments.map, arguments.tracks)
    try:
        race = Race(config, num_envs=arguments.envs, num_threads=arguments.threads)
    except (TrackError, ValueError) as error:
        raise UserError(str(error)) from error
    if arguments.interface == "parallel":
        if arguments.envs != 1 or arguments.threads != 1:
            raise UserError("--interface parallel: has one environment and one thread")
        own = parallel_step(config)
    elif arguments.interface == "vector":
        own = vector_step(config, arguments.envs, arguments.threads)
    else:
        own = race_step(race) if arguments.interface == "race" else world_step(race)
    steps = [own]
    if arguments.peer:
        if arguments.beams != PEER_BEAMS:
            raise UserError(f"--peer: f1tenth_gym has {PEER_BEAMS} beams; found {arguments.beams}")
        spawns = [race.track.spawns[name] for name in race.spawn_sets[0]]
        steps.append(peer_step(race.track, np.array(spawns)))
    for step in steps:  # compile, and warm caches
        for i in range(ACTIONS):
            step(i)
    rates: list[list[float]] = [[] for _ in steps]
    for _ in range(arguments.repeats):
        for step, found in zip(steps, rates, strict=True):
            found.append(rate(step, arguments.seconds))
    env_steps = statistics.median(rates[0]) * arguments.envs
    result = {
        "env_steps_per_s": env_steps,
        "car_steps_per_s": env_steps * arguments.cars,
        "scans_per_s": env_steps * arguments.cars,
    }
    if arguments.peer:
        result["peer_env_steps_per_s"] = statistics.median(rates[1])
        result["ratio"] = statistics.median(
            own * arguments.envs / peer for own, peer in zip(*rates, strict=True)
        )
    return {name: round(value, 2) for name, value in result.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 if the measurement is not possible."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        result = measure(arguments)
        lines = [f"{name:22} {value:14,.2f}" for name, value in result.items()]
        print(json.dumps(result) if arguments.json else "\n".join(lines))  # noqa: T201
        return 0

    return program("bench_sim.py", work)


if __name__ == "__main__":
    sys.exit(main())
