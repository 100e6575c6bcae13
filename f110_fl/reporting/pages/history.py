"""What a run has left in its files, whole or not, for pages that show it."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import is_file, json_objects
from f110_fl.loading.scenarios import read_resolved
from f110_fl.reporting.events import EpisodeEvent, Event, RoundEvent
from f110_fl.rundir import EPISODES, RunDir
from f110_fl.training.records import EpisodeRecord

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_NEEDED: Final = ("round", "seconds", "clients", "asked", "dropped", "metrics")


class Episodes:
    """Episodes of one kind of one client, as columns of numbers: many fit into memory.

    Columns are ``episode``, ``env_steps``, ``round``, ``seconds``, ``stage``, ``return/AGENT``,
    ``lap/AGENT`` (mean, s), ``outcome/AGENT/NAME`` (1 where it ended so) and ``loss/NAME``.
    """

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, record: EpisodeRecord) -> None:
        """Append an episode."""
        for name, value in _columns_of(record):
            column = self._columns.setdefault(name, array("d"))
            column.extend([math.nan] * (self._rows - len(column)))
            column.append(value)
        self._rows += 1

    def column(self, name: str) -> Float:
        """Return a column (N,), NaN where an episode has no such number."""
        found = np.full(self._rows, np.nan)
        held = self._columns.get(name, ())
        found[: len(held)] = held
        return found

    def names(self, prefix: str) -> list[str]:
        """Return what follows a prefix in the names of columns, in the order of appearance."""
        return [n.removeprefix(prefix) for n in self._columns if n.startswith(prefix)]

    @property
    def last(self) -> int:
        """Number of the last episode, 0 without one."""
        return int(self._columns["episode"][-1]) if self._rows else 0


def _columns_of(record: EpisodeRecord) -> Iterator[tuple[str, float]]:
    result = record.result
    yield "episode", record.episode
    yield "env_steps", record.env_steps
    yield "round", record.round
    yield "seconds", result.seconds
    yield "stage", record.stage
    for agent, value in result.returns.items():
        if agent not in result.snapshots:
            yield f"return/{agent}", value
    for car, outcome in result.outcomes.items():
        if car not in result.snapshots:
            yield f"outcome/{car}/{outcome}", 1.0
    for car, laps in result.lap_times.items():
        if laps:
            yield f"lap/{car}", sum(laps) / len(laps)
    for name, loss in record.losses.items():
        yield f"loss/{name}", loss


class History:
    """The episodes, rounds and evaluations of a run; a `Sink` of its events.

    Args:
        rundir: The run's directory.
        scenario: Its scenario.

    Attributes:
        training: Training episodes, by client, in their order.
        evaluations: Episodes of the clients' own evaluations, likewise.
        rounds: Lines of ``rounds.jsonl``.
        globals: Lines of ``evaluations.jsonl``.
        missing: What could not be read, in words.
    """

    def __init__(self, rundir: RunDir, scenario: Scenario) -> None:
        self.rundir = rundir
        self.scenario = scenario
        self.training = {client: Episodes() for client in self.clients}
        self.evaluations = {client: Episodes() for client in self.clients}
        self.rounds: list[dict[str, Any]] = []
        self.globals: list[dict[str, Any]] = []
        self.missing: list[str] = []

    def handle(self, event: Event) -> None:
        """Take the next event; what is not of one of the run's clients is left out."""
        if isinstance(event, EpisodeEvent):
            kind = self.training if event.record.kind == "train" else self.evaluations
            if event.client_id in kind:
                kind[event.client_id].add(event.record)
        elif isinstance(event, RoundEvent):
            self.rounds.append(event.summary)
        else:
            self.globals.append(event.found)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    @property
    def clients(self) -> range:
        """Ids of the run's clients."""
        return range(self.scenario.federated.clients)

    def round_ends(self) -> Float:
        """Return (K + 1,) s of training when round k ended; 0 for round 0."""
        seconds = {int(line["round"]): float(line["seconds"]) for line in self.rounds}
        last = max(seconds, default=0)
        return np.cumsum([0.0, *(seconds.get(number, 0.0) for number in range(1, last + 1))])

    def clock(self, client_id: int) -> tuple[Float, Float]:
        """Return when a client's training and evaluation episodes ended, s of wall-clock.

        In a federated run rounds follow each other, and a client's episodes begin with theirs, or
        in mode asynchronous with the one that was open when its order was sent; else episodes
        follow each other without a break.

        Returns:
            (N,) of the training episodes, (M,) of the evaluations'.
        """
        own = self.training[client_id], self.evaluations[client_id]
        episode, rounds, seconds = (
            np.concatenate([each.column(name) for each in own])
            for name in ("episode", "round", "seconds")
        )
        evaluated = np.arange(len(episode)) >= len(own[0])
        order = np.lexsort((np.arange(len(episode)), evaluated, episode))
        times, now = np.zeros(len(episode)), np.cumsum(seconds[order])
        if self.scenario.federated.enabled and len(order):
            ends, number = self.round_ends(), rounds[order].astype(np.int64)
            first = np.flatnonzero(np.diff(number, prepend=-1))
            before = np.concatenate([[0.0], now])[first]
            length = np.diff(np.append(first, len(number)))
            start = ends[np.clip(number[first] - 1, 0, len(ends) - 1)]
            now = now + np.repeat(start - before, length)
            last = self._closed_in(client_id, number)
            known = last < len(ends)
            now[known] = np.minimum(now[known], ends[last[known]])
        times[order] = now
        return times[: len(own[0])], times[len(own[0]) :]

    def _closed_in(self, client_id: int, orders: Int) -> Int:
        """Return (N,) the rounds with a client's replies to orders of these rounds."""
        closed: dict[int, int] = {}
        for line in self.rounds:
            age = line.get("asynchronous")
            order = age.get("order") if isinstance(age, dict) else None
            if type(order) is int and line.get("clients") == [client_id]:
                closed[order] = int(line["round"])
        return np.array([closed.get(number, number) for number in orders.tolist()], np.int64)


