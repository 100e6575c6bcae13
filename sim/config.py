"""Settings of the simulator, as frozen pydantic models.

Every field's description ends with its unit in brackets, ``[-]`` where it has none.
Scenario files, the JSON schema and the simulator itself all use these models.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Config(BaseModel):
    """Base of every settings model: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class VehicleConfig(Config):
    """One car. The defaults are f1tenth_gym v1.0.0's identified 1:10 car."""

    friction: float = Field(1.0489, gt=0, description="Tyre-road friction coefficient mu. [-]")
    stiffness_front: float = Field(
        4.718, gt=0, description="Front cornering stiffness C_Sf. [1/rad]"
    )
    stiffness_rear: float = Field(
        5.4562, gt=0, description="Rear cornering stiffness C_Sr. [1/rad]"
    )
    front_axle: float = Field(0.15875, gt=0, description="Centre of gravity to front axle, lf. [m]")
    rear_axle: float = Field(0.17145, gt=0, description="Centre of gravity to rear axle, lr. [m]")
    cg_height: float = Field(0.074, ge=0, description="Height of the centre of gravity, h. [m]")
    mass: float = Field(3.74, gt=0, description="Mass m. [kg]")
    yaw_inertia: float = Field(0.04712, gt=0, description="Yaw moment of inertia I_z. [kg m^2]")
    steer_max: float = Field(
        0.4189, gt=0, lt=1.5, description="Largest steering angle to either side. [rad]"
    )
    steer_rate_max: float = Field(
        3.2, gt=0, description="Largest steering rate to either side. [rad/s]"
    )
    switch_speed: float = Field(
        7.319, gt=0, description="Speed above which motor power limits acceleration. [m/s]"
    )
    acceleration_max: float = Field(
        9.51, gt=0, description="Largest acceleration and deceleration. [m/s^2]"
    )
    speed_min: float = Field(-5.0, lt=0, description="Fastest reverse speed. [m/s]")
    speed_max: float = Field(20.0, gt=0, description="Fastest forward speed. [m/s]")
    length: float = Field(0.58, gt=0, description="Length of the body's rectangle. [m]")
    width: float = Field(0.31, gt=0, description="Width of the body's rectangle. [m]")
    model: Literal["single_track", "kinematic"] = Field(
        "single_track",
        description="single_track: with tyre forces from 0.5 m/s up; kinematic: without slipping "
        "tyres at any speed. [-]",
    )
    integrator: Literal["rk4", "euler"] = Field(
        "rk4", description="Runge-Kutta of order 4, or Euler's method. [-]"
    )
    control: Literal["targets", "rates"] = Field(
        "targets",
        description="What the car is told: targets: steering angle and speed, which its "
        "controllers pursue; rates: steering rate and acceleration. [-]",
    )
    steer_delay: int = Field(
        2, ge=0, le=100, description="Physics steps until a steering target takes effect. [steps]"
    )


class LidarConfig(Config):
    """A planar scanning range finder."""

    beams: int = Field(1080, ge=1, le=100_000, description="Beams a scan. [-]")
    field_of_view: float = Field(
        4.7, gt=0, le=6.283185307179586, description="Angle from first to last beam. [rad]"
    )
    max_range: float = Field(30.0, gt=0, description="Reading when nothing is hit. [m]")
    noise_std: float = Field(0.01, ge=0, description="Standard deviation of the range noise. [m]")
    dropout: float = Field(
        0.0, ge=0, le=1, description="Probability that a beam returns nothing. [-]"
    )
    mount_x: float = Field(0.0, description="Sensor position ahead of the centre of gravity. [m]")


Range = tuple[float, float]


