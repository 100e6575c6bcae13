"""Children, sessions of them, and that nothing outlives the run."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import PYTHONPATH
from stubborn_children import log_by_flower, speak, stay, tidy_up
from watching import TIMEOUT, alive, until

from f110_fl.engines.flower.programs import run_program
from f110_fl.reporting.events import Event, RoundEvent
from f110_fl.rundir import RunDir
from f110_fl.runs import processes
from f110_fl.runs.processes import Children
from f110_fl.runs.session import Session


def test_a_childs_output_goes_to_its_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    children, log = Children(), tmp_path / "logs" / "child.log"
    for status in (0, 3):
        child = children.start(speak, ("hello", status), log)
        child.join(TIMEOUT)
        assert child.exitcode == status
    children.stop()
    assert sorted(log.read_text().split()) == sorted(2 * ["hello", "HELLO", "grandchild"])
    assert capfd.readouterr() == ("", "")


def test_a_child_without_a_log_speaks_where_its_parent_does(
    capfd: pytest.CaptureFixture[str],
) -> None:
    children = Children()
    children.start(speak, ("hello", 0)).join(TIMEOUT)
    children.stop()
    out, err = capfd.readouterr()
    assert (out.split(), err) == (["hello", "grandchild"], "HELLO\n")


def test_a_childs_traceback_is_in_its_log(tmp_path: Path) -> None:
    children, log = Children(), tmp_path / "child.log"
    child = children.start(stay, (), log)  # an argument is missing
    child.join(TIMEOUT)
    children.stop()
    assert child.exitcode == 1
    assert "TypeError" in log.read_text()


def test_stop_ends_stubborn_children_and_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_GRACE", 0.5)
    children = Children()
    notes = [tmp_path / "0.txt", tmp_path / "1.txt"]
    started = [children.start(stay, (note,), tmp_path / "log") for note in notes]
    assert until(lambda: all(note.exists() for note in notes)), (tmp_path / "log").read_text()
    pids = [int(pid) for note in notes for pid in note.read_text().split()]
    assert all(map(alive, pids))
    children.stop()
    assert [child.exitcode for child in started] == [-signal.SIGKILL] * 2
    assert until(lambda: not any(map(alive, pids)))


def test_stop_lets_children_tidy_up(tmp_path: Path) -> None:
    children, note = Children(), tmp_path / "note.txt"
    child = children.start(tidy_up, (note,), tmp_path / "log")
    assert until(note.exists)
    children.stop()
    assert (child.exitcode, note.read_text()) == (0, "tidied")


def test_stop_ends_children_that_have_hardly_begun(tmp_path: Path) -> None:
    children = Children()
    started = [children.start(stay, (tmp_path / str(k),), tmp_path / "log") for k in range(2)]
    children.stop()
    assert all(child.exitcode not in (None, 0) for child in started)
    children.stop()  # nothing is left to do


DRIVER = """
import sys, time
from pathlib import Path
import stubborn_children
from f110_fl.runs.processes import Children

if __name__ == "__main__":
    target, note, log = sys.argv[1:]
    Children().start(getattr(stubborn_children, target), (Path(note),), Path(log))
    time.sleep(300)
