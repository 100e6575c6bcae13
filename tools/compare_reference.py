#!/usr/bin/env python3
"""Compare the simulator with recordings of f1tenth_gym, and print the differences as JSON.

A recording is an .npz file with either or both of

* trajectories: ``params_json`` (f1tenth_gym's vehicle parameters), ``dt`` in s and, for each
  NAME, ``NAME/actions`` (T, 2) of steering angle rad and speed m/s, and ``NAME/states``
  (T + 1, 7) in the order of `sim.layout`. A trajectory starts from its first recorded state,
  with no steering command under way.
* scans: ``poses`` (N, 3) of x m, y m, yaw rad, ``scans`` (N, B) m, ``fov`` rad, ``max_range`` m.

Standard output contains one JSON object and nothing else. The exit status is 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError
from sim.config import LidarConfig, MapTrack, VehicleConfig
from sim.layout import COMMAND_SIZE, STATE_SIZE, YAW
from sim.physics.dynamics import advance
from sim.physics.lidar import make_beams, make_scratch, trace_walls
from sim.physics.vehicle import vehicle_vector
from sim.tracks.factory import make_track
from sim.tracks.track import TrackError

Float = NDArray[np.float64]

# f1tenth_gym's name of each vehicle parameter, and ours.
PARAMETERS: Final = {
    "mu": "friction",
    "C_Sf": "stiffness_front",
    "C_Sr": "stiffness_rear",
    "lf": "front_axle",
    "lr": "rear_axle",
    "h": "cg_height",
    "m": "mass",
    "I": "yaw_inertia",
    "s_max": "steer_max",
    "sv_max": "steer_rate_max",
    "v_switch": "switch_speed",
    "a_max": "acceleration_max",
    "v_min": "speed_min",
    "v_max": "speed_max",
    "length": "length",
    "width": "width",
}
# The model is symmetric: these must be the negatives of s_max and sv_max.
MIRRORED: Final = {"s_min": "s_max", "sv_min": "sv_max"}
OPTIONAL: Final = ("length", "width")  # of no effect on a trajectory


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="compare_reference.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, help="recording, .npz")
    parser.add_argument("--map", type=Path, help="ROS map the scans were recorded on, .yaml")
    return parser


def read_recording(path: Path) -> dict[str, NDArray[Any]]:
    """Return every array of a recording.

    Raises:
        UserError: If the file cannot be read.
    """
    if not path.is_file():
        raise UserError("there is no such file")
    if not zipfile.is_zipfile(path):
        raise UserError("not an .npz recording")
    try:
        with np.load(path) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"not a readable .npz recording: {reason}") from error


def take(data: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> Float:
    """Return an array as float64; -1 in ``shape`` leaves an extent open.

    Raises:
        UserError: If it is missing, has another shape, or contains anything but finite numbers.
    """
    if name not in data:
        raise UserError(f"{name} is missing")
    array = data[name]
    shown = "(" + ", ".join("any" if extent < 0 else str(extent) for extent in shape) + ")"
    if array.ndim != len(shape) or any(
        wanted not in (-1, found) for wanted, found in zip(shape, array.shape, strict=True)
    ):
        raise UserError(f"{name} has shape {array.shape}; {shown} is needed")
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise UserError(f"{name} must hold finite numbers")
    return array.astype(np.float64)


def vehicle_of(data: dict[str, NDArray[Any]]) -> VehicleConfig:
    """Return the recorded car.

    Raises:
        UserError: If its parameters are missing or impossible.
    """
    if "params_json" not in data:
        raise UserError("params_json is missing")
    try:
        values = json.loads(str(data["params_json"]))
    except json.JSONDecodeError as error:
        raise UserError(f"params_json is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError("params_json must be a JSON object")
    for name in PARAMETERS:
        if name not in values and name not in OPTIONAL:
            raise UserError(f"params_json: {name} is missing")
    for low, high in MIRRORED.items():
        if low in values and values[low] != -values[high]:
            raise UserError(f"params_json: {low} must be -{high}, found {values[low]!r}")
    unused = values.keys() - PARAMETERS.keys() - MIRRORED.keys()
    if unused:
        print(f"params_json: not used: {', '.join(sorted(unused))}", file=sys.stderr)  # noqa: T201
    known = {ours: values[theirs] for theirs, ours in PARAMETERS.items() if theirs in values}
    try:
        return VehicleConfig.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        theirs = {ours: name for name, ours in PARAMETERS.items()}[str(first["loc"][0])]
        raise UserError(
            f"params_json: {theirs}: {first['msg']}, found {first['input']!r}"
        ) from error


def compare_trajectories(data: dict[str, NDArray[Any]]) -> dict[str, dict[str, float]]:
    """Return the largest error of any state component of each trajectory, in its SI unit.

    Raises:
        UserError: If the recording is not as described at the top.
    """
    config = vehicle_of(data)
    vehicle = vehicle_vector(config)
    dt = float(take(data, "dt", ()))
    if dt <= 0.0:
        raise UserError(f"dt must be positive, found {dt:g}")
    result = {}
    for name in sorted({key.rpartition("/")[0] for key in data if "/" in key}):
        actions = take(data, f"{name}/actions", (-1, COMMAND_SIZE))
        recorded = take(data, f"{name}/states", (len(actions) + 1, STATE_SIZE))
        state, buffer = recorded[0].copy(), np.zeros(config.steer_delay)
        states = [state.copy()]
        for steer, speed in actions:
            advance(state, buffer, vehicle, steer, speed, dt)
            states.append(state.copy())
        error = np.abs(np.array(states) - recorded)
        error[:, YAW] = np.abs(np.remainder(error[:, YAW] + np.pi, 2 * np.pi) - np.pi)
        result[name] = {"max_abs_error": float(error.max())}
    return result


def compare_scans(data: dict[str, NDArray[Any]], map_file: Path | None) -> dict[str, float]:
    """Return the median and the 95th percentile of the beams' errors, m.

    Raises:
        UserError: If the recording is not as described at the top, or the map cannot be used.
    """
    if map_file is None:
        raise UserError("the recording holds scans: --map must name the map they were made on")
    poses = take(data, "poses", (-1, 3))
    recorded = take(data, "scans", (len(poses), -1))
    if not recorded.size:
        raise UserError("scans are empty")
    try:
        config = LidarConfig(
            beams=recorded.shape[1],
            field_of_view=float(take(data, "fov", ())),
            max_range=float(take(data, "max_range", ())),
        )
        track = make_track(MapTrack(file=map_file.name), map_file.parent)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]}: {first['msg']}, found {first['input']!r}") from error
    except TrackError as error:
        raise UserError(str(error)) from error
    grid, beams, scratch = track.field, make_beams(config), make_scratch(config.beams)
    scan = np.empty(config.beams, dtype=np.float32)
    errors = np.empty(recorded.shape)
    for pose, expected, error_row in zip(poses, recorded, errors, strict=True):
        x, y, yaw = pose.tolist()
        trace_walls(grid, beams, (x, y, yaw), scratch, scan)
        error_row[:] = np.abs(scan - expected)
    return {
        "median_abs_error": float(np.median(errors)),
        "p95_abs_error": float(np.percentile(errors, 95)),
    }


def compare(data: dict[str, NDArray[Any]], map_file: Path | None) -> dict[str, Any]:
    """Return the JSON object.

    Raises:
        UserError: If the recording contains neither trajectories nor scans, or either is invalid.
    """
    result: dict[str, Any] = {}
    if any("/" in name for name in data):
        result |= compare_trajectories(data)
    if "scans" in data or "poses" in data:
        result |= compare_scans(data, map_file)
    if not result:
        raise UserError("neither trajectories (NAME/actions, NAME/states) nor scans and poses")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 for bad input."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        data = read_recording(arguments.file)
        print(json.dumps(compare(data, arguments.map), indent=2))  # noqa: T201
        return 0

    return program(str(arguments.file), work)


if __name__ == "__main__":
    sys.exit(main())
