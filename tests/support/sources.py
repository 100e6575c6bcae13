"""The project's modules, and what each of them imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from small import REPOSITORY

PACKAGES = ("sim", "f110_fl", "clients", "server")
PROGRAMS = [REPOSITORY / "run.py", *sorted((REPOSITORY / "tools").rglob("*.py"))]
SOURCES = [*(p for name in PACKAGES for p in sorted((REPOSITORY / name).rglob("*.py"))), *PROGRAMS]

DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+(:\w+)?")


class Import(NamedTuple):
    name: str  # full, of a module or of something in one
    line: int


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


def tree(path: Path) -> ast.Module:
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def imports(path: Path) -> Iterator[Import]:
    """Yields what a file imports by statements, wherever in it; ``from a import b`` is a.b."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            yield from (Import(f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def named(path: Path) -> Iterator[Import]:
    """Yields what a file's strings name for a later import.

    That is a string of names and nothing else, as "package.module", "package.module:name" and
    "package.module.Name, package.other.Name".
    """
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = re.split(r",\s*", node.value)
            if any(map(DOTTED.fullmatch, names)):
                yield from (Import(name.replace(":", "."), node.lineno) for name in names)


def module_of(name: str) -> str:
    """Returns which module of ours a full name is in; empty if it is not ours."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def ours(path: Path) -> Iterator[Import]:
    """Yields the modules of ours that a file imports, now or later, but itself."""
    found = [Import(module_of(name), line) for name, line in imports(path)]
    later = [Import(module_of(name), line) for name, line in named(path)]
    found += [each for each in later if "." in each.name]  # "run.py" is a file
    yield from (each for each in found if each.name not in ("", module_name(path)))


def imported(path: Path) -> set[str]:
    """Returns the packages, ours and others', that a file imports by statements."""
    return {found.name.split(".")[0] for found in imports(path)}
