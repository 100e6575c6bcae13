"""A league's entries as opponents: who drives, how they are drawn, what is kept and told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from f110_fl.runs.inputs import digests
from f110_fl.tensors import read_tensors
from f110_fl.training.evaluation import Evaluator, ModelEvaluator
from f110_fl.training.league_opponents import check_league, league_entries
from f110_fl.training.metrics import by_opponent
from f110_fl.training.opponents import Tally, draw
from f110_fl.training.records import EpisodeRecord
from f110_fl.training.trainer import Trainer

VICON = {"kind": "secondary_vicon"}
LEAGUE: dict[str, Any] = {
    "entries": {
        name: {"driver": {**VICON, "speed": speed}}
        for name, speed in {"slow": 0.2, "usual": 0.8, "fast": 1.5, "faster": 1.8}.items()
    },
    "tracks": {"line2": {"kind": "line2"}},
}
LEARNER = SMALL["learners"]["car_0"]


def write(folder: Path, league: dict[str, Any] | None = None, **opponents: Any) -> Path:
    """Writes the small scenario with a league beside it."""
    (folder / "league.yaml").write_text(
        yaml.safe_dump(LEAGUE if league is None else league, sort_keys=False)
    )
    file = opponents.pop("file", "league.yaml")
    met = {"league": file, "held_out": ["faster"], **opponents}
    changes = {
        "learners": {"car_0": {**LEARNER, "opponents": met}},
        "collect": {"num_envs": 3},
        "evaluation": {"every": 1000, "episodes": 7},
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(merge(SMALL, changes)))
    return path


def names(records: list[EpisodeRecord]) -> Counter[str]:
    return Counter(r.result.opponents.get("car_1", "own") for r in records if r.kind == "train")


def test_entries_drive_in_training_and_those_held_out_in_evaluations(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    check_league(scenario)
    assert parse_resolved(dump_scenario(scenario)) == scenario
    trainer = Trainer(scenario, 0, tmp_path / "client")
    records = trainer.train(24)
    assert set(names(records)) == {"slow", "usual", "fast"}
    lines = (tmp_path / "client" / "episodes.jsonl").read_text().splitlines()
    assert [EpisodeRecord.from_json(line) for line in lines] == records

    policies = {agent: learner.policy for agent, learner in trainer.learners.items()}
    trained = Evaluator(scenario, 7).run(policies)
    assert [e.opponents["car_1"] for e in trained] == ["slow", "usual", "fast"] * 2 + ["slow"]
    held_out = ModelEvaluator(scenario, Evaluator(scenario, 4, held_out=True)).run()
    assert {e.opponents["car_1"] for e in held_out} == {"faster"}
    part = Evaluator(scenario, 7).run(policies, None, slice(3, 7))
    told = [[(e.opponents, e.returns) for e in episodes] for episodes in (part, trained[3:])]
    assert told[0] == told[1]
    found = by_opponent(trained, "car_0")
    assert {name: entry["episodes"] for name, entry in found.items()} == {
        "slow": 3,
        "usual": 2,
        "fast": 2,
    }


def test_what_is_drawn_goes_on_from_the_state(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, power=2.0))
    straight = Trainer(scenario, 0, tmp_path / "straight")
    records = straight.train(9)
    straight.save()
    later = straight.train(9)
    straight.save()

    first = Trainer(scenario, 0, tmp_path / "parts")
    assert names(first.train(9)) == names(records)
    first.save()
    second = Trainer(scenario, 0, tmp_path / "parts")
    assert [r.result.opponents for r in second.train(9)] == [r.result.opponents for r in later]
    second.save()
    paths = [tmp_path / name / "state.safetensors" for name in ("straight", "parts")]
    kept = [read_tensors(path) for path in paths]
    for name in ("games", "wins"):
        key = f"car_0/opponents/car_1/{name}"
        assert kept[0][key].tolist() == kept[1][key].tolist()
    assert kept[0]["car_0/opponents/car_1/games"].sum() == pytest.approx(18, rel=0.1)


def test_a_part_of_the_episodes_is_the_scenarios_own(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path, fraction=0.5))
    own = names(Trainer(scenario, 0, tmp_path / "client").train(30))["own"]
    assert 5 <= own <= 25


def test_hard_ones_are_drawn_more_often() -> None:
    tallies = [Tally(), Tally()]
    for _ in range(98):
        tallies[0].count(won=True)
        tallies[1].count(won=False)
    rng = np.random.default_rng(0)
    counts = Counter(draw(tallies, 1.0, rng) for _ in range(1000))
    share = (1 - tallies[0].success_rate) / (2 - tallies[0].success_rate - tallies[1].success_rate)
    assert counts[0] / 1000 == pytest.approx(share, abs=0.02)
    assert 400 < Counter(draw(tallies, 0.0, rng) for _ in range(1000))[0] < 600


def test_the_files_of_a_league_are_those_of_the_run(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path))
    assert list(digests(scenario)) == [str((tmp_path / "league.yaml").resolve())]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"held_out": ["fastr"]}, "found 'fastr'; allowed: slow, usual, fast, faster (did you"),
        ({"held_out": ["slow", "usual", "fast", "faster"]}, "nobody is left to meet"),
        ({"file": "leage.yaml"}, "no such file"),
        ({"car": "car_0"}, "opponents.car is 'car_0'; cars with a driver are ['car_1']"),
        ({"held_out": ["slow", "slow"]}, "an entry is there twice"),
        ({"every": 3}, "unknown key; allowed: car, fraction, held_out, league, power"),
        ({"power": -1}, "found -1"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        league_entries(load_scenario(write(tmp_path, **changes)), held_out=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entry_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").write_bytes(b"")
    driver = {"kind": "frozen_policy", "checkpoint": "empty.safetensors", "agent": "car_0"}
    broken = merge(LEAGUE, {"entries": {"broken": {"driver": driver}}})
    scenario = load_scenario(write(tmp_path, broken))
    with pytest.raises(UserError, match=r"league\.yaml: broken: "):
        check_league(scenario)


def test_a_league_is_alone(tmp_path: Path) -> None:
    scenario = json.loads(dump_scenario(load_scenario(write(tmp_path))))
    evade = {"name": "car_2", "task": {"kind": "evade", "target": "car_0"}}
    scenario["env"]["cars"].append(evade)
    scenario["env"]["spawn_sets"] = [["spawn_3", "spawn_1", "spawn_5"]]
    scenario["learners"]["car_2"] = {**LEARNER, "opponents": {"every": 3}}
    scenario.pop("format")
    with pytest.raises(ValueError, match="only one, where there is a league"):
        Scenario.model_validate_json(json.dumps(scenario))
