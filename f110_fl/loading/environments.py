"""Gymnasium's ids of the scenarios, and ``F110-v0`` of any scenario's file.

``import f110_fl.loading.environments`` registers them::

    gymnasium.make("F110-SoloLap-v0")
    gymnasium.make("F110-v0", config="scenarios/solo_lap_ppo.yaml")
    gymnasium.make_vec("F110-SoloLap-v0", num_envs=32, max_episode_steps=500)

It is cheap: scenarios are read, and the simulator imported, when an environment is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gymnasium

from f110_fl.errors import UserError

if TYPE_CHECKING:
    from sim.config import EnvConfig
    from sim.envs import F110Env, F110VectorEnv

    Source = str | Path | EnvConfig | Mapping[str, Any]

FOLDER: Final = Path(__file__).resolve().parents[2] / "scenarios"  # where it is a checkout
# The scenario whose environment an id is; those of other algorithms have the same, or nearly so.
SHIPPED: Final[Mapping[str, str]] = {
    "F110-SoloLap-v0": "solo_lap_ppo",
    "F110-CircuitLap-v0": "circuit_lap_ppo",
    "F110-Overtake-v0": "overtake_ppo",
    "F110-ConvoyLock-v0": "convoy_lock_td3",
    "F110-GapLock-v0": "gaplock_ppo",
    "F110-Duel-v0": "duel_td3",
}


def read_environment(config: Source) -> EnvConfig | Mapping[str, Any]:
    """Return the settings of an environment: a scenario's, if its file is named.

    Raises:
        UserError: If the file cannot be read or is no scenario, in one line.
    """
    if not isinstance(config, str | Path):
        return config
    from f110_fl.loading.scenarios import load_scenario

    path = Path(config)
    if path.parent == FOLDER and not path.exists():
        raise UserError(
            f"{path}: no such file: an installed package has no scenarios; allowed: F110-v0 with "
            "config=PATH of a scenario, such as those of the project's repository"
        )
    return load_scenario(path).env


def make_env(config: Source | None = None, **rest: Any) -> F110Env:
    """Make the environment of one learning car.

    Args:
        config: A scenario's file, or the settings of an environment; None: the default.
        rest: What else ``sim.envs.F110Env`` takes.
    """
    from sim.envs import F110Env

    return F110Env(**_arguments(config), **rest)


def make_vector_env(config: Source | None = None, **rest: Any) -> F110VectorEnv:
    """Make a batch of environments; see :func:`make_env`."""
    from sim.envs import F110VectorEnv

    return F110VectorEnv(**_arguments(config), **rest)


def _arguments(config: Source | None) -> dict[str, Any]:
    return {} if config is None else {"config": read_environment(config)}


def register() -> None:
    """Let Gymnasium know the ids."""
    files = {name: str(FOLDER / f"{scenario}.yaml") for name, scenario in SHIPPED.items()}
    for name, config in {"F110-v0": None, **files}.items():
        gymnasium.registry.pop(name, None)  # the simulator's own, which reads no files
        gymnasium.register(
            id=name,
            entry_point=f"{__name__}:{make_env.__name__}",
            vector_entry_point=f"{__name__}:{make_vector_env.__name__}",
            kwargs={} if config is None else {"config": config},
        )


register()
