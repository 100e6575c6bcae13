"""Settings of ``flwr run --run-config``, laid over a scenario."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.flags import environment_overrides, run_config_overrides, setting_of
from f110_fl.loading.overrides import refuse_varied
from f110_fl.loading.scenarios import load_scenario, parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import check_unused, run_root
from f110_fl.runs.inputs import check_inputs
from f110_fl.runs.resume import resumed_scenario

APP_DIRECTORY: Final = Path(__file__).resolve().parents[1]


def resolve(run_config: Mapping[str, Any], clients: int) -> tuple[Scenario, RunDir]:
    """Return the scenario that ``flwr run`` selects, and its directory.

    The run config wins over ``FED_*`` variables in this process's environment, these over
    the scenario. An empty value leaves a setting unchanged.

    Args:
        run_config: Flower's run config.
        clients: Number of clients of Flower's federation, which the scenario adopts.

    Raises:
        UserError: For any invalid setting, in one line.
    """
    overrides = [
        setting_of("federated.clients").override(str(clients), "num-supernodes"),
        *environment_overrides(os.environ),
        *run_config_overrides(run_config),
    ]
    # A scenario's file is absolute, or relative to the app's own directory.
    scenario = load_scenario(APP_DIRECTORY / str(run_config["scenario"]), overrides)
    refuse_varied(overrides, scenario)
    if scenario.federated.clients != clients:
        raise UserError(
            f"FED_TOTAL_CLIENTS asks for {scenario.federated.clients} clients, "
            f"but Flower's federation has {clients}"
        )
    rundir = RunDir(run_root(scenario))
    if "{time}" not in scenario.federated.root:
        check_unused(rundir.root)
    return scenario, rundir


def resolve_submitted(run_config: Mapping[str, Any]) -> tuple[Scenario, RunDir, bool]:
    """Return the submitted scenario, its directory, and whether it is a resumed run.

    Raises:
        UserError: If the directory of a new run is used, or that of a resumed one holds no run.
    """
    root = str(run_config["submitted-resume"])
    if not root:
        scenario = parse_resolved(str(run_config["submitted"]), "the submitted scenario")
        rundir = RunDir(run_root(scenario))
        if "{time}" not in scenario.federated.root:
            check_unused(rundir.root)
        return scenario, rundir, False
    rundir = RunDir(Path(root).absolute())
    episodes = str(run_config["submitted-episodes"])
    overrides = [setting_of("episodes").override(episodes, "--episodes")] if episodes else []
    scenario = resumed_scenario(rundir, overrides)
    check_inputs(rundir)
    return scenario, rundir, True
