"""Shows a run's live progress and the results of evaluations."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from f110_fl.config.scenario import Scenario
from f110_fl.federation.accounting import told
from f110_fl.reporting.events import EpisodeEvent, EvaluationEvent, Event, RoundEvent
from f110_fl.reporting.learning import (
    WIDTH,
    agents_lines,
    learning_words,
    lines_by_agent,
    rate_words,
    update_words,
)
from f110_fl.reporting.pace import Pace
from f110_fl.reporting.summary import in_bytes
from f110_fl.training.metrics import UPDATES, metric_name, summarise, total_name
from f110_fl.training.records import EpisodeKind, EpisodeRecord

WINDOW = 100  # number of latest training episodes in the rates, more than end in a step
SILENCE: Final = 30.0  # s without a line, after which one tells how far the run is

MUCH: Final = 2**30  # bytes of rounds' files, from which they are told of

# Columns of training episodes: title, measure (of `metrics.MEASURES`), how it is written.
MEASURED: Final = (
    ("success", "success-rate", ".0%"),
    ("return", "return", ".1f"),
    ("crash", "crash-rate", ".0%"),
)

Metrics: TypeAlias = Mapping[str, float]  # a round's or an evaluation's, by name


@dataclass
class _Row:
    """What is known of one client."""

    episodes: int = 0
    recent: deque[EpisodeRecord] = field(default_factory=lambda: deque(maxlen=WINDOW))
    evaluations: list[EpisodeRecord] = field(default_factory=list)  # of the latest evaluation
    last: Metrics = field(default_factory=dict)  # the last round's, of a client elsewhere
    updates: Counter[str] = field(default_factory=Counter)  # by learner, in all episodes
    counted: int = 0  # episodes whose updates are counted

    def take(self, record: EpisodeRecord) -> None:
        """Take the next episode."""
        if record.kind == "evaluate":
            if self.evaluations and self.evaluations[-1].episode != record.episode:
                self.evaluations = []
            self.evaluations.append(record)
            return
        self.episodes = record.episode
        self.recent.append(record)
        if record.episode > self.counted:  # a resumed client repeats what it had not saved
            self.counted = record.episode
            self.updates.update(record.updates)

    def forget(self, saved: int) -> None:
        """Leave out the episodes that a resumed client is going to repeat."""
        self.episodes = min(self.episodes, saved)
        kept = [record for record in self.recent if record.episode <= saved]
        self.recent = deque(kept, maxlen=WINDOW)


class ConsoleSink:
    """Shows a live table or, without a terminal, lines: per round, and when there was none.

    The table has a row for each client and learning car, and below it what is known of each
    learner: updates, lap times, losses.

    Args:
        scenario: The run's scenario.
        console: Where to show it.
        pace: Of this session; by default that of a new run.
    """

    def __init__(self, scenario: Scenario, console: Console, pace: Pace | None = None) -> None:
        self._scenario = scenario
        self._console = console
        self._pace = pace or Pace(scenario)
        self._rows = [_Row(episodes) for episodes in self._pace.earlier]
        self._rounds = 0
        self._sized = False  # whether the size of the rounds' files was told
        self._begun = not self._pace.resumed
        self._said = self._pace.elapsed()  # when the last line was
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=4,
            transient=True,
            auto_refresh=console.is_terminal,
        )
        if console.is_terminal:
            self._live.start()

    def begin(self) -> None:
        """Take what was told so far for what earlier sessions left, and a resumed one begins with.

        What they had not saved is not there any more. Their rounds are not told again.
        """
        self._begun = True
        for row, saved in zip(self._rows, self._pace.earlier, strict=True):
            row.forget(saved)
        if self._pace.resumed:
            rounds = self._heading()[0] + ", " if self._rounds else ""
            self._say([f"Resumed         {rounds}{self._done}/{self._pace.total} episodes"])

    def tick(self) -> None:
        """Without a terminal, say how far the run is if nothing was said for `SILENCE`."""
        if not self._console.is_terminal and self._pace.elapsed() - self._said >= SILENCE:
            self._say(self._progress_lines())

    def handle(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, EpisodeEvent):
            self._take(event)
        elif isinstance(event, EvaluationEvent):
            self._say(self._evaluation_lines(event) if self._begun else ())
        else:
            self._rounds = event.summary["round"]
            # The only data about clients on other machines.
            for client_id, metrics in event.summary.get("by_client", {}).items():
                row = self._rows[int(client_id)]
                row.episodes += int(metrics[total_name("train", "episodes")])
                row.last = metrics
            if self._begun:
                self._say(self._round_lines(event) + self._learning_lines())
                self._say(self._file_lines(event.summary))
        self._say(self._pace.warning(self._done))

    def close(self) -> None:
        """Print the last table."""
        if self._console.is_terminal:
            self._live.stop()
        if any(row.episodes for row in self._rows):
            self._console.print(self._render())

    def _take(self, event: EpisodeEvent) -> None:
        self._pace.count(event.record)
        self._rows[event.client_id].take(event.record)

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._console.out(line, highlight=False)
            self._said = self._pace.elapsed()

    @property
    def _done(self) -> int:
        return sum(row.episodes for row in self._rows)

    def _round_lines(self, event: RoundEvent) -> list[str]:
        summary, metrics = event.summary, event.summary["metrics"]
        start = f"round {summary['round']}/{summary['rounds']}  "
        start += f"{len(summary['clients'])}/{len(self._rows)} clients"
        end = f"{summary['seconds']:.1f} s"
        privacy = self._scenario.federated.privacy
        if "privacy" in summary:
            end += f"  {told(privacy, summary['privacy'])}"
        if summary["dropped"]:
            by_reason: dict[str, list[str]] = {}
            for client, reason in summary["dropped"].items():
                by_reason.setdefault(reason, []).append(client)
            groups = (f"{', '.join(who)} ({why})" for why, who in by_reason.items())
            end += f"  dropped {', '.join(groups)}"
        evaluated = bool(metrics[total_name("evaluate", "episodes")])

        def of_car(agent: str) -> str:
            words = f"success {_mean(metrics, 'train', agent, 'success-rate', '.0%')}"
            words += f"  return {_mean(metrics, 'train', agent, 'return', '.1f')}"
            words += f"  updates {_mean(metrics, 'train', agent, UPDATES, '.0f')}"
            if evaluated:
                rate = _mean(metrics, "evaluate", agent, "success-rate", ".0%")
                words += f"  evaluated success {rate}"
            return words

        return self._by_car(start, of_car, end)

    def _file_lines(self, summary: Mapping[str, Any]) -> list[str]:
        """Return a line, once, if the rounds' files are going to take much of a disk."""
        each, keep = summary.get("bytes", 0), self._scenario.federated.keep_rounds
        rounds = {"all": self._scenario.rounds, "best": 2}.get(str(keep)) or int(keep) + 1
        if self._sized or each * rounds < MUCH:
            return []
        self._sized = True
        kept = f"{in_bytes(each * rounds)} after {self._scenario.rounds}"
        return [
            f"Rounds' files   {in_bytes(each)} a round, {kept}; federated.keep_rounds is {keep}"
        ]

    def _evaluation_lines(self, event: EvaluationEvent) -> list[str]:
        found, metrics, on = event.found, event.found["metrics"], event.found["on"]
        where = "the server" if on == "server" else f"{len(found['by_client'])} clients"
        start = f"round {found['round']}/{self._scenario.rounds}  global model on {where}"
        if not metrics:
            return [f"{start}  no usable answer"]

        def of_car(agent: str) -> str:
            words = f"success {_mean(metrics, 'evaluate', agent, 'success-rate', '.0%')}"
            if on == "server":
                rate = found["cars"][agent]["outcomes"]["success"]
                words += f" [{rate['low']:.0%}, {rate['high']:.0%}]"
            words += f"  return {_mean(metrics, 'evaluate', agent, 'return', '.1f')}"
            crash = _mean(metrics, "evaluate", agent, "crash-rate", ".0%")
            return f"{words}  crash {crash}"

        best, end = found.get("best"), ""
        if best:
            end = f"{'kept as the best' if best['kept'] else 'not the best'}: {best['why']}"
        return self._by_car(start, of_car, end)

    def _progress_lines(self) -> list[str]:
        """Return how far the run is, and what the latest episodes of all clients tell."""
        recent = self._recent()
        evaluated = [record for row in self._rows for record in row.evaluations]
        words = [
            (agent, [*rate_words([*recent, *evaluated], agent), *self._learned(recent, agent)])
            for agent in self._scenario.learners
        ]
        return lines_by_agent("  ".join(self._heading()), words)

    def _learning_lines(self) -> list[str]:
        """Return a line for each learner of whose learning the latest episodes tell something."""
        recent = self._recent()
        return agents_lines([(a, learning_words(recent, a)) for a in self._scenario.learners])

    def _recent(self) -> list[EpisodeRecord]:
        """Return the latest training episodes of all clients."""
        return [record for row in self._rows for record in row.recent]

    def _learned(self, recent: list[EpisodeRecord], agent: str) -> list[str]:
        """Return a learner's updates in all clients, and what their latest episodes tell."""
        counts = [row.updates[agent] for row in self._rows if agent in row.updates]
        updates = update_words(sum(counts) if counts else None)
        return updates + learning_words(recent, agent)

    def _by_car(self, start: str, of_car: Callable[[str], str], end: str = "") -> list[str]:
        """Return a line about the averaged learner or, of several, a further line about each."""
        agents = self._scenario.federated_agents
        if len(agents) == 1:
            return ["  ".join(filter(None, (start, of_car(agents[0]), end)))]
        width = max(map(len, agents))
        lines = (f"  {agent:<{width}}  {of_car(agent)}" for agent in agents)
        return ["  ".join(filter(None, (start, end))), *lines]

    def _render(self) -> Group:
        agents = list(self._scenario.learners)
        table = Table(box=None, pad_edge=False)
        cars = ["car"] if len(agents) > 1 else []
        measured = (title for title, _, _ in MEASURED)
        for name in ("client", *cars, "episodes", *measured, "steps/s", "evaluated"):
            table.add_column(name, justify="right", no_wrap=True)
        for client_id, row in enumerate(self._rows):
            metrics = self._metrics(row)
            for agent in agents:
                first = agent == agents[0]  # what all cars share is said once
                of_client = (f"{client_id:02d}", f"{row.episodes}/{self._scenario.episodes}")
                name, episodes = of_client if first else ("", "")
                shown = [agent] if cars else []
                table.add_row(name, *shown, episodes, *_cells(metrics, agent, speed=first))
        parts: list[RenderableType] = [self._headline(), table]
        if self._console.is_terminal:
            bar = ProgressBar(total=self._pace.total, completed=self._done)
            parts.insert(1, Padding(bar, 0))  # which ends the bar's line: a bar alone does not
        recent = self._recent()
        learned = [(agent, self._learned(recent, agent)) for agent in agents]
        parts += map(Text, agents_lines(learned, min(WIDTH, self._console.width)))
        return Group(*parts)

    def _metrics(self, row: _Row) -> Metrics:
        """Return a client's metrics over its latest episodes; none before the first."""
        records = [*row.recent, *row.evaluations]
        if row.last or not records:
            return row.last
        agents = list(self._scenario.learners)
        found = summarise(records, agents)
        for agent in agents:  # a mean over no episodes is 0, but was not measured
            if not any(agent not in record.result.snapshots for record in row.recent):
                trained = metric_name("train", agent, "")
                found = {name: v for name, v in found.items() if not name.startswith(trained)}
        if not row.recent:
            del found[total_name("train", "env-steps")]
        return found

    def _headline(self) -> Text:
        return Text.assemble((self._scenario.name, "bold"), "  ", "  ".join(self._heading()))

    def _heading(self) -> list[str]:
        """Return how far the run is, in words."""
        done = self._done
        remaining = self._pace.remaining(done)
        eta = "-" if remaining is None else _clock(remaining)
        elapsed = _clock(self._pace.elapsed())
        words = [f"{done}/{self._pace.total} episodes", f"{elapsed} elapsed", f"ETA {eta}"]
        if self._scenario.federated.enabled:
            words.insert(0, f"round {self._rounds}/{self._scenario.rounds}")
        return words


