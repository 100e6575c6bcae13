"""Logs as ROS 2 bags and MCAP files, which are read without ROS. The only module of rosbags."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from f110_fl.calibration.drive_log import CHANNELS, DriveLog, make_log
from f110_fl.errors import UserError, did_you_mean

SUFFIXES: Final = (".mcap", ".db3")
_ODOMETRY: Final = "nav_msgs/msg/Odometry"
_COMMANDS: Final = ("ackermann_msgs/msg/AckermannDriveStamped", "ackermann_msgs/msg/AckermannDrive")
# For bags that do not carry the definition of their messages, as those of SQLite before ROS 2 Iron.
_DRIVE: Final = """\
float32 steering_angle
float32 steering_angle_velocity
float32 speed
float32 acceleration
float32 jerk
"""
_STAMPED: Final = "std_msgs/Header header\nackermann_msgs/AckermannDrive drive\n"
_CLOCKS: Final = 1.0  # s by which stamps and times of arrival may differ
_NANO: Final = 1e-9


class Topics(NamedTuple):
    """Names of topics."""

    odometry: str = "/odom"
    drive: str = "/drive"


class _Received(NamedTuple):
    """A topic's messages: stamps of their headers (0: none) and times of arrival, s; and values."""

    stamps: list[float]
    arrivals: list[float]
    rows: list[tuple[float, ...]]


def read_bag(path: Path, topics: Topics) -> DriveLog:
    """Read a log from a bag.

    Measurements have the times of their stamps, and so have commands; those of arrival if there are
    no stamps, or if they are of another clock than the recorder's.

    Args:
        path: Directory of a bag with ``metadata.yaml``, or its MCAP or SQLite file alone.
        topics: ``nav_msgs/Odometry``, with the twist in the car's frame, and
            ``ackermann_msgs/AckermannDriveStamped`` (or without a stamp).

    Raises:
        UserError: If rosbags is not installed, or the bag cannot be read or lacks a topic.
    """
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError:
        raise UserError("bags need rosbags: pip install -e '.[calibrate]'") from None
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(get_types_from_msg(_DRIVE, _COMMANDS[1]))
    types.register(get_types_from_msg(_STAMPED, _COMMANDS[0]))
    try:
        with AnyReader([path], default_typestore=types) as reader:
            kinds = {connection.topic: connection.msgtype for connection in reader.connections}
            _check(path, kinds, topics)
            received = {name: _Received([], [], []) for name in topics}
            wanted = [found for found in reader.connections if found.topic in topics]
            for connection, arrival, raw in reader.messages(connections=wanted):
                message: Any = reader.deserialize(raw, connection.msgtype)
                _take(received[connection.topic], message, connection.msgtype, arrival * _NANO)
    except (AnyReaderError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read as a bag: {reason}") from None
    notes: list[str] = []
    times = _times(received, topics, notes)
    odometry, drive = received[topics.odometry], received[topics.drive]
    measured = np.full((len(odometry.rows), len(CHANNELS)), math.nan)
    if odometry.rows:
        measured[:, : len(odometry.rows[0])] = odometry.rows
    commands = np.array(drive.rows, np.float64).reshape(-1, 2)
    return make_log(
        path.name, times[topics.odometry], measured, times[topics.drive], commands, tuple(notes)
    )


def _check(path: Path, kinds: dict[str, str], topics: Topics) -> None:
    """Refuse a bag without the topics, or with others of these names."""
    for name, allowed in ((topics.odometry, (_ODOMETRY,)), (topics.drive, _COMMANDS)):
        flag = "--odom-topic" if name == topics.odometry else "--drive-topic"
        fitting = [topic for topic, kind in kinds.items() if kind in allowed]
        if name not in kinds:
            others = f"; topics of this kind: {', '.join(fitting) or 'none'}"
            hint = did_you_mean(name, kinds) if not fitting else ""
            raise UserError(f"{path}: no topic {name} ({flag}){hint}{others}")
        if kinds[name] not in allowed:
            raise UserError(f"{path}: {name} is {kinds[name]}; allowed: {' or '.join(allowed)}")


def _take(received: _Received, message: Any, kind: str, arrival: float) -> None:
    stamp = message.header.stamp if hasattr(message, "header") else None
    received.stamps.append(stamp.sec + stamp.nanosec * _NANO if stamp else 0.0)
    received.arrivals.append(arrival)
    if kind == _ODOMETRY:
        received.rows.append(_motion(message))
    else:
        drive = getattr(message, "drive", message)
        received.rows.append((float(drive.steering_angle), float(drive.speed)))


def _motion(message: Any) -> tuple[float, ...]:
    """Pose, speed and yaw rate, in the order of `CHANNELS`."""
    place, turn = message.pose.pose.position, message.pose.pose.orientation
    yaw = math.atan2(2.0 * (turn.w * turn.z + turn.x * turn.y), 1.0 - 2.0 * (turn.y**2 + turn.z**2))
    twist = message.twist.twist
    return float(place.x), float(place.y), yaw, float(twist.linear.x), float(twist.angular.z)


def _times(
    received: dict[str, _Received], topics: Topics, notes: list[str]
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Of each topic's messages, s: all stamps, or all times of arrival."""
    reasons = list(_reasons(received))
    if reasons:
        notes.append(f"times of arrival are used: {'; '.join(reasons)}")
    return {
        name: np.array(received[name].arrivals if reasons else received[name].stamps)
        for name in topics
    }


def _reasons(received: dict[str, _Received]) -> Iterator[str]:
    """Why stamps are no use."""
    for name, (stamps, arrivals, _) in received.items():
        if not all(stamps):
            yield f"{name} has no stamps"
        elif stamps and abs(float(np.median(np.subtract(stamps, arrivals)))) > _CLOCKS:
            yield f"stamps of {name} are of another clock"
