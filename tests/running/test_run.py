"""The command line, from outside: refusals, interruptions, failures, W&B."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import torch
from programs import call
from run_files import shown
from small import REPOSITORY, SMALL, write_small
from watching import TIMEOUT, processes_of, until

from f110_fl.files import complete_lines
from f110_fl.rundir import RunDir
from f110_fl.runs.kernels.compiling import TOLD
from f110_fl.tensors import read_tensors
from run import main


def start(
    directory: Path, root: Path, *flags: str, variables: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Starts run.py in ``directory`` as the leader of a process group, as a shell would."""
    directory.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run.py"), *flags],
        cwd=directory,
        env=os.environ | {"FED_ROOT": str(root)} | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# ---------------------------------------------------------------------- refusals


def map_file(directory: Path, image: bytes | None) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    if image is not None:
        (directory / "map.png").write_bytes(image)
    path = directory / "map.yaml"
    path.write_text("{image: map.png, resolution: 0.05, origin: [0.0, 0.0, 0.0]}\n")
    return str(path)


WALL_SPAWN = [["spawn_1", "spawn_1"]]  # one car inside the other
WIDE = {"width": 3.0, "length": 3.0}  # wider than the lane

REFUSALS: dict[str, tuple[dict[str, Any], list[str], dict[str, str], str]] = {
    # name: changes of the scenario, flags, variables, what the line says
    "unknown key": ({"episode": 3}, [], {}, "episode: unknown key; .*did you mean 'episodes'"),
    "wrong type": ({"episodes": "3"}, [], {}, r"small\.yaml:\d+: episodes: found '3' \(text\)"),
    "unknown strategy": ({}, [], {"FED_OPTIMIZER_STRATEGY": "foo"}, "'foo': allowed: local, av"),
    "unknown client": ({}, ["--repeat", "3"], {"FED_CLIENT_ID": "5"}, "'5': allowed: .* 0 to 2"),
    "client on its own": (
        {"federated": {"enabled": False}}, [], {"FED_CLIENT_ID": "1"}, "is not federated"
    ),
    "no clients": ({}, [], {"FED_TOTAL_CLIENTS": "0"}, "'0': allowed: a whole number from 1"),
    "grid": ({}, ["--grid", "g.yaml"], {}, "--scenario=.*: not with a grid"),
    "no workers": ({}, ["--collect-workers", "0"], {}, "--collect-workers='0': allowed: a whole"),
    "checkpoint": ({}, ["--checkpoint", "x"], {}, "--checkpoint='x': needs --mode eval"),
    "no checkpoint": ({}, ["--mode", "eval"], {},
        r"--checkpoint FILE is missing: the models of car_0, .* none \(.*/policies/small\.safetens"
    ),
    "no such initial": (
        {"learners": {"car_0": {"initial": "x"}}}, [], {},
        r"small\.yaml:\d+: learners\.car_0\.initial: found 'x', no such file in .*a safetensors",
    ),
    "initial that is none": (
        {}, ["--set", "learners.car_0.initial=small.yaml"], {},
        r"learners\.car_0\.initial: .*small\.yaml: not a readable safetensors file",
    ),
    "no such mode": ({}, ["--mode", "evl"], {}, "invalid choice: 'evl' .*; see --help"),
    "no such flag": ({}, ["--epochs", "3"], {}, "unrecognized arguments: --epochs 3; see --help"),
    "no such checkpoint": ({}, ["--mode", "eval", "--checkpoint", "x"], {}, "no such file"),
    "none at a time": ({}, ["--max-parallel", "0"], {}, "--max-parallel='0': allowed: a whole"),
    "too long a number": ({}, ["--max-parallel", "9" * 5000], {}, "--max-parallel='9+': allowed"),
    "no such map": ({}, ["--map", "nowhere.yaml"], {}, "no such track or file"),
    "spawn in a wall": (
        {"env": {"cars": [SMALL["env"]["cars"][0] | {"vehicle": WIDE}, SMALL["env"]["cars"][1]]}},
        [], {}, "spawn set 0 .*car_0 at spawn_3.*not in the free space",
    ),
    "spawn in a car": ({"env": {"spawn_sets": WALL_SPAWN}}, [], {}, "spawn set 0 .*at spawn_1"),
    "W&B mode": ({}, [], {"WANDB_MODE": "ofline"}, "did you mean 'offline'"),
}  # fmt: skip


def refused(directory: Path, root: Path, *flags: str, variables: dict[str, str]) -> str:
    """Returns the one line with which run.py refuses to start."""
    directory.mkdir(parents=True, exist_ok=True)
    result = call(main, directory, *flags, FED_ROOT=str(root), **variables)
    return one_line(result.returncode, result.stdout, result.stderr)


