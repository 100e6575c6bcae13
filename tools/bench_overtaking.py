#!/usr/bin/env python3
"""Count how often a policy or a scripted driver overtakes a slower car, and how safely.

From 80 places along a closed track, 3 m behind a car that follows one of three lines at one of
three speeds and does not react: 720 scenarios of 8 s. Safe: the car touches nothing. Overtaken: it
is ahead at the end, and safe. A policy drives the car, with the sensors, of the scenario that it
was trained in, which is found beside a policy that comes with one or in a run's directory; drivers
have those of scenarios/solo_lap_*.yaml. docs/overtaking.md has the protocol. Figures depend on the
seed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.reading import read_driver, read_track

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from f110_fl.evaluation.overtaking import Outcomes, Protocol
    from sim.config import EnvConfig

DEFAULT: Final[dict[str, Any]] = {
    "physics_steps_per_action": 5,
    "lidar": {"beams": 54, "max_range": 10.0},
    "observation": ["lidar", "motion"],
}
VEHICLE: Final = {"vehicle": {"speed_min": -1.0, "speed_max": 8.0}, "reverse": False}
SHOWN: Final = 20  # scenarios of a replay
TRAINED: Final = ("physics_step", "physics_steps_per_action", "lidar", "observation")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="bench_overtaking.py", description=__doc__)
    parser.add_argument(
        "--policy",
        required=True,
        metavar="WHO",
        help="a checkpoint with a policy, or a driver as in scenarios: gap_preview, or "
        "'{kind: follow_the_gap, speed: 6}'",
    )
    parser.add_argument(
        "--map",
        required=True,
        metavar="TRACK",
        help="as run.py's --map, or a track as in scenarios: '{kind: random, seed: 1000}'",
    )
    parser.add_argument(
        "--raceline",
        metavar="CSV",
        help="of a map: the line in the middle, with speeds if it has them (default: the centre "
        "line, at up to 8 m/s and 6 m/s^2)",
    )
    parser.add_argument(
        "--scenario", type=Path, metavar="FILE", help="that the policy was trained in"
    )
    parser.add_argument(
        "--agent", default="car_0", metavar="NAME", help="whose policy it is (default: car_0)"
    )
    parser.add_argument("--starts", default="80", metavar="N", help="places (default: 80)")
    parser.add_argument("--seed", default="0", metavar="N", help="of noise (default: 0)")
    parser.add_argument(
        "--threads",
        default=str(os.cpu_count() or 1),
        metavar="N",
        help="that share the scenarios; results do not depend on it (default: cores)",
    )
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE.html",
        help=f"write a page that shows {SHOWN} of the scenarios, those that were not safe first",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    return program("bench_overtaking.py", partial(_bench, build_parser().parse_args(argv)))


def _bench(arguments: argparse.Namespace) -> int:
    """Drive the scenarios and print the rates; return the exit status, 0."""
    from f110_fl.evaluation.overtaking import Protocol, drive, summary
    from f110_fl.loading.texts import bounded

    protocol = Protocol(starts=bounded("--starts", arguments.starts, 1, 100_000))
    seed = bounded("--seed", arguments.seed, 0, 2**62)
    threads = bounded("--threads", arguments.threads, 1, 1024)
    page = arguments.replay
    if page and (page.is_dir() or not page.parent.is_dir()):
        raise UserError(f"--replay={str(page)!r}: allowed: a file in a folder that exists")
    env = make_environment(arguments)
    try:
        outcomes = drive(env, protocol, seed, threads)
        found = summary(outcomes, protocol)
        if page:
            write_page(page, arguments.policy, env, protocol, outcomes, seed)
    except (ValueError, FloatingPointError) as error:
        raise UserError(" ".join(str(error).split())) from None
    print(json.dumps(found) if arguments.json else table(found))  # noqa: T201
    return 0


def make_environment(arguments: argparse.Namespace) -> EnvConfig:
    """Return the track and the sensors, with the car that is judged and a car to overtake.

    Raises:
        UserError: If a flag is wrong.
    """
    from f110_fl.evaluation.overtaking import EGO, OPPONENT
    from f110_fl.loading.document import parse_yaml
    from f110_fl.loading.overrides import Override
    from f110_fl.loading.scenarios import resolve_scenario

    track = read_track(arguments.map, "--map")
    if arguments.raceline:
        if not Path(arguments.raceline).is_file():
            raise UserError(f"--raceline={arguments.raceline!r}: there is no such file")
        if track.get("kind") != "map":
            raise UserError(f"--raceline={arguments.raceline!r}: allowed: with a map's YAML file")
        track["raceline"] = str(Path(arguments.raceline).absolute())
    file = arguments.scenario or scenario_of(Path(arguments.policy))
    trained, car = trained_in(file, arguments.agent) if file else (DEFAULT, VEHICLE)
    cars = [{"name": EGO, **car}, {"name": OPPONENT, "driver": {"kind": "stanley"}}]
    settings = {"name": "overtaking", "env": {**trained, "cars": cars}}
    driver = read_driver(arguments.policy, arguments.agent, "--policy")
    overrides = [
        Override("--map", ("env", "track"), track, arguments.map),
        Override("--policy", ("env", "cars", 0, "driver"), driver, arguments.policy),
    ]
    document = parse_yaml(json.dumps(settings), "bench_overtaking.py")
    return resolve_scenario(document, Path.cwd() / "bench_overtaking.py", overrides).env


def scenario_of(policy: Path) -> Path | None:
    """Return the scenario that a policy's file belongs to; None if it cannot be told.

    That of scenarios/policies/NAME.safetensors is scenarios/NAME.yaml, that of a run's files its
    config.json.
    """
    if not policy.is_file():
        return None
    folders = policy.absolute().parents
    shipped = [folders[1] / f"{policy.stem}.yaml"] if folders[0].name == "policies" else []
    found = [*shipped, *(folder / "config.json" for folder in folders[:3])]
    return next((file for file in found if file.is_file()), None)


def trained_in(file: Path, agent: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the sensors and of an agent's car in a scenario.

    Raises:
        UserError: If it cannot be read, or has no such car.
    """
    from f110_fl.loading.scenarios import load_scenario

    env = load_scenario(file).env.model_dump(mode="json")
    cars = {car["name"]: car for car in env["cars"]}
    if agent not in cars:
        near = did_you_mean(agent, list(cars))
        raise UserError(f"--agent={agent!r}: allowed: a car of {file}: {', '.join(cars)}{near}")
    car = {key: cars[agent][key] for key in VEHICLE}
    return {key: env[key] for key in TRAINED}, car


