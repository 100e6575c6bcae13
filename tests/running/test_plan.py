"""Plans: who hosts, which clients run here, with which engine, how many at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.rundir import RunDir
from f110_fl.runs import preflight
from f110_fl.runs.plan import RunPlan, resolve_engine, resolve_parallel
from sim.config import EnvConfig
from sim.race import Race

FEDERATED = Scenario.model_validate(merge(SMALL, {"federated": {"clients": 3, "root": "r"}}))
ALONE = Scenario.model_validate(merge(SMALL, {"federated": {"enabled": False, "clients": 3}}))


@pytest.mark.parametrize(
    ("client_id", "hosts", "clients"),
    [(None, True, [0, 1, 2]), (0, True, [0]), (2, False, [2])],
)
def test_who_hosts_and_which_clients_run_here(
    client_id: int | None, hosts: bool, clients: list[int]
) -> None:
    plan = RunPlan(FEDERATED, RunDir(Path("there")), client_id=client_id)
    assert plan.hosts == hosts
    assert list(plan.clients) == clients


def test_the_engine_goes_with_the_scenario() -> None:
    assert resolve_engine("simulation", FEDERATED) == "simulation"
    assert resolve_engine("deployment", FEDERATED) == "deployment"
    assert resolve_engine("simulation", ALONE) == "replicas"
    with pytest.raises(UserError, match="not federated"):
        resolve_engine("deployment", ALONE)


def test_how_many_clients_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert resolve_parallel(None, FEDERATED, "simulation") == 2
    assert resolve_parallel("1", FEDERATED, "simulation") == 1
    assert resolve_parallel("9", FEDERATED, "deployment") == 3
    with pytest.raises(UserError, match="all 3 clients"):
        resolve_parallel("2", FEDERATED, "deployment")


def test_a_used_directory_is_for_runs_that_go_on(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.config.write_text("{}")
    preflight.check(RunPlan(FEDERATED, rundir, resumed=True))
    preflight.check(RunPlan(FEDERATED, rundir, client_id=1))
    with pytest.raises(UserError, match="already holds a run"):
        preflight.check(RunPlan(FEDERATED, rundir))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"learners": {"car_0": {"warmup_steps": 80}}}, "warmup_steps 80 and update_every 1"),
        ({"learners": {"car_0": {"warmup_steps": 79}}}, ""),
        ({"env": {"max_steps": 10}}, "2 episodes of at most 10 steps"),
        ({"env": {"max_steps": 10}, "federated": {"vary": {"env.max_steps": [10, 40]}}}, ""),
    ],
)
def test_a_learner_that_cannot_update_is_named(changes: dict[str, Any], words: str) -> None:
    found = preflight.futile(Scenario.model_validate(merge(SMALL, changes)))
    assert [words in line for line in found] == [True] * bool(words)


@pytest.mark.parametrize(("steps", "envs", "lines"), [(81, 1, 1), (80, 1, 0), (61, 2, 1)])
def test_a_rollout_that_never_fills_is_named(steps: int, envs: int, lines: int) -> None:
    ppo = {"algorithm": "ppo", "rollout_steps": steps}
    small = {**SMALL, "learners": {"car_0": ppo}, "collect": {"num_envs": envs}}
    federated = {"federated": {"round_interval": 2}}
    assert len(preflight.futile(Scenario.model_validate(merge(small, federated)))) == lines


def test_an_environment_is_built_once_for_all_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def build(env: EnvConfig) -> Race:
        built.append(env.max_steps)
        return Race(env)

    monkeypatch.setattr("sim.race.Race", build)
    vary = {"env.max_steps": [40, 30, 20]}
    varied = Scenario.model_validate(merge(SMALL, {"federated": {"clients": 3, "vary": vary}}))
    checked: set[str] = set()
    for scenario in (FEDERATED, varied, ALONE):
        preflight.check_environment(scenario, checked)
    assert built == [40, 30, 20]
