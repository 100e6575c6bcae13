"""Grids: what they are read as, what they refuse, how they run and go on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from child_targets import pretend
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from rich.console import Console
from small import REPOSITORY, SMALL, merge
from watching import TIMEOUT

import run
from f110_fl.errors import UserError
from f110_fl.loading.flags import environment_overrides
from f110_fl.loading.overrides import Override
from f110_fl.rundir import RunDir
from f110_fl.runs import startup
from f110_fl.sweeps import runner
from f110_fl.sweeps.grid import load_grid, read_grid, write_grid
from f110_fl.sweeps.results import Result, RunProgress, write_results
from f110_fl.training.records import EpisodeRecord, EpisodeResult

ALONE: dict[str, Any] = {"federated": {"enabled": False, "clients": 2}, "threads": 1}
GAMMA = "learners.car_0.discount"


def write(directory: Path, text: str, **changes: Any) -> Path:
    """Writes the small scenario, not federated, and a grid beside it."""
    directory.mkdir(exist_ok=True)
    scenario = merge(merge(SMALL, ALONE), changes)
    (directory / "small.yaml").write_text(yaml.safe_dump(scenario))
    path = directory / "study.yaml"
    path.write_text(text)
    return path


def complaint(path: Path, outside: Sequence[Override] = ()) -> str:
    with pytest.raises(UserError) as caught:
        load_grid(path, outside)
    return str(caught.value)


# ---------------------------------------------------------------------- reading

FULL = f"""\
base: small.yaml
matrix:
  {GAMMA}: [0.9, 0.99]
  seed: [1, 2, 3]
runs:
  - name: plain
  - name: wide
    learners.car_0.hidden: [32, 32]
