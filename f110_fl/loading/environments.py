"""Gymnasium's ids of the scenarios, and ``F110-v0`` of any scenario's file.

``import f110_fl.loading.environments`` registers them::

    gymnasium.make("F110-SoloLap-v0")
    gymnasium.make("F110-v0", config="scenarios/solo_lap_ppo.yaml")
    gymnasium.make_vec("F110-SoloLap-v0", num_envs=32, max_episode_steps=500)

It is cheap: scenarios are read, and the simulator imported, when an environment is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import gymnasium

# The scenario whose environment an id is; those of other algorithms have the same, or nearly so.
SHIPPED: Final[Mapping[str, str]] = {
    "F110-SoloLap-v0": "solo_lap_ppo",
    "F110-CircuitLap-v0": "circuit_lap_ppo",
    "F110-Overtake-v0": "overtake_ppo",
    "F110-ConvoyLock-v0": "convoy_lock_td3",
    "F110-GapLock-v0": "gaplock_ppo",
    "F110-Duel-v0": "duel_td3",
}


def register() -> None:
    """Let Gymnasium know the ids."""
    for name, scenario in {"F110-v0": None, **SHIPPED}.items():
        gymnasium.registry.pop(name, None)  # the simulator's own, which reads no files
        gymnasium.register(
            id=name,
            entry_point="f110_fl.loading.scenario_envs:ScenarioEnv",
            vector_entry_point="f110_fl.loading.scenario_envs:ScenarioVectorEnv",
            kwargs={} if scenario is None else {"scenario": scenario},
        )


register()