class HeterogeneityConfig(Config):
    """What differs between cars: smallest and largest value that each car draws at a reset.

    Every car of every environment draws for itself, uniformly, from the environment's own
    generator. What is left out is that of the car's own settings.
    """

    friction: Range | None = Field(None, description="Tyre-road friction coefficient mu. [-]")
    stiffness_front: Range | None = Field(
        None, description="Front cornering stiffness C_Sf. [1/rad]"
    )
    stiffness_rear: Range | None = Field(None, description="Rear cornering stiffness C_Sr. [1/rad]")
    cg_height: Range | None = Field(None, description="Height of the centre of gravity, h. [m]")
    mass: Range | None = Field(None, description="Mass m. [kg]")
    yaw_inertia: Range | None = Field(None, description="Yaw moment of inertia I_z. [kg m^2]")
    steer_delay: tuple[int, int] | None = Field(
        None, description="Physics steps until a steering target takes effect. [steps]"
    )
    lidar_noise_std: Range | None = Field(
        None, description="Standard deviation of the range noise. [m]"
    )
    lidar_dropout: Range | None = Field(
        None, description="Probability that a beam returns nothing. [-]"
    )

    @model_validator(mode="after")
    def _allowed(self) -> HeterogeneityConfig:
        for name, bounds in self:
            if bounds is None:
                continue
            low, high = bounds
            if low > high:
                raise ValueError(f"{name}: the smallest, {low:g}, is above the largest, {high:g}")
            lidar = name.startswith("lidar_")
            model: type[Config] = LidarConfig if lidar else VehicleConfig
            for value in bounds:
                model.model_validate({name.removeprefix("lidar_"): value})
        return self


class Line2Track(Config):
    """A straight corridor 97.9 m long and 2.55 m wide with six spawn poses."""

    kind: Literal["line2"] = Field("line2", description="Selects this track. [-]")


class CircleTrack(Config):
    """A circular lane around the origin, driven counter-clockwise."""

    kind: Literal["circle"] = Field("circle", description="Selects this track. [-]")
    radius: float = Field(10.0, gt=1, le=500, description="Radius of the centre line. [m]")
    width: float = Field(3.0, gt=0.5, description="Distance between the walls. [m]")
    resolution: float = Field(0.05, gt=0, le=0.5, description="Edge of a grid cell. [m]")

    @model_validator(mode="after")
    def _inner_wall(self) -> CircleTrack:
        if self.width / 2 >= self.radius:
            raise ValueError(f"width must be below twice the radius, {2 * self.radius:g} m")
        return self


class MapTrack(Config):
    """A track from a ROS map, as F1TENTH publishes them."""

    kind: Literal["map"] = Field("map", description="Selects this track. [-]")
    file: str = Field(
        min_length=1,
        description="The map's YAML file, relative to the scenario that names it. [path]",
    )


class OvalTrack(Config):
    """Two straights joined by half circles, driven counter-clockwise."""

    kind: Literal["oval"] = Field("oval", description="Selects this track. [-]")
    straight: float = Field(20.0, gt=0, le=1000, description="Length of each straight. [m]")
    radius: float = Field(6.0, gt=0.5, le=500, description="Radius of the bends' centre line. [m]")
    width: float = Field(3.0, gt=0.5, description="Distance between the walls. [m]")
    resolution: float = Field(0.05, gt=0, le=0.2, description="Edge of a grid cell. [m]")

    @model_validator(mode="after")
    def _inner_wall(self) -> OvalTrack:
        if self.width / 2 > self.radius - 0.2:
            raise ValueError(f"width must be at most {2 * self.radius - 0.4:g} m at this radius")
        return self


class RandomTrack(Config):
    """A smooth closed circuit, another one for each seed."""

    kind: Literal["random"] = Field("random", description="Selects this track. [-]")
    seed: int = Field(0, ge=0, description="Decides the course, with the other settings. [-]")
    length: float = Field(80.0, ge=10, le=1000, description="Length of the centre line. [m]")
    width: float = Field(3.0, ge=0.8, le=20, description="Distance between the walls. [m]")
    min_radius: float = Field(
        3.0, gt=0.5, description="Smallest radius of the centre line's bends. [m]"
    )
    corners: int = Field(
        12, ge=3, le=60, description="Random points that the course is drawn around. [-]"
    )
    resolution: float = Field(0.05, gt=0, le=0.2, description="Edge of a grid cell. [m]")

    @model_validator(mode="after")
    def _room(self) -> RandomTrack:
        if self.min_radius < self.width / 2 + 0.3:
            raise ValueError(f"min_radius must be at least {self.width / 2 + 0.3:g} m, this width")
        if self.length < 8 * self.min_radius:
            raise ValueError(f"length must be at least 8 min_radius, {8 * self.min_radius:g} m")
        return self


