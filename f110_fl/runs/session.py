"""Watches the child processes of one run until they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, Self

from f110_fl.reporting.events import Monitor, Sink, Sinks
from f110_fl.rundir import RunDir
from f110_fl.runs import interrupt
from f110_fl.runs.processes import Children

POLL_INTERVAL = 0.25  # s between two looks at the children and their files

Starter = Callable[[], BaseProcess]


class Session:
    """Starts children, passes the events in their files to sinks, and leaves nothing running.

    Args:
        rundir: The run's directory; each child logs into ``logs/``.
        sinks: They receive the events, and are closed at the end.
        clients: Number of the run's clients, whose episodes are events.
        generations: See `Children`.
    """

    def __init__(
        self, rundir: RunDir, sinks: Sequence[Sink], clients: int = 0, generations: int = 1
    ) -> None:
        self.rundir = rundir
        self.failures: list[str] = []  # one line each
        self._sinks = Sinks(sinks)
        self._monitor = Monitor(rundir, clients)
        self._children = Children(generations)

    def __enter__(self) -> Self:
        self.forward()  # what earlier sessions left
        self._sinks.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._children.stop()
        self._monitor.tell(self._sinks)
        self._sinks.close()

    def start(self, name: str, target: Callable[..., None], *arguments: Any) -> BaseProcess:
        """Start ``target(*arguments)`` in a child whose output goes to ``logs/NAME.log``."""
        return self._children.start(target, arguments, self.rundir.logs / f"{name}.log")

    def forward(self) -> None:
        """Pass what happened since the last call to the sinks."""
        self._monitor.tell(self._sinks)
        self._sinks.tick()

    def wait(self, child: BaseProcess, done: Callable[[], bool] = lambda: False) -> int | None:
        """Wait for a child, or until ``done()``; return its exit status, None if it still runs."""
        while child.is_alive() and not done():
            interrupt.check()
            self.forward()
            child.join(POLL_INTERVAL)
        return child.exitcode

    def pause(self, seconds: float, done: Callable[[], bool]) -> None:
        """Forward events for a while, or until ``done()``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not done():
            interrupt.check()
            self.forward()
            time.sleep(POLL_INTERVAL)

    def ended(self, child: BaseProcess) -> str:
        """Record the end of a child; return why it failed, "" if it did not."""
        reason = self._children.close(child)
        if reason:
            log = self.rundir.logs / f"{child.name}.log"
            self.failures.append(f"{child.name} failed: {reason}; see {log}")
        return reason

    def run_all(self, starters: Sequence[Starter], max_parallel: int) -> int:
        """Run children, at most ``max_parallel`` at a time; return the number that failed."""
        waiting = list(reversed(starters))
        running: list[BaseProcess] = []
        failed = 0
        while waiting or running:
            while waiting and len(running) < max_parallel:
                running.append(waiting.pop()())
            interrupt.check()
            self.forward()
            running[0].join(POLL_INTERVAL)
            over = [child for child in running if not child.is_alive()]
            running = [child for child in running if child not in over]
            failed += sum(bool(self.ended(child)) for child in over)
        return failed
