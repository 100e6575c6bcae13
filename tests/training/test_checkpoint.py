"""Checkpoints: what they hold, and that nothing spoils the last one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from child_targets import limited
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.engines.replicas import run_replica
from f110_fl.errors import UserError
from f110_fl.learners.base import LearningError
from f110_fl.loading.scenarios import dump_scenario, load_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.processes import Children
from f110_fl.tensors import read_metadata, read_tensors, write_tensors
from f110_fl.training.state_file import Progress, check_state, saved_progress, state_being_written

LENGTH: dict[str, Any] = {
    "episodes": 4,
    "checkpoint_every": 2,
    "env": {"max_steps": 30},  # 120 steps: the replay of 100 wraps
    "learners": {"car_0": {"update_every": 5}},
    "evaluation": {"every": 2},
    "federated": {"enabled": False, "clients": 1},
}
CLOCKED = ("seconds", "collect")  # what an episode's record says of wall-clock time


def prepare(directory: Path, **changes: Any) -> RunDir:
    """Make a run's directory as run.py does before it starts the replicas."""
    directory.mkdir()
    path = directory / "small.yaml"
    path.write_text(yaml.safe_dump(merge(merge(SMALL, LENGTH), changes)))
    rundir = RunDir(directory)
    rundir.config.write_text(dump_scenario(load_scenario(path)))
    return rundir


def contents(rundir: RunDir) -> dict[str, object]:
    """What a replica leaves behind, apart from the times in it."""
    files: dict[str, object] = {
        path.name: path.read_bytes() for path in rundir.client(0).iterdir() if path.is_file()
    }
    lines = rundir.episodes(0).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    files["episodes.jsonl"] = [
        {key: value for key, value in record.items() if key not in CLOCKED} for record in records
    ]
    return files


