"""One settled scenario from a file, the environment and the command line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from f110_fl.errors import UserError
from f110_fl.loading import load_scenario
from f110_fl.overrides import (
    client_id,
    command_line_overrides,
    environment_overrides,
    refuse_unavailable,
)
from f110_fl.scenario import Scenario


@dataclass(frozen=True)
class Settled:
    """What a run is to do."""

    scenario: Scenario
    client_id: int | None  # FED_CLIENT_ID: the one client that this process is
    max_parallel: int


def settle(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settled:
    """Read the scenario and lay variables and flags over it.

    Args:
        arguments: What run.py's parser returned.
        environ: The variables, such as ``os.environ``.

    Raises:
        UserError: For anything wrong with any of them, in one line.
    """
    refuse_unavailable(environ, arguments)
    overrides = [*environment_overrides(environ), *command_line_overrides(arguments)]
    scenario = load_scenario(Path(arguments.scenario), overrides)
    clients = scenario.federated.clients
    own_id = client_id(environ, clients)
    if own_id is not None:
        _check_by_hand(scenario, own_id)
    return Settled(scenario, own_id, _max_parallel(arguments.max_parallel, clients))


def _check_by_hand(scenario: Scenario, own_id: int) -> None:
    if not scenario.federated.enabled:
        raise UserError(f"FED_CLIENT_ID={own_id}: the scenario is not federated")
    if "{time}" in scenario.federated.root:
        raise UserError(
            f"FED_CLIENT_ID={own_id}: replicas started by hand meet in one directory; "
            "set the same FED_ROOT for all of them"
        )


def _max_parallel(text: str | None, clients: int) -> int:
    if text is None:
        return min(clients, os.cpu_count() or 1)
    if not re.fullmatch("[0-9]{1,100}", text) or int(text) < 1:
        raise UserError(f"--max-parallel={text!r}: allowed: a whole number from 1")
    return min(int(text), clients)
