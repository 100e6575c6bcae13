"""Faster start of processes."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from f110_fl.errors import UserError


@contextmanager
def without_collections() -> Iterator[None]:
    """Disable Python's garbage collector during imports, which leave little garbage.

    Its repeated passes take a sixth of the time to load PyTorch, numba and compiled kernels.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def open_standard_streams() -> None:
    """Open what is closed of standard input, output and error, to nowhere.

    Otherwise files and pipes that are opened later get their numbers, and children, who write to
    these, write into them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def check_working_directory() -> None:
    """Refuse to start in a directory that was deleted: children could not.

    Raises:
        UserError: If it was.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the working directory was deleted; change to one that is there") from None


# Makes numba, which reads it at import, keep kernels where every copy of the same sources finds
# them: this project's and those that Flower installs.
KERNEL_CACHE: Final = {
    "NUMBA_CACHE_LOCATOR_CLASSES": (
        "f110_fl.runs.kernels.cache.SourcesLocator, InTreeCacheLocator, UserWideCacheLocator"
    )
}


def ensure_kernel_cache() -> list[str]:
    """Where nothing can be kept on disk, let this process and its children keep kernels for now.

    Numba refuses to import a kernel that it is to keep, but cannot. Kernels are then in a temporary
    directory, which is removed when this process ends.

    Returns:
        A line about that; none where kernels can be kept.

    Raises:
        UserError: If there is no temporary directory either.
    """
    own = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kept = Path(own) if own else Path(home)
    if _writable(kept) or (not own and _writable(Path(__file__).parent / "__pycache__")):
        return []
    try:
        folder = tempfile.mkdtemp(prefix="f110-fl-kernels-")
    except OSError as error:
        raise UserError(
            f"compiled kernels can be kept neither in {kept} nor in a temporary directory "
            f"({error.strerror}); set NUMBA_CACHE_DIR"
        ) from None
    os.environ["NUMBA_CACHE_DIR"] = folder
    owner = os.getpid()  # children, which may be forks, leave it alone

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return [
        f"kernels are compiled anew, as {kept} cannot be written; NUMBA_CACHE_DIR names "
        "another directory for them"
    ]


def _writable(folder: Path) -> bool:
    """Return whether a file can be written into a folder, which is created if it is missing."""
    with suppress(OSError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    return False