# ---------------------------------------------------------------------- a failing disk


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> Iterator[list[str]]:
    """Let the operation with number ``at`` on the disk fail; yields the operations."""
    seen: list[str] = []

    def watched(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            if len(seen) > at:
                raise error
            return operation(*arguments, **options)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", watched("fsync", os.fsync))
        patch.setattr(Path, "replace", watched("replace", Path.replace))
        patch.setattr(Path, "unlink", watched("unlink", Path.unlink))
        yield seen


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A replica that nothing happened to."""
    rundir = prepare(tmp_path_factory.mktemp("straight") / "run")
    run_replica(rundir.root, 0)
    return rundir


def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    with failing(monkeypatch, 10_000, Killed()) as seen:
        run_replica(prepare(tmp_path / "counted").root, 0)
    return len(seen)


def test_killed_at_any_step_of_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: RunDir
) -> None:
    """Whatever a kill hits, the replica that goes on ends like one that was not killed."""
    total = operations(tmp_path, monkeypatch)
    assert total > 15
    for at in range(total):
        rundir = prepare(tmp_path / f"killed_{at}")
        with pytest.raises(Killed), failing(monkeypatch, at, Killed()):
            run_replica(rundir.root, 0)
        run_replica(rundir.root, 0)
        left, right = contents(rundir), contents(straight)
        assert {name: left.get(name) for name in right} == right, at
        assert not [name for name in left if name.endswith(".journal")], at


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: RunDir
) -> None:
    total = operations(tmp_path, monkeypatch)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for at in range(0, total, 3):
        rundir = prepare(tmp_path / f"full_{at}")
        with pytest.raises(UserError) as caught, failing(monkeypatch, at, full):
            run_replica(rundir.root, 0)
        line = str(caught.value)
        assert "No space left on device" in line
        state = rundir.client(0) / "state.safetensors"
        if state.exists():
            done = saved_progress(rundir.client(0)).episodes
            assert f"last good checkpoint: {state}, after {done} episodes" in line
            assert read_tensors(state)
        else:
            assert "there is no checkpoint yet" in line
        run_replica(rundir.root, 0)
        assert contents(rundir)["state.safetensors"] == contents(straight)["state.safetensors"]


@pytest.mark.slow
def test_a_file_too_large_ends_a_child_with_one_line(tmp_path: Path, straight: RunDir) -> None:
    """The operating system's own refusal, through the child's report, with no traceback."""
    rundir = RunDir(tmp_path / "run")
    shutil.copytree(straight.root, rundir.root)
    scenario = json.loads(rundir.config.read_text()) | {"episodes": 6}
    rundir.config.write_text(json.dumps(scenario))
    before = contents(rundir)
    children = Children()
    sizes = [rundir.client(0) / name for name in ("car_0.replay", "state.safetensors")]
    limit = min(path.stat().st_size for path in sizes) // 2
    child = children.start(limited, (rundir.root, limit), tmp_path / "log")
    child.join(120)
    reason = children.close(child)
    assert child.exitcode == 1
    assert len(reason.splitlines()) == 1
    assert f"last good checkpoint: {sizes[1]}, after 4 episodes" in reason, reason
    assert "Traceback" not in reason
    assert "Traceback" in (tmp_path / "log").read_text()
    assert contents(rundir)["state.safetensors"] == before["state.safetensors"]


# ---------------------------------------------------------------------- divergence


def test_a_reward_that_is_not_a_number_ends_the_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from f110_fl.training.collector import Explorer

    steps = 0
    learn = Explorer.learn

    def broken(self: Explorer, transitions: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 75:  # in the third episode
            transitions = transitions._replace(reward=transitions.reward * float("nan"))
        learn(self, transitions)

    monkeypatch.setattr(Explorer, "learn", broken)
    rundir = prepare(tmp_path / "run")
    with pytest.raises(UserError) as caught:
        run_replica(rundir.root, 0)
    line = str(caught.value)
    state = rundir.client(0) / "state.safetensors"
    assert line.startswith("learning diverged: car_0: reward is not finite at step ")
    assert "step 7" in line
    assert line.endswith(f"; last good checkpoint: {state}, after 2 episodes")


def write_state(path: Path, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
    with state_being_written(path, tensors, progress, small(), 9):
        pass


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_text("the last good one")
    tensors = {
        "car_0/model/actor/0.weight": torch.tensor([1.0, float("inf")]),
        "car_0/local/replay/priorities": torch.tensor([float("inf")]),
    }
    progress = Progress(env_steps=17)
    with pytest.raises(LearningError, match=r"car_0/model/actor/0.weight .* step 17"):
        write_state(path, tensors, progress)
    assert path.read_text() == "the last good one"
    del tensors["car_0/model/actor/0.weight"]
    write_state(path, tensors, progress)
    assert saved_progress(tmp_path) == progress


# ---------------------------------------------------------------------- descriptions


def small(**learner: Any) -> Scenario:
    learners = {"car_0": SMALL["learners"]["car_0"] | learner}
    return Scenario.model_validate(json.loads(json.dumps(SMALL | {"learners": learners})))


def test_a_checkpoint_says_what_it_holds(straight: RunDir) -> None:
    metadata = read_metadata(straight.client(0) / "state.safetensors")
    assert metadata["format"] == "1"
    learner = json.loads(metadata["learners"])["car_0"]
    assert learner["algorithm"] == "td3"
    assert learner["hidden"] == [16, 16]
    assert learner["action_size"] == 2
    tensors = read_tensors(straight.client(0) / "state.safetensors")
    actor = [t.shape for name, t in tensors.items() if name.startswith("car_0/model/actor/")]
    assert (16, learner["observation_size"]) in actor


@pytest.mark.parametrize(
    ("change", "size", "words"),
    [
        ({"hidden": [16, 8]}, 9, "td3 (16, 16), 9 observations, 2 actions; this run needs"),
        ({}, 10, "9 observations, 2 actions; this run needs format 1; car_0: td3 (16, 16), 10 obs"),
        (
            {"algorithm": "sac", "replay": {}},
            9,
            "td3 (16, 16), 9 observations, 2 actions; this run",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, Any], size: int, words: str
) -> None:
    path = tmp_path / "state.safetensors"
    write_state(path, {}, Progress())
    check_state(path, small(), 9)
    check_state(path, small(discount=0.5), 9)  # settings may differ, networks not
    scenario = small()
    config = dict(SMALL["learners"]["car_0"]) | change
    if change.get("algorithm"):
        config = {"algorithm": "sac", "hidden": [16, 16]}
    scenario = Scenario.model_validate(SMALL | {"learners": {"car_0": config}})
    with pytest.raises(UserError) as caught:
        check_state(path, scenario, size)
    line = str(caught.value)
    assert line.startswith(f"{path} holds format 1; car_0: td3")
    assert words in line
    if change.get("algorithm"):
        assert "car_0: sac (16, 16)" in line


@pytest.mark.parametrize(
    ("metadata", "words"),
    [({"format": "0"}, "holds format 0; "), ({"progress": "{}"}, "holds no format number; ")],
)
def test_a_checkpoint_of_another_version_is_refused(
    tmp_path: Path, metadata: dict[str, str], words: str
) -> None:
    path = tmp_path / "state.safetensors"
    write_tensors(path, {"a": torch.zeros(1)}, metadata)
    for read in (lambda: check_state(path, small(), 9), lambda: saved_progress(tmp_path)):
        with pytest.raises(UserError, match=words + "this run needs format 1"):
            read()


def test_a_replica_refuses_a_changed_scenario_in_one_line(tmp_path: Path, straight: RunDir) -> None:
    rundir = RunDir(tmp_path / "run")
    shutil.copytree(straight.root, rundir.root)
    scenario = json.loads(rundir.config.read_text())
    scenario["env"]["lidar"]["beams"] = 12
    rundir.config.write_text(json.dumps(scenario))
    with pytest.raises(UserError, match=r"observations, 2 actions; this run needs format 1; car_0"):
        run_replica(rundir.root, 0)
