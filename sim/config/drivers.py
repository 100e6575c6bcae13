"""Settings of scripted drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, model_validator

from sim.plugins import union, with_plugins
from sim.settings import Config, FilePath


class DriverSettings(Config):
    """What the built-in drivers have in common."""

    if TYPE_CHECKING:
        kind: str  # selects the driver


class SecondaryViconConfig(DriverSettings):
    """Hold a speed along the lane, turn away from a near car, recover towards the centre."""

    kind: Literal["secondary_vicon"] = Field(
        "secondary_vicon", description="Selects this driver. [-]"
    )
    target: str = Field("car_0", description="The car to turn away from. [name]")
    speed: float = Field(0.8, ge=-1e3, le=1e3, description="Speed to hold. [m/s]")
    avoid_distance: float = Field(
        1.0, ge=0, le=1e4, description="It turns away within this distance. [m]"
    )
    avoid_gain: float = Field(
        1.5,
        ge=0,
        le=1e6,
        description="Steering angle over the angle to the way straight away from the target. [-]",
    )
    recover_offset: float = Field(
        0.55,
        ge=0,
        le=1e4,
        description="Offset from the lane centre beyond which it turns back, at half speed. [m]",
    )
    stop_offset: float = Field(
        1.2, ge=0, le=1e4, description="Offset from the lane centre beyond which it stops. [m]"
    )


class RacingDriverConfig(DriverSettings):
    """What drivers that drive as fast as bends allow have in common."""

    speed: float = Field(3.0, gt=0, le=1e3, description="Fastest speed. [m/s]")
    acceleration: float = Field(
        4.0,
        gt=0,
        le=1e4,
        description="Largest acceleration, sideways in bends and of the brakes. [m/s^2]",
    )


class LineDriverConfig(RacingDriverConfig):
    """What drivers that follow a line have in common."""

    raceline: Annotated[str, FilePath("a CSV file")] | None = Field(
        None,
        description="CSV file of the line to follow, relative to the scenario that names it; "
        "null: the track's raceline or, without one, its centre line. [path]",
    )
    least_curvature: bool = Field(
        False,
        description="Without a racing line: find the line of least curvature, which takes 0.2 s a "
        "track, instead of following the centre line. [bool]",
    )
    speed_factor: float | None = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Factor of the speeds in the racing line's file; null, or a file without: "
        "speed and acceleration decide. [-]",
    )
    speed: float = Field(4.0, gt=0, le=1e3, description="Fastest speed. [m/s]")


class RacingLineConfig(LineDriverConfig):
    """What drivers that follow a line near the limits of the car have in common."""

    compensate: bool = Field(
        False,
        description="For racing: allow for the car's delays, slipping tyres and speed controller. "
        "[bool]",
    )
    response: float = Field(
        0.055,
        ge=0,
        le=1,
        description="With compensate: time that the car takes to turn, beyond half a period of "
        "control and the steering's delay. [s]",
    )


class LookaheadConfig(Config):
    """What drivers that steer for a point on the line have in common."""

    lookahead: float = Field(
        0.6, gt=0, le=1e4, description="Distance along the line to the point to steer for. [m]"
    )
    lookahead_time: float = Field(
        0.2, ge=0, le=1e6, description="Lookahead added for each m/s of speed. [s]"
    )


class GapDriverConfig(RacingDriverConfig):
    """What drivers that steer for gaps in their scan have in common."""

    margin: float = Field(
        0.15,
        ge=0,
        le=1e4,
        description="Distance kept from obstacles, beyond half the car's width. [m]",
    )
    horizon: float = Field(
        10.0, gt=0, le=1e4, description="Distance that farther readings count as. [m]"
    )
    field_of_view: float = Field(
        3.141592653589793,
        gt=0,
        le=6.283185307179586,
        description="Field of view in which the driver looks for its way. [rad]",
    )


class PurePursuitConfig(LookaheadConfig, RacingLineConfig):
    """Follow the centre line, or a racing line, at the speed that its bends allow."""

    kind: Literal["pure_pursuit"] = Field("pure_pursuit", description="Selects this driver. [-]")
    cut: float = Field(
        0.12,
        gt=0,
        le=1e3,
        description="With compensate: the lookahead is shortened where the straight way to the "
        "point would cut a bend by more than this. [m]",
    )


class StanleyConfig(RacingLineConfig):
    """Keep the front axle on the centre line, or a racing line; speeds as pure_pursuit."""

    kind: Literal["stanley"] = Field("stanley", description="Selects this driver. [-]")
    gain: float = Field(
        3.0, ge=0, le=1e4, description="Rate at which the front axle approaches the line. [1/s]"
    )
    softening: float = Field(
        1.0, ge=0, le=1e3, description="Speed added, so that a slow car does not overreact. [m/s]"
    )
    yaw_damping: float = Field(
        0.05,
        ge=0,
        le=1e6,
        description="Without compensate: steering against yaw rates that differ from the line's. "
        "[s]",
    )


class BlockerConfig(LookaheadConfig, RacingDriverConfig):
    """Drive along the lane's centre, and in front of the target when it is behind."""

    kind: Literal["blocker"] = Field("blocker", description="Selects this driver. [-]")
    target: str = Field("car_0", description="The car to stay in front of. [name]")
    distance: float = Field(
        8.0, ge=0, le=1e4, description="Block a target at most this far behind along the line. [m]"
    )
    shift: float = Field(
        0.3, gt=0, le=1, description="Move over by at most this for each metre forwards. [m/m]"
    )
    margin: float = Field(
        0.2,
        ge=0,
        le=1e4,
        description="Distance kept from the lane's edges, beyond half the car's width. [m]",
    )


