"""Logs are bounded, and are read over the moment in which a full one begins anew."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from closed_superlink import LOOPBACK, served
from stubborn_children import fill
from watching import TIMEOUT, wait_for

import clients.process
import run
import server.superlink
from f110_fl.engines.credentials import make_credentials
from f110_fl.engines.deployment import FailureWatch
from f110_fl.engines.flower.programs import environment, run_program
from f110_fl.engines.superlink import SuperLink
from f110_fl.errors import UserError
from f110_fl.reporting import announce
from f110_fl.runs import logs
from f110_fl.runs.logs import KEPT, LARGEST, MEGABYTE, LogReader, largest_log, older, rotate
from f110_fl.runs.processes import Children


def add(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_the_newest_files_are_kept_in_their_order(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    for number in range(KEPT + 3):
        add(log, str(number))
        rotate(log)
    add(log, "now")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {f"run.log.{k}": f"{KEPT + 3 - k}\n" for k in range(1, KEPT + 1)}
    assert found == {"run.log": "now\n", **kept}


def test_a_program_with_the_log_open_writes_on_into_it(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with log.open("ab", buffering=0) as file:
        file.write(b"before\n")
        rotate(log)
        file.write(b"after\n")
    assert (older(log, 1).read_text(), log.read_text()) == ("before\n", "after\n")


def test_a_reader_misses_nothing_wherever_it_looks_during_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks before and after each of the steps of which a rotation is made."""
    steps: list[tuple[Any, str]] = [(Path, "replace"), (shutil, "copyfileobj"), (os, "fsync")]
    log = tmp_path / "run.log"
    for look_at in range(2 * len(steps) * 2):
        reader, seen, count = LogReader(log), [], 0

        def look(at: int = look_at, reader: LogReader = reader, seen: list[str] = seen) -> None:
            nonlocal count
            count += 1
            if count > at:
                seen += reader.lines()

        def stepping(step: Callable[..., Any], look: Callable[[], None] = look) -> Any:
            def stepped(*arguments: Any) -> Any:
                look()
                result = step(*arguments)
                look()
                return result

            return stepped

        add(log, "a", "b")
        seen += reader.lines() if look_at % 2 else []
        add(log, "c")
        with monkeypatch.context() as patch:
            for place, name in steps:
                patch.setattr(place, name, stepping(getattr(place, name)))
            rotate(log)
        add(log, "d")
        seen += reader.lines()
        assert seen == ["a", "b", "c", "d"], look_at
        assert count >= 2 * len(steps)


def test_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    add(log, "earlier")
    reader = LogReader(log)
    with log.open("a") as file:
        file.write("half ")
        file.flush()
        assert reader.lines() == []
        rotate(log)
        file.write("and half\n")
    assert reader.lines() == ["half and half"]
    assert LogReader(tmp_path / "none").lines() == []


def test_where_there_is_no_room_for_a_copy_the_log_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left")

    log = tmp_path / "run.log"
    add(log, "long")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    rotate(log)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.log", "")]


def test_the_output_of_flowers_programs_is_bounded_and_none_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LARGEST, "1")
    log, lines = tmp_path / "run.log", 4_000
    code = f"for k in range({lines}): print(k, 'x' * 800)"
    children = Children()
    child = children.start(run_program, ([sys.executable, "-c", code], environment()), log)
    child.join(TIMEOUT)
    children.stop()
    files = [older(log, k) for k in (3, 2, 1)] + [log]
    assert [path.stat().st_size <= MEGABYTE for path in files] == [True] * 4
    text = "".join(path.read_text() for path in files)
    assert text == "".join(f"{k} {'x' * 800}\n" for k in range(lines))


def test_the_output_of_a_child_and_its_children_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LARGEST, "1")
    log, children = tmp_path / "replica_00.log", Children()
    child = children.start(fill, (log, 1.5), log)
    child.join(TIMEOUT)
    children.stop()
    assert child.exitcode == 0
    assert log.read_text().endswith("a last word\n")
    sizes = [log.stat().st_size, older(log, 1).stat().st_size]
    assert sizes[0] < MEGABYTE < sizes[1] <= 1_500_000


def test_a_failure_is_found_although_the_log_began_anew(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    add(log, f'{announce.MARK}old {{"event": "failed", "message": "of an earlier start"}}')
    watch = FailureWatch(log)
    add(log, f"{announce.MARK}key")
    assert not watch.look()
    for number in (1, 2):
        rotate(log)
        add(log, f'{announce.MARK}key {{"event": "failed", "message": "number {number}"}}')
        watch.look()
    assert watch.reason == "number 2"


@pytest.mark.slow
def test_a_superlinks_output_goes_to_its_log(tmp_path: Path) -> None:
    """Which nobody else can read."""
    keys = make_credentials(tmp_path / "keys", (LOOPBACK,), 1)
    keys.operators.write_text("")
    of, log = served(keys), tmp_path / "superlink.log"
    words = ["--port", str(of.port), "--keys", str(keys.directory), "--log", str(log)]
    children, output = Children(), tmp_path / "output.log"
    child = children.start(server.superlink.main, (words,), output)
    link = SuperLink(f"{LOOPBACK}:{of.port}", keys.ca)
    try:
        wait_for(lambda: not child.is_alive() or link.answers(), "it answers")
        wait_for(lambda: not child.is_alive() or "Closed SuperLink" in log.read_text(), "it logs")
    finally:
        children.stop()
    assert "Closed SuperLink" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert output.read_text() == ""


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "100001", "\u0661"])
def test_a_bound_that_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"FED_LOG_SIZE=.*: allowed: a whole number from 1 to"):
        largest_log({LARGEST: text})
    monkeypatch.setenv(LARGEST, text)
    assert run.main(["--scenario", "any.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"run.py: FED_LOG_SIZE={text!r}: allowed: ")


def test_bounds() -> None:
    assert largest_log({}) == 10 * MEGABYTE
    assert largest_log({LARGEST: "3"}) == 3 * MEGABYTE


def test_a_log_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "umask", lambda _: 0)  # this process goes on
    monkeypatch.setattr(logs, "_own", None)
    keys = make_credentials(tmp_path / "keys", (LOOPBACK,), 1)
    log = ["--log", str(tmp_path / "none" / "x.log")]
    client = ["--client-id=0", "--total-clients=1", f"--fed-root={tmp_path / 'state'}"]
    client += ["--superlink=127.0.0.1:1", "--insecure"]
    assert clients.process.main([*client, *log]) == 2
    assert server.superlink.main(["--keys", str(keys.directory), *log]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert lines == [
        f"{name}: --log={log[1]!r}: cannot be written: No such file or directory"
        for name in ("clients.process", "server.superlink")
    ]
