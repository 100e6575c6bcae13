"""Stress evaluations: what they are read as, what they refuse, what they find, how they go on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from small import SMALL, merge

import run
from f110_fl.errors import UserError
from f110_fl.loading.overrides import set_overrides
from f110_fl.sweeps.stress import Stress, load_stress

DRAWN = {"env": {"heterogeneity": {"friction": [0.8, 1.0], "command_delay": [1, 2]}}}


def write(folder: Path, text: str, **changes: Any) -> tuple[Path, Path]:
    """Writes a stress evaluation and the small scenario, and returns their paths."""
    scenario, path = folder / "small.yaml", folder / "test.yaml"
    scenario.write_text(yaml.safe_dump(merge(SMALL, changes)))
    path.write_text(text)
    return path, scenario


def load(folder: Path, text: str, *settings: str, **changes: Any) -> Stress:
    return load_stress(*write(folder, text, **changes), set_overrides(settings))


# ---------------------------------------------------------------------- reading


def test_axes_alone_and_a_matrix(tmp_path: Path) -> None:
    text = """\
episodes: 7
axes: {mass: [3.74, 5], "env.cars[1].driver.speed": [0.5]}
matrix: {friction: [1, 0.5], latency: [0, 0.02, 0.04]}
"""
    stress = load(tmp_path, text)
    assert stress.name == "test"
    assert stress.threshold == 0.9
    assert [[axis.name for axis in sweep.axes] for sweep in stress.sweeps] == [
        ["mass"],
        ["env.cars[1].driver.speed"],
        ["friction", "latency"],
    ]
    assert [cell.settings for cell in stress.sweeps[2].cells] == [
        {"friction": friction, "latency": latency}
        for friction in (1, 0.5)
        for latency in (0, 0.02, 0.04)
    ]
    assert len(stress.cells) == 1 + 2 + 1 + 6
    assert {cell.scenario.evaluation.episodes for cell in stress.cells} == {7}
    last = stress.cells[-1].scenario.env.cars
    assert [car.vehicle.friction for car in last] == [0.5, 0.5]
    assert [car.vehicle.command_delay for car in last] == [4, 0]  # of 0.01 s; the policy's alone


@pytest.mark.parametrize(
    ("axis", "value", "path", "found"),
    [
        ("friction", 0.5, "cars.0.vehicle.friction", 0.5),
        ("latency", 0.03, "cars.0.vehicle.command_delay", 3),
        ("lidar_noise", 0.2, "lidar.noise_std", 0.2),
        ("lidar_dropout", 0.2, "lidar.dropout", 0.2),
        ("speed", 1.5, "cars.0.vehicle.speed_max", 30.0),
        ("mass", 5.0, "cars.0.vehicle.mass", 5.0),
        ("opponent_speed", 1.5, "cars.1.vehicle.speed_gain", 1.5),
    ],
)
def test_what_a_named_axis_sets(
    tmp_path: Path, axis: str, value: float, path: str, found: float
) -> None:
    stress = load(tmp_path, f"axes: {{{axis}: [{value}]}}")
    before, after = (cell.scenario.env.model_dump() for cell in stress.cells)
    for data, expected in ((after, True), (before, False)):
        for key in path.split("."):
            data = data[int(key) if key.isdigit() else key]
        assert (data == found) is expected


def test_a_named_axis_is_not_drawn_any_more(tmp_path: Path) -> None:
    stress = load(tmp_path, "axes: {friction: [0.5], latency: [0.02]}", **DRAWN)
    _, friction, latency = (cell.scenario.env.heterogeneity for cell in stress.cells)
    assert (friction.friction, friction.command_delay) == (None, (1, 2))
    assert (latency.friction, latency.command_delay) == ((0.8, 1.0), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found an empty file; allowed: a mapping of episodes"),
        ("episodes: 3", "neither axes nor matrix"),
        ("axis: {mass: [1]}", "unknown key; allowed: episodes, threshold, axes, matrix (did you"),
        ("episodes: 0\naxes: {mass: [1]}", "test.yaml:1: episodes: found 0"),
        ("threshold: 1\naxes: {mass: [1]}", "test.yaml:1: threshold: found 1"),
        ("axes:\n  mas: [1]", "test.yaml:2: axes.mas: unknown axis; allowed: a dotted key"),
        ("axes: {mass: 1}", "found 1 (whole number); allowed: a list of values, not empty"),
        ("axes: {mass: [1, heavy]}", "axes.mass[1]: found 'heavy' (text); allowed: a number"),
        ("axes: {mass: [4, 5, 4]}", "axes.mass[2]: 4 is there twice"),
        ("axes: {mass: [-1]}", "test.yaml:1: mass: found -1 (whole number); allowed: a number"),
        ("axes: {latency: [0.015]}", "0.015 s is not a multiple of env.physics_step, 0.01 s"),
        ("axes: {speed: [0]}", "found 0; allowed: a factor above 0"),
        ("axes:\n  env.cars[0].vehicle.mas: [1]", "unknown key"),
        ("axes: {learners.car_0.discount: [0.5]}", "changes nothing in the environment"),
        (
            "axes:\n  env.cars[0].vehicle.friction: [0.5]",
            "without effect: env.heterogeneity.friction",
        ),
        ("axes: {env.max_steps: [9]}", "contradicts"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, "env.max_steps=30", **DRAWN)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_to_speed_up(tmp_path: Path) -> None:
    cars = [{"name": "car_0", "task": {"kind": "solo_lap"}}]
    env = {"cars": cars, "spawn_sets": [["spawn_1"]]}
    with pytest.raises(UserError, match="no car of the scenario has a driver"):
        load(tmp_path, "axes: {opponent_speed: [2]}", env=env)


# ---------------------------------------------------------------------- running

SCRIPTED: dict[str, Any] = {
    "name": "scripted",
    "env": {
        "track": {"kind": "oval", "straight": 3.0, "radius": 2.0},
        "physics_steps_per_action": 5,
        "max_steps": 300,
        "lidar": {"beams": 8},
        "spawn": {"kind": "random"},
        "cars": [{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 3.0}}],
    },
    "evaluation": {"episodes": 4},
}
TEXT = """\
threshold: 0.5
axes: {opponent_speed: [1.0, 0.5]}
matrix: {friction: [1.0489, 0.01], env.max_steps: [300, 10]}
"""


def evaluate(folder: Path, *flags: str) -> int:
    words = ["--mode", "eval", "--scenario", str(folder / "scripted.yaml")]
    return run.main([*words, "--stress", str(folder / "test.yaml"), *flags])


def test_a_stress_evaluation_goes_on_and_leaves_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "out"
    monkeypatch.setenv("FED_ROOT", str(root))
    (tmp_path / "scripted.yaml").write_text(yaml.safe_dump(SCRIPTED))
    (tmp_path / "test.yaml").write_text(TEXT)
    assert evaluate(tmp_path) == 0
    told = capfd.readouterr().err
    assert "friction 0.01: env.max_steps: " in told

    found = json.loads((root / "stress.json").read_text())
    assert (found["cars"], found["success"], found["episodes"]) == (["car_0"], "finished", 4)
    _, matrix = found["sweeps"]
    rates = [cell["cars"]["car_0"]["outcomes"]["finished"]["rate"] for cell in matrix["cells"]]
    assert rates[0] == 1.0 == found["nominal"]["cars"]["car_0"]["outcomes"]["finished"]["rate"]
    assert rates[1:] == [0.0, rates[2], 0.0]  # nobody finishes in 10 steps
    by_time = [entry for entry in matrix["breaks"] if entry["axis"] == "env.max_steps"]
    assert by_time[0]["at"] == {"friction": 1.0489}
    assert (by_time[0]["holds"], by_time[0]["breaks"], by_time[0]["certain"]) == (300, 10, 10)

    lines = (root / "cells.jsonl").read_bytes().splitlines(keepends=True)
    # The scenario itself is three of the cells: evaluated once.
    assert len(lines) == 1 + 1 + 3
    rows = list(csv.DictReader((root / "stress.csv").open()))
    assert len(rows) == 1 + 2 + 4
    assert [row["friction"] for row in rows] == ["", "", "", "1.0489", "1.0489", "0.01", "0.01"]
    drawn = ElementTree.fromstring((root / "stress.svg").read_text())  # noqa: S314 - our own
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[-6:-3] == ["1.0489", "100", "0"]
    assert "<script" in (root / "stress.html").read_text()

    # Half of it is lost, and a line is torn: the files become the same again.
    files = {
        name: (root / name).read_bytes() for name in ("stress.json", "stress.csv", "stress.svg")
    }
    (root / "cells.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert evaluate(tmp_path) == 0
    assert capfd.readouterr().err.count("car_0 finished") == 3
    assert (root / "cells.jsonl").read_bytes() == b"".join(lines)
    assert {name: (root / name).read_bytes() for name in files} == files

    assert evaluate(tmp_path, "--eval-episodes", "5") == 2
    assert (
        "its cells are of another policy, scenario or number of episodes" in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--until", "0.1"], "--until='0.1': not with --stress"),
        (["--replay", "3"], "--replay='3': not with --stress"),
        (["--mode", "train"], "--stress="),
    ],
)
def test_flags_that_have_no_meaning_with_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    (tmp_path / "scripted.yaml").write_text(yaml.safe_dump(SCRIPTED))
    (tmp_path / "test.yaml").write_text(TEXT)
    assert evaluate(tmp_path, *flags) == 2
    assert words in capfd.readouterr().err
