"""One settled scenario from a file, the environment and the command line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from f110_fl.dotted import set_overrides
from f110_fl.errors import UserError
from f110_fl.files import find_file
from f110_fl.launch import completed_rounds, run_root
from f110_fl.loading import load_scenario, parse_resolved
from f110_fl.overrides import (
    Override,
    client_id,
    command_line_overrides,
    environment_overrides,
)
from f110_fl.rundir import RunDir
from f110_fl.scenario import Scenario


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
        return _settle_evaluation(arguments, environ, scenario)
    if arguments.checkpoint is not None:
        raise UserError(f"--checkpoint={arguments.checkpoint!r}: needs --mode eval")
    if not scenario.learners:
        raise UserError(f"{arguments.scenario}: nothing learns; allowed: --mode eval")
    clients = scenario.federated.clients
    own_id = client_id(environ, clients)
    if own_id is not None:
        _check_by_hand(scenario, own_id)
    rundir = RunDir(run_root(scenario))
    parallel = max_parallel(arguments, scenario)
    return Settled(scenario, own_id, parallel, rundir, arguments.engine)


def outside_overrides(arguments: argparse.Namespace, environ: Mapping[str, str]) -> list[Override]:
    """Return the settings of variables and, winning over them, of flags.

    Raises:
        UserError: If a value cannot be used, or two flags contradict each other.
    """
    flags = command_line_overrides(arguments)
    return [
        *environment_overrides(environ),
        *flags,
        *set_overrides(arguments.set or (), flags),
    ]


def _settle_evaluation(
    arguments: argparse.Namespace, environ: Mapping[str, str], scenario: Scenario
) -> Settled:
    """Check what an evaluation needs."""
    if "FED_CLIENT_ID" in environ:
        raise UserError(f"FED_CLIENT_ID={environ['FED_CLIENT_ID']!r}: not with --mode eval")
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
    if arguments.scenario is not None:
        raise UserError("--resume goes on with the run's own scenario; leave --scenario out")
    scenario = resumed_scenario(rundir, overrides)
    parallel = max_parallel(arguments, scenario)
    return Settled(scenario, None, parallel, rundir, arguments.engine)


def resumed_scenario(rundir: RunDir, overrides: Sequence[Override]) -> Scenario:
    """Return the scenario of a run to go on with, as long as the overrides want it.

    Raises:
        UserError: If the directory holds no run, or anything but the length is to change.
    """
    if not rundir.config.is_file():
        raise UserError(f"--resume={str(rundir.root)!r}: no run there (no config.json)")
    refuse_changes(overrides)
    scenario = parse_resolved(rundir.config.read_text(encoding="utf-8"), str(rundir.config))
    for override in overrides:
        scenario = _extended(scenario, rundir, override)
    return scenario


def refuse_changes(overrides: Sequence[Override]) -> None:
    """Stop before a resumed run would be another run.

    Raises:
        UserError: If an override sets anything but the number of episodes.
    """
    for override in overrides:
        if override.path != ("episodes",):
            raise UserError(f"{override.name}: cannot change in a resumed run; leave it out")


def _extended(scenario: Scenario, rundir: RunDir, override: Override) -> Scenario:
    """Return the scenario with more episodes, which must not change rounds that are done."""
    episodes, interval = int(str(override.value)), scenario.federated.round_interval
    if episodes < scenario.episodes:
        raise UserError(f"{override.name}: allowed: at least the run's {scenario.episodes}")
    ended = completed_rounds(rundir) == scenario.rounds
    cut_short = scenario.federated.enabled and ended and scenario.episodes % interval
    if cut_short and episodes > scenario.episodes:
        raise UserError(
            f"{override.name}: the run ended with a round of {cut_short} episodes "
            f"instead of {interval}; start a new one"
        )
    return scenario.model_copy(update={"episodes": episodes})


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
