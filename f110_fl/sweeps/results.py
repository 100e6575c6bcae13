"""The progress and results of a grid's runs, read from the files that they write."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from f110_fl.files import write_atomic
from f110_fl.reporting.events import EpisodeEvent, Monitor
from f110_fl.rundir import RunDir
from f110_fl.training.metrics import mean
from f110_fl.training.records import EpisodeRecord


class RunProgress:
    """Follows the episodes of one run."""

    def __init__(self, rundir: RunDir, clients: int) -> None:
        self._monitor = Monitor(rundir, clients)
        self._trained = dict.fromkeys(range(clients), 0)
        self._evaluations: dict[int, list[EpisodeRecord]] = {}  # the last one of each client

    def poll(self) -> None:
        """Read what the run wrote since the last call."""
        for event in self._monitor.poll():
            if isinstance(event, EpisodeEvent):
                self._take(event.client_id, event.record)

    def _take(self, client_id: int, record: EpisodeRecord) -> None:
        if record.kind == "train":
            self._trained[client_id] = record.episode
            return
        last = self._evaluations.setdefault(client_id, [])
        if last and last[0].episode != record.episode:
            last.clear()
        last.append(record)

    @property
    def episodes(self) -> int:
        """Training episodes that every client has completed."""
        return min(self._trained.values())

    def last_evaluation(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return success rate and return by agent, as means over the clients' last evaluations.

        Both are empty before the first evaluation.
        """
        clients = [[record.result for record in last] for last in self._evaluations.values()]
        agents = list(clients[0][0].returns) if clients else []
        rates, returns = (
            {a: fmean(mean(measure, episodes, [a]) for episodes in clients) for a in agents}
            for measure in ("success-rate", "return")
        )
        return rates, returns


@dataclass
class Result:
    """The result of one run of a grid.

    Attributes:
        status: ``waiting``, ``running``, ``done``, ``failed`` or ``stopped``.
        episodes: Training episodes that every client has completed.
        success_rate: Mean over the clients' last evaluations, by agent.
        return_: As ``success_rate``.
        seconds: Wall-clock time of all its starts together.
    """

    name: str
    settings: dict[str, Any]
    directory: str
    status: str = "waiting"
    episodes: int = 0
    success_rate: dict[str, float] = field(default_factory=dict)
    return_: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""

    def measure(self, progress: RunProgress) -> None:
        """Update the result from the run's files; if they are damaged, it says so and stays."""
        try:
            progress.poll()
            self.episodes = progress.episodes
            self.success_rate, self.return_ = progress.last_evaluation()
        except Exception as error:  # one run's files must not end the table of all
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.failure = self.failure or f"its files cannot be read: {reason}"


def write_results(root: Path, name: str, results: list[Result]) -> None:
    """Write ``results.json`` and ``results.csv`` of the grid in ``root``, each atomically."""
    runs = []
    for result in results:
        row = asdict(result)
        row["return"] = row.pop("return_")
        runs.append(row)
    text = json.dumps({"name": name, "runs": runs}, indent=2) + "\n"
    write_atomic(root / "results.json", text)
    write_atomic(root / "results.csv", _csv(results))


def _csv(results: list[Result]) -> str:
    keys = dict.fromkeys(key for result in results for key in result.settings)
    agents = dict.fromkeys(agent for result in results for agent in result.success_rate)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [f"{agent}/{what}" for agent in agents for what in ("success_rate", "return")]
    writer.writerow(
        ["name", "status", *keys, "episodes", *columns, "seconds", "directory", "failure"]
    )
    for result in results:
        values = [
            part.get(agent, "")
            for agent in agents
            for part in (result.success_rate, result.return_)
        ]
        settings = [_cell(result.settings[key]) if key in result.settings else "" for key in keys]
        seconds = f"{result.seconds:.1f}"
        start = [result.name, result.status, *settings, result.episodes]
        writer.writerow([*start, *values, seconds, result.directory, result.failure])
    return file.getvalue()


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def earlier_seconds(root: Path) -> dict[str, float]:
    """Return the wall-clock times in a grid's ``results.json`` by run, empty if there are none."""
    try:
        data = json.loads((root / "results.json").read_text(encoding="utf-8"))
        return {run["name"]: float(run["seconds"]) for run in data["runs"]}
    except (OSError, ValueError, KeyError, TypeError):  # it only shows
        return {}
