"""The Flower ServerApp: settles the scenario, finds the clients, runs the rounds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from f110_fl import exchange
from f110_fl.errors import UserError
from f110_fl.loading import parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.scenario import FederatedConfig, Scenario
from server.connection import connect
from server.run_config import settle
from server.strategy import FederatedAveraging

log = logging.getLogger("flwr")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what ``flwr run`` asks for; see ``[tool.flwr.app.config]`` in pyproject.toml."""
    prepared_root = str(context.run_config["prepared-root"])
    if prepared_root:
        run_prepared(grid, Path(prepared_root))
        return
    try:
        clients = connect(grid, None, FederatedConfig().connect_timeout)
        scenario, rundir = settle(context.run_config, len(clients))
    except UserError as error:
        log.error("%s", error)  # noqa: TRY400 - a user's mistake needs no traceback
        raise
    from f110_fl.tracking import recorded

    with recorded(scenario, rundir):
        serve(grid, scenario, rundir, clients)


def prepared(root: Path) -> ServerApp:
    """Return a ServerApp for a run whose directory already holds its ``config.json``."""
    prepared_app = ServerApp()

    @prepared_app.main()
    def _main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        run_prepared(grid, root)

    return prepared_app


def run_prepared(grid: Grid, root: Path) -> None:
    """Wait for the clients of the run in ``root`` and run it.

    Raises:
        UserError: If a client does not connect in time.
    """
    rundir = RunDir(root)
    scenario = parse_resolved(rundir.config.read_text(encoding="utf-8"))
    federated = scenario.federated
    clients = connect(grid, federated.clients, federated.connect_timeout)
    serve(grid, scenario, rundir, clients)


def serve(grid: Grid, scenario: Scenario, rundir: RunDir, clients: Mapping[int, int]) -> None:
    """Run every round of the scenario and leave its files in ``rundir``.

    Args:
        grid: Flower's grid.
        scenario: The resolved scenario.
        rundir: The run's directory.
        clients: Client id of each node id.

    Raises:
        RuntimeError: If a round ends without a usable reply.
    """
    from f110_fl.trainer import initial_tensors

    federated = scenario.federated
    initial = {
        name: tensor
        for name, tensor in initial_tensors(scenario).items()
        if name.split("/")[0] in scenario.federated_agents
    }
    moments = {k: v for k, v in initial.items() if exchange.is_optimizer_tensor(k)}
    average = federated.optimizer_strategy == "average"
    sent = initial if average else {k: v for k, v in initial.items() if k not in moments}
    zeroed: dict[str, torch.Tensor] = {}
    if federated.optimizer_strategy == "reset":
        zeroed = {name: torch.zeros_like(tensor) for name, tensor in moments.items()}
    strategy = FederatedAveraging(scenario, rundir, clients, imposed=zeroed)
    strategy.start(
        grid=grid,
        initial_arrays=exchange.to_arrays(sent),
        num_rounds=scenario.rounds,
        timeout=federated.timeout,
    )
