"""Drivers as command lines name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from f110_fl.errors import UserError
from f110_fl.loading.document import parse_yaml


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
