"""Settings of ``flwr run --run-config``, laid over a scenario."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from f110_fl.config.federated import FederatedConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.document import parse_yaml, read_yaml
from f110_fl.loading.flags import environment_overrides, run_config_overrides, setting_of
from f110_fl.loading.overrides import lay_over, refuse_varied
from f110_fl.loading.scenarios import load_scenario, parse_resolved, resolve_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import check_unused, run_root
from f110_fl.runs.inputs import check_inputs
from f110_fl.runs.resume import resumed_scenario

APP_DIRECTORY: Final = Path(__file__).resolve().parents[1]
MAX_CLIENTS: Final = 10_000


def patience(run_config: Mapping[str, Any]) -> tuple[int, float]:
    """Return the fewest clients to start with, and the longest wait for all of them, s.

    They count before it is known how many clients there are, and so whether the scenario is valid.

    Raises:
        UserError: If the scenario cannot be read, or one of these two is wrong.
    """
    path = APP_DIRECTORY / str(run_config["scenario"])
    document = parse_yaml(read_yaml(path), str(path))
    overrides = [*environment_overrides(os.environ), *run_config_overrides(run_config)]
    settings: Any = {}
    if isinstance(document.data, dict):
        settings = lay_over(document.data, overrides)[0].get("federated")
    known = settings if isinstance(settings, dict) else {}
    own = {name: known[name] for name in ("min_clients", "connect_timeout") if name in known}
    try:
        found = FederatedConfig.model_validate({"clients": MAX_CLIENTS} | own, strict=True)
    except ValidationError:
        resolve_scenario(document, path, overrides)  # says what is wrong
        raise
    return found.min_clients, found.connect_timeout


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
