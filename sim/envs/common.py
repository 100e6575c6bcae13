"""What the environments' interfaces share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import ValidationError

from sim.config import (
    CarConfig,
    ConvoyLockConfig,
    EnvConfig,
    LidarConfig,
    SecondaryViconConfig,
)
from sim.episodes import Outcome
from sim.layout import COMMAND_SIZE
from sim.race import Race

Observation = NDArray[np.float32]
Action = NDArray[np.float32]

# What is made without a configuration: one learning car, car_0, attacks car_1, which is scripted.
# It sees what the shipped scenarios' cars see, a scan of 54 beams to 10 m: the settings' default, a
# real scanner's 1,080, is too much to learn from at a first try.
CONVOY: Final = EnvConfig(
    cars=(
        CarConfig(name="car_0", task=ConvoyLockConfig(target="car_1")),
        CarConfig(name="car_1", driver=SecondaryViconConfig(target="car_0")),
    ),
    lidar=LidarConfig(beams=54, max_range=10.0),
    observation=("lidar", "motion", "others"),
)
OPTIONS: Final = ("spawn_set", "track", "poses")  # of reset()


def read_config(config: EnvConfig | Mapping[str, Any]) -> EnvConfig:
    """Check the settings of an environment, which may be a dict as in a scenario's ``env``.

    Raises:
        TypeError: If they are neither.
        ValueError: If the dict is not valid, in one line.
    """
    if isinstance(config, EnvConfig):
        return config
    if not isinstance(config, Mapping):
        raise TypeError(
            "config must be a sim.config.EnvConfig or a dict of its settings, found "
            f"{type(config).__name__}; for files of scenarios see f110_fl.loading.environments"
        )
    try:
        return EnvConfig.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("config", *first["loc"])))
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ValueError(f"{where}: {first['msg']}, found {first['input']!r:.80}{more}") from None


def agent_names(config: EnvConfig) -> list[str]:
    """Names of the cars without a driver.

    Raises:
        ValueError: If every car has a driver.
    """
    names = [config.cars[i].name for i in config.agent_cars]
    if not names:
        raise ValueError("every car has a driver: an environment needs an agent")
    return names


def agent_spaces(race: Race) -> tuple[spaces.Box, spaces.Box]:
    """New spaces of an agent's observations and actions; see the tables in `sim.envs`."""
    action_space = spaces.Box(-1.0, 1.0, (COMMAND_SIZE,), np.float32)
    return spaces.Box(race.observation_low, race.observation_high), action_space


def read_options(options: Mapping[str, Any] | None, *poses: int) -> dict[str, Any]:
    """Read the options of a reset: ``{"spawn_set": i, "track": j, "poses": p}`` asks for these.

    Args:
        options: The options.
        poses: Shape of the poses without its last axis: (C,), or (E, C) for a batch.

    Returns:
        What `Race.next_episode` takes by name; of a batch, the poses of all.

    Raises:
        ValueError: If an option is unknown, an index is not an integer, or poses are not numbers,
            not finite or of another shape.
    """
    found: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if key not in OPTIONS:
            raise ValueError(f"unknown reset option {key!r}; known: {list(OPTIONS)}")
        if key == "poses" and value is not None:
            found[key] = _read_poses(value, (*poses, 3))
        elif value is not None:
            if not isinstance(value, int | np.integer):
                raise ValueError(f"{key} must be an integer, found {value!r}")
            found[key] = int(value)
    return found


def _read_poses(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    needed = f"poses must be numbers of shape {shape}, x m, y m, yaw rad of each car"
    try:
        found = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{needed}; found {value!r:.80}") from None
    if found.shape != shape:
        raise ValueError(f"{needed}; found shape {found.shape}")
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        at = tuple(bad[0].tolist())
        raise ValueError(f"{needed}; found {found[at]} at {list(at)}")
    return found


def last_info(race: Race, env: int, agent: int) -> dict[str, Any]:
    """Info of an agent that is done; see the table in `sim.envs`."""
    episodes, lap_times = race.episodes, race.lap_times(env, race.agent_cars[agent])
    return {
        "outcome": Outcome(episodes.outcome[env, agent]).name.lower(),
        "steps": int(episodes.steps[env]),
        "return": float(episodes.returns[env, agent]),
        "laps": len(lap_times),
        "lap_times": lap_times,
        "track": int(race.episode_track[env]),
    }
