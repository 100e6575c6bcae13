#!/usr/bin/env python3
"""Write a racing line of a closed track, and how fast it can be driven.

The line bends as little as the lane allows. Its speeds are the fastest within the limits of tyres
(sideways and lengthways together within a circle), motor and brakes. The file has the columns of
TUM's racing lines: s, x, y, heading from the y axis, curvature, speed, acceleration. Scenarios take
it as env.track.raceline of a map, and drivers that follow lines as raceline on any track.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from parts.reading import read_track

from f110_fl.commandline import OneLineParser
from f110_fl.errors import UserError, system_error
from f110_fl.files import write_atomic
from sim.config.vehicle import VehicleConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sim.tracks.speeds import Limits
    from sim.tracks.track import Track

CAR: Final = VehicleConfig()
GRAVITY: Final = 9.81  # m/s^2
HEADER: Final = "# s_m; x_m; y_m; psi_rad; kappa_radpm; vx_mps; ax_mps2\n"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="raceline.py", description=__doc__)
    parser.add_argument(
        "track",
        metavar="MAP_OR_CSV",
        help="a map's YAML file, a centre line's CSV file, or a track as in scenarios: circle, "
        "'{kind: random, seed: 3}'",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    numbers = (
        ("--margin", "M", 0.3, "from the car's side to the walls, m"),
        (
            "--friction",
            "MU",
            0.8,
            f"of the tyres that the speeds use, of the car's {CAR.friction:g}",
        ),
        ("--acceleration", "A", CAR.acceleration_max, "of the motor up to switch speed, m/s^2"),
        ("--braking", "B", CAR.acceleration_max, "of the brakes, m/s^2"),
        ("--speed", "V", 8.0, "top speed, m/s"),
    )
    for flag, metavar, default, about in numbers:
        about = f"{about} (default: {default:g})"
        parser.add_argument(flag, type=float, default=default, metavar=metavar, help=about)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    from sim.plugins import PluginError

    arguments = build_parser().parse_args(argv)
    try:
        found = make_line(arguments)
    except (UserError, PluginError) as error:
        print(f"raceline.py: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if arguments.json:
        print(json.dumps(found))  # noqa: T201
        return 0
    rows = (
        ("length", f"{found['length_m']:.2f} m"),
        ("lap time", f"{found['lap_time_s']:.2f} s, predicted"),
        ("clearance", f"{found['clearance_m']:.3f} m, smallest, from the car's side to a wall"),
        ("line", str(arguments.out)),
    )
    for head, value in rows:
        print(f"{head:<11} {value}")  # noqa: T201
    return 0


def make_line(arguments: argparse.Namespace) -> dict[str, float]:
    """Find the line, write it, and return its length, lap time and smallest clearance.

    Raises:
        UserError: If a flag is wrong, the track has no such line, or it cannot be written.
    """
    from sim.tracks.centerline import curvature
    from sim.tracks.raceline import minimum_curvature, smallest_clearance
    from sim.tracks.speeds import speed_profile, travel_time
    from sim.tracks.track import TrackError

    limits = _limits(arguments)
    if not 0 <= arguments.margin < math.inf:
        raise UserError(f"--margin={arguments.margin:g}: allowed: a number from 0 m")
    out = arguments.out
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out={str(out)!r}: allowed: a file in a folder that exists")
    track = _track(arguments.track)
    try:
        points = minimum_curvature(track, CAR.width / 2 + arguments.margin)
    except TrackError as error:
        raise UserError(str(error)) from error
    steps = np.hypot(*(np.roll(points, -1, axis=0) - points).T)
    bends = curvature(points, closed=True)
    speeds = speed_profile(bends, steps, limits, closed=True)
    try:
        write_atomic(out, tum_text(points, steps, bends, speeds))
    except OSError as error:
        raise UserError(f"--out: {system_error(error)}") from error
    return {
        "length_m": round(float(steps.sum()), 3),
        "lap_time_s": round(travel_time(speeds, steps, closed=True), 3),
        "clearance_m": round(smallest_clearance(track, points) - CAR.width / 2, 3),
    }


def tum_text(
    points: NDArray[np.float64],
    steps: NDArray[np.float64],
    bends: NDArray[np.float64],
    speeds: NDArray[np.float64],
) -> str:
    """Return a closed line as a CSV file whose last row is its first point again.

    Args:
        points: (N, 2) m.
        steps: (N,) m from each point to the next.
        bends: (N,) 1/m, curvature at the points.
        speeds: (N,) m/s.
    """
    ahead = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
    heading = np.arctan2(ahead[:, 1], ahead[:, 0]) - math.pi / 2
    heading = (heading + math.pi) % math.tau - math.pi
    gained = (np.roll(speeds, -1) ** 2 - speeds**2) / (2 * steps)
    rows = np.column_stack([points, heading, bends, speeds, gained])
    s = np.concatenate([[0.0], np.cumsum(steps)])
    table = np.column_stack([s, np.vstack([rows, rows[:1]])])
    return HEADER + "".join("; ".join(f"{x:.7f}" for x in row) + "\n" for row in table)


def _limits(arguments: argparse.Namespace) -> Limits:
    from sim.tracks.speeds import Limits

    for name in ("friction", "acceleration", "braking", "speed"):
        if not 0 < getattr(arguments, name) < math.inf:
            raise UserError(f"--{name}={getattr(arguments, name):g}: allowed: a number above 0")
    grip = arguments.friction * GRAVITY
    return Limits(
        lateral=grip,
        longitudinal=grip,
        braking=arguments.braking,
        acceleration=arguments.acceleration,
        switch_speed=CAR.switch_speed,
        fastest=arguments.speed,
    )


def _track(text: str) -> Track:
    """Build the track.

    Raises:
        UserError: If there is none, or several.
    """
    from f110_fl.loading.document import parse_yaml
    from f110_fl.loading.overrides import Override
    from f110_fl.loading.scenarios import resolve_scenario
    from sim.tracks.factory import make_track

    car = {"name": "car_0", "driver": {"kind": "random"}}
    settings: dict[str, Any] = {"name": "line", "env": {"cars": [car]}}
    track = Override("MAP_OR_CSV", ("env", "track"), read_track(text, "MAP_OR_CSV"), text)
    document = parse_yaml(json.dumps(settings), "raceline.py")
    scenario = resolve_scenario(document, Path.cwd() / "raceline.py", [track])
    try:
        return make_track(scenario.env.track)
    except ValueError as error:
        raise UserError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
