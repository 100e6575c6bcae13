"""What settings of several kinds have in common: bounds, unions by shape, templates."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Annotated, Final

from pydantic import BaseModel, Discriminator, Field

SHAPES: Final[dict[type, str]] = {list: "list", tuple: "list", dict: "mapping"}
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def by_shape(*tags: str) -> Discriminator:
    """Return what selects a union's member by the shape of a value: scalar, list or mapping.

    So an error is that of the member that was meant, at its own place.

    Args:
        tags: The shapes that the members have and are tagged with; what has none of them is
            taken for the first.
    """

    def shape(value: object) -> str:
        of_model = isinstance(value, BaseModel)
        found = "mapping" if of_model else SHAPES.get(type(value), "scalar")
        return found if found in tags else tags[0]

    return Discriminator(shape)


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
