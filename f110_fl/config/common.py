"""Templates of names and paths."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Annotated

from pydantic import Field


def check_placeholders(name: str, template: str, allowed: Sequence[str]) -> None:
    """Raise ValueError if a template has other placeholders than those in ``allowed``."""
    choices = ", ".join(f"{{{word}}}" for word in allowed)
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{name} {template!r}: {error}; placeholders are {choices}") from None
    for word, specification, conversion in parts:
        if word not in allowed or specification or conversion:
            raise ValueError(f"{name} {template!r}: placeholders are {choices}")


Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
