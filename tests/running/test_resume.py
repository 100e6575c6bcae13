"""Runs that are killed and resumed: byte-equal to runs that were not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import InProcess, carry_out
from programs import call
from small import REPOSITORY, SMALL, merge, write_small
from watching import TIMEOUT, processes_of, until, wait_for

from f110_fl.engines.replicas import run_replica
from f110_fl.loading.scenarios import dump_scenario, load_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import prepare_directory
from f110_fl.tensors import read_tensors
from run import main

CLOCKED = ("seconds", "collect")  # what an episode's record says of wall-clock time
EPISODES = 4
LENGTH = {"episodes": EPISODES, "env": {"max_steps": 120}}  # 480 steps: the replay of 100 wraps


def start(*flags: str, root: Path | None = None) -> subprocess.Popen[str]:
    environment = os.environ | ({"FED_ROOT": str(root)} if root else {})
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run.py"), "--max-parallel", "2", *flags],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    errors = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 0, errors
    return errors


def write(directory: Path, **changes: Any) -> str:
    return str(write_small(directory, **merge(LENGTH, changes)))


def left_alone(scenario: Path, directory: Path) -> RunDir:
    """The same run, in this process, that nothing happens to."""
    chosen, rundir = load_scenario(scenario), RunDir(directory / "alone")
    if chosen.federated.enabled:
        return carry_out(chosen, rundir.root, InProcess())
    with prepare_directory(chosen, rundir, resumed=False):
        for client_id in range(chosen.federated.clients):
            run_replica(rundir.root, client_id)
    return rundir


def kill_after(process: subprocess.Popen[str], root: Path, episodes: int, delay: float) -> None:
    """Kill a run without warning, ``delay`` seconds after it has logged so many episodes."""

    def logged() -> int:
        logs = root.glob("clients/*/episodes.jsonl")
        return sum(len(log.read_bytes().splitlines()) for log in logs)

    until(lambda: logged() >= episodes, process)
    time.sleep(delay)  # some point in time; none is special
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_same(left: RunDir, right: RunDir, rounds: int) -> None:
    for server_round in range(1, rounds + 1):
        for name in ("global", "client_00", "client_01"):
            a, b = (r.round(server_round) / f"{name}.safetensors" for r in (left, right))
            assert a.read_bytes() == b.read_bytes(), (server_round, name)
    for client_id in (0, 1):
        replays = {path.name for path in left.client(client_id).glob("*.replay")}
        assert "car_0.replay" in replays
        for name in ("state.safetensors", "best.safetensors", *sorted(replays)):
            a, b = (r.client(client_id) / name for r in (left, right))
            assert a.read_bytes() == b.read_bytes(), (client_id, name)
        outcomes = [
            [
                {k: v for k, v in json.loads(line).items() if k not in CLOCKED}
                for line in r.episodes(client_id).read_text().splitlines()
            ]
            for r in (left, right)
        ]
        assert outcomes[0] == outcomes[1]


@pytest.mark.slow
@pytest.mark.parametrize("enabled", [True, False])
def test_killed_and_resumed(tmp_path: Path, enabled: bool) -> None:
    """With earlier selves as opponents: their pools, success rates and draws go on, too.

    tools/verify_resume.py kills more often.
    """
    opponents = {"every": 1, "keep": 2, "fraction": 0.4, "power": 1.0}
    learner = {**SMALL["learners"]["car_0"], "opponents": opponents}
    evader = {"name": "car_1", "reverse": False, "task": {"kind": "evade", "target": "car_0"}}
    scenario = write(
        tmp_path,
        env={"cars": [SMALL["env"]["cars"][0], evader]},
        learners={"car_0": learner, "car_1": learner},
        federated={
            "enabled": enabled,
            "optimizer_strategy": "average",
            "strategy": {"name": "fedavgm"},
        },
        checkpoint_every=1,
    )
    killed = RunDir(tmp_path / "killed")
    chance = np.random.default_rng(int(os.environ.get("F110_KILL_SEED", "1")))
    process = start("--scenario", scenario, "--repeat", "2", root=killed.root)
    kill_after(process, killed.root, int(chance.integers(2, 10)), chance.random())
    if enabled:  # replicas wait for their predecessors to end
        wait_for(lambda: not processes_of(killed.root), "the killed run's children end")
        assert killed.spares.is_dir()
    finish(start("--resume", str(killed.root)))
    assert_same(left_alone(Path(scenario), tmp_path), killed, rounds=EPISODES if enabled else 0)
    kept = read_tensors(killed.state(0))
    assert kept["car_0/opponents/car_1/episode"].tolist() == [EPISODES - 2, EPISODES - 1]
    lines = [json.loads(line) for line in killed.episodes(0).read_text().splitlines()]
    assert any(line["snapshots"] for line in lines if line["kind"] == "train")
    if enabled:
        numbers = [json.loads(line)["round"] for line in killed.rounds.read_text().splitlines()]
        assert numbers == list(range(1, EPISODES + 1))
        assert not killed.spares.exists()
    else:
        assert not killed.rounds.exists()
        states = [killed.state(k).read_bytes() for k in (0, 1)]
        assert states[0] != states[1]


@pytest.mark.slow
def test_a_run_can_be_extended(tmp_path: Path) -> None:
    """All episodes at once equal two and, later, the others."""
    scenario = write(tmp_path, federated={"enabled": False}, checkpoint_every=3)
    extended = RunDir(tmp_path / "extended")
    begun = ["--scenario", scenario, "--episodes", "2", "--max-parallel", "2"]
    made = call(main, tmp_path, *begun, FED_ROOT=str(extended.root))
    assert made.returncode == 0, made.stderr
    made = call(main, tmp_path, "--resume", extended.root, "--episodes", str(EPISODES))
    assert made.returncode == 0, made.stderr
    assert_same(left_alone(Path(scenario), tmp_path), extended, rounds=0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resume", "nowhere"], "no run there"),
        (["--resume", ".", "--scenario", "x.yaml"], "--scenario='x.yaml': cannot change"),
        (["--resume", ".", "--map", "circle"], "cannot change in a resumed run"),
        (["--resume", ".", "--episodes", "1"], "at least the run's 4"),
        ([], "--scenario FILE is missing"),
    ],
)
def test_what_a_resumed_run_refuses(tmp_path: Path, flags: list[str], message: str) -> None:
    scenario = load_scenario(Path(write(tmp_path)))
    (tmp_path / "config.json").write_text(dump_scenario(scenario))
    before = sorted(tmp_path.iterdir())
    result = call(main, tmp_path, *flags)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_of_an_earlier_version_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a run's resolved scenario has no format number, and keys that are gone."""
    data = json.loads(dump_scenario(load_scenario(Path(write(tmp_path)))))
    del data["format"]
    (tmp_path / "config.json").write_text(json.dumps(data | {"seeds": [1, 2]}))
    assert main(["--resume", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"run.py: {tmp_path / 'config.json'}: no format number, written by ")
    assert "start a new run" in line
    assert len(line.splitlines()) == 1
