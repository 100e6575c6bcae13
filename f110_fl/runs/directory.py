"""The directory of a run: its name, and the lock of the process that runs it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import is_locked, locked, write_atomic
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.rundir import LOCK, RunDir
from f110_fl.runs.machine import record_start
from f110_fl.training.state_file import trim_episodes

LOCK_POLL = 0.1  # s between two polls of a directory's lock
END_GRACE = 3.0  # s that a run has to end after its sweep was killed


def run_root(scenario: Scenario) -> Path:
    """Return the absolute path of the run's directory, with the placeholders filled in."""
    words = {"name": scenario.name, "time": time.strftime("%Y%m%d-%H%M%S")}
    return Path(scenario.federated.root.format_map(words)).absolute()


def check_unused(root: Path) -> None:
    """Refuse a directory in which a new run's files would mix with others.

    Raises:
        UserError: If ``root`` already holds a run, or is a file.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is not a directory; choose another with FED_ROOT")
    if RunDir(root).config.exists():
        raise UserError(f"{root} already holds a run; choose another directory with FED_ROOT")


@contextmanager
def lock_directory(
    directory: Path, owner: str = "is running this run", patience: float = 0.0
) -> Iterator[None]:
    """Create the directory of a run, a sweep or a client, and lock it for this process.

    The lock ends with this process, in whatever way that ends.

    Args:
        directory: The directory.
        owner: The end of the sentence "another process ...", for the message.
        patience: Longest wait for another process that has locked it, s.

    Raises:
        UserError: If the directory cannot be written, also while it is locked, or another process
            has locked it.
    """
    deadline = time.monotonic() + patience
    try:
        directory.mkdir(parents=True, exist_ok=True)
        while time.monotonic() < deadline and is_locked(directory / LOCK):
            time.sleep(LOCK_POLL)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(directory / LOCK, wait=False))
            except BlockingIOError:
                raise UserError(f"{directory}: another process {owner}") from None
            yield
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error}") from error


@contextmanager
def prepare_directory(
    scenario: Scenario, rundir: RunDir, *, resumed: bool = False
) -> Iterator[None]:
    """Lock the run's directory and write the scenario into it; see `lock_directory`.

    From a resumed run's logs, the episodes that its clients will repeat are removed.

    Raises:
        UserError: If the directory cannot be written, another process has locked it, or the state
            of a resumed client cannot be read.
    """
    # A run of a killed sweep lives, and locks its directory, until it notices.
    with lock_directory(rundir.root, patience=END_GRACE if resumed else 0.0):
        write_atomic(rundir.config, dump_scenario(scenario))
        record_start(rundir, resumed=resumed)
        for client_id in range(scenario.federated.clients if resumed else 0):
            directory = rundir.client(client_id)
            if directory.is_dir():
                # A killed run's replica lives until it notices, and still writes.
                with locked(directory / LOCK, wait=True):
                    trim_episodes(directory)
        yield


def identity(rundir: RunDir) -> str:
    """Return the run's unique name for clients elsewhere, created by the first call."""
    if not rundir.identity.exists():
        rundir.root.mkdir(parents=True, exist_ok=True)
        write_atomic(rundir.identity, f"{rundir.root.name}-{secrets.token_hex(4)}")
    return rundir.identity.read_text(encoding="utf-8")
