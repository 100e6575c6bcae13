"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be, and drops it in finalisers
and callbacks from C, of which compiling kernels is full. A run must still end then: the exception
is raised again until something handles it, and loops that wait also call `check`.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Final, NoReturn

INTERRUPTED: Final = 130  # exit status
TOLD: Final = "run.py: interrupted; what was finished is kept"
_AGAIN: Final = 0.5  # s from an exception that may have been dropped to the next
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)
_asked = False


def end_at_once() -> None:
    """Make SIGINT and SIGTERM end the process with a line, while there is nothing to tidy up."""
    for number in _ENDS:
        signal.signal(number, _end)


def install() -> None:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt, and make `check` raise it, too.

    systemd, docker and batch systems end a program with SIGTERM, which is treated like Ctrl-C.
    """
    global _asked
    _asked = False
    for number in _ENDS:
        signal.signal(number, _note)
    signal.signal(signal.SIGALRM, _again)
    sys.unraisablehook = _dropped


def handled() -> None:
    """Raise it no more."""
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def asked() -> bool:
    """Return whether the process was asked to end.

    Compilers and other libraries make errors of their own of a KeyboardInterrupt.
    """
    return _asked


def check() -> None:
    """Raise KeyboardInterrupt if the process was asked to end."""
    if _asked:
        raise KeyboardInterrupt


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, f"{TOLD}\n".encode())
    os._exit(INTERRUPTED)


def _note(_number: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = True
    signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
    raise KeyboardInterrupt


def _again(_number: int, _frame: FrameType | None) -> None:
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    if _asked and error is None:  # otherwise it is being handled: files and children are closed
        raise KeyboardInterrupt


def _dropped(unraisable: sys.UnraisableHookArgs) -> None:
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
