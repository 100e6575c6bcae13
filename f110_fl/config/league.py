"""Settings of a league: who meets whom, where, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.config import EnvConfig, GridSpawn, HeterogeneityConfig, LidarConfig, VehicleConfig
from sim.config.drivers import DriverConfig, FrozenPolicyConfig
from sim.config.env import CarConfig, ObservationPart, SpawnName
from sim.config.spawns import SpawnConfig
from sim.config.tasks import TaskConfig
from sim.config.tracks import RandomTrack, SeveralTracks, SingleTrack
from sim.settings import Config

CARS = "car_0", "car_1"  # of a game, the first of the grid first

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")]


class EntryConfig(Config):
    """Who takes part: a driver, which may be a trained policy, and its car."""

    driver: DriverConfig = Field(
        description="What drives; frozen_policy is a policy from a file. One that has a target "
        "targets the other car. [-]"
    )
    vehicle: VehicleConfig | None = Field(
        None, description="Its car, where it is not the league's. [-]"
    )
    role: Literal["attacker", "defender"] | None = Field(
        None, description="Its part in a league with a task; null in races. [-]"
    )


class LeagueConfig(Config):
    """Races of two, each with each, on the same seeds in both orders of the grid.

    With a task, each attacker meets each defender instead, and wins where it accomplishes the task.
    """

    task: TaskConfig | None = Field(
        None, description="What attackers, car_0, shall do to car_1; null: they race. [-]"
    )

    entries: dict[Name, EntryConfig] = Field(
        min_length=2, max_length=100, description="Who takes part, by name. [-]"
    )
    tracks: dict[Name, SingleTrack] = Field(
        min_length=1,
        max_length=100,
        description="Where they race, by name; all closed, or all open. [-]",
    )
    seed: int = Field(0, ge=0, lt=2**62, description="Decides starts and noise. [-]")
    seeds: int = Field(
        10, ge=1, le=100_000, description="Starts on each track, which every pair has twice. [-]"
    )
    laps: int | None = Field(
        1, ge=1, le=1000, description="Laps of a race; null: as far as they get in time_limit. [-]"
    )
    time_limit: float = Field(60.0, gt=0, le=1e5, description="Length of a race at most. [s]")
    anchor: Name | None = Field(
        None,
        description="The entry rated 1000; null: follow_the_gap, or the mean of all without it. "
        "[name]",
    )
    vehicle: VehicleConfig = Field(VehicleConfig(), description="Everybody's car. [-]")
    reverse: bool = Field(
        False, description="Policies' actions reach down to speed_min, not to standstill. [bool]"
    )
    lidar: LidarConfig = Field(LidarConfig(), description="Every car's range finder. [-]")
    heterogeneity: HeterogeneityConfig = Field(
        HeterogeneityConfig(), description="What cars draw at each start; nothing by default. [-]"
    )
    physics_step: float = Field(
        0.01, gt=0, le=0.1, description="Integration step of the dynamics. [s]"
    )
    physics_steps_per_action: int = Field(
        5, ge=1, le=100, description="Integration steps for each command. [steps]"
    )
    spawn: SpawnConfig = Field(
        GridSpawn(anywhere=True),
        description="Where they start: a grid; with a task anything, the attacker first. [-]",
    )
    spawn_sets: tuple[tuple[SpawnName, SpawnName], ...] = Field(
        (),
        max_length=10_000,
        description="With a task, pairs of spawn names, of which each start draws one. [names]",
    )
    observation: tuple[ObservationPart, ...] = Field(
        ("lidar", "motion"),
        min_length=1,
        max_length=100,
        description="What policies observe whose files do not say it. [-]",
    )

    @model_validator(mode="after")
    def _fits(self) -> LeagueConfig:
        if self.anchor is not None and self.anchor not in self.entries:
            raise ValueError(f"anchor {self.anchor!r}: allowed: {', '.join(self.entries)}")
        for name, track in self.tracks.items():
            if isinstance(track, RandomTrack) and track.count > 1:
                raise ValueError(f"track {name!r} is {track.count}; name each by itself")
        if self.seeds * len(self.tracks) < 2:
            raise ValueError("seeds: a single start says nothing; allowed: from 2")
        if self.task is not None:
            self._check_roles()
            return self
        roles = [name for name, entry in self.entries.items() if entry.role is not None]
        if roles:
            raise ValueError(f"role of {roles[0]!r}: only with a task, which the league has not")
        if not isinstance(self.spawn, GridSpawn) or self.spawn_sets:
            raise ValueError("spawn: races start from a grid; allowed: kind grid")
        if self.spawn.shuffle:
            raise ValueError("spawn.shuffle: every pair starts in both orders; leave it out")
        return self

    def _check_roles(self) -> None:
        for name, entry in self.entries.items():
            if entry.role is None:
                raise ValueError(f"role of {name!r} is missing; allowed: attacker, defender")
            if entry.role == "attacker" and not isinstance(entry.driver, FrozenPolicyConfig):
                raise ValueError(f"attacker {name!r}: allowed: a driver of kind frozen_policy")
        if len({entry.role for entry in self.entries.values()}) < 2:
            raise ValueError("entries: an attacker and a defender are needed")

    def pairs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return who meets whom: each pair in both orders, or each attacker and each defender."""
        if self.task is None:
            return [pair for two in combinations(names, 2) for pair in (two, two[::-1])]
        attackers, defenders = (
            [name for name in names if self.entries[name].role == role]
            for role in ("attacker", "defender")
        )
        return list(product(attackers, defenders))

    def environment(self, first: str, second: str) -> EnvConfig:
        """Return the environment of a pair's games, of which the first entry leads the grid.

        With a task the first entry's car, the attacker's, is an agent.

        Raises:
            ValidationError: If a driver does not fit.
        """
        duration = self.physics_step * self.physics_steps_per_action
        cars = tuple(
            self._car(name, own, other)
            for name, own, other in zip((first, second), CARS, CARS[::-1], strict=True)
        )
        return EnvConfig(
            track=SeveralTracks(kind="several", tracks=tuple(self.tracks.values())),
            cars=cars,
            lidar=self.lidar,
            heterogeneity=self.heterogeneity,
            physics_step=self.physics_step,
            physics_steps_per_action=self.physics_steps_per_action,
            max_steps=max(1, round(self.time_limit / duration)),
            laps=1000 if self.laps is None else self.laps,
            end_when="all" if self.task is None else "any",
            spawn=self.spawn,
            spawn_sets=self.spawn_sets,
            observation=self.observation,
        )

    def _car(self, entry: str, own: str, other: str) -> CarConfig:
        chosen = self.entries[entry]
        driver = chosen.driver
        if getattr(driver, "target", None) is not None:
            driver = driver.model_copy(update={"target": other})
        vehicle = chosen.vehicle or self.vehicle
        if chosen.role == "attacker":
            return CarConfig(name=own, vehicle=vehicle, task=self.task, reverse=self.reverse)
        return CarConfig(name=own, vehicle=vehicle, driver=driver, reverse=self.reverse)
