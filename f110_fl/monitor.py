"""Following a run through the files it writes.

The console and W&B both read these events, whatever engine runs the clients.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from f110_fl.records import EpisodeRecord
from f110_fl.rundir import RunDir


@dataclass(frozen=True)
class EpisodeEvent:
    """A client finished an episode."""

    client_id: int
    record: EpisodeRecord


@dataclass(frozen=True)
class RoundEvent:
    """A round is complete; ``summary`` is its line of ``rounds.jsonl``."""

    summary: dict[str, Any]


Event = EpisodeEvent | RoundEvent


class Sink(Protocol):
    """Something that shows or stores events."""

    def handle(self, event: Event) -> None:
        """Take the next event."""

    def close(self) -> None:
        """Is called once, after the last event."""


@dataclass
class _Tail:
    """Read the lines that were added to a file since the last look."""

    path: Path
    offset: int = 0
    partial: bytes = b""

    def lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self.offset += len(data)
        *complete, self.partial = (self.partial + data).split(b"\n")
        return [line.decode() for line in complete]


class Monitor:
    """Collects the events of a run, whatever clients it has."""

    def __init__(self, rundir: RunDir) -> None:
        self._rundir = rundir
        self._rounds = _Tail(rundir.rounds)
        self._episodes: dict[Path, _Tail] = {}

    def poll(self) -> list[Event]:
        """Return what happened since the last call, a client's episodes in their order."""
        rounds = [RoundEvent(json.loads(line)) for line in self._rounds.lines()]
        for path in self._rundir.clients.glob("*/episodes.jsonl"):
            self._episodes.setdefault(path, _Tail(path))
        episodes: list[Event] = [
            EpisodeEvent(int(path.parent.name), EpisodeRecord.from_json(line))
            for path, tail in sorted(self._episodes.items())
            for line in tail.lines()
        ]
        return episodes + rounds
