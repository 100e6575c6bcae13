"""Settings of the simulator, as frozen pydantic models.

Every field's description ends with its unit in brackets, ``[-]`` where it has none.
Scenario files, the JSON schema and the simulator itself all use these models.
"""

from __future__ import annotations

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
from sim.config.env import CarConfig, EnvConfig, ObservationPart, RenderConfig
from sim.config.spawns import GridSpawn, NamedSpawn, RandomSpawn, SpawnConfig
from sim.config.tasks import (
    ConvoyLockConfig,
    EvadeConfig,
    GapLockConfig,
    OvertakeConfig,
    PursuitConfig,
    RaceConfig,
    SoloLapConfig,
    TaskConfig,
)
from sim.config.terms import TermConfig
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
from sim.settings import Config

__all__ = [
    "BlockerConfig",
    "CarConfig",
    "CenterlineTrack",
    "CircleTrack",
    "Config",
    "ConvoyLockConfig",
    "DriverConfig",
    "EnvConfig",
    "EvadeConfig",
    "FollowTheGapConfig",
    "FrozenPolicyConfig",
    "GapLockConfig",
    "GapPreviewConfig",
    "GridSpawn",
    "HeterogeneityConfig",
    "LidarConfig",
    "Line2Track",
    "MapTrack",
    "MppiConfig",
    "NamedSpawn",
    "ObservationPart",
    "OvalTrack",
    "OvertakeConfig",
    "PurePursuitConfig",
    "PursuitConfig",
    "RaceConfig",
    "RandomDriverConfig",
    "RandomSpawn",
    "RandomTrack",
    "Range",
    "RenderConfig",
    "SecondaryViconConfig",
    "SeveralTracks",
    "SoloLapConfig",
    "SpawnConfig",
    "StanleyConfig",
    "TaskConfig",
    "TermConfig",
    "TrackConfig",
    "VehicleConfig",
]
