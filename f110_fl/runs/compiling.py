"""Says that kernels are compiled, which takes half a minute the first time and nothing later."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from numba.core import event
from numba.core.caching import FunctionCache

TOLD: Final = "Compiling the simulator for this machine, once; it takes about half a minute"


class _Teller(event.Listener):
    """Tells of the first kernel that is compiled because it is not on disk.

    What is loaded from disk is no event, and what is never kept there does not count.
    """

    told = False  # in this process

    def on_start(self, event: event.Event) -> None:
        kept = isinstance(getattr(event.data["dispatcher"], "_cache", None), FunctionCache)
        if kept and not _Teller.told:
            _Teller.told = True
            print(TOLD, file=sys.stderr, flush=True)  # noqa: T201

    def on_end(self, event: event.Event) -> None:
        pass


@contextmanager
def compiling_told() -> Iterator[None]:
    """Print a line when the first kernel has to be compiled, once a process."""
    with event.install_listener("numba:compile", _Teller()):
        yield