class MppiConfig(DriverSettings):
    """Drive by plans that a model of the car tries out: model-predictive path integrals."""

    kind: Literal["mppi"] = Field("mppi", description="Selects this driver. [-]")
    raceline: Annotated[str, FilePath("a CSV file")] | None = Field(
        None,
        description="CSV file of the line along which progress counts, relative to the scenario "
        "that names it; null: the track's raceline or, without one, the line of least curvature; "
        "where there is none, the centre line. [path]",
    )
    speed: float = Field(8.0, gt=0, le=1e3, description="Fastest speed. [m/s]")
    acceleration: float = Field(
        9.0,
        gt=0,
        le=1e4,
        description="Acceleration that costs nothing, sideways and lengthways together. [m/s^2]",
    )
    margin: float = Field(
        0.15, gt=0, le=1e4, description="Distance from walls that costs nothing. [m]"
    )
    car_margin: float = Field(
        0.2, ge=0, le=1e4, description="Distance from other cars that costs nothing. [m]"
    )
    horizon: float = Field(0.8, gt=0, le=10, description="Time that is planned. [s]")
    interval: float = Field(0.05, ge=0.01, le=0.2, description="Step of a plan. [s]")
    samples: int = Field(256, ge=8, le=100_000, description="Plans tried in an iteration. [-]")
    iterations: int = Field(1, ge=1, le=100, description="Iterations a decision. [-]")
    temperature: float = Field(
        0.1,
        gt=0,
        le=1e4,
        description="Cost by which a plan is worse when it counts e times less. [m]",
    )
    steer_noise: float = Field(
        0.06, gt=0, le=10, description="Standard deviation of steering angles tried. [rad]"
    )
    acceleration_noise: float = Field(
        3.0, gt=0, le=1e4, description="Standard deviation of accelerations tried. [m/s^2]"
    )
    correlation: float = Field(
        0.2, gt=0, le=10, description="Time in which the noise of a plan fades. [s]"
    )
    line_weight: float = Field(
        0.1, ge=0, le=1e4, description="Cost of being 1 m off the line after the horizon. [1/m]"
    )


class FollowTheGapConfig(GapDriverConfig):
    """Steer for the middle of the deepest gap between the obstacles that the lidar sees."""

    kind: Literal["follow_the_gap"] = Field(
        "follow_the_gap", description="Selects this driver. [-]"
    )
    disparity: float = Field(
        0.3,
        gt=0,
        le=1e4,
        description="Difference of neighbouring readings beyond which there is an edge. [m]",
    )


class GapPreviewConfig(GapDriverConfig):
    """Steer for the heading whose path ahead is the freest, and change it reluctantly."""

    kind: Literal["gap_preview"] = Field("gap_preview", description="Selects this driver. [-]")
    preview: float = Field(
        2.0, gt=0, le=20, description="Length of the path that is judged for each heading. [m]"
    )
    candidates: int = Field(41, ge=3, le=401, description="Number of headings judged. [-]")
    continuity: float = Field(
        0.05,
        ge=0,
        le=1e4,
        description="Mean clearance, at most 1, worth a radian of change of heading. [1/rad]",
    )


class RandomDriverConfig(DriverSettings):
    """Steer and accelerate smoothly between random values; the episode's seed decides them."""

    kind: Literal["random"] = Field("random", description="Selects this driver. [-]")
    steer: float = Field(
        0.5, ge=0, le=1, description="Largest steering angle, as a fraction of the car's limit. [-]"
    )
    speed_min: float = Field(0.5, ge=-1e3, le=1e3, description="Smallest speed drawn. [m/s]")
    speed: float = Field(2.0, ge=-1e3, le=1e3, description="Largest speed drawn. [m/s]")
    interval: float = Field(
        0.5, gt=0, le=1e6, description="Time from one random value to the next. [s]"
    )

    @model_validator(mode="after")
    def _ordered(self) -> RandomDriverConfig:
        if self.speed_min > self.speed:
            raise ValueError(f"speed_min {self.speed_min:g} is above speed {self.speed:g}")
        return self


class FrozenPolicyConfig(DriverSettings):
    """Act as a trained policy does, without learning."""

    kind: Literal["frozen_policy"] = Field("frozen_policy", description="Selects this driver. [-]")
    checkpoint: Annotated[
        str, FilePath("a safetensors file, or a directory with contract.json", "contract.json")
    ] = Field(
        description="Safetensors file with the policy, or directory of an exported one, relative "
        "to the scenario that names it. [path]"
    )
    agent: str | None = Field(
        None,
        min_length=1,
        description="The agent, in that file, whose policy drives; null: the only one. [name]",
    )


DRIVERS: Final = with_plugins(
    "drivers",
    "kind",
    (
        SecondaryViconConfig,
        PurePursuitConfig,
        StanleyConfig,
        BlockerConfig,
        MppiConfig,
        FollowTheGapConfig,
        GapPreviewConfig,
        RandomDriverConfig,
        FrozenPolicyConfig,
    ),
)
if TYPE_CHECKING:
    DriverConfig = DriverSettings
else:
    DriverConfig = union(DRIVERS, "kind")
