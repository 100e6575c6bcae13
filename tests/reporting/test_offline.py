"""W&B without a network: what is in its files after runs and evaluations."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small import PYTHONPATH, REPOSITORY, write_small
from wandb_file import artifacts, history, offline_runs, pages
from watching import TIMEOUT

from f110_fl.rundir import RunDir

pytestmark = pytest.mark.slow


def run(folder: Path, *flags: str, **variables: str) -> str:
    """Runs run.py with W&B offline, which writes into this folder only."""
    places = {f"WANDB_{name}_DIR": str(folder / "wandb") for name in ("DATA", "CACHE", "CONFIG")}
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *flags],
        env=os.environ | places | {"WANDB_MODE": "offline"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_a_federation_with_its_evaluations_and_its_report(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    rundir.root.mkdir()
    rundir.report.write_text("<!doctype html><p>the report</p>", encoding="utf-8")
    changes = {"federated": {"evaluate_on": "server"}, "evaluation": {"episodes": 2}}
    scenario = write_small(tmp_path, **changes)
    run(tmp_path, "--scenario", str(scenario), FED_ROOT=str(rundir.root))
    runs = offline_runs(rundir.root)
    assert set(runs) == {"server", "client_00", "client_01"}

    server, lines = history(runs["server"]), rundir.rounds.read_text().splitlines()
    rounds = [values for values in server if "dropped" in values]
    assert [values["round"] for values in rounds] == [1, 2]
    for values, line in zip(rounds, map(json.loads, lines), strict=True):
        assert values["dropped"] == 0
        assert {name: values[name] for name in line["metrics"]} == line["metrics"]
    found = [values for values in server if "server/evaluate/car_0/success-rate" in values]
    evaluated = list(map(json.loads, rundir.evaluations.read_text().splitlines()))
    assert [values["round"] for values in found] == [0, 1, 2]
    for values, line in zip(found, evaluated, strict=True):
        outcomes = line["cars"]["car_0"]["outcomes"]
        for end in ("low", "high"):
            name = f"server/evaluate/car_0/success-rate-{end}"
            assert values[name] == pytest.approx(outcomes["success"][end])
        for name, rate in outcomes.items():
            assert values[f"server/evaluate/car_0/outcome/{name}"] == rate["rate"]
    assert pages(runs["server"], rundir.root) == {"report": rundir.report.read_bytes()}
    assert artifacts(runs["server"]) == [("report", ["report.html"])]

    client = history(runs["client_01"])
    assert [values["episode"] for values in client] == [1, 1, 2, 2]  # each evaluated
    assert all("evaluate/car_0/success-rate-low" in values for values in client[1::2])


@pytest.mark.parametrize("asked", [True, False])
def test_an_evaluation_with_its_replay(tmp_path: Path, asked: bool) -> None:
    cars = [{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 2.0}}]
    scenario = tmp_path / "scripted.yaml"
    scenario.write_text(json.dumps({"name": "scripted", "env": {"max_steps": 40, "cars": cars}}))
    flags = ["--scenario", str(scenario), "--mode", "eval", *(["--wandb"] if asked else [])]
    root = tmp_path / "evaluation"
    said = run(tmp_path, *flags, FED_ROOT=str(root))
    assert ("wandb sync" in said) == asked
    if not asked:
        assert not (root / "wandb").exists()
        return
    ((name, own),) = offline_runs(root).items()
    assert name == "eval"
    rates = json.loads((root / "evaluation.json").read_text())["cars"]["car_0"]["outcomes"]
    values = history(own)[0]
    for outcome, rate in rates.items():
        assert values[f"evaluate/car_0/outcome/{outcome}"] == rate["rate"]
    assert pages(own, root) == {"replay": (root / "replay.html").read_bytes()}
    assert artifacts(own) == [("replay", ["replay.html"])]


WITHOUT_NETWORK = """
import sys
from pathlib import Path
from f110_fl.config.scenario import Scenario
from f110_fl.reporting import tracking
from f110_fl.reporting.summary import offline_lines
from small import SMALL
tracking.INIT_TIMEOUT = 1.0
root = Path(sys.argv[1])
tracking.record_evaluation(Scenario.model_validate(SMALL), root, {"evaluate/x": 2.0}, None)
print(*offline_lines(root))
"""


def test_with_a_key_but_no_network_it_is_recorded_offline(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens: connections are refused
        taken.bind(("127.0.0.1", 0))
        places = {f"WANDB_{name}_DIR": str(tmp_path) for name in ("DATA", "CACHE", "CONFIG")}
        places["WANDB_BASE_URL"] = f"http://127.0.0.1:{taken.getsockname()[1]}"
        variables = {k: v for k, v in os.environ.items() if k != "WANDB_MODE"}
        result = subprocess.run(
            [sys.executable, "-c", WITHOUT_NETWORK, str(tmp_path)],
            env=variables | places | {"WANDB_API_KEY": "0" * 40, "PYTHONPATH": PYTHONPATH},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    assert result.returncode == 0, result.stderr
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("W&B: "))
    assert "connection refused" in line
    assert line.endswith("; recorded offline instead")
    assert history(offline_runs(tmp_path)["eval"]) == [{"evaluate/x": 2.0}]
    pattern = result.stdout.split()[-1]
    assert len(list(tmp_path.glob(pattern.removeprefix(f"{tmp_path}/")))) == 1
