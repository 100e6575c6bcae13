"""The directory of a run: what it is called, and the one process that it belongs to."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import is_locked, locked, write_atomic
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.rundir import LOCK, RunDir
from f110_fl.training.state_file import trim_episodes

LOCK_POLL = 0.1  # s between two looks at the lock of a directory
END_GRACE = 3.0  # s that a run has to be gone with the sweep that was killed


def run_root(scenario: Scenario) -> Path:
    """Return the run's directory, absolute, with the placeholders filled in."""
    words = {"name": scenario.name, "time": time.strftime("%Y%m%d-%H%M%S")}
    return Path(scenario.federated.root.format_map(words)).absolute()


def check_unused(root: Path) -> None:
    """Stop before a run that would mix its files with another's.

    Raises:
        UserError: If ``root`` already holds a run, or is a file.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a directory; choose another with FED_ROOT")
    if RunDir(root).config.exists():
        raise UserError(f"{root} already holds a run; choose another directory with FED_ROOT")


@contextmanager
def hold_directory(rundir: RunDir, patience: float = 0.0) -> Iterator[None]:
    """Make a directory for a run, or several, and hold it for this process.

    The hold ends with this process, however it ends.

    Args:
        rundir: The directory.
        patience: Longest wait for another process that holds it, s.

    Raises:
        UserError: If the directory cannot be written, or another process holds it.
    """
    deadline = time.monotonic() + patience
    try:
        rundir.root.mkdir(parents=True, exist_ok=True)
        while time.monotonic() < deadline and is_locked(rundir.lock):
            time.sleep(LOCK_POLL)
        with locked(rundir.lock, wait=False):
            yield
    except BlockingIOError:
        raise UserError(f"{rundir.root}: another process is running this run") from None
    except OSError as error:
        raise UserError(f"cannot write the run's directory {rundir.root}: {error}") from error


@contextmanager
def claim_directory(scenario: Scenario, rundir: RunDir, *, resumed: bool = False) -> Iterator[None]:
    """Hold the run's directory and write the scenario into it; see `hold_directory`.

    A resumed run's logs lose what its clients will do again.

    Raises:
        UserError: If the directory cannot be written, another process holds it, or the state
            of a resumed client cannot be read.
    """
    # One run of a killed sweep lives on, with its directory, until it notices.
    with hold_directory(rundir, patience=END_GRACE if resumed else 0.0):
        write_atomic(rundir.config, dump_scenario(scenario))
        for client_id in range(scenario.federated.clients if resumed else 0):
            directory = rundir.client(client_id)
            if directory.is_dir():
                # A killed run's replica lives on until it notices, and still writes.
                with locked(directory / LOCK, wait=True):
                    trim_episodes(directory)
        yield


def identity(rundir: RunDir) -> str:
    """Return the run's name for clients elsewhere, made when it is first asked for."""
    if not rundir.identity.exists():
        rundir.root.mkdir(parents=True, exist_ok=True)
        write_atomic(rundir.identity, f"{rundir.root.name}-{secrets.token_hex(4)}")
    return rundir.identity.read_text(encoding="utf-8")
