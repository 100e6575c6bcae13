"""Settings that ``flwr run --run-config`` brings, laid over a scenario."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.flags import FLAGS, VARIABLES, environment_overrides
from f110_fl.loading.overrides import Override
from f110_fl.loading.scenarios import load_scenario, parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import check_unused, run_root
from f110_fl.runs.resume import resumed_scenario

log = logging.getLogger("flwr")

APP_DIRECTORY: Final = Path(__file__).resolve().parents[1]

# Key of [tool.flwr.app.config] -> the variable or flag of run.py that means the same.
KEYS: Final = {
    "fed-root": "FED_ROOT",
    "episodes": "--episodes",
    "eval-episodes": "--eval-episodes",
    "round-interval": "FED_ROUND_INTERVAL",
    "optimizer-strategy": "FED_OPTIMIZER_STRATEGY",
    "weighting": "FED_AVG_MODE",
    "weights": "FED_WEIGHTS",
    "agents": "FED_AGENTS",
    "checkpoint-after-sync": "FED_CHECKPOINT_AFTER_SYNC",
    "timeout": "FED_TIMEOUT",
    "seed": "RUN_SEED",
    "wandb-prefix": "--wandb-prefix",
}


def resolve(run_config: Mapping[str, Any], clients: int) -> tuple[Scenario, RunDir]:
    """Return the scenario that ``flwr run`` asks for, and its directory.

    The run config wins over ``FED_*`` variables in this process's environment, these over
    the scenario. An empty value leaves a setting as it is.

    Args:
        run_config: Flower's run config.
        clients: How many clients Flower's federation has; the scenario adapts to it.

    Raises:
        UserError: For anything wrong with the settings, in one line.
    """
    overrides = [_clients(clients), *environment_overrides(os.environ), *_overrides(run_config)]
    scenario = load_scenario(_scenario_file(str(run_config["scenario"])), overrides)
    if scenario.federated.clients != clients:
        raise UserError(
            f"FED_TOTAL_CLIENTS asks for {scenario.federated.clients} clients, "
            f"but Flower's federation has {clients}"
        )
    rundir = RunDir(run_root(scenario))
    check_unused(rundir.root)
    log.info("Run directory: %s", rundir.root)
    return scenario, rundir


def resolve_submitted(run_config: Mapping[str, Any]) -> tuple[Scenario, RunDir, bool]:
    """Return the scenario that ``run.py --superlink`` submitted, its directory, if it goes on.

    Raises:
        UserError: If the directory is used, or there is nothing in it to go on with.
    """
    root = str(run_config["submitted-resume"])
    if not root:
        scenario = parse_resolved(str(run_config["submitted"]), "the submitted scenario")
        rundir = RunDir(run_root(scenario))
        check_unused(rundir.root)
        return scenario, rundir, False
    rundir = RunDir(Path(root).absolute())
    episodes = str(run_config["submitted-episodes"])
    length = next(flag for flag in FLAGS if flag.source == "--episodes")
    overrides = [length.override(episodes)] if episodes else []
    return resumed_scenario(rundir, overrides), rundir, True


def _clients(clients: int) -> Override:
    setting = next(s for s in VARIABLES if s.source == "FED_TOTAL_CLIENTS")
    return replace(setting, source="num-supernodes").override(str(clients))


def _overrides(run_config: Mapping[str, Any]) -> list[Override]:
    settings = {setting.source: setting for setting in (*VARIABLES, *FLAGS)}
    return [
        replace(settings[source], source=f"--run-config {key}").override(str(run_config[key]))
        for key, source in KEYS.items()
        if str(run_config.get(key, "")) != ""
    ]


def _scenario_file(name: str) -> Path:
    """Return a scenario file: absolute, or relative to the app's own directory."""
    return APP_DIRECTORY / name
