"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be, and drops it in a finaliser.
A run must still end then, so loops that wait also call `check`.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked = False


def install() -> None:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt, and make `check` raise it, too.

    systemd, docker and batch systems end a program with SIGTERM, which is treated like Ctrl-C.
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
