"""The events of a run, read from the files that it writes.

The console, W&B and TensorBoard receive the same events from every engine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class SessionSink(Protocol):
    """A sink that follows not only a run, but one session of it: see `Sink` for the rest."""

    def begin(self) -> None:
        """Take the events so far for those that earlier sessions left."""

    def tick(self) -> None:
        """Do what is due; called every moment, whether anything happened or not."""


class Sinks:
    """Several sinks as one.

    One that fails is told nothing more, and why is said once: what only shows a run must not end
    it.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def handle(self, event: Event) -> None:
        """Tell every sink."""
        self._each(lambda sink: sink.handle(event))

    def begin(self) -> None:
        """Tell the sinks of a session that it begins."""
        self._each(lambda sink: sink.begin() if isinstance(sink, SessionSink) else None)

    def tick(self) -> None:
        """Let the sinks of a session do what is due."""
        self._each(lambda sink: sink.tick() if isinstance(sink, SessionSink) else None)

    def close(self) -> None:
        """Close every sink, in their order."""
        self._each(lambda sink: sink.close())

    def _each(self, tell: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                tell(sink)
            except Exception as error:  # whatever it is
                self._sinks.remove(sink)
                name, reason = type(sink).__name__, f"{type(error).__name__}: {error}"
                print(f"{name}: {reason}; the run goes on", file=sys.stderr)  # noqa: T201


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
        except OSError:  # it is not there yet, or this process may not read it
            return []
        self.offset += len(data)
        *complete, self.partial = (self.partial + data).split(b"\n")
        return json_objects(complete)  # a file that was cut and grew may leave part of a line


class Monitor:
    """Collects the events of a run.

    What is no event is passed over: lines of another form, and directories in ``clients/`` that
    are not one of the run's clients'.

    Args:
        rundir: The run's directory, which need not exist yet.
        clients: Number of clients.
    """

    def __init__(self, rundir: RunDir, clients: int) -> None:
        self._rundir = rundir
        self._rounds = _Tail(rundir.rounds)
        self._evaluations = _Tail(rundir.evaluations)
        self._clients = {rundir.client(k).name: k for k in range(clients)}
        self._episodes: dict[int, _Tail] = {}

    def poll(self) -> list[Event]:
        """Return the events since the last call, a client's episodes in their order."""
        rounds: list[Event] = [RoundEvent(line) for line in self._rounds.lines() if "round" in line]
        rounds += [EvaluationEvent(line) for line in self._evaluations.lines() if "round" in line]
        for path in self._rundir.clients.glob("*/episodes.jsonl"):
            client_id = self._clients.get(path.parent.name)
            if client_id is not None:
                self._episodes.setdefault(client_id, _Tail(path))
        episodes: list[Event] = []
        for client_id, tail in sorted(self._episodes.items()):
            for values in tail.lines():
                with suppress(TypeError):  # not the values of an episode
                    record = EpisodeRecord.from_values(values)
                    episodes.append(EpisodeEvent(client_id, record))
        return episodes + rounds

    def tell(self, sink: Sink) -> None:
        """Pass the events since the last call to a sink."""
        for event in self.poll():
            sink.handle(event)
