"""Settings of scripted drivers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim.config.base import Config


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
