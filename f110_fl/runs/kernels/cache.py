"""A cache of compiled kernels that all copies of the same sources share.

Flower installs the app again in each of its homes, and numba looks for compiled code beside the
source or under its path. So each new home would compile everything again, which takes longer than
a short round. This cache depends on the content of the sources instead of their path.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba
from numba.core.caching import InTreeCacheLocator

CODE: Final = Path(__file__).resolve().parents[3]
PACKAGES: Final = ("f110_fl", "sim")  # where kernels are


class SourcesLocator(InTreeCacheLocator):
    """Tells numba where a kernel is cached; see `f110_fl.runs.startup.KERNEL_CACHE`.

    A kernel is compiled together with those that it calls, which may be in other files, and with
    the constants that they name. So a change of any file of the simulator, or of one with kernels,
    leads to another directory.
    """

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        super().__init__(function, file)  # type: ignore[no-untyped-call]
        name = Path(file).resolve().relative_to(CODE).with_suffix("")
        self._cache_path = str(directory(os.environ) / ".".join(name.parts))

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> SourcesLocator | None:
        """Return the locator of a kernel; None for a function of another project."""
        if not any(Path(file).resolve().is_relative_to(CODE / name) for name in PACKAGES):
            return None
        try:
            locator: SourcesLocator | None = super().from_function(function, file)  # type: ignore[no-untyped-call]
        except RuntimeError:  # the user has no home directory
            return None
        return locator


def directory(environ: Mapping[str, str], code: Path = CODE) -> Path:
    """Return the directory of the kernels of these sources and this version of numba.

    It is in ``NUMBA_CACHE_DIR``, else the user's cache (``XDG_CACHE_HOME``, ``~/.cache``).

    Args:
        environ: The environment.
        code: The folder with the packages.
    """
    base = environ.get("NUMBA_CACHE_DIR")
    if not base:
        home = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        base = str(Path(home) / "f110-fl" / "kernels")
    return Path(base) / f"numba-{numba.__version__}-{_sources(code)}"


@cache
def _sources(code: Path) -> str:
    """Return a digest of the names and contents of all files that kernels are made of."""
    digest = hashlib.sha256()
    for file in kernel_sources(code):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(code)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def kernel_sources(code: Path) -> list[Path]:
    """Return the simulator's files, and those beside it that define kernels, in order.

    Args:
        code: The folder with the packages.
    """
    simulator = sorted((code / "sim").rglob("*.py"))
    others = sorted((code / "f110_fl").rglob("*.py"))
    return simulator + [file for file in others if b"njit" in file.read_bytes()]
