"""Runs on an existing federation: submitted to its SuperLink and followed to the end.

The run's server and its directory are on the SuperLink's machine. This one only shows what the
server announces in Flower's log.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from f110_fl.config.scenario import Scenario
from f110_fl.engines.flower.programs import (
    CONNECTION,
    bundled,
    connected,
    program,
    run_command,
    run_program,
)
from f110_fl.engines.operator_requests import check_versions
from f110_fl.engines.superlink import SuperLink, resolve_superlink
from f110_fl.errors import UserError
from f110_fl.federation.accounting import ends
from f110_fl.loading.flags import outside_overrides
from f110_fl.loading.scenarios import dump_scenario, parse_resolved
from f110_fl.reporting import announce
from f110_fl.reporting.commands import command_line
from f110_fl.reporting.console import ConsoleSink
from f110_fl.reporting.events import EvaluationEvent, RoundEvent
from f110_fl.reporting.pace import Pace
from f110_fl.reporting.summary import going_on
from f110_fl.runs.logs import LogReader
from f110_fl.runs.plan import resolve_plan
from f110_fl.runs.processes import Children

LAST_LINES: Final = 200  # of the log, in which Flower's last error is looked for
POLL_INTERVAL: Final = 0.25  # s between two looks at the log
STOP_TIMEOUT: Final = 30.0  # s that a SuperLink has to acknowledge the end of a run


def submit(arguments: argparse.Namespace, environ: Mapping[str, str], console: Console) -> int:
    """Submit the run that the command line describes, show its progress, return the exit status.

    Raises:
        UserError: For wrong settings, or if the SuperLink cannot be reached or trusted, or has
            other versions.
    """
    link = resolve_superlink(
        arguments.superlink,
        arguments.root_certificates,
        insecure=arguments.insecure,
        operator=arguments.operator,
    )
    settings = _settings(arguments, environ)
    link.probe()
    if link.operator is not None:
        check_versions(link)
    with tempfile.TemporaryDirectory(prefix="f110-fl-") as directory:
        return _Submission(Path(directory), link, console).run(settings)


def _settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """Return Flower's run config for the run."""
    if arguments.resume is None:
        scenario = resolve_plan(arguments, environ).scenario
        if not scenario.federated.enabled:
            raise UserError("--superlink: the scenario is not federated")
        return {"submitted": json.dumps(json.loads(dump_scenario(scenario)))}
    settings = {"submitted-resume": str(arguments.resume)}
    for override in outside_overrides(arguments, environ):
        settings["submitted-episodes"] = str(override.value)
    return settings


class _Submission:
    """A run on a SuperLink, as far as its log tells."""

    def __init__(self, directory: Path, link: SuperLink, console: Console) -> None:
        self._link = link
        self._console = console
        self._home = directory / "flower"
        self._environment = connected(self._home, link)
        self._log = directory / "run.log"
        self._reader = LogReader(self._log)
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._number: str | None = None  # Flower's, once it is accepted
        self._announcements = announce.Announcements()
        self._sink: ConsoleSink | None = None
        self._scenario: Scenario | None = None  # once the run has begun
        self._root = ""
        self._rounds = (0, 0)  # completed, total
        self._ends = False  # whether the privacy budget ends it
        self._failure = ""

    def run(self, settings: Mapping[str, str]) -> int:
        """Submit the run and follow it; an interruption also stops it on the SuperLink."""
        children, ended = Children(), False
        target = (run_command(settings, bundled(self._home)), self._environment)
        child = children.start(run_program, target, self._log)
        try:
            while child.is_alive():
                self._follow()
                if self._sink is not None:
                    self._sink.tick()
                child.join(POLL_INTERVAL)
            self._follow()
            ended = True
        finally:
            children.stop()
            if not ended:
                self._stop()
            if self._sink is not None:
                self._sink.close()
            self._summarise()
        completed, total = self._rounds
        if total and (completed == total or self._ends) and not self._failure:
            return 0
        self._console.out(f"run.py: {self._reason()}", highlight=False)
        return 1

    def _follow(self) -> None:
        """Read what was logged since the last call."""
        for line in self._reader.lines():
            self._last.append(line)
            match = re.search(r"started run (\d+)", line)
            self._number = self._number or (match[1] if match else None)
            event = self._announcements.read(line)
            if event is not None:
                self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == announce.STARTED:
            scenario = parse_resolved(event["scenario"])
            self._root, self._rounds = event["root"], (event["rounds"], scenario.rounds)
            where = f"{self._link.host}:{self._root}"
            self._console.out(f"Run directory   {where}", highlight=False)
            self._scenario = scenario
            done = scenario.episodes_after(event["rounds"])
            earlier = [done] * scenario.federated.clients
            pace = Pace(scenario, earlier, resumed=event["rounds"] > 0)
            self._sink = ConsoleSink(scenario, self._console, pace)
            self._sink.begin()
        elif kind == announce.ROUND and self._sink is not None:
            self._rounds = (event["round"], event["rounds"])
            privacy = self._scenario.federated.privacy if self._scenario else None
            self._ends = "privacy" in event and ends(privacy, event["privacy"])
            self._sink.handle(RoundEvent(event))
        elif kind == announce.EVALUATION and self._sink is not None:
            self._sink.handle(EvaluationEvent(event))
        elif kind == announce.NOTE:
            self._console.out(event["message"], highlight=False)
        elif kind == announce.FAILED:
            self._failure = event["message"]

    def _stop(self) -> None:
        """Ask the SuperLink to end the run."""
        self._follow()
        if self._number is not None:
            command = [program("flwr"), "stop", self._number, CONNECTION]
            subprocess.run(  # noqa: S603
                command,
                env=self._environment,
                capture_output=True,
                timeout=STOP_TIMEOUT,
                check=False,
            )

    def _summarise(self) -> None:
        """Show where the run's files are, on the SuperLink's machine."""
        if self._scenario is None:
            return
        completed, total = self._rounds
        lines = [
            f"Rounds          {completed} of {total} completed",
            f"Files           on {self._link.host}: {self._root}",
        ]
        complete, flags = completed == total, self._link.flags
        if self._link.operator is not None:
            lines.append(f"Fetch them      {command_line([*flags, '--fetch', self._root])}")
        if self._ends:
            lines.append("Budget reached  federated.privacy.budget has ended the run")
        else:
            lines += going_on(self._scenario, self._root, complete=complete, flags=flags)
        for line in lines:
            self._console.out(line, highlight=False)

    def _reason(self) -> str:
        """Return in one line why the run did not complete."""
        if self._failure:
            return f"the run failed: {self._failure}"
        last = _last_error("\n".join(self._last))
        if self._number is None:
            return f"the run was not accepted: {last}"
        return f"the run ended after round {self._rounds[0]}, without a reason given: {last}"


def _last_error(log: str) -> str:
    """Return the text of the last box that Flower printed, or else the log's last line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    box = re.findall(r"╭[^╭]*╰", plain)
    lines = box[-1].splitlines()[1:-1] if box else plain.splitlines()[-1:]
    words = " ".join(line.strip(" │") for line in lines).split()
    return " ".join(words)[:300] or "no message"
