"""Logs as CSV files: what is recognised, what comes back, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.calibration.drive_log import CHANNELS, make_log
from f110_fl.calibration.tables import COLUMNS, meant, read_table, table
from f110_fl.errors import UserError

HEAD = "time,x,y,yaw,speed,yaw_rate,command_speed,command_steering\n"


def read(folder: Path, text: str, **columns: str):
    path = folder / "drive.csv"
    path.write_text(text, encoding="utf-8")
    return read_table(path, columns)


def test_a_dense_table_is_read(tmp_path: Path) -> None:
    log = read(tmp_path, HEAD + "100.0,1,2,3,4,5,6,7\n100.5,8,9,10,11,12,13,14\n")
    assert log.times.tolist() == [0.0, 0.5]
    assert log.measured[:, :5].tolist() == [[1, 2, 3, 4, 5], [8, 9, 10, 11, 12]]
    assert np.isnan(log.measured[:, 5]).all()
    assert log.command_times.tolist() == [0.0, 0.5]
    assert log.commands.tolist() == [[7, 6], [14, 13]]  # steering first, as the simulator has it


def test_what_is_left_empty_was_not_measured_and_commands_hold(tmp_path: Path) -> None:
    rows = ("0,,,,1,0.1,,", "0.1,,,,,,2,", "0.2,5,6,0,,,,0.3", "0.3,,,,nan,,4,", "0.4,,,,1,0,,")
    log = read(tmp_path, HEAD + "\n".join(rows))
    assert log.times.tolist() == [0.0, 0.2, 0.4]
    assert log.measured[1, :3].tolist() == [5, 6, 0]
    assert np.isnan(log.measured[1, 3:]).all()
    assert log.command_times == pytest.approx([0.2, 0.3])  # before, no steering had been sent
    assert log.commands.tolist() == [[0.3, 2], [0.3, 4]]


@pytest.mark.parametrize(
    "head",
    [
        "# t_s; vx_mps; omega_radps; cmd_speed; cmd_steering",
        "Timestamp\tVelocity [m/s]\tYaw Rate [rad/s]\tTarget Speed\tTarget-Steering",
        "stamp,linear_vels_x,ang_vels_z,drive.speed,drive.steering_angle",
    ],
)
def test_names_of_the_field_are_recognised(tmp_path: Path, head: str) -> None:
    mark = next(mark for mark in ";\t," if mark in head)
    log = read(tmp_path, head + "\n" + mark.join("01234") + "\n" + mark.join("12345"))
    assert log.measured[:, 3:5].tolist() == [[1, 2], [2, 3]]
    assert log.commands.tolist() == [[4, 3], [5, 4]]


def test_every_column_is_called_by_its_own_name() -> None:
    assert [meant(name) for name in COLUMNS] == list(COLUMNS)
    assert meant("temperature") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,speed,command_speed\n0,1,2\n", "no column for yaw_rate, command_steering"),
        ("", "found: nothing"),
        (HEAD.replace("yaw,", "") + "0,1,2,3,4,5,6\n", "no column for yaw"),
        (HEAD.replace("x,", "v,") + "0,1,2,3,4,5,6,7\n", "both 'v' and 'speed' could be speed"),
        (HEAD + "0,1,2,3,4,fast,6,7\n", "drive.csv:2: yaw_rate: 'fast': allowed: a number"),
        (HEAD + "0,1,2,3,inf,5,6,7\n", "drive.csv:2: speed: inf: allowed: a finite number"),
        (HEAD + "1,1,2,3,4,5,6,7\n0.5,1,2,3,4,5,6,7\n", "time goes back to 0.500 s"),
        (HEAD + "0,1,2,3,4,5,6,7\n1e9,1,2,3,4,5,6,7\n", "with time in seconds"),
        (HEAD + "0,1,2,3,4,5,,\n", "no commands in it"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_of_another_name_can_be_given(tmp_path: Path) -> None:
    head = HEAD.replace("yaw_rate", "gyro")
    assert read(tmp_path, head + "0,1,2,3,4,5,6,7\n", yaw_rate="gyro").measured[0, 4] == 5
    with pytest.raises(UserError, match="no column 'gyros'; found: time, x"):
        read(tmp_path, head + "0,1,2,3,4,5,6,7\n", yaw_rate="gyros")


NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 6))


@given(
    st.lists(st.tuples(st.integers(0, 40), *[NUMBERS | st.just(math.nan)] * 5), min_size=1),
    st.lists(st.tuples(st.integers(0, 40), NUMBERS, NUMBERS), min_size=1),
)
def test_what_is_written_is_read(tmp_path_factory, measurements, commands) -> None:
    seen = {row[0]: (*row[1:], math.nan) for row in measurements}
    sent = {row[0]: row[1:] for row in commands}
    seen[0], sent[0] = (0.0, 0.0, 0.0, 1.0, 0.0, math.nan), (0.0, 1.0)
    times = np.array(sorted(seen))
    rows = np.array([seen[time] for time in times.tolist()])
    known = np.isfinite(rows).any(axis=1)
    ordered = np.array(sorted(sent))
    log = make_log(
        "log",
        times[known] / 8,
        rows[known],
        ordered / 8,
        np.array([sent[time] for time in ordered.tolist()]),
    )
    again = read(tmp_path_factory.mktemp("log"), table(log))
    assert rows.shape[1] == len(CHANNELS)
    for name in ("times", "measured", "command_times", "commands"):
        np.testing.assert_allclose(getattr(again, name), getattr(log, name), atol=1e-6)
