"""One settled scenario from a file, the environment and the command line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.flags import client_id, outside_overrides
from f110_fl.loading.scenarios import load_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import run_root
from f110_fl.runs.resume import resumed_scenario
from sim.config.base import find_file


@dataclass(frozen=True)
class Settled:
    """What a run is to do."""

    scenario: Scenario
    client_id: int | None  # FED_CLIENT_ID: the one client that this process is
    max_parallel: int
    rundir: RunDir
    engine: str  # "simulation" or "deployment"
    mode: str = "train"  # or "eval"
    checkpoint: Path | None = None  # to evaluate

    @property
    def hosts(self) -> bool:
        """Whether the run's directory is this process's to make."""
        return self.client_id in (None, 0)


def settle(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settled:
    """Read the scenario and lay variables and flags over it.

    Args:
        arguments: What run.py's parser returned.
        environ: The variables, such as ``os.environ``.

    Raises:
        UserError: For anything wrong with any of them, in one line.
    """
    if arguments.resume is not None:
        return settle_resumed(arguments, environ)
    if arguments.scenario is None:
        raise UserError("--scenario FILE is missing (or --grid FILE, or --resume RUN_DIR)")
    overrides = outside_overrides(arguments, environ)
    scenario = load_scenario(Path(arguments.scenario), overrides)
    if arguments.mode == "eval":
        return _settle_evaluation(arguments, scenario)
    if not scenario.learners:
        raise UserError(f"{arguments.scenario}: nothing learns; allowed: --mode eval")
    clients = scenario.federated.clients
    own_id = client_id(environ, clients)
    if own_id is not None:
        _check_by_hand(scenario, own_id)
    rundir = RunDir(run_root(scenario))
    parallel = max_parallel(arguments, scenario)
    return Settled(scenario, own_id, parallel, rundir, arguments.engine)


def _settle_evaluation(arguments: argparse.Namespace, scenario: Scenario) -> Settled:
    """Check what an evaluation needs."""
    if scenario.evaluation.episodes < 1:
        raise UserError("--mode eval: evaluation.episodes is 0; set it, or --eval-episodes")
    checkpoint = None
    if scenario.learners:
        if arguments.checkpoint is None:
            names = ", ".join(scenario.learners)
            raise UserError(f"--checkpoint FILE is missing: the models of {names}")
        checkpoint = find_file(arguments.checkpoint, Path.cwd())
        if checkpoint is None:
            raise UserError(f"--checkpoint={arguments.checkpoint!r}: no such file")
    elif arguments.checkpoint is not None:
        raise UserError(f"--checkpoint={arguments.checkpoint!r}: nothing in the scenario learns")
    rundir = RunDir(run_root(scenario))
    return Settled(scenario, None, 1, rundir, arguments.engine, "eval", checkpoint)


def _check_by_hand(scenario: Scenario, own_id: int) -> None:
    if not scenario.federated.enabled:
        raise UserError(f"FED_CLIENT_ID={own_id}: the scenario is not federated")
    if "{time}" in scenario.federated.root:
        raise UserError(
            f"FED_CLIENT_ID={own_id}: replicas started by hand meet in one directory; "
            "set the same FED_ROOT for all of them"
        )


def settle_resumed(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settled:
    """Read the scenario of the run to go on with; only its length may change.

    Args:
        arguments: What run.py's parser returned, with ``resume``.
        environ: The variables, such as ``os.environ``; a ``FED_*`` one is refused.

    Raises:
        UserError: If the directory holds no run, or anything else is to change.
    """
    rundir = RunDir(Path(arguments.resume).absolute())
    if not rundir.config.is_file():
        raise UserError(f"--resume={arguments.resume!r}: no run there (no config.json)")
    overrides = outside_overrides(arguments, environ)
    scenario = resumed_scenario(rundir, overrides)
    parallel = max_parallel(arguments, scenario)
    return Settled(scenario, None, parallel, rundir, arguments.engine)


def max_parallel(arguments: argparse.Namespace, scenario: Scenario) -> int:
    """Return how many of the scenario's clients run at a time.

    Raises:
        UserError: If ``--max-parallel`` or ``--engine`` does not go with the scenario.
    """
    text, clients = arguments.max_parallel, scenario.federated.clients
    if arguments.engine == "deployment" and not scenario.federated.enabled:
        raise UserError("--engine='deployment': the scenario is not federated")
    if text is None:
        return min(clients, os.cpu_count() or 1)
    number = parallel_number(text)
    if arguments.engine == "deployment" and number < clients:
        raise UserError(
            f"--max-parallel={text!r}: with --engine deployment all {clients} clients run at once"
        )
    return min(number, clients)


def parallel_number(text: str) -> int:
    """Read the value of ``--max-parallel``.

    Raises:
        UserError: If it is no whole number from 1.
    """
    if not re.fullmatch("[0-9]{1,100}", text) or int(text) < 1:
        raise UserError(f"--max-parallel={text!r}: allowed: a whole number from 1")
    return int(text)
