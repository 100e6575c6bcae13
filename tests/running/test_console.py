"""What a run shows, with a terminal and without."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from small import SMALL, merge
from terminal import displayed

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.console import ConsoleSink
from f110_fl.reporting.events import EpisodeEvent, EvaluationEvent, Event, RoundEvent
from f110_fl.reporting.pace import Pace
from f110_fl.training.metrics import means, report, summarise
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


def show(chosen: Scenario, *events: Event, pace: Pace | None = None, **options: Any) -> str:
    stream = StringIO()
    sink = ConsoleSink(chosen, Console(file=stream, **options), pace)
    for event in events:
        sink.handle(event)
    sink.close()
    return stream.getvalue()


def on_terminal(chosen: Scenario, *events: Event, columns: int = 80) -> list[str]:
    """What a terminal shows at the end."""
    output = show(chosen, *events, force_terminal=True, width=columns)
    return displayed(output, columns)


EVENTS = (
    EpisodeEvent(0, episode(1, 60.0, "success")),
    EpisodeEvent(0, episode(1, 7.0, "success", "evaluate")),
    EpisodeEvent(0, episode(2, -10.0, "crash")),
    round_event(),
)


def test_without_a_terminal_a_line_a_round_and_a_last_table() -> None:
    first, headline, header, zero, one = show(scenario(), *EVENTS).splitlines()
    assert first == "round 1/2  2/2 clients  success 50%  return 25.0  updates 0  1.2 s"
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
    assert line.endswith(f"evaluated success 0%  1.2 s  {said}")


def test_with_a_terminal_the_table_is_drawn_in_place() -> None:
    output = show(scenario(), *EVENTS, force_terminal=True, width=100)
    assert "\x1b[?25l" in output  # the cursor is hidden while the table lives,
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # and shown after it
    lines = ESCAPE.sub("", output).replace("\r", "\n").splitlines()
    assert "round 1/2  2/2 clients  success 50%  return 25.0  updates 0  1.2 s" in [
        x.strip() for x in lines
    ]
    assert [line.split() for line in lines][-2:] == [
        ["00", "2/2", "50%", "25.0", "50%", "200", "100%"],
        ["01", "0/2", "-", "-", "-", "-", "-"],
    ]


def test_header_and_bar_are_lines_of_their_own_on_a_terminal() -> None:
    headline, bar, header, zero, one = on_terminal(scenario(), *EVENTS)[-5:]
    assert headline.startswith("small  round 1/2  2/4 episodes")
    assert set(bar) <= set("━╸╺")
    assert header.split()[:2] == ["client", "episodes"]
    assert (zero.split()[0], one.split()[0]) == ("00", "01")


TWO = {
    "env": {"cars": [{"name": "car_0"}, {"name": "car_1"}]},
    "learners": {"car_0": {"algorithm": "td3"}, "car_1": {"algorithm": "td3"}},
}


def test_every_learning_car_is_shown_in_eighty_columns() -> None:
    two = scenario(**TWO, episodes=5000, federated={"clients": 8})
    events = [EpisodeEvent(k, episode(4321, -1234.5 * k, "crash")) for k in range(8)]
    events += [EpisodeEvent(k, episode(4321, 0.0, "success", "evaluate")) for k in range(8)]
    header, *rows = on_terminal(two, *events)[-17:]
    assert header.split()[:3] == ["client", "car", "episodes"]
    first, second = rows[-2:]
    assert first.split() == [*("07", "car_0", "4321/5000", "0%", "-8641.5", "100%", "200", "100%")]
    assert second.split() == ["car_1", "100%", "1.0", "0%", "100%"]
    assert [row.split()[0] for row in rows[::2]] == [f"{k:02d}" for k in range(8)]
    width = header.index("success") + len("success")
    assert all(row[:width].split()[-1].endswith("%") for row in rows)  # below its title


def test_a_round_says_something_of_every_averaged_car() -> None:
    output = show(scenario(**TWO), round_event("car_0", "car_1"))
    assert output.splitlines() == [
        "round 1/2  2/2 clients  1.2 s",
        "  car_0  success 50%  return 25.0  updates 0",
        "  car_1  success 100%  return 1.0  updates 0",
    ]


def test_an_evaluation_says_something_of_every_averaged_car() -> None:
    two = scenario(**TWO)
    episodes = [
        EpisodeResult(9, 1.0, {"car_0": 2.0, "car_1": -1.0}, outcomes, {"car_0": [], "car_1": []})
        for outcomes in ({"car_0": "success", "car_1": "crash"}, {"car_0": "none", "car_1": "none"})
    ]
    found = {
        "round": 1,
        "on": "server",
        "metrics": means("evaluate", episodes, two.learners),
        "cars": report(episodes, two.learners),
    }
    assert show(two, EvaluationEvent(found)).splitlines() == [
        "round 1/2  global model on the server",
        "  car_0  success 50% [9%, 91%]  return 2.0  crash 0%",
        "  car_1  success 0% [0%, 66%]  return -1.0  crash 50%",
    ]


def test_a_car_that_is_not_averaged_is_unknown_of_clients_elsewhere() -> None:
    two = scenario(**TWO, federated={"agents": ["car_1"]})
    event = round_event("car_1")
    metrics = event.summary["metrics"]
    output = show(two, RoundEvent(event.summary | {"by_client": {"00": metrics}}))
    *_, first, second, _, _ = output.splitlines()
    assert first.split() == ["00", "car_0", "2/2", "-", "-", "-", "200", "-"]
    assert second.split() == ["car_1", "100%", "1.0", "0%", "-"]


def test_only_averaged_learners_are_in_a_rounds_metrics() -> None:
    two = scenario(**TWO, federated={"agents": ["car_1"]})
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
