"""tools/bench_laps.py: what a lap takes, what does not count as one, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_laps import main
from raceline import main as make_line
from small import REPOSITORY

POLICY = str(REPOSITORY / "scenarios/policies/solo_lap_ppo.safetensors")


def laps(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def ring(folder: Path, radius: float) -> str:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    rows = (f"{radius * math.cos(a)}, {radius * math.sin(a)}\n" for a in angle)
    (folder / "ring.csv").write_text("# x_m, y_m\n" + "".join(rows))
    return str(folder / "ring.csv")


def test_a_lap_of_a_circle_takes_its_length_over_the_speed(tmp_path: Path, capsys) -> None:
    driver = "{kind: pure_pursuit, speed: 4.0, acceleration: 9.0}"
    arguments = ["--map", "circle", "--driver", driver, "--laps", "5"]
    found = laps(capsys, *arguments)
    assert found["completion"] == 1.0
    assert len(found["lap_times_s"]) == 5
    assert found["lap_time_s"] == pytest.approx(math.tau * 10 / 4, rel=0.02)
    inside = laps(capsys, *arguments, "--raceline", ring(tmp_path, 9.2))
    assert inside["lap_time_s"] == pytest.approx(math.tau * 9.2 / 4, rel=0.02)
    assert laps(capsys, *arguments) == found


def test_only_laps_without_contact_count(capsys) -> None:
    driver = "{kind: pure_pursuit, speed: 8.0, acceleration: 99.0}"
    found = laps(capsys, "--map", "oval", "--driver", driver, "--set", "env.track.radius=2.5")
    assert found == {"lap_time_s": None, "completion": 0.0, "lap_times_s": []}


def test_a_trained_policy_laps_and_the_table_says_how_fast(capsys) -> None:
    assert main(["--map", "circle", "--driver", POLICY, "--laps", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["completed", "100", "%"]
    assert 7.0 < float(lines[1].split()[2]) < 12.0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--map", "circl"], "--map='circl': no such track or file (did you mean 'circle'?)"),
        (["--driver", "purepursuit"], "(did you mean 'pure_pursuit'?)"),
        (["--raceline", "no.csv"], "--raceline='no.csv': there is no such file"),
        (["--raceline", POLICY, "--driver", "follow_the_gap"], "unknown key"),
        (["--laps", "0"], "--laps='0': allowed: a whole number from 1"),
        (["--set", "env.laps=0"], "--set env.laps='0'"),
        (["--driver", POLICY, "--set", "env.lidar.beams=9"], "observes 58 numbers"),
    ],
)
def test_wrong_input_is_refused_in_one_line(capsys, flags: list[str], message: str) -> None:
    assert main(["--map", "circle", "--driver", "pure_pursuit", *flags]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1


def test_a_wrong_setting_of_the_driver_is_not_called_the_lines(capsys) -> None:
    assert (
        main(["--map", "circle", "--driver", "{kind: stanley, gain: x}", "--raceline", __file__])
        == 2
    )
    assert "--driver='{kind: stanley, gain: x}': env.cars[0].driver.gain: found" in (
        capsys.readouterr().err
    )


def test_a_line_that_raceline_py_made_is_driven_in_the_time_that_it_predicts(
    tmp_path: Path, capsys
) -> None:
    track = "{kind: random, seed: 5, bends: arcs, width: 2, length: 60, min_radius: 1.2}"
    line = str(tmp_path / "line.csv")
    assert make_line([track, "--out", line, "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)["lap_time_s"]
    driver = "{kind: pure_pursuit, compensate: true, lookahead: 0.5, lookahead_time: 0.12}"
    found = laps(capsys, "--map", track, "--raceline", line, "--driver", driver, "--laps", "8")
    assert found["completion"] == 1.0
    assert found["lap_time_s"] == pytest.approx(predicted, rel=0.05)
