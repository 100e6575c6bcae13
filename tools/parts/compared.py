"""Federations that are started, killed and resumed, and compared byte by byte (Linux)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from f110_fl.rundir import RunDir
from f110_fl.tensors import read_tensors

REPOSITORY: Final = Path(__file__).resolve().parents[2]
POLL_INTERVAL: Final = 0.02  # s between two looks at a run
CLOCKED: Final = ("seconds", "collect")  # what an episode's record says of wall-clock time
ROUND_FACTS: Final = ("round", "asked", "clients", "dropped", "chain")  # what a round's does not
Outcome = Literal["done", "failed", "stopped", "hangs"]


class Stop(NamedTuple):
    """A moment of a run."""

    lines: int  # episodes logged by then
    seconds: float  # since then; in a run's progress, since its start


class Run:
    """A run in a directory, started or resumed any number of times.

    Args:
        flags: Of run.py, to start it or go on with it.
        scenario: The scenario's file.
        rundir: The run's directory; its processes' output is in ``NAME.err`` beside it.
        variables: Of the environment, over this process's.
    """

    def __init__(
        self,
        flags: Sequence[str],
        scenario: Path,
        rundir: RunDir,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.rundir = rundir
        self._variables = dict(variables or {})
        self._flags = flags
        self._scenario = scenario
        self._process: subprocess.Popen[bytes] | None = None
        self.progress: list[Stop] = []  # when the number of logged episodes changed
        self.errors = rundir.root.with_suffix(".err")

    def go(self, patience: float, stop: Stop | None = None) -> Outcome:
        """Start or resume it.

        Args:
            patience: Longest wait, s.
            stop: When to return and leave it running; None: at its end.
        """
        known = self.rundir.config.exists()
        words = ["--resume", str(self.rundir.root)] if known else ["--scenario", self._scenario]
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("FED_", "RUN_"))}
        variables |= {"WANDB_MODE": "disabled", **self._variables}
        if not known:
            variables["FED_ROOT"] = str(self.rundir.root)
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, str(REPOSITORY / "run.py"), *self._flags, *words],
                env=variables,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        try:
            return self._watch(self._process, patience, stop)
        except KeyboardInterrupt:
            self.kill(everything=True)
            raise

    def wait(self, patience: float) -> Outcome:
        """Wait for the end of a run that was left running, at most ``patience`` seconds."""
        return "done" if self._process is None else self._watch(self._process, patience, None)

    def _watch(
        self, process: subprocess.Popen[bytes], patience: float, stop: Stop | None
    ) -> Outcome:
        begun = time.monotonic()
        self.progress = [Stop(0, 0.0)]
        reached: float | None = None
        while process.poll() is None:
            now, lines = time.monotonic() - begun, logged(self.rundir)
            if lines != self.progress[-1].lines:
                self.progress.append(Stop(lines, now))
            if stop is not None and reached is None and lines >= stop.lines:
                reached = now
            if stop is not None and reached is not None and now >= reached + stop.seconds:
                return "stopped"
            if now > patience:
                return "hangs"
            time.sleep(POLL_INTERVAL)
        return "failed" if process.returncode else "done"

    def kill(self, *, everything: bool) -> None:
        """Kill run.py's process group, and with ``everything`` all that descends from it."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        victims = descendants(process.pid) if everything else []
        os.killpg(process.pid, signal.SIGKILL)
        for victim in victims:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it went with its parent
        process.wait()


def logged(rundir: RunDir) -> int:
    """Return how many episodes a run's clients have logged."""
    logs = rundir.root.glob("clients/*/episodes.jsonl")
    return sum(log.read_bytes().count(b"\n") for log in logs)


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes that descend from one."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            numbers = [int(number) for number in children.read_text().split()]
        except OSError:
            continue  # that thread has just ended
        for number in numbers:
            found += [number, *descendants(number)]
    return found


def contents(rundir: RunDir) -> dict[str, object]:
    """Return the files of a run by name, without what depends on wall-clock time."""
    found: dict[str, object] = {}
    paths = [*rundir.root.glob("round_*/*"), *rundir.root.glob("clients/*/*"), rundir.best]
    for path in filter(Path.exists, paths):
        if path.suffix in (".safetensors", ".replay"):
            found[str(path.relative_to(rundir.root))] = path.read_bytes()
    tensors = read_tensors(rundir.server)  # its metadata has the round's seconds
    found["server.safetensors"] = {k: v.numpy().tobytes() for k, v in tensors.items()}
    logs = [rundir.rounds, rundir.evaluations, *rundir.root.glob("clients/*/episodes.jsonl")]
    for path in filter(Path.exists, logs):
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        found[str(path.relative_to(rundir.root))] = [
            {
                k: v
                for k, v in line.items()
                if (k in ROUND_FACTS if path == rundir.rounds else k not in CLOCKED)
            }
            for line in lines
        ]
    return found


def difference(run: RunDir, expected: dict[str, object]) -> str:
    """Return the name of the first thing that differs, "" if all is equal."""
    found = contents(run)
    names = sorted(found.keys() | expected.keys())
    return next((name for name in names if found.get(name) != expected.get(name)), "")
