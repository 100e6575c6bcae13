"""Settings of a curriculum: stages of increasing difficulty."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Tag, field_validator, model_validator

from f110_fl.config.common import by_shape
from sim.config import Config, EnvConfig

SpawnSet = Annotated[
    Annotated[int, Field(ge=0), Tag("scalar")] | Annotated[tuple[str, ...], Tag("list")],
    by_shape("scalar", "list"),
]

Factor = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]
Difficulty = Annotated[
    Annotated[Factor, Tag("scalar")] | Annotated[tuple[Factor, Factor], Tag("list")],
    by_shape("scalar", "list"),
]


class StageConfig(Config):
    """The training episodes at a stage of the curriculum."""

    spawn_sets: tuple[SpawnSet, ...] = Field(
        (), description="Spawn sets to draw from, as in env.spawn_sets or by index; empty: all. [-]"
    )
    difficulty: Difficulty = Field(
        1.0,
        description="Factor of the scripted cars' speeds, or the least and the largest, between "
        "which each car draws its own in each episode. [-]",
    )

    @field_validator("difficulty")
    @classmethod
    def _ordered(cls, found: float | tuple[float, float]) -> float | tuple[float, float]:
        if isinstance(found, tuple) and found[0] > found[1]:
            raise ValueError(f"the least, {found[0]:g}, is above the largest, {found[1]:g}")
        return found

    @property
    def difficulties(self) -> tuple[float, float]:
        """The least and the largest factor of the scripted cars' speeds."""
        found = self.difficulty
        return found if isinstance(found, tuple) else (found, found)

    def indices(self, env: EnvConfig) -> tuple[int, ...] | None:
        """Return the indices of the stage's spawn sets in the environment; None: all.

        Raises:
            ValueError: If the environment lacks a spawn set.
        """
        known = list(env.spawn_sets)
        found = []
        for chosen in self.spawn_sets:
            if chosen in known:
                found.append(known.index(chosen))
            elif isinstance(chosen, int) and chosen < len(known):
                found.append(chosen)
            else:
                what = chosen if isinstance(chosen, int) else list(chosen)
                shown = f"0 to {len(known) - 1}" if known else "none"
                raise ValueError(f"spawn set {what} is not in env.spawn_sets: {shown}")
        return tuple(found) or None


class CurriculumConfig(Config):
    """Stages of increasing difficulty, chosen by an agent's success rate in training."""

    agent: str = Field(description="Agent whose success rate decides the stage. [name]")
    window: int = Field(
        50,
        ge=1,
        le=1_000_000_000,
        description="Number of latest episodes in the success rate. [episodes]",
    )
    raise_above: float = Field(
        0.7, ge=0, lt=1, description="Success rate above which the next stage begins. [-]"
    )
    lower_below: float = Field(
        0.2, ge=0, le=1, description="Success rate below which the previous stage returns. [-]"
    )
    patience: int = Field(
        10,
        ge=1,
        le=1_000_000_000,
        description="Successive episodes with such a rate before a change. [episodes]",
    )
    stages: tuple[StageConfig, ...] = Field(
        min_length=1, description="The stages, easiest first. [-]"
    )

    @model_validator(mode="after")
    def _order(self) -> CurriculumConfig:
        if self.lower_below > self.raise_above:
            raise ValueError(
                f"lower_below, {self.lower_below:g}, is above raise_above, {self.raise_above:g}"
            )
        return self