def read_history(rundir: RunDir) -> History:
    """Read a run's files as far as they are there and can be read.

    Args:
        rundir: The run's directory.

    Raises:
        UserError: If it holds no run whose scenario can be read.
    """
    if not is_file(rundir.config):
        raise UserError(f"{rundir.root}: no run there (no config.json)")
    history = History(rundir, read_resolved(rundir.config))
    for client_id in history.clients:
        for line in _objects(history, rundir.episodes(client_id)):
            _take_episode(history, client_id, line)
    if history.scenario.federated.enabled:
        lines = _objects(history, rundir.rounds)
        history.rounds = [line for line in lines if all(key in line for key in _NEEDED)]
        if not any(map(len, history.training.values())):
            _read_metrics(history)
        if rundir.evaluations.exists() or history.scenario.federated.evaluate_on != "none":
            found = _objects(history, rundir.evaluations)
            history.globals = [e for e in found if {"round", "on", "metrics"} <= e.keys()]
    return history


def _read_metrics(history: History) -> None:
    """Add the clients' metrics to the rounds, of clients whose episodes are elsewhere."""
    for line in history.rounds:
        with suppress(OSError, ValueError, AttributeError):
            text = history.rundir.metrics(int(line["round"])).read_text(encoding="utf-8")
            line["by_client"] = dict(json.loads(text).get("by_client", {}))


def _take_episode(history: History, client_id: int, values: dict[str, Any]) -> None:
    try:
        record = EpisodeRecord.from_values(values)
    except (TypeError, KeyError):
        return  # a line of something else: what is not counted is not shown
    history.handle(EpisodeEvent(client_id, record))


def _objects(history: History, path: Path) -> Iterator[dict[str, Any]]:
    """Yield a file's objects; say what is missing of it."""
    name = path.relative_to(history.rundir.root)
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        history.missing.append(f"{name}: not there")
        return
    except OSError as error:
        history.missing.append(f"{name}: {error.strerror}")
        return
    found = json_objects(lines)
    if len(found) < len(lines):
        history.missing.append(
            f"{name}: {len(lines) - len(found)} of {len(lines)} lines unreadable"
        )
    if path.name == EPISODES and not found:
        history.missing.append(f"{name}: no episode")
    yield from found