def _cells(metrics: Metrics, agent: str, *, speed: bool) -> list[str]:
    """Return a car's cells: what is measured, the client's speed if wanted, and evaluations."""
    cells = [_mean(metrics, "train", agent, measure, form) for _, measure, form in MEASURED]
    steps, shown = metrics.get(total_name("train", "env-steps")), "-" if speed else ""
    if steps is not None and speed:
        shown = f"{steps / max(metrics[total_name('train', 'seconds')], 1e-9):,.0f}"
    evaluated = bool(metrics.get(total_name("evaluate", "episodes")))
    rate = _mean(metrics, "evaluate", agent, "success-rate", ".0%") if evaluated else "-"
    return [*cells, shown, rate]


def _mean(metrics: Metrics, kind: EpisodeKind, agent: str, measure: str, form: str) -> str:
    """Return a mean as it is written; "-" if it is not known, as of a car that is not averaged."""
    value = metrics.get(metric_name(kind, agent, measure))
    return "-" if value is None else format(value, form)


def print_table(console: Console, table: Table) -> None:
    """Print a table with every cell whole: lines may be longer than the console is wide."""
    console.print(whole(console, table), crop=False)


def whole(console: Console, table: Table) -> Table:
    """Give a table the width that its cells need; a live display crops it at the right."""
    options = console.options.update(width=10_000)
    table.width = None
    table.width = Measurement.get(console, options, table).maximum
    return table


