"""Settings of whom learners meet: earlier selves, or the entries of a league."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from sim.settings import Config, FilePath


class OpponentsConfig(Config):
    """Earlier selves of the other learners, which this learner meets in part of its episodes.

    In such an episode a snapshot, drawn for each of the other learners' cars, drives it greedily,
    and only this learner collects experience. A snapshot is drawn with a probability in proportion
    to (1 - p)^power, where p is the learner's success rate against it: prioritised fictitious
    self-play (Vinyals et al. 2019, AlphaStar, Methods).
    """

    every: int = Field(
        200,
        ge=1,
        le=1_000_000_000,
        description="Training episodes from a snapshot of the others to the next. [episodes]",
    )
    keep: int = Field(
        10, ge=1, le=10_000, description="Most snapshots kept: the latest. [snapshots]"
    )
    fraction: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Part of the training episodes that are this learner's against snapshots; "
        "those of all learners add up to at most 1, and in the rest all learn. [-]",
    )
    power: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Exponent of 1 - success rate in draws; 0: all are as likely. [-]",
    )


class LeagueOpponentsConfig(Config):
    """Entries of a league, one of which drives another car in each training episode.

    An entry is drawn with a probability in proportion to (1 - p)^power, where p is the learner's
    success rate against it: prioritised fictitious self-play (Vinyals et al. 2019, AlphaStar,
    Methods). Entries that are held out are never met in training. Of a league with roles, the
    defenders are met.
    """

    league: Annotated[str, FilePath("a league's YAML file")] = Field(
        description="File of the league, relative to the scenario that names it. [path]"
    )
    car: str | None = Field(
        None,
        min_length=1,
        description="The car with a driver that entries drive; null: the only one. [name]",
    )
    held_out: tuple[str, ...] = Field(
        (),
        max_length=100,
        description="Entries that no training episode meets, but every one of --mode eval. [names]",
    )
    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Part of the training episodes against entries; in the rest the scenario's own "
        "driver drives. [-]",
    )
    power: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Exponent of 1 - success rate in draws; 0: all are as likely. [-]",
    )

    @model_validator(mode="after")
    def _once(self) -> LeagueOpponentsConfig:
        if len(set(self.held_out)) < len(self.held_out):
            raise ValueError("held_out: an entry is there twice")
        return self


def _kind(value: Any) -> str:
    """Return the tag of the settings that a value is meant as."""
    if isinstance(value, BaseModel):
        return "league" if isinstance(value, LeagueOpponentsConfig) else "selves"
    return "league" if isinstance(value, dict) and "league" in value else "selves"


Opponents = Annotated[
    Annotated[OpponentsConfig, Tag("selves")] | Annotated[LeagueOpponentsConfig, Tag("league")],
    Discriminator(_kind),
]
