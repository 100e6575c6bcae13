"""Drivers by their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sim.config import EnvConfig
from sim.config.drivers import (
    BlockerConfig,
    DriverConfig,
    FollowTheGapConfig,
    FrozenPolicyConfig,
    GapPreviewConfig,
    MppiConfig,
    PurePursuitConfig,
    RandomDriverConfig,
    SecondaryViconConfig,
    StanleyConfig,
)
from sim.drivers.base import Driver, Seat
from sim.plugins import implementation
from sim.settings import Config
from sim.tracks.track import Track

# Our own; imported when one is first needed.
DRIVERS: Final[Mapping[type[Config], str]] = {
    SecondaryViconConfig: "sim.drivers.secondary_vicon:SecondaryVicon",
    PurePursuitConfig: "sim.drivers.pure_pursuit:PurePursuit",
    StanleyConfig: "sim.drivers.stanley:Stanley",
    BlockerConfig: "sim.drivers.blocker:Blocker",
    MppiConfig: "sim.drivers.mppi.driver:Mppi",
    FollowTheGapConfig: "sim.drivers.follow_the_gap:FollowTheGap",
    GapPreviewConfig: "sim.drivers.gap_preview:GapPreview",
    RandomDriverConfig: "sim.drivers.random:RandomDriver",
    FrozenPolicyConfig: "sim.drivers.frozen_policy:FrozenPolicy",
}


def make_driver(
    config: DriverConfig,
    env: EnvConfig,
    car: int,
    tracks: Track | Sequence[Track],
    *,
    num_envs: int = 1,
    base_dir: Path | None = None,
) -> Driver:
    """Build the driver of a car.

    Args:
        config: The driver.
        env: The environment it is part of.
        car: Index of the car it drives.
        tracks: Where it drives: a track, or those of the world, in their order.
        num_envs: Environments in the batch.
        base_dir: Directory that its files are relative to; None: the working directory.

    Raises:
        ValueError: If a track has no line to follow, the lidar has too few beams, or a policy
            does not fit what its car observes.
        TrackError: If the raceline's file is wrong.
        PolicyError: If the policy's file is wrong.
        PluginError: If a driver of another package cannot be imported.
    """
    tracks = (tracks,) if isinstance(tracks, Track) else tracks
    seat = Seat(env, car, tracks, num_envs, base_dir or Path())
    driver: Driver = implementation("drivers", DRIVERS, config)(config, seat)
    return driver
