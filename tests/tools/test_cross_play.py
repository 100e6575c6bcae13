"""tools/cross_play.py, from outside: who meets whom, what is counted, what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cross_play
import pytest
from programs import call
from small import SMALL, write_small

from f110_fl.loading.scenarios import load_scenario
from f110_fl.seeding import Use, stream
from f110_fl.training.agents import make_learners, write_models
from sim.race import Race

EVADER = {"name": "car_1", "reverse": False, "task": {"kind": "evade", "target": "car_0"}}
TD3 = SMALL["learners"]["car_0"]


def write_duel(folder: Path) -> Path:
    """Writes a duel in which the attacker meets earlier selves, and policies of two seeds."""
    cars = [SMALL["env"]["cars"][0], EVADER]
    learners = {"car_0": {**TD3, "opponents": {"every": 1}}, "car_1": TD3}
    path = write_small(folder, env={"cars": cars}, learners=learners)
    scenario = load_scenario(path)
    for seed in (1, 2):
        made = make_learners(scenario, Race(scenario.env), partial(stream, seed, Use.MODEL))
        write_models(folder / f"{seed}.safetensors", made, scenario, {})
    return path


play = partial(call, cross_play.main)


def test_each_policy_meets_each_opponent(tmp_path: Path) -> None:
    scenario = str(write_duel(tmp_path))
    outcomes = ["success", "failed", "crash", "time_limit", "idle", "other_done", "finished"]
    result = play(
        *(tmp_path, "--scenario", scenario, "--episodes", "6", "--outcomes", *outcomes),
        *("--policies", "1.safetensors", "2.safetensors"),
        *("--opponents", "2.safetensors", "secondary_vicon", "{kind: pure_pursuit, speed: 2}"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    head, _, *rows = result.stdout.splitlines()
    assert head.startswith("| success, failed, crash")
    assert "| 2.safetensors | secondary_vicon | {kind: pure_pursuit, speed: 2} |" in head
    assert [row.split("|")[1].strip() for row in rows] == ["1.safetensors", "2.safetensors"]
    for row in rows:
        cells = [list(map(int, cell.split(","))) for cell in row.split("|")[2:5]]
        assert [sum(cell) for cell in cells] == [6, 6, 6]  # every episode ends somehow


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--opponents", "secondary_vicn"], "secondary_vicn"),
        (["--opponents", "[1]"], "allowed: a checkpoint, or a driver as in scenarios"),
        (["--opponents", "random", "--other", "car_7"], "allowed: another car of car_0, car_1"),
        (["--opponents", "random", "--agent", "car_7"], "allowed: car_0, car_1"),
        (
            ["--opponents", "random", "--outcomes", "win"],
            "--outcomes='win': allowed: success, crash",
        ),
        (["--opponents", "random", "--policies", "no.safetensors"], "no.safetensors: not a"),
    ],
)
def test_wrong_input_is_refused_in_one_line(tmp_path: Path, flags: list[str], message: str) -> None:
    scenario = str(write_duel(tmp_path))
    result = play(tmp_path, "--scenario", scenario, "--policies", "1.safetensors", *flags)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
