"""The events of a run, read from the files that it writes.

The console and W&B receive the same events from every engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from f110_fl.files import json_objects
from f110_fl.rundir import RunDir
from f110_fl.training.records import EpisodeRecord


@dataclass(frozen=True)
class EpisodeEvent:
    """A client finished an episode."""

    client_id: int
    record: EpisodeRecord


@dataclass(frozen=True)
class RoundEvent:
    """A round is complete; ``summary`` is its line of ``rounds.jsonl``."""

    summary: dict[str, Any]


@dataclass(frozen=True)
class EvaluationEvent:
    """The global model was evaluated; ``found`` is its line of ``evaluations.jsonl``."""

    found: dict[str, Any]


Event = EpisodeEvent | RoundEvent | EvaluationEvent


class Sink(Protocol):
    """A receiver that shows or stores events."""

    def handle(self, event: Event) -> None:
        """Take the next event."""

    def close(self) -> None:
        """Finish, after the last event."""


@dataclass
class _Tail:
    """Reads the JSON lines that were added to a file since the last call."""

    path: Path
    offset: int = 0
    partial: bytes = b""

    def lines(self) -> list[dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self.offset:  # a reopened client has removed a failed round
                    self.offset, self.partial = size, b""
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self.offset += len(data)
        *complete, self.partial = (self.partial + data).split(b"\n")
        return json_objects(complete)  # a file that was cut and grew may leave part of a line


class Monitor:
    """Collects the events of a run, of any number of clients."""

    def __init__(self, rundir: RunDir) -> None:
        self._rundir = rundir
        self._rounds = _Tail(rundir.rounds)
        self._evaluations = _Tail(rundir.evaluations)
        self._episodes: dict[Path, _Tail] = {}

    def poll(self) -> list[Event]:
        """Return the events since the last call, a client's episodes in their order."""
        rounds: list[Event] = [RoundEvent(summary) for summary in self._rounds.lines()]
        rounds += [EvaluationEvent(found) for found in self._evaluations.lines()]
        for path in self._rundir.clients.glob("*/episodes.jsonl"):
            self._episodes.setdefault(path, _Tail(path))
        episodes: list[Event] = [
            EpisodeEvent(int(path.parent.name), EpisodeRecord.from_values(values))
            for path, tail in sorted(self._episodes.items())
            for values in tail.lines()
        ]
        return episodes + rounds

    def tell(self, sinks: Iterable[Sink]) -> None:
        """Pass the events since the last call to sinks."""
        for event in self.poll():
            for sink in sinks:
                sink.handle(event)
