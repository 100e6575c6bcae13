"""tools/calibrate.py and verify_calibration.py: from a log to settings, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from calibrate import main
from verify_calibration import coverage, fit_one, table

CAR = "vehicle: {friction: 0.8, speed_lag: 0.1, steer_trim: 0.02, tyre: {kind: saturating}}\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drive")
    (folder / "car.yaml").write_text(CAR)
    drive = folder / "drive.csv"
    arguments = "--simulate", "14", "--vehicle", str(folder / "car.yaml")
    assert main([str(drive), *arguments]) == 0
    return drive


def test_a_log_becomes_settings_and_a_page(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = log.parent / "out.yaml", log.parent / "page.html"
    assert main([str(log), "--out", str(out), "--html", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = yaml.safe_load(out.read_text())
    assert parts["vehicle"] == found["vehicle"]
    assert parts["heterogeneity"] == found["heterogeneity"]
    trim = next(row for row in found["parameters"] if row["name"] == "steer_trim")
    assert trim["value"] == pytest.approx(0.02, abs=0.01)
    assert trim["low"] < trim["value"] < trim["high"]
    errors = {row["channel"]: row for row in found["errors"]}
    assert errors["speed"]["after"] < errors["speed"]["before"]
    text = page.read_text()
    assert "drive.csv" in text
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")  # needs nothing else


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.csv"], "none.csv: no such file"),
        (["{log}", "--window", "9"], "--window=9: allowed: 0.3 to 5 s"),
        (["{log}", "--out", "/no/folder/car.yaml"], "allowed: a file in a folder that exists"),
        (["{log}", "--column", "speeed=v"], "did you mean 'speed'?"),
        (["{log}", "--column", "speed=v"], "no column 'v'; found: time, x"),
        (["{folder}"], "cannot be read as a bag: "),
        (["drive.bag", "--simulate", "20"], "allowed with --simulate: a CSV file"),
        (["{folder}/new.csv", "--simulate", "20", "--json"], "--json and --simulate exclude"),
        (["{log}", "--vehicle", "{log}"], "allowed: the settings of a vehicle, as a mapping"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    given = [text.format(log=log, folder=log.parent) for text in arguments]
    assert main(given) == 2
    told = capsys.readouterr().err
    assert told.startswith("calibrate.py: ")
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("stiffness_rear: 0.1", "the car always spins: its manoeuvres are too fast for its tyres"),
        ("length: 250.0", "the car left the field: its manoeuvres are too fast for its size"),
    ],
)
def test_a_car_that_cannot_be_driven_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, words: str
) -> None:
    car, drive = tmp_path / "car.yaml", tmp_path / "drive.csv"
    car.write_text(f"vehicle: {{{setting}}}\n")
    assert main([str(drive), "--simulate", "2", "--vehicle", str(car)]) == 2
    assert capsys.readouterr().err == f"calibrate.py: --vehicle: cannot be driven: {words}\n"
    assert not drive.exists()


def test_intervals_are_counted_against_the_truth() -> None:
    true, fit = fit_one(np.random.default_rng(2), 14.0, 0.01)
    rows = {row["name"]: row for row in coverage([(true, fit)])["parameters"]}
    trim = fit.estimate("steer_trim")
    assert rows["steer_trim"]["inside"] == (trim.low <= true.steer_trim <= trim.high)
    assert rows["steer_trim"]["identified"] == 1
    assert rows["steer_trim"]["half_width"] == pytest.approx((trim.high - trim.low) / 2)
    lines = table(coverage([(true, fit)])).splitlines()
    assert len(lines) == len(rows) + 2
