"""Measures the memory of a tree of processes while it runs (Linux)."""

from __future__ import annotations

import os
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

INTERVAL: Final = 0.25  # s between samples
# The role of a process, by the first of these texts in its command line.
ROLES: Final = {
    "multiprocessing.forkserver": "worker",  # of a simulation, and what they are forked from
    "flwr-clientapp": "ClientApp",
    "flwr-serverapp": "ServerApp",
    "flower-supernode": "SuperNode",
    "flower-superlink": "SuperLink",
    "spawn_main": "child",  # of the program: in a simulation, with the ServerApp
}


class Sample(NamedTuple):
    """A sample of one process."""

    time: float  # monotonic, s
    pid: int
    role: str
    mib: float  # resident


class Sampler:
    """Samples all descendants of this process in a thread, within a ``with`` block."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            now = time.monotonic()
            for pid in descendants(os.getpid()):
                try:
                    self.samples.append(Sample(now, pid, _role(pid), _resident(pid)))
                except OSError:
                    continue  # it has just ended

    def by_round(self, marks: list[float]) -> dict[str, list[float]]:
        """Return each role's largest process in each round, and the sum of all processes, MiB.

        Args:
            marks: Monotonic times when the rounds began and the last one ended, s.
        """
        result: dict[str, list[float]] = {}
        for role in sorted({sample.role for sample in self.samples}):
            own = [sample for sample in self.samples if sample.role == role]
            result[role] = [
                max((s.mib for s in own if begin <= s.time < end), default=0.0)
                for begin, end in pairwise(marks)
            ]
        sums: dict[float, float] = {}
        for sample in self.samples:
            sums[sample.time] = sums.get(sample.time, 0.0) + sample.mib
        result["all"] = [
            max((mib for moment, mib in sums.items() if begin <= moment < end), default=0.0)
            for begin, end in pairwise(marks)
        ]
        return result


def descendants(pid: int) -> list[int]:
    """Return all running descendants of a process."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                stat = (path / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(path.name))
    found = children.get(pid, [])
    for parent in found:  # grows while it is read
        found += children.get(parent, [])
    return found


def _role(pid: int) -> str:
    line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return next((role for word, role in ROLES.items() if word in line), "other")


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0  # it has ended, and its parent does not know yet