"""


def test_every_run_is_combined_with_every_cell(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path, FULL))
    assert grid.name == "study"
    expected = [
        (f"{run}_discount-{gamma}_seed-{seed}", hidden, gamma, seed)
        for run, hidden in (("plain", (16, 16)), ("wide", (32, 32)))
        for gamma in (0.9, 0.99)
        for seed in (1, 2, 3)
    ]
    found = []
    for cell in grid.cells:
        learner = cell.scenario.learners["car_0"]
        found.append((cell.name, learner.hidden, learner.discount, cell.scenario.seed))  # type: ignore[union-attr]
    assert found == expected
    assert grid.cells[0].settings == {GAMMA: 0.9, "seed": 1}
    assert grid.cells[0].scenario.wandb.group_template == "study"
    assert grid.cells[0].scenario.wandb.prefix == "plain_discount-0.9_seed-1-"


@examples(25)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(0, 3))
def test_as_many_cells_as_the_product(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], runs: int
) -> None:
    keys = ["seed", "episodes", "threads", "checkpoint_every"]
    content = {
        "base": "small.yaml",
        "matrix": {key: list(range(1, size + 1)) for key, size in zip(keys, sizes, strict=False)},
        "runs": [{"evaluation.every": number + 1} for number in range(runs)],
    }
    path = write(tmp_path_factory.mktemp("grid"), yaml.safe_dump(content))
    cells = load_grid(path).cells
    count = max(runs, 1)
    for size in sizes:
        count *= size
    assert len({cell.name for cell in cells}) == len(cells) == count
    assert len({json.dumps(cell.settings, sort_keys=True) for cell in cells}) == count


def test_bases(tmp_path: Path) -> None:
    """A file, a file with other settings, or a scenario written into the grid."""
    plain = load_grid(write(tmp_path, "base: small.yaml\nmatrix: {seed: [1]}\n"))
    text = "base: {scenario: small.yaml, episodes: 9}\nmatrix: {seed: [1]}\n"
    changed = load_grid(write(tmp_path, text))
    scenario = merge(merge(SMALL, ALONE), {"episodes": 9})
    inline = load_grid(write(tmp_path, yaml.safe_dump({"base": scenario, "matrix": {"seed": [1]}})))
    found = [grid.cells[0].scenario for grid in (plain, changed, inline)]
    assert [one.episodes for one in found] == [2, 9, 9]
    assert found[1].learners == found[2].learners
    assert [grid.cells[0].settings for grid in (plain, changed, inline)] == [{"seed": 1}] * 3


REFUSED = {
    # name: the grid, what the line says
    "unknown key": ("base: small.yaml\nmatrx: {}\n", ":2: matrx: unknown key; .*'matrix'"),
    "no base": ("matrix: {seed: [1]}\n", ": base: is missing"),
    "no such file": ("base: smal.yaml\nmatrix: {seed: [1]}", ":1: base: found 'smal.yaml', no "),
    "nothing to run": ("base: small.yaml\n", "neither matrix nor runs"),
    "a list": ("[1]\n", ":1: found a list of 1"),
    "empty": ("", "found an empty file"),
    "no list": ("base: small.yaml\nmatrix:\n  seed: 1\n", ":3: matrix.seed: found 1 .* list of va"),
    "no values": ("base: small.yaml\nmatrix:\n  seed: []\n", ":3: matrix.seed: found a list of 0"),
    "wrong key": (
        f"base: small.yaml\nmatrix:\n  seed: [1]\n  {GAMMA[:-5]}cont: [0.9]\n",
        ":4: learners.car_0.discont: unknown key; .*did you mean 'discount'",
    ),
    "wrong first key": (
        "base: small.yaml\nruns:\n  - {learner.car_0.discount: 0.9}\n",
        ":3: learner.car_0.discount: learner: unknown key; .*did you mean 'learners'",
    ),
    "wrong value": (
        f"base: small.yaml\nmatrix:\n  {GAMMA}:\n    - 0.9\n    - 9\n",
        ":5: learners.car_0.discount: found 9 .*from 0 to 1",
    ),
    "wrong base": ("base: {name: x, episode: 3}\nmatrix: {seed: [1]}", ":1: episode: unkno"),
    "the same twice": ("base: small.yaml\nruns: [{name: a}, {name: a}]", "two runs are called 'a'"),
    "set twice": ("base: small.yaml\nmatrix: {seed: [1]}\nruns: [{seed: 2}]", "the matrix sets it"),
    "reserved": ("base: small.yaml\nruns:\n  - name: logs\n", ":3: .*a name of the grid's own"),
    "a path": ("base: small.yaml\nruns:\n  - name: ../x\n", ":3: .*found '../x'"),
    "a directory": ("base: small.yaml\nmatrix: {federated.root: [a]}", "set that with FED_ROOT"),
    "no key": ("base: small.yaml\nmatrix: {a b: [1]}", "not a dotted key"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    text, words = REFUSED[name]
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=words) as caught:
        load_grid(path)
    assert str(caught.value).startswith(str(path))


def test_a_variable_must_not_contradict_the_grid(tmp_path: Path) -> None:
    path = write(tmp_path, "base: small.yaml\nmatrix:\n  seed: [1, 2]\n")
    line = complaint(path, environment_overrides({"RUN_SEED": "3"}))
    assert line == f"RUN_SEED='3': contradicts {path}:3: seed; leave one out"
    grid = load_grid(path, environment_overrides({"FED_TOTAL_CLIENTS": "5", "FED_ROOT": "/a/{{b"}))
    assert grid.cells[0].scenario.federated.clients == 5
    assert str(grid.root) == "/a/{b"


def test_a_grids_file_reads_back(tmp_path: Path) -> None:
    grid = load_grid(write(tmp_path, FULL))
    (tmp_path / "grid.json").write_text(write_grid(grid))
    name, runs = read_grid(tmp_path)
    assert name == "study"
    assert list(runs) == [cell.name for cell in grid.cells]
    assert runs["wide_discount-0.9_seed-1"] == {
        "learners.car_0.hidden": [32, 32], GAMMA: 0.9, "seed": 1
    }  # fmt: skip


# ---------------------------------------------------------------------- results


def episode(kind: str, number: int, outcome: str, value: float) -> EpisodeRecord:
    result = EpisodeResult(5, 0.1, {"car_0": value}, {"car_0": outcome})
    return EpisodeRecord(kind, 1, number, 5, result)  # type: ignore[arg-type]


def test_results_are_of_the_last_evaluation(tmp_path: Path) -> None:
    """Client 0: successes 1 of 2, returns 1 and 3; client 1: 1 of 1, return 6."""
    rundir = RunDir(tmp_path)
    records = {
        0: [
            episode("train", 1, "crash", 0),
            episode("evaluate", 1, "success", 100),
            episode("train", 2, "crash", 0),
            episode("evaluate", 2, "success", 1),
            episode("evaluate", 2, "crash", 3),
        ],
        1: [episode("train", 1, "crash", 0), episode("evaluate", 1, "success", 6)],
    }
    for client_id, lines in records.items():
        rundir.client(client_id).mkdir(parents=True)
        rundir.episodes(client_id).write_text("".join(r.to_json() + "\n" for r in lines))
    result = Result("a", {"seed": 1, "hidden": [8]}, "there")
    result.measure(RunProgress(rundir, 2))
    assert result.episodes == 1
    assert result.success_rate == {"car_0": 0.75}
    assert result.return_ == {"car_0": 4.0}
    assert result.seconds == 0.0
    write_results(tmp_path, "study", [result, Result("b", {"x": "y,z"}, "here", failure="a, b")])
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert rows[0]["car_0/success_rate"] == "0.75"
    assert rows[0]["hidden"] == "[8]"
    assert (rows[1]["x"], rows[1]["failure"], rows[1]["seed"]) == ("y,z", "a, b", "")
    held = json.loads((tmp_path / "results.json").read_text())
    assert [entry["return"] for entry in held["runs"]] == [{"car_0": 4.0}, {}]


# ---------------------------------------------------------------------- running


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "train", "round": 1, "episode": "x", "env_steps": 1, "steps": 1}',
        '{"kind": "evaluate", "round": 1, "episode": 1, "env_steps": 1, "steps": 1, "seconds": 1, '
        '"returns": {"car_0": [1]}, "outcomes": {"car_0": "success"}}',
        '{"kind": "evaluate", "round": 1, "episode": 1, "env_steps": 1, "steps": 1, "seconds": 1, '
        '"returns": {"car_0": 1}, "outcomes": {}}',
        "\0" * 40,
    ],
)
def test_damaged_files_of_one_run_end_no_table(tmp_path: Path, line: str) -> None:
    rundir = RunDir(tmp_path)
    rundir.client(0).mkdir(parents=True)
    good = episode("train", 3, "success", 1.0).to_json()
    rundir.episodes(0).write_text(f"{good}\n{line}\n{good}\n")
    result = Result("a", {}, str(tmp_path))
    result.measure(RunProgress(rundir, 1))
    assert result.episodes == 3
    write_results(tmp_path, "grid", [result])


@pytest.fixture(autouse=True)
def own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What run.py sets for its children must not reach other tests."""
    for name in startup.KERNEL_CACHE:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def grid(console: Console, *flags: str, **variables: str) -> int:
    return runner.run_sweep(run.build_parser().parse_args(flags), variables, console, pretend)


