"""Measures memory and processor time of a tree of processes while it runs (Linux)."""

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
FORK: Final = "ClientApp"  # of a child: a client's task


class Sample(NamedTuple):
    """A sample of one process."""

    time: float  # monotonic, s
    pid: int
    role: str
    mib: float  # resident
    seconds: float  # processor time since it began, in user and kernel mode


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
                    found = Sample(now, pid, _role(pid), _resident(pid), _seconds(pid))
                    self.samples.append(found)
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

    def seconds(self, begin: float, end: float) -> float:
        """Return the processor time that all processes took between two monotonic times, s."""
        total = 0.0
        for pid in {sample.pid for sample in self.samples}:
            own = [sample for sample in self.samples if sample.pid == pid]
            until = [0.0, *(s.seconds for s in own if s.time < end)]
            before = [0.0, *(s.seconds for s in own if s.time < begin)]
            total += until[-1] - before[-1]
        return total


def descendants(pid: int) -> list[int]:
    """Return all running descendants of a process."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int(_stat(int(path.name))[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(path.name))
    found = children.get(pid, [])
    for parent in found:  # grows while it is read
        found += children.get(parent, [])
    return found


def _role(pid: int) -> str:
    line = _command(pid)
    role = next((role for word, role in ROLES.items() if word in line), "other")
    return FORK if role == "child" and _command(int(_stat(pid)[1])) == line else role


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0  # it has ended, and its parent does not know yet


def _stat(pid: int) -> list[str]:
    """Return the entries of a process's ``stat`` from its state on, the third in ``man proc``."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _seconds(pid: int) -> float:
    user, system = map(int, _stat(pid)[11:13])
    return (user + system) / os.sysconf("SC_CLK_TCK")
