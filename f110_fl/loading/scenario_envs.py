"""Environments that read their settings from a scenario's file; Gymnasium's ids make them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from f110_fl.errors import UserError
from f110_fl.loading.scenarios import load_scenario
from sim.config import EnvConfig
from sim.envs import F110Env, F110VectorEnv

Source = str | Path | EnvConfig | Mapping[str, Any]

FOLDER: Final = Path(__file__).resolve().parents[2] / "scenarios"  # where it is a checkout


class ScenarioEnv(F110Env):
    """`F110Env` of a scenario's file.

    Args:
        config: The file, or what `F110Env` takes; None: its default.
        scenario: Name of a shipped scenario instead.
        rest: What else `F110Env` takes.

    Raises:
        UserError: If the file cannot be read or is no scenario, in one line.
        ValueError: As `F110Env` does.
    """

    def __init__(
        self, config: Source | None = None, *, scenario: str | None = None, **rest: Any
    ) -> None:
        super().__init__(**read_environment(config, scenario), **rest)


class ScenarioVectorEnv(F110VectorEnv):
    """`F110VectorEnv` of a scenario's file; arguments and errors as those of `ScenarioEnv`."""

    def __init__(
        self, config: Source | None = None, *, scenario: str | None = None, **rest: Any
    ) -> None:
        super().__init__(**read_environment(config, scenario), **rest)


def read_environment(config: Source | None, scenario: str | None = None) -> dict[str, Any]:
    """Return the ``config`` of an environment as an argument by name; empty for the default."""
    if scenario is not None:
        if config is not None:
            raise UserError(f"config: this id is the scenario {scenario}; use F110-v0 for others")
        config = FOLDER / f"{scenario}.yaml"
        if not config.exists():
            raise UserError(
                f"{config}: no such file: an installed package has no scenarios; allowed: F110-v0 "
                "with config=PATH of a scenario, such as those of the project's repository"
            )
    if config is None:
        return {}
    return {"config": load_scenario(Path(config)).env if isinstance(config, str | Path) else config}
