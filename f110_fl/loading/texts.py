"""Readers of the texts of variables and flags; they raise ValueError for unreadable texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from f110_fl.errors import UserError, did_you_mean
from f110_fl.loading.document import BOOLEANS
from f110_fl.loading.fields import field_of, tag_of
from f110_fl.loading.overrides import Change
from sim.config import EnvConfig
from sim.settings import find_file


def whole(text: str) -> int:
    """Read a whole number."""
    if not re.fullmatch(r"[-+]?[0-9]+", text.strip(), re.ASCII) or len(text) > 100:
        raise ValueError("not a whole number")
    return int(text)


def bounded(source: str, text: str, least: int, most: int | None = None, why: str = "") -> int:
    """Read a whole number from ``least`` to ``most``; the message names the source and says why.

    Raises:
        UserError: If it is not such a number.
    """
    with suppress(ValueError):
        number = whole(text)
        if least <= number and (most is None or number <= most):
            return number
    bounds = f"from {least}" if most is None else f"from {least} to {most}"
    raise UserError(f"{source}={text!r}: allowed: a whole number {bounds}{why}")


def decimal(text: str) -> float:
    """Read a number."""
    pattern = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
    if not re.fullmatch(pattern, text.strip(), re.ASCII):
        raise ValueError(f"{text.strip()!r} is not a number")
    return float(text)


def switch(text: str) -> bool:
    """Read a boolean such as ``1`` or ``off``."""
    words = {"1": True, "0": False, **BOOLEANS}
    if text.strip().lower() not in words:
        raise ValueError("neither 1, true, yes, on nor 0, false, no, off")
    return words[text.strip().lower()]


READERS: Final[Mapping[Any, Callable[[str], object]]] = {int: whole, float: decimal, bool: switch}


def names(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise ValueError("an empty name between commas")
    return found


def kept(text: str) -> str | int:
    """Read which rounds stay: a word, or a number of rounds."""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) else text


def weighting(text: str) -> str | Change:
    """Read an averaging mode; ``weights`` keeps a list of weights, and is refused without one."""
    return text if text != "weights" else lambda found: found if isinstance(found, tuple) else text


def weights(text: str) -> tuple[float, ...]:
    """Read ``0:2,1:1``, ids in any order, or ``2,1``."""
    entries = [entry.strip() for entry in text.split(",")]
    if not any(":" in entry for entry in entries):
        return tuple(decimal(entry) for entry in entries)
    found: dict[int, float] = {}
    for entry in entries:
        client, colon, weight = entry.partition(":")
        if not (colon and re.fullmatch(r"[0-9]{1,9}", client.strip(), re.ASCII)):
            raise ValueError(f"{entry!r} is not id:weight")
        if int(client) in found:
            raise ValueError(f"client {int(client)} comes twice")
        found[int(client)] = decimal(weight)
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"client ids are {sorted(found)}, not 0 to clients - 1, each once")
    return tuple(found[client] for client in sorted(found))


def literal(text: str) -> str:
    """Return the template that ``str.format`` turns into ``text``."""
    return text.replace("{", "{{").replace("}", "}}")


def counted_seed(found: object) -> object:
    """Return a seed as one counted from client to client; base and shared seed stay.

    Args:
        found: The scenario's seed; None: not given.
    """
    if isinstance(found, dict):
        return {"shared": found.get("base"), **found}
    if found is None or isinstance(found, tuple):
        return {"base": 0, "shared": 0}  # see `Scenario.shared_seed`
    return {"base": found, "shared": found} if isinstance(found, int) else found


# The kinds of track that require no further keys.
_READY: Final = [
    tag_of(model)[1]
    for model in field_of(EnvConfig, "track").models
    if not any(field.is_required() for field in model.model_fields.values())
]
TRACKS: Final = f"{', '.join(_READY)}, or a map's YAML or a centre line's CSV file"


def track(text: str) -> dict[str, str]:
    """Read a kind of track, or the file of a map or a centre line."""
    if text in _READY:
        return {"kind": text}
    file = find_file(text, Path.cwd())
    if file is None:
        raise ValueError(f"no such track or file{did_you_mean(text, _READY)}")
    return {"kind": "centerline" if file.suffix.lower() == ".csv" else "map", "file": str(file)}