def one_line(status: int | None, out: str, err: str) -> str:
    """Returns the line with which run.py refuses to start."""
    assert status == 2, err
    assert out == ""
    err = err.removeprefix(f"{TOLD}\n")  # whoever is the first compiles
    assert err.startswith("run.py: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", REFUSALS)
def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    changes, flags, variables, words = REFUSALS[name]
    scenario = write_small(tmp_path / "scenario", **changes)
    empty = tmp_path / "empty"
    line = refused(empty, empty / "run", "--scenario", str(scenario), *flags, variables=variables)
    assert re.search(words, line), line
    assert list(empty.iterdir()) == []


def test_a_missing_scenario(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    process = start(empty, empty / "run", "--scenario", "nowhere.yaml")
    out, err = process.communicate(timeout=TIMEOUT)
    line = one_line(process.returncode, out, err)
    assert line == "run.py: nowhere.yaml: no such file; allowed: a scenario's YAML file\n"
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("image", [b"this is no image", None])
def test_a_map_without_a_usable_image(tmp_path: Path, image: bytes | None) -> None:
    flags = ["--scenario", str(write_small(tmp_path / "scenario"))]
    flags += ["--map", map_file(tmp_path / "map", image)]
    empty = tmp_path / "empty"
    line = refused(empty, empty / "run", *flags, variables={})
    assert "map.png" in line
    assert "a PNG or PGM image is needed" in line
    assert list(empty.iterdir()) == []


def test_a_directory_that_holds_a_run_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "config.json").write_text("an earlier run's")
    scenario = write_small(tmp_path / "scenario")
    line = refused(tmp_path / "empty", root, "--scenario", str(scenario), variables={})
    assert f"{root} already holds a run" in line
    assert [(p.name, p.read_text()) for p in root.iterdir()] == [
        ("config.json", "an earlier run's")
    ]


