"""What a run says of itself at its end: files, and commands that can be pasted."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small import REPOSITORY, SMALL, merge
from watching import TIMEOUT

from f110_fl.config.scenario import Scenario
from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.loading.scenarios import dump_scenario, load_scenario
from f110_fl.reporting.commands import command_line
from f110_fl.reporting.summary import (
    best_checkpoint,
    closing_lines,
    completed_rounds,
    trained_episodes,
)
from f110_fl.rundir import RunDir
from f110_fl.tensors import write_tensors
from f110_fl.training.trainer import Trainer
from run import main


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(merge(SMALL, changes))


def complete(rundir: RunDir, *rounds: int) -> None:
    rundir.root.mkdir(parents=True, exist_ok=True)
    rundir.rounds.write_text("".join(json.dumps({"round": k}) + "\n" for k in rounds))


def named(lines: list[str], name: str) -> str:
    """Returns what stands after a name in the closing lines, "" without such a line."""
    found = [line[16:] for line in lines if line[:16].strip() == name]
    assert len(found) <= 1
    return found[0] if found else ""


@pytest.mark.parametrize("rest", [b"", b'{"roun', b"\0" * 300, b"\xff\xfe\n", b"7\n{}\n\n"])
def test_the_last_round_is_read_whatever_a_crash_left_after_it(tmp_path: Path, rest: bytes) -> None:
    rundir = RunDir(tmp_path)
    assert completed_rounds(rundir) == 0
    rundir.rounds.write_bytes(b'{"round": 1}\n{"round": 2}\n' + rest)
    assert completed_rounds(rundir) == 2
    rundir.rounds.write_bytes(rest)
    assert completed_rounds(rundir) == 0


@pytest.mark.parametrize(
    ("episodes", "rounds", "title", "flags"),
    [
        (4, (), "To go on", []),
        (4, (1, 2), "To go on", []),
        (4, (1, 2, 3, 4), "To train longer", ["--episodes", "8"]),
        (5, (1, 2), "To go on", []),
        (5, (1, 2, 3), "", []),  # its last round had one episode instead of two: it has ended
    ],
)
def test_how_to_go_on(
    tmp_path: Path, episodes: int, rounds: tuple[int, ...], title: str, flags: list[str]
) -> None:
    interval = 2 if episodes == 5 else 1
    chosen = scenario(episodes=episodes, federated={"round_interval": interval})
    rundir = RunDir(tmp_path / "a run's")
    complete(rundir, *rounds)
    lines = closing_lines(chosen, rundir)
    assert not any(line.startswith("To ") for line in lines)  # there is no run to go on with
    rundir.config.write_text(dump_scenario(chosen))
    commands = {name: named(closing_lines(chosen, rundir), name) for name in CONTINUING}
    assert [name for name, command in commands.items() if command] == ([title] if title else [])
    if title:
        assert shlex.split(commands[title])[2:] == ["--resume", str(rundir.root), *flags]


CONTINUING = ("To go on", "To train longer")


@pytest.mark.parametrize("name", ["a run's", 'b "$HOME"; exit 7', "-x *", "c\\n`d`", "è {time}"])
def test_the_command_to_go_on_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The shell finds the run, whatever it is called, and exports what the run was begun with."""
    chosen = scenario(federated={"round_interval": 2}, episodes=5)
    rundir = RunDir(tmp_path / name)
    complete(rundir, 1, 2)
    rundir.config.write_text(dump_scenario(chosen))
    exported = {"FED_ROOT": str(rundir.root), "FED_ROUND_INTERVAL": "2", "RUN_SEED": "7"}
    for variable, text in exported.items():
        monkeypatch.setenv(variable, text)
    # Checked before anything runs: the run is there, and this cannot be its length.
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "run.py")])
    command = named(closing_lines(chosen, rundir), "To go on") + " --episodes 1"
    result = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.stderr == "run.py: --episodes='1': allowed: at least the run's 5\n"
    assert result.returncode == 2