def evaluation_table(found: Mapping[str, Any]) -> Table:
    """Return the table of an evaluation's report (`metrics.report`), with a row per car.

    Scripted cars have no task, so finishing counts as their success.
    """
    caption = Text("[low, high]: 95 % interval, %")  # in a str, brackets are markup
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, caption=caption, caption_justify="left"
    )
    titles = ("car", "episodes", "success", "crash", "time limit", "return", "laps", "lap, s")
    for name in titles:
        table.add_column(name, justify="right", no_wrap=True)
    for car, entry in found.items():
        success = "success" if "return" in entry else "finished"
        rates = [entry["outcomes"][outcome] for outcome in (success, "crash")]
        laps, returns = entry.get("lap_time"), entry.get("return")
        table.add_row(
            car,
            str(entry["episodes"]),
            *(f"{r['rate']:.1%} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]" for r in rates),
            f"{entry['outcomes'].get('time_limit', _NEVER)['rate']:.1%}",
            f"{returns['mean']:.1f} ± {returns['sd']:.1f}" if returns else "-",
            str(entry["laps"]),
            f"{laps['mean']:.2f} ± {laps['sd']:.2f}" if laps else "-",
        )
    return table


def opponents_table(found: Mapping[str, Any]) -> Table:
    """Return the table of whom an evaluated policy met (`metrics.by_opponent`), a row each."""
    won = [entry for entry in found.values() if entry["rate"] > 0.5]
    sure = sum(entry["low"] > 0.5 for entry in won)
    caption = Text(
        f"beats {len(won)} of {len(found)}: success in more than half of the episodes, "
        f"{sure} beyond chance"
    )
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, caption=caption, caption_justify="left"
    )
    for name in ("opponent", "episodes", "success"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, r in found.items():
        rate = f"{r['rate']:.1%} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]"
        table.add_row(name, str(r["episodes"]), rate)
    return table


_NEVER: Final = {"rate": 0.0}  # of an outcome that no episode had, which a report leaves out


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
