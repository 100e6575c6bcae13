"""Logs as CSV files."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from f110_fl.calibration.drive_log import CHANNELS, DriveLog, Float, make_log
from f110_fl.errors import UserError
from f110_fl.files import write_atomic

TIME: Final = "time"
COMMANDS: Final = ("command_steering", "command_speed")  # in the order of `sim.layout`
POSE: Final = ("x", "y", "yaw")
OPTIONAL: Final = ("steering",)
COLUMNS: Final = (TIME, *CHANNELS, *COMMANDS)

# Names that columns go by, beside their own; without their units.
KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    TIME: ("t", "timestamp", "stamp", "secs", "seconds"),
    "x": ("pos_x", "position_x", "pose_x", "x_pos", "poses_x"),
    "y": ("pos_y", "position_y", "pose_y", "y_pos", "poses_y"),
    "yaw": ("theta", "heading", "psi", "pose_theta", "poses_theta"),
    "speed": ("v", "vx", "velocity", "vel_x", "linear_x", "linear_vel_x", "linear_vels_x"),
    "yaw_rate": ("yawrate", "omega", "wz", "angular_z", "ang_vel_z", "ang_vels_z", "psi_dot"),
    "steering": ("steer", "steering_angle", "delta", "servo"),
    "command_speed": (
        *("cmd_speed", "speed_cmd", "speed_command", "commanded_speed", "target_speed"),
        *("desired_speed", "drive_speed", "cmd_v"),
    ),
    "command_steering": (
        *("cmd_steering", "steering_cmd", "steering_command", "commanded_steering"),
        *("target_steering", "desired_steering", "drive_steering", "drive_steering_angle"),
        *("command_steering_angle", "cmd_steer", "steer_cmd", "cmd_delta"),
    ),
}
_MEANT: Final = {name: column for column in COLUMNS for name in (column, *KNOWN[column])}
_UNITS: Final = r"(_(s|sec|m|rad|mps|m_s|radps|rad_s|rps))?$"


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> DriveLog:
    """Read a log from a CSV file.

    Its first line names the columns, in any order, whose names may be of `KNOWN`, and in any case,
    with their units. A row need not have all values: what is left empty, or is ``nan``, was not
    measured at its time, or not sent: the command before it holds.

    Args:
        path: The file, of commas, semicolons or tabs.
        columns: Names in the file by names of `COLUMNS`, for those that are not recognised.

    Raises:
        UserError: If the file cannot be read, or a column is missing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UserError(f"{path}: {reason}") from None
    head = lines[0].lstrip("# ") if lines else ""
    mark = max(",;\t", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=mark), [])]
    places = _places(path, names, columns or {})
    values = np.full((len(lines) - 1, len(COLUMNS)), math.nan)
    for row, cells in enumerate(csv.reader(lines[1:], delimiter=mark)):
        for column, place in places.items():
            if place < len(cells) and cells[place].strip():
                where = f"{path}:{row + 2}: {column}"
                values[row, COLUMNS.index(column)] = _number(where, cells[place])
    values = values[np.isfinite(values[:, 0])]
    if (np.diff(values[:, 0]) < 0).any():
        late = float(values[:, 0][1:][np.diff(values[:, 0]) < 0][0])
        raise UserError(f"{path}: time goes back to {late:.3f} s; allowed: ascending times")
    measured, commands = values[:, 1 : 1 + len(CHANNELS)], values[:, 1 + len(CHANNELS) :]
    seen, sent = np.isfinite(measured).any(axis=1), np.isfinite(commands).any(axis=1)
    commands = _held(commands[sent])
    whole = np.isfinite(commands).all(axis=1)
    times = values[sent, 0][whole]
    return make_log(path.name, values[seen, 0], measured[seen], times, commands[whole])


def table(log: DriveLog) -> str:
    """Return a log as a CSV file: a row for each time at which anything was measured or sent."""
    times = np.unique(np.concatenate([log.times, log.command_times]))
    values = np.full((len(times), len(COLUMNS)), math.nan)
    values[:, 0] = times
    values[np.searchsorted(times, log.times), 1 : 1 + len(CHANNELS)] = log.measured
    values[np.searchsorted(times, log.command_times), 1 + len(CHANNELS) :] = log.commands
    shown = [place for place in range(len(COLUMNS)) if np.isfinite(values[:, place]).any()]
    lines = [",".join(COLUMNS[place] for place in shown)]
    lines += [
        ",".join("" if math.isnan(value) else _short(value) for value in row)
        for row in values[:, shown]
    ]
    return "\n".join(lines) + "\n"


def write_table(path: Path, log: DriveLog) -> None:
    """Write a log as a CSV file; see `table`.

    Raises:
        OSError: If it cannot be written.
    """
    write_atomic(path, table(log))


def _places(path: Path, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Where in the file each column is."""
    found: dict[str, int] = {}
    for column, name in columns.items():
        if name not in names:
            raise UserError(f"{path}: no column {name!r}; found: {', '.join(names)}")
        found[column] = names.index(name)
    for place, name in enumerate(names):
        known = meant(name)
        if known is None or known in columns or place in found.values():
            continue
        if known in found:
            raise UserError(
                f"{path}: both {names[found[known]]!r} and {name!r} could be {known}; "
                f"say which: --column {known}={name}"
            )
        found[known] = place
    lost = [name for name in COLUMNS if name not in found and name not in (*POSE, *OPTIONAL)]
    if any(name in found for name in POSE):  # all of the pose, or none
        lost += [name for name in POSE if name not in found]
    if lost:
        words = "; ".join(f"{name}: {', '.join((name, *KNOWN[name]))}" for name in lost)
        raise UserError(
            f"{path}: no column for {', '.join(lost)}; names that are recognised: {words}; "
            f"found: {', '.join(names) or 'nothing'}"
        )
    return found


def meant(name: str) -> str | None:
    """Return the column that a name in a file stands for; None if it is not recognised."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower().replace("[", "_")).strip("_")
    return _MEANT.get(plain) or _MEANT.get(re.sub(_UNITS, "", plain))


def _number(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: {text.strip()!r}: allowed: a number") from None
    if math.isinf(value):
        raise UserError(f"{where}: {text.strip()}: allowed: a finite number, or nothing")
    return value


def _short(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _held(values: Float) -> Float:
    """Fill what is not a number with the latest number above it."""
    rows = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    latest = np.maximum.accumulate(rows, axis=0)
    held = values[np.maximum(latest, 0), np.arange(values.shape[1])]
    return np.where(latest >= 0, held, math.nan)
