"""The report that a run leaves when it ends, in whatever way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from f110_fl.config.scenario import Scenario
from f110_fl.reporting.events import Event
from f110_fl.reporting.pages.history import read_history
from f110_fl.reporting.pages.report import report, write_report
from f110_fl.reporting.pages.time_machine import ROUNDS, Replays, replays
from f110_fl.reporting.summary import is_complete
from f110_fl.rundir import RunDir

SHORT: Final = 30.0  # s; a run that took less would wait too long for its policies to drive


@contextmanager
def reported(scenario: Scenario, rundir: RunDir, say: Callable[[str], None]) -> Iterator[None]:
    """Leave a report when the block ends, in whatever way; see `ReportSink`."""
    try:
        yield
    finally:
        ReportSink(scenario, rundir, None, say).close()


class ReportSink:
    """Writes ``report.html`` when it is closed.

    It reads the run's files then, so that it costs nothing before. Policies drive in it (the time
    machine) if the run is whole and took half a minute, or if asked for.

    Args:
        scenario: The run's.
        rundir: Its directory.
        rounds: Rounds whose policies drive, 0 for none; None: as fits, see above.
        say: Told in one line if the report cannot be written, which ends no run.
    """

    def __init__(
        self, scenario: Scenario, rundir: RunDir, rounds: int | None, say: Callable[[str], None]
    ) -> None:
        self._scenario, self._rundir, self._rounds, self._say = scenario, rundir, rounds, say

    def handle(self, event: Event) -> None:
        """Do nothing: it is in the files."""

    def close(self) -> None:
        """Write the report."""
        try:
            self._write()
        except Exception as error:  # whatever is wrong with a page must not fail a whole run
            self._say(f"report.html could not be written: {type(error).__name__}: {error}")

    def _write(self) -> None:
        history = read_history(self._rundir)
        if not history.rounds and not any(map(len, history.training.values())):
            return  # it ended before anything could be seen
        document = report([history])
        (run,) = document["runs"]
        command = f"python tools/report.py {self._rundir.root}"
        if self._rounds == 0:
            found = Replays(missing=f"left out, as asked; {command} makes them")
        elif self._rounds is None and not is_complete(self._scenario, self._rundir):
            found = Replays(missing=f"left out, as the run is not complete; {command} makes them")
        elif self._rounds is None and run["seconds"] < SHORT:
            found = Replays(missing=f"left out, as the run was short; {command} makes them")
        else:
            found = replays([(self._scenario, self._rundir)], self._rounds or ROUNDS)
        shown = {"replays": found.shown, "replaysMissing": found.missing}
        write_report(self._rundir.report, document | shown)
