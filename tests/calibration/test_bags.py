"""Logs as bags of ROS 2, of both kinds of storage, which rosbags writes without ROS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from f110_fl.calibration.bags import Topics, read_bag
from f110_fl.errors import UserError

NANO = 1_000_000_000
START = 1_700_000_000
TYPES = get_typestore(Stores.ROS2_HUMBLE)
DRIVE = "ackermann_msgs/msg/AckermannDrive"
STAMPED = "ackermann_msgs/msg/AckermannDriveStamped"
ODOMETRY = "nav_msgs/msg/Odometry"
_FIELDS = ("steering_angle", "steering_angle_velocity", "speed", "acceleration", "jerk")
TYPES.register(get_types_from_msg("\n".join(f"float32 {name}" for name in _FIELDS), DRIVE))
TYPES.register(
    get_types_from_msg("std_msgs/Header header\nackermann_msgs/AckermannDrive drive", STAMPED)
)


def message(name: str, *arguments: Any) -> Any:
    return TYPES.types[name](*arguments)


def header(stamp: float) -> Any:
    whole = int(stamp)
    parts = (START + whole, round((stamp - whole) * 1e9)) if stamp >= 0 else (0, 0)
    return message("std_msgs/msg/Header", message("builtin_interfaces/msg/Time", *parts), "")


def odometry(stamp: float, x: float, y: float, yaw: float, speed: float, yaw_rate: float) -> Any:
    def vector(*values: float) -> Any:
        return message("geometry_msgs/msg/Vector3", *values)

    turn = (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    pose = message(
        "geometry_msgs/msg/Pose",
        message("geometry_msgs/msg/Point", x, y, 0.0),
        message("geometry_msgs/msg/Quaternion", *turn),
    )
    twist = message("geometry_msgs/msg/Twist", vector(speed, 0, 0), vector(0, 0, yaw_rate))
    nothing = np.zeros(36)
    return message(
        ODOMETRY,
        header(stamp),
        "base_link",
        message("geometry_msgs/msg/PoseWithCovariance", pose, nothing),
        message("geometry_msgs/msg/TwistWithCovariance", twist, nothing),
    )


def write(
    path: Path, plugin: StoragePlugin, *, late: float = 0.02, stamped: bool = True, shift: float = 0
) -> Path:
    """A bag of three messages of odometry and two commands, which arrive late."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        places = {
            name: writer.add_connection(name, kind, typestore=TYPES)
            for name, kind in (("/odom", ODOMETRY), ("/drive", STAMPED))
        }

        def put(topic: str, kind: str, stamp: float, value: Any) -> None:
            arrival = round((START + stamp + late) * NANO)
            writer.write(places[topic], arrival, TYPES.serialize_cdr(value, kind))

        for stamp in (0.0, 0.1, 0.2):
            value = odometry(stamp + shift, 1 + stamp, 2.0, 3.0, 4 + stamp, 0.5)
            put("/odom", ODOMETRY, stamp, value)
        for stamp, angle in ((0.05, 0.25), (0.15, -0.25)):
            own = header(stamp + shift if stamped else -1.0)
            drive = message(STAMPED, own, message(DRIVE, angle, 0.0, 2.0, 0.0, 0.0))
            put("/drive", STAMPED, stamp, drive)
    return path


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_bag_is_read_by_the_stamps_of_its_messages(tmp_path: Path, plugin: StoragePlugin) -> None:
    folder = write(tmp_path / "bag", plugin)
    for path in (folder, next(path for path in folder.iterdir() if path.suffix != ".yaml")):
        log = read_bag(path, Topics())
        assert log.times == pytest.approx([0.0, 0.1, 0.2], abs=1e-6)
        assert log.measured[:, :5] == pytest.approx(
            np.array([[1 + t, 2, 3, 4 + t, 0.5] for t in (0.0, 0.1, 0.2)])
        )
        assert log.command_times == pytest.approx([0.05, 0.15], abs=1e-6)
        assert log.commands.tolist() == [[0.25, 2.0], [-0.25, 2.0]]
        assert log.notes == ()


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"stamped": False}, "times of arrival are used: /drive has no stamps"),
        ({"shift": 50.0}, "times of arrival are used: stamps of /odom are of another clock; "),
    ],
)
def test_times_of_arrival_stand_in_for_stamps(tmp_path: Path, settings: Any, note: str) -> None:
    log = read_bag(write(tmp_path / "bag", StoragePlugin.MCAP, **settings), Topics())
    assert log.command_times == pytest.approx([0.05, 0.15], abs=1e-6)
    assert log.notes[0].startswith(note)


def test_what_a_bag_lacks_is_told(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", StoragePlugin.SQLITE3)
    with pytest.raises(UserError, match=r"no topic /ego/odom \(--odom-topic\); .*kind: /odom$"):
        read_bag(bag, Topics(odometry="/ego/odom"))
    with pytest.raises(UserError, match=r"/odom is nav_msgs/msg/Odometry; allowed: ackermann_msgs"):
        read_bag(bag, Topics(drive="/odom", odometry="/odom"))
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"not a bag")
    for path in (broken, tmp_path):
        with pytest.raises(UserError, match="cannot be read as a bag: "):
            read_bag(path, Topics())