class CenterlineTrack(Config):
    """A lane from a CSV file of x, y, w_right, w_left, as TUM's racetrack database has it."""

    kind: Literal["centerline"] = Field("centerline", description="Selects this track. [-]")
    file: str = Field(
        min_length=1,
        description="The CSV file, relative to the scenario that names it. [path]",
    )
    scale: float = Field(
        1.0, gt=0, le=100, description="Factor of all lengths; 0.1 suits full-size tracks. [-]"
    )
    resolution: float = Field(0.05, gt=0, le=0.5, description="Edge of a grid cell. [m]")


TrackConfig = Annotated[
    Line2Track | CircleTrack | OvalTrack | RandomTrack | CenterlineTrack | MapTrack,
    Field(discriminator="kind"),
]


class SecondaryViconConfig(Config):
    """Hold a speed along the lane, turn away from a near car, recover towards the centre."""

    kind: Literal["secondary_vicon"] = Field(
        "secondary_vicon", description="Selects this driver. [-]"
    )
    target: str = Field("car_0", description="The car to turn away from. [name]")
    speed: float = Field(0.8, description="Speed held. [m/s]")
    avoid_distance: float = Field(1.0, ge=0, description="Turn away inside this distance. [m]")
    avoid_gain: float = Field(
        1.5, ge=0, description="Steering per angle that leads away from the target. [-]"
    )
    recover_offset: float = Field(
        0.55, ge=0, description="Off the lane centre by more: half speed, full turn back. [m]"
    )
    stop_offset: float = Field(1.2, ge=0, description="Off the lane centre by more: stop. [m]")


class PurePursuitConfig(Config):
    """Follow the centre line, or a racing line, at the speed that its bends allow."""

    kind: Literal["pure_pursuit"] = Field("pure_pursuit", description="Selects this driver. [-]")
    raceline: str | None = Field(
        None,
        description="CSV file of the line to follow, relative to the scenario that names it; "
        "null: the track's centre line. [path]",
    )
    speed: float = Field(4.0, gt=0, description="Fastest speed. [m/s]")
    acceleration: float = Field(
        4.0, gt=0, description="Sideways in bends and braking before them at most. [m/s^2]"
    )
    lookahead: float = Field(
        0.6, gt=0, description="Distance along the line to the point steered for. [m]"
    )
    lookahead_time: float = Field(
        0.2, ge=0, description="What is added to it for each m/s of speed. [s]"
    )


class FollowTheGapConfig(Config):
    """Steer for the middle of the deepest gap between the obstacles that the lidar sees."""

    kind: Literal["follow_the_gap"] = Field(
        "follow_the_gap", description="Selects this driver. [-]"
    )
    speed: float = Field(3.0, gt=0, description="Fastest speed. [m/s]")
    acceleration: float = Field(
        4.0, gt=0, description="Sideways in bends and braking before obstacles at most. [m/s^2]"
    )
    margin: float = Field(
        0.15, ge=0, description="Kept from obstacles, beyond half the car's width. [m]"
    )
    horizon: float = Field(10.0, gt=0, description="Farther readings count as this far. [m]")
    disparity: float = Field(
        0.3, gt=0, description="Readings of neighbours that differ more show an edge. [m]"
    )
    field_of_view: float = Field(
        3.141592653589793, gt=0, le=6.283185307179586, description="Where gaps count. [rad]"
    )


DriverConfig = Annotated[
    SecondaryViconConfig | PurePursuitConfig | FollowTheGapConfig, Field(discriminator="kind")
]


class ConvoyLockConfig(Config):
    """Reward of an attacker that presses a defender into a wall or out of its lane."""

    kind: Literal["convoy_lock"] = Field("convoy_lock", description="Selects this task. [-]")
    target: str = Field("car_1", description="The defender. [name]")
    success_reward: float = Field(60.0, description="Paid once, on success. [reward]")
    crash_reward: float = Field(-10.0, description="Paid when the attacker crashes. [reward]")
    truncation_reward: float = Field(
        -25.0, description="Paid when the time limit ends the episode. [reward]"
    )
    pressure_distance: float = Field(
        0.75, gt=0, description="Pressure needs the attacker this near. [m]"
    )
    pressure_speed: float = Field(
        0.1, description="Pressure needs the attacker at least this fast. [m/s]"
    )
    pressure_window: float = Field(
        0.5, ge=0, description="Pressure counts for this long after it was applied. [s]"
    )
    forced_offset: float = Field(
        1.1, gt=0, description="Defender this far off the lane centre: success. [m]"
    )
    idle_speed: float = Field(0.02, ge=0, description="Below this speed a step is idle. [m/s]")
    idle_grace: int = Field(18, ge=0, description="Idle steps in a row before paying. [steps]")
    idle_reward: float = Field(-0.08, description="Paid at each further idle step. [reward]")
    idle_limit: int = Field(
        90, ge=1, description="Idle steps in a row that truncate the episode. [steps]"
    )
    idle_limit_reward: float = Field(
        -35.0, description="Paid instead of truncation_reward at the idle limit. [reward]"
    )


