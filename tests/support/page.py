"""The files and changes that docs/extending.md shows, taken from it as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from small import REPOSITORY

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
PACKAGE, TREE = re.split(r"^## In .*\n", PAGE, flags=re.MULTILINE)[1:]  # the two parts of the page

# A file's name in a line of its own, and its block.
_NAMED = re.compile(r"^`([\w./]+)`\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("clients", "f110_fl", "server", "sim", "pyproject.toml", "run.py")


class Block(NamedTuple):
    path: str
    language: str
    text: str


def named(text: str) -> list[Block]:
    """Returns the blocks that are files, or changes of files."""
    return [Block(*found) for found in _NAMED.findall(text)]


def unnamed(text: str, language: str) -> list[str]:
    """Returns the blocks of a language that are no files."""
    plain = _NAMED.sub("", text)
    return re.findall(rf"^```{language}\n(.*?)^```$", plain, re.MULTILINE | re.DOTALL)


def write_package(folder: Path) -> Path:
    """Writes the example package, and its scenario beside it."""
    files: dict[str, list[str]] = {}
    for block in named(PACKAGE):
        files.setdefault(block.path, []).append(block.text)
    for path, texts in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n\n".join(texts), encoding="utf-8")
    return folder


def changed_tree(folder: Path) -> Path:
    """Copies the project's own code, and applies all changes of the page."""
    folder.mkdir()
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for block in named(TREE):
        file = folder / block.path
        if block.language == "diff":
            file.write_text(patched(file.read_text(encoding="utf-8"), block), encoding="utf-8")
        else:
            assert not file.exists(), f"{block.path} is shown as a new file"
            file.write_text(block.text, encoding="utf-8")
    return folder


def patched(text: str, block: Block) -> str:
    """Returns a file with a block's changes, each of which must fit at exactly one place."""
    for change in block.text.split("@@\n"):
        lines = change.splitlines(keepends=True)
        old = "".join(line[1:] or "\n" for line in lines if not line.startswith("+"))
        new = "".join(line[1:] or "\n" for line in lines if not line.startswith("-"))
        assert text.count(old) == 1, f"{block.path} has this {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    return text
