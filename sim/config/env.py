"""Settings of a whole environment, and of its pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.config.drivers import DriverConfig
from sim.config.spawns import NamedSpawn, SpawnConfig
from sim.config.tasks import TaskConfig
from sim.config.tracks import Line2Track, TrackConfig
from sim.config.vehicle import HeterogeneityConfig, LidarConfig, VehicleConfig
from sim.settings import Config


class CarConfig(Config):
    """A car, what drives it, and what it is rewarded for."""

    name: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="Name of the agent. [name]",
    )
    vehicle: VehicleConfig = Field(VehicleConfig(), description="Body and motor of the car. [-]")
    driver: DriverConfig | None = Field(
        None, description="Scripted driver; null leaves the car to the environment's user. [-]"
    )
    task: TaskConfig | None = Field(
        None, description="Task that the car is rewarded for; null pays nothing. [-]"
    )
    reverse: bool = Field(
        True, description="Actions reach down to speed_min; otherwise only to standstill. [bool]"
    )


SpawnName = Annotated[str, Field(max_length=100)]
ObservationPart = Literal["lidar", "pose", "motion", "others", "others_velocity"]


class EnvConfig(Config):
    """Everything that defines an environment."""

    track: TrackConfig = Field(Line2Track(), description="Where the cars drive. [-]")
    cars: tuple[CarConfig, ...] = Field(
        (CarConfig(name="car_0"), CarConfig(name="car_1")),
        min_length=1,
        max_length=64,
        description="The cars, in the order of the state arrays. [-]",
    )
    lidar: LidarConfig = Field(LidarConfig(), description="Every car's range finder. [-]")
    heterogeneity: HeterogeneityConfig = Field(
        HeterogeneityConfig(), description="What cars draw at each reset; nothing by default. [-]"
    )
    physics_step: float = Field(
        0.01, gt=0, le=0.1, description="Integration step of the dynamics. [s]"
    )
    physics_steps_per_action: int = Field(
        1, ge=1, le=100, description="Integration steps for each action. [steps]"
    )
    max_steps: int = Field(
        2500,
        ge=1,
        le=1_000_000_000,
        description="Actions after which an episode is truncated. [steps]",
    )
    laps: int = Field(
        1, ge=1, le=1000, description="Laps until a car has finished; 1 on an open track. [laps]"
    )
    end_when: Literal["any", "all"] = Field(
        "any", description="End the episode when any car is done, or when all are. [-]"
    )
    car_contacts: bool = Field(
        True,
        description="Whether cars can touch; otherwise they are ghosts to one another, which drive "
        "through each other and are seen by the lidar. [bool]",
    )
    spawn: SpawnConfig = Field(NamedSpawn(), description="Where cars start. [-]")
    spawn_sets: tuple[tuple[SpawnName, ...], ...] = Field(
        (),
        max_length=10_000,
        description="Sets of spawn names, one for each car, of which each episode draws one; "
        "empty: the track's spawns in order. [names]",
    )
    observation: tuple[ObservationPart, ...] = Field(
        ("lidar", "pose", "others"),
        min_length=1,
        max_length=100,
        description="Parts of the observation, in order. [-]",
    )

    @property
    def agent_cars(self) -> tuple[int, ...]:
        """Indices of the agents, the cars without a driver, in their order."""
        return tuple(i for i, car in enumerate(self.cars) if car.driver is None)

    @model_validator(mode="after")
    def _names(self) -> EnvConfig:
        names = [car.name for car in self.cars]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two cars are named {name!r}")
        for car in self.cars:
            if car.driver is not None and car.vehicle.control == "rates":
                raise ValueError(f"{car.name!r} has a driver, which needs control: targets")
            others = [name for name in names if name != car.name]
            for part in (car.driver, car.task, *(car.task.shaping if car.task else ())):
                target = getattr(part, "target", None)  # not every part has one
                if part is not None and target is not None and target not in others:
                    what = f"term {part.term}" if hasattr(part, "term") else part.kind
                    shown = ", ".join(map(repr, others)) or "none"
                    raise ValueError(
                        f"{what} of {car.name!r} targets {target!r}; other cars: {shown}"
                    )
        if self.spawn_sets and self.spawn.kind != "named":
            raise ValueError(f"spawn_sets and spawn of kind {self.spawn.kind!r} exclude each other")
        for spawns in self.spawn_sets:
            if len(spawns) != len(names):
                raise ValueError(
                    f"spawn set {list(spawns)} names {len(spawns)} poses for {len(names)} cars"
                )
        return self


class RenderConfig(Config):
    """What a frame shows."""

    width: int = Field(600, ge=16, le=8192, description="Width of a frame. [px]")
    height: int = Field(600, ge=16, le=8192, description="Height of a frame. [px]")
    follow: str | None = Field(
        None, description="Car kept in the middle of the frame; null: the track is. [name]"
    )
    zoom: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Scale; null: the whole track fits, or 40 where a car is followed. [px/m]",
    )
