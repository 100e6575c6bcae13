"""What a run shows, with a terminal and without."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.console import ConsoleSink
from f110_fl.reporting.events import EpisodeEvent, RoundEvent
from f110_fl.training.metrics import summarise
from f110_fl.training.records import EpisodeRecord, EpisodeResult

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def scenario(**changes: Any) -> Scenario:
    return Scenario.model_validate(merge(SMALL, changes))


def episode(number: int, value: float, outcome: str, kind: str = "train") -> EpisodeRecord:
    outcomes = {"car_0": outcome, "car_1": "success"}
    result = EpisodeResult(100, 0.5, {"car_0": value, "car_1": 1.0}, outcomes)
    return EpisodeRecord(kind, 1, number, 0, result)  # type: ignore[arg-type]


def round_event(*agents: str, number: int = 1, **changes: Any) -> RoundEvent:
    records = [episode(1, 60.0, "success"), episode(2, -10.0, "crash")]
    metrics = summarise(records, agents or ["car_0"])
    summary = {"round": number, "rounds": 2, "seconds": 1.25, "clients": [0, 1], "dropped": {}}
    return RoundEvent(summary | {"metrics": metrics} | changes)


def show(chosen: Scenario, *events: EpisodeEvent | RoundEvent, **options: Any) -> str:
    stream = StringIO()
    sink = ConsoleSink(chosen, Console(file=stream, **options))
    for event in events:
        sink.handle(event)
    sink.close()
    return stream.getvalue()


EVENTS = (
    EpisodeEvent(0, episode(1, 60.0, "success")),
    EpisodeEvent(0, episode(1, 7.0, "success", "evaluate")),
    EpisodeEvent(0, episode(2, -10.0, "crash")),
    round_event(),
)


def test_without_a_terminal_a_line_a_round_and_a_last_table() -> None:
    first, headline, header, zero, one = show(scenario(), *EVENTS).splitlines()
    assert first == "round 1/2  2/2 clients  success 50%  return 25.0  1.2 s"
    assert re.fullmatch(r"small  round 1/2  2/4 episodes  0:0\d elapsed  ETA 0:0\d *", headline)
    assert header.split() == [
        *("client", "episodes", "success", "return", "crash", "steps/s", "evaluated")
    ]
    assert zero.split() == ["00", "2/2", "50%", "25.0", "50%", "200", "100%"]
    assert one.split() == ["01", "0/2", "-", "-", "-", "-", "-"]


def test_without_a_terminal_nothing_is_drawn_in_place() -> None:
    assert "\x1b" not in show(scenario(), *EVENTS)
    assert show(scenario()) == ""


def test_a_rounds_line_is_one_line_however_long() -> None:
    evaluated = round_event().summary["metrics"] | {"evaluate/episodes": 5.0}
    dropped = {str(k): "no answer in time" for k in range(40)} | {"40": "update norm 9 exceeds 1"}
    event = round_event(metrics=evaluated, dropped=dropped)
    (line,) = show(scenario(), event, width=60).splitlines()
    late = ", ".join(map(str, range(40)))
    said = f"dropped {late} (no answer in time), 40 (update norm 9 exceeds 1)"
    assert line.endswith(f"evaluated success 0%  {said}")


def test_with_a_terminal_the_table_is_drawn_in_place() -> None:
    output = show(scenario(), *EVENTS, force_terminal=True, width=100)
    assert "\x1b[?25l" in output  # the cursor is hidden while the table lives,
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # and shown after it
    lines = ESCAPE.sub("", output).replace("\r", "\n").splitlines()
    assert "round 1/2  2/2 clients  success 50%  return 25.0  1.2 s" in [x.strip() for x in lines]
    assert [line.split() for line in lines][-2:] == [
        ["00", "2/2", "50%", "25.0", "50%", "200", "100%"],
        ["01", "0/2", "-", "-", "-", "-", "-"],
    ]


def test_only_averaged_learners_are_in_a_rounds_metrics() -> None:
    two = scenario(
        env={"cars": [{"name": "car_0"}, {"name": "car_1"}]},
        learners={"car_0": {"algorithm": "td3"}, "car_1": {"algorithm": "td3"}},
        federated={"agents": ["car_1"]},
    )
    output = show(two, EVENTS[0], round_event("car_1"))
    assert output.startswith("round 1/2  2/2 clients  success 100%  return 1.0")


def test_rates_are_those_of_the_last_episodes() -> None:
    events = [EpisodeEvent(0, episode(k, 0.0, "crash")) for k in range(1, 31)]
    events += [EpisodeEvent(0, episode(k, 2.0, "success")) for k in range(31, 46)]
    row = show(scenario(episodes=100), *events).splitlines()[-2].split()
    assert row == ["00", "45/100", "75%", "1.5", "25%", "200", "-"]  # 15 of 20


@pytest.mark.parametrize("enabled", [True, False])
def test_rounds_are_counted_only_where_there_are_any(enabled: bool) -> None:
    output = show(scenario(federated={"enabled": enabled}), EVENTS[0])
    assert ("round 0/2" in output) == enabled
