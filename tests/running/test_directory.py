"""Directories of runs: each its own, and nothing in them is overwritten."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import locked
from f110_fl.rundir import LOCK, RunDir
from f110_fl.runs.directory import (
    check_unused,
    claimed,
    lock_directory,
    prepare_directory,
    run_root,
)
from f110_fl.runs.plan import RunPlan, own_directory
from f110_fl.sweeps.grid import Grid
from f110_fl.sweeps.runner import _own

TEMPLATE = "runs/{name}-{time}"


def test_runs_of_one_second_have_directories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-120000")
    scenario = Scenario.model_validate(merge(SMALL, {"federated": {"root": TEMPLATE}}))
    together = Barrier(6)

    def take(_: int) -> Path:
        plan = RunPlan(scenario, RunDir(run_root(scenario)))
        together.wait()
        with own_directory(plan) as own, lock_directory(own.rundir.root):
            together.wait()
            return own.rundir.root

    with ThreadPoolExecutor(6) as pool:
        roots = sorted(path.name for path in pool.map(take, range(6)))
    first = "small-20260101-120000"
    assert roots == sorted([first, *(f"{first}-{number}" for number in range(2, 7))])


def test_grids_of_one_second_move_with_their_runs(tmp_path: Path) -> None:
    grid = Grid("g", tmp_path / "g", (), "{name}-{time}")
    with ExitStack() as stack:
        roots = [stack.enter_context(_own(grid, resumed=False)).root for _ in range(3)]
        assert [root.name for root in roots] == ["g", "g-2", "g-3"]
        assert stack.enter_context(_own(grid, resumed=True)).root == grid.root


def test_what_stays_empty_is_removed_and_a_given_name_is_left_alone(tmp_path: Path) -> None:
    with claimed(tmp_path / "a", "{time}") as root:
        assert root.is_dir()
    assert not root.exists()
    with claimed(tmp_path / "a", "a") as root:
        assert not root.exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Not a directory"), claimed(tmp_path / "file/x", "{time}"):
        pass


def test_a_directory_that_got_a_run_since_is_refused(tmp_path: Path) -> None:
    scenario, rundir = Scenario.model_validate(SMALL), RunDir(tmp_path / "run")
    with prepare_directory(scenario, rundir):
        pass
    with pytest.raises(UserError, match="already holds a run"), prepare_directory(scenario, rundir):
        pass
    with prepare_directory(scenario, rundir, resumed=True):
        pass


def test_what_cannot_be_looked_into_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "report.json").touch()
    for root, words in (
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "loop", "symbolic links"),
        (tmp_path / "loop" / "x", "symbolic links"),
        (tmp_path / "file", "is not a directory"),
        (tmp_path / "file" / "x", "Not a directory"),
    ):
        with pytest.raises(UserError, match=words):
            check_unused(root)
    check_unused(tmp_path / "new")
    check_unused(tmp_path)
    with pytest.raises(UserError, match=r"already holds report\.json"):
        check_unused(tmp_path, "report.json")


def test_an_error_is_blamed_on_what_caused_it(tmp_path: Path) -> None:
    for error in (OSError(28, "No space left on device", "/elsewhere"), BlockingIOError(11, "x")):
        with pytest.raises(type(error)) as caught, lock_directory(tmp_path):
            raise error
        assert caught.value is error
    with (
        locked(tmp_path / LOCK, wait=False),
        pytest.raises(UserError, match="another process is running"),
        lock_directory(tmp_path),
    ):
        pass
