"""What a run shows, with a terminal and without."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from small import SMALL, merge
from terminal import displayed

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.console import ConsoleSink, evaluation_table, print_table
from f110_fl.reporting.events import EpisodeEvent, EvaluationEvent, Event, RoundEvent
from f110_fl.reporting.learning import lines_by_agent
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
    events = [EpisodeEvent(0, episode(k, 0.0, "crash")) for k in range(1, 131)]
    events += [EpisodeEvent(0, episode(k, 2.0, "success")) for k in range(131, 206)]
    row = show(scenario(episodes=300), *events).splitlines()[-2].split()
    assert row == ["00", "205/300", "75%", "1.5", "25%", "200", "-"]  # 75 of 100


def test_an_evaluations_rate_is_that_of_all_its_episodes_and_no_others() -> None:
    events = [EpisodeEvent(0, episode(k, 0.0, "crash")) for k in range(1, 9)]
    events += [EpisodeEvent(0, episode(4, 0.0, "crash", kind="evaluate"))] * 50
    for outcome in ("crash", "success"):
        events += [EpisodeEvent(0, episode(8, 0.0, outcome, kind="evaluate"))] * 75
    row = show(scenario(episodes=100), *events).splitlines()[-2].split()
    assert row[-1] == "50%"


@pytest.mark.parametrize("enabled", [True, False])
def test_rounds_are_counted_only_where_there_are_any(enabled: bool) -> None:
    output = show(scenario(federated={"enabled": enabled}), EVENTS[0])
    assert ("round 0/2" in output) == enabled


# ---------------------------------------------------------------------- learning


def learned(number: int, client: int = 0, **changes: Any) -> EpisodeEvent:
    """An episode with updates, losses and laps."""
    record = episode(number, 1.0, "success")
    laps = {"car_0": [10.0, 9.0 + client], "car_1": []}
    values: dict[str, Any] = {
        "losses": {"car_0/actor_loss": -0.5, "car_0/critic_loss": 0.25, "car_0/entropy": 7.0},
        "updates": {"car_0": 1500},
        "result": replace(record.result, lap_times=laps),
    }
    return EpisodeEvent(client, replace(record, **(values | changes)))


def test_losses_updates_and_lap_times_are_shown() -> None:
    quiet = {"losses": {}, "updates": {"car_0": 0}, "result": episode(2, 1.0, "crash").result}
    events = [learned(1), learned(1, 1), learned(2, 0, **quiet)]
    line = "  car_0  updates 3,000  lap 9.75 s, best 9.00 s  actor loss -0.5  critic loss 0.25"
    assert show(scenario(), *events, width=100).splitlines()[-1] == line
    shown = on_terminal(scenario(), *events, columns=100)
    assert shown[-1] == line
    narrow = on_terminal(scenario(), *events, columns=60)
    assert [x.strip() for x in narrow[-2:]] == [
        "car_0  updates 3,000  lap 9.75 s, best 9.00 s",
        "actor loss -0.5  critic loss 0.25",
    ]


def test_after_a_rounds_line_comes_what_was_learned() -> None:
    lines = show(scenario(), learned(1), learned(1, 1), round_event()).splitlines()
    assert lines[0].startswith("round 1/2  2/2 clients")
    assert lines[1] == "  car_0  lap 9.75 s, best 9.00 s  actor loss -0.5  critic loss 0.25"


def test_nothing_is_zero_that_was_not_measured() -> None:
    output = show(
        scenario(), EpisodeEvent(0, episode(0, 7.0, "success", "evaluate")), learned(1, 1)
    )
    zero, one = (line.split() for line in output.splitlines()[2:4])
    assert zero == ["00", "0/2", "-", "-", "-", "-", "100%"]
    assert one[:5] == ["01", "1/2", "100%", "1.0", "0%"]
    snapshot = replace(episode(1, 5.0, "success").result, snapshots={"car_0": 3})
    two = scenario(**TWO)
    driven = EpisodeEvent(0, replace(episode(1, 5.0, "success"), result=snapshot))
    first, second = (line.split() for line in show(two, driven).splitlines()[2:4])
    assert first == ["00", "car_0", "1/2", "-", "-", "-", "200", "-"]  # it did not drive itself
    assert second == ["car_1", "100%", "1.0", "0%", "-"]


def test_what_a_resumed_client_repeats_counts_once() -> None:
    stream, clock = StringIO(), [0.0]
    pace = Pace(scenario(episodes=50), [2, 0], resumed=True, clock=lambda: clock[0])
    sink = ConsoleSink(scenario(episodes=50), Console(file=stream, width=100), pace)
    for number in (1, 2, 3, 4):  # 3 and 4 were not saved
        sink.handle(learned(number))
    sink.begin()
    clock[0] = 10.0
    assert pace.remaining(sum(row.episodes for row in sink._rows)) is None
    sink.handle(learned(3))
    assert pace.remaining(3) == pytest.approx(10.0 * 97)
    sink.close()
    assert "3/100 episodes" in stream.getvalue()
    assert "updates 6,000" in stream.getvalue()  # the repeated episode is among the four


# ---------------------------------------------------------------------- lines without events


def test_without_a_terminal_a_line_says_how_far_it_is_if_none_did_for_long() -> None:
    stream, clock = StringIO(), [0.0]
    sink = ConsoleSink(
        scenario(federated={"enabled": False}),
        Console(file=stream, width=80),
        Pace(scenario(), clock=lambda: clock[0]),
    )

    def after(seconds: float) -> list[str]:
        clock[0] += seconds
        sink.tick()
        found = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return found

    assert after(29.0) == []
    assert after(1.0) == ["0/4 episodes  0:30 elapsed  ETA -"]
    assert after(29.0) == []
    sink.handle(learned(1))
    line, more = after(30.0)
    assert line == "1/4 episodes  1:29 elapsed  ETA 4:27  success 100%  return 1.0  updates 1,500"
    assert more == "  lap 9.50 s, best 9.00 s  actor loss -0.5  critic loss 0.25"
    assert after(29.9) == []


def test_a_terminal_needs_no_such_lines() -> None:
    stream, clock = StringIO(), [0.0]
    console = Console(file=stream, force_terminal=True)
    sink = ConsoleSink(scenario(), console, Pace(scenario(), clock=lambda: clock[0]))
    clock[0] = 1000.0
    sink.tick()
    sink.close()
    assert "round 0/2" in stream.getvalue()  # in the headline, behind the name
    assert not re.search(r"^ *round", ESCAPE.sub("", stream.getvalue()), re.MULTILINE)


@given(
    agents=st.lists(st.sampled_from(["a", "car_0", "a-long-name"]), unique=True, min_size=1),
    words=st.lists(st.text("abc 123", min_size=1, max_size=40), max_size=8),
)
def test_no_line_is_wider_than_a_hundred_columns(agents: list[str], words: list[str]) -> None:
    lines = lines_by_agent("1/4 episodes", [(agent, words) for agent in agents])
    assert all(len(line) <= 100 for line in lines)
    text = " ".join(lines)
    assert all(text.count(word) >= len(agents) for word in words)


# ---------------------------------------------------------------------- evaluations


def evaluation(*outcomes: str) -> dict[str, Any]:
    episodes = [
        EpisodeResult(9, 1.0, {"car_0": -100.0}, {"car_0": outcome, "car_1": "time_limit"})
        for outcome in outcomes
    ]
    return report(episodes, ["car_0", "car_1"])


def printed(table: Table, width: int) -> list[str]:
    stream = StringIO()
    print_table(Console(file=stream, width=width), table)
    return stream.getvalue().splitlines()


def test_an_evaluation_says_how_many_episodes_the_time_limit_ended() -> None:
    found = evaluation("success", "crash", "time_limit", "time_limit", "idle")
    titles, first, second, _ = printed(evaluation_table(found), 100)
    end = titles.index("time limit") + len("time limit")
    assert first[:end].endswith(" 40.0%")
    assert second[:end].endswith(" 100.0%")
    titles, first, *_ = printed(evaluation_table(evaluation("success")), 100)
    assert first[: titles.index("time limit") + len("time limit")].endswith(" 0.0%")


def test_a_table_is_whole_however_narrow_the_console() -> None:
    found = evaluation("success", "crash")
    wide, narrow = (printed(evaluation_table(found), width) for width in (200, 30))
    assert wide == narrow
    assert "…" not in "".join(narrow)


# ---------------------------------------------------------------------- resumed runs


def test_what_earlier_sessions_told_is_not_told_again() -> None:
    stream = StringIO()
    pace = Pace(scenario(), [1, 1], resumed=True)
    sink = ConsoleSink(scenario(), Console(file=stream), pace)
    for event in (learned(1), learned(1, 1), round_event()):
        sink.handle(event)
    assert stream.getvalue() == ""
    sink.begin()
    sink.handle(round_event(number=2))
    assert [line[:11] for line in stream.getvalue().splitlines()[:2]] == [
        "Resumed    ",
        "round 2/2  ",
    ]
    assert stream.getvalue().splitlines()[0].endswith("round 1/2, 2/4 episodes")
