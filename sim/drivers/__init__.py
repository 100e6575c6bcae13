"""Scripted drivers: they command the cars that no agent drives.

One module a driver, one class in it; its settings are in `sim.config.drivers`.

================== ============================================================================
kind               what it does
================== ============================================================================
secondary_vicon    holds its speed along a lane, turns away from a near car
pure_pursuit       follows the centre line or a racing line, steering for a point ahead
stanley            follows the centre line or a racing line with its front axle
follow_the_gap     steers for the deepest gap of its scan
gap_preview        steers for the heading whose path ahead is the freest
blocker            drives where the car behind it wants to drive
random             steers and accelerates smoothly at random
frozen_policy      acts as a trained network does, read from a file
================== ============================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sim.config import (
    BlockerConfig,
    DriverConfig,
    EnvConfig,
    FollowTheGapConfig,
    FrozenPolicyConfig,
    GapPreviewConfig,
    PurePursuitConfig,
    RandomDriverConfig,
    StanleyConfig,
)
from sim.drivers.base import Driver
from sim.drivers.blocker import Blocker
from sim.drivers.follow_the_gap import FollowTheGap
from sim.drivers.frozen_policy import FrozenPolicy
from sim.drivers.gap_preview import GapPreview
from sim.drivers.pure_pursuit import PurePursuit
from sim.drivers.random import RandomDriver
from sim.drivers.secondary_vicon import SecondaryVicon
from sim.drivers.stanley import Stanley
from sim.tracks import Track

__all__ = ["Driver", "make_driver"]


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
        base_dir: Directory that its files are relative to; none: the working directory.

    Raises:
        ValueError: If a track has no line to follow, the lidar has too few beams, or a policy
            does not fit what its car observes.
        TrackError: If the raceline's file is wrong.
        PolicyError: If the policy's file is wrong.
    """
    folder = base_dir or Path()
    tracks = (tracks,) if isinstance(tracks, Track) else tracks
    if isinstance(config, PurePursuitConfig):
        return PurePursuit(config, env, car, tracks, num_envs, folder)
    if isinstance(config, StanleyConfig):
        return Stanley(config, env, car, tracks, num_envs, folder)
    if isinstance(config, BlockerConfig):
        return Blocker(config, env, car, tracks, num_envs)
    if isinstance(config, FrozenPolicyConfig):
        return FrozenPolicy(config, env, car, tracks, num_envs, folder)
    if isinstance(config, FollowTheGapConfig):
        return FollowTheGap(config, env, car, num_envs)
    if isinstance(config, GapPreviewConfig):
        return GapPreview(config, env, car, num_envs)
    if isinstance(config, RandomDriverConfig):
        return RandomDriver(config, env, car, num_envs)
    return SecondaryVicon(config, env, car, num_envs)
