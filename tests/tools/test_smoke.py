"""tools/federated_smoke.py, from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import REPOSITORY, SMALL
from watching import TIMEOUT

from f110_fl.rundir import RunDir


def smoke(directory: Path, *flags: str, **variables: str) -> tuple[int, dict[str, Any], str]:
    """Returns the exit status, the JSON object and what went to standard error."""
    directory.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "federated_smoke.py"), *flags],
        cwd=directory,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    printed = json.loads(result.stdout)  # one object and nothing else, or this fails
    assert isinstance(printed, dict)
    return result.returncode, printed, result.stderr


def small(directory: Path) -> str:
    path = directory / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return str(path)


def test_a_dry_run_shows_the_command_and_starts_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    flags = ["--dry-run", "--repeat", "3", "--seed-base", "5", "--skip-checkpoints"]
    status, printed, err = smoke(empty, *flags, "--fed-root", "here")
    assert (status, err) == (0, "")
    assert set(printed) == {"dry_run", "command", "env_overrides"}
    assert printed["dry_run"] is True
    command = printed["command"]
    assert command[1] == str(REPOSITORY / "run.py")
    for flag, value in {"--repeat": "3", "--seed-base": "5", "--eval-episodes": "0"}.items():
        assert command[command.index(flag) + 1] == value
    assert printed["env_overrides"]["FED_ROOT"] == str(empty / "here")
    assert printed["env_overrides"]["FED_CHECKPOINT_AFTER_SYNC"] == "0"
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_two_clients_and_one_round_of_the_scenario_that_is_shipped(tmp_path: Path) -> None:
    """Also: what is in the directory stays there, and the caller's FED_* are not for the run."""
    root = tmp_path / "mine"
    root.mkdir()
    (root / "notes.txt").write_text("mine")
    flags = ["--episodes", "1", "--eval-episodes", "0", "--fed-root", "mine"]
    status, printed, err = smoke(tmp_path, *flags, FED_TOTAL_CLIENTS="5", FED_AGENTS="nobody")
    assert status == 0, err
    assert "warning" not in printed
    assert printed["dry_run"] is False
    assert printed["root"] == str(root)
    assert printed["rounds_completed"] == 1
    assert printed["round_client_counts"] == {"round_00001": 2}
    assert printed["clients"] == ["00", "01"]
    names = {str(Path(path).relative_to(root)) for path in printed["artefacts"]}
    assert names == {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert names >= {
        *("config.json", "rounds.jsonl", "notes.txt", "logs/federation.log"),
        *("round_00001/global.safetensors", "round_00001/metrics.json"),
        *("round_00001/client_00.safetensors", "round_00001/client_01.safetensors"),
        *("clients/00/state.safetensors", "clients/01/state.safetensors"),
    }
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".tmp"))]
    assert json.loads((root / "config.json").read_text())["seed"] == {
        "base": 12345,
        "step": 1,
        "shared": 0,
    }


@pytest.mark.slow
def test_a_round_without_a_client_is_a_failure(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    rundir.client(1).mkdir(parents=True)
    (rundir.client(1) / "state.safetensors").write_text("not tensors")
    flags = ["--scenario", small(tmp_path), "--fed-root", str(rundir.root), "--skip-checkpoints"]
    status, printed, err = smoke(tmp_path, *flags)
    assert status == 1
    assert printed["round_client_counts"] == {"round_00001": 1}
    assert "round 1/1  1/2 clients" in err
    assert re.search(r"  dropped 1 \(.*state.safetensors: not a readable .*\)\n", err)
    assert not list(rundir.root.rglob("round_*/*.safetensors"))
    (line,) = rundir.rounds.read_text().splitlines()
    assert "not a readable safetensors file" in json.loads(line)["dropped"]["1"]


def old_run(root: Path) -> None:
    root.mkdir()
    (root / "config.json").write_text("an earlier run's")


def test_a_run_that_does_not_start_is_a_failure_with_a_warning(tmp_path: Path) -> None:
    status, printed, err = smoke(tmp_path, "--scenario", "nowhere.yaml", "--fed-root", "run")
    assert status == 2
    assert "run.py: nowhere.yaml: no such file" in err
    assert printed["warning"].startswith("no round was produced")
    assert printed["rounds_completed"] == 0
    assert printed["round_client_counts"] == {}
    assert printed["artefacts"] == []
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_makes_way_or_is_kept(tmp_path: Path) -> None:
    flags = ["--scenario", "nowhere.yaml", "--fed-root", "run"]  # starts nothing, and is fast
    for kept in (["run.1"], ["run.1", "run.2"]):
        old_run(tmp_path / "run")
        smoke(tmp_path, *flags, "--keep-root")
        assert sorted(path.name for path in tmp_path.iterdir()) == kept
        assert (tmp_path / kept[-1] / "config.json").read_text() == "an earlier run's"
    old_run(tmp_path / "run")
    smoke(tmp_path, *flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.1", "run.2"]


def test_a_directory_that_holds_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    for keep in ([], ["--keep-root"]):
        smoke(tmp_path, "--scenario", "nowhere.yaml", "--fed-root", "run", *keep)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