@pytest.mark.parametrize("below", ["", "run"])
def test_a_root_that_cannot_be_written(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    scenario = write_small(tmp_path / "scenario")
    line = refused(tmp_path / "empty", file / below, "--scenario", str(scenario), variables={})
    assert str(file / below) in line
    assert "directory" in line
    assert file.read_text() == "mine"


# ---------------------------------------------------------------------- interruptions


def interrupt_after_a_round(
    directory: Path, send: Callable[[subprocess.Popen[str]], None]
) -> RunDir:
    """Starts a federation that would take hours, stops it, and returns what it leaves."""
    scenario = write_small(directory / "scenario", episodes=100_000)
    root = directory / "run"
    flags = ["--scenario", str(scenario), "--wandb-prefix", "p-"]
    flags += ["--wandb-group-template", "group-{scenario}-{seed}", "--live"]
    # A shell that started pytest in the background may have left SIGINT ignored in it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(directory, root, *flags, variables={"WANDB_MODE": "offline"})
    rounds = RunDir(root).rounds
    try:
        assert until(lambda: rounds.exists() and rounds.stat().st_size > 0, process)
        assert any(
            "forkserver" in command for command in processes_of(root).values()
        )  # it sees workers
        send(process)
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == ""
    assert "run.py: interrupted; what was finished is kept\n" in err
    assert "Traceback" not in err
    assert f"Run directory   {root}\n" in err
    report = shown(RunDir(root).report)
    assert report["runs"][0]["state"] == "unfinished"
    assert report["runs"][0]["rounds"]["done"] == len(complete_lines(rounds)) > 0
    assert "not complete" in report["replaysMissing"]
    assert f"Report          {RunDir(root).report}" in err
    assert until(lambda: not processes_of(root)), processes_of(root)
    return RunDir(root)


def check_rounds(rundir: RunDir) -> None:
    """Every round in rounds.jsonl is whole: its files are there and agree with each other."""
    lines = [json.loads(line) for line in rundir.rounds.read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(1, len(lines) + 1))
    for line in lines:
        sent = [read_tensors(rundir.client_tensors(line["round"], k)) for k in line["clients"]]
        averaged = read_tensors(rundir.global_tensors(line["round"]))
        for name, tensor in averaged.items():
            mean = torch.stack([tensors[name].double() for tensors in sent]).mean(0)
            torch.testing.assert_close(tensor.double(), mean, atol=1e-6, rtol=1e-6)
        assert json.loads(rundir.metrics(line["round"]).read_text())["metrics"] == line["metrics"]


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@pytest.mark.slow
@needs_proc
def test_ctrl_c_ends_everything_and_keeps_completed_rounds(tmp_path: Path) -> None:
    def ctrl_c(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("Live page"))
        with urlopen(f"{line.split()[-1]}data", timeout=TIMEOUT) as answer:  # noqa: S310 - loopback
            (run,) = json.load(answer)["runs"]
        assert run["state"] == "running"
        # W&B takes seconds to begin each of its runs where others are at work.
        begun = RunDir(tmp_path / "run").root
        assert until(lambda: len([*begun.glob("wandb/offline-run-*/*.wandb")]) == 3, process)
        os.killpg(process.pid, signal.SIGINT)  # a terminal signals the whole group

    rundir = interrupt_after_a_round(tmp_path, ctrl_c)
    check_rounds(rundir)
    # W&B, in a process of its own, has been told to the end: a run each, named as asked.
    recorded = [path.read_bytes() for path in rundir.root.glob("wandb/offline-run-*/*.wandb")]
    assert len(recorded) == 3
    for name in (b"p-server", b"p-client_00", b"p-client_01"):
        (run,) = [data for data in recorded if name in data]
        assert b"group-small-7" in run


def workers_of(root: Path) -> list[int]:
    """Returns the process ids of a run's workers: forks of one that was started for that."""
    forks = [pid for pid, command in processes_of(root).items() if "forkserver" in command]
    parents = {
        pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        for pid in forks
    }
    return [pid for pid in forks if parents[pid] in forks]


@pytest.mark.slow
@needs_proc
def test_a_killed_worker_costs_a_client_one_round(tmp_path: Path) -> None:
    """And SIGTERM is the same as Ctrl-C."""
    scenario = write_small(tmp_path / "scenario", episodes=100_000)
    root = tmp_path / "run"
    flags = ["--scenario", str(scenario), "--max-parallel", "2"]
    process = start(tmp_path, root, *flags, variables={"WANDB_MODE": "disabled"})

    def whole() -> list[bool]:
        """Whether all clients took part, round by round."""
        return [line["clients"] == [0, 1] for line in complete_lines(RunDir(root).rounds)]

    try:
        assert until(lambda: len(whole()) > 0, process)
        os.kill(workers_of(root)[0], signal.SIGKILL)
        assert until(lambda: False in whole() and whole()[-1], process)
    finally:
        process.terminate()
        out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, err
    assert out == ""
    assert "run.py: interrupted; what was finished is kept\n" in err
    assert "Traceback" not in err
    assert until(lambda: not processes_of(root)), processes_of(root)
    check_rounds(RunDir(root))
    assert not (root / "wandb").exists()
    lines = complete_lines(RunDir(root).rounds)
    (line,) = [line for line in lines if line["dropped"]]
    assert list(line["dropped"].values()) == ["its worker ended by SIGKILL"]
    assert lines[-1]["clients"] == [0, 1]
    assert re.search(r"round .* 1/2 clients .* dropped [01] \(its worker ended by SIGKILL\)", err)


# ---------------------------------------------------------------------- failures


@pytest.mark.slow
def test_a_replica_that_fails_fails_the_run_but_not_the_others(tmp_path: Path) -> None:
    scenario = write_small(tmp_path / "scenario", federated={"enabled": False})
    root = tmp_path / "run [b]"  # brackets are markup to the console
    rundir = RunDir(root)
    rundir.client(1).mkdir(parents=True)
    (rundir.client(1) / "state.safetensors").write_text("not tensors")
    words = ("--scenario", scenario, "--max-parallel", "2")
    result = call(main, tmp_path, *words, FED_ROOT=str(root))
    err = result.stderr
    assert result.returncode == 1
    assert err.endswith(f"run.py: the run failed; see {rundir.logs}\n")
    assert "Traceback" not in err
    assert "not a readable safetensors file" in (rundir.logs / "replica_01.log").read_text()
    assert read_tensors(rundir.client(0) / "state.safetensors")
    assert len(rundir.episodes(0).read_text().splitlines()) == 4  # two, each evaluated once
    (run,) = shown(rundir.report)["runs"]
    assert run["missing"] == ["clients/01/episodes.jsonl: not there"]
    assert run["episodes"]["done"] == [2, 0]


# ---------------------------------------------------------------------- W&B


@pytest.mark.slow
def test_broken_wandb_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    scenario = write_small(tmp_path / "scenario", federated={"enabled": False, "clients": 1})
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "wandb.py").write_text("raise OSError('no space left for W&B')\n")
    variables = {"WANDB_MODE": "offline", "PYTHONPATH": str(modules)}
    root = tmp_path / "run"
    process = start(tmp_path, root, "--scenario", str(scenario), variables=variables)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, err
    warnings = [line for line in err.splitlines() if "W&B" in line]
    report = shown(RunDir(root).report)
    assert report["runs"][0]["state"] == "complete"
    assert "the run was short" in report["replaysMissing"]
    assert warnings == ["W&B: OSError: no space left for W&B; the run goes on without it"]
    assert len(RunDir(root).episodes(0).read_text().splitlines()) == 4
