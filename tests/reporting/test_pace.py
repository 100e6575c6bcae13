"""How long a run takes, said in time, and what would shorten it."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.console import ConsoleSink
from f110_fl.reporting.events import EpisodeEvent, RoundEvent
from f110_fl.reporting.pace import Pace
from f110_fl.rundir import RunDir
from f110_fl.runs.session import Session
from f110_fl.training.metrics import summarise
from f110_fl.training.records import EpisodeKind, EpisodeRecord, EpisodeResult

HOUR = 3600.0  # s
MINUTE = 60.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(merge(SMALL, {"episodes": 1000} | changes))


def episode(number: int, kind: EpisodeKind = "train", seconds: float = 1.0) -> EpisodeRecord:
    result = EpisodeResult(100, seconds, {"car_0": 1.0}, {"car_0": "crash"})
    return EpisodeRecord(kind, 1, number, 0, result)


def round_event(number: int) -> RoundEvent:
    metrics = summarise([episode(1)], ["car_0"])
    summary = {"round": number, "rounds": 1000, "seconds": 1.0, "clients": [0], "dropped": {}}
    return RoundEvent(summary | {"metrics": metrics})


class Shown:
    """A console without a terminal, its sink and their clock."""

    def __init__(self, chosen: Scenario, earlier: tuple[int, ...] = (), **options: Any) -> None:
        self.clock, self.stream = Clock(), StringIO()
        self.pace = Pace(chosen, earlier, clock=self.clock, **options)
        self.sink = ConsoleSink(chosen, Console(file=self.stream, width=80), self.pace)

    def after(self, seconds: float, *events: EpisodeEvent | RoundEvent) -> list[str]:
        """Returns what is new after events that come so much later."""
        self.clock.now += seconds
        for event in events:
            self.sink.handle(event)
        found = self.stream.getvalue().splitlines()
        self.stream.seek(0)
        self.stream.truncate()
        return found


def test_a_long_run_is_said_once_after_its_first_minute() -> None:
    shown = Shown(scenario())
    assert shown.after(50.0, EpisodeEvent(0, episode(1))) == []
    line, *ways = shown.after(50.0, EpisodeEvent(1, episode(1)))  # 50 s each, of 2000
    assert line == "At this pace the run takes 1 d 4 h more. Shorter, in a new run with:"
    assert all(len(way) < 80 for way in ways)
    assert shown.after(HOUR, EpisodeEvent(0, episode(2))) == []


def test_a_round_before_that_says_little_of_the_others() -> None:
    """Starting is much of its time."""
    shown = Shown(scenario(episodes=100_000))
    (line,) = shown.after(15.0, EpisodeEvent(0, episode(1)), round_event(1))
    assert line.startswith("round 1/")


def test_a_short_run_is_left_alone() -> None:
    shown = Shown(scenario())
    assert shown.after(10 * MINUTE, EpisodeEvent(0, episode(20))) == []


def ways(chosen: Scenario, *events: EpisodeEvent, **options: Any) -> dict[str, str]:
    shown = Shown(chosen, **options)
    lines = shown.after(HOUR, *events, EpisodeEvent(0, episode(1)))
    return dict(line.strip().split("  ", 1) for line in lines[1:])


def test_only_what_applies_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    off_policy = ways(scenario(federated={"clients": 3}), parallel=1)
    assert {flag: why.strip() for flag, why in off_policy.items()} == {
        "--max-parallel N": "more than 1 of 3 clients (8 cores)",
        "--episodes N": "fewer than 1000",
        "--collect-workers N": "more than 1 environments at a time",
        "--set learners.car_0.update_every=N": "more than 1 steps per update",
    }
    ppo = scenario(collect={"num_envs": 64})
    ppo = ppo.model_copy(update={"learners": {"car_0": PPO}})
    assert list(ways(ppo, parallel=2)) == ["--episodes N"]
    assert list(ways(ppo, parallel=None)) == ["--episodes N"]
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert list(ways(ppo, parallel=1)) == ["--episodes N"]


PPO = Scenario.model_validate(SMALL | {"learners": {"car_0": {"algorithm": "ppo"}}}).learners[
    "car_0"
]


def test_evaluations_are_mentioned_if_they_take_long() -> None:
    slow = EpisodeEvent(0, episode(0, "evaluate", 0.5))
    assert "fewer than 1 (33% of the time)" in ways(scenario(), slow)["--eval-episodes N"]
    quick = EpisodeEvent(0, episode(0, "evaluate", 0.1))
    assert "--eval-episodes N" not in ways(scenario(), quick)


def test_a_resumed_runs_settings_are_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert list(ways(scenario(), resumed=True, parallel=1)) == ["--max-parallel N"]
    shown = Shown(scenario(), resumed=True, parallel=2)
    (line,) = shown.after(HOUR, EpisodeEvent(0, episode(1)))
    assert line.endswith("more.")


def test_only_this_sessions_episodes_tell_how_fast_it_is() -> None:
    """900 of 1000 episodes came earlier; the next ten take ten minutes."""
    shown = Shown(scenario(federated={"clients": 1}), (900,), resumed=True)
    old = [EpisodeEvent(0, episode(k)) for k in range(1, 901)]  # the files tell of these again
    shown.after(1.0, *old)
    assert shown.pace.remaining(900) is None
    shown.after(599.0, *(EpisodeEvent(0, episode(k)) for k in range(901, 911)))
    shown.sink.close()
    headline = shown.stream.getvalue().splitlines()[0]
    assert headline.split("  ")[-3:] == ["910/1000 episodes", "10:00 elapsed", "ETA 1:30:00"]


def test_days_are_days() -> None:
    shown = Shown(scenario())
    shown.after(HOUR, EpisodeEvent(0, episode(10)))
    shown.sink.close()
    assert "ETA 8 d 7 h" in shown.stream.getvalue()


def test_what_was_not_saved_is_no_progress_of_this_session() -> None:
    """Of 2000 episodes, 1840 were run and 1800 saved; the next ten take ten minutes."""
    shown = Shown(scenario(), (900, 900), resumed=True)
    for client in (0, 1):
        shown.after(0.0, *(EpisodeEvent(client, episode(k)) for k in range(1, 921)))
    shown.sink.begin()
    shown.after(300.0)
    assert shown.pace.remaining(1800) is None
    shown.after(300.0, *(EpisodeEvent(0, episode(k)) for k in range(901, 911)))
    shown.sink.close()  # the other client waits for its turn
    headline = shown.stream.getvalue().splitlines()[0]
    assert headline.split("  ")[-3:] == ["1810/2000 episodes", "10:00 elapsed", "ETA 3:10:00"]


def test_a_session_tells_what_earlier_ones_left_before_it_begins(tmp_path: Path) -> None:
    """An estimate that is based on the files alone would be 0:00 at once."""
    chosen = scenario(federated={"enabled": False, "clients": 1})
    rundir = RunDir(tmp_path)
    rundir.client(0).mkdir(parents=True)
    lines = [episode(k).to_json() + "\n" for k in range(1, 951)]
    rundir.episodes(0).write_text("".join(lines))
    shown = Shown(chosen, (900,), resumed=True)
    with Session(rundir, [shown.sink], 1) as session:
        shown.clock.now += 60.0
        session.forward()
        assert shown.pace.remaining(900) is None
        rundir.episodes(0).write_text("".join(lines[:900]))  # the client opens its state
        session.forward()
        with rundir.episodes(0).open("a") as file:
            file.writelines(lines[900:910])
    headline = shown.stream.getvalue().splitlines()[-3]
    assert headline.strip().endswith("910/1000 episodes  1:00 elapsed  ETA 9:00")
