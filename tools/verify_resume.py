#!/usr/bin/env python3
"""Kill federations at random moments, resume them, and compare every byte (Linux).

One run is left alone. Others are killed without warning, each up to ``PER_RUN`` times, at
moments drawn uniformly from the length of the undisturbed run. A moment is given by the episodes
logged by then and the seconds since, so that it means the same on a busy machine and in a resumed
run. At random, either all of a run's processes die at once, or run.py alone, whose
children then have to end by themselves. Each is resumed at once, and in the end compared with the
undisturbed run.

Prints a line for each kill. Exit status: 0 all equal, 1 something differs or fails.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.compared import Run, Stop, contents, difference

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError
from f110_fl.loading.scenarios import load_scenario
from f110_fl.reporting.summary import completed_rounds
from f110_fl.rundir import RunDir

PER_RUN: Final = 7  # kills of one run at most
MAX_LENGTH: Final = 3600.0  # s that the undisturbed run may take
PATIENCE: Final = 20.0  # a run may take this many times what the undisturbed one took
# Two TD3 clients, whose replay of 100 wraps several times, with everything that keeps a state.
TASK: Final[dict[str, Any]] = {
    "name": "verify_resume",
    "seed": 7,
    "episodes": 40,
    "env": {
        "max_steps": 120,
        "lidar": {"beams": 8, "noise_std": 0.01},
        "spawn_sets": [["spawn_3", "spawn_1"], ["spawn_2", "spawn_1"]],
        "cars": [
            {"name": "car_0", "task": {"kind": "convoy_lock", "target": "car_1"}},
            {"name": "car_1", "driver": {"kind": "secondary_vicon", "target": "car_0"}},
        ],
    },
    "learners": {
        "car_0": {
            "algorithm": "td3",
            "hidden": [16, 16],
            "batch_size": 16,
            "warmup_steps": 20,
            "replay": {"capacity": 100, "alpha": 0.6},
        }
    },
    "evaluation": {"every": 1, "episodes": 1},
    "federated": {
        "clients": 2,
        "round_interval": 1,
        "optimizer_strategy": "average",
        "strategy": {"name": "fedavgm"},
        "evaluate_on": "server",
    },
}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="verify_resume.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=20, help="total number of kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--engine", choices=("simulation", "deployment"), default="simulation")
    parser.add_argument("--scenario", type=Path, help="a federated one (default: a small one)")
    return parser


def at(progress: Sequence[Stop], moment: float) -> Stop:
    """Return the time of a moment in a run with this progress, s from its start."""
    last = [entry for entry in progress if entry.seconds <= moment][-1]
    return Stop(last.lines, moment - last.seconds)


def torment(
    run: Run, moments: Sequence[Stop], patience: float, chance: np.random.Generator
) -> tuple[list[str], str]:
    """Kill a run at each moment, and resume it until it is done.

    Args:
        run: The run.
        moments: Ascending.
        patience: Longest wait for a moment or for the run's end, s.
        chance: Draws which processes a kill ends.

    Returns:
        A text for each kill, fewer than moments if the run completed before, and the reason if
        the run failed, else "".
    """
    told: list[str] = []
    for moment in [*moments, None]:
        outcome = run.go(patience, moment)
        if outcome == "done":
            return told, ""
        if outcome != "stopped":
            break
        completed, everything = completed_rounds(run.rundir), bool(chance.integers(2))
        run.kill(everything=everything)
        whom = "all processes" if everything else "run.py alone"
        told.append(f"after round {completed:2d}  {whom}")
    run.kill(everything=True)
    return told, f"{outcome}, see {run.errors}"


def verify(arguments: argparse.Namespace, directory: Path) -> bool:
    """Return whether every killed run ended with the same files as the undisturbed one."""
    scenario, flags = arguments.scenario, ["--engine", arguments.engine]
    if scenario is None:
        scenario = directory / "scenario.yaml"
        scenario.write_text(yaml.safe_dump(TASK), encoding="utf-8")
    straight = Run(flags, scenario.absolute(), RunDir(directory / "straight"))
    begun = time.monotonic()
    if (outcome := straight.go(MAX_LENGTH)) != "done":
        straight.kill(everything=True)
        print(f"the undisturbed run {outcome}, see {straight.errors}")  # noqa: T201
        return False
    length, expected = time.monotonic() - begun, contents(straight.rundir)
    rounds = completed_rounds(straight.rundir)
    print(f"undisturbed: {length:.1f} s, {rounds} rounds, {len(expected)} files", flush=True)  # noqa: T201
    chance = np.random.default_rng(arguments.seed)
    done = number = 0
    good = True
    while done < arguments.kills and good:
        run = Run(flags, scenario.absolute(), RunDir(directory / f"run_{number:02d}"))
        number += 1
        moments = sorted(length * chance.random(min(PER_RUN, arguments.kills - done)))
        stops = [at(straight.progress, moment) for moment in moments]
        told, failure = torment(run, stops, PATIENCE * length, chance)
        if not failure:
            differing = difference(run.rundir, expected)
            failure = differing and f"{differing} differs"
        good = not failure
        for moment, text in zip(moments, told, strict=False):
            done += 1
            print(f"{done:3d}  at {moment:6.2f} s  {text}  {failure or 'equal'}", flush=True)  # noqa: T201
        if failure:
            print(f"{run.rundir.root}: {failure}")  # noqa: T201
    return good


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 if all are equal, else 1, with the runs' directory kept."""
    arguments = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work() -> int:
        if arguments.kills < 1 or arguments.seed < 0:
            raise UserError("--kills must be positive, --seed not negative")
        if arguments.scenario is not None:
            load_scenario(arguments.scenario)  # tells mistakes, which are in a file otherwise
        directory = Path(tempfile.mkdtemp(prefix="verify_resume-"))
        good = verify(arguments, directory)
        if good:
            shutil.rmtree(directory)
        else:
            print(f"the runs are kept in {directory}")  # noqa: T201
        return 0 if good else 1

    return program("verify_resume.py", work)


if __name__ == "__main__":
    sys.exit(main())
