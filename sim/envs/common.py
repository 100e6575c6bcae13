"""What the environments' interfaces share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sim.config import CarConfig, ConvoyLockConfig, EnvConfig, SecondaryViconConfig
from sim.episodes import Outcome
from sim.layout import COMMAND_SIZE
from sim.race import Race

Observation = NDArray[np.float32]
Action = NDArray[np.float32]

# One learning car: car_0 attacks car_1, which is scripted.
CONVOY: Final = EnvConfig(
    cars=(
        CarConfig(name="car_0", task=ConvoyLockConfig(target="car_1")),
        CarConfig(name="car_1", driver=SecondaryViconConfig(target="car_0")),
    )
)
OPTIONS: Final = ("spawn_set", "track")  # of reset(), indices all


def agent_names(config: EnvConfig) -> list[str]:
    """Names of the cars without a driver.

    Raises:
        TypeError: If it is not a configuration.
        ValueError: If every car has a driver.
    """
    if not isinstance(config, EnvConfig):
        raise TypeError(f"config must be a sim.config.EnvConfig, found {type(config).__name__}")
    names = [config.cars[i].name for i in config.agent_cars]
    if not names:
        raise ValueError("every car has a driver: an environment needs an agent")
    return names


def agent_spaces(race: Race) -> tuple[spaces.Box, spaces.Box]:
    """New spaces of an agent's observations and actions; see the tables in `sim.envs`."""
    action_space = spaces.Box(-1.0, 1.0, (COMMAND_SIZE,), np.float32)
    return spaces.Box(race.observation_low, race.observation_high), action_space


def read_options(options: Mapping[str, Any] | None) -> dict[str, int]:
    """Read the options of a reset: ``{"spawn_set": i, "track": j}`` asks for these.

    Returns:
        What `Race.next_episode` takes by name.

    Raises:
        ValueError: If an option is unknown, or its value is not an integer.
    """
    found: dict[str, int] = {}
    for key, value in (options or {}).items():
        if key not in OPTIONS:
            raise ValueError(f"unknown reset option {key!r}; known: {list(OPTIONS)}")
        if value is not None:
            if not isinstance(value, int | np.integer):
                raise ValueError(f"{key} must be an integer, found {value!r}")
            found[key] = int(value)
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
