"""When, by which command and on what machine a run was started."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from f110_fl.files import append_line
from f110_fl.rundir import RunDir

PACKAGES: Final = ("f110-fl", "flwr", "torch", "numpy", "numba", "gymnasium", "pettingzoo")


def record_start(rundir: RunDir, *, resumed: bool) -> None:
    """Append the start of this process's run to its ``starts.jsonl``.

    Args:
        rundir: The run's directory, which exists.
        resumed: Whether the run was begun before.

    Raises:
        OSError: If the file cannot be written.
    """
    start = {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "resumed": resumed,
        "machine": machine(),
    }
    append_line(rundir.starts, json.dumps(start))


def machine() -> dict[str, str]:
    """Return processor, memory, system and versions of what computes, as texts by name."""
    found = {
        "Processor": _processor(),
        "Cores": str(os.cpu_count() or "unknown"),
        "Memory": _memory(),
        "System": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree that is not installed
            continue
    return found


def _processor() -> str:
    """The processor's name: Linux has it in a file, other systems in `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # not a POSIX system
        return "unknown"
    return f"{size / 2**30:.1f} GiB"


def seen_by_node(root: Path) -> dict[str, str]:
    """Return what has to be the same on all machines that share a run, as texts by name.

    Args:
        root: The run's directory.
    """
    config = RunDir(root).config
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "PyTorch": version("torch"),
        "Flower": version("flwr"),
        str(config): _digest(config),
    }


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        return error.strerror or "unreadable"
