"""tools/bench_overtaking.py: what a policy drives, what is printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_overtaking import build_parser, main, make_environment, scenario_of
from small import REPOSITORY

POLICY = str(REPOSITORY / "scenarios/policies/overtake_ppo.safetensors")


def test_a_policy_drives_the_car_that_it_was_trained_in() -> None:
    arguments = build_parser().parse_args(["--policy", POLICY, "--map", "oval"])
    env = make_environment(arguments)
    car = env.cars[0]
    assert (car.vehicle.speed_min, car.vehicle.speed_max, car.reverse) == (-1.0, 6.0, False)
    assert env.observation == ("lidar", "motion", "others", "others_velocity")
    assert car.vehicle.tyre.kind == "saturating"
    assert (env.lidar.beams, env.physics_steps_per_action) == (54, 5)


def test_a_run_has_its_scenario(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "round_00001" / "global.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"")
    assert scenario_of(file) == tmp_path / "config.json"
    assert scenario_of(tmp_path / "gap_preview") is None


def test_the_table_and_the_json_say_the_same(tmp_path: Path, capsys) -> None:
    arguments = ["--policy", POLICY, "--map", "oval", "--starts", "2"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    page = tmp_path / "replay.html"
    assert main([*arguments, "--json", "--replay", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert lines[1].split()[:3] == ["all", "18", f"{100 * found['safe']['value']:.1f}"]
    assert found["scenarios"] == 18
    assert "overtaking" in page.read_text()
    assert list(found["by_speed"]) == ["0.4", "0.6", "0.8"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--map", "ovall"], "--map='ovall': no such track or file (did you mean 'oval'?)"),
        (["--map", "line2"], "closed"),
        (["--policy", "gap_previw"], "(did you mean 'gap_preview'?)"),
        (["--policy", POLICY, "--agent", "car_7"], "--agent='car_7': allowed: a car of"),
        (["--starts", "0"], "--starts='0': allowed: a whole number from 1"),
        (["--raceline", "no.csv"], "--raceline='no.csv': there is no such file"),
        (["--raceline", POLICY], "allowed: with a map's YAML file"),
        (["--replay", "no/page.html"], "allowed: a file in a folder that exists"),
        (["--scenario", "no.yaml"], "no.yaml"),
    ],
)
def test_wrong_input_is_refused_in_one_line(capsys, flags: list[str], message: str) -> None:
    assert main(["--policy", "gap_preview", "--map", "oval", *flags]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
