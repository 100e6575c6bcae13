"""Faster start of processes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


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


# Makes numba, which reads it at import, keep kernels where every copy of the same sources finds
# them: this project's and those that Flower installs.
KERNEL_CACHE: Final = {
    "NUMBA_CACHE_LOCATOR_CLASSES": (
        "f110_fl.runs.kernel_cache.SourcesLocator, InTreeCacheLocator, UserWideCacheLocator"
    )
}