TaskConfig = ConvoyLockConfig


class CarConfig(Config):
    """A car, who drives it, and what it is rewarded for."""

    name: str = Field(
        min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_]*$", description="Name of the agent. [name]"
    )
    vehicle: VehicleConfig = Field(VehicleConfig(), description="Its body and motor. [-]")
    driver: DriverConfig | None = Field(
        None, description="Scripted driver; null leaves the car to the environment's user. [-]"
    )
    task: TaskConfig | None = Field(None, description="Its reward; null pays nothing. [-]")
    reverse: bool = Field(
        True, description="Whether actions reach speed_min, or stop at standstill. [bool]"
    )


class NamedSpawn(Config):
    """Start from the track's named poses, as ``spawn_sets`` says."""

    kind: Literal["named"] = Field("named", description="Selects these starts. [-]")


class GridSpawn(Config):
    """Start from a grid of two staggered columns behind the finish line.

    On an open track the grid is at the start of the centre line.
    """

    kind: Literal["grid"] = Field("grid", description="Selects these starts. [-]")
    row_spacing: float = Field(
        2.0, gt=0, description="From a car to the next of its column; the other is between. [m]"
    )
    column_spacing: float = Field(0.8, ge=0, description="Between the columns. [m]")
    offset: float = Field(
        1.0,
        ge=0,
        description="Finish line to the first car; on an open track, start to the last. [m]",
    )
    shuffle: bool = Field(
        False, description="Draw the cars' order each episode; else the first leads. [bool]"
    )


class RandomSpawn(Config):
    """Start anywhere on the track."""

    kind: Literal["random"] = Field("random", description="Selects these starts. [-]")
    gap: float = Field(0.5, ge=0, description="Free space between cars at least. [m]")
    wall_gap: float = Field(0.1, ge=0, description="Free space to walls at least. [m]")
    heading_noise: float = Field(
        0.1, ge=0, le=3.141592653589793, description="Off the lane's direction at most. [rad]"
    )


SpawnConfig = Annotated[NamedSpawn | GridSpawn | RandomSpawn, Field(discriminator="kind")]


ObservationPart = Literal["lidar", "pose", "motion", "others"]


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
        HeterogeneityConfig(), description="What each car draws at each reset; none by default. [-]"
    )
    physics_step: float = Field(
        0.01, gt=0, le=0.1, description="Integration step of the dynamics. [s]"
    )
    physics_steps_per_action: int = Field(
        1, ge=1, le=100, description="Integration steps for each action. [steps]"
    )
    max_steps: int = Field(
        2500, ge=1, description="Actions after which an episode is truncated. [steps]"
    )
    laps: int = Field(
        1, ge=1, le=1000, description="Laps after which a car has finished; 1 if open. [laps]"
    )
    end_when: Literal["any", "all"] = Field(
        "any", description="End the episode when any car is done, or when all are. [-]"
    )
    spawn: SpawnConfig = Field(NamedSpawn(), description="Where cars start. [-]")
    spawn_sets: tuple[tuple[str, ...], ...] = Field(
        (),
        description="Spawn names, one a car, one set drawn each episode; "
        "none: the track's spawns in order. [names]",
    )
    observation: tuple[ObservationPart, ...] = Field(
        ("lidar", "pose", "others"),
        min_length=1,
        description="Parts of the observation, in order. [-]",
    )

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
            for part in (car.driver, car.task):
                target = getattr(part, "target", None)  # not every driver has one
                if part is not None and target is not None and target not in others:
                    shown = ", ".join(map(repr, others)) or "none"
                    raise ValueError(
                        f"{part.kind} of {car.name!r} targets {target!r}; other cars: {shown}"
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
        None, description="Car that stays in the middle; null: the whole track does. [name]"
    )
    zoom: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Scale; null fits the whole track, or is 40 where a car is followed. [px/m]",
    )