def test_failures_are_reported_and_not_fatal_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in", "base: small.yaml\nmatrix:\n  seed: [1, 2, 3]\n")
    root, console = tmp_path / "out", Console(stderr=True, width=120)
    assert grid(console, "--grid", str(path), "--max-parallel", "2", FED_ROOT=str(root)) == 1
    shown = capsys.readouterr().err
    log = root / "logs" / "seed-2.log"
    assert f"run.py: seed-2 failed: replica_00 failed: disk on fire; see {log}" in shown
    rows = list(csv.DictReader((root / "results.csv").open()))
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[1]["failure"] == "replica_00 failed: disk on fire"
    words = json.loads((root / "seed-1" / "words").read_text())
    assert words[:4] == ["--resume", str(root / "seed-1"), "--engine", "simulation"]

    (root / "repaired").touch()
    (root / "seed-1" / "words").unlink()
    assert grid(console, "--resume", str(root), "--tensorboard") == 0
    assert "--tensorboard" not in words
    assert "--tensorboard" in json.loads((root / "seed-2" / "words").read_text())
    assert "To go on" not in capsys.readouterr().err  # there is nothing left to do
    assert not (root / "seed-1" / "words").exists()  # it was done
    again = list(csv.DictReader((root / "results.csv").open()))
    assert [row["status"] for row in again] == ["done"] * 3
    assert again[0]["seconds"] == rows[0]["seconds"]


def test_without_a_terminal_a_line_says_how_far_runs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "SILENCE", 0.0)
    path = write(tmp_path / "in", "base: small.yaml\nmatrix:\n  seed: [1, 3]\n")
    words = ("--grid", str(path), "--max-parallel", "1")
    assert grid(Console(stderr=True), *words, FED_ROOT=str(tmp_path / "out")) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "0/2 runs done  seed-1 0/2" in lines
    assert "1/2 runs done  seed-3 0/2" in lines