def test_the_command_is_for_this_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "a b" / "run.py"
    monkeypatch.setattr(sys, "argv", [str(program), "--resume", "x"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3"))
    monkeypatch.setenv("PATH", "")
    found = shlex.split(command_line(["--resume", "x y"]))
    assert found == [str(tmp_path / "bin" / "python3"), str(program), "--resume", "x y"]
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch(0o755)
    monkeypatch.setenv("PATH", str(python.parent))
    assert shlex.split(command_line([]))[0] == "python"


def test_a_client_started_by_hand_has_variables_that_a_resumed_run_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in {"FED_CLIENT_ID": "0", "FED_ROOT": "r", "WANDB_MODE": "disabled"}.items():
        monkeypatch.setenv(name, text)
    words = shlex.split(command_line(["--resume", "r"]))
    assert words[:5] == ["env", "-u", "FED_CLIENT_ID", "-u", "FED_ROOT"]
    assert words[5] != "-u"
    words = shlex.split(command_line(["--mode", "eval"], Path("new")))
    assert words[:4] == ["env", "-u", "FED_CLIENT_ID", "FED_ROOT=new"]


def test_the_report_is_named_if_it_is_there(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    assert named(closing_lines(scenario(), rundir), "Report") == ""
    rundir.report.touch()
    assert named(closing_lines(scenario(), rundir), "Report").startswith(str(rundir.report))


def test_the_last_and_the_best_success_are_said(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    assert named(closing_lines(scenario(), rundir), "Success") == ""
    lines: list[dict[str, Any]] = []
    for number, count in ((2, 150), (4, 190), (6, 190), (8, 180)):
        rate = {"rate": count / 200, "count": count}
        rate["low"], rate["high"] = wilson_interval(count, 200)
        car = {"episodes": 200, "outcomes": {"success": rate}}
        lines.append({"round": number, "on": "server", "cars": {"car_0": car}})
    lines.append({"round": 8, "on": "clients", "metrics": {}})
    rundir.evaluations.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert named(closing_lines(scenario(), rundir), "Success") == (
        "car_0 90.0% [85, 93] in 200 greedy episodes, round 8; best 95.0% [91, 97], round 6"
    )


# ---------------------------------------------------------------------- the policy


def touch(path: Path, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {}, metadata)
    return path


def test_which_models_are_the_best(tmp_path: Path) -> None:
    rundir, chosen = RunDir(tmp_path), scenario()
    alone = scenario(federated={"enabled": False})
    assert best_checkpoint(chosen, rundir) is best_checkpoint(alone, rundir) is None
    state = touch(rundir.state(1))
    assert best_checkpoint(chosen, rundir) == best_checkpoint(alone, rundir) == state
    touch(rundir.client(0) / "best.safetensors", score="[0.5, 9.0]")
    better = touch(rundir.client(1) / "best.safetensors", score="[0.75, 1.0]")
    assert best_checkpoint(chosen, rundir) == best_checkpoint(alone, rundir) == better
    complete(rundir, 1, 2)
    last = touch(rundir.global_tensors(2))
    assert best_checkpoint(chosen, rundir) == last
    assert best_checkpoint(alone, rundir) == better
    best = touch(rundir.best)
    assert best_checkpoint(chosen, rundir) == best
    headless = scenario(federated={"share": "all_but_head"})
    assert best_checkpoint(headless, rundir) == better
    (rundir.client(1) / "best.safetensors").write_text("not tensors")
    assert best_checkpoint(headless, rundir) == rundir.client(0) / "best.safetensors"


@pytest.mark.parametrize(("evaluations", "times"), [(0, 1), (1, 2)])
def test_the_policy_can_be_seen_by_the_command_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluations: int, times: int
) -> None:
    root = tmp_path / "a {run}"  # braces are placeholders in FED_ROOT
    chosen = scenario(federated={"enabled": False, "clients": 1, "root": "{{x}}"})
    chosen = chosen.model_copy(
        update={"evaluation": chosen.evaluation.model_copy(update={"episodes": evaluations})}
    )
    rundir = RunDir(root)
    trainer = Trainer(chosen, 0, rundir.client(0))
    trainer.train(1)
    trainer.save()
    rundir.config.write_text(dump_scenario(chosen))
    assert trained_episodes(chosen, rundir) == [1]
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "run.py")])
    command = named(closing_lines(chosen, rundir), "To see it drive")
    for number in range(1, times + 1):  # it can be given again, also in the same second
        result = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"FED_ROOT": str(root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert result.returncode == 0, result.stderr
        reports = list(root.glob("evaluation-*/evaluation.json"))
        assert len(reports) == number
    found = json.loads(reports[0].read_text())
    assert found["cars"]["car_0"]["episodes"] == (evaluations or 20)
    assert reports[0].with_name("replay.html").exists()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "scenarios").glob("*.yaml")), ids=str)
def test_a_runs_config_is_its_scenario(path: Path, tmp_path: Path) -> None:
    chosen = load_scenario(path)
    config = tmp_path / "config.json"
    config.write_text(dump_scenario(chosen))
    assert load_scenario(config) == chosen


def test_a_config_of_another_version_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"format": 1} | SMALL))
    assert main(["--scenario", str(config)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"run.py: {config}:1: format 1, written by another version")
