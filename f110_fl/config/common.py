"""Parts that several kinds of settings share: bounds, unions by shape, templates."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, Discriminator, Field

from f110_fl.config.opponents import Opponents
from sim.settings import Config, FilePath

SHAPES: Final[dict[type, str]] = {list: "list", tuple: "list", dict: "mapping"}
Positive = Annotated[float, Field(gt=0, le=1e9)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class AlgorithmConfig(Config):
    """Settings of a learning algorithm, and its properties that are known without PyTorch.

    A subclass has a field ``algorithm``, a literal of the name that selects it. The class is in
    this module so that plugins can import it while the settings of all learners import them.

    Attributes:
        acting: Names of the networks that choose actions: NETWORK in ``model/NETWORK/PARAMETER``.
    """

    acting: ClassVar[frozenset[str]]
    algorithm: str = Field(description="Name that selects this learner. [-]")
    initial: Annotated[str, FilePath("a safetensors file")] | None = Field(
        None,
        description="Safetensors file with models of this agent that training starts from, "
        "relative to the scenario that names it; null: none. [path]",
    )
    normalise_observations: bool = Field(
        False, description="Scale observations to mean 0, variance 1, by running statistics. [bool]"
    )
    opponents: Opponents | None = Field(
        None,
        description="Whom to meet: earlier selves of the other learners or, with the key league, "
        "entries of a league; null: nobody else. [-]",
    )

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Widths of all hidden layers, by which a checkpoint tells learners apart."""
        return ()


def by_shape(*tags: str) -> Discriminator:
    """Return a discriminator of a union by the shape of a value: scalar, list or mapping.

    So an error is that of the intended member, at its own location.

    Args:
        tags: The members' shapes, which are their tags; a value of another shape is validated as
            the first member.
    """

    def shape(value: object) -> str:
        is_model = isinstance(value, BaseModel)
        found = "mapping" if is_model else SHAPES.get(type(value), "scalar")
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