def test_names_of_runs_do_not_wrap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-name-that-is-longer-than-the-whole-console-is-wide"
    path = write(tmp_path / "in", f"base: small.yaml\nruns: [{{name: {name}}}, {{name: b}}]\n")
    console = Console(stderr=True, width=40)
    assert grid(console, "--grid", str(path), FED_ROOT=str(tmp_path / "out")) == 0
    lines = capsys.readouterr().err.splitlines()
    titles = next(line for line in lines if line.startswith("run "))
    rows = [line.split() for line in lines[lines.index(titles) + 1 :]][:2]
    assert titles.split() == ["run", *titles[len(name) :].split()]
    assert [row[:3] for row in rows] == [[name, "done", "0/2"], ["b", "done", "0/2"]]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--scenario", "x"], "--scenario='x': not with a grid"),
        (["--mode", "eval"], "not with a grid"),
        (["--superlink", "a:1"], "--grid=.*: not with --superlink"),
        (["--engine", "deployment"], "is not federated"),
        (["--max-parallel", "0"], "allowed: a whole number"),
        (["--set", f"{GAMMA}=0.5"], "contradicts"),
    ],
)
def test_flags_that_do_not_go_with_a_grid(tmp_path: Path, flags: list[str], words: str) -> None:
    path = write(tmp_path / "in", FULL)
    with pytest.raises(UserError, match=words):
        grid(Console(quiet=True), "--grid", str(path), *flags, FED_ROOT=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_environment_that_cannot_be_built(tmp_path: Path) -> None:
    text = "base: small.yaml\nmatrix:\n  env.spawn_sets: [[[spawn_1, spawn_1]]]\n"
    path = write(tmp_path / "in", text)
    with pytest.raises(UserError, match=r"^spawn_sets-\S+: .*spawn_1"):
        grid(Console(quiet=True), "--grid", str(path), FED_ROOT=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_policy_to_start_from_that_does_not_fit(tmp_path: Path) -> None:
    text = "base: small.yaml\nmatrix:\n  learners.car_0.initial: [null, small.yaml]\n"
    path = write(tmp_path / "in", text)
    words = r"^initial-small.yaml: learners.car_0.initial: .*: not a readable safetensors file"
    with pytest.raises(UserError, match=words):
        grid(Console(quiet=True), "--grid", str(path), FED_ROOT=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_a_resumed_grid_refuses(tmp_path: Path) -> None:
    cells = load_grid(write(tmp_path, FULL))
    (tmp_path / "grid.json").write_text(write_grid(cells))
    with pytest.raises(UserError, match="cannot change in a resumed grid"):
        grid(Console(quiet=True), "--resume", str(tmp_path), "--episodes", "9")
    with pytest.raises(UserError, match=r"config.json: no such file, although"):
        grid(Console(quiet=True), "--resume", str(tmp_path))
    (tmp_path / "grid.json").write_text("{}")
    with pytest.raises(UserError, match="not a grid's file"):
        grid(Console(quiet=True), "--resume", str(tmp_path))


@pytest.mark.slow
def test_interrupted_and_resumed_for_real(tmp_path: Path) -> None:
    """Ctrl-C ends all; what was finished stays, and --resume does the rest."""
    text = "base: small.yaml\nruns:\n  - {name: short}\n  - {name: long, episodes: 100000}\n"
    clients = {"federated": {"clients": 1}, "env": {"max_steps": 20}}
    path, root = write(tmp_path / "in", text, **clients), tmp_path / "out"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, str(REPOSITORY / "run.py"), "--max-parallel", "2"]
    process = subprocess.Popen(
        [*command, "--grid", str(path)],
        env=os.environ | {"FED_ROOT": str(root)},
        stderr=subprocess.PIPE,
        text=True,
    )
    log = RunDir(root / "long").episodes(0)
    deadline = time.monotonic() + TIMEOUT

    def ready() -> bool:
        finished = (root / "results.json").exists() and log.exists() and log.read_bytes()
        return bool(finished) or process.poll() is not None

    while not ready() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=TIMEOUT)[1]
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    held = json.loads((root / "results.json").read_text())
    assert [entry["status"] for entry in held["runs"]] == ["done", "stopped"]
    episodes = held["runs"][1]["episodes"] + 3
    assert 3 < episodes < 100_000
    config = RunDir(root / "long").config
    config.write_text(json.dumps(json.loads(config.read_text()) | {"episodes": episodes}))
    result = subprocess.run(
        [*command, "--resume", str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    held = json.loads((root / "results.json").read_text())
    assert [entry["status"] for entry in held["runs"]] == ["done", "done"]
    assert [entry["episodes"] for entry in held["runs"]] == [2, episodes]
