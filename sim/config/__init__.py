"""Settings of the simulator, as frozen pydantic models.

Every field's description ends with its unit in brackets, ``[-]`` where it has none.
Scenario files, the JSON schema and the simulator itself all use these models.
"""

from __future__ import annotations

from sim.config.base import Config
from sim.config.drivers import (
    DriverConfig,
    FollowTheGapConfig,
    PurePursuitConfig,
    SecondaryViconConfig,
)
from sim.config.env import CarConfig, EnvConfig, ObservationPart, RenderConfig
from sim.config.spawns import GridSpawn, NamedSpawn, RandomSpawn, SpawnConfig
from sim.config.tasks import ConvoyLockConfig, TaskConfig
from sim.config.tracks import (
    CenterlineTrack,
    CircleTrack,
    Line2Track,
    MapTrack,
    OvalTrack,
    RandomTrack,
    SeveralTracks,
    TrackConfig,
)
from sim.config.vehicle import HeterogeneityConfig, LidarConfig, Range, VehicleConfig

__all__ = [
    "CarConfig",
    "CenterlineTrack",
    "CircleTrack",
    "Config",
    "ConvoyLockConfig",
    "DriverConfig",
    "EnvConfig",
    "FollowTheGapConfig",
    "GridSpawn",
    "HeterogeneityConfig",
    "LidarConfig",
    "Line2Track",
    "MapTrack",
    "NamedSpawn",
    "ObservationPart",
    "OvalTrack",
    "PurePursuitConfig",
    "RandomSpawn",
    "RandomTrack",
    "Range",
    "RenderConfig",
    "SecondaryViconConfig",
    "SeveralTracks",
    "SpawnConfig",
    "TaskConfig",
    "TrackConfig",
    "VehicleConfig",
]
