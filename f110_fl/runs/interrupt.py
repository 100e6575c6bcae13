"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be, and drops it where that is
a finaliser. A run must not go on then: whoever waits in a loop asks here, too.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def install() -> None:
    """From now on, SIGINT and SIGTERM raise KeyboardInterrupt, and `check` knows of them.

    systemd, docker and batch systems ask for an end with SIGTERM: the same as Ctrl-C.
    """
    global _asked
    _asked = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _note)


def check() -> None:
    """Raise KeyboardInterrupt if the process was asked to end."""
    if _asked:
        raise KeyboardInterrupt


def _note(_number: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
