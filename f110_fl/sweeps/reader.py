"""Reads the files of sweeps: settings by dotted key, lists of values, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from f110_fl.config.keys import KeyPath, join, parse_key
from f110_fl.errors import UserError, did_you_mean, show
from f110_fl.loading.document import parse_yaml, read_yaml
from f110_fl.loading.overrides import Override

ROOT: Final = ("federated", "root")


class Reader:
    """A sweep's file, a mapping; messages about mistakes in it name the line.

    Args:
        path: The YAML file.
        kind: What the file is, for messages: ``a grid's YAML file``.
        keys: The keys that it may have.

    Raises:
        UserError: If it is not such a file.
    """

    def __init__(self, path: Path, kind: str, keys: Sequence[str]) -> None:
        self.path = path
        self.document = parse_yaml(read_yaml(path, kind), str(path))
        data = self.document.data
        if not isinstance(data, dict):
            found = "an empty file" if data is None else show(data)
            self.refuse((), f"found {found}; allowed: a mapping of {', '.join(keys)}")
        self.data: dict[str, Any] = data
        for key in self.data:
            if key not in keys:
                hint = did_you_mean(key, keys)
                self.refuse((key,), f"unknown key; allowed: {', '.join(keys)}{hint}")

    def refuse(self, keys: KeyPath, what: str) -> NoReturn:
        """Raise a UserError about the value at ``keys``."""
        line = self.document.mark(keys).line
        where = f"{join(keys)}: " if keys else ""
        raise UserError(f"{self.path}:{line}: {where}{what}")

    def values(self, name: str, what: str = "dotted key") -> dict[str, tuple[object, ...]]:
        """Return the lists of values below a key of the file, which may be missing."""
        data = self.data.get(name, {})
        if not isinstance(data, dict):
            self.refuse((name,), f"found {show(data)}; allowed: lists of values by {what}")
        for key, values in data.items():
            if not isinstance(values, tuple) or not values:
                keys = (name, key)
                self.refuse(keys, f"found {show(values)}; allowed: a list of values, not empty")
        return data

    def settings(self, data: Mapping[str, Any], keys: KeyPath) -> list[Override]:
        """Return the settings of a mapping at ``keys``, by dotted key."""
        return [self.override(key, value, (*keys, key)) for key, value in data.items()]

    def override(self, key: str, value: object, keys: KeyPath) -> Override:
        """Return the setting of a dotted key, whose value stands at ``keys``."""
        path = parse_key(key)
        if path is None:
            self.refuse(keys, "not a dotted key; allowed: such as learners.car_0.discount")
        if path == ROOT:
            self.refuse(keys, "runs have folders in the grid's directory; set that with FED_ROOT")
        return Override(self.source(path, keys), path, value)

    def source(self, path: KeyPath, keys: KeyPath) -> str:
        """Return how messages name a setting whose value stands at ``keys``."""
        return f"{self.path}:{self.document.mark(keys).line}: {join(path)}"


def check_free(override: Override, outside: Sequence[Override]) -> None:
    """Refuse a variable or flag that contradicts a value of a sweep.

    Raises:
        UserError: If one does; the message names both.
    """
    for other in outside:
        if other.path != ROOT and other.contradicts(override):
            raise UserError(f"{other.name}: contradicts {override.name}; leave one out")
