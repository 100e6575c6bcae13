"""Faster start of processes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


# Makes numba, which reads it at import, keep kernels where every copy of the same sources finds
# them: this project's and those that Flower installs.
def check_working_directory() -> None:
    """Refuse to start in a directory that was deleted: children could not.

    Raises:
        UserError: If it was.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the working directory was deleted; change to one that is there") from None


KERNEL_CACHE: Final = {
    "NUMBA_CACHE_LOCATOR_CLASSES": (
        "f110_fl.runs.kernel_cache.SourcesLocator, InTreeCacheLocator, UserWideCacheLocator"
    )
}
