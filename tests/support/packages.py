"""Installs a package for the programs that a test starts, as installed packages lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from small import REPOSITORY


def install(folder: Path, modules: Mapping[str, str], entries: Iterable[str]) -> dict[str, str]:
    """Writes modules with these objects as entry points of plugins; returns the environment."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    info = folder / "tiny-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    lines = "".join(f"{entry.partition(':')[2].lower()} = {entry}\n" for entry in entries)
    (info / "entry_points.txt").write_text(f"[f110_fl.plugins]\n{lines}")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}