"""


@pytest.mark.parametrize("target", ["stay", "compute"])
def test_grandchildren_die_with_a_parent_that_is_killed(tmp_path: Path, target: str) -> None:
    note, log, driver = tmp_path / "note.txt", tmp_path / "log", tmp_path / "driver.py"
    driver.write_text(DRIVER)
    parent = subprocess.Popen(
        [sys.executable, str(driver), target, str(note), str(log)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )
    try:
        assert until(note.exists)
        pids = [int(pid) for pid in note.read_text().split()]
        assert all(map(alive, pids))
    finally:
        parent.kill()
        parent.wait(TIMEOUT)
    assert until(lambda: not any(map(alive, pids)))


# ---------------------------------------------------------------------- sessions


class Recorder:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Event | str] = []

    def handle(self, event: Event) -> None:
        self.told.append(event)

    def close(self) -> None:
        self.told.append("closed")


class Worker:
    """Stands in for a child: ends, with ``status``, when it was joined ``joins`` times."""

    name = "worker"

    def __init__(self, running: set[Worker], joins: int, status: int) -> None:
        self.running, self.joins, self.status = running, joins, status
        self.exitcode: int | None = None
        running.add(self)

    def join(self, timeout: float) -> None:
        assert timeout > 0
        for worker in tuple(self.running):  # time passes for all of them
            worker.joins -= 1
            if worker.joins <= 0:
                worker.exitcode = worker.status
                self.running.discard(worker)

    def is_alive(self) -> bool:
        return self.exitcode is None


@pytest.mark.parametrize("max_parallel", [1, 2, 3, 10])
def test_no_more_children_than_asked_for_at_a_time(tmp_path: Path, max_parallel: int) -> None:
    running: set[Worker] = set()
    most = 0
    order = []

    def starter(index: int, joins: int, status: int) -> Callable[[], Any]:
        def begin() -> Any:
            nonlocal most
            worker = Worker(running, joins, status)
            order.append(index)
            most = max(most, len(running))
            return worker

        return begin

    plan = [(3, 0), (1, 1), (2, 0), (1, -9), (4, 0), (2, 2)]
    with Session(RunDir(tmp_path), []) as session:
        failed = session.run_all(
            [starter(k, joins, status) for k, (joins, status) in enumerate(plan)], max_parallel
        )
    assert failed == 3
    assert order == list(range(6))
    assert most == min(max_parallel, 6)
    assert not running


def test_a_session_tells_its_sinks_to_the_end(tmp_path: Path) -> None:
    rundir, sinks = RunDir(tmp_path), [Recorder(), Recorder()]

    def interrupted() -> None:
        with Session(rundir, sinks) as session:
            rundir.rounds.write_text('{"round": 1}\n')
            session.forward()
            rundir.rounds.write_text('{"round": 1}\n{"round": 2}\n')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    expected = [RoundEvent({"round": 1}), RoundEvent({"round": 2}), "closed"]
    assert [sink.told for sink in sinks] == [expected, expected]


def test_a_session_waits_for_a_child_or_for_something_else(tmp_path: Path) -> None:
    with Session(RunDir(tmp_path), []) as session:
        child = session.start("speaker", speak, "hello", 5)
        assert session.wait(child) == 5
        assert "hello" in (tmp_path / "logs" / "speaker.log").read_text()
        note = tmp_path / "note.txt"
        patient = session.start("patient", tidy_up, note)
        assert session.wait(patient, done=note.exists) is None
    assert patient.exitcode == 0  # leaving the session ended it


DETACHED = """
import pathlib, subprocess, sys
sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(sleeper.pid))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_a_program_takes_with_it_what_it_detached(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    children = Children()
    command = [sys.executable, "-c", DETACHED, str(note)]
    child = children.start(run_program, (command, dict(os.environ)), tmp_path / "log")
    child.join(60)
    assert child.exitcode == 0
    assert not Path("/proc", note.read_text()).exists()


KEEPS_RUNNING = DETACHED + "import time; time.sleep(600)"
KILLED = """
import os, sys
from f110_fl.engines.flower.programs import run_program
from f110_fl.runs.processes import Children
command = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
Children().start(run_program, (command, dict(os.environ))).join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_what_a_program_detached_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = [sys.executable, "-c", KILLED, KEEPS_RUNNING, str(note)]
    run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": PYTHONPATH})
    try:
        assert until(lambda: note.exists() and note.read_text() != "", run)
        sleeper = os.pidfd_open(int(note.read_text()))
    finally:
        run.kill()  # alone, as the kernel does when memory runs out
        run.wait()
    assert select.select([sleeper], [], [], TIMEOUT)[0], "it lives on"


COLOURED = """
import sys
sys.stdout.write("\\x1b[92mINFO\\x1b[0m: begun\\n")
sys.stdout.flush()
sys.stderr.write("\\x1b[1;31mERROR\\x1b[0m: \\x1b[2Kno end of line")
sys.exit(3)
"""


def test_a_programs_log_has_no_escape_codes(tmp_path: Path) -> None:
    command, log = [sys.executable, "-c", COLOURED], tmp_path / "log"
    children = Children()
    child = children.start(run_program, (command, dict(os.environ)), log)
    child.join(TIMEOUT)
    assert child.exitcode == 3
    children.stop()
    assert log.read_text().splitlines() == ["INFO: begun", "ERROR: no end of line"]


def test_flower_logs_without_colours_in_a_child(tmp_path: Path) -> None:
    children, log = Children(), tmp_path / "log"
    children.start(log_by_flower, (), log).join(TIMEOUT)
    children.stop()
    assert log.read_text().split() == ["WARNING", ":", "a", "worker", "is", "replaced"]
