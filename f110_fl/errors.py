"""The exception for a user's mistake, and the common wording of its messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A user's mistake. Its message is one line, which programs print before they exit."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


def system_error(error: OSError) -> str:
    """Return what the operating system refused, and for which file, in one line."""
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*files, error.strerror or str(error) or type(error).__name__])


def did_you_mean(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``" (did you mean 'x'?)"`` with the choice nearest to ``word``.

    Args:
        word: The user's word.
        choices: The words that could be meant.
        cutoff: Least similarity, from 0 to 1 (``difflib``'s ratio); below it, the result is ``""``.
    """
    near = get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""


def show(value: object) -> str:
    """Return a short text for a value read from YAML or JSON, with its type in plain words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return f"a mapping of {len(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return f"{str(value).lower()} (boolean)"
    kind = {int: "whole number", float: "number", str: "text"}.get(type(value), "unknown")
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({kind})"
