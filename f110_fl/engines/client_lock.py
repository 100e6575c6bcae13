"""A lock that lets only one process at a time be a given client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from f110_fl.errors import UserError
from f110_fl.files import locked
from f110_fl.rundir import LOCK


@contextmanager
def client_lock(directory: Path) -> Iterator[None]:
    """Lock a client's directory for this process, until it ends in whatever way.

    Raises:
        UserError: If another process has locked it, or if it cannot be written.
    """
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(directory / LOCK, wait=False))
        except BlockingIOError:
            raise UserError(f"{directory}: another process is this client") from None
        except OSError as error:
            raise UserError(f"{directory}: cannot be written: {error}") from error
        yield
