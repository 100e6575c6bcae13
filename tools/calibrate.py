#!/usr/bin/env python3
"""Fit the parameters of a real car to a log of half a minute of driving or more.

A LOG is a CSV file with columns time, x, y, yaw, speed, yaw_rate, command_speed and
command_steering, an MCAP file, or the directory of a ROS 2 bag. Prints each parameter with its 95 %
interval, and which ones the log does not identify; writes the car's settings, and ranges of
`heterogeneity`, as YAML for a scenario. docs/calibration.md says how to drive and what is fitted.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError, did_you_mean, system_error

if TYPE_CHECKING:
    from f110_fl.calibration.drive_log import DriveLog
    from sim.config import VehicleConfig

SATURATING: Final = {"tyre": {"kind": "saturating"}}  # which alone tell friction from stiffness


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="calibrate.py", description=__doc__)
    parser.add_argument("log", type=Path, metavar="LOG")
    parser.add_argument("--out", type=Path, metavar="FILE.yaml", help="the settings")
    parser.add_argument(
        "--html", type=Path, metavar="FILE.html", help="a page of measured and predicted motion"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--vehicle",
        type=Path,
        metavar="FILE.yaml",
        help="what is known of the car: a car's vehicle as in scenarios, or what --out wrote "
        "(default: the default car, with saturating tyres)",
    )
    parser.add_argument(
        "--physics-step",
        type=float,
        default=0.01,
        metavar="S",
        help="of the scenario, in which delays are counted (default: 0.01)",
    )
    parser.add_argument(
        "--window",
        type=float,
        default=1.0,
        metavar="S",
        help="for which is predicted, 0.3 to 5 (default: 1)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=HEADER",
        help="of a CSV file: which column yaw_rate, say, is, if its name is not recognised",
    )
    parser.add_argument("--odom-topic", default="/odom", metavar="TOPIC", help="(default: /odom)")
    parser.add_argument(
        "--drive-topic", default="/drive", metavar="TOPIC", help="(default: /drive)"
    )
    parser.add_argument(
        "--simulate",
        type=float,
        metavar="S",
        help="fit nothing: write LOG, a CSV file, of so long a drive of --vehicle in the simulator",
    )
    parser.add_argument("--seed", default="0", metavar="N", help="of --simulate (default: 0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    work = _simulate if arguments.simulate is not None else _calibrate
    return program("calibrate.py", partial(work, arguments))


def _calibrate(arguments: argparse.Namespace) -> int:
    """Fit, write and print; return the exit status, 0."""
    from f110_fl.calibration.fit import fit
    from f110_fl.calibration.settings import fragment, not_identified, summary, text
    from f110_fl.files import write_atomic
    from f110_fl.reporting.pages.calibration import write_calibration_page

    step = _within("--physics-step", arguments.physics_step, 0.001, 0.1)
    window = _within("--window", arguments.window, 0.3, 5.0)
    for flag, path in (("--out", arguments.out), ("--html", arguments.html)):
        _check_file(flag, path)
    given = read_vehicle(arguments.vehicle)
    log = read_log(arguments)
    found = fit(log, given, step, window)
    result, settings = summary(found, log, given, step), fragment(found, log, given, step)
    try:
        if arguments.out:
            write_atomic(arguments.out, settings)
        if arguments.html:
            write_calibration_page(arguments.html, result, settings, found, log)
    except OSError as error:
        raise UserError(system_error(error)) from None
    print(json.dumps(result, indent=2) if arguments.json else text(result))  # noqa: T201
    for line in (*log.notes, not_identified(found)):
        if line:
            print(f"calibrate.py: {line}", file=sys.stderr)  # noqa: T201
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    """Write the log of a simulated drive; return the exit status, 0."""
    import numpy as np

    from f110_fl.calibration.simulated import record
    from f110_fl.calibration.tables import write_table
    from f110_fl.loading.texts import bounded

    seconds = _within("--simulate", arguments.simulate, 1.0, 3600.0)
    step = _within("--physics-step", arguments.physics_step, 0.001, 0.1)
    seed = bounded("--seed", arguments.seed, 0, 2**62)
    if arguments.log.suffix.lower() != ".csv":
        raise UserError(f"LOG={str(arguments.log)!r}: allowed with --simulate: a CSV file")
    _check_file("LOG", arguments.log)
    for flag in ("out", "html", "json"):
        if getattr(arguments, flag):
            raise UserError(f"--{flag} and --simulate exclude each other: nothing is fitted")
    vehicle = read_vehicle(arguments.vehicle)
    try:
        log = record(vehicle, np.random.default_rng(seed), seconds=seconds, physics_step=step)
    except ValueError as error:
        raise UserError(f"--vehicle: cannot be driven: {error}") from None
    try:
        write_table(arguments.log, log)
    except OSError as error:
        raise UserError(system_error(error)) from None
    print(arguments.log)  # noqa: T201
    return 0


def read_log(arguments: argparse.Namespace) -> DriveLog:
    """Read the log, by the kind of file it is.

    Raises:
        UserError: If it cannot be read.
    """
    from f110_fl.calibration.bags import SUFFIXES, Topics, read_bag
    from f110_fl.calibration.tables import COLUMNS, read_table

    path: Path = arguments.log
    if not path.exists():
        raise UserError(f"{path}: no such file")
    columns: dict[str, str] = {}
    for entry in arguments.column:
        name, mark, header = entry.partition("=")
        if not mark or name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS)
            allowed = f"NAME=HEADER, with NAME of {', '.join(COLUMNS)}"
            raise UserError(f"--column={entry!r}{hint}: allowed: {allowed}")
        columns[name] = header
    if path.is_dir() or path.suffix in SUFFIXES:
        if columns:
            raise UserError(f"--column: allowed with CSV files; {path} is a bag")
        return read_bag(path, Topics(arguments.odom_topic, arguments.drive_topic))
    return read_table(path, columns)


def read_vehicle(path: Path | None) -> VehicleConfig:
    """Read the settings of a car, which has saturating tyres unless its file says otherwise.

    Args:
        path: A mapping of settings, or one that has them as ``vehicle``; None: the default car.

    Raises:
        UserError: If the file cannot be read, or has other settings.
    """
    from f110_fl.loading.document import parse_yaml, read_yaml
    from f110_fl.loading.overrides import Override
    from f110_fl.loading.scenarios import resolve_scenario

    settings: dict[str, Any] = {}
    if path:
        found = parse_yaml(read_yaml(path, "a vehicle's YAML file"), str(path)).data
        if isinstance(found, dict) and isinstance(found.get("vehicle"), dict):
            found = found["vehicle"]
        if not isinstance(found, dict):
            raise UserError(f"{path}: allowed: the settings of a vehicle, as a mapping")
        settings = found
    car = {"name": "car_0", "driver": {"kind": "random"}}
    scenario = {"name": "calibration", "env": {"track": {"kind": "circle"}, "cars": [car]}}
    document = parse_yaml(json.dumps(scenario), "calibrate.py")
    key = ("env", "cars", 0, "vehicle")
    override = Override("--vehicle", key, SATURATING | settings, str(path))
    resolved = resolve_scenario(document, Path.cwd() / "calibrate.py", [override])
    vehicle = resolved.env.cars[0].vehicle
    if vehicle.control != "targets":
        raise UserError(f"{path}: control: {vehicle.control}: allowed: targets")
    return vehicle


def _within(flag: str, value: float, low: float, high: float) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        raise UserError(f"{flag}={value:g}: allowed: {low:g} to {high:g} s")
    return value


def _check_file(flag: str, path: Path | None) -> None:
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise UserError(f"{flag}={str(path)!r}: allowed: a file in a folder that exists")


if __name__ == "__main__":
    sys.exit(main())
