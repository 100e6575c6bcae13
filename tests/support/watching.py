"""What tests see of the processes that they start, and how they wait for them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from f110_fl.rundir import RunDir

# s; far more than anything here takes on an idle machine, and longer on one that has more to do.
TIMEOUT = 100.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
POLL = 0.02  # s


def until(condition: Callable[[], bool], process: subprocess.Popen[Any] | None = None) -> bool:
    """Waits for a condition, a bounded time and only while ``process`` runs."""
    deadline = time.monotonic() + TIMEOUT
    while not condition() and time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            break
        time.sleep(POLL)
    return condition()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition, and fails with ``what`` if it does not come."""
    assert until(condition), f"timed out: {what}"


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to notice its end does not."""
    if Path("/proc/self/stat").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        except OSError:
            return False
    else:
        command = ["/bin/ps", "-o", "state=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


def processes_of(root: Path) -> dict[int, str]:
    """Returns the command lines of live processes that know of ``root``, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            mentioned = os.fsencode(root) in command + (process / "environ").read_bytes()
        except OSError:  # it has just ended
            continue
        if mentioned and alive(int(process.name)) and int(process.name) != os.getpid():
            found[int(process.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def rounds(rundir: RunDir) -> list[dict[str, Any]]:
    """Returns the rounds that a run has completed so far."""
    if not rundir.rounds.exists():
        return []
    return [json.loads(line) for line in rundir.rounds.read_text().splitlines()]
