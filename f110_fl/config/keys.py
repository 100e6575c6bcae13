"""Paths in a tree of settings, such as ``env.cars[0].name``."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from f110_fl.errors import show

Key: TypeAlias = str | int
KeyPath: TypeAlias = tuple[Key, ...]  # keys and list indices from the root

_KEY: Final = re.compile(r"[\w-]+(\[[0-9]{1,6}\])*(\.[\w-]+(\[[0-9]{1,6}\])*)*")


def join(path: KeyPath) -> str:
    """Return a path as text: ``env.cars[0].name``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            plain = key if re.fullmatch(r"[\w-]+", key) else repr(key)
            text += f".{plain}" if text else plain
    return text


def parse_key(text: str) -> KeyPath | None:
    """Return the keys and list indices of ``env.cars[0].name``, None if it is not a path."""
    if not _KEY.fullmatch(text):
        return None
    parts = re.findall(r"([\w-]+)(\])?", text)
    return tuple(int(part) if bracket else part for part, bracket in parts)


def overlaps(left: KeyPath, right: KeyPath) -> bool:
    """Return whether one of two paths is the other or lies below it."""
    depth = min(len(left), len(right))
    return left[:depth] == right[:depth]


def laid(data: object, path: KeyPath, value: object, above: KeyPath = ()) -> object:
    """Return a copy of ``data`` with ``value`` at ``path``.

    Raises:
        LookupError: If the path does not exist; the message says why.
    """
    if not path:
        return value
    key, *_ = path
    here, below = (*above, key), path[1:]
    if isinstance(key, str) and isinstance(data, dict):
        return {**data, key: laid(data.get(key, {}), below, value, here)}
    if isinstance(key, int) and isinstance(data, tuple) and key < len(data):
        return (*data[:key], laid(data[key], below, value, here), *data[key + 1 :])
    found = show(data) if data or not isinstance(data, dict) else "not in the scenario's file"
    raise LookupError(f"no {join(here)}: {join(above)} is {found}")
