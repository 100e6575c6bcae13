"""Settings of a league: who meets whom, where, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations, product
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.config import EnvConfig, GridSpawn, HeterogeneityConfig, LidarConfig, VehicleConfig
from sim.config.drivers import DriverConfig, FrozenPolicyConfig
from sim.config.env import CarConfig, ObservationPart, SpawnName
from sim.config.spawns import SpawnConfig
from sim.config.tasks import TaskConfig
from sim.config.tracks import RandomTrack, SeveralTracks, SingleTrack
from sim.settings import Config

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_. -]*$")]


class EntryConfig(Config):
    """Who takes part: a driver, which may be a trained policy, and its car."""

    driver: DriverConfig = Field(
        description="What drives; frozen_policy is a policy from a file. One that has a target "
        "targets the next of the grid, the last the first. [-]"
    )
    vehicle: VehicleConfig | None = Field(
        None, description="Its car, where it is not the league's. [-]"
    )
    role: Literal["attacker", "defender"] | None = Field(
        None, description="Its part in a league with a task; null in races. [-]"
    )


class LeagueConfig(Config):
    """Races of ``grid`` cars, each with each, on the same seeds in several orders of the grid.

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
    grid: int = Field(2, ge=2, le=4, description="Cars of a race. [-]")
    orders: Literal["rotated", "all"] = Field(
        "rotated",
        description="Orders of the grid in which the same cars race: each first once, the others "
        "after it in turn, or all that there are; of two cars these are the same. [-]",
    )
    seed: int = Field(0, ge=0, lt=2**62, description="Decides starts and noise. [-]")
    seeds: int = Field(
        10, ge=1, le=100_000, description="Starts on each track, for every order of a grid. [-]"
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
        if len(self.entries) < self.grid:
            raise ValueError(f"grid: {len(self.entries)} entries make no grid of {self.grid}")
        roles = [name for name, entry in self.entries.items() if entry.role is not None]
        if roles:
            raise ValueError(f"role of {roles[0]!r}: only with a task, which the league has not")
        if not isinstance(self.spawn, GridSpawn) or self.spawn_sets:
            raise ValueError("spawn: races start from a grid; allowed: kind grid")
        if self.spawn.shuffle:
            raise ValueError("spawn.shuffle: cars start in several orders already; leave it out")
        return self

    def _check_roles(self) -> None:
        if self.grid != 2:
            raise ValueError("grid: with a task one attacks and one defends; allowed: 2")
        for name, entry in self.entries.items():
            if entry.role is None:
                raise ValueError(f"role of {name!r} is missing; allowed: attacker, defender")
            if entry.role == "attacker" and not isinstance(entry.driver, FrozenPolicyConfig):
                raise ValueError(f"attacker {name!r}: allowed: a driver of kind frozen_policy")
        if len({entry.role for entry in self.entries.values()}) < 2:
            raise ValueError("entries: an attacker and a defender are needed")

    def lineups(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """Return who meets whom, the first of the grid first, or the attacker.

        Every combination of entries in its ``orders``; with a task each attacker and each defender.
        """
        if self.task is not None:
            attackers, defenders = (
                [name for name in names if self.entries[name].role == role]
                for role in ("attacker", "defender")
            )
            return list(product(attackers, defenders))
        found: list[tuple[str, ...]] = []
        for chosen in combinations(names, self.grid):
            turned = (chosen[k:] + chosen[:k] for k in range(self.grid))
            found += permutations(chosen) if self.orders == "all" else turned
        return found

    def environment(self, lineup: Sequence[str]) -> EnvConfig:
        """Return the environment of some entries' games, of which the first leads the grid.

        Cars are named ``car_0`` and so on. With a task the first, the attacker's, is an agent.

        Raises:
            ValidationError: If a driver does not fit.
        """
        duration = self.physics_step * self.physics_steps_per_action
        names = [f"car_{number}" for number in range(len(lineup))]
        cars = tuple(
            self._car(entry, own, other)
            for entry, own, other in zip(lineup, names, names[1:] + names[:1], strict=True)
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
