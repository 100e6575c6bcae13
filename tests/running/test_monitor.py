"""Following a run's files while they grow."""

from __future__ import annotations

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.reporting import announce
from f110_fl.reporting.events import EpisodeEvent, Event, Monitor, RoundEvent, Sinks
from f110_fl.rundir import RunDir
from f110_fl.training.records import EpisodeRecord, EpisodeResult


def record(episode: int, server_round: int = 1) -> EpisodeRecord:
    return EpisodeRecord(
        kind="train",
        round=server_round,
        episode=episode,
        env_steps=10 * episode,
        result=EpisodeResult(10, 0.5, {"car_0": float(episode)}, {"car_0": "none"}),
    )


def write(rundir: RunDir, client_id: int, *episodes: int) -> None:
    rundir.client(client_id).mkdir(parents=True, exist_ok=True)
    with rundir.episodes(client_id).open("a") as file:
        file.writelines(record(episode).to_json() + "\n" for episode in episodes)


def complete(rundir: RunDir, server_round: int) -> None:
    with rundir.rounds.open("a") as file:
        file.write(json.dumps({"round": server_round}) + "\n")


def brief(events: list[Event]) -> list[tuple[int | str, int]]:
    """Returns (client or "round", number) of each event."""
    return [
        (event.client_id, event.record.episode)
        if isinstance(event, EpisodeEvent)
        else ("round", event.summary["round"])
        for event in events
    ]


def test_nothing_yet(tmp_path: Path) -> None:
    monitor = Monitor(RunDir(tmp_path / "not there yet"), 11)
    assert monitor.poll() == monitor.poll() == []


