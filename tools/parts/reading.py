"""Tracks and drivers as command lines name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from f110_fl.errors import UserError
from f110_fl.loading import texts
from f110_fl.loading.document import parse_yaml


def read_track(text: str, flag: str) -> dict[str, Any]:
    """Return a track's settings.

    Args:
        text: A kind of track, a map's YAML file, a centre line's CSV file, or a track in YAML.
        flag: Where it is from, for messages.

    Raises:
        UserError: If it is none of these.
    """
    if text.lstrip().startswith("{"):
        found = parse_yaml(text, f"{flag}={text!r}").data
        if isinstance(found, dict):
            return found
    try:
        return dict(texts.track(text))
    except ValueError as error:
        allowed = f"{texts.TRACKS}, or a track as in scenarios"
        raise UserError(f"{flag}={text!r}: {error}; allowed: {allowed}") from None


def read_driver(who: str, agent: str, flag: str) -> dict[str, Any]:
    """Return a driver's settings.

    Args:
        who: A checkpoint with a policy, a kind of driver, or a driver in YAML.
        agent: The agent whose policy the checkpoint has.
        flag: Where ``who`` is from, for messages.

    Raises:
        UserError: If it is none of these.
    """
    if Path(who).is_file():
        return {"kind": "frozen_policy", "checkpoint": str(Path(who).absolute()), "agent": agent}
    found = parse_yaml(who, f"{flag}={who!r}").data
    if isinstance(found, str):
        return {"kind": found}
    if isinstance(found, dict):
        return found
    raise UserError(f"{flag}={who!r}: allowed: a checkpoint, or a driver as in scenarios")
