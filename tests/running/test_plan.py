"""Plans: who hosts, which clients run here, with which engine, how many at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest
from small import REPOSITORY, SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.rundir import RunDir
from f110_fl.runs import preflight
from f110_fl.runs.plan import RunPlan, resolve_engine, resolve_parallel, resolve_plan
from run import build_parser
from sim.config import EnvConfig
from sim.race import Race

FEDERATED = Scenario.model_validate(merge(SMALL, {"federated": {"clients": 3}}))
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


def plan(*words: str, **variables: str) -> RunPlan:
    return resolve_plan(build_parser().parse_args([*map(str, words)]), variables)


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """A scenario whose evaluations drive on a track of their own."""
    drivers = [{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 2.0}}]
    tracks = {
        "env": {"track": {"kind": "oval"}, "cars": drivers},
        "learners": {},
        "evaluation": {"episodes": 1, "track": {"kind": "random", "seed": 9}},
    }
    path = tmp_path / "held_out.yaml"
    path.write_text(json.dumps(SMALL | tracks | {"name": "held_out"}))
    return path


@pytest.mark.parametrize(
    ("asked", "driven"),
    [
        ([], "random"),
        (["--map", "circle"], "circle"),
        (["--set", "env.track={kind: circle}"], "circle"),
        (["--set", "evaluation.track={kind: circle}"], "circle"),
        (["--set", "evaluation.track={kind: circle}", "env.track.radius=5"], "circle"),
        (["--set", "evaluation.track=null"], "oval"),
    ],
)
def test_an_evaluation_drives_on_the_track_that_is_asked_for(
    held_out: Path, tmp_path: Path, asked: list[str], driven: str
) -> None:
    words = ["--scenario", held_out, "--mode", "eval", *asked]
    found = plan(*words, FED_ROOT=str(tmp_path / "out"))
    assert found.scenario.evaluation_env.track.kind == driven


def test_a_part_of_a_track_that_nobody_drives_on_is_refused(held_out: Path) -> None:
    words = ["--scenario", held_out, "--mode", "eval", "--set", "env.track.radius=5"]
    with pytest.raises(UserError, match=r"allowed: --set evaluation\.track\.radius=…"):
        plan(*words)


def test_runs_of_the_same_second_have_directories_of_their_own(
    held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    words = ["--scenario", held_out, "--mode", "eval"]
    root = str(tmp_path / "{name}" / "{time}")
    names = [plan(*words, FED_ROOT=root).rundir.root.name for _ in range(3)]
    assert names == ["20260101-000000", "20260101-000000-2", "20260101-000000-3"]


def test_evaluations_at_the_same_moment_all_leave_their_report(
    held_out: Path, tmp_path: Path
) -> None:
    """Processes, which a barrier lets go together; a refused one leaves no directory."""
    words = [sys.executable, str(REPOSITORY / "run.py"), "--mode", "eval", "--scenario"]
    environ = os.environ | {"FED_ROOT": str(tmp_path / "out" / "{time}"), "WANDB_MODE": "disabled"}
    started = [
        subprocess.Popen([*words, str(path)], env=environ, stdout=PIPE, stderr=PIPE)
        for path in [held_out] * 3
    ]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    assert len(list((tmp_path / "out").glob("*/evaluation.json"))) == 3
    used = sorted((tmp_path / "out").iterdir())
    again = environ | {"FED_ROOT": str(used[0])}
    second = subprocess.run([*words, str(held_out)], env=again, capture_output=True, check=False)
    assert second.returncode == 2
    assert b"already holds an evaluation" in second.stderr
    broken = environ | {"FED_ROOT": str(tmp_path / "more" / "{time}")}
    refused = [*words, str(held_out), "--set", "evaluation.track.width=50"]
    assert subprocess.run(refused, env=broken, capture_output=True, check=False).returncode == 2
    assert not list((tmp_path / "more").glob("*"))


@pytest.mark.parametrize("name", ["x" * 300, "file/below"])
def test_a_root_that_cannot_be_is_refused_in_one_line(
    held_out: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / name, tmp_path / name / "{time}"):
        with pytest.raises(UserError, match="cannot be"):
            preflight.check(plan("--scenario", held_out, "--mode", "eval", FED_ROOT=str(root)))


def test_a_home_is_filled_in(
    held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = plan("--scenario", held_out, "--mode", "eval", FED_ROOT="~/runs")
    assert found.rundir.root == tmp_path / "runs"
