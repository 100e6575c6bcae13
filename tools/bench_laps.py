#!/usr/bin/env python3
"""Time laps of a scripted driver or a trained policy on a track.

Each lap is an episode of its own: the car starts anywhere on the lane, at rest, as evaluations
start, and is timed from the finish line to the finish line. Car and sensors are those of
scenarios/solo_lap_*.yaml, with 20 commands a second. A lap is completed if the car touches nothing;
the lap time is the mean of the completed ones. Figures depend on the seed alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.reading import read_driver, read_track

from f110_fl.commandline import OneLineParser
from f110_fl.errors import UserError

if TYPE_CHECKING:
    from f110_fl.config.scenario import Scenario

CAR: Final = "car_0"
ENV: Final[dict[str, Any]] = {
    "physics_steps_per_action": 5,
    "max_steps": 4000,
    "lidar": {"beams": 54, "max_range": 10.0},
    "spawn": {"kind": "random"},
    "observation": ["lidar", "motion"],
}
VEHICLE: Final = {"speed_min": -1.0, "speed_max": 8.0}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="bench_laps.py", description=__doc__)
    parser.add_argument(
        "--map",
        required=True,
        metavar="TRACK",
        help="as run.py's --map, or a track as in scenarios: '{kind: random, seed: 3}'",
    )
    parser.add_argument(
        "--raceline", metavar="CSV", help="line that the driver follows, if it does one"
    )
    parser.add_argument(
        "--driver",
        required=True,
        metavar="WHO",
        help="a checkpoint with a policy, or a driver as in scenarios: pure_pursuit, or "
        "'{kind: stanley, speed: 6}'",
    )
    parser.add_argument(
        "--agent", default=CAR, metavar="NAME", help=f"whose policy it is (default: {CAR})"
    )
    parser.add_argument("--laps", default="20", metavar="N", help="(default: 20)")
    parser.add_argument("--seed", default="0", metavar="N", help="of the starts (default: 0)")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings as run.py's: env.cars[0].vehicle.speed_max=20",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    from sim.plugins import PluginError

    arguments = build_parser().parse_args(argv)
    try:
        found = time_laps(make_scenario(arguments))
    except (UserError, PluginError) as error:
        print(f"bench_laps.py: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(found) if arguments.json else table(found))  # noqa: T201
    return 0


def make_scenario(arguments: argparse.Namespace) -> Scenario:
    """Return the scenario in which the laps are driven, an episode each.

    Raises:
        UserError: If a flag is wrong.
    """
    from f110_fl.config.scenario import MAX_SEED
    from f110_fl.loading import texts
    from f110_fl.loading.document import parse_yaml
    from f110_fl.loading.overrides import Override, refuse_contradictions, set_overrides
    from f110_fl.loading.scenarios import resolve_scenario

    settings = {
        "name": "laps",
        "seed": texts.bounded("--seed", arguments.seed, 0, MAX_SEED - 1),
        "env": {**ENV, "cars": [{"name": CAR, "vehicle": VEHICLE, "reverse": False}]},
        "evaluation": {"episodes": texts.bounded("--laps", arguments.laps, 1)},
    }
    driver = read_driver(arguments.driver, arguments.agent, "--driver")
    track = read_track(arguments.map, "--map")
    of_driver = ("env", "cars", 0, "driver")
    overrides = [
        Override("--map", ("env", "track"), track, arguments.map),
        Override("--driver", of_driver, driver, arguments.driver),
    ]
    if arguments.raceline:
        if not Path(arguments.raceline).is_file():
            raise UserError(f"--raceline={arguments.raceline!r}: there is no such file")
        line = str(Path(arguments.raceline).absolute())
        overrides.append(Override("--raceline", (*of_driver, "raceline"), line, line))
    overrides += set_overrides(arguments.set, overrides)
    refuse_contradictions(overrides)
    document = parse_yaml(json.dumps(settings), "bench_laps.py")
    return resolve_scenario(document, Path.cwd() / "bench_laps.py", overrides)


def time_laps(scenario: Scenario) -> dict[str, Any]:
    """Drive the laps.

    Returns:
        ``lap_time_s``, the mean of the completed laps, null without any; ``completion``, their
        share; ``lap_times_s``, each of them.

    Raises:
        UserError: If the environment cannot be built.
    """
    from f110_fl.runs.preflight import check_environment
    from f110_fl.training.evaluation import Evaluator

    check_environment(scenario)
    episodes = Evaluator(scenario, scenario.evaluation.episodes).run({})
    ended = [(e.outcomes[CAR], e.lap_times[CAR]) for e in episodes]
    times = [sum(laps) / len(laps) for outcome, laps in ended if outcome == "finished"]
    return {
        "lap_time_s": round(statistics.fmean(times), 3) if times else None,
        "completion": len(times) / len(ended),
        "lap_times_s": [round(seconds, 3) for seconds in times],
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table."""
    times = found["lap_times_s"]
    values = [f"{100 * found['completion']:.0f} %"]
    values += [f"{f(times):.2f} s" if times else "-" for f in (statistics.fmean, min, max)]
    heads = ("completed", "lap time", "fastest", "slowest")
    return "\n".join(f"{head:<11} {value}" for head, value in zip(heads, values, strict=True))


if __name__ == "__main__":
    sys.exit(main())
