"""Shows a run's live progress and the results of evaluations."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.events import EpisodeEvent, EvaluationEvent, Event, RoundEvent
from f110_fl.training.metrics import metric_name, summarise, total_name
from f110_fl.training.records import EpisodeKind, EpisodeRecord

WINDOW = 20  # number of latest episodes in the rates

# Columns of training episodes: title, measure (of `metrics.MEASURES`), how it is written.
MEASURED: Final = (
    ("success", "success-rate", ".0%"),
    ("return", "return", ".1f"),
    ("crash", "crash-rate", ".0%"),
)

Metrics: TypeAlias = Mapping[str, float]  # a round's or an evaluation's, by name


@dataclass
class _Row:
    """The data of one client's row."""

    episodes: int = 0
    recent: deque[EpisodeRecord] = field(default_factory=lambda: deque(maxlen=WINDOW))
    evaluations: deque[EpisodeRecord] = field(default_factory=lambda: deque(maxlen=WINDOW))
    last: Metrics = field(default_factory=dict)  # the last round's, of a client elsewhere


class ConsoleSink:
    """Shows a live table or, without a terminal, a line per round."""

    def __init__(self, scenario: Scenario, console: Console) -> None:
        self._scenario = scenario
        self._console = console
        self._agent = scenario.federated_agents[0]  # rounds have metrics of these learners only
        self._rows = [_Row() for _ in range(scenario.federated.clients)]
        self._rounds = 0
        self._started = time.monotonic()
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=4,
            transient=True,
            auto_refresh=console.is_terminal,
        )
        if console.is_terminal:
            self._live.start()

    def handle(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, EpisodeEvent):
            row = self._rows[event.client_id]
            if event.record.kind == "train":
                row.episodes = event.record.episode
                row.recent.append(event.record)
            else:
                row.evaluations.append(event.record)
        elif isinstance(event, EvaluationEvent):
            self._console.out(self._evaluation_line(event), highlight=False)
        else:
            self._rounds = event.summary["round"]
            # The only data about clients on other machines.
            for client_id, metrics in event.summary.get("by_client", {}).items():
                row = self._rows[int(client_id)]
                row.episodes += int(metrics[total_name("train", "episodes")])
                row.last = metrics
            self._console.out(self._round_line(event), highlight=False)

    def close(self) -> None:
        """Print the last table."""
        if self._console.is_terminal:
            self._live.stop()
        if any(row.episodes for row in self._rows):
            self._console.print(self._render())

    def _round_line(self, event: RoundEvent) -> str:
        summary, metrics = event.summary, event.summary["metrics"]
        line = (
            f"round {summary['round']}/{summary['rounds']}  "
            f"{len(summary['clients'])}/{len(self._rows)} clients  "
            f"success {self._rate(metrics, 'train', 'success-rate')}  "
            f"return {self._return(metrics, 'train')}  "
            f"{summary['seconds']:.1f} s"
        )
        if metrics[total_name("evaluate", "episodes")]:
            line += f"  evaluated success {self._rate(metrics, 'evaluate', 'success-rate')}"
        if summary["dropped"]:
            by_reason: dict[str, list[str]] = {}
            for client, reason in summary["dropped"].items():
                by_reason.setdefault(reason, []).append(client)
            groups = (f"{', '.join(who)} ({why})" for why, who in by_reason.items())
            line += f"  dropped {', '.join(groups)}"
        return line

    def _evaluation_line(self, event: EvaluationEvent) -> str:
        found, metrics, on = event.found, event.found["metrics"], event.found["on"]
        where = "the server" if on == "server" else f"{len(found['by_client'])} clients"
        line = f"round {found['round']}/{self._scenario.rounds}  global model on {where}  "
        if not metrics:
            return line + "no usable answer"
        line += f"success {self._rate(metrics, 'evaluate', 'success-rate')}"
        if on == "server":
            rate = found["cars"][self._agent]["outcomes"]["success"]
            line += f" [{rate['low']:.0%}, {rate['high']:.0%}]"
        return line + (
            f"  return {self._return(metrics, 'evaluate')}"
            f"  crash {self._rate(metrics, 'evaluate', 'crash-rate')}"
        )

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        measured = (title for title, _, _ in MEASURED)
        for name in ("client", "episodes", *measured, "steps/s", "evaluated"):
            table.add_column(name, justify="right")
        for client_id, row in enumerate(self._rows):
            table.add_row(f"{client_id:02d}", *self._cells(row))
        if not self._console.is_terminal:
            return Group(self._headline(), table)
        total = self._scenario.episodes * len(self._rows)
        bar = ProgressBar(total=total, completed=sum(row.episodes for row in self._rows))
        return Group(self._headline(), bar, table)

    def _cells(self, row: _Row) -> tuple[str, ...]:
        total = self._scenario.episodes
        records = [*row.recent, *row.evaluations]
        metrics = row.last or (summarise(records, [self._agent]) if records else None)
        if metrics is None:
            return (f"0/{total}", *["-"] * (len(MEASURED) + 2))
        steps = metrics[total_name("train", "env-steps")]
        speed = steps / max(metrics[total_name("train", "seconds")], 1e-9)
        evaluated = self._rate(metrics, "evaluate", "success-rate")
        return (
            f"{row.episodes}/{total}",
            *(self._mean(metrics, "train", measure, form) for _, measure, form in MEASURED),
            f"{speed:,.0f}",
            evaluated if metrics[total_name("evaluate", "episodes")] else "-",
        )

    def _rate(self, metrics: Metrics, kind: EpisodeKind, measure: str) -> str:
        return self._mean(metrics, kind, measure, ".0%")

    def _return(self, metrics: Metrics, kind: EpisodeKind) -> str:
        return self._mean(metrics, kind, "return", ".1f")

    def _mean(self, metrics: Metrics, kind: EpisodeKind, measure: str, form: str) -> str:
        return format(metrics[metric_name(kind, self._agent, measure)], form)

    def _headline(self) -> Text:
        total = self._scenario.episodes * len(self._rows)
        done = sum(row.episodes for row in self._rows)
        elapsed = time.monotonic() - self._started
        eta = _clock(elapsed * (total - done) / done) if done else "-"
        words = [f"{done}/{total} episodes", f"{_clock(elapsed)} elapsed", f"ETA {eta}"]
        if self._scenario.federated.enabled:
            words.insert(0, f"round {self._rounds}/{self._scenario.rounds}")
        return Text.assemble((self._scenario.name, "bold"), "  ", "  ".join(words))


def evaluation_table(found: Mapping[str, Any]) -> Table:
    """Return the table of an evaluation's report (`metrics.report`), with a row per car.

    Scripted cars have no task, so finishing counts as their success.
    """
    caption = Text("[low, high]: 95 % interval, %")  # in a str, brackets are markup
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, caption=caption, caption_justify="left"
    )
    for name in ("car", "episodes", "success", "crash", "return", "laps", "lap, s"):
        table.add_column(name, justify="right", no_wrap=True)
    for car, entry in found.items():
        success = "success" if "return" in entry else "finished"
        rates = [entry["outcomes"][outcome] for outcome in (success, "crash")]
        laps, returns = entry.get("lap_time"), entry.get("return")
        table.add_row(
            car,
            str(entry["episodes"]),
            *(f"{r['rate']:.1%} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]" for r in rates),
            f"{returns['mean']:.1f} ± {returns['sd']:.1f}" if returns else "-",
            str(entry["laps"]),
            f"{laps['mean']:.2f} ± {laps['sd']:.2f}" if laps else "-",
        )
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