def test_everything_is_told_once_and_as_it_was_written(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    monitor = Monitor(rundir, 11)
    write(rundir, 0, 1)
    complete(rundir, 1)
    assert monitor.poll() == [EpisodeEvent(0, record(1)), RoundEvent({"round": 1})]
    assert monitor.poll() == []
    write(rundir, 0, 2)
    assert monitor.poll() == [EpisodeEvent(0, record(2))]


def test_clients_that_appear_later_and_order(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    monitor = Monitor(rundir, 11)
    write(rundir, 10, 1)
    assert brief(monitor.poll()) == [(10, 1)]
    write(rundir, 2, 1, 2)
    write(rundir, 10, 2)
    complete(rundir, 1)
    # A round's episodes come before the round, which is complete only after them.
    assert brief(monitor.poll()) == [(2, 1), (2, 2), (10, 2), ("round", 1)]


@given(st.lists(st.integers(0, 400), max_size=8))
def test_lines_are_whole_however_they_arrive(cuts: list[int]) -> None:
    data = "".join(record(episode).to_json() + "\n" for episode in (1, 2, 3)).encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    with tempfile.TemporaryDirectory() as folder:
        rundir = RunDir(Path(folder))
        rundir.client(0).mkdir(parents=True)
        monitor, told = Monitor(rundir, 11), []
        for start, end in pairwise(places):
            with rundir.episodes(0).open("ab") as file:
                file.write(data[start:end])
            told += monitor.poll()
            assert len(told) == data[:end].count(b"\n")
    assert told == [EpisodeEvent(0, record(episode)) for episode in (1, 2, 3)]


def test_a_client_that_takes_back_episodes(tmp_path: Path) -> None:
    """A client that is opened after a failed round cuts the round's episodes off its file."""
    rundir = RunDir(tmp_path)
    monitor = Monitor(rundir, 11)
    write(rundir, 0, 1)
    kept = rundir.episodes(0).read_bytes()
    write(rundir, 0, 2, 3)
    assert brief(monitor.poll()) == [(0, 1), (0, 2), (0, 3)]
    rundir.episodes(0).write_bytes(kept)
    assert monitor.poll() == []
    write(rundir, 0, 2)
    assert brief(monitor.poll()) == [(0, 2)]


def test_a_client_that_takes_back_episodes_and_goes_on_unseen(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    monitor = Monitor(rundir, 11)
    write(rundir, 0, 1)
    kept = rundir.episodes(0).read_bytes()
    write(rundir, 0, 2)
    assert len(monitor.poll()) == 2
    rundir.episodes(0).write_bytes(kept)
    write(rundir, 0, 1000, 1001, 1002)  # longer lines: the end seen last is inside one
    assert brief(monitor.poll()) == [(0, 1001), (0, 1002)]
    write(rundir, 0, 1003)
    assert brief(monitor.poll()) == [(0, 1003)]


def test_what_is_no_clients_directory_is_passed_over(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    write(rundir, 0, 1)
    for name in ("00.bak", "0", "07", "best", "-1"):
        (rundir.clients / name).mkdir()
        (rundir.clients / name / "episodes.jsonl").write_text(record(1).to_json() + "\n")
    (rundir.clients / "01" / "episodes.jsonl").mkdir(parents=True)  # a directory
    assert brief(Monitor(rundir, 2).poll()) == [(0, 1)]


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.client(0).mkdir(parents=True)
    whole = record(1).to_json().encode()
    lines = (b"", b"{}", b"7", b'{"kind": "train"}', b"\0" * 9, b"\xff\xfe{}", b"[" * 9999)
    rundir.episodes(0).write_bytes(b"\n".join([*lines, whole, b""]))
    rundir.rounds.write_bytes(b"\n".join([*lines, b'{"round": 1}', b'{"roun']))
    assert brief(Monitor(rundir, 1).poll()) == [(0, 1), ("round", 1)]


class Failing:
    """Fails when it is told of a round."""

    def __init__(self) -> None:
        self.told: list[Event | str] = []

    def handle(self, event: Event) -> None:
        self.told.append(event)
        if isinstance(event, RoundEvent):
            raise ZeroDivisionError("nothing to show")

    def close(self) -> None:
        self.told.append("closed")


def test_a_sink_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = [EpisodeEvent(0, record(1)), RoundEvent({}), EpisodeEvent(0, record(2))]
    failing, others = Failing(), [Failing(), Failing()]
    sinks = Sinks([others[0], failing, others[1]])
    for other in others:
        other.handle = other.told.append  # type: ignore[method-assign]
    for event in events:
        sinks.handle(event)
    sinks.close()
    assert failing.told == events[:2]
    assert [other.told for other in others] == [[*events, "closed"]] * 2
    line = "Failing: ZeroDivisionError: nothing to show; the run goes on\n"
    assert capsys.readouterr().err == line


def test_announced_events_are_found_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"message": f"{announce.MARK}within"}
    announce.begin()
    announce.announce(announce.FAILED, values)
    first, line = capsys.readouterr().out.splitlines()
    announcements = announce.Announcements()
    assert announcements.read("INFO: a line") is None
    assert announcements.read(first) is None
    assert announcements.read(line) == {"event": "failed"} | values
    for other in (line[:-2], f"{first} 7", f"{first} {{}}", f"12:00 INFO: {line}"):
        assert announcements.read(other) is None


def test_what_a_client_writes_into_the_log_is_no_event(capsys: pytest.CaptureFixture[str]) -> None:
    announce.begin()
    announce.announce(announce.ROUND, {"round": 1})
    first, line = capsys.readouterr().out.splitlines()
    key = first.removeprefix(announce.MARK)
    assert len(key) == 32
    announcements = announce.Announcements()
    assert announcements.read(first) is None
    event = json.dumps({"event": announce.FAILED, "message": "ended by a client"})
    for forged in (
        f"{announce.MARK}{event}",  # as events were before they had a key
        f"{announce.MARK}{'0' * 32} {event}",
        f"{announce.MARK} {event}",
        f"{announce.MARK}{key[:-1]} {event}",
        f"{announce.MARK}{key}{event}",
    ):
        assert announcements.read(forged) is None
        assert announcements.read(f"client 3: {forged}") is None
    assert announcements.read(line) == {"event": "round", "round": 1}
