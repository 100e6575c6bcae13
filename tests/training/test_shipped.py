"""The policies that scenarios come with, and what their files say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from small import REPOSITORY

from f110_fl.config.scenario import Scenario
from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from f110_fl.tensors import read_metadata, read_tensors
from f110_fl.training.checkpoint import load_checkpoint
from f110_fl.training.evaluation import ModelEvaluator
from f110_fl.training.shipped import METADATA, Origin, origin_of, shipped_path
from sim.policy import load_policy

LIMIT = 500_000  # bytes
SHIPPED = sorted((REPOSITORY / "scenarios" / "policies").iterdir())
RATE = {"rate": 0.9, "low": 0.85, "high": 0.95, "count": 9}
ORIGIN = Origin(
    "make it", 3, "1.2", {"episodes": 10, "seed": 7, "cars": {"a": {"outcomes": {"success": RATE}}}}
)


def with_few_circuits(scenario: Scenario) -> Scenario:
    """Returns the scenario with one circuit of each kind, of which most take seconds to build."""

    def fewer(settings: Any) -> Any:
        if isinstance(settings, list):
            return [fewer(value) for value in settings]
        if not isinstance(settings, dict):
            return settings
        one = {"count": 1} if "count" in settings else {}
        return {key: fewer(value) for key, value in settings.items()} | one

    return parse_resolved(json.dumps(fewer(json.loads(dump_scenario(scenario)))))


def test_some_scenarios_come_with_a_policy() -> None:
    assert {path.stem for path in SHIPPED} >= {"gaplock_ppo", "solo_lap_ppo"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_policy_fits_its_scenario_and_says_how_it_was_made(path: Path) -> None:
    file = REPOSITORY / "scenarios" / f"{path.stem}.yaml"
    scenario = load_scenario(file)
    assert path == shipped_path(file, scenario.name)
    assert path.stat().st_size < LIMIT
    load_checkpoint(ModelEvaluator(with_few_circuits(scenario)).learners, scenario, path)
    networks = {tuple(name.split("/")[:3]) for name in read_tensors(path)}
    acting = {(a, "model", n) for a, c in scenario.learners.items() for n in c.acting}
    assert networks - {(a, "model", "normaliser") for a in scenario.learners} == acting
    for agent in scenario.learners:
        load_policy(path, agent)  # scripted cars drive by it
    origin = origin_of(read_metadata(path))
    assert origin is not None
    assert f"scenarios/{path.stem}.yaml" in origin.command
    episodes = origin.evaluation["episodes"]
    assert episodes >= 100
    for agent in scenario.learners:
        rate = origin.evaluation["cars"][agent]["outcomes"]["success"]
        assert (rate["low"], rate["high"]) == wilson_interval(rate["count"], episodes)
        assert rate["rate"] == rate["count"] / episodes


def test_what_a_file_says_in_words() -> None:
    assert origin_of(ORIGIN.metadata()) == ORIGIN
    assert ORIGIN.lines() == [
        "Trained by      make it  (seed 3, f110-fl 1.2)",
        "Evaluated       a: success 90.0% [85.0, 95.0], 10 episodes, seed 7",
    ]


@pytest.mark.parametrize(
    "entry",
    [None, "", "3", "[]", "{}", json.dumps(asdict(ORIGIN) | {"evaluation": {}}), '{"a": 1}'],
)
def test_a_file_may_say_nothing_of_its_making(entry: str | None) -> None:
    assert origin_of({} if entry is None else {METADATA: entry}) is None
