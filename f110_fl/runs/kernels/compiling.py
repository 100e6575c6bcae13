"""Says that kernels are compiled, which takes half a minute the first time and nothing later."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from numba.core import event
from numba.core.caching import FunctionCache

PATIENCE: Final = 3.0  # s of compiling that are worth no words, as of one kernel more
TOLD: Final = "Compiling the simulator for this machine, once; it takes about half a minute"


class _Teller(event.Listener):
    """Tells that kernels are compiled because they are not on disk, once they are many.

    What is loaded from disk is no event, and what is never kept there does not count.
    """

    told = False  # in this process
    begun: float | None = None  # when the first kernel was, s

    def on_start(self, event: event.Event) -> None:
        kept = isinstance(getattr(event.data["dispatcher"], "_cache", None), FunctionCache)
        if not kept or _Teller.told:
            return
        now = time.monotonic()
        _Teller.begun = now if _Teller.begun is None else _Teller.begun
        if now - _Teller.begun >= PATIENCE:
            _Teller.told = True
            print(TOLD, file=sys.stderr, flush=True)  # noqa: T201

    def on_end(self, event: event.Event) -> None:
        pass


@contextmanager
def compiling_told() -> Iterator[None]:
    """Print a line when kernels have to be compiled, once a process."""
    with event.install_listener("numba:compile", _Teller()):
        yield
