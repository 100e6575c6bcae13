"""At most one process is a client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from f110_fl.errors import UserError
from f110_fl.files import locked
from f110_fl.rundir import LOCK


@contextmanager
def client_lock(directory: Path) -> Iterator[None]:
    """Lock a client's directory for this process; the lock ends with it, however it ends.

    Raises:
        UserError: If another process has locked it, or it cannot be written.
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
