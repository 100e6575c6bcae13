"""tools/raceline.py: what it writes, that the simulator reads it, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raceline import main

from sim.config import MapTrack
from sim.tracks.factory import make_track
from sim.tracks.lanefile import read_raceline

STADIUM = "{kind: oval, straight: 8, radius: 4, width: 2}"


def made(capsys, *arguments: str) -> dict[str, float]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, float] = json.loads(capsys.readouterr().out)
    return found


def write_map(folder: Path) -> Path:
    """A square ring 10 m wide, in a lane of 2 m, with its centre line."""
    free = np.zeros((120, 120), np.uint8)
    free[10:110, 10:110] = 255
    free[30:90, 30:90] = 0
    Image.fromarray(free).save(folder / "square.png")
    (folder / "square.yaml").write_text("image: square.png\nresolution: 0.1\norigin: [0, 0, 0]\n")
    side = np.arange(2.0, 10.0, 0.25)
    low, high = np.full_like(side, 2.0), np.full_like(side, 10.0)
    sides = (side, low), (high, side), (12 - side, high), (low, 12 - side)
    rows = np.vstack([np.column_stack(side) for side in sides])
    np.savetxt(folder / "square_centerline.csv", rows, delimiter=",")
    return folder / "square.yaml"


def test_the_file_has_tums_columns_of_one_line(tmp_path: Path, capsys) -> None:
    out = tmp_path / "line.csv"
    found = made(capsys, STADIUM, "--out", str(out), "--speed", "7")
    assert out.read_text().startswith("# s_m; x_m; y_m; psi_rad; kappa_radpm; vx_mps; ax_mps2\n")
    s, x, y, heading, bend, speed, gained = np.loadtxt(out, delimiter=";").T
    assert (x[-1], y[-1], speed[-1]) == (x[0], y[0], speed[0])
    assert np.diff(s) == pytest.approx(np.hypot(np.diff(x), np.diff(y)), abs=1e-6)
    assert s[-1] == pytest.approx(found["length_m"], abs=1e-3)
    course = np.unwrap(heading[:-1] + math.pi / 2)
    turned = np.arctan2(np.diff(y), np.diff(x)) - course - np.diff(s) * bend[:-1] / 2
    assert np.abs((turned + math.pi) % math.tau - math.pi).max() < 0.02
    assert np.diff(course) == pytest.approx(np.diff(s)[:-1] * bend[:-2], abs=0.02)
    assert np.diff(speed**2) == pytest.approx((2 * gained[:-1] * np.diff(s)), abs=1e-4)
    assert speed.max() <= 7.0
    assert (speed**2 * np.abs(bend)).max() <= 0.8 * 9.81 + 1e-3
    time = (2 * np.diff(s) / (speed[1:] + speed[:-1])).sum()
    assert time == pytest.approx(found["lap_time_s"], abs=1e-3)
    assert found["clearance_m"] >= 0.299


def test_less_grip_is_slower_and_more_margin_longer_to_drive(tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "line.csv")
    usual = made(capsys, STADIUM, "--out", out)
    assert made(capsys, STADIUM, "--out", out, "--friction", "0.4")["lap_time_s"] > (
        1.2 * usual["lap_time_s"]
    )
    wider = made(capsys, STADIUM, "--out", out, "--margin", "0.5")
    assert wider["clearance_m"] >= 0.499 > usual["clearance_m"]
    assert wider["lap_time_s"] > usual["lap_time_s"]


def test_the_simulator_reads_the_line_of_a_map(tmp_path: Path, capsys):
    file, out = write_map(tmp_path), tmp_path / "line.csv"
    found = made(capsys, str(file), "--out", str(out))
    track = make_track(MapTrack(file=str(file), raceline=str(out)))
    speeds = np.loadtxt(out, delimiter=";")[:-1, 5]
    assert track.raceline_speeds == pytest.approx(speeds)
    steps = np.hypot(*(np.roll(track.raceline, -1, axis=0) - track.raceline).T)
    assert steps.sum() == pytest.approx(found["length_m"], abs=1e-3)
    assert read_raceline(out).closed
    assert track.wall_distance(track.raceline).min() > 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["line2"], "line2: an open track; a racing line needs a closed one"),
        (["circl"], "(did you mean 'circle'?)"),
        (["{kind: random, count: 2}"], "random: several tracks, where one is needed"),
        (["{kind: oval, width: 20}"], "MAP_OR_CSV='{kind: oval, width: 20}'"),
        (["oval", "--margin", "1.4"], "no line is found that is 1.55 m from the walls"),
        (["oval", "--margin", "-1"], "--margin=-1: allowed: a number from 0 m"),
        (["oval", "--friction", "nan"], "--friction=nan: allowed: a number above 0"),
        (["oval", "--out", "no/such/line.csv"], "--out='no/such/line.csv': allowed: a file in"),
    ],
)
def test_wrong_input_is_refused_in_one_line(tmp_path, capsys, arguments, message) -> None:
    out = tmp_path / "line.csv"
    assert main(["--out", str(out), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not out.exists()