def write_page(
    path: Path, name: str, env: EnvConfig, protocol: Protocol, outcomes: Outcomes, seed: int
) -> None:
    """Write a replay of scenarios, unsafe ones from all over the track, then those without a pass.

    Raises:
        OSError: If it cannot be written.
    """
    import numpy as np

    from f110_fl.evaluation.overtaking import show
    from f110_fl.reporting.pages.recording import ReplayRecorder
    from f110_fl.reporting.pages.replay import write_replay

    unsafe, done = ~outcomes.safe.ravel(), outcomes.overtaken.ravel()
    chosen = np.zeros(unsafe.size, np.bool_)
    for kind in (unsafe, ~unsafe & ~done, done):
        left = np.flatnonzero(kind)
        most = min(SHOWN - int(chosen.sum()), len(left))
        chosen[left[np.linspace(0, len(left) - 1, most).astype(np.int64)]] = True
    recorder = ReplayRecorder(max_episodes=SHOWN)
    show(env, protocol, chosen.reshape(outcomes.safe.shape), recorder, seed)
    write_replay(path, [recorder.recording(Path(name).stem, "overtaking", seed)])


def table(found: Mapping[str, Any]) -> str:
    """Return the rates as a table."""
    rows = [("all", found)]
    rows += [(f"speed {name}", part) for name, part in found["by_speed"].items()]
    rows += [(f"line {name}", part) for name, part in found["by_line"].items()]
    lines = [f"{'':<12} {'scenarios':>9}  {'safe, %':<20} {'overtaken, %':<20}".rstrip()]
    for name, part in rows:
        cells = [_percent(part[key]) for key in ("safe", "overtaken")]
        lines.append(f"{name:<12} {part['scenarios']:>9}  {cells[0]:<20} {cells[1]}")
    crashes = found["crashes"]
    lines.append(
        f"crashes: {crashes['wall']} into walls, {crashes['into_opponent']} into the other car, "
        f"{crashes['by_opponent']} by the other car; opponents into walls: "
        f"{found['opponent_crashed']}"
    )
    return "\n".join(lines)


def _percent(rate: Mapping[str, float]) -> str:
    value, low, high = (100 * rate[key] for key in ("value", "low", "high"))
    return f"{value:5.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
