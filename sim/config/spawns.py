"""Settings of where cars start."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.settings import Config

_Speed = Annotated[float, Field(ge=0, le=1e3)]


class Spawn(Config):
    """What all starts have in common."""

    speed: tuple[_Speed, _Speed] | None = Field(
        None,
        description="Smallest and largest speed that each car draws to start with, of which it has "
        "no more than its speed_max; null: at rest. [m/s]",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Spawn:
        if self.speed is not None and self.speed[0] > self.speed[1]:
            low, high = self.speed
            raise ValueError(f"speed: the smallest, {low:g}, is above the largest, {high:g}")
        return self


class NamedSpawn(Spawn):
    """Start from the track's named poses; see ``spawn_sets``."""

    kind: Literal["named"] = Field("named", description="Selects these starts. [-]")


class GridSpawn(Spawn):
    """Start from a grid of two staggered columns behind the finish line, or anywhere.

    On an open track the grid is at the start of the centre line, or up to the finish line.
    """

    kind: Literal["grid"] = Field("grid", description="Selects these starts. [-]")
    row_spacing: float = Field(
        2.0,
        gt=0,
        le=1e4,
        description="Distance between cars of a column; the other column is half way. [m]",
    )
    column_spacing: float = Field(
        0.8, ge=0, le=1e4, description="Distance between the columns. [m]"
    )
    offset: float = Field(
        1.0,
        ge=0,
        le=1e4,
        description="From the finish line to the first car; open: from the start to the last. [m]",
    )
    shuffle: bool = Field(
        False, description="Draw the cars' order each episode; otherwise the first leads. [bool]"
    )
    anywhere: bool = Field(
        False, description="Draw where on the track the grid is each episode. [bool]"
    )


class RandomSpawn(Spawn):
    """Start anywhere on the track."""

    kind: Literal["random"] = Field("random", description="Selects these starts. [-]")
    gap: float = Field(0.5, ge=0, le=1e4, description="Least free space between cars. [m]")
    wall_gap: float = Field(0.1, ge=0, le=1e4, description="Least free space to walls. [m]")
    heading_noise: float = Field(
        0.1,
        ge=0,
        le=3.141592653589793,
        description="Largest deviation from the lane's direction. [rad]",
    )


SpawnConfig = Annotated[NamedSpawn | GridSpawn | RandomSpawn, Field(discriminator="kind")]
