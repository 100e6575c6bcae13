"""A sink that records a run with another library, on a thread of its own."""

from __future__ import annotations

import queue
import sys
import threading
from abc import ABC, abstractmethod
from typing import ClassVar

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.events import Event
from f110_fl.reporting.values import Charts, Point

CLOSE_TIMEOUT = 60.0  # s that the end of a run waits for a library


class BackgroundSink(ABC):
    """Passes the values of events to a library.

    The run never waits for it, except a bounded time at the end. Its failure is said once and
    ends nothing.

    Args:
        scenario: The run's scenario.

    Attributes:
        name: The library's, for messages.
    """

    name: ClassVar[str]

    def __init__(self, scenario: Scenario) -> None:
        self._charts = Charts(scenario)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._given_up = False
        self._thread.start()

    def handle(self, event: Event) -> None:
        """Take the next event; return at once."""
        self._events.put(event)

    def close(self) -> None:
        """Wait until everything is recorded, at most ``CLOSE_TIMEOUT``."""
        self._events.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            self._given_up = True
            warn(self.name, f"did not finish within {CLOSE_TIMEOUT:.0f} s", self.rest())

    def _work(self) -> None:
        try:
            while (event := self._events.get()) is not None:
                point = self._charts.point(event)
                if point is not None:
                    self.record(point)
            self.finish()
        except Exception as error:  # a library may raise anything, and must not stop training
            if not self._given_up:  # then the user knows
                warn(self.name, first_line(error))

    @abstractmethod
    def record(self, point: Point) -> None:
        """Record a point; called on the sink's thread."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is left; called on the sink's thread after the last point."""

    def rest(self) -> str:
        """Return what a user can do about what was not recorded in time, for the end of a line."""
        return ""


def first_line(error: Exception) -> str:
    """Return a library's error in one line."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def tell(name: str, text: str) -> None:
    """Say something about a library."""
    print(f"{name}: {text}", file=sys.stderr)  # noqa: T201


def warn(name: str, reason: str, rest: str = "") -> None:
    """Say that a library failed."""
    tell(name, f"{reason}; the run goes on without it{rest}")
