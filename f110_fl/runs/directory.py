"""The directory of a run: its name, and the lock of the process that runs it."""

from __future__ import annotations

import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import is_locked, locked, write_atomic
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.rundir import LOCK, RunDir
from f110_fl.runs.inputs import record_inputs
from f110_fl.runs.machine import record_start
from f110_fl.training.state_file import saved_progress, trim_episodes

LOCK_POLL = 0.1  # s between two polls of a directory's lock
END_GRACE = 3.0  # s that a run has to end after its sweep was killed


def run_root(scenario: Scenario) -> Path:
    """Return the absolute path of the run's directory, with the placeholders filled in."""
    words = {"name": scenario.name, "time": time.strftime("%Y%m%d-%H%M%S")}
    return Path(scenario.federated.root.format_map(words)).expanduser().absolute()


@contextmanager
def claimed(root: Path, template: str) -> Iterator[Path]:
    """Create the directory of a new run, if its name contains the time, for this process alone.

    Whatever started in the same second has another name, with a number. A directory that is still
    empty at the end is removed. One whose name is given (``FED_ROOT``) is left to `check_unused`.

    Args:
        root: The directory that the template names.
        template: ``federated.root``.

    Yields:
        The directory.

    Raises:
        UserError: If it cannot be created.
    """
    if "{time}" not in template:
        yield root
        return
    for number in count(2):
        try:
            root.mkdir(parents=True)
            break
        except FileExistsError:
            root = root.with_name(f"{root.name.removesuffix(f'-{number - 1}')}-{number}")
        except OSError as error:
            raise _unwritable(root, error) from error
    try:
        yield root
    finally:
        with suppress(OSError):
            root.rmdir()


def check_unused(root: Path, *others: str) -> None:
    """Refuse a directory in which a new run's files would mix with others.

    Args:
        root: The directory, which need not exist.
        others: Names of files that it must not contain, besides a run's ``config.json``.

    Raises:
        UserError: If ``root`` already holds a run or such a file, or is no directory that can be
            looked into.
    """
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(root.stat().st_mode):
                raise UserError(f"{root} is not a directory; choose another with FED_ROOT")
        for name, kind in ((RunDir(root).config.name, "a run"), *((n, n) for n in others)):
            with suppress(FileNotFoundError):
                (root / name).stat()
                raise UserError(f"{root} already holds {kind}; choose another with FED_ROOT")
    except OSError as error:
        raise UserError(f"{root}: cannot be used: {error.strerror}") from error


def _unwritable(directory: Path, error: OSError) -> UserError:
    """Return the error about a directory that cannot be written."""
    return UserError(f"{directory}: cannot be written: {error.strerror or error}")


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
        UserError: If the directory cannot be written, or another process has locked it. What goes
            wrong while it is locked keeps its own error.
    """
    deadline = time.monotonic() + patience
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            while time.monotonic() < deadline and is_locked(directory / LOCK):
                time.sleep(LOCK_POLL)
            stack.enter_context(locked(directory / LOCK, wait=False))
        except BlockingIOError:
            raise UserError(f"{directory}: another process {owner}") from None
        except OSError as error:
            raise _unwritable(directory, error) from error
        yield


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
        if not resumed:
            check_unused(rundir.root)  # again: another run may have begun and ended since
        try:
            _write_start(scenario, rundir, resumed=resumed)
        except OSError as error:
            raise _unwritable(rundir.root, error) from error
        yield


def _write_start(scenario: Scenario, rundir: RunDir, *, resumed: bool) -> None:
    """Write the scenario and the start of this process's run; trim a resumed run's logs."""
    write_atomic(rundir.config, dump_scenario(scenario))
    record_inputs(scenario, rundir)
    record_start(rundir, resumed=resumed)
    if resumed:  # a simulation that was killed left them, and this run may be of another kind
        shutil.rmtree(rundir.spares, ignore_errors=True)
    for client_id in range(scenario.federated.clients if resumed else 0):
        directory = rundir.client(client_id)
        if directory.is_dir():
            # A killed run's replica lives until it notices, and still writes.
            with locked(directory / LOCK, wait=True):
                trim_episodes(directory, saved_progress(directory))


@contextmanager
def spare_files(rundir: RunDir) -> Iterator[None]:
    """Let clients' states be written into the files of earlier ones until the block ends.

    There are as many as clients write at a time. Where the folder for them cannot be made, a file
    is made for every state.
    """
    with suppress(OSError):
        rundir.spares.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        shutil.rmtree(rundir.spares, ignore_errors=True)


def identity(rundir: RunDir) -> str:
    """Return the run's unique name for clients elsewhere, created by the first call."""
    if not rundir.identity.exists():
        rundir.root.mkdir(parents=True, exist_ok=True)
        write_atomic(rundir.identity, f"{rundir.root.name}-{secrets.token_hex(4)}")
    return rundir.identity.read_text(encoding="utf-8")
