"""Settings of the earlier selves that learners meet."""

from __future__ import annotations

from pydantic import Field

from sim.settings import Config


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
