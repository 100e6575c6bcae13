"""Getting going sooner."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


@contextmanager
def without_collections() -> Iterator[None]:
    """Let Python's garbage collector rest while much is imported, which leaves little garbage.

    It would look through all that is there again and again, which is a sixth of the time that
    PyTorch, numba and compiled kernels take to load.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# Makes numba, which reads it when it is imported, keep kernels where every copy of the same
# sources finds them: this project's and those that Flower installs.
KERNEL_CACHE: Final = {
    "NUMBA_CACHE_LOCATOR_CLASSES": (
        "f110_fl.runs.kernel_cache.SourcesLocator, InTreeCacheLocator, UserWideCacheLocator"
    )
}
